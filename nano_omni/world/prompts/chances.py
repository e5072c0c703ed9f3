"""How probable each atom of a composition is, where it is not sure what a picture shows.

What could be an object is one or not independently of the others, and is of one kind or another; its bearing
and the log of its distance are blurred normally. Sums over all that could be are worked out, nothing is
sampled: the same picture has the same chances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..scene import COLOURS, SHAPES
from .compositions import Composition, Found

_KINDS = len(COLOURS) * len(SHAPES)
_STEPS = 400  # at which the place between two groups is looked for


@dataclass(frozen=True)
class Maybe:
    """What could be an object: the probability that it is there; of each kind, if so (32); bearing in radians
    to the right, and distance in metres."""

    there: float
    kinds: Sequence[float]
    bearing: float
    distance: float

    @property
    def found(self) -> Found:
        """As the most probable kind."""
        return Found(max(range(len(self.kinds)), key=self.kinds.__getitem__), self.bearing, self.distance)


def chances(composition: Composition, maybe: Sequence[Maybe], blur: tuple[float, float]) -> tuple[float, ...]:
    """The probability of each atom, in their order, 0..1. blur: deviations of bearing, in radians, and of the
    log of the distance."""
    there = np.array([one.there for one in maybe])  # (M,)
    kinds = np.array([one.kinds for one in maybe]).reshape(len(maybe), _KINDS)
    shapes = kinds.reshape(len(maybe), len(COLOURS), len(SHAPES)).sum(1)
    bearing = np.array([one.bearing for one in maybe])
    distance = np.log([max(one.distance, 1e-3) for one in maybe])
    of = [there * kinds[:, group.kind] for group in composition.groups]  # (M,) each
    relations = iter(composition.relations)
    found: list[float] = []
    for atom in composition.atoms():
        first = atom.about[0]
        group = composition.groups[first]
        if atom.skill == "object":
            found.append(1 - float(np.prod(1 - there * shapes[:, group.kind % len(SHAPES)])))
        elif atom.skill == "attribute":
            found.append(1 - float(np.prod(1 - of[first])))
        elif atom.skill == "count":
            found.append(_exactly(group.count, of[first]))
        else:
            a, relation, b = next(relations)
            if relation in ("right of", "behind"):
                a, b = b, a
            across = relation in ("left of", "right of")
            found.append(_before(of[a], of[b], bearing if across else distance, blur[0 if across else 1]))
    return tuple(min(1.0, max(0.0, one)) for one in found)


def _exactly(count: int, chance: np.ndarray) -> float:
    """That `count` of independent events with these chances (M,) happen."""
    ways = np.zeros(len(chance) + 1)
    ways[0] = 1.0
    for p in chance:
        ways[1:] = ways[1:] * (1 - p) + ways[:-1] * p
        ways[0] *= 1 - p
    return float(ways[count]) if count < len(ways) else 0.0


def _before(first: np.ndarray, second: np.ndarray, place: np.ndarray, blur: float) -> float:
    """That there are some of both, and all that are of the first stand before all that are of the second:
    chances (M,) and where each stands (M,), blurred."""
    if not len(place):
        return 0.0
    line = np.linspace(place.min() - 5 * blur, place.max() + 5 * blur, _STEPS)  # (S,)
    passed = _normal((line[:, None] - place) / blur)  # (S, M)
    none, nobody = float(np.prod(1 - first)), float(np.prod(1 - second))
    last = np.prod(1 - first * (1 - passed), axis=1) - none  # all of the first are before, and there are some
    rest = np.prod(1 - second * passed, axis=1) - nobody
    return float(np.sum(np.diff(last) * (rest[1:] + rest[:-1]) / 2))


def _normal(values: np.ndarray) -> np.ndarray:
    """The normal distribution function."""
    return torch.special.ndtr(torch.from_numpy(values)).numpy()
