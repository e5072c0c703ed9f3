"""A network over the observation: masks, draws, exact probabilities, and what happens where it goes wrong."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from policies.learned import LearnedPolicy
from policies.network import PolicyNetwork, entropy
from policies.observation import Observation, ProblemFeatures
from unroller import Decision, Executor, Problem, Text, decoder, primitive
from unroller.check import check
from unroller.faults import PolicyError
from unroller.registry import registered


def says(name, **declared):
    declared = {"reads": ("question", Text), "writes": Text} | declared
    return primitive(name=name, **declared)(lambda view: Text(name))


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text(" ".join(t.text for t in view.all(Text)) or "nothing")


def executor(policy, *names, **options):
    return Executor(
        backend=[], primitives=[says(n) for n in names], decoders=[words], policy=policy, **options
    )


def problems(count):
    return [Problem(task="words", question=f"question {n}") for n in range(count)]


def prefers(policy, **logits):
    """The same policy with a network that looks at nothing and has these logits."""
    bias = [logits.get(name, -20.0) for name in (*policy.actions, "stop")]
    with torch.no_grad():
        policy.network.choice.weight.zero_()
        policy.network.choice.bias[:] = torch.tensor(bias)
    return policy


def test_greedy_takes_the_likeliest_choice_that_is_allowed():
    policy = prefers(LearnedPolicy(["look", "think"]), look=3.0, think=2.0, stop=1.0)
    run = executor(policy, "look", "think", budget={"steps": 2}).run(problems(1)[0])
    assert [str(c) for d in run.decisions for c in d.calls] == ["look", "think"]
    assert {d.log_probability for d in run.decisions} == {0.0}
    broken = primitive(reads=(), writes=Text, name="look")(lambda view: 1 / 0)
    ex = Executor(
        backend=[], primitives=[broken, says("think")], decoders=[words], policy=policy, budget={"steps": 2}
    )
    assert ex.run(problems(1)[0]).output == Text("think")


def test_draws_follow_the_probabilities_that_are_stated():
    logits = {"look": 0.5, "think": -0.3, "stop": 0.1}
    policy = prefers(LearnedPolicy(["look", "think"], mode="sample"), **logits)
    expected = np.exp(list(logits.values())) / np.exp(list(logits.values())).sum()
    seen = Counter()
    for run in executor(policy, "look", "think", budget={"steps": 1}).map(problems(4000)):
        first = next(e for e in run.events if isinstance(e, Decision))
        name = str(first.calls[0]) if first.calls else "stop"
        seen[name] += 1
        assert math.exp(first.log_probability) == pytest.approx(expected[list(logits).index(name)], rel=1e-5)
    for name, p in zip(logits, expected, strict=True):
        assert seen[name] / 4000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 4000))


def test_a_draw_belongs_to_the_problem_its_seed_the_step_and_the_policys_seed():
    def decided(drawn, **fields):
        policy = prefers(
            LearnedPolicy(["look", "think"], mode="sample", seed=drawn), look=0, think=0, stop=-1
        )
        ex = executor(policy, "look", "think", budget={"steps": 8})
        return [
            str(c) for d in ex.run(Problem(task="words", question="?", **fields)).decisions for c in d.calls
        ]

    assert decided(0) == decided(0)
    assert len({tuple(decided(s)) for s in range(16)}) > 2
    assert len({tuple(decided(0, seed=s)) for s in range(16)}) > 2


def test_weights_start_nearly_uniform_and_are_the_same_for_the_same_seed():
    a, b, c = (LearnedPolicy(["look", "think"], seed=s) for s in (0, 0, 1))
    x = np.random.default_rng(0).normal(size=(5, a.observation.size)).astype(np.float32)
    x = a.observation.pack(**{**a.observation.layout.parts(x), "mask": np.ones((5, 3))})
    assert np.array_equal(a.log_probabilities(x)[0], b.log_probabilities(x)[0])
    assert not np.array_equal(a.log_probabilities(x)[0], c.log_probabilities(x)[0])
    assert np.abs(np.exp(a.log_probabilities(x)[0]) - 1 / 3).max() < 0.05


def test_weights_are_the_same_on_any_number_of_threads():
    before = torch.get_num_threads()
    try:
        made = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            made.append(LearnedPolicy(["look", "think"]).network.state_dict())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def test_a_seed_may_be_any_whole_number(tmp_path):
    policy = LearnedPolicy(["look"], seed=10**30, mode="sample")
    policy.save(tmp_path)
    assert LearnedPolicy.load(tmp_path).seed == policy.seed


def test_where_nothing_is_allowed_it_stops_and_is_certain_of_it():
    policy = prefers(LearnedPolicy(["look"], mode="sample"), look=9.0, stop=-9.0)
    nothing = np.zeros((2, policy.observation.size), np.float32)
    assert policy.choose(nothing, np.array([0.0, 0.999])).index.tolist() == [policy.observation.stop] * 2
    run = executor(policy, "look", budget={"steps": 0}).run(problems(1)[0])
    assert run.output == Text("nothing") and not run.decisions


def test_probabilities_are_of_what_is_allowed_and_sum_to_one():
    policy = LearnedPolicy(["a", "b", "c"], hidden=(16,), seed=2)
    mask = np.random.default_rng(0).random((50, 4)) < 0.5
    p, value = policy.log_probabilities(policy.observation.pack(mask=mask.astype(np.float32)))
    assert np.exp(p).sum(1) == pytest.approx(np.ones(50)) and value.shape == (50,)
    assert (np.isfinite(p[:, :3]) == mask[:, :3]).all() and np.isfinite(p[:, 3]).all()
    drawn = policy.choose(
        policy.observation.pack(mask=mask.astype(np.float32)), np.linspace(0, 1, 50, endpoint=False)
    )
    assert np.isfinite(drawn.log_probability).all()
    assert np.array_equal(drawn.log_probability, p[np.arange(50), drawn.index])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda policy: np.zeros((1, 7), np.float32), "made by another version, or for other actions"),
        (lambda policy: np.full((1, policy.observation.size), np.nan), "holds NaN or infinity"),
    ],
)
def test_observations_that_are_not_its_own_are_refused(given, said):
    policy = LearnedPolicy(["look"])
    with pytest.raises(PolicyError, match=said):
        policy.choose(given(policy))


def test_a_network_that_has_diverged_is_an_error_and_the_problem_is_still_decoded():
    policy = prefers(LearnedPolicy(["look"]), look=float("nan"), stop=float("nan"))
    with pytest.raises(PolicyError, match="diverged"):
        policy.choose(policy.observation.pack(mask=np.ones(2)))
    run = executor(policy, "look").run(problems(1)[0])
    assert run.output == Text("nothing") and "diverged" in run.faults[0].message


@pytest.mark.parametrize(
    "wrong",
    [
        {"actions": []},
        {"actions": ["a"], "mode": "wild"},
        {"actions": ["a"], "hidden": (0,)},
        {"actions": ["a"], "observation": Observation(("b",))},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(PolicyError):
        LearnedPolicy(**wrong)


def test_its_probes_are_those_of_its_observation():
    seen = Observation(("look",), problem=ProblemFeatures(probes=(("answer_entropy", 1),)))
    assert LearnedPolicy(observation=seen).probes == ("answer_entropy",)


def test_it_learns_from_gradients_through_its_network():
    """Twenty steps of policy gradient on one state: what is rewarded becomes likely."""
    policy = LearnedPolicy(["look", "think"], hidden=(16,))
    x = torch.from_numpy(policy.observation.pack(mask=np.ones(3)))
    allowed = torch.ones(1, 3, dtype=torch.bool)
    optimiser = torch.optim.Adam(policy.network.parameters(), 0.05)
    for _ in range(20):
        p, _ = policy.network(x, allowed)
        loss = -(p.exp() * torch.tensor([0.0, 1.0, 0.2])).sum() - 0.001 * entropy(p).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert policy.choose(x.numpy()).index.tolist() == [1]


def test_entropy_of_masked_choices_and_its_gradient_are_finite():
    network = PolicyNetwork(3, 3)
    p, _ = network(torch.randn(4, 3), torch.tensor([[True, False, True]]).expand(4, 3))
    found = entropy(p)
    found.sum().backward()
    assert found.detach().numpy() == pytest.approx(math.log(2), abs=1e-3)
    assert all(torch.isfinite(w.grad).all() for w in network.parameters() if w.grad is not None)


def test_it_passes_the_checks_for_policies():
    for mode in ("greedy", "sample"):
        policy = LearnedPolicy(["text_think", "camera_pose_estimate"], mode=mode, seed=1)
        if mode == "sample":
            assert check(policy).ok, check(policy)
    assert "learned" in registered("policies")
