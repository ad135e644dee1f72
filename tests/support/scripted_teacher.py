"""A teacher for tests: a real engine whose replies, or failures, are written down beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from schemas.video import EngineStamp
from transforms.protocols.teacher import Ladder, Teacher, TeacherEngine, TeacherFailed, TeacherReply, TeacherRequest

Script = Callable[[TeacherRequest], TeacherReply | TeacherFailed]


LADDER = Ladder(("logprobs",))


class ScriptedTeacher(Teacher):
    """Answers with what the script returns, raises it if it is a failure, and remembers what it was asked."""

    ladder: Ladder = LADDER

    def __init__(self, script: Script, ladder: Ladder = LADDER) -> None:
        self.script = script
        self.ladder = ladder
        self.asked: list[TeacherRequest] = []

    def reply(self, request: TeacherRequest) -> TeacherReply:
        self.asked.append(request)
        answer = self.script(request)
        if isinstance(answer, TeacherFailed):
            raise answer
        return answer


@dataclass(frozen=True)
class ScriptedEngine(TeacherEngine):
    """The engine half, for transforms; the script is a module-level function."""

    script: Script
    ladder: Ladder = LADDER
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> ScriptedTeacher:
        return ScriptedTeacher(self.script, self.ladder)

    def stamp(self) -> EngineStamp:
        return EngineStamp("scripted", "1", "", "f" * 16)
