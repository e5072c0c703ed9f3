"""One object of a picture is changed: as words, as rooms, and as pixels."""

import pytest
import torch

from nano_omni import edits, plans
from nano_omni.autoencoder import autoencoder, redrawn
from nano_omni.data import split_seeds
from nano_omni.edits import edited
from nano_omni.vocabulary import INDEX
from nano_omni.world import prompts
from nano_omni.world.prompts import Change, PromptError, expected, judge, parse_change
from nano_omni.world.scene import COLOURS, SHAPES


def kind(name):
    colour, shape = name.split()
    return list(COLOURS).index(colour) * len(SHAPES) + SHAPES.index(shape)


CONE, BOX = kind("red cone"), kind("blue box")


@pytest.fixture(scope="module")
def some():
    return edited(split_seeds("val", 0, 128))


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("make the red cone green", Change("recolour", CONE, 3)),
        ("Paint the red cone green.", Change("recolour", CONE, 3)),
        ("please change the red cone to green", Change("recolour", CONE, 3)),
        ("remove the red cone", Change("remove", CONE)),
        ("take away the blue cube", Change("remove", BOX)),
        ("add a blue box left of the red cone", Change("add", BOX, None, "left of", CONE)),
        ("put a blue box to the right of the red cone", Change("add", BOX, None, "right of", CONE)),
        ("move the blue box behind the red cone", Change("move", BOX, None, "behind", CONE)),
        ("put the blue box in front of the red cone", Change("move", BOX, None, "in front of", CONE)),
    ],
)
def test_changes_are_read_and_written(said, means):
    assert parse_change(said) == means
    assert parse_change(str(means)) == means
    assert len(edits.words(means)) == edits.LENGTH


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "1 to 400 characters"),
        ("make the red cone pink", "pink"),
        ("make the red cone red", "red already"),
        ("make the red pyramid green", "pyramid"),
        ("make it nicer", "not understood"),
        ("remove a red cone", "that is there"),
        ("remove everything", "that is there"),
        ("add a blue box", "does not say where"),
        ("add the blue box left of the red cone", "a new object"),
        ("move the red cone left of itself", "itself"),
        ("move the red cone left of the red cone", "itself"),
        ("add a red cone left of the red cone", "itself"),
        ("make the red cones green", "one object at a time"),
        ("remove the red cones", "one object at a time"),
        ("remove all red cubes", '"cubes" are several'),
        ("move the red boxes left of the blue ball", '"boxes" are several'),
        ("move the blue box left of the red cones", "in relation to one other"),
        ("add two red cones left of the blue box", "one object at a time"),
        ("remove the red cone and the blue box", "one change at a time"),
        ("remove the red cone & the blue box", "one change at a time"),
        ("remove the red cone, then add a blue box left of it", "one change at a time"),
        ("<edit> remove the red cone </edit>", "not understood"),
        ("&lt;edit> remove the red cone", "not understood: '<edit> remove"),
        ("x" * 500, "1 to 400 characters"),
    ],
)
def test_what_is_no_change_is_refused_in_words(said, why):
    with pytest.raises(PromptError, match=why):
        parse_change(said)


def test_what_a_changed_picture_must_show():
    asked = expected([CONE, BOX], Change("move", CONE, None, "behind", BOX))
    assert prompts.write(asked) == "a red cone behind a blue box"
    assert prompts.write(expected([CONE, BOX], Change("remove", CONE))) == "a blue box"
    assert prompts.write(expected([CONE, BOX], Change("recolour", BOX, 0))) == "a red cone, and a red box"
    for kinds, change, why in (
        ([BOX], Change("remove", CONE), "no red cone"),
        ([CONE, CONE], Change("remove", CONE), "2 of them"),
        ([CONE], Change("remove", CONE), "0 objects"),
        ([CONE] + [BOX] * 5, Change("add", kind("white box"), None, "behind", CONE), "7 objects"),
    ):
        with pytest.raises(PromptError, match=why):
            expected(kinds, change)


def test_only_one_object_changes_and_the_rest_of_the_room_stays(some):
    assert {one.what for one in some.changes} == set(prompts.WHATS)
    for found, asked in zip(some.found, some.compositions, strict=True):
        assert judge(asked, found).success
    same = (some.before.int() - some.after.pictures.int()).abs().amax(1) <= 8
    assert same[~some.mask].float().mean() > 0.96  # all but shadows
    assert not same[some.mask].float().mean() > 0.5


def test_the_words_are_those_of_the_change(some):
    assert [edits.words(one) for one in some.changes] == some.after.prompt.tolist()
    assert some.after.think()[0].shape == (len(some), plans.THINK_LENGTH)
    recoloured = next(one for one in some.changes if one.what == "recolour")
    words = edits.words(recoloured)
    assert words[1] == INDEX["recolour"] and words[4] == plans.NONE


def test_a_picture_is_redrawn_only_where_its_latents_show_something_else(some):
    held, before = autoencoder(), some.before[:16]
    old, new = held.encode(before), held.encode(some.after.pictures[:16])
    again = redrawn(held, before, old, old)
    assert torch.equal(again, before)
    nearly = redrawn(held, before, old, old + 0.01 * torch.randn(old.shape))
    assert torch.equal(nearly, before)  # what a model says a little wrong, round after round, is not drawn
    changed = redrawn(held, before, old, new)
    wrong = (changed.int() - some.after.pictures[:16].int()).abs().float().mean()
    assert wrong < 0.3 * (before.int() - some.after.pictures[:16].int()).abs().float().mean()
    kept = ((changed.int() - before.int()).abs().amax(1) <= 8)[~some.mask[:16]].float().mean()
    assert kept > 0.95
