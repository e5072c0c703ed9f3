"""What the trainers of selection policies reach, in how many steps and seconds, on trees of known optimum.

    python benchmarks/training.py [--quick] [--json PATH]

`tree.synthetic` has an optimum that is computed exactly (`tree.optimum`), and one way to miss it: looking
brings nothing unless the right helper is called after it, so a trainer that does not explore stops at once.
Every trainer has 60,000 steps, five seeds, its own default settings, and is judged by its greedy policy on
the tree it learned on and on another tree of the same kind, of other problems. A step is a decision in a
sampled unrolling, forced STOPs included; for the exact gradient a state that the network was asked about.

One thread, by the processor's clock: the machine does other things. Making a table of a large tree is
measured too, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np
from measure import Report, arguments

from planners import tree
from policies import LearnedPolicy
from policies.table import Table
from policies.training.expectation import expected

WEIGHT = 0.02
SEEDS = 5
STEPS = 60_000
TREES = {
    "3 helpers, depth 3": {"n": 240},
    "4 helpers, depth 2": {"n": 240, "helpers": 4, "depth": 2},
    "3 helpers, 2 draws with luck": {"n": 240, "draws": 2, "luck": 0.1},
}
TRAINERS = ("exact", "grpo", "ppo")
BUDGETS = (1.5, 2.0, 2.5)

LARGE = """
import json, time
from planners import tree
found = tree.synthetic(n=5000, helpers=3, depth=4, draws=2)
began = time.process_time()
table = found.table()
print(json.dumps({
    "roots": len(table), "states": table.shape[1], "numbers a state": table.observation.size,
    "MiB": table.nbytes / 2**20, "cpu s": time.process_time() - began,
}))
"""


def main() -> None:
    options = arguments(__doc__)
    report = Report("training", "Trainers of selection policies", options.quick)
    seeds = 2 if options.quick else SEEDS
    import torch  # before any clock, and what its optimisers load when they are first asked

    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()
    trees = dict(list(TREES.items())[:1]) if options.quick else TREES
    for name, kind in trees.items():
        _on_tree(report, name, kind, seeds)
    _budgets(report, seeds)
    if not options.quick:
        done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True)
        report.facts("table", "A table of 5,000 problems in 2 draws", {"table": json.loads(done.stdout)})
    report.remark("seconds are the processor's, of one thread; shares are of the optimum's score − λ · cost")
    report.finish(options.json, ("numpy", "torch"))


def _on_tree(report: Report, name: str, kind: dict[str, Any], seeds: int) -> None:
    found = tree.synthetic(**kind)
    table = found.table()
    other = tree.synthetic(**kind, seed=1)
    elsewhere = other.table(table.observation)
    optima = tree.optimum(found, WEIGHT).value, tree.optimum(other, WEIGHT).value
    rows: dict[str, dict[str, Any]] = {}
    for trainer in TRAINERS:
        runs = [_run(trainer, seed, table, elsewhere, optima) for seed in range(seeds)]
        rows[trainer] = {key: [round(run[key], 4) for run in runs] for key in runs[0]}
        worst, longest = min(rows[trainer]["share"]), max(rows[trainer]["cpu s"])
        if name == next(iter(TREES)):
            steps = max(rows[trainer]["steps"])
            report.target(f"{trainer}: share of the optimum, worst seed", 0.99, worst, at_least=True)
            report.target(f"{trainer}: steps", STEPS, float(steps))
            report.target(f"{trainer}: seconds, slowest seed", 30.0, longest, "s")
    report.facts(name, f"{name}, {len(table)} roots, λ = {WEIGHT}", rows)


def _run(
    trainer: str, seed: int, table: Table, other: Table, optima: tuple[float, float]
) -> dict[str, float]:
    module = import_module(f"policies.training.{trainer}")
    settings = type(module.DEFAULT)(steps=STEPS - 2_000)  # the last update goes a little beyond
    curve: list[dict[str, float]] = []
    policy = LearnedPolicy(observation=table.observation, seed=seed)
    began = time.process_time()
    pi = module.train(policy, table, cost_weight=WEIGHT, seed=seed, settings=settings, tell=curve.append)
    taken = time.process_time() - began
    good = [row["steps"] for row in curve if row["greedy_value"] >= 0.99 * optima[0]]
    return {
        "share": expected(table, pi).value(WEIGHT) / optima[0],
        "share elsewhere": expected(other, pi).value(WEIGHT) / optima[1],
        "steps": curve[-1]["steps"],
        "steps to 1 %": good[0] if good else float("nan"),
        "cpu s": taken,
    }


def _budgets(report: Report, seeds: int) -> None:
    """The Lagrangian beside what the best two policies come to when they are mixed to the same mean cost."""
    from policies.training import lagrangian

    found = tree.synthetic(n=240)
    table = found.table()
    looking, stopping = tree.optimum(found, 0.02), table
    low, high = (1.0, float(stopping.score[:, 0].mean())), (looking.cost, looking.score)
    rows: dict[str, dict[str, Any]] = {}
    for budget in BUDGETS[1:2] if seeds < SEEDS else BUDGETS:
        runs: list[dict[str, float]] = []
        for seed in range(seeds):
            began = time.process_time()
            curve: list[dict[str, float]] = []
            policy = LearnedPolicy(observation=table.observation, seed=seed)
            pi = lagrangian.train(policy, table, mean_cost=budget, seed=seed, tell=curve.append)
            got = expected(table, pi)
            mixed = low[1] + (budget - low[0]) / (high[0] - low[0]) * (high[1] - low[1])
            runs.append(
                {
                    "cost / budget": float(got.cost.mean()) / budget,
                    "score": float(got.score.mean()),
                    "of a mixture": mixed,
                    "λ": curve[-1]["weight"],
                    "cpu s": time.process_time() - began,
                }
            )
        rows[f"mean cost {budget}"] = {key: [round(run[key], 4) for run in runs] for key in runs[0]}
    worst = max(float(np.max(row["cost / budget"])) for row in rows.values())
    report.target("lagrangian: mean cost over budget, worst", 1.02, worst)
    report.facts("budgets", "The Lagrangian at a mean cost", rows)


if __name__ == "__main__":
    main()
