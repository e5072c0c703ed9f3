"""Captions, imagined views and visual tokens: what photos show, and do not show, in words."""

import math

import numpy as np
import pytest
import torch

from nano_omni import captions, language, views, visual
from nano_omni.config import CONFIGS
from nano_omni.data import rooms, split_seeds
from nano_omni.vocabulary import CODE_0, CODES, INDEX, OBJECTS, TOKENS, nearest
from nano_omni.world import intrinsics, render, sample_scenes
from nano_omni.world.camera import relative
from nano_omni.world.sight import angle, level_frame, sight, viewpoints

SEEDS = split_seeds("val", 0, 48)


@pytest.fixture(scope="module")
def seen():
    scene = sample_scenes(SEEDS)
    c2w = viewpoints(scene)
    return scene, sight(scene, c2w, render(scene, c2w, intrinsics(64, 64), 64, 64).ids)


@pytest.fixture(scope="module")
def held():
    return rooms(SEEDS, CONFIGS["tiny"])


def said(ids):
    return [TOKENS[k] for k in ids.tolist()]


def test_a_caption_tells_of_every_object_that_a_photo_shows_and_of_no_other(seen, held):
    scene, what = seen
    for i, ids in enumerate(nearest(held.caption)):
        words = said(ids)
        assert len(words) == captions.CAPTION_LENGTH
        assert (words[0], words[-1]) == ("<caption>", "</caption>")
        told = [words[k] for k in range(1 + captions.NAME, len(words) - 1, language.OBJECT_LENGTH)]
        shown = {name for k, name in enumerate(scene.names(i)) if what.known[i, k]}
        assert {name for name in told if name != "none"} == shown
        assert told[len(shown) :] == ["none"] * (6 - len(shown))
        photos = [words[k] for k in range(1, len(words) - 1, 6) if words[k] != "none"]
        assert photos == sorted(photos)  # those of photo 1 first


def test_a_depth_caption_tells_the_nearest_first(held):
    for ids in nearest(held.depth_caption):
        words = [word for word in said(ids)[1:-1] if word != "none"]
        far = [float(word[:-1]) for word in words[::2]]
        assert far == sorted(far) and set(words[1::2]) <= {*OBJECTS}


def test_a_caption_is_read_by_people_without_its_end_and_put_back_whole(held):
    inside = nearest(held.caption)[0, 1:-1].tolist()
    short = captions.plain(inside)
    assert TOKENS[short[-1]] != "none" and captions.filled(short, len(inside)) == inside
    with pytest.raises(ValueError, match="37 words"):
        captions.filled([0] * 37, 36)


def test_a_drawn_picture_is_read_back_exactly():
    tokens = torch.randint(0, CODES, (9, visual.GRID**2), generator=torch.Generator().manual_seed(0))
    book = visual.codebook()
    pictures = book.draw(tokens)
    assert pictures.shape == (9, 3, 64, 64) and pictures.dtype == torch.uint8
    assert torch.equal(book.read(pictures), tokens)


def test_visual_tokens_name_what_fills_their_patch(seen):
    scene, what = seen
    views_of = render(scene, what.c2w, intrinsics(64, 64), 64, 64)
    images, ids = views_of.images[:, 0].permute(0, 3, 1, 2), views_of.ids[:, 0]
    tokens = visual.codebook().tokens(images, ids, what.kind)
    names = visual.object_of(tokens)
    for i in range(len(scene)):
        for patch in range(16):
            row, column = divmod(patch, 4)
            inside = ids[i, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16].flatten().tolist()
            counts = [inside.count(k + 1) / 256 for k in range(6)]
            most = int(np.argmax(counts))
            expected = int(what.kind[i, most]) if counts[most] >= visual.FILLS else -1
            assert names[i, patch] == expected
    drawn = visual.codebook().draw(tokens).float() / 255
    assert (drawn - images).abs().mean() < 0.12  # a sketch of it, not noise


def test_a_view_to_the_side_shows_what_lies_there(seen, held):
    """An object of the true view to the left lies, from camera 1, 75 degrees give or take 45 to the left."""
    _, what = seen
    bearing = angle(level_frame(what.c2w, seen[0].position))[:, 0]
    found = 0
    for i in range(len(held)):
        for k, side in enumerate((-1, 1)):
            words = held.views[i, k]
            assert said(words[:4]) == ["<view>", "photo1", ("left", "right")[k], "75deg"]
            for kind in set(visual.object_of(words[4:-1] - CODE_0).tolist()) - {-1}:
                at = what.kind[i].tolist().index(kind)
                off = math.degrees(abs(float(bearing[i, at]) - side * math.radians(75)))
                assert min(off, 360 - off) < 45 + 25  # its middle may lie beyond the edge
                found += 1
    assert found > 40


@pytest.mark.parametrize("look", views.LOOKS)
def test_a_camera_that_turns_stays_where_it_is(seen, look):
    _, what = seen
    first = what.c2w[:, 0]
    turned = views.looking(first, [look] * len(first), torch.full((len(first),), 30.0))
    assert torch.equal(turned[:, :3, 3], first[:, :3, 3])
    ahead = relative(first, turned)[:, :3, 2]  # where it looks, in the frame of the photo
    axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}[look]
    assert (sign * ahead[:, axis] > 0.4).all()
    assert torch.allclose(views.turned(look, 30.0)[:3, 2].float(), ahead.mean(0), atol=0.05)


def test_views_are_asked_for_and_read_in_words():
    words = views.words(1, "up", 30.0, range(16))
    assert len(words) == views.LENGTH and words[0] == INDEX["<view>"]
    assert [TOKENS[k] for k in words[1:5]] == ["photo2", "up", "30deg", "<v0>"]
