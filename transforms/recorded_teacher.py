"""A teacher whose replies are journaled: each question is paid for once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.fingerprint import fingerprint
from schemas.query import ConfidenceSource
from transforms.engines import loaded
from transforms.engines.protocols import Engine, TeacherFailed, TeacherReply, TeacherRequest
from transforms.journal import Journal, Key, RecordedFailure
from transforms.margin import essential

_STEPS = {"write_queries": "write", "judge": "judge"}


@dataclass(frozen=True)
class RecordedTeacher:
    """Asks the engine's teacher what the journal does not hold; a ``Teacher`` itself."""

    engine: Engine
    journal: Journal

    @property
    def confidence_source(self) -> ConfidenceSource:
        """See ``Teacher``."""
        source: ConfidenceSource = loaded(self.engine).confidence_source
        return source

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


def _key(engine: Engine, request: TeacherRequest) -> Key:
    # The prompt's hash covers all that a language model sees; the rest is what a teacher that reads no prose answers.
    return Key(
        step=_STEPS[request.task],
        subject=request.subject,
        engine=engine.stamp(),
        settings={"prompt": request.prompt.version, "count": str(request.count)},
        inputs={
            "evidence": fingerprint(request.evidence),
            "query": fingerprint(request.query),
            "seed": str(request.seed),
            "request": request.prompt.sha256,
        },
    )
