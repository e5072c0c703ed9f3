"""Prompts, thoughts, plans and roll-outs of pictures as words."""

import pytest
import torch

from nano_omni import plans
from nano_omni.data import split_seeds
from nano_omni.pictures import in_files, pictures, save, varied
from nano_omni.visual import object_of
from nano_omni.vocabulary import CODE_0, CODES, INDEX, SIZE, TOKENS, nearest
from nano_omni.world import prompts


@pytest.fixture(scope="module")
def some():
    return pictures(split_seeds("val", 100, 24), other_relations=0.5)


def said(words):
    return " ".join(TOKENS[word] for word in words if TOKENS[word] != "none")


def test_new_words_come_last():
    assert INDEX["<draw>"] == CODE_0 + CODES and INDEX["depth"] + 1 == SIZE


def test_a_prompt_counts_and_then_relates():
    asked = prompts.parse("two red cones left of a blue box, and the blue box behind a green sphere")
    words = plans.prompt(asked)
    counted, related = (
        "2 red cone 1 blue box 1 green sphere",
        "red cone left blue box blue box behind green sphere",
    )
    assert said(words) == f"<draw> {counted} {related} </draw>"
    assert len(words) == plans.PROMPT_LENGTH
    assert plans.composition(words) == asked


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("five red cones", "5 objects"),
        ("a red cone, a blue cone, a green cone, and a white cone", "4 kinds"),
    ],
)
def test_more_than_was_taught_is_refused(prompt, says):
    with pytest.raises(ValueError, match=f"{says}.*up to"):
        plans.prompt(prompts.parse(prompt))


def test_words_that_are_no_prompt_are_refused():
    with pytest.raises(ValueError, match="no prompt"):
        plans.composition([INDEX["<draw>"], INDEX["</draw>"]])


def test_what_is_thought_of_a_picture_meets_its_prompt(some):
    for written in (some.think(), some.plan()):
        held = 0
        for asked, words in zip(some.compositions(), nearest(written).tolist(), strict=True):
            found = plans.found(words)
            assert len(found) == sum(group.count for group in asked.groups)
            held += prompts.judge(asked, found).success
        assert held >= 22  # a step of 7.5 degrees can make two objects stand in line


def test_what_is_written_fits_its_grammar(some):
    for written, grammar in ((some.think(), plans.THINK_GRAMMAR), (some.plan(), plans.PLAN_GRAMMAR)):
        for words in nearest(written).tolist():
            inside = words[1:-1]
            assert len(inside) == len(grammar.words)
            assert all(word in may for word, may in zip(inside, grammar.words, strict=True))


def test_a_group_is_told_from_left_to_right_in_the_order_of_the_prompt(some):
    for asked, kinds, bearing in zip(some.compositions(), some.kinds, some.bearing, strict=True):
        at = 0
        for group in asked.groups:
            own = slice(at, at + group.count)
            assert kinds[own].tolist() == [group.kind] * group.count
            assert bearing[own].diff().ge(0).all()
            at += group.count


def test_a_plan_says_where_in_the_picture_an_object_is():
    one = pictures(split_seeds("val", 0, 8))
    for words, middle in zip(nearest(one.plan()).tolist(), one.middle, strict=True):
        column, part, row, within = (int(TOKENS[word]) for word in words[4:8])
        assert (column * 4 + part) / 16 <= middle[0, 0] <= (column * 4 + part + 1) / 16
        assert (row * 4 + within) / 16 <= middle[0, 1] <= (row * 4 + within + 1) / 16


def test_a_roll_out_names_no_object_that_nobody_asked_for(some):
    words = plans.roll_out(some.codes)
    assert words.shape == (len(some), plans.ROLL_OUT_LENGTH)
    assert said(words[0, :2].tolist()) == "<view> picture"
    for asked, codes in zip(some.compositions(), some.codes, strict=True):
        shown = {k for k in object_of(codes).tolist() if k >= 0}
        assert shown <= {group.kind for group in asked.groups}


def test_other_relations_contradict_nothing():
    seeds = split_seeds("val", 0, 64)
    drawn = prompts.draw(seeds, plans.OBJECTS)
    changed = varied(drawn, seeds, 1.0)
    assert changed == varied(drawn, seeds, 1.0) and varied(drawn, seeds, 0.0) == drawn
    assert any(len(one.relations) == 3 for one in changed)
    for one in changed:
        assert plans.composition(plans.prompt(one)) == one


def test_pictures_are_kept_in_files(some, tmp_path):
    save(tmp_path / "a.safetensors", some)
    ((file, again),) = in_files(tmp_path)
    assert file.name == "a.safetensors" and torch.equal(again.pictures, some.pictures)
    assert torch.equal(again.prompt, some.prompt)
    torch.testing.assert_close(again.middle, some.middle, atol=1e-3, rtol=0)
    with pytest.raises(FileNotFoundError, match=r"nano_omni\.training\.pictures"):
        list(in_files(tmp_path / "none"))
