"""A teacher whose replies are journaled: each question is paid for once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.fingerprint import fingerprint
from transforms.engines import loaded
from transforms.engines.protocols import Ladder, TeacherEngine, TeacherFailed, TeacherReply, TeacherRequest
from transforms.journal import Journal, Key, RecordedFailure
from transforms.margin import essential

_STEPS = {"write_queries": "write", "judge": "judge"}


@dataclass(frozen=True)
class RecordedTeacher:
    """Asks the engine's teacher what the journal does not hold; a ``Teacher`` itself."""

    engine: TeacherEngine
    journal: Journal

    @property
    def ladder(self) -> Ladder:
        """See ``Teacher``."""
        return self.engine.ladder

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The recorded or the new reply; alternatives of tokens that decide nothing are left out.

        Raises:
            TeacherFailed: there is no reply, now or in an earlier run whose failure stands.
            Deferred: the question is left for a later run.
        """

        def ask() -> TeacherReply:
            reply: TeacherReply = loaded(self.engine).reply(request)
            return replace(reply, tokens=essential(reply.tokens))

        try:
            return self.journal.once(_key(self.engine, request), ask, TeacherReply, failures=(TeacherFailed,))
        except RecordedFailure as failure:
            raise TeacherFailed(failure.message, permanent=failure.permanent) from failure


def _key(engine: TeacherEngine, request: TeacherRequest) -> Key:
    # The prompt's hash covers what a language model sees of a first request, the turns what it sees of a further one;
    # the rest is what a teacher that reads no prose answers.
    turns = {"turns": fingerprint([request.said, request.follow_up])} if request.said else {}
    return Key(
        step=_STEPS[request.task],
        subject=request.subject,
        engine=engine.stamp(),
        settings={
            "prompt": request.prompt.version,
            "count": str(request.count),
            "confidence": request.confidence,
        },
        inputs={
            "evidence": fingerprint(request.evidence),
            "query": fingerprint(request.query),
            "seed": str(request.seed),
            "request": request.prompt.sha256,
            **turns,
        },
    )
