"""`unroller run --policy …`: every registered name, and folders of saved policies."""

import numpy as np
import pytest

from policies.bandit import RidgeBandit
from policies.learned import LearnedPolicy
from policies.observation import ProblemFeatures
from policies.schedules import SchedulePolicy
from unroller.cli import main

TOYS = '''
"""A riddle, and two primitives that write a word about it."""
from unroller import Answer, Text, decoder, primitive, probe

@primitive(reads=("question",), writes=Text)
def look(view):
    """Look at it."""
    return Text("looked")

@primitive(reads=("question",), writes=Text)
def muse(view):
    """Muse about it."""
    return Text("mused")

@probe(reads=(Text,))
def answer_entropy(view):
    """Sure once something was written."""
    return 0.0 if view.all(Text) else 1.0

@decoder(task="riddle", writes=Text)
def riddle(view):
    return Text(" and ".join(t.text for t in view.all(Text)) or "nothing")
'''


@pytest.fixture
def unroller(tmp_path, monkeypatch, capsys):
    """`unroller run` on the riddle in this process; what it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toys_of_policies.py").write_text(TOYS)

    def run(*arguments):
        use = ("--use", "toys_of_policies.py", "--task", "riddle", "-q", "what is it?")
        code = main(["run", *use, *map(str, arguments)], standalone_mode=False)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize(("policy", "expected"), [("direct", "nothing"), ("confidence", "looked")])
def test_a_policy_is_chosen_by_its_name(unroller, policy, expected):
    code, said = unroller("--policy", policy)
    assert code == 0 and expected in said


@pytest.mark.parametrize("policy", ["ridge"])
def test_one_that_needs_a_folder_says_which(unroller, policy):
    code, said = unroller("--policy", policy)
    assert code != 0 and "unroller run --policy FOLDER" in " ".join(said.split())
    assert "Traceback" not in said


def test_a_saved_policy_is_chosen_by_its_folder(unroller, tmp_path):
    SchedulePolicy({"riddle": [["muse"]]}).save(tmp_path / "pi")
    code, said = unroller("--policy", "pi")
    assert code == 0 and "mused" in said and "looked" not in said


def test_what_was_learned_is_chosen_by_its_folder(unroller, tmp_path):
    learned = LearnedPolicy(["look", "muse"], hidden=(4,))
    learned.network.choice.bias.data[:] = learned.network.choice.bias.new_tensor([-9.0, 9.0, 0.0])
    learned.save(tmp_path / "learned_pi")
    code, said = unroller("--policy", "learned_pi")
    assert code == 0 and "mused" in said and "looked" not in said

    features = ProblemFeatures(words=2)
    x = np.random.default_rng(0).normal(size=(20, features.size))
    bandit = RidgeBandit([[], ["look"]], features=features).fit(
        x, np.tile([0, 1.0], (20, 1)), np.ones((20, 2))
    )
    bandit.save(tmp_path / "bandit_pi")
    code, said = unroller("--policy", "bandit_pi")
    assert code == 0 and "looked" in said and "mused" not in said


def test_a_folder_that_holds_no_policy_is_told_from_a_misspelt_name(unroller, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "is a folder without a policy.json" in " ".join(unroller("--policy", "empty")[1].split())
    assert "Did you mean 'confidence'" in " ".join(unroller("--policy", "confidense")[1].split())


def test_a_run_with_a_folder_is_resumed_with_it(unroller, tmp_path, capsys):
    SchedulePolicy({"riddle": [["muse"]]}).save(tmp_path / "pi")
    assert unroller("--policy", "pi", "--out", "kept")[0] == 0
    resumed = main(["runs", "resume", "kept", "--use", "toys_of_policies.py"], standalone_mode=False)
    assert resumed in (0, None) and "Traceback" not in capsys.readouterr().err
