"""Trainers on trees whose optimum is known: formulas by hand, what they reach, and what bad input gets."""

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from planners import tree
from policies import LearnedPolicy, Price, SavedPolicyError
from policies.observation import Observation
from policies.table import Table, as_table, split
from policies.training import cloning, exact, grpo, lagrangian, ppo
from policies.training.course import Course, Settings
from policies.training.expectation import best, expected
from policies.training.sampling import rewards, sample
from unroller.faults import PolicyError

TREE = tree.synthetic(n=48, helpers=2, depth=2, seed=1)
TABLE = TREE.table()
HELD = tree.synthetic(n=48, helpers=2, depth=2, seed=2).table(TABLE.observation)
WEIGHT = 0.02


def fresh(seed=0, **options):
    return LearnedPolicy(observation=TABLE.observation, hidden=(32,), seed=seed, **options)


def course(settings=None, **options):
    return Course("test", fresh(), TABLE, settings or Settings(), WEIGHT, 0, **options)


# ------------------------------------------------------------------------------------------ formulas


def test_weight_decay_keeps_weights_small():
    def norm(decay):
        policy = exact.train(fresh(), TABLE, settings=exact.Exact(steps=8000, weight_decay=decay))
        return sum(float(p.detach().square().sum()) for p in policy.network.parameters())

    assert norm(5.0) < 0.8 * norm(0.0)


@pytest.mark.parametrize("mode", ["greedy", "sample"])
def test_expectations_are_those_of_an_exact_evaluation(mode):
    policy = fresh(mode=mode)
    with torch.no_grad():
        policy.network.choice.weight.mul_(100)  # far from uniform
    found, wanted = expected(TABLE, policy), tree.evaluate(TREE, policy, resamples=10)
    assert np.allclose(found.score, wanted.scores) and np.allclose(found.hard, wanted.hards)
    assert np.allclose(found.cost.mean(), wanted.cost.mean)
    assert np.allclose(found.ended, wanted.ended[:, 0])


def test_the_exact_gradient_is_that_of_every_way_written_out():
    """J is summed over every sequence of calls by hand, and differentiated by autograd."""
    with course(Settings(entropy=0.3)) as one:
        rows = np.arange(3)
        exact.gradient(one, rows, TABLE.value(WEIGHT)[rows])[0].backward()
        found = [p.grad.clone() for p in one.network.parameters() if p.grad is not None]
        one.network.zero_grad()
        total = torch.zeros(())
        for r, (s, state) in itertools.product(rows, enumerate(TABLE.states)):
            probability, bonus, at = torch.ones(()), 0.0, 0
            for name in (*state, None):
                choice = TABLE.stop if name is None else TABLE.actions.index(name)
                log_p, _ = one.network(*one.asked(np.array([r]), np.array([at])))
                p = log_p.exp()[0]
                bonus = bonus - 0.3 * (p * log_p[0].masked_fill(p == 0, 0)).sum()
                probability = probability * p[choice]
                at = int(TABLE.next[at, choice]) if name else at
            assert at == s
            total = total + probability * (TABLE.value(WEIGHT)[r, s] + bonus)
        (-total / len(rows)).backward()
        by_hand = [p.grad for p in one.network.parameters() if p.grad is not None]
    assert len(found) == 4  # the value head is not asked
    for one_, other in zip(found, by_hand, strict=False):
        assert torch.allclose(one_, other, atol=1e-5)


def test_samples_come_to_the_expectation_and_rewards_to_the_value():
    with course() as one:
        of = sample(one, np.arange(len(TABLE)).repeat(100))
        reached = TABLE.value(WEIGHT)[of.roots, of.end]
        for dense in (False, True):
            assert np.allclose(rewards(TABLE, of, WEIGHT, dense).sum(1), reached)
        error = reached.std() / len(reached) ** 0.5
        assert abs(reached.mean() - expected(TABLE, fresh(mode="sample")).value(WEIGHT)) < 4 * error
    assert TABLE.reached[of.roots, of.end].all() and (of.end > 0).any()
    calls = TABLE.size[of.end]
    deepest = calls == TABLE.size.max()
    assert np.array_equal(of.made.sum(1), np.where(deepest, calls, calls + 1))  # the last STOP is no choice
    assert of.decisions == (calls + 1).sum()


def test_a_groups_advantages():
    settings = grpo.GRPO(group=4)
    with course() as one:
        of = sample(one, np.arange(3).repeat(4))
    of = msgspec.structs.replace(of, end=np.array([0, 0, 1, 1, 2, 2, 2, 2, 0, 1, 2, 3]))
    got = TABLE.value(WEIGHT)[of.roots, of.end].reshape(3, 4)
    found, same = grpo.advantages(TABLE, of, WEIGHT, settings)
    first = found.max(1, initial=-9, where=of.made).reshape(3, 4)
    assert same == pytest.approx(1 / 3) and (first[1] == 0).all()
    assert np.allclose(first[0], (got[0] - got[0].mean()) / got[0].std())
    plain, _ = grpo.advantages(TABLE, of, WEIGHT, grpo.GRPO(group=4, normalise=False))
    assert np.allclose(plain.max(1, initial=-9, where=of.made)[:4], got[0] - got[0].mean())


def test_advantages_of_ppo():
    """With g = 1 what is still to come less the value; with g = 0 one step ahead."""
    with course() as one:
        of = sample(one, np.arange(len(TABLE)).repeat(3))
        got = rewards(TABLE, of, WEIGHT, dense=True)
        whole, short = ppo.advantages(of, got, 1.0), ppo.advantages(of, got, 0.0)
    ahead = got[:, ::-1].cumsum(1)[:, ::-1]
    assert np.allclose(whole[of.made], (ahead - of.value)[of.made])
    following = np.pad(of.value, [(0, 0), (0, 1)])[:, 1:]
    assert np.allclose(short[of.made], (got + following - of.value)[of.made])


def test_the_oracle_that_is_cloned_is_judged_by_other_draws():
    lucky = tree.synthetic(n=40, helpers=2, depth=1, draws=4, luck=0.1, seed=5)
    table = lucky.table()
    chosen = cloning.oracle_states(table, WEIGHT).reshape(40, 4)
    value = table.value(WEIGHT).reshape(40, 4, -1)
    assert np.array_equal(chosen[:, 0], value[:, [1, 3]].mean(1).argmax(1))
    assert np.array_equal(chosen[:, 1], value[:, [0, 2]].mean(1).argmax(1))
    taken = tree.oracle(lucky, weight=WEIGHT)
    assert np.array_equal(chosen[:, [1, 0]], taken.chosen)


# ----------------------------------------------------------------------------------- what is reached


TRAINERS = {
    "exact": (exact, exact.Exact(steps=12_000)),
    "grpo": (grpo, grpo.GRPO(steps=30_000, problems=8)),
    "ppo": (ppo, ppo.PPO(steps=20_000, problems=48)),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_finds_the_optimum_and_it_holds_on_other_problems(name):
    module, settings = TRAINERS[name]
    start = fresh()
    before = {key: weight.clone() for key, weight in start.network.state_dict().items()}
    curve = []
    pi = module.train(start, TREE, cost_weight=WEIGHT, settings=settings, tell=curve.append)
    assert expected(TABLE, pi).value(WEIGHT) > 0.99 * tree.optimum(TREE, WEIGHT).value
    assert expected(HELD, pi).value(WEIGHT) > 0.97 * best(HELD, WEIGHT).mean()
    assert curve[0]["steps"] == 0 and curve[-1]["steps"] >= settings.steps
    assert curve[-1]["greedy_value"] == pytest.approx(expected(TABLE, pi).value(WEIGHT))
    assert all(torch.equal(weight, start.network.state_dict()[key]) for key, weight in before.items())


def test_with_a_high_price_it_stops_at_once():
    pi = exact.train(fresh(), TABLE, cost_weight=10.0, settings=exact.Exact(steps=4000))
    assert expected(TABLE, pi).cost.max() == 1.0  # the answer alone


def test_a_budget_is_met():
    """Between stopping at once and looking first there is nothing but chance."""
    budget = 2.0
    settings = lagrangian.Lagrangian(steps=60_000)
    pi = lagrangian.train(fresh(), TABLE, mean_cost=budget, settings=settings)
    found = expected(TABLE, pi)
    assert found.cost.mean() == pytest.approx(budget, rel=0.1)
    assert found.score.mean() > TABLE.score[:, 0].mean() + 0.1  # what stopping at once comes to


def test_a_budget_is_met_where_the_roots_come_in_order(monkeypatch):
    """What the budget is met on is drawn from all roots: the first ones may be the cheap ones."""
    monkeypatch.setattr(lagrangian, "CALIBRATED", 256)
    easy, hard = (tree.synthetic(n=256, helpers=2, depth=2, easy=easy, seed=1) for easy in (0.9, 0.05))
    for trees in ([easy, hard], [hard, easy]):
        seen = tree.observation_of(trees)
        table = tree.table(trees, seen)
        policy = LearnedPolicy(observation=seen, hidden=(32,))
        pi = lagrangian.train(policy, table, mean_cost=1.8, settings=lagrangian.Lagrangian(steps=20_000))
        assert expected(table, pi).cost.mean() == pytest.approx(1.8, abs=0.15)


def test_updates_in_which_nothing_can_be_chosen_are_passed_over():
    allowed = TABLE.allowed.copy()
    allowed[1:, :, :-1] = False  # but for one problem only STOP is left
    observations = TABLE.observations.copy()
    TABLE.observation.layout.part(observations[1:].reshape(-1, observations.shape[-1]), "mask")[:, :-1] = 0
    rare = msgspec.structs.replace(
        TABLE, allowed=allowed, observations=observations, reached=TABLE.reached & (allowed.any(2))
    )
    pi = ppo.train(fresh(), rare, settings=ppo.PPO(steps=200, problems=2))
    assert np.isfinite(expected(rare, pi).score).all()


def test_cloning_does_what_was_best_where_it_can_be_seen():
    shown = tree.synthetic(n=60, helpers=2, depth=1, hidden=False, seed=3)
    table = shown.table()
    policy = LearnedPolicy(observation=table.observation, hidden=(32,))
    pi = cloning.train(policy, table, cost_weight=WEIGHT, settings=cloning.Cloning(steps=12_000))
    assert expected(table, pi).value(WEIGHT) == pytest.approx(best(table, WEIGHT).mean(), abs=5e-3)


# ------------------------------------------------------------------------------- kills and checkpoints


LONGER = grpo.GRPO(steps=8000, problems=8, every=3)
KILLED = """
import sys
import test_training as tests
tests.trained(sys.argv[1], tell=lambda row: print(row["update"], flush=True))
"""


def trained(folder, **options):
    return grpo.train(fresh(), TABLE, cost_weight=WEIGHT, settings=LONGER, out=folder, **options)


def test_a_training_that_was_killed_goes_on_with_the_same_curve(tmp_path):
    whole = trained(tmp_path / "whole")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "cut")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    for line in process.stdout:
        if int(line) >= 9:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    told = []
    again = trained(tmp_path / "cut", tell=told.append)
    assert told[0]["update"] > 9, "it began anew"
    curves = [(tmp_path / name / "training" / "curve.csv").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1] and len(curves[0].splitlines()) > 5
    weights = [policy.network.state_dict() for policy in (whole, again)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize(
    ("module", "settings", "options"),
    [
        (exact, exact.Exact(steps=3000, every=3), {}),
        (ppo, ppo.PPO(steps=3000, every=3), {}),
        (cloning, cloning.Cloning(steps=1500, every=3), {}),
        (lagrangian, lagrangian.Lagrangian(steps=3000, every=3), {"mean_cost": 2.0}),
    ],
    ids=["exact", "ppo", "clone", "lagrangian"],
)
def test_every_trainer_goes_on_where_it_was_interrupted(module, settings, options, tmp_path):
    def interrupt(row):
        if row["update"] >= 6:
            raise KeyboardInterrupt

    def run(folder, **more):
        return module.train(fresh(), TABLE, settings=settings, out=tmp_path / folder, **options, **more)

    whole, threads = run("whole"), torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        run("cut", tell=interrupt)
    assert torch.get_num_threads() == threads
    again = run("cut")
    curves = [(tmp_path / name / "training" / "curve.csv").read_text() for name in ("whole", "cut")]
    assert curves[0] == curves[1] and len(curves[0].splitlines()) > 4
    weights = [policy.network.state_dict() for policy in (whole, again)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert whole.mode == again.mode


SHORT = exact.Exact(steps=1500, every=2)


@pytest.mark.parametrize("number", [np.float64(0.02), np.float32(0.25)])
def test_numbers_of_numpy_are_numbers(number, tmp_path):
    settings = lagrangian.Lagrangian(steps=400, every=2, entropy=number)
    options = {"mean_cost": number + 2, "cost_weight": number, "settings": settings, "out": tmp_path}
    lagrangian.train(fresh(), TABLE, **options)
    lagrangian.train(fresh(), TABLE, **options)  # it is the same training


def test_a_training_does_not_depend_on_the_number_of_threads(tmp_path):
    before = torch.get_num_threads()
    policies = []
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            policies.append(exact.train(fresh(), TABLE, settings=SHORT, out=tmp_path))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, other = (policy.network.state_dict() for policy in policies)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def kept(tmp_path):
    exact.train(fresh(), TABLE, cost_weight=WEIGHT, settings=SHORT, out=tmp_path).save(tmp_path)
    return tmp_path / "training"


def again(folder, policy=None, data=TABLE, cost_weight=WEIGHT, **options):
    options = {"settings": SHORT} | options
    return exact.train(policy or fresh(), data, cost_weight=cost_weight, out=folder.parent, **options)


def test_what_is_finished_is_not_trained_again(kept):
    curve, told = (kept / "curve.csv").read_text(), []
    pi = again(kept, tell=told.append)
    assert not told and (kept / "curve.csv").read_text() == curve
    assert expected(TABLE, pi).value(WEIGHT) == pytest.approx(float(curve.splitlines()[-1].split(",")[5]))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (lambda: {"cost_weight": 0.5}, "cost_weight"),
        (lambda: {"seed": 3}, "seed"),
        (lambda: {"settings": exact.Exact(steps=1500)}, "settings"),
        (lambda: {"data": HELD}, "table"),
        (lambda: {"policy": fresh(seed=4)}, "initial weights"),
        (
            lambda: {
                "policy": LearnedPolicy(
                    dict.fromkeys(TREE.actions, "v2"), observation=TABLE.observation, hidden=(32,)
                )
            },
            "actions",
        ),
    ],
    ids=["λ", "seed", "settings", "table", "weights", "registry"],
)
def test_a_checkpoint_of_another_training_is_refused(kept, other, said):
    with pytest.raises(SavedPolicyError, match=rf"another training \(it differs in {said}\).*delete"):
        again(kept, **other())


@pytest.mark.parametrize("name", ["checkpoint.json", "curve.csv", "arrays"])
@pytest.mark.parametrize("how", ["truncated", "nonsense", "gone"])
def test_a_damaged_checkpoint_is_refused(kept, name, how):
    file = next(kept.glob(f"{name}*"))
    if how == "gone":
        if name == "checkpoint.json":
            return  # there is no training then
        file.unlink()
    else:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2] if how == "truncated" else b"\xff{]" * 50)
    with pytest.raises(SavedPolicyError):
        again(kept)


def test_a_checkpoint_is_no_pickle_and_of_this_format(kept):
    assert {file.suffix for file in kept.iterdir()} == {".json", ".csv", ".safetensors"}
    made = json.loads((kept / "checkpoint.json").read_text())
    (kept / "checkpoint.json").write_text(json.dumps(made | {"format": 9}))
    with pytest.raises(SavedPolicyError, match="format 9"):
        again(kept)
    (kept / "checkpoint.json").write_text(json.dumps(made | {"random": {"bit_generator": "Own"}}))
    with pytest.raises(SavedPolicyError, match="does not fit this training"):
        again(kept)
    state = made["random"]["state"] | {"state": -1}
    (kept / "checkpoint.json").write_text(json.dumps(made | {"random": made["random"] | {"state": state}}))
    with pytest.raises(SavedPolicyError, match="does not fit this training"):
        again(kept)


def test_a_checkpoint_without_what_the_trainer_keeps_is_refused(tmp_path):
    settings = lagrangian.Lagrangian(steps=400, every=2)
    lagrangian.train(fresh(), TABLE, mean_cost=2.0, settings=settings, out=tmp_path)
    file = tmp_path / "training" / "checkpoint.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"held": {}}))
    with pytest.raises(SavedPolicyError, match=r"does not fit this training \('weight'\)"):
        lagrangian.train(fresh(), TABLE, mean_cost=2.0, settings=settings, out=tmp_path)


# ------------------------------------------------------------------------------------------ bad input


def changed(**arrays):
    return lambda: msgspec.structs.replace(TABLE, **arrays)


def nan_at(array, *place):
    copied = array.copy()
    copied[place] = np.nan
    return copied


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            changed(score=nan_at(TABLE.score, 3, 1)),
            r"the score of problem 3 after look is nan: mend the scorer",
        ),
        (changed(cost=nan_at(TABLE.cost, 0, 0)), r"the cost of problem 0 after no call is nan"),
        (changed(observations=nan_at(TABLE.observations, 1, 1, 1)), "an observation holds NaN"),
        (changed(allowed=np.zeros_like(TABLE.allowed)), "nothing can be chosen: STOP is always allowed"),
        (changed(next=np.zeros_like(TABLE.next)), "leads to no later state"),
        (changed(next=np.full_like(TABLE.next, -1)), "leads nowhere"),
        (changed(reached=np.eye(1, TABLE.shape[1], dtype=bool).repeat(48, 0)), "is not reached"),
        (changed(score=TABLE.score[:, :2]), r"score has the shape \(48, 2\) in place of"),
        (changed(groups=("one",)), "1 labels for 48 roots"),
        (changed(observations=np.zeros_like(TABLE.observations)), "not what the observations say"),
        (lambda: TABLE.of_roots(np.zeros(0, int)), "the table is empty"),
        (lambda: TABLE.of_problems([3, 77]), "no problem number 77"),
        (lambda: split(1), "cannot be held out"),
        (lambda: split(10, 1.0), "cannot be held out"),
    ],
)
def test_a_table_that_makes_no_sense(make, said):
    with pytest.raises(PolicyError, match=said):
        make()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: exact.train(fresh(), TABLE, cost_weight=-0.1), "λ is -0.1"),
        (lambda: exact.train(fresh(), TABLE, cost_weight=float("nan")), "λ is nan"),
        (
            lambda: exact.train(LearnedPolicy(["walk"]), TABLE),
            "the table holds the actions look.*chooses from walk",
        ),
        (lambda: exact.train(LearnedPolicy(TREE.actions), TABLE), "another observation"),
        (lambda: exact.train(fresh(), [1, 2]), "a tree or a table, not on list"),
        (lambda: exact.train(fresh(), TABLE, price=Price(tokens=1)), "was made for Price"),
        (lambda: exact.Exact(steps=0), "steps is 0"),
        (lambda: exact.Exact(steps=1.5), "steps is 1.5"),
        (lambda: exact.Exact(learning_rate=0), "with which nothing is learned"),
        (lambda: exact.Exact(entropy=-1), "entropy is -1"),
        (lambda: exact.Exact(entropy=True), "entropy is True: give a number"),
        (lambda: exact.Exact(learning_rate="fast"), "learning_rate is 'fast': give a number"),
        (lambda: exact.Exact(learning_rate=None), "learning_rate is None: give a finite number"),
        (lambda: ppo.PPO(dense="no"), "dense is 'no': give True or False"),
        (lambda: ppo.PPO(gae=7), "gae is 7: give a number from 0 to 1"),
        (lambda: grpo.GRPO(group=1), "a group of 1"),
        (
            lambda: lagrangian.train(fresh(), TABLE, mean_cost=0.5),
            "0.5 cannot be met: answering at once costs 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(asked, said):
    with pytest.raises(PolicyError, match=said):
        asked()


def test_weights_that_are_nan_are_no_start():
    policy = fresh()
    with torch.no_grad():
        policy.network.choice.bias.fill_(torch.nan)
    with pytest.raises(PolicyError, match="not finite"):
        exact.train(policy, TABLE)


def test_a_training_that_diverges_says_so():
    with pytest.raises(PolicyError, match=r"diverged|not finite"):
        exact.train(fresh(), TABLE, settings=exact.Exact(steps=4000, learning_rate=1e37))


def test_where_there_is_nothing_to_choose_it_says_so():
    bare = tree.synthetic(n=4, helpers=1, depth=0)
    for module in (exact, grpo, ppo, cloning):
        with pytest.raises(PolicyError, match="there is nothing to choose"):
            module.train(LearnedPolicy(bare.actions), bare)


def test_a_tree_is_made_a_table_for_the_policy():
    plain = LearnedPolicy(TREE.actions)
    assert as_table(TREE, plain.observation).observation == plain.observation
    assert isinstance(as_table(TREE, plain.observation, Price(2)), Table)
    assert as_table(TREE, plain.observation, Price(2)).cost.max() == 2 * TABLE.cost.max()
    with pytest.raises(tree.TreeError, match="no action 'walk'"):
        exact.train(LearnedPolicy(["walk"]), TREE)


def test_tables_are_split_by_problem():
    drawn = tree.synthetic(n=10, helpers=1, draws=2).table()
    train, held = drawn.split(0.3, seed=1)
    assert len(train) == 14 and len(held) == 6 and not set(train.problem) & set(held.problem)
    assert drawn.split(0.3, seed=1)[1].problem.tolist() == held.problem.tolist()
    assert drawn.split(0.3, seed=2)[1].problem.tolist() != held.problem.tolist()
    assert len(drawn.digest) == 32 and drawn.digest != train.digest


def test_importing_policies_loads_no_torch():
    told = "import sys, policies, policies.training, planners.tree; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", told], cwd=root).returncode == 0


def test_observations_are_settings():
    assert Observation(TREE.actions) != TABLE.observation
