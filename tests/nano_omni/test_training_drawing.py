"""Learning to draw: every set of contexts from one tree, a stopped run goes on, and answering is kept."""

import csv
import json
import math
from dataclasses import replace

import pytest
import torch

from nano_omni import plans, tokenizer
from nano_omni.config import CONFIGS
from nano_omni.data import split_seeds
from nano_omni.latents import NUMBERS, TOKENS
from nano_omni.model import NanoOmni, load
from nano_omni.pictures import pictures, save
from nano_omni.training import draw, drawer, drawing_controls
from nano_omni.training.drawer import RECIPES, Drawer, cells, leaf_losses
from nano_omni.training.leaves import LEAVES, Leaves
from nano_omni.training.materials import Material, prepared
from nano_omni.training.turns import TURNS, turns_of
from nano_omni.vocabulary import INDEX

TINY = replace(RECIPES["tiny"], steps=12)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights that never drew."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    NanoOmni(config=CONFIGS["tiny"]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ahead(tmp_path_factory):
    """Two files of pictures that were drawn ahead."""
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(2):
        save(folder / f"{k}.safetensors", pictures(split_seeds("train", 64 * k, 24)))
    return folder


def drawing(start, ahead, **changes):
    return Drawer(replace(TINY, **changes), start, {"generation": ahead}, seed=0, compiled=False)


def quietly(run, out, **more):
    draw.train(run, out, say=lambda line: None, **more)


@pytest.mark.parametrize("turn", TURNS["generation"])
def test_a_leaf_sees_its_own_contexts_and_no_other_leaf(turn):
    """Changing the words of a context changes the losses of what is read after it, and nothing else."""
    torch.manual_seed(0)
    model = NanoOmni(config=CONFIGS["tiny"]).with_generation_expert()
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.1)
    tree = Leaves(turn)
    some = pictures(split_seeds("val", 0, 3))
    clean = torch.randn(len(some), TOKENS, NUMBERS, generator=torch.Generator().manual_seed(1))

    def leaves(pictured):
        recipe = replace(TINY, wrong=0.0)
        with torch.no_grad():
            shown = Material(pictured, clean, pictured.objects)
            return leaf_losses(model, tree, shown, recipe, torch.Generator().manual_seed(2))[1]

    before, after = leaves(some), leaves(replace(some, codes=(some.codes + 7) % 192))
    changed = [leaf for leaf, a, b in zip(tree.leaves, before, after, strict=True) if not torch.equal(a, b)]
    assert changed == [leaf for leaf in tree.leaves if "visual" in leaf]


def test_controls_learn_to_write_the_same_contexts_and_draw_from_none():
    for full, direct, pause in zip(
        *(turns_of("generation", tree) for tree in ("full", "direct", "pause")), strict=True
    ):
        written = Leaves(full).rows.keys()
        assert written == Leaves(direct).rows.keys() == Leaves(pause).rows.keys()
        assert set(direct.leaves) == set(full.leaves) & {"prompt", "nothing"}
        contexts = [leaf for leaf in full.leaves if leaf not in ("prompt", "nothing", "nothing + visual")]
        assert [leaf.removeprefix("pause: ") for leaf in pause.leaves if "pause" in leaf] == contexts


def test_a_pause_is_as_long_as_what_it_takes_the_place_of():
    turn = turns_of("generation", "pause")[1]
    tree = Leaves(turn)
    words, _ = tree.fill(pictures(split_seeds("val", 0, 3)), 0.1, 0.04, None)
    pauses = (words == INDEX["<pause>"]).sum(1).tolist()
    assert pauses == [plans.PLAN_LENGTH + plans.ROLL_OUT_LENGTH] * len(words)


def test_a_control_is_trained_as_any_other_run(start, ahead):
    run = drawing(start, ahead, tree="pause")
    losses = {}
    for _ in range(4):
        losses |= run.update()
    assert all(map(math.isfinite, losses.values()))
    assert "picture, pause: long + visual" in losses and "picture, long" not in losses


def test_runs_are_compared_on_the_same_prompts(start, ahead, tmp_path, capsys):
    load(start).with_generation_expert().save_pretrained(tmp_path / "weights")
    names = ("full", "direct", "pause")
    runs = [part for name in names for part in ("--run", f"{name}={tmp_path / 'weights'}")]
    out = tmp_path / "controls.json"
    drawing_controls.main([*runs, "--n", "6", "--pictures", str(ahead), "--out", str(out)])
    table = json.loads(out.read_text())
    assert table["n"] == 6 and set(table["rows"]) == {
        *("full: direct", "full: short", "full: long", "full: long + visual", "direct: direct"),
        *("pause: direct", "pause: short pause", "pause: long pause", "pause: long pause + visual pause"),
    }
    assert "planned over it" in table["rows"]["direct: direct"]["all"]
    assert "direct: direct" in capsys.readouterr().out


def test_every_set_of_contexts_is_drawn_from():
    assert set(LEAVES) == {
        *("prompt", "short", "long", "visual", "short + visual", "long + visual"),
        *("nothing", "nothing + visual"),
    }


def test_places_that_show_an_object_count_more():
    objects = torch.zeros(1, 8, 8)
    objects[0, 2, 3] = 1.0
    where = cells(objects)[0].sum(1).nonzero()[:, 0].tolist()
    assert where == [5]  # rows 2 and 3, columns 2 and 3


def test_losses_fall(start, ahead):
    """Of every context and every leaf, on the same pictures with the same noise."""
    run = drawing(start, ahead, steps=45, batch=8, replay=0, adam=5e-3)

    def measured():
        with torch.no_grad():
            run.random.manual_seed(1)
            turns = run.turns["generation"]
            return torch.cat([torch.cat(run.losses(turn, torch.arange(16))) for turn in turns])

    before = measured()
    for _ in range(45):
        run.update()
    assert (measured() < 0.99 * before).all()


def test_a_stopped_run_goes_on_exactly(start, ahead, tmp_path):
    straight = drawing(start, ahead)
    expected = [straight.update() for _ in range(12)]
    first = drawing(start, ahead)
    got = [first.update() for _ in range(7)]
    first.save(tmp_path)
    second = drawing(start, ahead)
    second.load(tmp_path)
    got += [second.update() for _ in range(5)]
    assert got == expected
    assert any("answer" in one for one in got[7:])  # rooms go on, too
    for name, p in straight.average.items():
        assert torch.equal(p, second.average[name]), name


def test_what_is_learned_of_pictures_leaves_answering_to_the_old_expert(start, ahead):
    """A generation expert that is trained alone changes no answer."""
    run = drawing(start, ahead, replay=0, old=0.0)
    before = {k: p.clone() for k, p in run.model.named_parameters() if not drawer.is_new(k)}
    for _ in range(3):
        run.update()
    for name, p in run.model.named_parameters():
        if name in before:
            assert torch.equal(before[name], p), name
    assert any(p.any() for name, p in run.model.named_parameters() if name.startswith("ends.end"))


def test_the_command_writes_weights_that_draw(start, ahead, tmp_path):
    words = f"--config tiny --from {start} --pictures {ahead} --out {tmp_path} --steps 6 --eager"
    draw.main(words.split())
    model = load(tmp_path / "weights")
    assert model.ends is not None and model.config.experts == 2
    tokenizer.load(tmp_path / "weights")
    assert "every 5th of 4 rooms" in (tmp_path / "weights" / "README.md").read_text()
    checks = [json.loads(line) for line in (tmp_path / "checks.jsonl").read_text().splitlines()]
    assert {"picture, long + visual", "pose + thinking.4", "short"} <= checks[-1].keys()
    with open(tmp_path / "curves.csv") as file:
        assert next(csv.reader(file))[:3] == ["step", "seconds", "progress"]
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        draw.main(f"{words} --resume {tmp_path / 'x'}".split())
    with pytest.raises(FileNotFoundError, match="no pictures"):
        draw.main(words.replace(str(ahead), str(tmp_path / "none")).split())


def test_a_run_stops_in_time_with_weights_to_be_used(start, ahead, tmp_path):
    quietly(drawing(start, ahead), tmp_path, stop_at=-math.inf)
    assert "not completed" in (tmp_path / "weights" / "README.md").read_text()


def test_latents_of_pictures_are_kept(ahead):
    some = prepared({"generation": ahead})["generation"]
    assert some.clean.shape == (len(some.some), TOKENS, NUMBERS) and some.clean.dtype == torch.float16
    assert len(list(ahead.glob("latents-*/*.safetensors"))) == 2
    again = prepared({"generation": ahead})["generation"]
    assert torch.equal(some.clean, again.clean)
