"""A teacher in this process: a language model of transformers, whose decisions are read from all of its logits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from prompts.reply import UnparsableReply, split_thinking
from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.token import Token
from schemas.usage import Usage
from schemas.video import EngineStamp
from transforms.engines.local.answer_words import Decision
from transforms.engines.local.language_model import LanguageModel, Row, Written, language_model
from transforms.engines.local.model_folder import context_of, model_id, require_model
from transforms.protocols.engine import EngineError, version_of
from transforms.protocols.teacher import (
    ContextOverflow,
    Ladder,
    Task,
    Teacher,
    TeacherEngine,
    TeacherFailed,
    TeacherReply,
    TeacherRequest,
)
from transforms.workers.batcher import Batcher, Stopped

Rung = Literal["logprobs", "sampling", "verbalized"]

ANSWER_TAG = "<answer>"
_TAG_TOKENS = 8  # at most, which are written after the model's own
_ANSWER_OPENS = re.compile(ANSWER_TAG, re.IGNORECASE)
_THINKING_CLOSES = re.compile(r"</think>\s*\Z", re.IGNORECASE)
_THINKING_OPENS = re.compile(r"<think>\s*\Z")


@dataclass(frozen=True, kw_only=True)
class TransformersTeacher(TeacherEngine):
    """Options of the teacher.

    ``model`` is the path of a folder that ``save_pretrained`` wrote, known by its bytes, or a name on the Hugging Face
    hub, known by its name and ``revision``: give a commit where others may change it. ``device`` "auto" is a GPU where
    there is one, ``dtype`` "auto" the one that the weights are stored in. ``batch_size`` requests are answered at a
    time, fewer where they do not fit into memory. ``chat_template_kwargs`` go to the chat template, such as
    ``{enable_thinking: false}``. At ``temperature`` 0 the likeliest token is taken; of the sampling parameters that a
    model ships, none is used.

    A reply depends on those that share its batch, on the machine and on the versions of its libraries by rounding
    alone: margins differ by less than 1e-5 nats at float32 (2.7e-6 were seen), and by 0.03 at bfloat16.

    ``confidence`` lists where the confidence of a judgement may come from, as for a server (see ``OpenAiTeacher``). Its
    first reply is read from all logits, so that "logprobs" gives an exact margin for every reply that has come to its
    answer. ``prior: prefill`` also asks about every pair without a rationale.
    """

    requires: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    extra: ClassVar[str] = "local"

    model: str
    revision: str = "main"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_size: int = 16
    temperature: float = 0.0
    max_new_tokens: int = 1024
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, hash=False)
    confidence: tuple[Rung, ...] = ("logprobs",)
    samples: int = 8
    prior: Literal["prefill"] | None = None

    def __post_init__(self) -> None:
        require_text("model", self.model)
        known = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None
        require(known, "device must be auto, cpu, cuda, cuda:N or mps", self.device)
        require(self.batch_size >= 1, "batch_size must be at least 1", self.batch_size)
        require(self.temperature >= 0, "temperature must be at least 0", self.temperature)
        require(self.max_new_tokens >= 1, "max_new_tokens must be at least 1", self.max_new_tokens)
        distinct = len(set(self.confidence)) == len(self.confidence)
        require(distinct, "confidence must name each source once", list(self.confidence))
        require(self.samples >= 2, "samples must be at least 2", self.samples)

    @property
    def at_once(self) -> int:
        """See ``Waits``; while one batch is answered, the next one gathers."""
        return 2 * self.batch_size

    @property
    def ladder(self) -> Ladder:
        """See ``TeacherEngine``."""
        return Ladder(self.confidence, self.samples, self.prior)

    @property
    def prompt_tokens(self) -> int | None:
        """See ``TeacherEngine``."""
        context = context_of(self.model, self.revision)
        return None if context is None else context - self.max_new_tokens - _TAG_TOKENS

    def check(self) -> None:
        """Make sure that the model lies on this machine, whole as far as its list of files tells.

        Raises:
            EngineError: it does not, or its context leaves no room for a prompt.
        """
        require_model("transformers", self.model, self.revision)
        if self.prompt_tokens is not None and self.prompt_tokens <= 0:
            raise EngineError(
                f"engine 'transformers': max_new_tokens {self.max_new_tokens} leaves no room for a prompt: the model "
                f"reads {self.prompt_tokens + self.max_new_tokens + _TAG_TOKENS} tokens"
            )

    def fitted(self, task: Task) -> tuple[TransformersTeacher, None]:
        """See ``TeacherEngine``."""
        self.check()
        return self, None

    def load(self) -> LocalTeacher:
        """The model on its device; raises ``EngineError`` where it cannot be loaded. Engines share their weights."""
        return LocalTeacher(self, language_model(self.model, self.revision, self.device, self.dtype))

    def stamp(self) -> EngineStamp:
        # The ladder decides which replies are asked for, the batch and the device hardly more than rounding.
        release, model = version_of("transformers"), model_id(self.model, self.revision)
        options = [self.dtype, self.temperature, self.max_new_tokens, self.chat_template_kwargs]
        return EngineStamp("transformers", release, model, fingerprint(["transformers", release, model, options]))


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request and its prompt. ``opened`` is what the prompt opens the reply with, and part of the reply's text.

    ``at_answer`` says that the answer is due at once: the prompt ends with the tag.
    """

    request: TeacherRequest
    prompt: list[int]
    opened: str
    at_answer: bool


@dataclass(frozen=True, slots=True)
class _Draft:
    """A reply before its decision: the text, its tokens, and the context of the decision where one is due."""

    text: str
    tokens: list[int]
    ended: bool
    context: list[int] | None = None


class LocalTeacher(Teacher):
    """Writes and judges in batches. A verdict is written up to its answer tag, and decided by one forward pass more.

    The decision lies between yes and no alone, see ``AnswerWords``: it is always readable, and its margin's
    ``label_mass`` says how likely the model was to answer at all.
    """

    def __init__(self, options: TransformersTeacher, model: LanguageModel) -> None:
        import torch

        self._options, self._model = options, model
        self._too_large: type[Exception] = torch.OutOfMemoryError
        self._batcher = Batcher(self._answer, options.batch_size, self._too_large)

    @property
    def ladder(self) -> Ladder:
        """See ``Teacher``."""
        return self._options.ladder

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The model's reply; blocks until the batch that the request becomes part of is done.

        Raises:
            ContextOverflow: prompt and reply are longer than the model reads; nothing was computed.
            TeacherFailed: even alone, the request takes more memory than there is.
            CancelledError: the run was stopped.
        """
        asked = self._asked(request)
        try:
            return self._batcher.ask(asked)
        except self._too_large as error:
            raise TeacherFailed(
                f"out of memory on {len(asked.prompt)} tokens of prompt and up to {self._options.max_new_tokens} of "
                "reply, alone in its batch; lower max_new_tokens or the evidence's budgets, or use a larger device"
            ) from error

    def _asked(self, request: TeacherRequest) -> _Asked:
        messages = [
            {"role": "system", "content": request.prompt.system},
            {"role": "user", "content": request.prompt.user},
        ]
        at_answer = bool(request.said) and not request.follow_up
        if request.follow_up:
            messages.append({"role": "assistant", "content": request.said})
            messages.append({"role": "user", "content": request.follow_up})
        prompt = self._model.render(messages, self._options.chat_template_kwargs)
        opened = "<think>\n" if _THINKING_OPENS.search(self._model.decode(prompt[-_TAG_TOKENS:])) else ""
        if at_answer:
            prompt += self._model.encode(f"</think>\n\n{request.said}" if opened else request.said)
        room = 1 if at_answer else self._options.max_new_tokens + _TAG_TOKENS
        context = self._model.context
        if context is not None and len(prompt) + room > context:
            raise ContextOverflow(f"the prompt's {len(prompt)} tokens and {room} of reply exceed the model's {context}")
        return _Asked(request, prompt, opened, at_answer)

    def _answer(self, batch: Sequence[_Asked], stopped: Stopped) -> list[TeacherReply]:
        drafts = self._drafts(batch, stopped)
        due = [place for place, draft in enumerate(drafts) if draft.context is not None]
        logprobs = self._model.next_logprobs([drafts[place].context or [] for place in due])
        decisions: dict[int, Decision] = {}
        for place, row in zip(due, logprobs, strict=True):
            request = batch[place].request
            decisions[place] = self._model.words.decide(row, self._temperature(request), request.seed)
        return [_reply_of(asked, drafts[place], decisions.get(place)) for place, asked in enumerate(batch)]

    def _drafts(self, batch: Sequence[_Asked], stopped: Stopped) -> list[_Draft]:
        drafts = {place: _Draft("", [], ended=True, context=asked.prompt) for place, asked in enumerate(batch)}
        places = [place for place, asked in enumerate(batch) if not asked.at_answer]
        if places:
            rows = [self._row(batch[place]) for place in places]
            texts = self._model.write(rows, self._options.max_new_tokens, stopped)
            drafts.update((place, self._draft(batch[place], text)) for place, text in zip(places, texts, strict=True))
        return [drafts[place] for place in range(len(batch))]

    def _row(self, asked: _Asked) -> Row:
        is_whole = (lambda text: _up_to_tag(asked.opened + text) is not None) if _is_verdict(asked.request) else None
        return Row(asked.prompt, asked.request.seed, self._temperature(asked.request), is_whole)

    def _temperature(self, request: TeacherRequest) -> float:
        return 1.0 if request.confidence == "sampling" else self._options.temperature

    def _draft(self, asked: _Asked, written: Written) -> _Draft:
        """What was written, up to its answer tag, which is put where a model that has said why stops without a word."""
        said = asked.opened + self._model.decode(written.tokens)
        whole = _Draft(said, written.tokens, written.ended)
        if not _is_verdict(asked.request):
            return whole
        text = _up_to_tag(said)
        if text is None and written.ended and _THINKING_CLOSES.search(said):
            text = said + ANSWER_TAG
        if text is None:
            return whole
        # The model's own tokens, unless the last one says more than the tag: other tokens, other probabilities.
        lengths = range(len(written.tokens), max(0, len(written.tokens) - _TAG_TOKENS), -1)
        starts = (written.tokens[:n] for n in lengths)
        own = next((start for start in starts if asked.opened + self._model.decode(start) == text), None)
        tokens = own or self._model.encode(text.removeprefix(asked.opened))
        return _Draft(text, tokens, ended=True, context=[*asked.prompt, *tokens])


def _is_verdict(request: TeacherRequest) -> bool:
    return request.task == "judge" and not request.follow_up


def _up_to_tag(reply: str) -> str | None:
    """A reply up to the end of its answer tag, None where it has not come to one outside of its thinking."""
    try:
        _, answer = split_thinking(reply)
    except UnparsableReply:
        return None
    tag = _ANSWER_OPENS.search(answer)
    return reply[: len(reply) - len(answer) + tag.end()] if tag else None


def _reply_of(asked: _Asked, draft: _Draft, decision: Decision | None) -> TeacherReply:
    usage = Usage(input_tokens=len(asked.prompt), output_tokens=len(draft.tokens) + (decision is not None))
    if decision is None:
        return TeacherReply(draft.text, usage=usage, truncated=not draft.ended)
    tag = () if asked.at_answer else (Token(ANSWER_TAG.encode(), 0.0),)  # given, as it were: it was waited for
    tells = asked.request.confidence in ("logprobs", "logprobs_prefill", "prior")
    tokens = (*tag, decision.token) if tells else ()
    return TeacherReply(f"{draft.text}{decision.label}</answer>", tokens, usage)
