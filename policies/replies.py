"""What a language model's reply says to call. It survives whatever a model writes.

Thoughts in <think> … </think> are passed over; of the rest the first reading that finds anything counts:

1. tool calls: JSON objects, wherever they stand, with a "name", "tool", "action" or "function" that is a
name;
   arguments are passed over, since an action's parameters are its preset's
2. lines that are a name and nothing else, but for quotes, bullets, numbers and full stops
3. names in prose, in the order in which they are first mentioned; one that is an ordinary word ("think",
"stop")
   only in quotes or back-ticks, or STOP in capitals
4. near names: a tool call, a line, or a word that is nearly a name

Several names are all returned, in order, each once: who reads them takes the first that can be called. A
reply that says nothing of the kind, or nothing at all, gives none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, cast

LONGEST = 20_000
"""Characters of a reply that are read."""

NEAR, SHORTEST, LOOKED_UP = 0.8, 6, 64
"""How alike near names are (difflib's ratio), how long, and how many words are compared: something near a
short name is another word more often than a slip."""

STOP_WORDS = ("stop", "answer", "decode", "none", "done")

_THOUGHTS = re.compile(r"\A.*</think>", re.DOTALL)
_UNFINISHED = re.compile(r"<think>.*\Z", re.DOTALL)
_WORD = re.compile(r"[\w:-]+")
_QUOTED = re.compile(r"[`'\"*]([\w: -]{1,80})[`'\"*]")
_MARKS = " \t`'\"*.,;:!()[]<>#-"


def named(reply: str, names: Sequence[str], stop: str = "STOP") -> list[str]:
    """The names that a reply mentions, in order; `stop` stands for stopping. See above."""
    text = _UNFINISHED.sub("", _THOUGHTS.sub("", reply[:LONGEST])).strip()
    if not text:
        return []
    known = {_plain(name): name for name in names}
    known |= {word: stop for word in STOP_WORDS if word not in known}
    called = [_plain(name) for name in _tool_calls(text)]
    lines = [_plain(_unlisted(line)) for line in text.splitlines()]
    for found in (called, lines, _in_prose(text, known, stop)):
        if exact := [known[name] for name in found if name in known]:
            return list(dict.fromkeys(exact))
    near: list[str] = []
    long = [name for name in known if len(name) >= SHORTEST]
    for word in [*called, *lines, *map(_plain, _WORD.findall(text))][:LOOKED_UP]:
        if SHORTEST - 1 <= len(word) <= 80:
            near += [known[name] for name in get_close_matches(word, long, 1, NEAR)]
    return list(dict.fromkeys(near))


def _plain(name: str) -> str:
    """As names are written: lower case, words joined by underscores."""
    return re.sub(r"[\s-]+", "_", name.strip(_MARKS).lower())


def _unlisted(line: str) -> str:
    """A line without the number or the words ("Answer:") that introduce it."""
    return re.sub(
        r"^\s*(?:\d+[.)]|(?:action|answer|call|next|reply|tool)\s*:)\s*", "", line, flags=re.IGNORECASE
    )


def _in_prose(text: str, known: dict[str, str], stop: str) -> list[str]:
    places: list[tuple[int, str]] = []
    for match in _QUOTED.finditer(text):
        places.append((match.start(), _plain(match[1])))
    for match in _WORD.finditer(text):
        word = match[0].strip(":-")
        plain = _plain(word)
        if "_" in plain or ":" in plain or word == stop:
            places.append((match.start(), plain))
    return [name for _, name in sorted(places) if name in known]


def _tool_calls(text: str) -> Iterator[str]:
    """The names of JSON tool calls, in order."""
    decoder, at = json.JSONDecoder(), text.find("{")
    for _ in range(64):
        if at < 0:
            return
        try:
            held, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            if isinstance(held, dict) and (name := _name_in(cast("dict[str, Any]", held))):
                yield name
        at = text.find("{", end)


def _name_in(held: dict[str, Any]) -> str | None:
    for key in ("name", "tool", "action", "function", "tool_call"):
        inner = held.get(key)
        if isinstance(inner, str):
            return inner
        if isinstance(inner, dict) and (name := _name_in(cast("dict[str, Any]", inner))):
            return name
    several = held.get("tool_calls")
    if isinstance(several, list) and several and isinstance(several[0], dict):
        return _name_in(cast("dict[str, Any]", several[0]))
    return None
