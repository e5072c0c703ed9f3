"""What a prompt asks for: groups of objects that are alike, and how groups stand to one another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..scene import COLOURS, MAX_OBJECTS, SHAPES

MOST = MAX_OBJECTS  # objects in all
RELATIONS = ("left of", "right of", "in front of", "behind")
"""As the camera sees it: every object of one group against every one of the other. In front: nearer."""

_OPPOSITE = {"right of": "left of", "behind": "in front of"}


@dataclass(frozen=True)
class Group:
    """`count` objects of one kind, colour * 4 + shape."""

    count: int
    kind: int

    @property
    def colour(self) -> str:
        return list(COLOURS)[self.kind // len(SHAPES)]

    @property
    def shape(self) -> str:
        return SHAPES[self.kind % len(SHAPES)]


@dataclass(frozen=True)
class Atom:
    """One constraint, as a question about a picture. about: the group, or the two of a relation."""

    skill: Literal["object", "attribute", "count", "position"]
    about: tuple[int, ...]
    question: str
    answer: str


@dataclass(frozen=True)
class Composition:
    """Groups of different kinds, MOST objects in all, and relations (group, one of RELATIONS, group).

    Raises ValueError for none or too many objects, for a kind that two groups have, and for relations that
    contradict one another.
    """

    groups: tuple[Group, ...]
    relations: tuple[tuple[int, str, int], ...] = ()

    def __post_init__(self) -> None:
        total = sum(group.count for group in self.groups)
        if not 1 <= total <= MOST or min(group.count for group in self.groups) < 1:
            raise ValueError(f"{total} objects: a room holds 1 to {MOST}")
        twice = [kind for kind, n in Counter(group.kind for group in self.groups).items() if n > 1]
        if twice:
            group = next(g for g in self.groups if g.kind == twice[0])
            raise ValueError(f"{plural(group)} are counted twice: say once how many there are")
        for direction in ("left of", "in front of"):
            self.ranks(direction)

    def before(self, direction: str) -> set[tuple[int, int]]:
        """Pairs of groups of which the first stands `direction` (left of, in front of) the second."""
        return {(a, b) for a, said, b in map(with_left_or_front, self.relations) if said == direction}

    def ranks(self, direction: str) -> list[tuple[int, int] | None]:
        """Of each group its place in that order and how many places there are; None: it may stand anywhere.

        Raises ValueError where the relations go round in a circle.
        """
        pairs = self.before(direction)
        above = [0] * len(self.groups)
        for _ in self.groups:
            for a, b in pairs:
                above[b] = max(above[b], above[a] + 1)
        for a, b in pairs:
            if above[b] <= above[a] or above[b] >= len(self.groups):
                one = plural(self.groups[a]) if self.groups[a].count > 1 else f"the {name(self.groups[a])}"
                raise ValueError(f"this contradicts itself: {one} would have to be {direction} itself")
        named = {group for pair in pairs for group in pair}
        last = max(above) + 1
        return [(above[k], last) if k in named else None for k in range(len(self.groups))]

    def atoms(self) -> tuple[Atom, ...]:
        """Every constraint once: that there is such a shape, such a colour of it, how many, and where."""
        found: list[Atom] = []
        for k, group in enumerate(self.groups):
            found += [
                Atom("object", (k,), f"Is there a {group.shape}?", "yes"),
                Atom("attribute", (k,), f"Is there {article(name(group))}?", "yes"),
                Atom("count", (k,), f"How many {plural(group)} are there?", str(group.count)),
            ]
        for a, relation, b in self.relations:
            first, second = (definite(self.groups[k]) for k in (a, b))
            be = "Is" if self.groups[a].count == 1 else "Are"
            found.append(Atom("position", (a, b), f"{be} {first} {relation} {second}?", "yes"))
        return tuple(found)


@dataclass(frozen=True)
class Found:
    """An object of a picture: its kind, bearing from the middle of the picture (radians, to the right) and
    distance (metres) as the camera sees it."""

    kind: int
    bearing: float
    distance: float


@dataclass(frozen=True)
class Verdict:
    """Whether each atom holds, in their order, and how many objects nobody asked for."""

    holds: tuple[bool, ...]
    extras: int

    @property
    def success(self) -> bool:
        return all(self.holds) and not self.extras


def with_left_or_front(relation: tuple[int, str, int]) -> tuple[int, str, int]:
    """The same relation, said with "left of" or "in front of"."""
    a, said, b = relation
    return (b, _OPPOSITE[said], a) if said in _OPPOSITE else relation


def judge(composition: Composition, found: Sequence[Found]) -> Verdict:
    """What a picture that shows `found` makes of the composition's atoms."""
    alike = [[one for one in found if one.kind == group.kind] for group in composition.groups]
    relations = iter(composition.relations)
    holds: list[bool] = []
    for atom in composition.atoms():
        group = composition.groups[atom.about[0]]
        if atom.skill == "object":
            holds.append(any(SHAPES[one.kind % len(SHAPES)] == group.shape for one in found))
        elif atom.skill == "attribute":
            holds.append(bool(alike[atom.about[0]]))
        elif atom.skill == "count":
            holds.append(len(alike[atom.about[0]]) == group.count)
        else:
            a, relation, b = next(relations)
            holds.append(_related(alike[a], relation, alike[b]))
    asked = {group.kind for group in composition.groups}
    surplus = sum(max(0, len(some) - g.count) for some, g in zip(alike, composition.groups, strict=True))
    return Verdict(tuple(holds), surplus + sum(one.kind not in asked for one in found))


def _related(first: Sequence[Found], relation: str, second: Sequence[Found]) -> bool:
    if not first or not second:
        return False
    if relation in ("right of", "behind"):
        first, second = second, first
    if relation in ("left of", "right of"):
        return max(one.bearing for one in first) < min(one.bearing for one in second)
    return max(one.distance for one in first) < min(one.distance for one in second)


def name(group: Group) -> str:
    """'red cone'."""
    return f"{group.colour} {group.shape}"


def plural(group: Group) -> str:
    return name(group) + ("es" if group.shape == "box" else "s")


def definite(group: Group) -> str:
    return f"the {name(group) if group.count == 1 else plural(group)}"


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words
