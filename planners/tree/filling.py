"""One tree as arrays for one observation: every state as a policy sees it, and what it is worth there.

The same as rebuilding each state (`planners.tree.seeing`) and asking `Observation.of`, number for number, and
some hundred times faster: what the states of a problem share is computed once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planners.tree.faults import TreeError
from planners.tree.layout import Layout, name_of
from planners.tree.pricing import weights_of
from policies.embedding import of_value
from policies.observation import Observation
from policies.price import Price as PriceOf
from unroller.codec import BlobStore, Codec
from unroller.cost import Budget, Cost, left_of
from unroller.faults import PolicyError

if TYPE_CHECKING:
    from planners.tree.complete import CompleteTree

Array = np.ndarray[Any, Any]

ROUNDING = np.array([0.0, 0.0, 1e-9])
"""Of calls, tokens, dollars, as a live budget has it: 0.3 - 0.1 - 0.1 is a little less than 0.1."""


class Filling:
    """Arrays of one tree for some problems at a time. Paths are sequences of calls, P of them, of the actions
    that both the tree and the observation have; `at` says in which of the tree's states each ends, `places`
    where each action stands among the observation's, `columns` among the tree's."""

    def __init__(self, tree: CompleteTree, seen: Observation, price: Any, budget: Budget) -> None:
        for name, _ in seen.problem.probes:
            check_probe(tree, name)
        if budget.seconds is not None:
            raise TreeError("a tree knows no clock: give a budget of calls, tokens, price or steps")
        self.tree, self.seen = tree, seen
        self.price = price if isinstance(price, PriceOf) else PriceOf(*weights_of(price).tolist())
        self.weights = np.array([self.price.model_calls, self.price.tokens, self.price.dollars])
        own = [name for name in seen.actions if name in tree.actions]
        try:
            self.paths = Layout(own, tree.layout.depth)
        except TreeError as error:  # of a tree of sets
            raise TreeError(
                f"a table lists the order of calls, which a policy sees, whatever the tree does: {error}"
            ) from None
        self.at = np.array([tree.number(path) for path in self.paths.states])
        self.places = np.array([seen.actions.index(name) for name in own], int)
        self.columns = [tree.actions.index(name) for name in own]
        limits = {task.task: left_of(budget, Cost(*task.most)) for task in tree.recipe.tasks}
        self.limits = {
            task: np.array([left.model_calls, left.tokens, left.price], float)
            for task, left in limits.items()
        }
        self.steps = np.inf if budget.steps is None else budget.steps
        most = {one.name: np.array(one.most, float) for one in (*tree.recipe.actions, *tree.recipe.probes)}
        self.most = np.stack([most[name] for name in own]) if own else np.zeros((0, 3))
        self.probe_most = [most[name] for name, _ in seen.problem.probes]
        alone = {probe.name for probe in tree.recipe.probes if probe.problem_only}
        self.alone = [name in alone for name, _ in seen.problem.probes]
        self.embedded: dict[bytes, Array] = {}
        self.codec = Codec(BlobStore(Path(os.devnull)))

    def filled(self, problems: Array) -> dict[str, Array]:
        """The arrays (R, P, …) of these problems, R being their number times the draws."""
        shape = len(problems) * self.tree.draws, len(self.paths)
        into = {
            "observations": np.zeros((*shape, self.seen.size), np.float32),
            "allowed": np.zeros((*shape, len(self.seen.actions) + 1), bool),
            "reached": np.zeros(shape, bool),
        }
        self._fill(into, problems)
        return into

    def _fill(self, into: dict[str, Array], problems: Array) -> None:
        tree, seen, at, layout = self.tree, self.seen, self.at, self.seen.layout
        observations = into["observations"]
        roots = len(observations)

        def of(array: Array) -> Array:
            """(R, P, …) of an array (n, D, S, …) of the tree."""
            return array[problems].reshape(roots, len(tree.states), *array.shape[3:])[:, at]

        asked = [seen.problem.problem(tree.problem(i)) for i in problems.tolist()]
        asked = np.stack(asked).repeat(tree.draws, 0)  # (R, ·)
        observations[..., : asked.shape[1]] = asked[:, None]
        self._structure(observations)
        counts, embeddings, failed = self._written(problems)
        layout_of = {field.name: slice(field.start, field.stop) for field in layout.fields}
        observations[..., layout_of["counts"]] = counts[:, at]
        observations[..., layout_of["embeddings"]] = embeddings[:, at]
        observations[..., layout_of["failed"].start + self.places] = failed[:, at][..., self.columns]
        measured = self._offered(into, observations, problems, of)
        reached = into["reached"]
        charged = (of(tree.cost) + measured) @ self.weights
        for name, held in (("score", of(tree.score)), ("hard", of(tree.hard)), ("cost", charged)):
            into[name] = np.where(reached, held, 0.0)
        observations[~reached] = 0
        into["allowed"][..., :-1] &= reached[..., None]
        into["allowed"][..., -1] = True

    def _structure(self, observations: Array) -> None:
        """What a path says by itself: what was called, in which order, and how many steps that took."""
        layout, paths, n = self.seen.layout, self.paths, len(self.seen.actions)
        called, history, step = (layout[name].start for name in ("called", "history", "step"))
        left = layout["left"].start + 3
        for p, path in enumerate(paths.states):
            for i, name in enumerate(reversed(path)):
                place = self.seen.actions.index(name)
                observations[:, p, called + place] = 1
                if i < self.seen.history:
                    observations[:, p, history + i * n + place] = 1
            observations[:, p, step] = len(path) / (1 + len(path))
            observations[:, p, left] = _squashed(np.array(max(0.0, self.steps - len(path))))

    def _written(self, problems: Array) -> tuple[Array, Array, Array]:
        """Of every state of the tree: counts (R, S, T) and mean embeddings (R, S, T · E) of the values by
        type, as an observation has them, and the tree's actions that failed (R, S, K)."""
        tree, seen = self.tree, self.seen
        states, types, size = len(tree.states), len(seen.types), seen.embedding
        roots = len(problems) * tree.draws
        counts = np.zeros((roots, states, types), np.float32)
        sums = np.zeros((roots, states, types, size), np.float32)
        failed = np.zeros((roots, states, len(tree.actions)), bool)
        kinds = tree.kind[problems].reshape(roots, states)
        ids = tree.id[problems].reshape(roots, states, 16)
        fell = tree.failed[problems].reshape(roots, states)
        places = [seen.types.index(name) if name in seen.types else -1 for name in tree.kinds]
        for s in range(1, states):  # in the order in which values were written
            parent = int(tree.layout.parent[s])
            counts[:, s], sums[:, s], failed[:, s] = counts[:, parent], sums[:, parent], failed[:, parent]
            failed[:, s, tree.layout.last[s]] |= fell[:, s]
            for r in np.flatnonzero(kinds[:, s] >= 0).tolist():
                place = places[kinds[r, s]]
                if place >= 0:
                    counts[r, s, place] += 1
                    i, draw = int(problems[r // tree.draws]), r % tree.draws
                    sums[r, s, place] += self._embedding(ids[r, s].tobytes(), i, draw, s)
        many = counts > 1
        sums[many] /= counts[many][:, None]
        counts /= 1 + counts
        return counts, sums.reshape(roots, states, types * size), failed

    def _embedding(self, id: bytes, i: int, draw: int, s: int) -> Array:
        """Of the value that the last call of a state wrote; equal ids mean equal values."""
        found = self.embedded.get(id)
        if found is None:
            held = self.tree.value_bytes(i, draw, s)
            if held is None:
                kind = self.tree.kinds[int(self.tree.kind[i, draw, s])]
                raise TreeError(
                    f"the {kind} after {name_of(self.tree.states[s])} holds arrays, which a tree does not"
                    " keep: leave it out of the observation's types, as tree.observation_of(tree) does"
                )
            found = self.embedded[id] = of_value(self.codec.value(held), self.seen.embedding)
        return found

    def _offered(self, into: dict[str, Array], observations: Array, problems: Array, of: Any) -> Array:
        """Fill in probes, what is left, what is allowed and what is reached; returns what the probes were
        charged in all on the way to each path, (R, P, 3)."""
        tree, seen, paths = self.tree, self.seen, self.paths
        limit = np.stack([self.limits[tree.tasks[i]] for i in problems.tolist()]).repeat(tree.draws, 0)
        spent = of(tree.context_cost)  # (R, P, 3)
        offers = of(tree.allowed)[..., self.columns]
        there = of(tree.reached)
        probes = [(of(tree.probes[name]), of(tree.probe_cost[name])) for name, _ in seen.problem.probes]
        # Of each path and probe: of the problem alone, and measured before; failed before.
        known, failed = np.zeros((2, *there.shape, len(probes)), bool)
        charged = np.zeros_like(spent)
        reached, allowed = into["reached"], into["allowed"]
        left_at, mask_at = seen.layout["left"].start, seen.layout["mask"].start
        for p in range(len(paths)):
            parent, asked = int(paths.parent[p]), len(paths.states[p]) < self.steps
            if p:
                charged[:, p] = charged[:, parent]
                known[:, p], failed[:, p] = known[:, parent], failed[:, parent]
                led = allowed[:, parent, self.places[paths.last[p]]]
                reached[:, p] = there[:, p] & reached[:, parent] & led
            else:
                reached[:, p] = there[:, p]
            if asked and probes:
                left = np.maximum(0.0, limit - spent[:, p] - charged[:, p])
                here = [
                    (value[:, p], cost[:, 0 if alone else p])
                    for alone, (value, cost) in zip(self.alone, probes, strict=True)
                ]
                charged[:, p] += self._measured(observations[:, p], here, left, known[:, p], failed[:, p])
            left = np.maximum(0.0, limit - spent[:, p] - charged[:, p])
            observations[:, p, left_at : left_at + 3] = _squashed(left)
            affordable = (self.most <= left[:, None] + ROUNDING).all(-1)  # (R, A)
            allowed[:, p, self.places] = offers[:, p] & affordable & asked & (paths.child[p] >= 0)
            observations[:, p, mask_at : mask_at + len(seen.actions)] = allowed[:, p, :-1]
            observations[:, p, mask_at + seen.stop] = 1
        return charged

    def _measured(
        self, observations: Array, probes: list[tuple[Array, Array]], left: Array, known: Array, failed: Array
    ) -> Array:
        """Write into observations (R, F) what the probes said there; returns what they were charged, (R, 3).
        One that could not be measured, or that what is left does not afford, is None to a policy. known,
        failed (R, M): what earlier calls left nothing to ask about, as in `Seen.measured`; added to."""
        total = np.zeros_like(left)
        for m, ((name, size), most, (value, cost)) in enumerate(
            zip(self.seen.problem.probes, self.probe_most, probes, strict=True)
        ):
            numbers = value.reshape(len(value), -1).astype(np.float32)
            if numbers.shape[1] != size:
                raise PolicyError(
                    f"the probe {name} measured {numbers.shape[1]} numbers in this tree, and the observation"
                    f" has {size}: make it again"
                )
            there = np.asarray(~np.isnan(numbers).all(1))
            asked = ~known[:, m] & ~failed[:, m] & (most <= left + ROUNDING).all(1)
            could = known[:, m] | (asked & there)
            charged = asked & (there | cost.any(1))
            start = self.seen.layout[f"probe.{name}"].start
            observations[:, start : start + size] = np.where(could[:, None], numbers, 0)
            observations[:, start + size] = could
            total += np.where(charged[:, None], cost, 0.0)
            left = np.where(charged[:, None], np.maximum(0.0, left - most), left)
            failed[:, m] |= asked & ~there
            if self.alone[m]:
                known[:, m] = could
        return total


def check_probe(tree: CompleteTree, name: str) -> None:
    """Raises TreeError for a probe that the tree does not hold."""
    if name not in tree.probes:
        raise TreeError(
            f"the observation has the probe {name}, which was not measured in this tree:"
            f" {', '.join(tree.probes) or 'none was'}; build it with --probe {name}"
        )


def _squashed(amount: Array) -> Array:
    """n / (1 + n), 1 where there is no limit."""
    return np.where(np.isinf(amount), 1.0, amount / np.where(np.isinf(amount), 1.0, 1 + amount))
