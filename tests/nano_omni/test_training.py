"""Training: losses fall, a stopped run goes on exactly, self-writing writes."""

import math
from dataclasses import replace

import pytest
import torch

from nano_omni.config import CONFIGS
from nano_omni.data import rooms, split_seeds, stream
from nano_omni.evaluation import collect
from nano_omni.training.forest import BRANCHES, Forest
from nano_omni.training.muon import newton_schulz
from nano_omni.training.run import RECIPES, Trainer, main, train

TINY, CPU = CONFIGS["tiny"], torch.device("cpu")


def trainer(**changes) -> Trainer:
    return Trainer(TINY, replace(RECIPES["tiny"], **changes), CPU, seed=0, compiled=False)


def test_losses_fall(tmp_path):
    run = trainer(steps=30, batch=8)
    batches = run.batches()
    parts = torch.stack([run.update(next(batches)) for _ in range(30)])
    assert (parts[-5:].mean(0) < parts[:5].mean(0)).all(), parts


def test_a_stopped_run_goes_on_exactly(tmp_path):
    straight = trainer(steps=12)
    train(straight, tmp_path / "a", math.inf, say=lambda line: None)
    first = trainer(steps=12)
    batches = first.batches()
    for _ in range(5):
        first.update(next(batches))
    first.save(tmp_path / "b", compact=False)
    second = trainer(steps=12)
    second.load(tmp_path / "b")
    train(second, tmp_path / "b", math.inf, say=lambda line: None)
    assert second.step == straight.step == 12
    for (name, a), b in zip(straight.model.named_parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_command_writes_weights_curves_and_a_card(tmp_path):
    main(f"--config tiny --steps 4 --out {tmp_path} --eager --device cpu".split())
    assert (tmp_path / "weights" / "model.safetensors").exists()
    assert "none seen twice" in (tmp_path / "weights" / "README.md").read_text()
    assert (tmp_path / "checks.jsonl").read_text().count("own.direct.4") >= 2
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        main(f"--config tiny --out {tmp_path} --resume {tmp_path / 'x'} --eager --device cpu".split())


def test_direct_answers_get_as_many_losses_as_any_context():
    forest = Forest(TINY)
    weight = {name: forest.weights[k].item() for k, (_, name) in enumerate(forest.cells)}
    assert set(weight) == set(BRANCHES) and weight["direct"] == max(weight.values())


def test_rewriting_repeated_is_greedy_decoding():
    run = trainer()
    torch.nn.init.normal_(run.model.head.weight)
    batch = rooms(split_seeds("val", 0, 4), TINY)
    words, _ = run.forest.fill(batch, 0.0, torch.Generator().manual_seed(0))
    who = torch.tensor([True, True, False, False])
    own = run.own_words(batch, words, who, rounds=80)  # longer than any chain of contexts
    assert torch.equal(own, run.own_words(batch, own, who, rounds=1))  # a fixed point
    assert torch.equal(own[2:], words[2:]) and not torch.equal(own[:2], words[:2])


def test_training_never_sees_a_room_twice_or_one_held_out():
    seen = stream(TINY, 0, 3, 2, CPU, compiled=False)
    a, b, c = (next(seen).photos for _ in range(3))
    later = next(stream(TINY, 6, 3, 2, CPU, compiled=False)).photos
    assert torch.equal(c, later)  # batch 2, also when training starts there
    assert not torch.equal(a, b)
    with pytest.raises(ValueError, match="holds"):
        split_seeds("test", 0, 1 << 30)


def test_collected_questions_are_exactly_balanced():
    held = collect(TINY, "test", 16, CPU, (2,), draw=64)[2]
    assert held.asked[2].choice.bincount(minlength=4).tolist() == [4, 4, 4, 4]
    assert held.asked[2].valid.all() and len(held) == 16


def test_muon_orthogonalises():
    stack = newton_schulz(torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(stack)
    assert (values > 0.5).all() and (values < 1.3).all()
