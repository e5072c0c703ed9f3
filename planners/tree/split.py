"""Which problems policies are fitted on, and which they are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from planners.tree.complete import CompleteTree
from planners.tree.faults import TreeError
from planners.tree.fixed import By, groups_of
from policies.table import split as split_of

Array = np.ndarray[Any, Any]

HELD_OUT = 0.2
"""The share that is held out unless said otherwise, the same as of training."""


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
