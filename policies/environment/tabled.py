"""A table as ground: everything is known from the start, and a step is nothing but reading arrays."""

from __future__ import annotations

import numpy as np

from policies.environment.ground import check_actions
from policies.table import Table


class TableGround:
    """Places of a table: root r in state s is the place r · S + s. See `Ground` for the arrays, which share
    the table's memory where they can."""

    full = False
    computed = 0

    def __init__(self, table: Table) -> None:
        roots, states = table.shape
        self.table = table
        self.observation = table.observation
        check_actions(self.observation)
        choices = self.observation.stop + 1
        self.count = roots
        self.problems = table.problem
        self.vectors = table.observations.reshape(roots * states, -1)
        self.masks = np.ascontiguousarray(table.allowed).view(np.int8).reshape(roots * states, choices)
        first = (np.arange(roots, dtype=np.int32) * states)[:, None, None]
        leads = np.pad(table.next, ((0, 0), (0, 1)), constant_values=-1)[None]
        self.following = np.where(leads < 0, -1, first + leads).astype(np.int32).reshape(-1, choices)
        self.rooted = first[:, 0, 0]
        self.scores = table.score.reshape(-1)
        self.costs = table.cost.reshape(-1)

    def begin(self, roots: np.ndarray) -> np.ndarray:
        return self.rooted[roots].astype(np.int64)

    def go(self, places: np.ndarray, actions: np.ndarray) -> np.ndarray:
        found = self.following[places, actions].astype(np.int64)
        return np.where(found < 0, places, found)

    def keep(self, places: np.ndarray) -> np.ndarray:
        return places
