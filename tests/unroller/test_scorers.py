"""The scorers: how good an output is, and what they say where that cannot be known."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest

from unroller import Answer, CameraPose, Problem, Text
from unroller.faults import ContractError, ProblemError
from unroller.registry import load_path
from unroller.scorers import choice, pose, soft_choice

CHOICES = ("a", "b")


def asked(answer=None, **fields):
    return Problem(task="quiz", metadata={} if answer is None else {"truth": {"answer": answer}}, **fields)


def test_choice_is_whether_the_true_choice_was_made():
    x = asked("b", choices=CHOICES)
    assert choice(x, Answer("b", CHOICES, 1)) == 1
    assert choice(x, Answer("a", CHOICES, 0)) == 0
    assert choice(asked("The  red cone"), Answer("the red cone ")) == 1
    assert choice(asked("The red cone"), Answer("the blue cone")) == 0


def test_soft_choice_is_the_probability_of_the_true_choice():
    x = asked("b", choices=CHOICES)
    assert soft_choice(x, Answer("a", CHOICES, 0, (0.7, 0.3))) == pytest.approx(0.3)
    with pytest.raises(ContractError, match="needs the probabilities"):
        soft_choice(x, Answer("a", CHOICES, 0))


def test_pose_is_the_share_of_thirty_degrees_that_is_not_missed():
    x = Problem(task="pose", metadata={"truth": {"pose": [1, 0, 0, 0, 0, 0]}})
    assert pose(x, CameraPose((2, 0, 0), (0, 0, 0))) == 1
    assert pose(x, CameraPose((2, 0, 0), (0, math.radians(6), 0))) == pytest.approx(0.8)
    assert pose(x, CameraPose((-2, 0, 0), (0, 0, 0))) == 0, "a flipped direction is wrong"


@pytest.mark.parametrize(
    ("score", "problem", "output", "error", "words"),
    [
        (choice, asked(choices=CHOICES), Answer("a"), ProblemError, "the text of the right choice"),
        (choice, asked("c", choices=CHOICES), Answer("a"), ProblemError, "which is no choice"),
        (choice, asked(3), Answer("a"), ProblemError, "is 3"),
        (choice, asked("a"), Text("a"), ContractError, "this output is a Text"),
        (soft_choice, asked("c"), Answer("a", CHOICES, 0, (1, 0)), ContractError, "do not hold"),
        (pose, asked("a"), CameraPose((1, 0, 0), (0, 0, 0)), ProblemError, "six numbers"),
        (pose, asked("a"), Answer("a"), ContractError, "this output is a Answer"),
    ],
)
def test_a_scorer_without_truth_or_with_the_wrong_output_says_so(score, problem, output, error, words):
    with pytest.raises(error, match=words):
        score(problem, output)


def test_a_pose_that_is_none_says_so():
    x = Problem(task="pose", metadata={"truth": {"pose": [1, 0]}})
    with pytest.raises(ProblemError, match="six numbers"):
        pose(x, CameraPose((1, 0, 0), (0, 0, 0)))


def test_the_scorers_are_registered():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    declared = project["project"]["entry-points"]["unroller.scorers"]
    ours = {"choice": choice, "soft_choice": soft_choice, "pose": pose}
    assert {name: load_path(path) for name, path in declared.items()}.items() >= ours.items()
