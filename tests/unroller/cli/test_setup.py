"""Which backends a command line works with where none is named."""

import numpy as np

from unroller import Problem
from unroller.capabilities import DepthEstimator
from unroller.cli.setup import Setup, executor_of
from unroller.cli.used import Used


class Dark:
    """Depth of dark photos only."""

    name, fingerprint, max_batch, unified = "dark", "1", 1, True
    provides = (DepthEstimator,)

    def estimate_depth(self, requests, *, seeds):
        raise NotImplementedError

    def knows(self, problem):
        return problem.images[0].pixels.max() < 50


def chosen(level):
    photo = np.full((64, 64, 3), level, np.uint8)
    problem = Problem.depth(photo)
    return [b.name for b in executor_of(Setup(), Used(backends=[Dark()]), "depth", problem).backends]


def test_a_backend_that_is_made_for_some_pictures_comes_first_for_those():
    assert chosen(10) == ["dark"]  # a unified one alone
    others = chosen(200)
    assert others[0] != "dark" and "dark" in others
