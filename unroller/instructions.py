"""What models are told to do, as text files with a name and a version: `think.v1.md`, `think.v2.md`.

A text that is changed is another version in another file, and the older one stays: what was recorded under
its name can still be read, and compared with.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from unroller.faults import UnknownName

_FILE = re.compile(r"(?P<name>[a-z][a-z0-9_]*)\.v(?P<version>[1-9][0-9]*)\.md")


class Instruction(str):
    """A text with a name and a version. It is the text wherever a text is wanted (`str(one)` is nothing but
    that); listed in a primitive's `prompts`, it is named by every run that uses it."""

    name: str
    version: int

    def __new__(cls, text: str, name: str = "unnamed", version: int = 1) -> Instruction:
        made = super().__new__(cls, text)
        made.name, made.version = name, version
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:  # for copies, which would lose the name
        return (str(self), self.name, self.version)

    @property
    def label(self) -> str:
        """ "think@1"."""
        return f"{self.name}@{self.version}"


def read_instruction(folder: Path, name: str, version: int | None = None) -> Instruction:
    """`folder/<name>.v<version>.md`, by default the newest version. Raises UnknownName with what there is."""
    found = versions(folder)
    there = found.get(name, {})
    wanted = max(there, default=0) if version is None else version
    if wanted not in there:
        known = ", ".join(f"{one}@{n}" for one in sorted(found) for n in sorted(found[one]))
        asked = name if version is None else f"{name}@{version}"
        raise UnknownName(f"no instruction {asked} in {folder}: there are {known or 'none'}")
    return Instruction(there[wanted].read_text(encoding="utf-8").strip(), name, wanted)


def versions(folder: Path) -> dict[str, dict[int, Path]]:
    """The files of a folder that hold instructions, by name and version."""
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.glob("*.md")):
        if match := _FILE.fullmatch(file.name):
            found.setdefault(match["name"], {})[int(match["version"])] = file
    return found


def labels(prompts: tuple[str, ...]) -> tuple[str, ...]:
    """ "think@1" for each of a primitive's prompts that has a name."""
    return tuple(one.label for one in prompts if isinstance(one, Instruction))
