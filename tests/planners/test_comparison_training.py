"""Policies that are trained within a comparison, on the problems that are not held out."""

import json

import pytest

from planners import tree
from planners.comparison import Training, compare
from planners.learning import learn
from planners.tree import TreeError
from unroller.faults import PolicyError

QUICK = {"resamples": 200, "share": 0.5}


@pytest.fixture(scope="module")
def shown():
    """Problems that need `help_1` or nothing, and show which from the start."""
    return tree.synthetic(40, helpers=1, hidden=False, depth=1, easy=0.5, draws=2)


def test_a_policy_trained_within_a_comparison_beats_every_fixed_schedule(tmp_path):
    """Looking and then helping as is needed: no mixture of schedules does that for its cost."""
    from policies.training.exact import Exact

    hidden = tree.synthetic(150, helpers=2, easy=0.3)
    training = Training("exact", 2, ("hint",), Exact(steps=30_000), out=tmp_path)
    found = compare(hidden, train=[training], weights=[0.02], **QUICK)
    row = found.row("exact + hint")
    assert row.seeds == 2 and row.weight == 0.02 and row.fitted == 75
    assert row.over_fixed.gain.low > 0 and row.over_fixed.matched
    assert row.regrets[0].to["best fixed"].high < 0 < row.regrets[0].to["oracle"].low
    assert row.calls == found.row("ridge, every schedule").calls, "it is told of every state, and no more"
    again = compare(hidden, {"it": tmp_path / "exact + hint" / "0.02"}, weights=[0.02], **QUICK).row("it")
    assert again.score == row.score and again.cost == row.cost


def test_one_policy_is_trained_on_several_trees():
    from policies.training.exact import Exact

    hidden = tree.synthetic(100, helpers=2, easy=0.3)
    plain = tree.synthetic(60, helpers=2, hidden=False, depth=1, easy=0.5, seed=7)
    training = Training("exact", 1, ("hint",), Exact(steps=20_000))
    found = compare([hidden, plain], train=[training], weights=[0.02], **QUICK)
    row = found.row("exact + hint")
    assert found.n + row.fitted == 160 and row.over_fixed.gain.low > 0


def test_training_is_held_to_the_calls_that_there_are(shown):
    from policies.training.cloning import Cloning

    training = Training("clone", 1, settings=Cloning(steps=200))
    found = compare(shown, train=[training], weights=[0.1, 0], unique_calls=80, **QUICK)
    assert [row.weight for row in found.rows if row.name == "clone"] == [0.1, 0]
    assert found.row("clone").calls == found.row("ridge, every schedule").calls <= 80
    assert 0 < found.row("clone").fitted < 20


@pytest.mark.parametrize(
    ("training", "said"),
    [
        (Training("lagrangian"), "no trainer 'lagrangian' that trains for one λ"),
        (Training(seeds=0), "give 1 or more"),
        (Training(probes=("unheard_of",)), "unheard_of"),
    ],
)
def test_a_training_that_cannot_be_is_said(shown, training, said):
    with pytest.raises(TreeError, match=said):
        compare(shown, train=[training], **QUICK)


def test_each_training_has_a_name_of_its_own(shown):
    from policies.training.cloning import Cloning

    quick = Cloning(steps=100)
    some = [Training("clone", 1, settings=quick), Training("clone", 1, (), quick)]
    rows = [row.name for row in compare(shown, train=some, weights=[0.1], **QUICK).rows]
    assert {"clone", "clone + none"} <= set(rows)
    with pytest.raises(PolicyError, match="'clone' is there twice"):
        compare(shown, {"clone": ["help_1"]}, train=some[:1], weights=[0.1], **QUICK)


def test_a_policy_that_may_know_what_is_held_out_is_noted(shown, tmp_path):
    other = tree.synthetic(40, helpers=1, hidden=False, depth=1, easy=0.5, draws=2, seed=5)
    made = learn(
        [shown, other], "clone", settings={"steps": 100}, held_out=0.5, out=tmp_path / "pi", resamples=10
    )
    (tmp_path / "pi" / "held_out.json").write_text(json.dumps(made.to_dict()))
    for trees, noted in ([shown, other], False), ([other, shown], True), ([shown], True):
        found = compare(trees, [tmp_path / "pi"], **QUICK)
        assert any("by another split" in note for note in found.notes) == noted
