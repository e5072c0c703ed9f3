"""Before torch is imported anywhere: the models of these tests are so small that threads only wait for each
other, and on one thread their sums are the same on every machine.

Modules that were imported stay to the end. The garbage collector, which would look through those of torch
and transformers at every full collection, a quarter of the time that some files take, leaves them alone.
"""

import gc
import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

MANY = 300
"""New modules that are worth a collection."""

left_alone = pytest.StashKey[int]()


def leave_alone(config):
    gc.collect()
    gc.freeze()
    config.stash[left_alone] = len(sys.modules)


def pytest_collection_finish(session):
    leave_alone(session.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Between two files, when no fixture of a file is alive."""
    outcome = yield
    elsewhere = nextitem is not None and nextitem.path != item.path
    if elsewhere and len(sys.modules) > item.config.stash[left_alone] + MANY:
        leave_alone(item.config)
    return outcome
