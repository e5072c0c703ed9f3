"""Planners that search: they try unrollings, look at the answers, and keep the one they trust most.

    Executor(backend="nano", planner="beam").run(x)
    Executor(backend="nano", planner=Beam(width=3, depth=2, score="certainty"))
    search.evaluate(tree.load("rooms/"), Beam(width=3))        # on a tree, with no model

An answer is judged by itself, never by the truth (see `self_scores`). What is tried goes through the
executor's memo and is batched across problems, so the run that follows finds its calls made.
"""

from __future__ import annotations

from planners.search.beam import Beam
from planners.search.best_of_n import BestOfN
from planners.search.exhaustive import Exhaustive
from planners.search.ground import Found, Ground, LiveGround, Looked, Search
from planners.search.monte_carlo import MonteCarlo
from planners.search.on_tree import TreeGround, evaluate
from planners.search.self_scores import certainty, confidence

__all__ = [
    "Beam",
    "BestOfN",
    "Exhaustive",
    "Found",
    "Ground",
    "LiveGround",
    "Looked",
    "MonteCarlo",
    "Search",
    "TreeGround",
    "certainty",
    "confidence",
    "evaluate",
]
