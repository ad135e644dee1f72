"""A teacher whose replies are journaled: each question is paid for once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import cast

from prompts.margin import essential
from prompts.negative_queries import negatives_schema
from prompts.remembered import remembered
from prompts.write_queries import reply_schema
from schemas.fingerprint import fingerprint
from schemas.video import MODALITIES, EngineStamp
from transforms.journal.counts import UNTOLD, add
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.protocols.engine import loaded
from transforms.protocols.teacher import Ladder, Teacher, TeacherEngine, TeacherFailed, TeacherReply, TeacherRequest

_STEPS = {
    "write_queries": "write",
    "write_requests": "write",
    "write_events": "write",
    "negative_queries": "negatives",
    "judge": "judge",
}


@dataclass(frozen=True)
class RecordedTeacher(Teacher):
    """Asks the engine's teacher what the journal does not hold at a ``step``; "" for that of the request's task.

    ``wording`` tells apart the subjects of questions that differ in nothing else.
    """

    engine: TeacherEngine
    journal: Journal
    step: str = ""
    wording: str = ""

    @property
    def ladder(self) -> Ladder:
        """See ``Teacher``."""
        return self.engine.ladder

    @property
    def prompt_tokens(self) -> int | None:
        """See ``Teacher``."""
        return self.engine.prompt_tokens

    @cached_property
    def stamp(self) -> EngineStamp:
        """That of the engine."""
        return self.engine.stamp()

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The recorded or the new reply; alternatives of tokens that decide nothing are left out.

        The key does not know whether log-probabilities could come, for that is the server's doing. A recorded reply
        that has them is taken before one that has not, and one without is asked for again where there are some to be
        had now; unless they were when it came, for then it has none of its own.

        Raises:
            TeacherFailed: there is no reply, now or in an earlier run whose failure stands.
            Deferred: the question is left for a later run.
            EngineError: no question of this kind is answered.
        """
        if self.wording:
            request = replace(request, subject=f"{request.subject} {self.wording}")
        due = request.asks_for_logprobs and self.ladder.tells_logprobs

        def ask() -> TeacherReply:
            reply: TeacherReply = loaded(self.engine).reply(request)
            return replace(reply, tokens=essential(reply.tokens), bare=due and not reply.tokens)

        def worth(reply: TeacherReply) -> int:
            return 2 if reply.tokens else int(reply.bare or not due)

        key = _key(self.step or _STEPS[request.task], self.engine, self.stamp, request)
        question = partial(self.engine.batch_body, request) if self.engine.takes_batches else None
        try:
            reply = self.journal.once(key, ask, TeacherReply, (TeacherFailed,), worth, question)
        except RecordedFailure as failure:
            kind = cast(type[TeacherFailed], failure.kind)
            raise kind(failure.message, permanent=failure.permanent) from failure
        if self.journal.look_only and request.asks_for_logprobs and not (reply.tokens or reply.bare):
            add(key.step, UNTOLD, 1)
        return reply


_evidence_fingerprint = remembered(64)(fingerprint)  # the questions about a video come one after the other


def _key(step: str, engine: TeacherEngine, stamp: EngineStamp, request: TeacherRequest) -> Key:
    # The prompt's hash covers what a language model sees of a first request, the turns what it sees of a further one;
    # the rest is what a teacher that reads no prose answers.
    turns = {"turns": fingerprint([request.said, request.follow_up])} if request.said else {}
    prior = {"prior": request.prior} if request.prior else {}
    logprobs = {"logprobs": "asked for"} if request.logprobs else {}
    return step_key(
        step,
        request.subject,
        stamp,
        settings={
            "prompt": request.prompt.version,
            "count": str(request.count),
            "confidence": request.confidence,
            **prior,
            **logprobs,
            **_schema(engine, request),
        },
        inputs={
            "evidence": _evidence_fingerprint(request.evidence),
            "query": fingerprint(request.query),
            "seed": str(request.seed),
            "request": request.prompt.sha256,
            **turns,
        },
    )


def _schema(engine: TeacherEngine, request: TeacherRequest) -> dict[str, str]:
    """The schema that a writer's reply is held to, in its full form: it is code, which no prompt's hash covers."""
    if not (request.writes and engine.json_schema):
        return {}
    if request.task == "negative_queries":
        return {"schema": fingerprint(negatives_schema(1))}
    kinds = request.task == "write_requests", request.task == "write_events"
    return {"schema": fingerprint(reply_schema(MODALITIES, 1, *kinds))}
