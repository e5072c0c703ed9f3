"""What a check found, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One line: how bad, what it is about, what was found, and how to mend it ("" where all is well)."""

    level: Level
    subject: str
    found: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"  {self.level:<4}  {self.subject:<16}  {self.found}"
        return line + (f"\n{'':26}→ {self.mend}" if self.mend else "")


class Findings:
    """Everything that was found about one object.

    of: what was checked ("primitive motion"). `ok` is True when nothing failed; warnings are things that
    work and could be better. `str()` is for people, `to_dict()` for programs.
    """

    def __init__(self, of: str) -> None:
        self.of = of
        self.lines: list[Finding] = []

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> list[Finding]:
        return [line for line in self.lines if line.level == "fail"]

    @property
    def warnings(self) -> list[Finding]:
        return [line for line in self.lines if line.level == "warn"]

    def passed(self, subject: str, found: str) -> None:
        self.lines.append(Finding("ok", subject, found))

    def warn(self, subject: str, found: str, mend: str) -> None:
        self.lines.append(Finding("warn", subject, found, mend))

    def fail(self, subject: str, found: str, mend: str) -> None:
        self.lines.append(Finding("fail", subject, found, mend))

    def about(self, subject: str) -> list[Finding]:
        """The lines about one subject."""
        return [line for line in self.lines if line.subject == subject]

    def settle(self, subject: str, found: str) -> None:
        """Say that a subject is well, unless something was found about it."""
        if not any(line.level != "ok" for line in self.about(subject)):
            self.passed(subject, found)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.lines)

    def __repr__(self) -> str:
        return f"<findings: {self._verdict()}>"

    def __str__(self) -> str:
        return "\n".join((self._verdict(), *map(str, self.lines)))

    def to_dict(self) -> dict[str, Any]:
        return {"of": self.of, "ok": self.ok, "lines": [msgspec.to_builtins(f) for f in self.lines]}

    def _verdict(self) -> str:
        wrong, doubtful = len(self.failures), len(self.warnings)
        if not wrong and not doubtful:
            return f"{self.of}: all is well"
        parts: list[str] = []
        if wrong:
            parts.append(f"{wrong} thing{'' if wrong == 1 else 's'} to mend")
        if doubtful:
            parts.append(f"{doubtful} warning{'' if doubtful == 1 else 's'}")
        return f"{self.of}: {', '.join(parts)}"


def named(error: BaseException) -> str:
    """An error on one line, of bounded length."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message[:160]}" if message else type(error).__name__
