"""The weights that come along: what they promise, on rooms that nobody trained on."""

import pytest
import torch

from nano_omni import familiarity
from nano_omni.evaluation import collect, unroll
from nano_omni.model import load
from nano_omni.reader import Reader
from primitives.backends.nano import Nano


@pytest.fixture(scope="module")
def shipped():
    return load(Nano().folder)


@pytest.fixture(scope="module")
def answers(shipped):
    """Questions of three hops, and what is answered to them by each context."""
    held = collect(shipped.config, "test", 200, torch.device("cpu"), hops=(3,), draw=512)[3]
    logits, _ = unroll(shipped, held, 3)
    right = held.asked[3].choice
    return {row: (said.argmax(-1) == right).float().mean().item() for row, said in logits.items()}


def test_what_it_writes_itself_helps_it_answer(answers):
    assert answers["pose + thinking"] > answers["direct"] + 0.08
    assert answers["oracle pose + thinking"] > 0.95


def test_another_rooms_context_does_not(answers):
    assert answers["shuffled pose + thinking"] < answers["pose + thinking"] - 0.1
    assert abs(answers["blank photos"] - 0.25) < 0.12


def test_it_knows_its_rooms_and_nothing_else(shipped):
    limits, reader = familiarity.load(Nano().folder), Reader(shipped)

    def strange(photos):
        return sum(limits.is_strange(node.look) for node in reader.look(list(photos))) / len(photos)

    others = familiarity.others(shipped, 32)
    rooms = collect(shipped.config, "test", 64, torch.device("cpu"), hops=(1,), draw=128)[1].photos
    assert strange(rooms) < 0.05
    assert strange(others["noise"]) == strange(others["one colour"]) == strange(others["gradients"]) == 1
