"""One change of a picture: what is asked for in words, and what a picture holds that shows it.

    change = parse_change("move the red cone left of the blue box")
    expected([red_cone, blue_box], change)          # the composition that the new picture must meet

change    "make" object colour | "remove" object | "add" new relation object | "move" object relation object
object    "the" colour shape, of which the picture shows one
new       "a" colour shape
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..scene import COLOURS, SHAPES
from .compositions import MOST, RELATIONS, Composition, Group, article, name
from .english import RELATION, PromptError, is_plural, kind_of, nearest, tidied

What = Literal["recolour", "remove", "add", "move"]
WHATS: tuple[What, ...] = ("recolour", "remove", "add", "move")

_RULES = (
    (r"[.!]+\s*$", ""),
    (r"\s+", " "),
    (r"^please ", ""),
    (r"\b(?:to|on) the (left|right) of\b", r"\1 of"),
    (r"\bbefore\b", "in front of"),
    (r"^(?:make|paint|colour|color|turn|change|recolor|recolour) (the \S+ \S+) (?:to |into )?", r"make \1 "),
    (r"^(?:delete|take away) ", "remove "),
    (r"^(?:put|place) (?=the )", "move "),
    (r"^(?:put|place) (?=an? )", "add "),
)
_FORMS = (
    'write for example "make the red cone green", "remove the red cone", "add a blue box left of the red'
    ' cone" or "move the red cone behind the blue box"'
)


@dataclass(frozen=True)
class Change:
    """kind (colour * 4 + shape) is recoloured (colour, its number), removed, added or moved (relation, one
    of RELATIONS, to the object other). Raises ValueError for a change that is none, or has parts of
    another."""

    what: What
    kind: int
    colour: int | None = None
    relation: str | None = None
    other: int | None = None

    def __post_init__(self) -> None:
        placed = self.what in ("add", "move")
        if (self.colour is not None) != (self.what == "recolour"):
            raise ValueError("a change has a colour where an object is recoloured, and only there")
        if (self.relation in RELATIONS and self.other is not None) != placed:
            raise ValueError(f"an object is added or moved {', '.join(RELATIONS)} another, and only then")
        if self.colour is not None and self.colour == self.kind // len(SHAPES):
            raise ValueError(f"the {_called(self.kind)} is {list(COLOURS)[self.colour]} already")
        if self.kind == self.other:
            raise ValueError(f"the {_called(self.kind)} cannot stand {self.relation} itself")

    @property
    def after(self) -> int | None:
        """What kind the object is afterwards; None where it is no longer there."""
        if self.what == "remove":
            return None
        return self.kind if self.colour is None else self.colour * len(SHAPES) + self.kind % len(SHAPES)

    def __str__(self) -> str:
        if self.what == "recolour":
            return f"make the {_called(self.kind)} {list(COLOURS)[self.colour or 0]}"
        if self.what == "remove":
            return f"remove the {_called(self.kind)}"
        first = article(_called(self.kind)) if self.what == "add" else f"the {_called(self.kind)}"
        return f"{self.what} {first} {self.relation} the {_called(self.other or 0)}"


def parse_change(prompt: str) -> Change:
    """Raises PromptError, which says what is not understood, and what is."""
    text = tidied(prompt, "a change", _RULES, _FORMS)
    if re.search(r"[<>]", text):
        raise PromptError(f"a change holds no tags; what is not understood: {text[:80]!r}; {_FORMS}")
    if re.search(r"[,;&]|\band\b|\bthen\b", text):
        raise PromptError(f"one change at a time: change the changed picture once more; {_FORMS}")
    several = next((word for word in text.split() if is_plural(word)), None)
    if several is not None:
        raise PromptError(
            f'one object at a time, and in relation to one other: "{several}" are several; {_FORMS}'
        )
    verb, _, rest = text.partition(" ")
    try:
        if verb == "make":
            said = rest.split()
            if len(said) != 4 or said[0] != "the":
                raise PromptError(f'"{text[:80]}" is not understood: {_FORMS}')
            kind = kind_of(said[1:3], " ".join(said[:3]))
            if said[3] not in COLOURS:
                raise PromptError(f'"{text[:80]}": {nearest(said[3], list(COLOURS))}')
            return Change("recolour", kind, list(COLOURS).index(said[3]))
        if verb == "remove":
            return Change("remove", _object(rest, ("the",)))
        if verb in ("add", "move"):
            parts = RELATION.split(rest)
            if len(parts) != 3:
                raise PromptError(f'"{text[:80]}" does not say where, in relation to what: {_FORMS}')
            kind = _object(parts[0], ("a", "an", "one") if verb == "add" else ("the",))
            if parts[2] == "itself":
                raise PromptError(f"nothing can stand {parts[1]} itself: {_FORMS}")
            other = _object(parts[2], ("the",))
            return Change("add" if verb == "add" else "move", kind, None, parts[1], other)
    except ValueError as error:
        raise error if isinstance(error, PromptError) else PromptError(str(error)) from None
    raise PromptError(f'"{text[:80]}" is not understood: {_FORMS}')


def expected(kinds: Sequence[int], change: Change) -> Composition:
    """What a picture that showed objects of these kinds must show after the change.

    Raises PromptError for an object that is not there, or of which there are two, and for one object too many
    or none left.
    """
    counts = Counter(kinds)
    named = [change.other] if change.what == "add" else [change.kind, change.other]
    for kind in (one for one in named if one is not None):
        if counts[kind] != 1:
            there = ", ".join(
                f"{n} {_called(k)}" if n > 1 else f"the {_called(k)}" for k, n in counts.items()
            )
            many = f"{counts[kind]} of them" if counts[kind] else f"no {_called(kind)}"
            raise PromptError(f"change one object of which there is one: there is {many} among {there}")
    if change.what != "add":
        counts[change.kind] -= 1
    if change.after is not None:
        counts[change.after] += 1
    groups = tuple(Group(n, kind) for kind, n in counts.items() if n)
    place = {group.kind: k for k, group in enumerate(groups)}
    related = ()
    if change.relation is not None and change.other is not None:
        related = ((place[change.kind], change.relation, place[change.other]),)
    try:
        return Composition(groups, related)
    except ValueError:
        raise PromptError(
            f"after that a picture would show {sum(counts.values())} objects: 1 to {MOST}"
        ) from None


def _object(words: str, articles: Sequence[str]) -> int:
    said = words.split()
    if len(said) != 3 or said[0] not in articles:
        what = "a new object" if "a" in articles else "an object that is there"
        raise PromptError(f'"{words[:80]}" does not name {what}, as "{articles[0]} red cone" does: {_FORMS}')
    return kind_of(said[1:], words)


def _called(kind: int) -> str:
    return name(Group(1, kind))
