"""`unroller policies train`: learned on one part of the problems, told on the other."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from planners import tree
from planners.learning import free_probes, learn
from policies import LearnedPolicy
from unroller.cli import main
from unroller.faults import PolicyError

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys

QUICK = {"steps": 9000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("learning") / "tree"
    tree.synthetic(n=60, helpers=2, depth=2, seed=1, out=made)
    return made


@pytest.fixture
def unroller(capsys):
    def call(*words):
        code = main(["policies", "train", *map(str, words)], standalone_mode=False)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_it_is_told_on_problems_that_nobody_learned_from(folder):
    found = tree.load(folder)
    learned = learn(found, cost_weight=0.02, settings=QUICK, resamples=500)
    assert not set(learned.train) & set(learned.held_out) and len(learned.held_out) == 12
    own, direct, fixed = learned.standings
    again = tree.evaluate(found, learned.policy, problems=learned.held_out.tolist(), resamples=10)
    assert own.score.mean == pytest.approx(again.score.mean) and own.cost.mean == pytest.approx(
        again.cost.mean
    )
    assert own.value.mean == pytest.approx(own.score.mean - 0.02 * own.cost.mean)
    assert fixed.name.startswith("best fixed: ") and fixed.gain.low > 0
    assert direct.cost.mean == 1.0 and direct.gain.mean == pytest.approx(own.value.mean - direct.value.mean)
    assert (
        learn(found, cost_weight=0.02, seed=5, settings=QUICK).held_out.tolist() == learned.held_out.tolist()
    )


def test_a_mean_cost_is_compared_with_the_best_schedule_of_that_cost(folder):
    found = tree.load(folder)
    learned = learn(found, "lagrangian", mean_cost=2.2, settings={"steps": 30_000}, resamples=100)
    every = tree.schedules(found)
    meets = every.cost[learned.train].mean((0, 1)) <= 2.2
    best = every.score[learned.train].mean((0, 1))[meets].max()
    name = learned.standings[2].name.removeprefix("best fixed: ")
    state = [tree.name_of(s) for s in found.states].index(name)
    assert meets[state] and every.score[learned.train].mean((0, 1))[state] == pytest.approx(best)


def test_one_policy_learns_on_trees_of_other_actions(folder, tmp_path):
    other = toys.built(tmp_path / "t", actions=["hint", "dice"], probes=[], draws=1)
    both = [tree.load(folder), other]
    learned = learn(both, cost_weight=0.02, settings=QUICK, resamples=100)
    assert set(learned.policy.actions) == {*both[0].actions, "hint", "dice"} and not learned.policy.probes
    assert len(learned.train) + len(learned.held_out) == len(both[0]) + len(other)
    held = [i - len(both[0]) for i in learned.held_out.tolist() if i >= len(both[0])]
    first = [i for i in learned.held_out.tolist() if i < len(both[0])]
    alone = [
        tree.evaluate(one, learned.policy, problems=some, resamples=10).scores
        for one, some in zip(both, (first, held), strict=True)
    ]
    own, _, fixed = learned.standings
    assert own.score.mean == pytest.approx(np.concatenate(alone).mean())
    assert fixed.name.startswith("best fixed, of each tree its own: ") and ";" in fixed.name


def test_each_tree_needs_problems_on_both_sides(folder):
    few = tree.synthetic(1, helpers=2, seed=9)
    with pytest.raises(tree.TreeError, match="on one side of the split"):
        learn([tree.load(folder), few], settings=QUICK)


def test_probes_that_cost_nothing_are_seen_unless_others_are_named(tmp_path):
    found = toys.built(tmp_path / "t", actions=["hint", "dice"])
    assert free_probes(found) == ["kind_of", "words_said"]  # sureness costs a model call
    small = {"steps": 300}
    assert learn(found, settings=small, resamples=10).policy.probes == ("kind_of", "words_said")
    paying = learn(found, settings=small, probes=["sureness"], resamples=10)
    assert paying.policy.probes == ("sureness",) and paying.standings[0].cost.mean >= 2.0


def test_what_was_learned_runs_live_as_it_was_evaluated(tmp_path):
    found = toys.built(tmp_path / "t", actions=["hint", "dice"], draws=1)
    pi = learn(found, cost_weight=0.01, settings={"steps": 3000}, out=tmp_path / "pi", resamples=10).policy
    live = toys.executor(probes=toys.PROBES).extend(policy=LearnedPolicy.load(tmp_path / "pi"))
    runs = list(live.map(toys.problems()))
    wanted = tree.evaluate(found, pi, resamples=10)
    charged = [[run.cost.model_calls, run.cost.tokens, run.cost.price] for run in runs]
    assert np.allclose(charged, wanted.charges)
    assert all(isinstance(run.output.probabilities, tuple) for run in runs)


def test_the_command_trains_tells_and_keeps(folder, unroller, tmp_path):
    words = ["--tree", folder, "--trainer", "exact", "--cost-weight", "0.02", "--out", tmp_path / "pi"]
    words += ["--steps", "15000", "--set", "problems=16", "--hidden", "32"]
    code, said, _ = unroller(*words, "--json")
    told = json.loads(said)
    assert code == 0 and told["n"] == 12 and told["trained_on"] == 48 and told["trainer"] == "exact"
    assert told["held_out"][2]["gain"]["low"] > 0
    kept = json.loads((tmp_path / "pi" / "held_out.json").read_text())
    assert kept["held_out"] == told["held_out"]
    assert (tmp_path / "pi" / "training" / "curve.csv").read_text().startswith("update,steps,value,")
    assert LearnedPolicy.load(tmp_path / "pi").hidden == (32,)
    code, said, _ = unroller(*words)  # it is done: nothing is trained again
    assert code == 0 and "best fixed: " in said and "12 others" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--out DIR"),
        (["--cost-weight", "-1"], "a cost weight of -1"),
        (["--trainer", "lagrangian"], "meets a mean cost, and only it"),
        (["--mean-cost", "2"], "meets a mean cost, and only it"),
        (["--set", "speed=1"], "no setting 'speed': it has steps"),
        (["--set", "steps"], "write NAME=NUMBER"),
        (["--set", "steps=0"], "steps is 0"),
        (["--hidden", "big"], "write numbers of units"),
        (["--probe", "luck"], "the probe luck"),
        (["--held-out", "1.5"], "cannot be held out"),
        (["--cost", "smiles"], "is no cost"),
    ],
)
def test_the_command_says_what_is_wrong(folder, unroller, words, said, tmp_path):
    out = [] if not words else ["--out", tmp_path / "pi"]
    code, _, error = unroller("--tree", folder, *out, *words)
    assert code in (2, 3) and said in " ".join(error.split())


def test_a_folder_without_a_tree(unroller, tmp_path):
    code, _, error = unroller("--tree", tmp_path, "--out", tmp_path / "pi")
    assert code == 2 and "holds no tree" in error


def test_no_such_trainer(folder):
    with pytest.raises(PolicyError, match="no trainer 'magic': there are exact, grpo"):
        learn(tree.load(folder), "magic")
