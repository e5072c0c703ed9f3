"""The environment: what gymnasium and those who read it ask of one, and the same live and on a tree."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")

import gymnasium
from gymnasium.utils.env_checker import check_env

from policies.environment import ForRLlib, UnrollEnv, choosable
from policies.environment.live import LiveGround
from policies.observation import Observation, ProblemFeatures
from policies.price import Price
from unroller import Executor, Problem
from unroller.faults import BudgetError, ContractError, PolicyError, ProblemError, UnknownName

sys.path.append(str(Path(__file__).parents[1] / "planners"))
import tree_toys as toys

PRICE = Price(model_calls=1, tokens=0.01, dollars=2)
SEEN = Observation(
    tuple(toys.ACTIONS),
    ProblemFeatures(tasks=("quiz",), probes=(("sureness", 1), ("kind_of", 2), ("words_said", 2))),
    types=("Text", "Answer"),
)


def executor(**options):
    return toys.executor(probes=toys.PROBES, **options)


def live(n=12, kind=UnrollEnv, ex=None, problems=None, **options):
    options = {"observation": SEEN, "price": PRICE, "depth": 2, "cost_weight": 0.05, "seed": 0} | options
    given = toys.problems(n) if problems is None else problems
    return kind(given, executor=ex or executor(), **options)


@pytest.fixture(scope="module")
def quiz_tree(tmp_path_factory):
    return toys.built(tmp_path_factory.mktemp("quiz") / "tree", ex=executor())


def walked(env, seed, episodes=40, problem=None):
    """What a random walk that keeps to the mask sees and gets, a step at a time."""
    rng = np.random.default_rng(seed)
    seen = []
    for i in range(episodes):
        observation, info = env.reset(options=None if problem is None else {"problem": problem(i)})
        done = False
        seen.append((observation, 0.0, info))
        while not done:
            action = int(rng.choice(np.flatnonzero(env.action_masks())))
            observation, reward, done, truncated, info = env.step(action)
            seen.append((observation, reward, info))
            assert truncated is False
    return seen


def same(a, b, approximately=True):
    assert len(a) == len(b)
    close = {"rtol": 1e-6, "atol": 1e-6} if approximately else {"rtol": 0, "atol": 0}
    for (seen, reward, info), (seen_too, reward_too, info_too) in zip(a, b, strict=True):
        assert seen.keys() == seen_too.keys() and info.keys() == info_too.keys()
        for name in seen:
            np.testing.assert_allclose(seen[name], seen_too[name], err_msg=name, **close)
        assert reward == pytest.approx(reward_too, abs=1e-9)
        for name in info:
            np.testing.assert_allclose(info[name], info_too[name], err_msg=name, **close)


# -------------------------------------------------------------------------------------- what libraries check


@pytest.mark.parametrize("dense", [False, True])
def test_gymnasium_and_stable_baselines_find_nothing_to_complain_of(dense):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="gymnasium")
        # What a probe measures has no bounds, and there is nothing to render.
        warnings.filterwarnings("ignore", message=".*infinity.*|.*alternative render.*|.*unwrapped version.*")
        check_env(live(dense=dense))
        check_env(ForRLlib(live(dense=dense)))
    sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
    sb3.check_env(live(dense=dense))


def test_masks_are_where_each_library_looks_for_them():
    env = live()
    observation, info = env.reset()
    assert observation["action_mask"].dtype == info["action_mask"].dtype == np.int8  # torchrl, gymnasium
    assert (env.action_masks() == observation["action_mask"].astype(bool)).all()  # sb3-contrib
    assert env.action_masks().dtype == bool
    env.action_space.seed(0)
    assert {env.action_space.sample(info["action_mask"]) for _ in range(60)} == set(
        np.flatnonzero(info["action_mask"])
    )
    for_rllib, _ = ForRLlib(env).reset()
    assert set(for_rllib) == {"action_mask", "observations"} and for_rllib["action_mask"].max() == 1


def test_an_observation_is_the_vector_that_a_learned_policy_sees():
    env = live()
    observation, _ = env.reset(options={"problem": 3})
    (vector,) = env.ground.vectors[[env._place]]
    parts = [
        observation[name] for name in ("problem", "counts", "embeddings", "history", "left", "action_mask")
    ]
    np.testing.assert_array_equal(np.concatenate(parts), vector)


# ---------------------------------------------------------------------------------------------- what is paid


def runs(ex, problem, *calls):
    return ex.extend(policy=toys_policy(calls)).run(problem)


def toys_policy(calls):
    from unroller.decide import FixedList

    listed = FixedList(calls)
    listed.probes = tuple(toys.PROBES)  # they are charged at every decision, as the observation's are
    return listed


@pytest.mark.parametrize("calls", [(), ("hint",), ("stumble", "hint"), ("dice", "picture")])
def test_the_reward_is_the_score_less_what_the_run_was_charged(calls):
    from unroller.scorers import soft_choice

    env = live()
    for i, problem in enumerate(toys.problems(6)):
        env.reset(options={"problem": i})
        rewards = [env.step(SEEN.actions.index(name))[1] for name in calls]
        _, last, done, _, info = env.step(SEEN.stop)
        run = runs(executor(), problem, *calls)
        assert done and rewards == [0.0] * len(calls)
        assert info["score"] == soft_choice(problem, run.output)
        assert info["cost"] == pytest.approx(PRICE.of(run.cost))
        assert last == pytest.approx(info["score"] - 0.05 * info["cost"])


def test_dense_rewards_say_what_a_call_changed_and_add_up_to_the_same():
    sparse, dense = live(), live(dense=True)
    problem = 1  # number 1: the hint is the right answer for even numbers only
    returns = {}
    for env in (sparse, dense):
        env.reset(options={"problem": problem})
        returns[env] = [env.step(a)[1] for a in (SEEN.actions.index("hint"), SEEN.stop)]
    assert sum(returns[sparse]) == pytest.approx(sum(returns[dense]))
    assert returns[sparse][0] == 0.0
    env = live()
    env.reset(options={"problem": problem})
    bare = env.step(SEEN.stop)[1]
    assert returns[dense] == pytest.approx([returns[sparse][1] - bare, bare])


def test_the_weight_of_cost_can_change_between_episodes():
    env = live()
    paid = []
    for weight in (0.0, 0.1):
        env.cost_weight = weight
        env.reset(options={"problem": 0})
        paid.append(env.step(SEEN.stop)[1])
    info = env.ground
    assert paid[0] - paid[1] == pytest.approx(0.1 * float(np.nanmin(info.costs)))


# ---------------------------------------------------------------------------------------- live and on a tree


@pytest.mark.parametrize("dense", [False, True])
def test_the_same_problems_give_the_same_live_and_on_a_tree(quiz_tree, dense):
    table = quiz_tree.table(SEEN, price=PRICE)
    drawn = [p.model_copy(update={"seed": d}) for p in toys.problems() for d in range(quiz_tree.draws)]
    alive = live(problems=drawn, dense=dense)
    kept = UnrollEnv(table, cost_weight=0.05, dense=dense, seed=0)
    assert alive.observation_space == kept.observation_space and alive.action_space == kept.action_space
    alive_seen = walked(alive, 1)
    kept_seen = walked(kept, 1)
    for _, _, info in alive_seen:
        info["problem"] //= quiz_tree.draws  # a table numbers problems, whatever the draw
    same(alive_seen, kept_seen)


def test_under_a_budget_too(quiz_tree):
    budget = {"model_calls": 6, "tokens": 40, "steps": 2}
    table = quiz_tree.table(SEEN, price=PRICE, budget=budget)
    drawn = [p.model_copy(update={"seed": d}) for p in toys.problems() for d in range(quiz_tree.draws)]
    alive = live(problems=drawn, ex=executor(budget=budget), depth=None)
    alive_seen = walked(alive, 2)
    for _, _, info in alive_seen:
        info["problem"] //= quiz_tree.draws
    same(alive_seen, walked(UnrollEnv(table, cost_weight=0.05, seed=0), 2))


def test_a_tree_can_be_given_as_it_is(quiz_tree):
    env = UnrollEnv(quiz_tree, cost_weight=0.05)
    observation, _ = env.reset(seed=1)
    assert env.actions == quiz_tree.actions and observation["action_mask"].sum() == len(env.actions) + 1


# -------------------------------------------------------------------------------------------------- episodes


def test_what_is_not_allowed_is_taken_as_stop():
    for action in (SEEN.actions.index("hint"), -1, 99):
        env = live()
        env.reset(options={"problem": 2})
        env.step(SEEN.actions.index("hint"))
        _, reward, done, _, info = env.step(action)  # called already, or no action at all
        assert done and info["illegal"] and reward == pytest.approx(info["score"] - 0.05 * info["cost"])
        env.reset(options={"problem": 2})
        env.step(SEEN.actions.index("hint"))
        assert env.step(SEEN.stop)[1] == reward


def test_a_policy_that_never_stops_ends_where_the_budget_does():
    env = live(ex=executor(budget={"steps": 3}), depth=None)
    _, _ = env.reset(options={"problem": 4})
    done, steps = False, 0
    while not done:
        allowed = np.flatnonzero(env.action_masks()[:-1])
        _, _, done, _, info = env.step(int(allowed[0]) if len(allowed) else 0)
        steps += 1
    assert steps == 4 and info["illegal"], "three calls, and a fourth that was taken as STOP"


def test_an_episode_that_has_ended_is_not_gone_on_with():
    env = live()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    env.reset()
    env.step(SEEN.stop)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(SEEN.stop)


def numbers(env, count, **options):
    return [env.reset(**(options if i == 0 else {}))[1]["problem"] for i in range(count)]


def test_problems_come_shuffled_by_the_seed_all_of_them_before_any_again():
    env = live()
    first = numbers(env, 24)
    assert sorted(first[:12]) == sorted(first[12:]) == list(range(12)) and first[:12] != first[12:]
    assert numbers(live(), 24) == first, "the seed it was made with"
    assert numbers(env, 24, seed=0) == first, "the seed it is reset with"
    assert numbers(env, 24, seed=1) != first


def test_what_is_returned_is_nobody_elses():
    env = live()
    observation, info = env.reset(options={"problem": 0})
    before = {name: part.copy() for name, part in observation.items()}
    for part in observation.values():
        part[:] = 7
    info["action_mask"][:] = 0
    again, _ = env.reset(options={"problem": 0})
    for name, part in before.items():
        np.testing.assert_array_equal(again[name], part)


def test_nothing_that_returns_tells_the_time():
    same(walked(live(), 3), walked(live(), 3), approximately=False)


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), "much"])
def test_a_weight_below_nothing_is_refused(weight):
    with pytest.raises(PolicyError, match="0 or more"):
        live(cost_weight=weight)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"problems": []}, ProblemError, "no problems"),
        ({"problems": ["x"]}, ProblemError, "a str"),
        ({"problems": [Problem(task="nothing", question="?")]}, UnknownName, "nothing"),
        ({"ex": toys.executor(budget={"seconds": 1})}, BudgetError, "no clock"),
        ({"depth": -1}, PolicyError, "depth of -1"),
        ({"observation": Observation(())}, PolicyError, "at least one action"),
        ({"scorer": "no_such_scorer"}, UnknownName, "no_such_scorer"),
        ({"observation": ["hint"]}, PolicyError, "no policies.Observation"),
        ({"ex": "nano"}, PolicyError, "executor="),
        ({"ex": toys.executor(budget={"model_calls": 0})}, BudgetError, "does not cover"),
        ({"price": "model_calls"}, PolicyError, "give a policies.Price"),
    ],
)
def test_what_cannot_be_an_environment_says_why(options, error, said):
    with pytest.raises(error, match=said):
        live(**options)


def test_problems_need_an_executor_and_a_table_none(quiz_tree):
    with pytest.raises(PolicyError, match="executor="):
        UnrollEnv(toys.problems())
    with pytest.raises(PolicyError, match="a table has its executor already"):
        UnrollEnv(quiz_tree, executor=executor())
    with pytest.raises(PolicyError, match="made for Price"):
        UnrollEnv(quiz_tree.table(SEEN), price=PRICE)


@pytest.mark.parametrize("number", [12, -1, "first", 1.5, None])
def test_a_problem_that_there_is_not_cannot_be_chosen(number):
    with pytest.raises(PolicyError, match="numbered from 0 to 11"):
        live().reset(options={"problem": number})


def test_an_option_that_there_is_not_is_not_passed_over():
    with pytest.raises(PolicyError, match="no option 'problme'"):
        live().reset(options={"problme": 3})


def test_a_scorer_that_gives_no_number_is_named_with_the_problem():
    env = live(scorer=lambda problem, output: float("nan"))
    env.reset(options={"problem": 5})
    with pytest.raises(ContractError, match=r"gave nan for problem 5 after no call"):
        env.step(SEEN.stop)


def test_a_problem_without_an_answer_is_named():
    nameless = toys.questions(0).model_copy(update={"metadata": {"number": 0}})
    env = live(problems=[nameless], scorer="soft_choice", ex=executor())
    env.reset()
    with pytest.raises(ProblemError, match="problem 0 after no call"):
        env.step(SEEN.stop)


def test_actions_that_vanished_are_never_allowed():
    seen = Observation(("hint", "gone"))
    env = live(observation=seen)
    env.reset()
    assert env.action_masks().tolist() == [True, False, True]
    with pytest.warns(UserWarning, match="none of the actions"):
        env = live(observation=Observation(("gone",)))
    env.reset()
    assert env.action_masks().tolist() == [False, True]
    assert env.step(0)[2], "there is nothing to do but to answer"


def test_a_problem_that_cannot_be_answered_scores_nothing():
    from unroller import Answer, decoder
    from unroller.faults import InputError

    @decoder(task="quiz", reads=("choices",), writes=Answer)
    def mute(view):
        raise InputError("cannot say")

    ex = Executor(backend=[], primitives=toys.PARTS, decoders=[mute], policy=[], probes=toys.PROBES)
    env = live(ex=ex)
    env.reset()
    _, _, done, _, info = env.step(SEEN.stop)
    assert done and info["score"] == 0.0


def test_oracles_are_left_out_unless_they_are_named():
    ex = Executor(backend=[], policy=[])
    assert not any(name.startswith("oracle") for name in choosable(ex))


# ---------------------------------------------------------------------------------------- what is remembered


def test_what_is_forgotten_is_asked_for_again_and_is_the_same():
    ex = executor()
    few = LiveGround(toys.problems(), ex, observation=SEEN, price=PRICE, depth=2, most=8)
    forgetting = UnrollEnv(few, cost_weight=0.05, seed=0)
    same(walked(forgetting, 4, 60), walked(live(), 4, 60), approximately=False)
    assert len(few._standings) < 8 + 4


def test_an_environment_whose_ground_another_is_given_stays_where_it_is():
    one = live(observation=None)
    one.ground._most = 4
    other = UnrollEnv(one.ground, cost_weight=0.05, seed=1)
    one.reset(options={"problem": 3})
    walked(other, 4, 20)
    *_, info = one.step(one.ground.observation.stop)
    alone = live(observation=None)
    alone.reset(options={"problem": 3})
    assert info["problem"] == 3 and info["cost"] == alone.step(alone.ground.observation.stop)[-1]["cost"]
    assert one.ground._of[one.ground.rooted[3]] == 3


def test_without_a_memo_everything_is_done_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("TOYS_COMPUTED", str(tmp_path / "log"))
    counts = {}
    for memo in ("memory", None):
        (tmp_path / "log").write_text("")
        env = live(ex=executor(memo=memo))
        walked(env, 5, 32, lambda i: 0)
        counts[memo] = len((tmp_path / "log").read_text().splitlines())
    assert counts[None] > 4 * counts["memory"] > 0


@pytest.mark.parametrize("what", ["call", "answer"])
def test_what_failed_only_once_is_tried_again_when_it_is_come_to_again(what):
    from unroller import Answer, Text, decoder, primitive

    broken = [what]

    @primitive(reads=("question",), writes=Text)
    def wobbly(view):
        if "call" in broken:
            broken.remove("call")
            raise RuntimeError("not now")
        return Text("hm")

    @decoder(task="quiz", reads=("choices",), writes=Answer)
    def answer(view):
        if "answer" in broken:
            broken.remove("answer")
            raise RuntimeError("not now")
        return Answer("a", view.choices, 0, (1.0, 0.0))

    ex = Executor(backend=[], primitives=[wobbly], decoders=[answer], policy=[])
    env = UnrollEnv([toys.questions(0)], executor=ex, seed=0)
    scores, failures = [], []
    for _ in range(3):
        env.reset()
        seen, *_ = env.step(0)
        failures.append(seen["counts"].sum() == 0)
        scores.append(env.step(env.action_space.n - 1)[4]["score"])
    assert failures == [what == "call", False, False]
    assert scores == [float(what == "call"), 1.0, 1.0]
