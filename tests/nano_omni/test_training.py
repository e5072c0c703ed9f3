"""Training: losses fall, a stopped run goes on exactly, self-writing writes."""

import json
import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from nano_omni import language
from nano_omni.branches import Branches
from nano_omni.config import CONFIGS
from nano_omni.data import rooms, split_seeds, stream
from nano_omni.heldout import collect
from nano_omni.model import load
from nano_omni.training.forest import GROUPS, TREES, Forest, tree
from nano_omni.training.muon import newton_schulz
from nano_omni.training.recipe import RECIPES
from nano_omni.training.run import main, train
from nano_omni.training.trainer import Trainer

TINY, CPU = CONFIGS["tiny"], torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """The questions held out are the same for every run here: they are drawn for the first and kept."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nano_omni.training.trainer.collect", cache(collect))
        yield


def trainer(**changes) -> Trainer:
    return Trainer(TINY, replace(RECIPES["tiny"], **changes), CPU, seed=0, compiled=False)


def test_finished_weights_are_trained_for_longer(tmp_path):
    main(f"--config tiny --steps 2 --out {tmp_path / 'first'} --eager --device cpu".split())
    finished = tmp_path / "first" / "weights"
    again = f"--config tiny --steps 6 --seed 1 --again {finished} --eager --device cpu".split()
    main([*again, "--out", str(tmp_path), "--seconds", "0"])  # stopped as it begins
    old = load(finished).state_dict()
    assert all(torch.equal(old[name], p) for name, p in load(tmp_path / "weights").state_dict().items())
    with open(tmp_path / "curves.csv", "a") as curves, open(tmp_path / "checks.jsonl", "a") as checks:
        curves.write("5,0,0,0,0,0,0,0,0\n")  # steps that were lost when it was killed
        checks.write('{"step": 5}\n')
    main([*again, "--out", str(tmp_path), "--resume", str(tmp_path)])
    checked = [json.loads(line)["step"] for line in (tmp_path / "checks.jsonl").read_text().splitlines()]
    assert checked[0] == 0 and checked[-1] == 6 and checked == sorted(set(checked)) and 5 not in checked
    assert "\n5," not in (tmp_path / "curves.csv").read_text()
    assert not torch.equal(old["head.weight"], load(tmp_path / "weights").state_dict()["head.weight"])
    card = (tmp_path / "weights" / "README.md").read_text()
    assert "The finished weights in weights, trained for longer. Trained 6 steps" in card
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["own"] == 1 and recipe["see"] == 0 and recipe["muon"] == RECIPES["tiny"].muon / 2


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


FORMS = {
    "chain": (1, 3),
    "tally": ("count", "compare"),
    "views": (2,),
    "latent": (4,),
    "caption": ("count",),
    "told": ("compare",),
}


def test_stages_one_after_the_other_are_one_run(tmp_path):
    for stage in ("see", "ask", "own"):
        main(f"--config tiny --steps 8 --stage {stage} --out {tmp_path} --eager --device cpu".split())
    main(f"--config tiny --steps 8 --out {tmp_path / 'whole'} --eager --device cpu".split())
    files = [folder / "weights" / "model.safetensors" for folder in (tmp_path, tmp_path / "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "completed" in (tmp_path / "weights" / "README.md").read_text()


@pytest.mark.parametrize("group", FORMS)
def test_direct_answers_get_as_many_losses_as_any_context(group):
    forest = Forest(TINY, CPU, FORMS[group], group)
    weight = {name: forest.weights[k].item() for k, (_, name) in enumerate(forest.cells)}
    known = {
        "chain": {"pose", "think", "pose+think", "think+pose"},
        "tally": {"pose", "think", "pose+think"},
        "views": {"views", "pose+views+think"},
        "latent": {"latent", "views+think"},
        "caption": {"caption", "caption+think"},
        "told": {"pose+caption+think"},
    }
    assert weight.keys() == {"direct"} | known[group]
    assert weight["direct"] == max(weight.values())


@pytest.mark.parametrize("name", TREES)
def test_every_tree_is_supervised_alike_and_its_steps_train(name):
    answers = {
        "direct": (2, 2, 1, 1, 1, 1),
        "pause": (4, 4, 1, 1, 1, 1),
        "apart": (6, 6, 2, 2, 2, 1),
        "full": (10, 8, 3, 3, 3, 2),
    }
    for (group, forms), count in zip(FORMS.items(), answers[name], strict=True):
        full, forest = (Forest(TINY, CPU, forms, group, one) for one in ("full", name))
        assert len(forest.context_rows) == len(full.context_rows)  # the same words to write
        assert len(forest.answer_rows) == count
    run = trainer(steps=6, tree=name, groups=tuple(FORMS.items()))
    batches = run.batches()
    for _ in range(6):
        assert run.update(next(batches)).isfinite().all()
    assert all(0 <= share <= 1 for share in run.check().values())


def test_what_is_given_under_a_question_is_what_was_written_without_one():
    run = trainer()
    torch.nn.init.normal_(run.model.head.weight)
    batch = rooms(split_seeds("val", 0, 4), TINY)
    forest = Forest(TINY, CPU, (2,), "views")
    words, _ = forest.fill(batch, 0.5, torch.Generator().manual_seed(0))
    who = torch.tensor([True, False, True, False])
    own = run.own_words(batch, words, who, 2, forest)
    what = [what for _, what in forest.nodes]
    lengths = [segment.length for segment in forest.segments[4:]]
    parts = dict(zip(what, own.split(lengths, 1), strict=False))  # the last may be padding
    drawn = torch.cat([parts["view0"], parts["view1"]], 1)
    assert torch.equal(parts["viewed"], drawn)
    assert torch.equal(parts["pose"][who, 1:], parts["posing"][who, language.WORKINGS + 1 :])
    true = batch.views[:, :2].flatten(1)
    assert torch.equal(drawn[~who], true[~who]) and not torch.equal(drawn[who], true[who])


def test_a_latent_is_what_the_model_hid_at_the_words_before_it():
    run = trainer()
    model = run.model
    torch.nn.init.normal_(model.head.weight)
    batch = rooms(split_seeds("val", 0, 4), TINY)
    forest = Forest(TINY, CPU, (2,), "latent")
    words, _ = forest.fill(batch, 0.0, torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = run.read(batch, words, forest)[0][:, forest.answer_rows]
        branches = Branches(model.eval(), batch.photos)
        question = branches.read(branches.start, batch.asked[2].question)
        said = branches.answer(branches.think_latent(question), batch.asked[2].choices)
    there = logits[:, forest.cells.index((2, "latent"))].gather(1, batch.asked[2].choices)
    assert torch.allclose(there, said, atol=1e-4)


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
    for name in TREES:
        forest = Forest(TINY, CPU, (3,), "chain", name)
        words, _ = forest.fill(batch, 0.0, torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = model(batch.photos, words, forest.positions, forest.mask, forest.read)[0]
        said.append(logits[:, forest.answer_rows[forest.cells.index((3, "direct"))]])
    for other in said[1:]:
        assert torch.allclose(other, said[0], atol=1e-4)


def test_a_tree_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="full, direct, pause, apart"):
        tree("chain", "oak")
    with pytest.raises(ValueError, match=", ".join(GROUPS)):
        tree("grove", "full")


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
    held = collect(TINY, "test", 16, CPU, ("compare",), draw=64)["compare"]
    assert held.asked["compare"].choice.bincount(minlength=2).tolist() == [8, 8]


def test_muon_orthogonalises():
    stack = newton_schulz(torch.randn(2, 8, 24, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(stack)
    assert (values > 0.5).all() and (values < 1.3).all()
