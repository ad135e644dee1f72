"""What a teacher was asked and replied, and what its model had read when it answered."""

from tests.support.tiny_llm import chat_ids
from transforms.protocols.teacher import Ladder, Teacher


class Overheard(Teacher):
    """A teacher, and all that it was asked and replied."""

    ladder = Ladder(())

    def __init__(self, teacher):
        self._teacher = teacher
        self.ladder = teacher.ladder
        self.heard = []

    def reply(self, request):
        reply = self._teacher.reply(request)
        self.heard.append((request, reply))
        return reply


def sent(request):
    """The messages of a request."""
    messages = [
        {"role": "system", "content": request.prompt.system},
        {"role": "user", "content": request.prompt.user},
    ]
    return [*messages, {"role": "assistant", "content": request.said}] if request.said else messages


def ids_before_the_answer(llm, request, reply):
    """The token ids that the model had read when it gave its answer."""
    ids = chat_ids(llm.tokenizer, sent(request))
    if request.said:
        return ids
    ids_of = {llm.tokenizer.decode([id_]).encode(): id_ for id_ in range(len(llm.tokenizer))}
    texts = [token.text for token in reply.tokens]
    answer = max(at for at, text in enumerate(texts) if text[:1] in (b"y", b"n") and texts[at - 1].endswith(b">"))
    return ids + [ids_of[text] for text in texts[:answer]]
