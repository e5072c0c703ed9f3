"""Trees: built by the engine, read back as arrays, and exact against live runs."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from planners import tree
from planners.tree import TreeError, Within
from policies.random import RandomPolicy
from unroller import STOP, Call, Decision, DepthMap, Executor, Problem, Text, policy
from unroller.faults import ContractError, PolicyError, ProblemError, UnknownName
from unroller.scorers import choice, soft_choice

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys

N = 12


def executor(**options):
    return Executor(backend=[], primitives=toys.PARTS, decoders=[toys.quiz], policy=[], **options)


def problems(n=N):
    return [toys.questions(i) for i in range(n)]


def built(folder, n=N, ex=None, **options):
    options = {"actions": toys.ACTIONS, "depth": 2, "draws": 2, "probes": toys.PROBES} | options
    tree.build(ex or executor(), problems(n), folder, **options)
    return tree.load(folder)


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


LIVE = [
    until_sure,
    by_kind,
    stubborn,
    side_by_side,
    never_stops,
    RandomPolicy(),
    RandomPolicy(0.1, seed=4),
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


# ------------------------------------------------------------------------------ files, kills, bad input


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_tree_has_the_same_bytes_whatever_was_computed_before(tmp_path):
    built(tmp_path / "a", chunk=5)
    ex = executor()
    list(ex.extend(policy=["hint", "dice"]).map(problems()))
    built(tmp_path / "b", ex=ex, chunk=5)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert set(files(tmp_path / "a")) == {
        "README.md",
        "tree.json",
        "states.parquet",
        "problems.parquet",
        "arrays.safetensors",
    }


def test_nothing_is_computed_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("TOYS_COMPUTED", str(tmp_path / "computed"))
    built(tmp_path / "t", probes=[])
    calls = Counter((tmp_path / "computed").read_text().splitlines())
    assert {count for call, count in calls.items() if not call.startswith("stumble")} == {1}
    monkeypatch.setenv("TOYS_COMPUTED", str(tmp_path / "again"))
    built(tmp_path / "t", probes=[])
    assert not (tmp_path / "again").exists(), "a complete tree is left as it is"


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import tree_toys as toys
from planners import tree
from unroller import Executor
ex = Executor(backend=[], primitives=toys.PARTS, decoders=[toys.quiz], policy=[])
problems = [toys.questions(i) for i in range(12)]
print("go", flush=True)
tree.build(ex, problems, sys.argv[2], actions=toys.ACTIONS, depth=2, draws=2, probes=toys.PROBES, chunk=2)
"""


def start(folder, slow):
    env = os.environ | {"TOYS_SLOW": str(slow), "TOYS_COMPUTED": str(folder) + ".computed"}
    command = [sys.executable, "-c", PROGRAM, str(Path(toys.__file__).parent), str(folder)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_a_build_that_is_killed_goes_on_and_ends_the_same(tmp_path):
    built(tmp_path / "unbroken", chunk=2)
    broken, kills, parts = tmp_path / "broken", 0, 0
    for _ in range(20):
        process = start(broken, slow=0.004)
        assert process.stdout.readline() == "go\n"
        deadline = time.monotonic() + 60
        done = parts
        while process.poll() is None and done == parts and time.monotonic() < deadline:
            time.sleep(0.02)
            done = len(list((broken / "parts").glob("*.part")))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
        if (broken / "tree.json").exists():
            break
        parts = len(list((broken / "parts").glob("*.part")))
        with pytest.raises(TreeError, match="not finished"):
            tree.load(broken)
    assert start(broken, slow=0).wait(60) == 0, "if the kill came after the last file, it tidies up"
    assert kills >= 3 and files(tmp_path / "unbroken") == files(broken)


def test_a_damaged_part_is_made_again(tmp_path):
    built(tmp_path / "a", chunk=4)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    process = start(tmp_path / "c", slow=0.01)
    process.stdout.readline()
    while not list((tmp_path / "c" / "parts").glob("*.part")):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    part = next((tmp_path / "c" / "parts").glob("*.part"))
    part.write_bytes(part.read_bytes()[:-10])
    assert start(tmp_path / "c", slow=0).wait(60) == 0
    assert np.array_equal(tree.load(tmp_path / "c").score, tree.load(tmp_path / "a").score)


def test_a_folder_with_another_tree_is_left_alone(tmp_path):
    built(tmp_path / "t")
    with pytest.raises(TreeError, match=r"another tree \(it differs in draws\)"):
        built(tmp_path / "t", draws=3)
    with pytest.raises(TreeError, match="problems"):
        built(tmp_path / "t", n=11)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(TreeError, match="something else"):
        built(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(TreeError, match="something else"):
        built(tmp_path / "file")


def spoilt(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name", ["states.parquet", "problems.parquet", "arrays.safetensors"])
def test_what_is_missing_truncated_or_changed_is_said(tmp_path, name):
    built(tmp_path / "t", draws=1)
    spoilt(tmp_path / "t", name, lambda content: content[:-1])
    with pytest.raises(TreeError, match=f"{name} is truncated"):
        tree.load(tmp_path / "t")
    spoilt(tmp_path / "t", name, lambda content: content + b"?")
    with pytest.raises(TreeError, match="was changed"):
        tree.load(tmp_path / "t")
    (tmp_path / "t" / name).unlink()
    with pytest.raises(TreeError, match="is missing from the tree"):
        tree.load(tmp_path / "t")


def test_another_version_and_no_tree_at_all_are_said(tmp_path):
    built(tmp_path / "t", draws=1)
    spoilt(tmp_path / "t", "tree.json", lambda content: content.replace(b'"format": 1', b'"format": 7'))
    with pytest.raises(TreeError, match="format 7, and this unroller reads format 1"):
        tree.load(tmp_path / "t")
    spoilt(tmp_path / "t", "tree.json", lambda content: content[:50])
    with pytest.raises(TreeError, match="damaged"):
        tree.load(tmp_path / "t")
    with pytest.raises(TreeError, match="holds no tree"):
        tree.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"actions": ["hnt"]}, UnknownName, "hint"),
        ({"draws": 0}, TreeError, "1 or more"),
        ({"scorer": lambda x, y: float("nan")}, ContractError, "a number from 0 to 1"),
        ({"scorer": lambda x, y: 1 / 0}, ContractError, "ZeroDivisionError"),
        ({"parameters": {"dice": {"heads": 2}}}, ContractError, "do not fit"),
        ({"parameters": {"grey": {"shade": 2}}}, TreeError, "no action of the tree"),
        ({"probes": [toys.hint]}, TreeError, "no probe"),
        ({"n": 0}, TreeError, "no problems"),
    ],
)
def test_bad_input_is_refused_in_words(tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        built(tmp_path / "t", **options)


def test_actions_that_nobody_named_are_those_that_work_and_read_no_truth():
    from planners.tree.building import usable

    assert usable(executor(), problems()) == ["picture", "grey"]


def test_problems_without_truth_are_said(tmp_path):
    with pytest.raises(ProblemError, match=r"problem 1, draw 0.*truth"):
        blind = Problem(task="quiz", question="?", choices=toys.CHOICES, metadata={"number": 1})
        tree.build(executor(), [toys.questions(0), blind], tmp_path / "t", actions=[], scorer="soft_choice")


def test_parameters_of_an_action_are_those_of_the_tree(tmp_path):
    from pydantic import BaseModel

    from unroller import primitive

    class Loud(BaseModel):
        volume: int = 1

    @primitive(reads=(), writes=Text, parameters=Loud)
    def shout(view):
        return Text("b" * view.parameters.volume)

    ex = executor().extend(primitives=[shout])
    options = {"actions": ["shout"], "draws": 1, "probes": []}
    quiet = built(tmp_path / "q", ex=ex, **options)
    loud = built(tmp_path / "l", ex=ex, parameters={"shout": {"volume": 2}}, **options)
    assert quiet.score[0, 0, 1] == pytest.approx(0.1) and loud.score[0, 0, 1] == 0.6
    live = ex.extend(policy=Within(policy(lambda s: s.allowed[0] if s.allowed else STOP), loud))
    assert soft_choice(problems()[0], live.run(problems()[0]).output) == 0.6


# --------------------------------------------------------------------------------------- the command


@pytest.fixture
def unroller(capsys, tmp_path, monkeypatch):
    from unroller.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words], standalone_mode=False)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


TOYS = ["--use", toys.__file__, "--problem", "questions", "--task", "quiz", "--n", 8]


def test_the_command_builds_and_shows(unroller):
    code, out, err = unroller(
        "tree", *TOYS, "--action", "hint,dice", "--draws", 2, "--probe", "none", "--out", "t"
    )
    assert code == 0, err
    assert "hint → dice" in out and "best fixed" in out and "oracle, cross-fitted" in out
    code, out, _ = unroller(
        "tree", "show", "t", "--by", "level", "--cost", "model_calls+0.1*tokens", "--json"
    )
    document = json.loads(out)
    assert code == 0 and document["n"] == 8 and document["draws"] == 2 and len(document["schedules"]) == 5
    assert set(document["best_fixed_by_group"]["chosen"]) == {"0", "1"}
    hint = next(row for row in document["schedules"] if row["schedule"] == "hint")
    assert hint["cost"]["mean"] == pytest.approx(2.5) and hint["hard"] == 0.5
    assert "oracle over best fixed" in document["gains"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--problem", "questions"], 2, "--out DIR"),
        (["--out", "t"], 2, "--problem SET"),
        (["--problem", "unheard_of", "--out", "t"], 2, "unheard_of"),
        (["--problem", "questions", "--task", "quiz", "--action", "hnt", "--out", "t"], 2, "hint"),
        (
            ["--problem", "questions", "--task", "quiz", "--set", "hint", "--out", "t"],
            2,
            "ACTION.PARAMETER=VALUE",
        ),
        (["show", "nowhere"], 2, "holds no tree"),
    ],
)
def test_the_command_says_what_is_wrong(unroller, words, code, said):
    given = words if words[0] == "show" else ["--use", toys.__file__, "--n", 2, *words]
    ended, _, err = unroller("tree", *given)
    assert ended == code and said in err


def test_the_card_says_what_it_is_and_may_be_added_to(tmp_path):
    built(tmp_path / "t", draws=1, licence="cc-by-4.0")
    card = (tmp_path / "t" / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "| draws | 1 |" in card and "hint → picture" in card
    (tmp_path / "t" / "README.md").write_text(card + "\nMade by us.\n")
    assert len(tree.load(tmp_path / "t")) == N


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
