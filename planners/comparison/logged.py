"""Unrollings that a stochastic policy made, with how probable each of its decisions was: drawn on a tree, or
read from live runs of its problems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from planners.tree import CompleteTree, TreeError
from planners.tree.seeing import Seen
from unroller.decide import Call, Decision, as_decision, as_policy
from unroller.faults import PolicyError

Calls = tuple[str, ...]
"""What a decision calls, () being STOP."""


class Unrolling(msgspec.Struct, frozen=True):
    """One unrolling of a problem of a tree, as it was logged: its decisions with their log-probabilities, the
    last being STOP unless something else ended it; states: where each was made, and where it ended."""

    problem: int
    draw: int
    decisions: tuple[Decision, ...]
    states: tuple[int, ...]


def drawn(
    tree: CompleteTree, policy: Any, problems: Sequence[int] | None = None, times: int = 1, seed: int = 0
) -> list[Unrolling]:
    """Unrollings that a policy with a `distribution` makes of each problem and draw of a tree, as often as
    said. Raises PolicyError for one that cannot say what it might decide, TreeError."""
    policy = as_policy(policy)
    if not callable(getattr(policy, "distribution", None)):
        raise PolicyError(
            "a log needs a policy that says how probable what it does is: random, or a learned one"
        )
    rng = np.random.default_rng([0x106, seed % 2**63])
    seen = Seen(tree, getattr(policy, "probes", ()))
    chosen = range(len(tree)) if problems is None else problems
    going = [Unrolling(int(i), d, (), (0,)) for i in chosen for d in range(tree.draws) for _ in range(times)]
    ended: list[Unrolling] = []
    while going:
        spread = [
            by_calls(ds) for ds in policy.distribution([state_of(seen, u, len(u.decisions)) for u in going])
        ]  # type: ignore[attr-defined]
        further: list[Unrolling] = []
        for one, p, at in zip(going, spread, rng.random(len(going)), strict=True):
            calls = list(p)
            k = min(int(np.searchsorted(np.cumsum(list(p.values())), at, side="right")), len(calls) - 1)
            after = _after(tree, one.problem, one.draw, one.states[-1], calls[k])
            made = Decision(
                tuple(map(Call, calls[k])), float(min(np.log(p[calls[k]]), 0.0)), len(one.decisions)
            )
            more = Unrolling(one.problem, one.draw, (*one.decisions, made), (*one.states, after))
            over = not calls[k] or len(more.decisions) >= seen.limits[tree.tasks[one.problem]].steps
            (ended if over else further).append(more)
        going = further
    return ended


def of_runs(tree: CompleteTree, runs: Iterable[Any]) -> list[Unrolling]:
    """Live runs, or recorded ones (`unroller.journal.read_log(folder).runs`), of problems of a tree.

    Raises TreeError for a problem or a value that is not in the tree, and for decisions without a
    log-probability."""
    number = {tree.problem(i, d).identity: (i, d) for i in range(len(tree)) for d in range(tree.draws)}
    return [_of_run(tree, run, number) for run in runs]


def _of_run(tree: CompleteTree, run: Any, number: dict[bytes, tuple[int, int]]) -> Unrolling:
    from unroller.workspace import Entry

    identity = getattr(run, "identity", None) or run.problem.identity
    place = number.get(identity)
    if place is None:
        raise TreeError("a logged run is of a problem that the tree does not hold: log runs of its problems")
    decisions = tuple(event for event in run.events if isinstance(event, Decision))
    if any(decision.log_probability is None for decision in decisions):
        raise TreeError("a logged decision has no log-probability: log a policy that says it, as random does")
    i, d = place
    states = [0]
    for decision in decisions:
        states.append(_after(tree, i, d, states[-1], calls_of(decision)))
    held = _written(tree, i, d, states[-1])
    if held != {event.id for event in run.events if isinstance(event, Entry)}:
        raise TreeError(
            f"a logged run of problem {i} wrote something else than the tree holds: it was made with other"
            " actions or parameters, or by another model; Executor(policy=Within(policy, tree)) keeps to it"
        )
    return Unrolling(i, d, decisions, tuple(states))


def _written(tree: CompleteTree, i: int, d: int, s: int) -> set[bytes]:
    """The ids of the values in the context of a state."""
    found: set[bytes] = set()
    while s > 0:
        if tree.kind[i, d, s] >= 0:
            found.add(tree.id[i, d, s].tobytes())
        s = int(tree.layout.parent[s])
    return found


def state_of(seen: Seen, one: Unrolling, step: int) -> Any:
    """What a policy sees of an unrolling at a step."""
    i, d, s = one.problem, one.draw, one.states[step]
    left = seen.limits[seen.tree.tasks[i]]
    probe, _ = seen.measured(i, d, s, left)
    before = tuple(Decision(made.calls, None, t) for t, made in enumerate(one.decisions[:step]))
    return seen.state(i, d, s, step, before, left, probe)


def by_calls(several: Iterable[Any]) -> dict[Calls, float]:
    """Probabilities by what is called, () being STOP."""
    found: dict[Calls, float] = {}
    for one in map(as_decision, several):
        if one.log_probability is None:
            raise PolicyError("a distribution without log-probabilities says nothing: give each decision one")
        found[calls_of(one)] = found.get(calls_of(one), 0.0) + float(np.exp(one.log_probability))
    return found


def calls_of(decision: Decision) -> Calls:
    """The actions that a decision calls."""
    return tuple(call.action for call in decision.calls)


def _after(tree: CompleteTree, i: int, d: int, s: int, calls: Sequence[str]) -> int:
    """The state after these calls; one that is not allowed is refused."""
    for name in calls:
        if name in tree.actions and tree.allowed[i, d, s, tree.actions.index(name)]:
            s = int(tree.layout.child[s, tree.actions.index(name)])
    return s
