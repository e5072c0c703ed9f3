"""Compositional prompts: words to constraints, constraints to rooms, rooms to verdicts."""

import pytest
import torch

from nano_omni.world.camera import intrinsics
from nano_omni.world.prompts import (
    Composition,
    Found,
    Group,
    PromptError,
    draw,
    judge,
    parse,
    stage,
    write,
)
from nano_omni.world.render import render
from nano_omni.world.scene import COLOURS, SHAPES


def kind(colour, shape):
    return list(COLOURS).index(colour) * len(SHAPES) + SHAPES.index(shape)


def test_a_prompt_is_groups_and_how_they_stand():
    asked = parse("Two red cones to the left of a blue cube, and the blue box is behind a green ball.")
    assert asked.groups == (
        Group(2, kind("red", "cone")),
        Group(1, kind("blue", "box")),
        Group(1, kind("green", "sphere")),
    )
    assert asked.relations == ((0, "left of", 1), (1, "behind", 2))
    assert write(asked) == "two red cones left of a blue box, and the blue box behind a green sphere"


def test_what_is_drawn_can_be_written_and_read_back():
    for most in (1, 3, 6):
        for composition in draw(torch.arange(2000), most):
            assert sum(group.count for group in composition.groups) <= most
            again = parse(write(composition))
            assert set(again.groups) == set(composition.groups)
            assert len(again.atoms()) == len(composition.atoms())
            assert write(again) == write(composition)


def test_every_constraint_is_asked_once():
    atoms = parse("three red cones in front of an orange box").atoms()
    assert [(atom.skill, atom.question, atom.answer) for atom in atoms] == [
        ("object", "Is there a cone?", "yes"),
        ("attribute", "Is there a red cone?", "yes"),
        ("count", "How many red cones are there?", "3"),
        ("object", "Is there a box?", "yes"),
        ("attribute", "Is there an orange box?", "yes"),
        ("count", "How many orange boxes are there?", "1"),
        ("position", "Are the red cones in front of the orange box?", "yes"),
    ]


@pytest.mark.parametrize("texture", ["plain", "rich"])
def test_a_staged_room_shows_what_was_asked_and_no_more(texture):
    seeds = torch.arange(300, 364)
    compositions = draw(seeds, most=5)
    staged = stage(compositions, seeds, texture)
    assert staged.valid.float().mean() > 0.9
    ids = render(staged.scene, staged.c2w, intrinsics(64, 64), 64, 64).ids[:, 0]
    for i in staged.valid.nonzero()[:, 0].tolist():
        verdict = judge(compositions[i], staged.found(i))
        assert verdict.success, write(compositions[i])
        shown = set(ids[i].unique().tolist()) - {0}
        assert len(shown) == sum(group.count for group in compositions[i].groups)


def test_a_room_follows_from_its_seed_and_its_words_alone():
    seeds = torch.arange(40, 48)
    compositions = draw(seeds)
    together, alone = stage(compositions, seeds), stage(compositions[3:4], seeds[3:4])
    assert torch.equal(together.scene.position[3], alone.scene.position[0])
    assert not torch.equal(together.scene.position[3], stage(compositions[3:4], seeds[4:5]).scene.position[0])


def test_a_verdict_names_what_fails():
    asked = parse("two red cones left of a blue box")
    cone, box = kind("red", "cone"), kind("blue", "box")
    good = [Found(cone, -0.4, 2.0), Found(cone, -0.2, 3.0), Found(box, 0.1, 2.0)]
    assert judge(asked, good).success

    def failing(found):
        verdict = judge(asked, found)
        skills = zip(asked.atoms(), verdict.holds, strict=True)
        return [atom.skill for atom, holds in skills if not holds], verdict.extras

    assert failing(good[1:]) == (["count"], 0)
    assert failing([*good, Found(cone, -0.3, 2.5)]) == (["count"], 1)
    assert failing([*good[:2], Found(box, -0.3, 2.0)]) == (["position"], 0)
    assert failing([*good, Found(kind("white", "sphere"), 0.5, 2.0)]) == ([], 1)
    assert failing(good[:2]) == (["object", "attribute", "count", "position"], 0)
    blue_cones = [Found(kind("blue", "cone"), f.bearing, f.distance) for f in good[:2]]
    assert failing([*blue_cones, good[2]]) == (["attribute", "count", "position"], 2)
    assert judge(asked, []).holds == (False,) * 7


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "1 to 400 characters"),
        ("a red cone " * 60, "1 to 400 characters"),
        ("ten red cones", "1 to 6 objects"),
        ("0 red cones", "1 to 6 objects"),
        ("four red cones and three blue boxes", "7 objects"),
        ("a crimson cone", "crimson"),
        ("a gren cone", "did you mean green"),
        ("a red pyramid", "pyramid"),
        ("a red cilinder", "did you mean cylinder"),
        ("red cones", "say how many"),
        ("some red cones", '"some" is not known'),
        ("the red cone", "was not named before"),
        ("a red cone left of a red cone", "counted twice"),
        ("a red cone left of the red cone", "left of itself"),
        ("a red cone left of a blue box, and the red cone right of the blue box", "contradicts itself"),
        (
            "a red cone behind a blue box, the blue box behind a cyan box, the cyan box behind the red cone",
            "contradicts itself",
        ),
        ("a red cone left of a blue box behind a cyan box", "two ways"),
        ("a red cone beside a blue box", "not understood"),
        ("a red cone left of itself", "behind itself"),
        ("two red cones, and the red cone left of a blue box", 'two red cones: say "the red cones"'),
        ("a red cone, the red cones behind a blue box", 'there is a red cone: say "the red cone"'),
        ("two orange cubes behind a red cone, the red cone left of the orange cube", '"the orange boxes"'),
        ("a red cones left of a blue box", 'one or more? Say "a red cone"'),
        ("two cubes", 'which colour are the "cubes"? There are red, orange'),
        ("a red cone left of a cube", 'which colour is the "cube"? There are red, orange'),
        ("the cone", 'which colour is the "cone"?'),
        ("two red", '"two red": which shape? There are sphere, box'),
        ("a cilinder", '"cilinder" is not known here: did you mean cylinder?'),
        ("a red cone and", 'something is missing after "and"'),
        ("a red cone, and", 'something is missing after ", and"'),
        ("a red cone, , a blue box", 'something is missing after ","'),
        ("left of", 'something is missing before "left of"'),
        ("a red cone left of", 'something is missing after "left of"'),
        (", and ,", 'something is missing before ", and"'),
        (".", '"." is not understood'),
        ("&lt;draw> a red cone", '"<draw> a red cone" is not understood'),
    ],
)
def test_a_prompt_that_cannot_be_shown_says_why(prompt, says):
    with pytest.raises(PromptError) as refused:
        parse(prompt)
    assert says in str(refused.value)


def test_relations_may_be_said_twice_and_across():
    asked = parse(
        "a red cone left of a blue box, the blue box right of the red cone, the red cone behind the blue box,"
        " the red cone left of the blue box, the blue box in front of the red cone"
    )
    assert write(asked) == "a red cone left of a blue box, and the red cone behind the blue box"
    assert [atom.skill for atom in asked.atoms()].count("position") == 2
    staged = stage([asked], torch.tensor([5]))
    assert staged.valid.all() and judge(asked, staged.found(0)).success


def test_compositions_made_by_hand_are_checked_alike():
    with pytest.raises(ValueError, match="1 to 6"):
        Composition(())
    with pytest.raises(ValueError, match="compositions and 2 seeds"):
        stage([parse("a red cone")], torch.arange(2))
