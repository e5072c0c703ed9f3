"""The weights that come along: what they promise, on rooms that nobody trained on."""

import pytest
import torch

from nano_omni import familiarity
from nano_omni.branches import unroll
from nano_omni.evaluation import judge
from nano_omni.heldout import collect
from nano_omni.model import load
from nano_omni.reader import Reader
from primitives.backends.nano import Nano, rooms
from unroller import Executor, Problem


@pytest.fixture(scope="module")
def shipped():
    return load(Nano().folder)


ROWS = ("direct", "pose + thinking", "caption", "views")
ROWS += ("oracle pose + thinking", "shuffled pose + thinking", "blank photos")


@pytest.fixture(scope="module")
def unrolled(shipped):
    """Questions of three hops: what is answered by each context, and how much that was written is so."""
    held = collect(shipped.config, "test", 200, torch.device("cpu"), forms=(3,), draw=512)[3]
    logits, written = unroll(shipped, held, 3, ROWS)
    right = held.asked[3].choice
    answers = {row: (said.argmax(-1) == right).float().mean().item() for row, said in logits.items()}
    return answers, judge(written, held, 3)


def test_what_it_writes_itself_helps_it_answer(unrolled):
    answers, _ = unrolled
    assert answers["pose + thinking"] > answers["direct"] + 0.08
    assert answers["oracle pose + thinking"] > 0.9


def test_another_rooms_context_does_not(unrolled):
    answers, _ = unrolled
    assert answers["shuffled pose + thinking"] < answers["pose + thinking"] - 0.1
    assert abs(answers["blank photos"] - 0.25) < 0.12


def test_what_it_writes_is_mostly_so(unrolled):
    _, right = unrolled
    assert right["pose: direction"] > 60 and right["caption: objects told"] > 60
    assert right["views: objects, recall"] > 40


def test_where_something_is_that_photo_1_shows_it_was_not_taught_and_does_not_say():
    asked = rooms.many(range(24), task="spatial", hops=1)
    turned = [Problem(**(dict(one) | {"images": tuple(reversed(one.images))})) for one in asked]
    ex = Executor(backend=Nano(), policy=[], memo=None)
    said, refused = (
        [run.faults[0].message if run.faults else "" for run in ex.map(some)] for some in (asked, turned)
    )
    assert not any("itself" in why for why in said)
    assert sum("photo 1 shows the" in why for why in refused) >= 6  # small and far ones it takes for unseen


def test_it_knows_its_rooms_and_nothing_else(shipped):
    limits, reader = familiarity.load(Nano().folder), Reader(shipped)

    def strange(photos):
        return sum(limits.is_strange(node.look) for node in reader.look(list(photos))) / len(photos)

    others = familiarity.others(shipped, 32)
    known = collect(shipped.config, "test", 64, torch.device("cpu"), forms=(1,), draw=128)[1].photos
    assert strange(known) < 0.05
    assert strange(others["noise"]) == strange(others["one colour"]) == strange(others["gradients"]) == 1
