"""Questions against brute-force geometry, one scene at a time in numpy."""

import itertools
import math

import numpy as np
import pytest
import torch

from nano_omni import language, vocabulary
from nano_omni.data import SPLITS
from nano_omni.world import intrinsics, render, sample_scenes
from nano_omni.world.questions import FORMS, HOPS, ask
from nano_omni.world.questions.chains import CHOICES
from nano_omni.world.questions.comparing import MARGIN
from nano_omni.world.scene import SHAPES
from nano_omni.world.sight import HIDDEN, SEEN, relative_pose, sight, viewpoints


@pytest.fixture(scope="module")
def asked():
    scene = sample_scenes(torch.arange(160))
    c2w = viewpoints(scene)
    seen = sight(scene, c2w, render(scene, c2w, intrinsics(32, 32), 32, 32).ids)
    return scene, c2w, seen, {form: ask(seen, form) for form in FORMS}


def quadrant(stand: np.ndarray, towards: np.ndarray, target: np.ndarray, hops: int) -> str:
    """In world coordinates, by dot and cross product."""
    gaze, away = towards / np.linalg.norm(towards), target - stand
    ahead = float(gaze @ away)
    right = float(gaze[1] * away[0] - gaze[0] * away[1])  # world z is up
    if hops == 1:
        return ("front" if ahead > 0 else "back") + ("-right" if right > 0 else "-left")
    if abs(ahead) > abs(right):
        return "front" if ahead > 0 else "behind"
    return "right" if right > 0 else "left"


@pytest.mark.parametrize("hops", HOPS)
def test_answers_agree_with_plain_geometry(asked, hops):
    scene, c2w, _, questions = asked
    q = questions[hops]
    chosen = q.valid.nonzero()[:, 0].tolist()
    assert len(chosen) > 60
    for i in chosen:
        where = scene.position[i].numpy()[q.objects[i].numpy()].astype(float)
        camera = c2w[i, 0].numpy().astype(float)
        if hops == 1:
            stand, towards = camera[:2, 3], camera[:2, 2]
        else:
            towards = where[1] - where[0]
            stand = where[0] if hops == 2 else where[2] + (towards if hops == 4 else 0)
        assert CHOICES[hops][q.answer[i]] == quadrant(stand, towards, where[-1], hops)


@pytest.mark.parametrize("hops", HOPS)
def test_both_photos_are_needed(asked, hops):
    _, _, seen, questions = asked
    q = questions[hops]
    for i in q.valid.nonzero()[:, 0].tolist():
        named = seen.shares[i][:, q.objects[i]]  # (2, n)
        assert (named.amax(0) >= SEEN).all()
        assert (named[0] <= HIDDEN).any()
        assert hops == 1 or (named[1] <= HIDDEN).any()
        assert len(set(q.objects[i].tolist())) == q.objects.shape[1]


def test_the_trace_leads_to_the_answer(asked):
    *_, seen, questions = asked
    for hops in HOPS:
        q = questions[hops]
        i = int(q.valid.nonzero()[0])
        place = seen.place[i][q.objects[i]].numpy()
        if hops > 1:
            gaze = place[1] - place[0]
            assert math.isclose(q.face[i], math.atan2(gaze[0], gaze[1]), abs_tol=1e-4)
        away = place[-1] - q.stand[i].numpy()
        assert math.isclose(q.to[i], math.atan2(away[0], away[1]), abs_tol=1e-4)


def test_an_object_of_photo_2_moves_into_camera_1_by_the_pose(asked):
    _, c2w, seen, _ = asked
    place, turned = relative_pose(c2w)
    angle = seen.bearing[:, 1] + turned[:, None]
    away = seen.distance[:, 1, :, None] * torch.stack([angle.sin(), angle.cos()], -1)
    there = seen.seen[:, 1]
    assert torch.allclose((place[:, None] + away)[there], seen.place[there], atol=0.02)  # almost level


def test_walls_at_right_angles_say_how_far_the_camera_turned_but_for_quarters(asked):
    _, c2w, seen, _ = asked
    _, turned = relative_pose(c2w)
    rest = torch.remainder(seen.walls[:, 0] - seen.walls[:, 1] - turned + 0.1, math.pi / 2) - 0.1
    assert rest.abs().max() < 0.02


def test_a_scene_asks_the_same_whatever_its_batch(asked):
    *_, seen, questions = asked
    some = torch.tensor([7, 31])
    again = ask(seen[some], 3)
    assert torch.equal(again.objects, questions[3].objects[some])
    assert torch.equal(again.answer, questions[3].answer[some])


def test_answers_are_balanced_and_splits_never_meet():
    scene = sample_scenes(torch.arange(3000, 5000))
    c2w = viewpoints(scene)
    seen = sight(scene, c2w, render(scene, c2w, intrinsics(16, 16), 16, 16).ids)
    for form in FORMS:
        q = ask(seen, form)
        count = len(q.choices(0))
        share = q.answer[q.valid].bincount(minlength=count) / q.valid.sum()
        assert q.valid.float().mean() > (0.3 if form == "count" else 0.5)
        assert ((share - 1 / count).abs() < 0.05).all(), (form, share)
    bounds = sorted(SPLITS.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(bounds))


def test_words_say_what_the_numbers_are(asked):
    _, c2w, seen, questions = asked
    q = questions[4]
    i = int(q.valid.nonzero()[0])
    low, high, share = language.think(q, language.objects(seen))
    assert low.shape == (len(q.valid), language.think_length(4)) and len(language.roles(4)) == low.shape[1]
    text = [vocabulary.TOKENS[word] for word in vocabulary.nearest((low, high, share))[i]]
    assert text[0] == "<think>" and text[-1] == "</think>" and text[1] in q.text(i)
    assert (
        abs(
            (float(text[3][:-3]) - math.degrees(seen.there(seen.bearing)[i, q.objects[i, 0]]) + 180) % 360
            - 180
        )
        <= 3.76
    )
    assert abs(float(text[4][:-1]) - seen.there(seen.distance)[i, q.objects[i, 0]]) <= 0.126
    assert [vocabulary.TOKENS[w] for w in language.question(q)[i]][-1] in q.text(i)
    assert language.pose(c2w)[0].shape == (len(q.valid), language.POSE_LENGTH)


def test_an_unknown_number_of_hops(asked):
    with pytest.raises(ValueError, match="questions are of 1, 2, 3, 4, count, compare"):
        ask(asked[2], 5)


def test_of_three_photos_none_can_be_left_out():
    scene = sample_scenes(torch.arange(400))
    c2w = viewpoints(scene, 3)
    seen = sight(scene, c2w, render(scene, c2w, intrinsics(16, 16), 16, 16).ids)
    for hops in (3, 4):
        q = ask(seen, hops)
        chosen = q.valid.nonzero()[:, 0].tolist()
        assert len(chosen) > 50
        for i in chosen:
            named = seen.shares[i][:, q.objects[i]]  # (3, n)
            for photo in range(3):
                left = named[torch.arange(3) != photo]
                assert (left <= HIDDEN).all(0).any()  # an object is lost with it
        share = q.answer[q.valid].bincount(minlength=4) / q.valid.sum()
        assert (share > 0.1).all()
    with pytest.raises(ValueError, match="two or three"):
        viewpoints(scene, 4)


def test_what_both_photos_show_counts_once_and_neither_shows_all(asked):
    scene, _, seen, questions = asked
    q = questions["count"]
    for i in q.valid.nonzero()[:, 0].tolist():
        shape = int(q.shape[i])
        shows = [
            {
                name
                for k, name in enumerate(scene.names(i))
                if name.endswith(SHAPES[shape]) and seen.seen[i, v, k]
            }
            for v in range(2)
        ]
        assert len(shows[0] | shows[1]) == q.answer[i]
        assert q.answer[i] < 2 or max(map(len, shows)) < q.answer[i]
        listed = [scene.names(i)[k] for k in q.listed[i].tolist() if k >= 0]
        assert len(listed) == q.answer[i] and set(listed) == shows[0] | shows[1]


def test_the_nearer_one_is_nearer(asked):
    scene, _, seen, questions = asked
    q = questions["compare"]
    chosen = q.valid.nonzero()[:, 0].tolist()
    assert len(chosen) > 60
    for i in chosen:
        a, b, c = scene.position[i].numpy()[q.objects[i].numpy()].astype(float)
        far = [np.linalg.norm(b - a), np.linalg.norm(c - a)]
        assert q.answer[i] == np.argmin(far) and abs(far[0] - far[1]) > MARGIN - 1e-4
        shown = seen.shares[i][:, q.objects[i]]
        assert (shown <= HIDDEN).any(1).all()
        assert q.text(i).count("the ") == 3 and q.choices(i)[int(q.answer[i])] in q.text(i)
