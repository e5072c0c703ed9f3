"""Learning to draw from photos beside prompts: who sees what, what is learned, and that it goes on."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from nano_omni import depths
from nano_omni.autoencoder import autoencoder
from nano_omni.config import CONFIGS, TASKS
from nano_omni.data import split_seeds
from nano_omni.edits import edited
from nano_omni.language import pose_words
from nano_omni.latents import TOKENS, patches, whole
from nano_omni.model import NanoOmni, load
from nano_omni.pairs import Pairs, pairs
from nano_omni.pictures import pictures, save, save_tensors
from nano_omni.training import draw
from nano_omni.training.drawer import RECIPES, Drawer, leaf_losses
from nano_omni.training.leaves import Leaves
from nano_omni.training.materials import of_edits, of_pairs
from nano_omni.training.turns import TURNS, rotation, turn_of
from nano_omni.vocabulary import nearest

TINY = replace(RECIPES["tiny"], steps=12)
PHOTO_TURNS = [turn for task in TASKS[1:] for turn in TURNS[task]]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    NanoOmni(config=CONFIGS["tiny"]).with_generation_expert().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pictures of all tasks that were drawn ahead."""
    folder = tmp_path_factory.mktemp("ahead")
    save(folder / "pictures" / "0.safetensors", pictures(split_seeds("train", 0, 24)))
    some = edited(split_seeds("train", 0, 24))
    save_tensors(folder / "edits" / "0.safetensors", {**vars(some.after), "before": some.before})
    save_tensors(folder / "pairs" / "0.safetensors", pairs(split_seeds("train", 0, 12)).tensors())
    names = "pictures", "edits", "pairs", "pairs"
    return {task: folder / name for task, name in zip(TASKS, names, strict=True)}


@pytest.fixture(scope="module")
def material():
    room = pairs(split_seeds("val", 0, 3))
    return {
        "editing": of_edits(edited(split_seeds("val", 0, 8))),
        "depth": of_pairs("depth", room),
        "novel_view": of_pairs("novel_view", room),
    }


def model_of_all():
    torch.manual_seed(0)
    model = NanoOmni(config=CONFIGS["tiny"]).to_be_taught(TASKS)
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return model


def drawer(start, folders, **changes):
    return Drawer(replace(TINY, **changes), start, folders, seed=0, compiled=False)


def measured(model, turn, some):
    with torch.no_grad():
        recipe = replace(TINY, wrong=0.0)
        return leaf_losses(model, Leaves(turn), some, recipe, torch.Generator().manual_seed(2))[1]


@pytest.mark.parametrize("turn", PHOTO_TURNS)
def test_every_leaf_sees_the_photo_and_only_its_own_contexts(turn, material):
    model, some = model_of_all(), material[turn.task]
    before = measured(model, turn, some)
    seen = replace(some, photos=255 - some.photos)
    assert (measured(model, turn, seen) != before).all()
    told = replace(some.some, codes=(some.some.codes + 7) % 192)
    if turn.task == "depth":
        told = replace(told, sides=told.sides.roll(1, 0), codes=some.some.codes)
    after = measured(model, turn, replace(some, some=told))
    changed = {leaf for leaf, a, b in zip(turn.leaves, before, after, strict=True) if a != b}
    assert changed == {leaf for leaf in turn.leaves if "visual" in leaf}


def test_depth_of_one_photo_does_not_see_the_other(material):
    model, some = model_of_all(), material["depth"]
    (turn,) = TURNS["depth"]
    photos = some.photos.clone()
    photos[:, 1] = 255 - photos[:, 1]
    before, after = measured(model, turn, some), measured(model, turn, replace(some, photos=photos))
    changed = [leaf for leaf, a, b in zip(turn.leaves, before, after, strict=True) if a != b]
    assert changed == ["direct", "caption", "depth caption", "visual"]


def test_weights_that_know_nothing_of_changes_leave_pictures_as_they_are(material):
    """In the beginning a photo is kept nearly whole, and only what is to change costs anything."""
    torch.manual_seed(0)
    model = NanoOmni(config=CONFIGS["tiny"]).to_be_taught(["editing"])
    some = material["editing"]
    same = replace(some, clean=some.beside)
    kept, changed = (measured(model, TURNS["editing"][0], one) for one in (same, some))
    assert (kept < 0.05 * changed).all()


def test_weights_are_taught_more_without_losing_anything():
    torch.manual_seed(0)
    drawing = NanoOmni(config=CONFIGS["tiny"]).with_generation_expert()
    more = drawing.to_be_taught(["editing", "depth"])
    assert more.config.draws == ("generation", "editing", "depth")
    old = drawing.state_dict()
    assert all(torch.equal(value, old[name]) for name, value in more.state_dict().items() if name in old)
    assert more.state_dict().keys() - old.keys() == {
        f"ends.{part}.{of}" for part in ("beside", "share") for of in ("weight", "bias")
    }
    assert more.to_be_taught(["editing"]).config == more.config
    with pytest.raises(ValueError, match="not sculpture"):
        drawing.to_be_taught(["sculpture"])


def test_tasks_take_turns_as_often_as_their_shares_say():
    order = rotation(["generation", "editing", "depth"], {"generation": 2, "editing": 3, "depth": 1})
    assert Counter(order) == {"generation": 2, "editing": 3, "depth": 1}
    assert all(a != b for a, b in itertools.pairwise(order))
    drawn = [turn_of(k, order) for k in range(24)]
    for task, count in (("generation", 8), ("editing", 12), ("depth", 4)):
        assert [k for name, k in drawn if name == task] == list(range(count))
    with pytest.raises(ValueError, match="each is one of"):
        rotation(["generation", "sculpture"], {"generation": 1})


def test_losses_of_all_tasks_fall(start, folders):
    shares = {"generation": 1, "editing": 1, "depth": 2, "novel_view": 1}
    run = drawer(start, folders, steps=60, batch=8, replay=0, adam=5e-3, shares=shares)

    def measured_all():
        found = []
        with torch.no_grad():
            for task, turns in run.turns.items():
                which = torch.arange(min(16, len(run.materials[task])))
                run.random.manual_seed(1)
                found += [run.losses(turn, which)[1].mean() for turn in turns]
        return torch.stack(found)

    before = measured_all()
    for _ in range(60):
        run.update()
    assert (measured_all() < 0.99 * before).all()


def test_a_stopped_run_goes_on_exactly(start, folders, tmp_path):
    straight = drawer(start, folders)
    expected = [straight.update() for _ in range(12)]
    first = drawer(start, folders)
    got = [first.update() for _ in range(7)]
    first.save(tmp_path)
    second = drawer(start, folders)
    second.load(tmp_path)
    got += [second.update() for _ in range(5)]
    assert got == expected


def test_one_command_teaches_all_tasks(start, folders, tmp_path, capsys):
    ahead = " ".join(f"--{folder.name} {folder}" for folder in dict.fromkeys(folders.values()))
    words = f"--config tiny --from {start} {ahead} --out {tmp_path} --steps 8 --eager"
    draw.main([*words.split(), "--tasks", ",".join(TASKS)])
    model = load(tmp_path / "weights")
    assert model.config.draws == TASKS
    checks = [json.loads(line) for line in (tmp_path / "checks.jsonl").read_text().splitlines()]
    said = {"picture, editing: change", "picture, depth: one photo", "picture, novel_view: visual"}
    assert said <= checks[-1].keys()
    with pytest.raises(SystemExit):
        draw.main(["--from", str(start), "--out", str(tmp_path), "--tasks", "editing"])
    assert "give --edits" in capsys.readouterr().err


def test_pairs_come_back_from_their_tensors():
    some = pairs(split_seeds("val", 5, 3), "bare")
    again = Pairs.of(some.tensors())
    assert torch.equal(again.photos, some.photos) and torch.equal(again.caption[2], some.caption[2])
    assert len(some[:2]) == 2
    assert pose_words(some.relative[0]) == nearest(some.pose)[0].tolist()


def test_depth_survives_the_autoencoder():
    """What is lost on the way is far less than what counts as wrong, a quarter."""
    true = pairs(split_seeds("val", 0, 32)).depth
    held = autoencoder()
    shown = depths.as_pictures(true)
    there_and_back = depths.from_pictures(shown.float() / 255) / true.clamp(depths.NEAR, depths.FAR)
    assert (there_and_back - 1).abs().max() < 0.01
    latents = patches(held.encode(shown))
    assert latents.shape[1] == TOKENS
    found = depths.from_pictures(held.decode(whole(latents)))
    ratio = torch.maximum(found / true, true / found)
    assert (ratio < 1.25).float().mean() > 0.99
    assert ((found - true).abs() / true).mean() < 0.03
