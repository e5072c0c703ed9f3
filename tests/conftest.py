"""Before torch is imported anywhere: the models of these tests are so small that threads only wait for each
other, and on one thread their sums are the same on every machine.

Nobody's terminal: readline, which pytest imports, tells every process started after it how wide one is, and
`os.environ` does not know. Nobody's modules: tests write some of the same name, and run in any order.

Modules that were imported stay to the end. The garbage collector, which would look through those of torch
and transformers at every full collection, a quarter of the time that some files take, leaves them alone.
"""

import gc
import os
import sys

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)
    os.unsetenv(size)

MANY = 300
"""New modules that are worth a collection."""

left_alone = pytest.StashKey[int]()


def leave_alone(config):
    gc.collect()
    gc.freeze()
    config.stash[left_alone] = len(sys.modules)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    gc.disable()
    outcome = yield
    gc.enable()
    leave_alone(session.config)
    return outcome


@pytest.fixture(autouse=True)
def nobodys_modules(tmp_path_factory):
    """What a test imported from a folder of its own is forgotten."""
    before, ours = set(sys.modules), str(tmp_path_factory.getbasetemp())
    yield
    for name in sys.modules.keys() - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(ours):
            del sys.modules[name]
    sys.path[:] = [path for path in sys.path if not str(path).startswith(ours)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Between two files, when no fixture of a file is alive."""
    outcome = yield
    elsewhere = nextitem is not None and nextitem.path != item.path
    if elsewhere and len(sys.modules) > item.config.stash[left_alone] + MANY:
        leave_alone(item.config)
    return outcome
