"""The verifier: labels say where things are, chances are what they say they are, wrong pictures are wrong."""

import json
import random
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from nano_omni.closer import PLANES, Outline, cut_out
from nano_omni.closer import SIDE as SAMPLES
from nano_omni.data import split_seeds
from nano_omni.training import closer
from nano_omni.training.descent import descend
from nano_omni.training.spoiling import spoil
from nano_omni.training.verifier import batches, label, losses, train
from nano_omni.training.verifying import Wrong, share, shown
from nano_omni.verifier import Detector, Limits, Maps, Verifier, load
from nano_omni.world.camera import intrinsics
from nano_omni.world.prompts import MOST, Found, draw, judge, parse, stage
from nano_omni.world.prompts.chances import Maybe, chances
from nano_omni.world.render import render
from nano_omni.world.scene import COLOURS, SHAPES

KINDS = len(COLOURS) * len(SHAPES)


def kind(colour, shape):
    return list(COLOURS).index(colour) * len(SHAPES) + SHAPES.index(shape)


def certain(colour, shape, bearing, distance, there=1.0):
    return Maybe(there, [float(k == kind(colour, shape)) for k in range(KINDS)], bearing, distance)


# -------------------------------------------------------------------------------------------- labels


def test_what_the_labels_say_is_enough_to_judge_every_room_rightly():
    """A detector that said just what it is taught would be right on every room, crowded ones included."""
    seeds = split_seeds("val", 0, 80)
    asked = draw(seeds, MOST)
    staged = stage(asked, seeds)
    true = label(staged.scene, staged.c2w)
    certainty = torch.where(true.middle > 0, 9.0, torch.where(true.near, -3.0, -9.0))
    certainty = certainty + 0.1 * torch.rand(certainty.shape, generator=torch.Generator().manual_seed(0))
    names = (
        20.0 * F.one_hot(of, count).permute(0, 3, 1, 2)
        for of, count in ((true.colour, len(COLOURS)), (true.shape, len(SHAPES)))
    )
    said = Verifier(Detector()).read(Maps(certainty, *names, true.bearing, true.log_distance))
    for i, composition in enumerate(asked):
        if staged.valid[i]:
            assert judge(composition, [one.found for one in said[i] if one.there > 0.5]).success


def test_training_gets_better_and_depends_on_its_seed_alone():
    how = {"compiled": False, "say": lambda _: None, "several": 64, "every": 10}
    first, curve = train(20, 8, **how)
    assert [line["step"] for line in curve] == [10, 20] and set(curve[0]) >= {"there", "colour", "distance"}
    again, _ = train(20, 8, **how)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    true = next(batches(32, 64))
    with torch.no_grad():
        after, before = (losses(net(true.pictures), true) for net in (first, Detector()))
    assert after["there"] < 0.95 * before["there"] and after["colour"] < before["colour"]


def test_a_closer_look_is_trained_on_the_shapes_that_are_hard_to_tell_and_depends_on_its_seed_alone():
    how = {"compiled": False, "say": lambda _: None, "several": 32, "every": 4}
    (first, curve), (again, _) = (closer.train_outline(6, 16, **how) for _ in range(2))
    assert [line["step"] for line in curve] == [4, 6], "the last one is noted too"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    true = closer.draw(0, 128)
    hard = torch.isin(true.shape, torch.tensor([SHAPES.index("box"), SHAPES.index("cylinder")]))
    assert 0.7 < hard.float().mean() < 0.9 and set(true.shape.tolist()) == set(range(len(SHAPES)))
    assert true.which.max() < 128 and (true.distance > 1.3).all() and (true.bearing.abs() < 0.7).all()


def test_going_down_ends_where_the_seconds_are_over():
    weight = torch.nn.Parameter(torch.tensor(1.0))
    optimizer, lines = torch.optim.SGD([weight], 0.1), []
    curve = descend([optimizer], lambda: {"square": weight.square()}, 100, lines.append, 30)
    assert [line["step"] for line in curve] == [30, 60, 90, 100] and len(lines) == 4
    assert curve[-1]["square"] < curve[0]["square"] and optimizer.param_groups[0]["lr"] < 0.01
    none = descend([optimizer], lambda: {"square": weight.square()}, 100, lines.append, 30, seconds=1e-9)
    assert none == [] or none[-1]["step"] < 100


def test_a_closer_look_at_a_mirrored_picture_is_mirrored():
    true = next(batches(16, 64)).pictures
    which, bearing = torch.arange(16), torch.linspace(-0.6, 0.6, 16)
    distance = torch.linspace(1.4, 3.6, 16)
    cut = cut_out(true, which, bearing, distance)
    assert cut.shape == (16, PLANES, SAMPLES, SAMPLES)
    assert torch.allclose(cut_out(true.flip(-1), which, -bearing, distance), cut.flip(-1), atol=2e-3)


def test_a_closer_look_shows_objects_near_and_far_in_one_size():
    """Each cut-out is filled by its object alike, wherever that stands: ids in place of colours tell."""
    asked = [parse("a red sphere")] * 40
    staged = stage(asked, split_seeds("val", 0, 40))
    lens = intrinsics(64, 64)
    ids = render(staged.scene, staged.c2w, lens, 64, 64).ids[:, 0]
    true = [staged.found(i)[0] for i in range(40)]
    bearing, distance = (
        torch.tensor([getattr(one, name) for one in true]) for name in ("bearing", "distance")
    )
    pictures = (ids > 0).float()[:, None].expand(-1, 3, -1, -1)
    cut = cut_out(pictures, torch.arange(40), bearing, distance)
    red = (cut[:, 0] + 1) / 2
    filled = red.mean((1, 2)) / staged.scene.radius[:, 0].square()  # a sphere's share goes by its radius
    assert distance.max() > 2 * distance.min()
    assert filled.std() < 0.15 * filled.mean()
    assert (red[:, :, SAMPLES // 2].sum(1) > 0).all(), "the object stands in the middle"


def test_spoiled_pictures_stay_near_what_they_were():
    pictures = next(batches(32, 64)).pictures
    changed = spoil(pictures, torch.Generator().manual_seed(0), redrawn=lambda some: 1 - some)
    away = (changed - pictures).abs().flatten(1).mean(1)
    assert (away[:16] == 0).all(), "half of them as they are"
    assert torch.allclose(changed[16:24], 1 - pictures[16:24], atol=1e-6), "a part by whoever draws again"
    assert (away[24:] > 0).all() and (away[24:] < 0.1).all() and changed.min() >= 0 and changed.max() <= 1


# ------------------------------------------------------------------------------------------- chances


def test_chances_are_those_of_many_pictures_drawn_from_what_could_be():
    asked = parse("two red cones left of a blue box, and the blue box behind a green sphere")
    rng = random.Random(0)
    kinds = [kind("red", "cone"), kind("blue", "box"), kind("green", "sphere")]

    def mixed(of, there, bearing, distance):
        return Maybe(
            there, [0.85 if k == of else 0.15 / (KINDS - 1) for k in range(KINDS)], bearing, distance
        )

    maybe = [
        mixed(kinds[0], 0.9, -0.4, 2.0),
        mixed(kinds[0], 0.8, 0.08, 2.5),
        mixed(kinds[1], 0.95, 0.1, 2.4),
        mixed(kinds[2], 0.7, 0.3, 2.3),
        mixed(kinds[0], 0.1, 0.5, 3.0),
    ]
    blur, trials = (0.03, 0.05), 4_000
    met = [0] * len(asked.atoms())
    for _ in range(trials):
        found = []
        for one in maybe:
            if rng.random() < one.there:
                of = rng.choices(range(KINDS), one.kinds)[0]
                far = one.distance * pow(2.718281828, rng.gauss(0, blur[1]))
                found.append(Found(of, one.bearing + rng.gauss(0, blur[0]), far))
        for k, holds in enumerate(judge(asked, found).holds):
            met[k] += holds
    counted = [n / trials for n in met]
    assert chances(asked, maybe, blur) == pytest.approx(counted, abs=0.04)


def test_where_nothing_is_seen_nothing_is_there():
    asked = parse("a red cone left of a blue box")
    assert set(chances(asked, [], (0.01, 0.02))) == {0.0}


def test_what_is_certain_is_certain():
    asked = parse("a red cone left of a blue box")
    maybe = [certain("red", "cone", -0.3, 2), certain("blue", "box", 0.3, 2)]
    assert chances(asked, maybe, (0.01, 0.02)) == pytest.approx([1] * 7, abs=1e-6)
    swapped = [certain("red", "cone", 0.3, 2), certain("blue", "box", -0.3, 2)]
    assert chances(asked, swapped, (0.01, 0.02)) == pytest.approx([1] * 6 + [0], abs=1e-6)
    twice = [*maybe, certain("red", "cone", -0.5, 3)]
    assert chances(asked, twice, (0.01, 0.02))[2] == 0, "two, where one was asked for"


# ---------------------------------------------------------------------------------------- measuring


@pytest.mark.parametrize("wrong", [None, *get_args(Wrong)])
def test_pictures_to_measure_with_are_right_or_wrong_as_they_say(wrong):
    some = shown("test", 0, 24, wrong)
    assert some.pictures.shape == (len(some.compositions), 3, 64, 64) and some.pictures.dtype == torch.uint8
    assert len(some.compositions) > 8
    assert all(verdict.success == (wrong is None) for verdict in some.verdicts)
    if wrong in ("one too many", "turned round"):
        sizes = [sum(group.count for group in c.groups) for c in some.compositions]
        more = int(wrong == "one too many")
        assert all(len(found) == size + more for found, size in zip(some.found, sizes, strict=True))


def test_a_share_has_the_interval_of_wilson():
    assert share([True] * 10) == {"share": 100.0, "low": 72.25, "high": 100.0, "n": 10}
    half = share([True, False] * 50)
    assert (
        half["share"] == 50 and half["low"] == pytest.approx(40.38) and half["high"] == pytest.approx(59.62)
    )
    assert share([]) == {"n": 0}


# --------------------------------------------------------------------------------------- a verifier


def test_it_is_saved_and_loaded_with_its_limits(tmp_path):
    limits = Limits(0.35, 1.25, -0.5, 0.0125, 0.03125, 0.75)
    made = Verifier(Detector(), Outline(), limits)
    made.save(tmp_path / "v.safetensors")
    again = load(tmp_path / "v.safetensors")
    assert vars(again.limits) == pytest.approx(vars(limits))
    before, after = (
        one.detector.state_dict() | {f"outline.{k}": v for k, v in one.outline.state_dict().items()}
        for one in (made, again)
    )
    assert all(torch.equal(after[name], before[name].bfloat16().float()) for name in before)


@pytest.mark.parametrize(
    "pictures",
    [
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
        torch.zeros(1, 64, 64, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 64, 64),
    ],
)
def test_pictures_of_another_kind_are_refused(pictures):
    with pytest.raises(ValueError, match=r"uint8 \(N, 3, 64, 64\)"):
        Verifier(Detector()).look(pictures)


def test_as_many_compositions_as_pictures():
    with pytest.raises(ValueError, match="2 pictures and 1 compositions"):
        Verifier(Detector()).verdicts(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), [parse("a red box")])


# ------------------------------------------------------------------------------ the one that comes along


@pytest.fixture(scope="module")
def judge_():
    from nano_omni.verifier import verifier

    return verifier()


def test_it_sees_what_a_room_shows(judge_):
    some = shown("test", 5000, 150)
    right = [verdict.success for verdict in judge_.verdicts(some.pictures, some.compositions)]
    assert sum(right) >= 0.94 * len(right)
    seen, true = judge_.look(some.pictures[:1])[0], some.found[0]
    assert sorted(one.kind for one in seen) == sorted(one.kind for one in true)
    for one in seen:
        other = min(true, key=lambda t: abs(t.bearing - one.bearing))
        assert abs(one.bearing - other.bearing) < 0.05 and one.distance == pytest.approx(
            other.distance, rel=0.15
        )


def test_it_is_as_sure_of_shapes_as_it_is_right(judge_):
    """Of the objects it sees, the share of the shapes that are right is near what it says of them."""
    sure, right = [], []
    some = shown("test", 6000, 150)
    rough = spoil(some.pictures.float() / 255, torch.Generator().manual_seed(0))
    for maybe, true in zip(judge_.maybe((rough * 255).round().to(torch.uint8)), some.found, strict=True):
        for one in maybe:
            near = [t for t in true if abs(t.bearing - one.bearing) < 0.03]
            if one.there > 0.5 and len(near) == 1:
                shapes = torch.tensor(one.kinds).view(len(COLOURS), len(SHAPES)).sum(0)
                sure.append(shapes.max().item())
                right.append(int(shapes.argmax()) == near[0].kind % len(SHAPES))
    assert len(right) > 300
    assert sum(right) / len(right) == pytest.approx(sum(sure) / len(sure), abs=0.02)


@pytest.mark.parametrize("wrong", get_args(Wrong))
def test_it_says_so_where_one_thing_is_wrong(judge_, wrong):
    some = shown("test", 5000, 60, wrong)
    passed = [verdict.success for verdict in judge_.verdicts(some.pictures, some.compositions)]
    assert sum(passed) <= 0.1 * len(passed)


def test_a_picture_is_judged_alike_whatever_its_batch_mates(judge_):
    some = shown("test", 5000, 12)
    together = judge_.chances(some.pictures, some.compositions)
    alone = judge_.chances(some.pictures[3:4], some.compositions[3:4])
    assert together[3] == pytest.approx(alone[0], abs=1e-4)


def test_training_for_no_steps_or_no_time_is_refused(capsys, tmp_path):
    from nano_omni.training.verifier import main

    for wrong in (["--closer-steps", "0"], ["--closer-seconds", "0"], ["--batch", "-1"]):
        with pytest.raises(SystemExit):
            main([*wrong, "--out", str(tmp_path / "v.safetensors")])
        assert "above 0" in capsys.readouterr().err


def test_no_pictures_and_no_objects(judge_):
    assert judge_.look(torch.zeros(0, 3, 64, 64, dtype=torch.uint8)) == []
    some = shown("test", 5000, 2)
    assert judge_.judged(some.pictures, some.compositions)[0][0] in judge_.verdicts(
        some.pictures, some.compositions
    )


def test_noise_and_plain_colours_show_nothing_that_was_asked_for(judge_):
    noise = torch.randint(
        0, 256, (8, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    plain = torch.arange(0, 256, 32, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 3, 64, 64)
    asked = [parse("a red cone")] * 16
    assert not any(verdict.success for verdict in judge_.verdicts(torch.cat([noise, plain]), asked))


def test_its_measurements_come_along(judge_):
    from nano_omni.verifier import FILE, measured

    held = measured()
    assert json.loads(FILE.with_suffix(".json").read_text()) == held
    assert vars(judge_.limits) == pytest.approx(held["limits"], abs=1e-3)
    assert set(held["wrong"]) == set(get_args(Wrong)) and held["right"]["n"] >= 2000
