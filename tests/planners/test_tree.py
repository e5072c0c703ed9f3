"""Trees: built by the engine, read back as arrays, and exact against live runs."""

import sys
from pathlib import Path

import numpy as np
import pytest

from planners import tree
from planners.tree import TreeError, Within
from policies import LearnedPolicy
from policies.random import RandomPolicy
from unroller import STOP, Call, Decision, DepthMap, Executor, Problem, Text, policy
from unroller.faults import PolicyError, ProblemError, UnknownName
from unroller.scorers import choice, soft_choice

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys
from tree_toys import N, built, executor, problems


@pytest.fixture(scope="module")
def quiz_tree(tmp_path_factory):
    return built(tmp_path_factory.mktemp("quiz") / "tree", chunk=5)


def test_states_are_sequences_shortest_first():
    layout = tree.Layout(["a", "b", "c"], depth=2)
    assert layout.states[:4] == ((), ("a",), ("b",), ("c",)) and len(layout) == 10
    assert layout.states[layout.child[layout.number["b",], 0]] == ("b", "a")
    assert (layout.child[layout.number["b", "a"]] == -1).all(), "no deeper than two"


def test_as_sets_orders_are_one_and_written_as_declared():
    layout = tree.Layout(["a", "b", "c"], orders="sets")
    assert len(layout) == 8 and layout.states[-1] == ("a", "b", "c")
    assert layout.states[layout.child[layout.number["b",], 0]] == ("a", "b")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"actions": "aa"}, "there twice"),
        ({"actions": "abc", "depth": -1}, "depth of -1"),
        ({"actions": "abc", "orders": "bags"}, "sequences"),
        ({"actions": [f"a{i}" for i in range(10)]}, "fewer actions"),
        ({"actions": [f"a{i}" for i in range(70)], "depth": 1}, "63 actions"),
    ],
)
def test_states_that_cannot_be_held_are_refused_in_words(options, said):
    with pytest.raises(TreeError, match=said):
        tree.Layout(**options)


def test_every_state_has_the_score_and_the_cost_of_the_live_run(quiz_tree):
    ex = executor()
    for state in quiz_tree.states:
        for draw in range(2):
            drawn = [p.model_copy(update={"seed": draw}) for p in problems()]
            runs = list(ex.extend(policy=list(state)).map(drawn))
            at = (slice(None), draw, quiz_tree.number(state))
            assert quiz_tree.score[at].tolist() == [soft_choice(r.problem, r.output) for r in runs]
            assert quiz_tree.hard[at].tolist() == [choice(r.problem, r.output) for r in runs]
            costs = [[r.cost.model_calls, r.cost.tokens, r.cost.price] for r in runs]
            assert quiz_tree.cost[at].tolist() == costs, state
            assert quiz_tree.entropy[at].tolist() == [r.output.entropy for r in runs]
            ids = [[e.id for e in r.entries][-1:] for r in runs]
            kept = [
                [] if quiz_tree.kind[i, draw, at[2]] < 0 else [quiz_tree.id[i, draw, at[2]].tobytes()]
                for i in range(N)
            ]
            assert all(k == i for k, i, r in zip(kept, ids, runs, strict=True) if not r.faults)


def test_draws_differ_where_something_is_stochastic_and_nowhere_else(quiz_tree):
    different = (quiz_tree.score[:, 0] != quiz_tree.score[:, 1]).any(0)
    assert all(
        different[s] == ("dice" in state) for s, state in enumerate(quiz_tree.states) if "hint" not in state
    )
    assert not different[quiz_tree.number(["hint", "picture"])]


def test_a_call_that_failed_is_charged_and_writes_nothing(quiz_tree):
    s = quiz_tree.number(["stumble"])
    assert quiz_tree.failed[:, 0, s].tolist() == [i % 3 == 0 for i in range(N)]
    assert (quiz_tree.cost[:, 0, s, 0] == 2).all() and (
        quiz_tree.score[::3, 0, s] == quiz_tree.score[::3, 0, 0]
    ).all()
    assert (quiz_tree.kind[::3, 0, s] == -1).all() and (
        quiz_tree.counts[:, 0, s].sum(-1) == [0, 1, 1] * 4
    ).all()


def test_what_does_not_apply_is_not_allowed_and_never_reached(tmp_path):
    found = built(tmp_path / "t", actions=["grey", "hint"], draws=1)
    assert found.allowed[:, 0, 0, 0].tolist() == [i != 5 for i in range(N)]
    assert found.reached[:, 0].all(1).tolist() == [i != 5 for i in range(N)]
    assert np.isnan(found.score[5, 0, found.number(["hint", "grey"])])
    landed = found.follow(["grey", "hint"])
    assert found.states[landed[5, 0]] == ("hint",) and found.states[landed[4, 0]] == ("grey", "hint")
    assert tree.evaluate(found, ["grey", "hint"]).scores[5] == found.score[5, 0, found.number(["hint"])]


def test_features_say_what_is_known_without_the_truth(quiz_tree):
    names = quiz_tree.feature_names
    assert names[:3] == ("answer entropy", "answer probability", "calls made")
    assert {"written Text", "written DepthMap", "sureness", "kind_of 0", "words_said 1"} <= set(names)
    row = dict(
        zip(names, quiz_tree.features[1, 0, quiz_tree.number(["hint", "picture"])].tolist(), strict=True)
    )
    assert row["written DepthMap"] == 1 and row["kind_of 1"] == 1 and row["calls made"] == 2
    assert row["sureness"] == pytest.approx(0.95) and row["words_said 1"] == 1
    assert quiz_tree.probes["kind_of"].strides[2] == 0, "it reads nothing of the context, and is kept once"
    assert quiz_tree.probes["words_said"].shape == (N, 2, len(quiz_tree.states), 2)


def test_arrays_are_read_only(quiz_tree):
    for array in (quiz_tree.score, quiz_tree.cost, quiz_tree.allowed, quiz_tree.features, quiz_tree.counts):
        with pytest.raises(ValueError):
            array[0] = 0


# ------------------------------------------------------------------------------------- exact evaluation


@policy(probes=("sureness",))
def until_sure(state):
    """The probe, its None, the context and what is left, as a policy would look at them."""
    if not state.allowed or (state.probe.sureness or 0) > 0.9:
        return STOP
    if state.workspace.latest(Text) is not None and "dice" in state.allowed:
        return "dice"
    return state.allowed[state.problem.metadata["number"] % len(state.allowed)]


@policy(probes=("kind_of",))
def by_kind(state):
    return (
        ["hint", STOP][min(state.step, 1)]
        if state.probe.kind_of[0]
        else ["dice", "stumble", STOP][state.step]
    )


@policy
def stubborn(state):
    return ["grey", "hint", "hint", "stumble", "stumble", "picture", STOP][state.step]


@policy
def side_by_side(state):
    return Decision(("hint", "picture")) if state.step == 0 else STOP


@policy
def never_stops(state):
    return "hint"


class Drawn(RandomPolicy):
    """By what it draws, and not by all that it might draw."""

    distribution = None


LIVE = [
    until_sure,
    by_kind,
    stubborn,
    side_by_side,
    never_stops,
    Drawn(),
    Drawn(0.1, seed=4),
    ["dice", "hint"],
    [],
]


@pytest.mark.parametrize("which", LIVE, ids=lambda p: getattr(p, "name", str(p)))
@pytest.mark.parametrize(
    "budget", [None, {"model_calls": 3}, {"tokens": 8, "price": 0.2, "steps": 1}], ids=str
)
def test_evaluation_is_what_a_live_executor_gives(quiz_tree, which, budget):
    from unroller.decide import as_policy

    found = tree.evaluate(quiz_tree, which, budget=budget)
    live = executor(budget=budget, probes=toys.PROBES).extend(policy=Within(as_policy(which), quiz_tree))
    scores, costs = np.zeros((2, N)), np.zeros((2, N, 3))
    refused = 0
    for draw in range(2):
        for i, run in enumerate(live.map([p.model_copy(update={"seed": draw}) for p in problems()])):
            scores[draw, i] = soft_choice(run.problem, run.output)
            costs[draw, i] = run.cost.model_calls, run.cost.tokens, run.cost.price
            refused += sum(fault.phase == "refused" for fault in run.faults)
    assert np.allclose(found.scores, scores.mean(0), rtol=0, atol=1e-12)
    assert np.allclose(found.charges, costs.mean(0), rtol=0, atol=1e-12)
    assert found.refused == refused / (2 * N) and found.n == N and not found.expected


def test_a_policy_that_gives_its_distribution_is_evaluated_in_expectation(quiz_tree):
    class Mixed:
        """Hints with probability 0.3, throws the coin with 0.2, else stops."""

        name = "mixed"

        def decide(self, states):
            raise AssertionError("its distribution is asked for")

        def distribution(self, states):
            first = [
                Decision(("hint",), np.log(0.3)),
                Decision(("dice",), np.log(0.2)),
                Decision((), np.log(0.5)),
            ]
            return [first if state.step == 0 else [Decision((), 0.0)] for state in states]

    found = tree.evaluate(quiz_tree, Mixed())
    parts = [tree.evaluate(quiz_tree, calls) for calls in (["hint"], ["dice"], [])]
    by_hand = sum(p * part.scores for p, part in zip((0.3, 0.2, 0.5), parts, strict=True))
    assert np.allclose(found.scores, by_hand) and found.expected and found.lost == 0
    assert np.allclose(found.ended.sum(2), 1)


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        ([Decision(("hint",), np.log(0.3))], "sum to 0.3"),
        ([Decision(("hint",), float("nan"))], "sum to nan"),
        ([Decision(("hint",))], "without log-probabilities"),
        ([], "sum to 0"),
    ],
)
def test_distributions_that_are_none_are_refused(quiz_tree, decided, said):
    class Wrong:
        name = "wrong"

        def decide(self, states):
            return []

        def distribution(self, states):
            return [decided for _ in states]

    with pytest.raises(PolicyError, match=said):
        tree.evaluate(quiz_tree, Wrong())


@pytest.mark.parametrize(
    ("which", "error", "said"),
    [
        ([Call("dice", draw=1)], TreeError, "problems with other seeds"),
        ([Call("hint", {"x": 1})], TreeError, "leave them out"),
        ([Decision(("hint", "dice"))], TreeError, "one call at a time"),
        (policy(probes=("unheard_of",))(lambda state: STOP), TreeError, "build it with --probe unheard_of"),
        (
            policy(
                lambda state: state.workspace.latest(DepthMap).depth and STOP if state.step else "picture"
            ),
            TreeError,
            "does not keep",
        ),
        (policy(lambda state: 7), PolicyError, "decided 7"),
    ],
)
def test_what_a_tree_does_not_hold_is_said(quiz_tree, which, error, said):
    with pytest.raises(error, match=said):
        tree.evaluate(quiz_tree, which)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"problems": []}, "at least one"),
        ({"problems": [99]}, "no problem 99: the tree has numbers 0 to 11"),
        ({"problems": [-1]}, "no problem -1"),
        ({"problems": [1, 1]}, "there twice"),
        ({"resamples": 0}, "takes 1 or more"),
    ],
)
def test_what_cannot_be_evaluated_is_said(quiz_tree, options, said):
    with pytest.raises(TreeError, match=said):
        tree.evaluate(quiz_tree, ["hint"], **options)


def test_a_policy_is_given_by_name_or_folder_as_to_an_executor(quiz_tree, tmp_path):
    by_name = tree.evaluate(quiz_tree, "random", resamples=10)
    assert by_name.scores.tolist() == tree.evaluate(quiz_tree, RandomPolicy(), resamples=10).scores.tolist()
    saved = LearnedPolicy(observation=tree.observation_of(quiz_tree, probes=[]), hidden=(4,))
    saved.save(tmp_path / "saved")
    for folder in (tmp_path / "saved", str(tmp_path / "saved")):
        found = tree.evaluate(quiz_tree, folder, resamples=10)
        assert found.scores == pytest.approx(tree.evaluate(quiz_tree, saved, resamples=10).scores)
    with pytest.raises(UnknownName, match="no policy is called 'unheard_of'"):
        tree.evaluate(quiz_tree, "unheard_of")


def test_it_says_n_and_an_interval(quiz_tree):
    found = tree.evaluate(quiz_tree, ["hint"], price={"model_calls": 1, "tokens": 0.1})
    assert found.score.low < found.score.mean < found.score.high and found.cost.mean == pytest.approx(2.5)
    assert "n 12" in str(found) and found.hard.mean == 0.5
    some = tree.evaluate(quiz_tree, ["hint"], problems=[0, 2])
    assert some.hard.mean == 1 and some.n == 2
    with pytest.raises(TreeError, match="take the same"):
        tree.compare(found, some)
    gain = tree.compare(found, tree.evaluate(quiz_tree, []))
    assert gain.low < gain.mean < gain.high


def test_states_hold_what_live_ones_do(quiz_tree):
    told = []

    @policy(probes=("sureness",))
    def look(state):
        told.append(
            (
                state.problem.identity,
                [(e.id, e.action, e.kind, e.step, e.cost) for e in state.workspace],
                [e.value.text for e in state.workspace if e.kind is Text],
                state.allowed,
                state.actions,
                state.left,
                [str(c) for d in state.decisions for c in d.calls],
                state.failed,
                state.probe.sureness,
                state.provided("hint"),
                state.provided("unheard_of"),
            )
        )
        return ["hint", "stumble", STOP][state.step]

    tree.evaluate(quiz_tree, look, budget={"model_calls": 9})
    offline, told = told, []
    live = executor(budget={"model_calls": 9}, probes=toys.PROBES).extend(policy=Within(look, quiz_tree))
    for draw in range(2):
        list(live.map([p.model_copy(update={"seed": draw}) for p in problems()]))
    assert sorted(map(repr, offline)) == sorted(map(repr, told)) and len(told) == 2 * N * 3


# ------------------------------------------------------------------------------------- what is best


def test_best_schedules_are_chosen_on_some_problems_and_scored_on_others(tmp_path):
    found = built(tmp_path / "t", n=40, actions=["hint", "picture"], draws=1, probes=[])
    whole = tree.best_fixed(found, whole=True)
    grouped = tree.best_fixed(found, "level")
    assert set(grouped.chosen) == {"0", "1"}
    # Hints help the even ones (0.95 with a picture) and mislead the odd ones, which the picture alone helps
    # or harms as the answer is a or b.
    assert grouped.chosen["0"] == [("hint", "picture")] * 2
    assert grouped.score.mean > whole.score.mean and grouped.n == 40
    assert grouped.score.low < grouped.score.mean < grouped.score.high
    dear = tree.best_fixed(found, whole=True, weight=1.0, price="model_calls+price")
    assert dear.chosen["all"] == [(), ()]
    with pytest.raises(TreeError, match="0 or more"):
        tree.best_fixed(found, weight=-0.1)
    with pytest.raises(ProblemError, match="no metadata 'colour'"):
        tree.best_fixed(found, "colour")


def test_the_oracle_is_not_credited_with_luck():
    lucky = tree.synthetic(n=2000, helpers=1, draws=8, luck=0.1, depth=1, seed=2)
    found = tree.oracle(lucky)
    true = tree.oracle(tree.synthetic(n=2000, helpers=1, draws=8, luck=0.0, depth=1, seed=2))
    assert found.kind == "cross-fitted" and not found.optimistic
    assert found.score.low <= true.score.mean < found.naive.low
    assert true.kind == "naive" and "all draws are the same" in true.note


def test_with_one_draw_the_oracle_says_that_it_is_naive(tmp_path):
    found = tree.oracle(built(tmp_path / "t", draws=1, actions=["hint"], probes=[]))
    assert found.kind == "naive" and found.optimistic and "one draw" in found.note
    # even: the hint, 0.9; odd: the hint is wrong, so direct: 0.6 if the answer is a, else 0.4
    assert found.score.mean == pytest.approx((0.9 * 6 + 0.6 * 3 + 0.4 * 3) / 12)


def test_a_pareto_front_holds_what_nothing_beats():
    on = tree.pareto(np.array([0.5, 0.7, 0.6, 0.7, 0.9]), np.array([1, 2, 2, 3, 3]))
    assert on.tolist() == [True, True, False, False, True]


# ------------------------------------------------------------------------------------------ synthetic


def test_a_synthetic_tree_has_the_optimum_that_one_works_out_by_hand():
    found = tree.synthetic(n=240, seed=3)
    hard = np.mean([p.metadata["needed"] > 0 for p in found.problems])
    best = tree.optimum(found, 0.02)
    assert best.value == pytest.approx(0.9 - 0.02 * (2 + hard)), "look, then help where help is needed"
    shown = tree.optimum(tree.synthetic(n=240, seed=3, hidden=False), 0.02)
    assert shown.value == pytest.approx(0.9 - 0.02 * (1 + hard)), "no need to look"
    blind = tree.optimum(found, 0.02, seen=[])
    assert blind.value < best.value, "whoever sees nothing takes one schedule for all"
    fixed = tree.schedules(found)
    assert blind.value == pytest.approx((fixed.score.mean((0, 1)) - 0.02 * fixed.cost.mean((0, 1))).max())
    assert tree.optimum(found, 9.0).cost == 1


def test_the_policy_that_is_optimal_by_hand_reaches_the_optimum():
    found = tree.synthetic(n=120)

    @policy(probes=("hint",))
    def best(state):
        if state.step == 0:
            return "look"
        needed = int(state.probe.hint.argmax())
        return f"help_{needed}" if needed and state.step == 1 else STOP

    evaluated = tree.evaluate(found, best)
    assert evaluated.score.mean - 0.05 * evaluated.cost.mean == pytest.approx(tree.optimum(found, 0.05).value)


def test_a_synthetic_tree_is_a_tree_file_like_any_other(tmp_path):
    made = tree.synthetic(n=20, draws=2, luck=0.1, out=tmp_path / "t")
    read = tree.load(tmp_path / "t")
    for name in ("score", "hard", "cost", "allowed", "counts", "features", "id", "probabilities"):
        assert np.array_equal(getattr(made, name), getattr(read, name)), name
    assert read.problem(3, 1).identity == made.problem(3, 1).identity


def test_any_backend_and_its_features(tmp_path):
    from unroller.check.samples import texture
    from unroller.check.standin import StandIn

    asked = [
        Problem.spatial(
            texture(i, 64, 64),
            texture(i + 50, 64, 64),
            question=f"where is number {i}?",
            choices=["left", "right", "front"],
            metadata={"truth": {"answer": "left"}},
        )
        for i in range(4)
    ]
    options = {"depth": 1, "chunk": 2, "scorer": "soft_choice"}
    tree.build(Executor(backend=StandIn()), asked, tmp_path / "t", **options)
    found = tree.load(tmp_path / "t")
    assert {"camera_pose_estimate", "novel_view_synthesis:sides", "text_think"} <= set(found.actions)
    assert not {"oracle_text", "oracle_pose"} & set(found.actions), "they read the truth"
    assert found.probes["problem_features"].shape == (4, 1, len(found.states), 8)
    assert np.isnan(found.hard).all() and found.recipe.hard is None
    live = Executor(backend=StandIn(), policy=["latent_think"])
    scores = [soft_choice(run.problem, run.output) for run in live.map(asked)]
    assert tree.evaluate(found, ["latent_think"]).scores.tolist() == scores


def test_a_tree_may_be_judged_by_right_and_wrong(quiz_tree):
    hard = quiz_tree.judged("hard")
    assert set(np.unique(hard.score)) == {0, 1} and hard.recipe.scorer == quiz_tree.recipe.hard
    assert tree.evaluate(hard, ["hint"]).score.mean == tree.evaluate(quiz_tree, ["hint"]).hard.mean
    assert hard.table().digest != quiz_tree.table().digest, "a training on one does not go on on the other"
    assert quiz_tree.judged("score") is hard.judged("score") is quiz_tree
    assert quiz_tree.recipe.scorer == "soft_choice"


def test_of_several_trees_a_policy_keeps_to_the_one_of_the_task(quiz_tree, tmp_path):
    small = built(tmp_path / "t", n=2, actions=["hint"], depth=1)
    other = tree.synthetic(3, helpers=1)
    eager = policy(lambda state: state.allowed[0] if state.allowed else STOP)
    live = executor(probes=toys.PROBES).extend(policy=Within(eager, [other, small]))
    for run in live.map(problems(2)):
        assert [call.action for made in run.decisions for call in made.calls] == ["hint"]
    with pytest.raises(TreeError, match="no tree here has problems of the task 'quiz'"):
        Within(eager, [other, tree.synthetic(3, helpers=2, seed=4)])._tree("quiz")


def test_who_measured_no_hard_score_cannot_be_judged_by_it(tmp_path):
    soft = built(tmp_path / "t", actions=[], scorer="soft_choice", hard=None)
    with pytest.raises(TreeError, match="--hard SCORER"):
        soft.judged("hard")
    with pytest.raises(TreeError, match="not by 'odd'"):
        soft.judged("odd")


def test_a_tree_without_actions_is_the_bare_answer(tmp_path):
    found = built(tmp_path / "t", actions=[], depth=None, draws=1, probes=[])
    assert found.states == ((),) and found.features.shape == (N, 1, 1, 3)
    assert tree.evaluate(found, []).cost.mean == 1 and tree.oracle(found).cost.mean == 1


def test_as_sets_a_policy_may_come_to_a_state_by_any_order(tmp_path):
    found = built(tmp_path / "t", orders="sets", draws=1, actions=["hint", "picture", "stumble"], depth=None)
    there, back = (tree.evaluate(found, list(calls)) for calls in (("hint", "picture"), ("picture", "hint")))
    assert np.array_equal(there.scores, back.scores) and np.array_equal(there.charges, back.charges)
    assert len(found.states) == 8 and (found.score[:, 0, 7] == built_sequence(tmp_path, found)).all()


def built_sequence(tmp_path, found):
    """The score after all three in the order of declaration, live."""
    runs = executor().extend(policy=list(found.actions)).map(problems())
    return np.array([soft_choice(run.problem, run.output) for run in runs])
