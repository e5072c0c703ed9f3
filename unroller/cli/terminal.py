"""Where words go: results to stdout, everything said on the way to stderr.

Text that a model, a file or a user wrote is made safe first: control characters, which could move the
cursor or forge lines, are shown as what they are, and never read as markup.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from threading import Timer
from typing import Any, cast

from rich.console import Console
from rich.text import Text as Line

# C0 but for newline and tab, DEL, C1, the marks that turn text around, line separators, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


WIDE = 200


def safe(text: str) -> str:
    """`text` with every character that could act on a terminal written out, as \\x1b or \\u202e."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str, limit: int = 300) -> str:
    """`text` made safe, its white space single blanks, cut to `limit` characters."""
    words = safe(" ".join(text.split()))
    return words if len(words) <= limit else words[: limit - 1] + "…"


def line(text: str, style: str = "") -> Line:
    """A rich text of somebody else's words: safe, and never read as markup."""
    return Line(safe(text), style=style)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process with 1, which is the code of no output


def stdout() -> Console:
    """Results. Made anew each time, so that it is always today's sys.stdout."""
    return _console(sys.stdout.isatty(), stderr=False)


def stderr() -> Console:
    """What is said on the way: progress, notes, errors."""
    return _console(sys.stderr.isatty(), stderr=True)


def _console(seen: bool, *, stderr: bool) -> Console:
    # A pipe has no width: tables that are read by another program are not cut at column 80.
    width = None if seen or os.environ.get("COLUMNS") else WIDE
    return _Console(stderr=stderr, highlight=False, soft_wrap=not seen, width=width)


def is_live(console: Console) -> bool:
    """Whether something may be redrawn in place there."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def waiting(what: str, after: float | None = None) -> Generator[None]:
    """A spinner on stderr while something takes its time. Where nobody looks: nothing, or one line if it
    takes longer than `after` seconds."""
    console = stderr()
    if is_live(console):
        with console.status(line(what, "dim"), spinner="dots"):
            yield
    elif after is not None:
        with later(after, lambda: console.print(line(what), soft_wrap=True)):
            yield
    else:
        yield


@contextmanager
def later(seconds: float, act: Callable[[], None]) -> Generator[Timer]:
    """Do something on a thread of its own, unless what is within ends (or cancels it) before."""
    timer = Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield timer
    finally:
        timer.cancel()


def one_place() -> bool:
    """Whether stdout and stderr end up in the same place, so that what was said need not be said again."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def aside() -> Generator[None]:
    """What plug-ins print meanwhile goes to stderr: stdout is for results."""
    with redirect_stdout(sys.stderr):
        yield


def note(text: str, label: str = "note") -> None:
    """One sentence on stderr."""
    style = {"error": "bold red", "note": "yellow"}.get(label, "cyan")
    stderr().print(Line.assemble((f"{label}: ", style), safe(text)), soft_wrap=True)


def path_link(path: Path) -> Line:
    """A path that can be clicked where the terminal knows links."""
    shown = line(str(path))
    with suppress(ValueError, OSError):  # a link is a courtesy
        shown.stylize(f"link {path.resolve().as_uri()}")
    return shown


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout. NaN and infinity, which JSON lacks, become null."""
    plain = _jsonable(document)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(plain, indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_json(path: Path, document: Any) -> None:
    """The same, to a file. Raises OSError."""
    text = json.dumps(_jsonable(document), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _jsonable(thing: Any) -> Any:
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else None
    if thing is None or isinstance(thing, (str, int)):
        return thing
    if isinstance(thing, Mapping):
        held = cast("Mapping[Any, Any]", thing)
        return {str(key): _jsonable(value) for key, value in held.items()}
    if isinstance(thing, (list, tuple)):
        return [_jsonable(item) for item in cast("list[Any]", thing)]
    return str(thing)


def silence() -> None:
    """Nobody reads stdout any more: drop what is still in its buffer without a word."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
