"""Every unrolling of a set of problems, lazily.

A node is a problem and an ordered prefix of calls. With K actions each used at most once there are many
prefixes, but what they share is computed once: the memo is keyed by provenance, so the branch a → b costs
nothing more than a, and decoding costs one call a distinct context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import msgspec

from unroller.faults import UnknownName
from unroller.problem import Problem

if TYPE_CHECKING:
    from unroller.executor import Executor
    from unroller.run import Run

Prefix = tuple[str, ...]


class Node(msgspec.Struct, frozen=True):
    """One unrolling: problem (its index), prefix (actions in order), run, and score if there is a scorer."""

    problem: int
    prefix: Prefix
    run: Any
    score: float | None


class Tree:
    """The tree over `problems`. actions: which (all that can be called by default); depth: how many calls
    at most; scorer: (problem, output) -> float, or the name of a registered one.

    Nothing is computed until nodes are asked for.
    """

    def __init__(
        self,
        executor: Executor,
        problems: Sequence[Problem],
        *,
        actions: Sequence[str] | None = None,
        depth: int = 3,
        scorer: Callable[[Problem, Any], float] | str | None = None,
    ) -> None:
        from unroller.registry import load

        self.executor = executor
        self.problems = tuple(problems)
        callable_ = [name for name, action in executor.actions.items() if action.missing is None]
        self.actions: Prefix = tuple(actions) if actions is not None else tuple(callable_)
        for name in self.actions:
            if name not in executor.actions:
                raise UnknownName(
                    f"no action is called {name!r}; there are: {', '.join(executor.actions)}"
                )
        self.depth = depth
        self.scorer: Any = load("scorers", scorer) if isinstance(scorer, str) else scorer
        self._nodes: dict[tuple[int, Prefix], Node] = {}
        self._executors: dict[Prefix, Executor] = {}

    def prefixes(self, depth: int | None = None) -> Iterator[Prefix]:
        """Every ordered prefix in which no action repeats, shortest first, the empty one included."""
        for length in range(min(self.depth if depth is None else depth, len(self.actions)) + 1):
            yield from permutations(self.actions, length)

    def node(self, problem: int, prefix: Sequence[str] = ()) -> Node:
        """One node. Raises UnknownName for an action that the tree does not have."""
        return self.nodes([tuple(prefix)], [problem])[0]

    def nodes(
        self, prefixes: Sequence[Prefix] | None = None, problems: Sequence[int] | None = None
    ) -> list[Node]:
        """Nodes for every pair of a prefix and a problem (all of both by default), each prefix's problems
        batched; shorter prefixes first, so that longer ones find theirs in the memo."""
        wanted = list(self.prefixes()) if prefixes is None else list(prefixes)
        indices = range(len(self.problems)) if problems is None else problems
        found: list[Node] = []
        for prefix in wanted:
            lacking = [i for i in indices if (i, prefix) not in self._nodes]
            if lacking:
                runs = self._along(prefix).map([self.problems[i] for i in lacking])
                for i, run in zip(lacking, runs, strict=True):
                    self._nodes[i, prefix] = Node(i, prefix, run, self._score(i, run))
            found += [self._nodes[i, prefix] for i in indices]
        return found

    def _along(self, prefix: Prefix) -> Executor:
        held = self._executors.get(prefix)
        if held is None:
            unknown = [name for name in prefix if name not in self.actions]
            if unknown:
                raise UnknownName(
                    f"the tree has no action {unknown[0]!r}; it has: {', '.join(self.actions)}"
                )
            held = self._executors[prefix] = self.executor.extend(policy=list(prefix))
        return held

    def _score(self, problem: int, run: Run) -> float | None:
        if self.scorer is None or run.output is None:
            return None if self.scorer is None else 0.0
        return float(self.scorer(self.problems[problem], run.output))
