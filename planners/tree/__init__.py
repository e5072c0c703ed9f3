"""Trees: every unrolling of a problem set, measured once, to learn and to compare policies on.

    from planners import tree

    tree.build(Executor(backend="nano"), problems, "rooms/", actions=["camera_pose_estimate", "text_think"])
    rooms = tree.load("rooms/")
    tree.evaluate(rooms, my_policy)          # exact, in seconds, with no model at hand

A tree is a folder of parquet and safetensors files; anybody can build one from a backend of their own and
share it. The format is in docs/unrollbench.md. (`unroller.tree` is the lazy twin over a live executor.)
"""

from __future__ import annotations

from planners.tree.building import build
from planners.tree.complete import CompleteTree, load
from planners.tree.evaluation import Evaluation, compare, evaluate
from planners.tree.faults import TreeError
from planners.tree.fixed import Fixed, best_fixed, pareto, schedules
from planners.tree.layout import Layout, name_of
from planners.tree.oracle import Oracle, oracle
from planners.tree.seeing import Seen, SeenState, Within
from planners.tree.summary import summary
from planners.tree.synthetic import Optimum, optimum, synthetic
from planners.tree.tables import observation_of, table

__all__ = [
    "CompleteTree",
    "Evaluation",
    "Fixed",
    "Layout",
    "Optimum",
    "Oracle",
    "Seen",
    "SeenState",
    "TreeError",
    "Within",
    "best_fixed",
    "build",
    "compare",
    "evaluate",
    "load",
    "name_of",
    "observation_of",
    "optimum",
    "oracle",
    "pareto",
    "schedules",
    "summary",
    "synthetic",
    "table",
]
