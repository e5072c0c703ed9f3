"""Which problems policies are fitted on, and which they are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from xxhash import xxh3_64_hexdigest

from planners.tree.complete import CompleteTree
from planners.tree.faults import TreeError
from planners.tree.fixed import By, groups_of
from policies.table import split as split_of

Array = np.ndarray[Any, Any]

HELD_OUT = 0.2
"""The share that is held out unless said otherwise, the same as of training."""


class Split(msgspec.Struct, frozen=True):
    """What a split depends on. problems: of each tree a digest of its problems, in the order of the trees."""

    share: float
    seed: int
    problems: tuple[str, ...]

    @classmethod
    def of(cls, trees: Sequence[CompleteTree], share: float, seed: int) -> Split:
        digests = (b"".join(one.identity for one in tree.problems) for tree in trees)
        return cls(share, seed, tuple(map(xxh3_64_hexdigest, digests)))


def split(
    trees: Sequence[CompleteTree], share: float = HELD_OUT, seed: int = 0, together: By = None
) -> list[Array]:
    """For each tree (n,) bool: which of its problems are held out; the others are there to be fitted on.

    share: of problems that are held out. together: problems of the same metadata (a key, or a function of the
    problem) come to the same side, as several questions about one room should; what is the same problem
    always does, in whichever tree it is. For one tree of different problems this is the split of
    `policies.table.split`, by which policies are trained. Raises TreeError where one of the two sides would
    be empty, ProblemError for metadata that is not there.
    """
    if not 0 < share < 1:
        raise TreeError(f"a share of {share} of the problems cannot be held out: give one between 0 and 1")
    keys: list[Any] = []
    for tree in trees:
        if together is None:
            keys += [tree.problem(i).identity for i in range(len(tree))]
        else:
            keys += groups_of(tree, together)
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    if len(number) < 2:
        raise TreeError(
            "there is one problem, or all are kept together: two or more are needed, to fit on some and"
            " compare on others"
        )
    out = np.zeros(len(number), bool)
    out[split_of(len(number), share, seed)[1]] = True
    every = out[[number[key] for key in keys]]
    return np.split(every, np.cumsum([len(tree) for tree in trees])[:-1])
