"""A camera pose in one sentence."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primitives.pose import describe_motion, motion_in_words
from unroller import CameraPose, Executor, Problem, Text, decoder, primitive

STILL = (0.0, 0.0, 0.0)


def turned(axis, degrees):
    return tuple(math.radians(degrees) * np.asarray(axis, float) / np.linalg.norm(axis))


def words(translation=STILL, rotation=STILL, scale="relative"):
    scale = "none" if tuple(translation) == STILL else scale
    return motion_in_words(CameraPose(translation, rotation, scale))


def test_the_papers_example_moved_right_and_forward_and_turned_left_and_down():
    pose = CameraPose((1.041259, 0.007027, 0.328047), (-0.201365, -0.271789, -0.020875), "relative")
    assert motion_in_words(pose) == (
        "The camera moved right and forward and turned left by 16° and down by 12°."
    )


@pytest.mark.parametrize(
    ("translation", "direction"),
    [
        ((1, 0, 0), "right"),
        ((-1, 0, 0), "left"),
        ((0, 1, 0), "down"),
        ((0, -1, 0), "up"),
        ((0, 0, 1), "forward"),
        ((0, 0, -1), "back"),
    ],
)
def test_each_axis_has_its_word(translation, direction):
    assert words(translation) == f"The camera moved {direction} without turning."


@pytest.mark.parametrize(
    ("axis", "direction"),
    [
        ((0, 1, 0), "right"),
        ((0, -1, 0), "left"),
        ((1, 0, 0), "up"),
        ((-1, 0, 0), "down"),
        ((0, 0, 1), "clockwise"),
        ((0, 0, -1), "anticlockwise"),
    ],
)
def test_each_turn_has_its_word_and_its_degrees(axis, direction):
    assert words(rotation=turned(axis, 25)) == f"The camera stayed in place and turned {direction} by 25°."


def test_a_camera_that_did_nothing_did_not_move():
    assert words() == "The camera did not move."
    assert words(rotation=turned((0, 1, 0), 0.2)) == "The camera did not move."


def test_directions_come_with_the_largest_first_and_slight_ones_are_left_out():
    assert words((0.3, 0.05, -1.0)).startswith("The camera moved back and right without")
    assert words((1.0, 0.15, 0.1)) == "The camera moved right without turning."
    assert words((1.0, -0.9, 0.8)).startswith("The camera moved right, up and forward ")


def test_only_a_metric_pose_says_how_far():
    assert words((0, 0, 2.5), scale="metric") == "The camera moved forward by 2.50 m without turning."
    assert words((0, 0, 1), scale="unit") == "The camera moved forward without turning."


@settings(max_examples=80, deadline=None)
@given(
    translation=st.tuples(*[st.floats(-5, 5)] * 3),
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda a: np.linalg.norm(a) > 1e-3),
    degrees=st.floats(0, 180),
)
def test_any_pose_makes_one_sentence(translation, axis, degrees):
    sentence = words(translation, turned(axis, degrees))
    assert re.fullmatch(r"The camera [^.]*(\d\.\d\d m[^.]*)?\.", sentence), sentence
    assert "nan" not in sentence and "-" not in sentence


def test_describing_motion_writes_the_newest_pose_into_the_context():
    poses = iter([CameraPose((1, 0, 0), STILL, "relative"), CameraPose((0, 0, 1), STILL, "relative")])
    look = primitive(reads=("question", CameraPose), writes=CameraPose, name="look")(lambda view: next(poses))
    answer = decoder(task="words", writes=Text, name="answer")(lambda view: view.latest(Text) or Text("none"))
    ex = Executor(
        backend=[],
        primitives=[look, describe_motion],
        decoders=[answer],
        policy=["look", "look", "describe_motion"],
    )
    run = ex.run(Problem(task="words", question="?"))
    assert run.output == Text("The camera moved forward without turning.", kind="motion")


def test_describing_motion_without_a_pose_says_what_to_call_first():
    answer = decoder(task="words", writes=Text, name="answer")(lambda view: Text("none"))
    ex = Executor(backend=[], primitives=[describe_motion], decoders=[answer], policy=["describe_motion"])
    (fault,) = ex.run(Problem(task="words")).faults
    assert fault.kind == "InputError" and "call camera_pose_estimate first" in fault.message
