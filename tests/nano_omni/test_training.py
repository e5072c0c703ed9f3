"""Training: losses fall, a stopped run goes on exactly, self-writing writes."""

import math
from dataclasses import replace

import pytest
import torch

from nano_omni.config import CONFIGS
from nano_omni.data import rooms, split_seeds, stream
from nano_omni.evaluation import collect
from nano_omni.training.forest import TREES, Forest
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
    assert (tmp_path / "checks.jsonl").read_text().count("direct.4") >= 2
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        main(f"--config tiny --out {tmp_path} --resume {tmp_path / 'x'} --eager --device cpu".split())


def test_direct_answers_get_as_many_losses_as_any_context():
    forest = Forest(TINY)
    weight = {name: forest.weights[k].item() for k, (_, name) in enumerate(forest.cells)}
    assert weight.keys() == {"direct", "pose", "think", "pose+think", "think+pose"}
    assert weight["direct"] == max(weight.values())


@pytest.mark.parametrize("tree", TREES)
def test_every_tree_is_supervised_alike_and_its_steps_train(tree):
    full, forest = Forest(TINY, hops=(1, 3)), Forest(TINY, hops=(1, 3), tree=tree)
    assert len(forest.context_rows) == len(full.context_rows)  # the same poses and thoughts to write
    answers = {"direct": 2, "pause": 4, "apart": 6, "full": 10}  # two numbers of hops
    assert len(forest.answer_rows) == answers[tree]
    run = trainer(steps=4, tree=tree, groups=((1, 3), (2, 4)))
    batches = run.batches()
    for _ in range(4):
        assert run.update(next(batches)).isfinite().all()
    assert all(0 <= share <= 1 for share in run.check().values())


def test_the_first_steps_only_look():
    run = trainer(steps=8, see=0.5)
    batches = run.batches()
    answer = [run.update(next(batches))[0].item() for _ in range(8)]
    assert answer[:4] == [0.0] * 4 and min(answer[4:]) > 0


def test_a_direct_answer_is_the_same_in_every_tree():
    model = trainer().model
    torch.nn.init.normal_(model.head.weight)
    batch = rooms(split_seeds("val", 0, 4), TINY)
    said = []
    for tree in TREES:
        forest = Forest(TINY, tree=tree)
        words, _ = forest.fill(batch, 0.0, torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = model(batch.photos, words, forest.positions, forest.mask, forest.read)[0]
        said.append(logits[:, forest.answer_rows[forest.cells.index((3, "direct"))]])
    for other in said[1:]:
        assert torch.allclose(other, said[0], atol=1e-4)


def test_a_tree_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="full, direct, pause, apart"):
        Forest(TINY, tree="oak")


def test_rewriting_repeated_is_greedy_decoding():
    run = trainer()
    torch.nn.init.normal_(run.model.head.weight)
    batch = rooms(split_seeds("val", 0, 4), TINY)
    words, _ = run.forests[0].fill(batch, 0.0, torch.Generator().manual_seed(0))
    who = torch.tensor([True, True, False, False])
    own = run.own_words(batch, words, who, 80, run.forests[0])  # longer than any chain of contexts
    assert torch.equal(own, run.own_words(batch, own, who, 1, run.forests[0]))  # a fixed point
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
