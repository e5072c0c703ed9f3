"""A tree as a table holds what a policy sees in a live run, number for number, and what that is worth."""

import sys
from pathlib import Path

import numpy as np
import pytest

from planners import tree
from planners.tree import TreeError, Within
from policies import LearnedPolicy, Price, RandomPolicy
from policies.observation import Observation, ProblemFeatures
from unroller import STOP, Cost, Text, policy, probe
from unroller.decide import Decision
from unroller.faults import InputError, PolicyError

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys

PROBED = ProblemFeatures(probes=(("sureness", 1), ("kind_of", 2), ("words_said", 2)))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toys.built(tmp_path_factory.mktemp("tables") / "toy", actions=[*toys.ACTIONS, "mumble", "grey"])


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return toys.built(tmp_path_factory.mktemp("tables") / "sets", orders="sets", depth=3)


def seen_of(actions, **options):
    """What the toys' tree keeps: not the pictures, which are arrays."""
    return Observation(tuple(actions), types=("Text", "CameraPose"), problem=PROBED, **options)


class Watching(RandomPolicy):
    """Goes everywhere, and notes the observation of every state it is asked about."""

    def __init__(self, seen):
        super().__init__(stop=0.2, without=())
        self.seen = seen
        self.probes = tuple(name for name, _ in seen.problem.probes)
        self.noted = {}

    def note(self, states):
        for state, row in zip(states, self.seen.of(states), strict=True):
            path = tuple(call.action for decision in state.decisions for call in decision.calls)
            self.noted[state.problem.identity, path] = row

    def distribution(self, states):
        self.note(states)
        return super().distribution(states)


@pytest.mark.parametrize("budget", [None, {"model_calls": 5}, {"tokens": 12}, {"steps": 1}, {"price": 0.3}])
@pytest.mark.parametrize("which", ["toy", "sets"])
def test_observations_are_those_of_the_states(which, budget, request):
    found = request.getfixturevalue(which)
    watching = Watching(seen_of(found.actions))
    tree.evaluate(found, watching, budget=budget, resamples=10)
    table = found.table(watching.seen, budget=budget)
    states = {path: s for s, path in enumerate(table.states)}
    rows = {found.problem(*divmod(row, found.draws)).identity: row for row in range(len(table))}
    at = [(rows[identity], states[path]) for identity, path in watching.noted]
    r, s = np.array(at).T
    assert np.array_equal(table.observations[r, s], np.stack(list(watching.noted.values())))
    assert table.reached[r, s].all()
    asked = table.reached & (table.size < (64 if budget is None else budget.get("steps", 64)))
    assert asked.sum() == len(at)  # it went everywhere
    assert np.array_equal(table.allowed[r, s], table.observation.allowed(table.observations[r, s]))


def test_observations_are_those_of_a_live_run(toy):
    seen = seen_of(toy.actions)
    live = Watching(seen)

    class Live(Watching):
        def decide(self, states):
            live.note(states)
            return super().decide(states)

    for seed in range(4):
        policy = Live(seen)
        policy.seed = seed
        ex = toys.executor(probes=toys.PROBES).extend(policy=tree.Within(policy, toy))
        list(ex.map(toys.problems()))
    table = toy.table(seen)
    states = {path: s for s, path in enumerate(table.states)}
    rows = {toy.problem(i, 0).identity: i * toy.draws for i in range(len(toy))}
    assert len(live.noted) > 60
    for (identity, path), row in live.noted.items():
        assert np.array_equal(table.observations[rows[identity], states[path]], row), path


@pytest.mark.parametrize("price", ["model_calls", "model_calls+0.1*tokens", Price(1, 0.5, 10)])
def test_scores_and_costs_are_those_of_an_evaluation(toy, price):
    """Looking is charged each time: after two calls the probes were asked three times."""
    table = toy.table(seen_of(toy.actions), price=price)
    plain = price if isinstance(price, str) else {"model_calls": 1, "tokens": 0.5, "price": 10}

    class Follow:
        name, probes = "follow", ("sureness", "kind_of", "words_said")

        def __init__(self, path):
            self.path = path

        def decide(self, states):
            return [Decision() if s.step >= len(self.path) else self.path[s.step] for s in states]

    for s, path in enumerate(table.states):
        rows = np.flatnonzero(table.reached[:, s].reshape(-1, toy.draws).all(1))
        if not rows.size:
            continue
        found = tree.evaluate(toy, Follow(path), problems=rows.tolist(), price=plain, resamples=10)
        each = lambda array, s=s, rows=rows: array[:, s].reshape(-1, toy.draws)[rows].mean(1)  # noqa: E731
        assert np.allclose(each(table.score), found.scores)
        assert np.allclose(each(table.hard), found.hards)
        assert np.allclose(each(table.cost).mean(), found.cost.mean)


def test_what_is_not_reached_is_nothing(toy):
    table = toy.table(seen_of(toy.actions))
    assert not table.reached.all()
    assert not table.observations[~table.reached].any()
    assert not table.allowed[~table.reached][:, :-1].any() and table.allowed[..., table.stop].all()
    with pytest.raises(ValueError, match="read-only"):
        table.score[0, 0] = 1.0


def test_some_actions_some_problems_and_labels(toy):
    table = toy.table(seen_of(["dice", "hint"]), problems=[4, 1], by="level")
    assert table.states == ((), ("dice",), ("hint",), ("dice", "hint"), ("hint", "dice"))
    assert table.problem.tolist() == [4, 4, 1, 1] and table.draw.tolist() == [0, 1, 0, 1]
    assert table.groups == ("0", "0", "1", "1")
    s = toy.number(["hint", "dice"])
    assert np.array_equal(table.score[:, 4], toy.score[[4, 1], :, s].ravel())


def test_trees_with_other_actions_are_one_table(toy, tmp_path):
    small = toys.built(tmp_path / "small", n=3, actions=["grey", "hint"], depth=1)
    seen = seen_of(["dice", "hint", "grey"])
    table = tree.table([toy, small], seen, problems=[1, len(toy) + 2], by="level")
    assert table.problem.tolist() == [1, 1, *[len(toy) + 2] * 2] and table.draw.tolist() == [0, 1, 0, 1]
    assert [len(state) for state in table.states] == sorted(len(state) for state in table.states)

    dice = seen.actions.index("dice")
    assert table.allowed[:2, 0].all() and not table.allowed[2:, :, dice].any(), "it has no dice"
    for state, name in enumerate(table.states):
        alone = toy.table(seen, problems=[1])
        s = alone.states.index(name)
        for field in ("observations", "allowed", "score", "cost", "reached"):
            ours, wanted = getattr(table, field)[:2, state], getattr(alone, field)[:, s]
            assert np.array_equal(ours, wanted), (name, field)

    watching = Watching(seen)
    tree.evaluate(small, watching, problems=[2], resamples=10)
    first = small.problem(2).identity
    noted = {path: row for (identity, path), row in watching.noted.items() if identity == first}
    assert set(noted) == {(), ("hint",), ("grey",)}
    for path, row in noted.items():
        s = table.states.index(path)
        assert np.array_equal(table.observations[2, s], row), path
        assert table.score[2, s] == small.score[2, 0, small.number(path)]


def test_a_problem_in_one_draw_weighs_what_one_in_several_does(toy, tmp_path):
    rarely = toys.built(tmp_path / "rarely", n=3, draws=1)
    both = tree.table([rarely, toy], seen_of(["hint"]))
    alone = tree.table(rarely, seen_of(["hint"]))
    assert len(both) == 2 * (3 + len(toy)) and set(np.bincount(both.problem)) == {2}
    for name in ("observations", "allowed", "score", "hard", "cost", "reached"):
        held, once = getattr(both, name), getattr(alone, name)
        states = [both.states.index(path) for path in alone.states]
        for draw in range(2):
            assert np.array_equal(held[draw:6:2][:, states], once), name
    with pytest.raises(tree.TreeError, match="3, 2 draws, and one with more of them would weigh more"):
        tree.table([tree.synthetic(4, draws=3), tree.synthetic(4, draws=2, seed=1)])


def test_trees_that_cannot_be_taken_together(toy):
    with pytest.raises(tree.TreeError, match="twice"):
        tree.table([toy, toy.judged("score")], seen_of(["hint"]))
    with pytest.raises(tree.TreeError, match="scores of choice and soft_choice cannot be compared"):
        tree.table([toy, toy.judged("hard")], seen_of(["hint"]))
    with pytest.raises(tree.TreeError, match="'toy' is no tree"):
        tree.table("toy")
    with pytest.raises(tree.TreeError, match="at least one"):
        tree.table(one for one in ())
    with pytest.raises(tree.TreeError, match="the probe hint has 2 and 3 numbers"):
        tree.observation_of([tree.synthetic(4, helpers=k, seed=k) for k in (1, 2)], ["hint"])
    both = [tree.synthetic(4, helpers=k, seed=k) for k in (1, 2)]
    assert not tree.observation_of(both).problem.probes, "what has other numbers is left out by itself"


def test_a_policy_of_the_tree_can_be_asked_about_its_table():
    found = tree.synthetic(n=8, helpers=2)
    policy = LearnedPolicy(observation=tree.observation_of(found))
    table = found.table(policy.observation)
    p, _ = policy.log_probabilities(table.observations.reshape(-1, policy.observation.size))
    assert np.array_equal(np.isfinite(p).reshape(*table.shape, -1), table.allowed)


def test_photos_and_cameras_are_counted_as_in_a_live_run(tmp_path):
    """A policy that learned on a tree sees as many photos there as it will live."""
    photo = np.zeros((16, 16, 3), np.uint8)
    camera = {"fx": 20.0, "fy": 20.0, "cx": 8.0, "cy": 8.0}
    asked = [
        toys.questions(i).model_copy(update={"images": [photo] * (i + 1), "intrinsics": camera})
        for i in range(2)
    ]
    tree.build(toys.executor(), asked, tmp_path / "t", actions=["hint"], probes=[])
    found = tree.load(tmp_path / "t")
    table = found.table(tree.observation_of(found))
    seen = table.observation.problem
    assert np.array_equal(table.observations[:, 0, : seen.size], np.stack(list(map(seen.problem, asked))))
    assert "images=? x ?, ? x ?" in repr(found.problem(1))
    with pytest.raises(tree.TreeError, match="does not keep pictures"):
        _ = found.problem(1).images[0].pixels


def test_what_the_tree_does_not_hold(toy):
    with pytest.raises(tree.TreeError, match="no action 'fly'"):
        toy.table(Observation(("hint", "fly")))
    with pytest.raises(tree.TreeError, match="the probe luck"):
        toy.table(Observation(("hint",), problem=ProblemFeatures(probes=(("luck", 1),))))
    with pytest.raises(tree.TreeError, match=r"the DepthMap after picture holds arrays.*observation_of"):
        toy.table(Observation(("hint", "picture")))
    with pytest.raises(PolicyError, match=r"measured 2 numbers.*has 3"):
        toy.table(tree.observation_of(toy, probes=(), problem=ProblemFeatures(probes=(("kind_of", 3),))))
    with pytest.raises(tree.TreeError, match="from 0 to 11"):
        toy.table(seen_of(toy.actions), problems=[3, 12])
    with pytest.raises(tree.TreeError, match="no clock"):
        toy.table(seen_of(toy.actions), budget={"seconds": 1})
    assert tree.observation_of(toy).types == tuple(t for t in Observation(()).types if t != "DepthMap")
    assert dict(tree.observation_of(toy).problem.probes) == {"sureness": 1, "kind_of": 2, "words_said": 2}


# ------------------------------------------------------------------ probes, measured once or not at all


@probe(reads=("question",), cost=Cost(model_calls=1))
def length(view):
    """Of the problem alone."""
    return float(len(view.question))


@probe(reads=("question",), writes=np.ndarray, cost=Cost(model_calls=1))
def lengths(view):
    """Of the problem alone, as an array."""
    return np.array([len(view.question), len(view.question.split())], np.float32)


@probe(reads=("metadata",), writes=np.ndarray, cost=Cost(model_calls=1))
def patchy(view):
    """Fails on every other problem, the first among them, after charging for it."""
    view.charge(model_calls=1)
    if view.metadata["number"] % 2 == 0:
        raise InputError("nothing to measure")
    return np.ones(3, np.float32)


@probe(reads=("metadata", Text), cost=Cost(model_calls=1))
def brittle(view):
    """Fails for some once something was said, and is not asked again in that run."""
    view.charge(model_calls=1)
    if view.metadata["number"] % 3 == len(view.all(Text)):
        raise InputError("lost count")
    return float(len(view.all(Text)))


def going_on(*names):
    """Calls what is allowed, in turn, and notes what the probes said."""
    noted = []

    @policy(probes=names)
    def on(state):
        noted.append([np.asarray(-1.0 if (v := vars(state.probe)[n]) is None else v).tolist() for n in names])
        return state.allowed[0] if state.allowed else STOP

    return on, noted


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    ex = toys.executor(probes=[length, lengths, patchy, brittle])
    given = [length, lengths, patchy, brittle]
    folder = tmp_path_factory.mktemp("probed") / "t"
    return ex, toys.built(folder, n=6, ex=ex, draws=1, actions=["hint", "dice"], probes=given, chunk=2)


@pytest.mark.parametrize("calls", [None, 3, 4, 5, 6, 7])
@pytest.mark.parametrize(
    "names",
    [("length",), ("lengths",), ("patchy",), ("brittle",), ("patchy", "lengths", "brittle", "length")],
)
def test_probes_are_charged_and_kept_as_in_a_live_run(probed, names, calls):
    ex, found = probed
    budget = None if calls is None else {"model_calls": calls}
    on, noted = going_on(*names)
    table = found.table(tree.observation_of(found, probes=names), budget=budget)
    for i, asked in enumerate(toys.problems(6)):
        run = ex.extend(policy=Within(on, found), budget=budget).run(asked)
        live, noted[:] = list(noted), []
        came = tree.evaluate(found, on, problems=[i], budget=budget, resamples=1)
        said, noted[:] = list(noted), []
        assert said == live
        assert came.charges[0, 0] == run.cost.model_calls
        path = tuple(call.action for made in run.decisions for call in made.calls)
        assert table.cost[i, table.states.index(path)] == run.cost.model_calls


def test_what_is_of_the_problem_alone_is_the_same_in_all_of_its_states(probed):
    _, found = probed
    assert (found.probes["length"] == found.probes["length"][:, :, :1]).all()
    assert np.isnan(found.probes["patchy"][::2]).all() and (found.probes["patchy"][1::2] == 1).all()


@probe(reads=("metadata",), writes=np.ndarray)
def growing(view):
    """Of no one size."""
    return np.zeros(2 + view.metadata["number"], np.float32)


@probe(reads=("metadata",), writes=np.ndarray)
def fickle(view):
    """An array, and then a number."""
    return 1.0 if view.metadata["number"] else np.zeros(2, np.float32)


@pytest.mark.parametrize("chunk", [1, 64])
@pytest.mark.parametrize(
    ("wrong", "said"), [(growing, "different sizes"), (fickle, "fickle measured a number")]
)
def test_probes_of_no_one_shape_are_said(tmp_path, wrong, said, chunk):
    with pytest.raises(TreeError, match=said):
        toys.built(tmp_path / "t", n=3, probes=[wrong], chunk=chunk)
