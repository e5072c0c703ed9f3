"""Environments side by side: the same as one by one, what is not known yet asked for together."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from gymnasium.vector import AutoresetMode, SyncVectorEnv

from planners import tree
from policies.environment import UnrollEnv, UnrollVectorEnv
from policies.environment.source import ground_of
from policies.price import Price
from unroller import Answer, Executor, Problem, Text, decoder, primitive, probe
from unroller.cost import Cost
from unroller.faults import PolicyError

BATCHES = []


def counted(name, **declared):
    def function(views):
        BATCHES.append((name, len(views)))
        return [Text(f"{name} {len(view.all(Text))}") for view in views]

    declared = {"reads": ("question", Text), "writes": Text, "batched": True} | declared
    return primitive(name=name, **declared)(function)


@decoder(
    task="quiz", reads=("question", "choices", Text), writes=Answer, cost=Cost(model_calls=1), batched=True
)
def quiz(views):
    BATCHES.append(("quiz", len(views)))
    p = [min(0.9, 0.5 + 0.1 * len(view.all(Text))) for view in views]
    return [
        Answer(view.choices[0], view.choices, 0, (one, 1 - one)) for view, one in zip(views, p, strict=True)
    ]


@probe(reads=("question", Text), cost=Cost(tokens=1), batched=True)
def spoken(views):
    BATCHES.append(("spoken", len(views)))
    return [float(len(view.all(Text))) for view in views]


def executor(**options):
    primitives = [counted("look", cost=Cost(model_calls=1)), counted("think", cost=Cost(model_calls=2))]
    return Executor(backend=[], primitives=primitives, decoders=[quiz], probes=[spoken], policy=[], **options)


def problems(n=6):
    truth = {"truth": {"answer": "yes"}}
    return [Problem(task="quiz", question=f"{i}?", choices=("yes", "no"), metadata=truth) for i in range(n)]


LOOK, THINK, STOP = 0, 1, 2


def live(number, ex=None, n=6, **options):
    return UnrollVectorEnv(
        problems(n), number, executor=ex or executor(), **{"seed": 0, "cost_weight": 0.01} | options
    )


@pytest.fixture(scope="module")
def table():
    return tree.synthetic(n=40, helpers=2, seed=3).table()


def chosen(masks, rng):
    """An allowed action each, drawn."""
    return np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])


# --------------------------------------------------------------------------------------------- as one by one


@pytest.mark.parametrize("dense", [False, True])
def test_one_environment_in_a_vector_is_that_environment(table, dense):
    alone = UnrollEnv(table, cost_weight=0.02, dense=dense, seed=5)
    vector = UnrollVectorEnv(table, 1, cost_weight=0.02, dense=dense, seed=5)
    rng = np.random.default_rng(0)
    seen, info = alone.reset()
    batch, infos = vector.reset()
    for _ in range(200):
        for name, part in seen.items():
            np.testing.assert_array_equal(batch[name], part[None])
        assert infos["problem"].tolist() == [info["problem"]]
        np.testing.assert_array_equal(vector.action_masks(), alone.action_masks()[None])
        action = chosen(vector.action_masks(), rng)
        seen, reward, done, _, info = alone.step(action[0])
        batch, rewards, dones, _, infos = vector.step(action)
        assert (rewards[0], dones[0]) == (reward, done)
        if done:
            assert infos["final_info"]["score"][0] == info["score"]
            for name, part in infos["final_obs"][0].items():
                np.testing.assert_array_equal(part, seen[name])
            seen, info = alone.reset()


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_it_speaks_as_the_vector_environment_of_gymnasium_does(table, mode):
    """Shapes, types and keys, beside `SyncVectorEnv` in the same mode."""
    made = [lambda: UnrollEnv(table, cost_weight=0.02) for _ in range(4)]
    theirs = SyncVectorEnv(made, autoreset_mode=mode)
    ours = UnrollVectorEnv(table, 4, cost_weight=0.02, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    for space in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
        assert getattr(ours, space) == getattr(theirs, space), space
    rng = np.random.default_rng(0)
    ours_seen, theirs_seen = ours.reset(seed=1), theirs.reset(seed=1)
    alike(ours_seen[1], theirs_seen[1])
    for _ in range(12):
        masks = ours.action_masks() & np.stack(theirs.call("action_masks"))
        action = chosen(masks, rng)
        mine, others = ours.step(action), theirs.step(action)
        assert mine[0] in ours.observation_space
        assert {n: (p.shape, p.dtype) for n, p in mine[0].items()} == {
            n: (p.shape, p.dtype) for n, p in others[0].items()
        }
        for here, there in zip(mine[1:4], others[1:4], strict=True):
            assert here.shape == there.shape and here.dtype == there.dtype
        alike(mine[4], others[4])


def alike(ours, theirs):
    """The same keys, and what is told of the same environments, in arrays of the same kind."""
    assert ours.keys() == theirs.keys()
    for name, held in theirs.items():
        if isinstance(held, dict):
            alike(
                {k: v for k, v in ours[name].items() if "action_mask" not in k},
                {k: v for k, v in held.items() if "action_mask" not in k},
            )
        else:
            assert ours[name].shape == held.shape and ours[name].dtype.kind == held.dtype.kind, name


def test_an_episode_begins_in_the_step_after_or_when_it_is_told_to(table):
    late = UnrollVectorEnv(table, 2, seed=0, autoreset_mode=AutoresetMode.NEXT_STEP)
    late.reset()
    _, rewards, ended, _, infos = late.step([len(late.actions), 0])
    assert ended.tolist() == [True, False] and infos["score"][0] == rewards[0] > 0
    before = infos["problem"].copy()
    seen, rewards, ended, _, infos = late.step([1, 1])
    assert rewards[0] == 0 and not ended[0] and infos["problem"][0] != before[0]
    assert seen["counts"][0].sum() == 0 and seen["counts"][1].sum() > 0, "the action is not carried out"

    told = UnrollVectorEnv(table, 2, seed=0, autoreset_mode="Disabled")
    told.reset()
    told.step([len(told.actions), 0])
    with pytest.raises(PolicyError, match="reset"):
        told.step([0, 1])
    told.reset(options={"reset_mask": np.array([True, False])})
    told.step([0, 1])


def test_who_has_ended_and_is_not_begun_anew_goes_on_showing_where_it_ended(table):
    env = UnrollVectorEnv(table, 3, seed=0, autoreset_mode="Disabled")
    with pytest.raises(PolicyError, match="never begun"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    env.reset()
    stop = len(env.actions)
    last, *_, ended = env.step([stop, stop, LOOK])
    shown, infos = env.reset(options={"reset_mask": np.array([True, False, False])})
    assert all((shown[name][1:] == last[name][1:]).all() for name in last)
    assert (infos["problem"][1:] == ended["problem"][1:]).all()
    assert env.action_masks()[1].tolist() == [False] * stop + [True]


def test_a_group_shares_a_problem(table):
    env = UnrollVectorEnv(table, 8, group=4, seed=0)
    _, infos = env.reset()
    first, second = infos["problem"][:4], infos["problem"][4:]
    assert len(set(first)) == len(set(second)) == 1 and first[0] != second[0]


def test_problems_can_be_named_for_all_or_for_each(table):
    env = UnrollVectorEnv(table, 3)
    assert env.reset(options={"problem": 7})[1]["problem"].tolist() == [7, 7, 7]
    assert env.reset(options={"problem": [1, 2, 3]})[1]["problem"].tolist() == [1, 2, 3]
    env.step([0, 0, 0])
    masks = env.action_masks()
    env.reset(options={"problem": 9, "reset_mask": np.array([False, True, False])})
    assert env.action_masks()[1].all() and (env.action_masks()[[0, 2]] == masks[[0, 2]]).all()
    with pytest.raises(PolicyError, match="one each"):
        env.reset(options={"problem": [1, 2]})
    with pytest.raises(PolicyError, match="reset_mask"):
        env.reset(options={"reset_mask": np.zeros(3, bool)})


# -------------------------------------------------------------------------------------- batches and the memo


def test_a_step_makes_one_batch_of_each_primitive_however_many_there_are():
    env = live(8, n=8, ex=executor())
    env.reset(options={"problem": list(range(8))})
    BATCHES.clear()
    env.step([LOOK, LOOK, LOOK, THINK, THINK, STOP, STOP, STOP])
    assert sorted(BATCHES) == [("look", 3), ("quiz", 3), ("think", 2)]


def test_probes_of_all_are_one_batch():
    from policies.observation import Observation, ProblemFeatures

    seen = Observation(("look", "think"), ProblemFeatures(probes=(("spoken", 1),)))
    env = live(5, n=5, observation=seen)
    BATCHES.clear()
    env.reset(options={"problem": list(range(5))})
    env.step([LOOK] * 5)
    assert BATCHES == [("spoken", 5), ("look", 5), ("spoken", 5)]


def test_what_several_ask_for_is_computed_once_and_never_again():
    env = live(16, group=16)
    env.reset()
    BATCHES.clear()
    env.step([LOOK] * 16)
    env.step([STOP] * 16)
    assert BATCHES == [("look", 1), ("quiz", 1)]
    assert env.ground.computed == 2
    first = env.ground.problems[env.episodes.root[0]]
    env.reset(options={"problem": int(first)})
    BATCHES.clear()
    env.step([LOOK] * 16)
    assert BATCHES == [("look", 1)]
    env.reset(options={"problem": int(first)})
    env.step([LOOK] * 16)
    assert BATCHES == [("look", 1)]


def test_environments_can_share_what_they_know():
    ground = ground_of(problems(), executor())
    train, held = UnrollVectorEnv(ground, 4, seed=0), UnrollEnv(ground, seed=0)
    train.reset(options={"problem": 2})
    train.step([LOOK] * 4)
    held.reset(options={"problem": 2})
    BATCHES.clear()
    held.step(LOOK)
    assert BATCHES == []
    with pytest.raises(PolicyError, match="a ground has its price already"):
        UnrollEnv(ground, price=Price())


def test_what_is_forgotten_under_way_is_not_lost():
    from policies.environment.live import LiveGround

    few = UnrollVectorEnv(LiveGround(problems(), executor(), most=4), 6, cost_weight=0.01, seed=2)
    many = live(6, seed=2)
    rng = np.random.default_rng(1)
    few.reset(), many.reset()
    for _ in range(60):
        action = chosen(many.action_masks(), rng)
        for mine, other in zip(few.step(action)[:3], many.step(action)[:3], strict=True):
            if isinstance(mine, dict):
                assert all((mine[name] == other[name]).all() for name in mine)
            else:
                assert (mine == other).all()


# ------------------------------------------------------------------------------------------------- bad input


def test_what_is_not_allowed_is_taken_as_stop(table):
    env = UnrollVectorEnv(table, 4, cost_weight=0.02, seed=0)
    env.reset(options={"problem": 3})
    env.step([0, 0, 0, 0])
    _, rewards, dones, _, infos = env.step([0, -5, 77, len(env.actions)])
    assert dones.all() and (rewards == rewards[3]).all()
    assert infos["final_info"]["illegal"].tolist() == [True, True, True, False]


def test_what_cannot_be_stepped_is_refused_in_words(table):
    with pytest.raises(PolicyError, match="1 or more"):
        UnrollVectorEnv(table, 0)
    with pytest.raises(PolicyError, match="a group of 0"):
        UnrollVectorEnv(table, 2, group=0)
    env = UnrollVectorEnv(table, 2)
    with pytest.raises(PolicyError, match="reset"):
        env.step([0, 0])
    env.reset()
    with pytest.raises(PolicyError, match="3 actions for 2"):
        env.step([0, 0, 0])
    with pytest.raises(PolicyError, match="whole numbers"):
        env.step([0.5, float("nan")])
    with pytest.raises(PolicyError, match="0 or more"):
        UnrollVectorEnv(table, 2, cost_weight=-1)
    for seed in ([1, None], [0.5], [], "1", [-1]):
        with pytest.raises(PolicyError, match="whole number"):
            env.reset(seed=seed)
    assert env.reset(seed=[1, 2])[1]["problem"].tolist() == env.reset(seed=(1, 2))[1]["problem"].tolist()


# ------------------------------------------------------------------------------------------ stable-baselines


@pytest.fixture
def vec(table):
    pytest.importorskip("stable_baselines3")
    from policies.environment import UnrollVecEnv

    return UnrollVecEnv(table, 8, cost_weight=0.02, seed=0)


def test_the_twin_for_stable_baselines_is_the_same_environment(vec, table):
    ours = UnrollVectorEnv(table, 8, cost_weight=0.02, seed=0)
    rng = np.random.default_rng(0)
    seen, (batch, _) = vec.reset(), ours.reset()
    for _ in range(50):
        assert all((seen[name] == batch[name]).all() for name in batch)
        assert (np.stack(vec.env_method("action_masks")) == ours.action_masks()).all()
        action = chosen(ours.action_masks(), rng)
        seen, rewards, dones, infos = vec.step(action)
        batch, expected, ended, _, told = ours.step(action)
        assert np.allclose(rewards, expected) and (dones == ended).all()
        for i in np.flatnonzero(dones):
            assert infos[i]["score"] == told["final_info"]["score"][i]
            assert not infos[i]["TimeLimit.truncated"]
            for name, part in told["final_obs"][i].items():
                assert (infos[i]["terminal_observation"][name] == part).all()


def test_what_trainers_ask_a_vector_for_by_name(vec):
    assert vec.has_attr("action_masks") and not vec.has_attr("no_such_thing")
    vec.reset()
    assert len(vec.env_method("action_masks", indices=[1, 3])) == 2
    with pytest.raises(AttributeError, match="no_such_thing"):
        vec.env_method("no_such_thing")
    vec.set_attr("cost_weight", 0.5)
    assert vec.get_attr("cost_weight") == [0.5] * 8
    with pytest.raises(PolicyError, match="for all"):
        vec.set_attr("cost_weight", 0.1, indices=[0])
    assert vec.env_is_wrapped(object) == [False] * 8
    vec.set_options({"problem": 4})
    vec.reset()
    assert [info["problem"] for info in vec.reset_infos] == [4] * 8
    vec.seed(3)
    vec.reset()
    first = [info["problem"] for info in vec.reset_infos]
    vec.seed(3)
    vec.reset()
    assert [info["problem"] for info in vec.reset_infos] == first
