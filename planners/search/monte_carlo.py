"""Monte-Carlo tree search: UCT, with the trust in the answer at a place as its value."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from planners.search.ground import Calls, Found, Ground, Ledger, Place, Search
from unroller.faults import PlanError


class _Node(msgspec.Struct):
    """visits; total of the values below; children that are known, by action; what was not tried yet; done:
    there is nothing left to look at below."""

    visits: int = 0
    total: float = 0.0
    children: dict[str, _Node] = {}
    untried: list[str] = []
    done: bool = False


class MonteCarlo(Search):
    """UCT (Kocsis and Szepesvári 2006): from the bare problem down, the child of the highest mean value plus
    `exploration` × sqrt(ln visits / its visits), until there is an action that was not tried; it is tried,
    and the value of the answer there is added to every place above. Every place can be answered from, so no
    roll-outs are needed. Branches that have been looked at to their ends are left out.

    calls: model calls that the search may be charged for a problem; it ends when they are spent, or when
    everything up to `depth` calls has been tried. The most trusted place of all that were looked at is kept.
    One place of each problem is tried at a time, all problems together in batches. score, weight, price: see
    `Search`.
    """

    name = "monte_carlo"

    def __init__(self, calls: int = 20, depth: int = 3, exploration: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        if calls < 1 or depth < 0 or not 0 <= exploration < math.inf:
            raise PlanError(
                f"calls={calls}, depth={depth}, exploration={exploration}: 1 or more, and twice 0 or more"
            )
        self.calls = calls
        self.depth = depth
        self.exploration = exploration

    def choose(self, ground: Ground) -> list[Found]:
        ledger = Ledger(self, ground)
        ledger.look([Place(i) for i in range(ground.count)])
        roots = [self._node(Place(i), ledger) for i in range(ground.count)]
        free = 0
        while True:
            paths = {
                i: self._select(root)
                for i, root in enumerate(roots)
                if not root.done and ledger.charged[i].model_calls < self.calls
            }
            if not paths or free > MOST_FREE:
                return [ledger.best(i) for i in range(ground.count)]
            before = sum(cost.model_calls for cost in ledger.charged)
            ledger.look([Place(i, path) for i, path in paths.items()])
            free = free + 1 if sum(cost.model_calls for cost in ledger.charged) == before else 0
            for i, path in paths.items():
                self._back_up(roots[i], Place(i, path), ledger)

    def _node(self, place: Place, ledger: Ledger) -> _Node:
        """A place that was looked at, as a node."""
        untried = list(ledger.at(place).allowed) if len(place.calls) < self.depth else []
        value = ledger.value(place)
        return _Node(1, value if math.isfinite(value) else 0.0, {}, untried, not untried)

    def _select(self, node: _Node) -> Calls:
        """The calls of the place to look at next."""
        path: list[str] = []
        while not node.untried:
            name = max(
                (name for name, child in node.children.items() if not child.done),
                key=lambda name: self._bound(node, node.children[name]),
            )
            path.append(name)
            node = node.children[name]
        return (*path, node.untried[0])

    def _bound(self, node: _Node, child: _Node) -> float:
        mean = child.total / child.visits
        return mean + self.exploration * math.sqrt(math.log(node.visits) / child.visits)

    def _back_up(self, root: _Node, place: Place, ledger: Ledger) -> None:
        """Add what was found to every node above it."""
        leaf = self._node(place, ledger)
        above = [root]
        for name in place.calls[:-1]:
            above.append(above[-1].children[name])
        above[-1].untried.remove(place.calls[-1])
        above[-1].children = {**above[-1].children, place.calls[-1]: leaf}
        for node in reversed(above):
            node.visits += 1
            node.total += leaf.total
            node.done = not node.untried and all(child.done for child in node.children.values())


MOST_FREE = 5_000
"""Places in a row that cost no model call, after which a search ends that its budget never would."""
