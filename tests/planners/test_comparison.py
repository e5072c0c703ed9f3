"""Comparisons: figures that can be worked out by hand, fitted baselines, seeds, and what bad input gets."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from planners import comparison, tree
from planners.comparison import Entrant, Ground, compare
from planners.comparison.calls import unique_calls
from planners.comparison.fitting import dozen, fit_bandit
from planners.comparison.measures import Draws, interquartile_mean
from planners.comparison.oracles import oracles
from planners.comparison.standings import best_fixed, stand
from planners.comparison.until_sure import fit_until_sure
from planners.tree import TreeError
from policies import ConfidencePolicy, LearnedPolicy, RandomPolicy, SavedPolicyError
from unroller import STOP, policy
from unroller.faults import PolicyError, ProblemError, UnknownName

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys
from tree_toys import built

QUICK = {"resamples": 200, "share": 0.5}


@policy(probes=("hint",))
def helped(state):
    """Calls the helper that is needed, if it was shown which one is."""
    k = int(np.argmax(state.probe.hint)) if state.probe.hint.any() else 0
    return STOP if state.step or not k else f"help_{k}"


@pytest.fixture(scope="module")
def shown():
    """Problems that need `help_1` or nothing, and show which from the start."""
    return tree.synthetic(40, helpers=1, hidden=False, depth=1, easy=0.5, draws=2)


@pytest.fixture(scope="module")
def found(shown):
    return compare(shown, {"helped": helped, "help": ["help_1"]}, weights=[0, 0.1], **QUICK)


@pytest.fixture(scope="module")
def quiz(tmp_path_factory):
    probes = [toys.answer_entropy, toys.kind_of]
    return built(tmp_path_factory.mktemp("quiz") / "tree", n=24, probes=probes)


def share_of_hard(shown, found):
    return np.mean([shown.problems[i].metadata["needed"] > 0 for _, i, _ in found.problems])


# ------------------------------------------------------------------------------------- worked out by hand


def test_scores_costs_and_regrets_are_those_one_works_out(shown, found):
    """With a share h that needs help: direct 0.9 - 0.5 h, help 0.85 + 0.05 h, helped 0.9 for 1 + h calls."""
    h = share_of_hard(shown, found)
    assert 0 < h < 1 and found.n == 20 and found.fitted == 20
    assert found.row("direct").score.mean == pytest.approx(0.9 - 0.5 * h)
    assert found.row("help").score.mean == pytest.approx(0.85 + 0.05 * h)
    row = found.row("helped")
    assert row.score.mean == pytest.approx(0.9) and row.cost.mean == pytest.approx(1 + h)
    regret = row.regrets[0]
    assert regret.to["best fixed"].mean == pytest.approx(0.85 + 0.05 * h - 0.9)
    assert regret.to["oracle"].mean == pytest.approx(0) and regret.closed.mean == pytest.approx(1)
    assert row.regrets[1].value.mean == pytest.approx(0.9 - 0.1 * (1 + h))


def test_the_gain_at_equal_mean_cost_is_over_a_mixture_of_direct_and_help(shown, found):
    h = share_of_hard(shown, found)
    against = found.row("helped").over_fixed
    mixed = (1 - h) * (0.9 - 0.5 * h) + h * (0.85 + 0.05 * h)
    assert against.cost == pytest.approx(1 + h) and against.matched
    assert against.score == pytest.approx(mixed) and against.gain.mean == pytest.approx(0.9 - mixed)
    assert 0 < against.gain.low < against.gain.mean < against.gain.high
    assert found.row("direct").over_fixed.gain.mean == 0, "it is a fixed schedule itself"


def test_what_costs_more_than_any_fixed_schedule_is_held_against_the_best_one():
    hidden = tree.synthetic(60, helpers=1, easy=0.0, depth=2)
    row = compare(hidden, {"both": ["look", "help_1"]}, **QUICK).row("both")
    assert row.over_fixed.cost == 2 and row.cost.mean == 3 and not row.over_fixed.matched
    assert row.over_fixed.gain.mean == pytest.approx(0)


def test_groups_have_schedules_of_their_own(shown):
    found = compare(shown, {"helped": helped}, by="needed", weights=[0.02], **QUICK)
    fixed = found.row("best fixed by needed")
    assert fixed.note == "0: direct; 1: help_1" and fixed.score.mean == pytest.approx(0.9)
    assert found.row("helped").over_grouped.gain.mean == pytest.approx(0), "the group says it all"
    assert found.groups == {label: found.groups[label] for label in ("0", "1")}


def test_within_each_group_a_policy_is_held_against_that_groups_own_schedules(shown):
    found = compare(shown, {"helped": helped, "help": ["help_1"]}, by="needed", weights=[0.02], **QUICK)
    assert sum(one.n for one in found.row("direct").within.values()) == found.n
    easy, needy = (found.row("help").within[label] for label in ("0", "1"))
    assert (easy.score.mean, easy.cost.mean) == (pytest.approx(0.85), 2), "help takes something off"
    assert easy.over_fixed.gain.mean == pytest.approx(-0.05) and not easy.over_fixed.matched
    assert needy.score.mean == pytest.approx(0.9) and needy.over_fixed.gain.mean == pytest.approx(0)
    assert all(one.over_fixed.gain.mean == pytest.approx(0) for one in found.row("helped").within.values())
    assert "within each needed" in str(found) and f"0 (n {easy.n})" in str(found)
    head, *lines = found.to_groups_csv().splitlines()
    assert head.startswith("needed,policy,weight") and len(lines) == 2 * len(found.rows)


def test_of_one_group_nothing_is_said_twice(found):
    assert not found.row("direct").within and "within each" not in str(found)


def test_a_task_is_scored_in_one_way(quiz):
    with pytest.raises(TreeError, match="scores of choice and soft_choice cannot be compared"):
        Ground([quiz, quiz.judged("hard")])


def test_the_front_holds_what_nothing_beats(found):
    on = {row.name for row in found.rows if row.front}
    assert {"helped", "direct"} <= on and not on & {"random", "all", "help", "oracle, cross-fitted"}


def test_toys_worked_out_by_hand(quiz):
    """hint: right on even numbers, so 0.9 or 0.1 at 5 tokens; direct: 0.6 where the answer is a, else 0.4."""

    @policy
    def even(state):
        return STOP if state.step or state.problem.metadata["number"] % 2 else "hint"

    found = compare(quiz, {"even": even, "hint": ["hint"]}, price="model_calls+0.01*tokens", **QUICK)
    numbers = np.array([i for _, i, _ in found.problems])
    direct = np.where(numbers // 2 % 2 == 0, 0.6, 0.4)
    assert found.row("direct").score.mean == pytest.approx(direct.mean())
    assert found.row("hint").score.mean == pytest.approx(np.where(numbers % 2, 0.1, 0.9).mean())
    row = found.row("even")
    assert row.score.mean == pytest.approx(np.where(numbers % 2, direct, 0.9).mean())
    assert row.cost.mean == pytest.approx(1 + 1.05 * np.mean(numbers % 2 == 0))
    assert row.charged == pytest.approx((1 + np.mean(numbers % 2 == 0), 5 * np.mean(numbers % 2 == 0), 0))


# ------------------------------------------------------------------------------------------ what is fitted


def test_nothing_that_is_held_out_is_fitted_on(shown):
    ground = Ground([shown], share=0.5)
    helping = ground.schedules.index(("help_1",))
    ground.score[:, helping] = ~ground.held_out  # perfect where it may be chosen, useless where it is scored
    standing = best_fixed(ground, 0.0)
    assert standing.note == "help_1" and standing.scores.mean() == 0


def test_the_oracle_is_crossed_over_in_all_its_figures():
    lucky = tree.synthetic(30, draws=4, luck=0.1)
    ground = Ground([lucky], share=0.5)
    (own, shrunk), whole = oracles(ground, 0.02), tree.oracle(lucky, weight=0.02)
    assert own.name == "oracle, cross-fitted" and np.allclose(own.scores[0], whole.scores[ground.held_out])
    assert np.allclose(own.charges[0, :, 0], whole.costs[ground.held_out])
    assert shrunk.name == "oracle, shrunk" and "a = " in shrunk.note


def test_where_luck_is_all_there_is_the_shrunk_oracle_falls_back_on_the_best_schedule():
    """Every problem is easy, so help is never worth it, and draws differ by luck alone."""
    lucky = tree.synthetic(400, draws=2, luck=0.1, easy=1.0)
    found = compare(lucky, weights=[0], **QUICK)
    plain, shrunk = (found.row(f"oracle, {kind}") for kind in ("cross-fitted", "shrunk"))
    fixed = found.row("best fixed")
    assert plain.score.mean < fixed.score.mean - 0.01
    assert shrunk.score.mean == pytest.approx(fixed.score.mean, abs=0.005)
    assert fixed.regrets[0].to["oracle"].mean == pytest.approx(shrunk.score.mean - fixed.score.mean)


@pytest.mark.parametrize("actions", [["hint", "picture"], ["hint", "dice"]])
def test_unique_calls_are_those_that_are_computed(tmp_path, monkeypatch, actions):
    """Every call and answer that builds the tree, counted as it is computed. The bare problems look all alike
    to the decoder of the toys, which reads no question, so that one answer does for six."""
    monkeypatch.setenv("TOYS_COMPUTED", str(tmp_path / "computed"))
    held = built(tmp_path / "tree", n=6, actions=actions, probes=[])
    lines = (tmp_path / "computed").read_text().splitlines()
    computed = sum(not line.startswith("picture") for line in lines)  # which calls no model
    assert unique_calls(held, np.arange(6), range(len(held.states))).sum() == computed + 5


def test_schedules_that_begin_alike_share_their_calls(shown):
    direct, help_1 = shown.number([]), shown.number(["help_1"])
    some = np.arange(5)
    alone = [unique_calls(shown, some, [s])[0] for s in (direct, help_1)]
    assert alone == [1, 4], "the bare answer is the same in both draws; help, and the answer after it, is not"
    assert (unique_calls(shown, some, [direct, help_1]) == 5).all()


def test_a_bandit_is_given_no_more_calls_than_it_may_have(shown):
    ground = Ground([shown], share=0.5)
    whole = fit_bandit(ground, [(), ("help_1",)])
    some = fit_bandit(ground, [(), ("help_1",)], calls=50)
    assert (whole.n, whole.calls) == (20, 100) and (some.n, some.calls) == (10, 50)
    with pytest.raises(TreeError, match="4 unique model calls do not pay for one problem"):
        fit_bandit(ground, [(), ("help_1",)], calls=4)


def test_a_dozen_schedules_hold_direct_and_the_edge_of_each_group():
    wide = tree.synthetic(200, helpers=3)
    arms = dozen(Ground([wide], by="needed", share=0.5))
    assert len(arms) == 12 and {(), ("help_1",), ("help_2",), ("help_3",)} <= set(arms)


def test_until_sure_is_what_evaluating_it_gives(quiz):
    ground = Ground([quiz], share=0.5)
    fitted = fit_until_sure(ground).policy
    rows = np.flatnonzero(~ground.held_out)
    for c in range(0, len(fitted.ways), 17):
        order, threshold = fitted.ways[c]
        exact = tree.evaluate(quiz, ConfidencePolicy(threshold, order=order), problems=rows.tolist())
        assert fitted.score[c] == pytest.approx(exact.score.mean)
        assert fitted.cost[c] == pytest.approx(exact.cost.mean), "its looks are charged"


def test_what_is_fitted_is_compared_at_every_price(quiz):
    found = compare(quiz, weights=[0.02, 0, 0.3], **QUICK)
    assert not found.missing
    for name in ("until sure", "confidence", "ridge", "ridge, features", "best fixed"):
        assert [row.weight for row in found.rows if row.name == name] == [0.02, 0, 0.3]
        assert found.row(name, 0.3).cost.mean <= found.row(name, 0).cost.mean + 1e-9
    assert found.row("ridge").calls > 0 and found.row("direct").calls == 0
    features = found.row("ridge, features")
    assert features.charged[0] >= 1 and set(found.bandit) == {"0.02", "0", "0.3"}


def test_trees_to_fit_on_leave_all_of_the_others_to_compare_on():
    other = tree.synthetic(30, helpers=1, hidden=False, depth=1, easy=0.5, seed=7)
    apart = tree.synthetic(30, helpers=1, hidden=False, depth=1, easy=0.5, seed=7)
    with pytest.raises(TreeError, match="30 problems are in the trees to compare on and in those to fit on"):
        Ground([other], fit_on=[apart])
    renamed = tree.synthetic(40, helpers=1, hidden=False, depth=1, easy=0.5)
    for i in range(40):  # problems of another content
        vars(renamed.problem(i))["identity"] = f"apart {i}".encode()
    found = compare(renamed, {"helped": helped}, fit_on=[other], **QUICK)
    assert found.n == 40 and found.fitted == 30


def test_several_trees_with_other_actions_are_one_ground():
    small, large = tree.synthetic(20, helpers=1, seed=1), tree.synthetic(30, helpers=2, seed=2)
    ground = Ground([small, large], share=0.4)
    assert len(ground.held_out) == 50 and ("help_2",) in ground.schedules
    column = ground.schedules.index(("help_2",))
    assert (ground.charged[:20, column, 0] == 1).all(), "the small tree refuses what it does not know"
    found = compare([small, large], {"two": ["help_2"]}, **QUICK)
    assert found.row("two").cost.mean == pytest.approx(1 + np.mean([t == 1 for t, _, _ in found.problems]))


# ------------------------------------------------------------------------------------------- several seeds


def test_interquartile_means():
    assert interquartile_mean(np.array([1, 2, 3, 4, 100.0])) == 3
    assert interquartile_mean(np.array([1, 2, 30.0])) == 11, "of fewer than four nothing is left out"


def test_seeds_widen_the_interval_by_what_training_adds(shown):
    several = Entrant("it", tuple(RandomPolicy(stop, without=()) for stop in (0.1, 0.3, 0.5, 0.7, 0.9)))
    found = compare(shown, [several], **QUICK)
    row = found.row("it")
    assert row.seeds == 5 and row.score.mean == pytest.approx(np.mean([s for s, _ in row.each_seed][1:4]))
    middle = compare(shown, {"it": RandomPolicy(0.5, without=())}, **QUICK).row("it")
    assert row.score.high - row.score.low > middle.score.high - middle.score.low


def test_draws_begin_with_the_problems_as_they_are():
    draws = Draws(50, 300)
    values = np.random.default_rng(0).random((2, 50))
    means = draws.means(values)
    assert means.shape == (301, 2) and np.allclose(means[0], values.mean(1))
    assert draws.over_seeds(means)[0] == pytest.approx(values.mean())


def test_folders_of_folders_are_seeds(shown, tmp_path):
    for seed in range(2):
        LearnedPolicy(shown.actions, seed=seed).save(tmp_path / "pi" / str(seed))
    row = compare(shown, [tmp_path / "pi"], **QUICK).row("pi")
    assert row.seeds == 2 and row.weight is None
    assert row.calls is None, "nobody knows what they were trained with"
    for seed in range(2):
        noted = {"trainer": "exact", "cost_weight": 0.03}
        (tmp_path / "pi" / str(seed) / "held_out.json").write_text(json.dumps(noted))
    assert compare(shown, [tmp_path / "pi"], **QUICK).row("pi").weight == 0.03
    (tmp_path / "pi" / "1" / "held_out.json").write_text("{")
    assert compare(shown, [tmp_path / "pi"], **QUICK).row("pi").weight is None


# ------------------------------------------------------------------------------------------------- as data


def test_it_is_written_as_data_and_as_a_picture(found, tmp_path):
    written = {path.name for path in found.write(tmp_path / "out")}
    assert written == {"comparison.json", "comparison.csv", "problems.csv", "front.png", "front.svg"}
    plain = json.loads((tmp_path / "out/comparison.json").read_text())
    assert plain["n"] == 20 and any(row["name"] == "helped" for row in plain["rows"])
    lines = (tmp_path / "out/problems.csv").read_text().splitlines()
    assert len(lines) == 21 and "helped score" in lines[0]
    heads, *rows = (tmp_path / "out/comparison.csv").read_text().splitlines()
    assert all(line.count(",") >= heads.count(",") for line in rows) and "regret to oracle" in heads
    assert repr(found).endswith("on 20 problems>") and "100 %" in str(found)
    assert "direct" in (tmp_path / "out/front.svg").read_text()


def test_names_are_shown_as_they_are_whatever_they_are(shown, tmp_path):
    names = ["[bold]x[/bold]", "$a_b$", "_hidden", "new\nline", "\x1b[31mred"]
    found = compare(shown, {name: ["look"] for name in names}, **QUICK)
    said = str(found)
    assert all(name in said for name in ("[bold]x[/bold]", "$a_b$", "_hidden", "new line", "x1b[31mred"))
    found.write(tmp_path)
    assert "_hidden" in (tmp_path / "front.svg").read_text()


def test_the_same_seed_gives_the_same_comparison(shown):
    a, b = (compare(shown, {"helped": helped}, seed=3, **QUICK).to_dict() for _ in range(2))
    assert a == b


# -------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"weights": [-0.1]}, TreeError, "0 or more"),
        ({"weights": [float("nan")]}, TreeError, "0 or more"),
        ({"weights": []}, TreeError, "at least one λ"),
        ({"weights": 0.02}, TreeError, "a list of numbers"),
        ({"by": "colour"}, ProblemError, "no metadata 'colour'"),
        ({"together": "colour"}, ProblemError, "no metadata 'colour'"),
        ({"price": "beer"}, TreeError, "is no cost"),
        ({"share": 1.0}, TreeError, "between 0 and 1"),
        ({"resamples": 0}, TreeError, "1 or more"),
        ({"unique_calls": -3}, TreeError, "1 or more"),
        ({"policies": [helped, helped]}, PolicyError, "there twice"),
        ({"policies": helped}, PolicyError, "as a list"),
        ({"policies": {"it": []}, "price": "tokens"}, None, None),
        ({"policies": {"it": 7}}, PolicyError, "7 is no policy"),
        ({"policies": {"best fixed": helped}}, PolicyError, "another name"),
        ({"policies": [Entrant("it", ())]}, PolicyError, "at least one policy"),
        ({"policies": [Entrant("it", (helped,), -1.0)]}, TreeError, "0 or more"),
        ({"policies": {"it": "no_such_policy"}}, UnknownName, "no_such_policy"),
    ],
)
def test_bad_input_is_said_in_a_sentence(shown, options, error, said):
    if error is None:
        assert compare(shown, **options, **QUICK).row("it").cost.mean == 0, "an empty list is direct"
        return
    with pytest.raises(error, match=said):
        compare(shown, **{**QUICK, **options})


def test_no_tree_and_one_problem(shown):
    with pytest.raises(TreeError, match="there is no tree"):
        compare([])
    with pytest.raises(TreeError, match="a tree is there twice"):
        compare([shown, shown])
    with pytest.raises(TreeError, match="is no tree"):
        compare("trees/rooms")
    with pytest.raises(TreeError, match="there is one problem"):
        compare(tree.synthetic(1))
    with pytest.raises(TreeError, match="kept together"):
        compare(shown, together=lambda problem: "same")


def test_of_two_problems_and_one_draw_there_are_figures_without_intervals():
    found = compare(tree.synthetic(2), {"look": ["look"]}, **QUICK)
    row = found.row("look")
    assert found.n == 1 and np.isnan(row.score.low) and 0.4 <= row.score.mean <= 0.9
    assert row.regrets[0].closed is None and "oracle, naive" in str(found)
    assert any("one draw" in note for note in found.notes)
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_policy_that_cannot_be_evaluated_is_missing_with_the_reason(shown):
    unheard = policy(probes=("unheard_of",))(lambda state: STOP)
    found = compare(shown, {"it": unheard, "helped": helped}, **QUICK)
    assert "build it with --probe unheard_of" in found.missing["it"] and found.row("helped").score.mean > 0
    assert "confidence" in found.missing and "it was not compared" in str(found)
    with pytest.raises(UnknownName, match="unheard_of"):
        found.row("it")
    with pytest.raises(UnknownName, match="helped"):
        found.row("helpd")
    with pytest.raises(UnknownName, match="its λ: 0.02"):
        compare(shown, weights=[0.02], **QUICK).row("best fixed", 0.5)


def test_a_policy_that_raises_does_not_end_the_comparison(shown):
    found = compare(shown, {"broken": policy(lambda state: state.no_such), "helped": helped}, **QUICK)
    assert "it raised AttributeError" in found.missing["broken"] and found.row("helped").seeds == 1


def test_a_policy_trained_for_another_price_has_its_references_there(shown):
    found = compare(shown, [Entrant("it", (helped,), 0.07)], weights=[0.02], **QUICK)
    row = found.row("it")
    assert found.weights == [0.02, 0.07] and [regret.weight for regret in row.regrets] == [0.07]
    assert set(row.regrets[0].to) == {"best fixed", "oracle", "bandit"}
    assert "it λ=0.07" in str(found)


def test_more_groups_than_have_best_schedules_are_refused():
    with pytest.raises(TreeError, match="80 groups of 80 problems"):
        compare(tree.synthetic(80), by=lambda problem: problem.question)


def test_a_tree_of_no_actions_and_one_without_hard_scores(tmp_path):
    bare = built(tmp_path / "bare", actions=[], probes=[toys.answer_entropy])
    found = compare(bare, **QUICK)
    assert {row.score.mean for row in found.rows} == {found.row("direct").score.mean}
    scored = built(tmp_path / "soft", actions=["hint"], scorer=half)
    assert compare(scored, **QUICK).row("direct").hard is None


def half(problem, output):
    return 0.5


def test_a_policy_whose_actions_vanished_stops_and_that_is_said(shown, tmp_path):
    LearnedPolicy(["gone", "lost"]).save(tmp_path / "pi")
    found = compare(shown, {"old": tmp_path / "pi"}, **QUICK)
    assert found.row("old").cost.mean == 1 and found.row("old").over_fixed.gain.mean == 0
    assert "old was made for actions that no tree has, gone, lost" in " ".join(found.notes)


def test_a_damaged_policy_is_refused(shown, tmp_path):
    folder = LearnedPolicy(shown.actions).save(tmp_path / "pi")
    next(folder.glob("*.safetensors")).write_bytes(b"cut")
    with pytest.raises(SavedPolicyError, match="cut short"):
        compare(shown, {"it": folder})


def test_problems_of_one_kind_stay_together(shown):
    ground = Ground([shown], share=0.5, together=lambda problem: problem.question[-1])
    sides = {}
    for problem, out in zip(shown.problems, ground.held_out, strict=True):
        assert sides.setdefault(problem.question[-1], out) == out
    assert len(set(sides.values())) == 2


def test_a_policy_of_no_draws_is_evaluated_in_expectation(shown):
    ground = Ground([shown], share=0.5)
    standing = stand(ground, [RandomPolicy(0.5, without=())], "random")
    assert standing.charges[..., 0].mean() == pytest.approx(1 + 0.5), "look or help once, every other time"


def test_comparison_and_split_are_exported():
    assert set(comparison.__all__) >= {"compare", "split", "Ground", "Entrant", "Comparison"}
