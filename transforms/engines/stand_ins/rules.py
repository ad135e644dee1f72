"""The embedded teacher: an honest, rule-based stand-in that writes and judges offline, for trying out and for tests.

It answers in the format of a real teacher (JSON; think and answer tags with token log-probabilities), so that parsers,
margin and filters do their whole work on it. It is deliberately plain and makes the mistakes that the filters are for:

- the last query of a reply may quote the longest sentence of the evidence ("copies evidence"; "too long");
- where the evidence says "this video …", so does a query ("mentions video");
- a description in another language yields a query in that language ("wrong language");
- a title of one word is taken for an event's name ("too short");
- with fewer than two distinctive words to join there is nothing to explain ("empty rationale");
- like descriptions, and evidence that says the same in two modalities, yield like queries ("near duplicate").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from schemas.token import Token
from schemas.video import MODALITIES, EngineStamp, Evidence
from transforms.engines.stand_ins.rules_negatives import write_negatives
from transforms.engines.stand_ins.rules_words import SENTENCE_ENDS, is_generic, names_in, weight
from transforms.engines.stand_ins.rules_writing import write
from transforms.protocols.engine import stamp_of
from transforms.protocols.teacher import Ladder, Task, Teacher, TeacherEngine, TeacherReply, TeacherRequest
from transforms.text.words import content_words, stem, words

REVISION = "4"
"""Part of the stamp; raised whenever the same request may get another reply."""

STRONGEST = 12.0
"""The margin, in nats, of a video that holds every word of the query."""


@dataclass(frozen=True)
class Rules(TeacherEngine):
    """The rule-based teacher. It has no options."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "embedded"
    ladder: ClassVar[Ladder] = Ladder(("rules",))

    def load(self) -> RuleTeacher:
        return RuleTeacher()

    def stamp(self) -> EngineStamp:
        return stamp_of(self, "rules", "", model=f"rules-{REVISION}")


class RuleTeacher(Teacher):
    """Writes by joining distinctive words of the evidence, judges by how many of a query's words the evidence holds.

    It reads the records of a request, not its prose, and the same request always gets the same reply.
    """

    ladder: ClassVar[Ladder] = Rules.ladder

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The reply to one request; never fails."""
        return _ANSWERS[request.task](request)


def coverage(query: str, evidence: Evidence) -> tuple[float, list[str], list[str]]:
    """The share in [0, 1] of the query's weight that the evidence holds, and the words that match and that are missing.

    Words are compared by stem. Adding a word of the query to the evidence never lowers the share.
    """
    held = {stem(word) for modality in MODALITIES for word in words(evidence.text(modality))}
    names = {word for sentence in SENTENCE_ENDS.split(query) for word in names_in(sentence)}
    weights = {word: weight(word, word in names) for word in content_words(query) if not is_generic(word)}
    matched = [word for word in weights if stem(word) in held]
    missing = [word for word in weights if stem(word) not in held]
    total = sum(weights.values())
    return (sum(weights[word] for word in matched) / total if total else 0.0), matched, missing


def _judge(request: TeacherRequest) -> TeacherReply:
    share, matched, missing = coverage(request.query, request.evidence)
    # A quarter of the weight is chance between topics (delta -6), half of it is a coin's toss (delta 0).
    delta = STRONGEST * (2.0 * share - 1.0)
    answer, other = (b"yes", b"no") if delta > 0 else (b"no", b"yes")
    likely, unlikely = -math.log1p(math.exp(-abs(delta))), -math.log1p(math.exp(abs(delta)))
    rationale = f"The evidence holds {_listed(matched)} of the query; {_listed(missing)} of it is missing."
    start, end = f"<think>{rationale}</think><answer>", "</answer>"
    decision = Token(answer, likely, ((answer, likely), (other, unlikely)))
    tokens = (Token(start.encode(), 0.0), decision, Token(end.encode(), 0.0))
    return TeacherReply(f"{start}{answer.decode()}{end}", tokens)


_ANSWERS: Mapping[Task, Callable[[TeacherRequest], TeacherReply]] = {
    "write_queries": write,
    "write_requests": write,
    "write_events": write,
    "negative_queries": write_negatives,
    "judge": _judge,
}


def _listed(found: Sequence[str]) -> str:
    return ", ".join(found) if found else "nothing"
