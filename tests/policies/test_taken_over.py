"""What another library has trained, as a policy of ours."""

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from planners import tree
from policies.environment import UnrollEnv, as_policy
from policies.environment.spaces import stretches
from policies.saved import SavedPolicyError
from unroller.faults import PolicyError

TREE = tree.synthetic(n=40, helpers=2, seed=3)
LOOK, STOP = 0, 3


def env(**options):
    return UnrollEnv(TREE, cost_weight=0.02, **options)


def looks_first(observations, masks):
    """Logits of a policy that looks, then calls what is needed, then stops."""
    logits = np.zeros(masks.shape)
    size = stretches(env().ground.observation)["problem"].stop
    hint = observations["problem"][:, size - 4 : size - 1]  # nothing, help_1, help_2
    seen = hint.any(1)
    called = observations["counts"][:, 0]
    logits[~seen, LOOK] = 9.0
    logits[seen, 1:3] = 9.0 * hint[seen, 1:]
    logits[seen & (hint[:, 0] > 0), STOP] = 9.0
    logits[called >= 2 / 3, STOP] = 20.0
    return logits


def test_a_function_that_knows_the_best_is_a_policy_that_is_the_best():
    best = tree.optimum(TREE, 0.02)
    found = tree.evaluate(TREE, as_policy(looks_first, env()))
    assert found.score.mean - 0.02 * found.cost.mean == pytest.approx(best.value)


def test_sampled_it_has_a_distribution_over_what_is_allowed():
    policy = as_policy(looks_first, env(), mode="sample")
    exact = tree.evaluate(TREE, policy)
    assert exact.expected and exact.refused == 0
    assert exact.score.mean < tree.evaluate(TREE, as_policy(looks_first, env())).score.mean


def test_it_evaluates_to_what_it_gets_in_the_environment():
    policy, here = as_policy(looks_first, env()), env(seed=0)
    returns = []
    for i in range(len(TREE)):
        observation, _ = here.reset(options={"problem": i})
        done = False
        while not done:
            masks = here.action_masks()[None]
            logits = looks_first({name: part[None] for name, part in observation.items()}, masks)
            action = int(np.where(masks, logits, -np.inf).argmax())
            observation, reward, done, _, _ = here.step(action)
        returns.append(reward)
    found = tree.evaluate(TREE, policy)
    assert np.mean(returns) == pytest.approx(found.score.mean - 0.02 * found.cost.mean)


@pytest.mark.parametrize("kind", ["MaskablePPO", "PPO"])
def test_a_model_of_stable_baselines_is_taken_over_as_it_predicts(kind):
    pytest.importorskip("sb3_contrib")
    from sb3_contrib import MaskablePPO
    from stable_baselines3 import PPO

    model = {"MaskablePPO": MaskablePPO, "PPO": PPO}[kind](
        "MultiInputPolicy", env(seed=0), n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu"
    )
    model.learn(16)
    policy, here = as_policy(model, model.get_env().envs[0]), env(seed=1)
    for _ in range(10):
        observation, _ = here.reset()
        masks = here.action_masks()
        p, _ = policy.log_probabilities(here.ground.vectors[[here._place]])
        assert np.exp(p[0])[~masks].sum() == 0 and np.exp(p).sum() == pytest.approx(1)
        if kind == "MaskablePPO":
            chosen, _ = model.predict(observation, action_masks=masks, deterministic=True)
            assert p[0].argmax() == chosen
        here.step(int(p[0].argmax()))


@pytest.mark.parametrize(
    ("model", "seen", "said"),
    [
        (looks_first, object(), "no environment of ours"),
        (object(), env(), "a function of observations"),
        (lambda o, m: np.zeros((len(m), 2)), env(), "shape"),
        (lambda o, m: np.full(m.shape, np.nan), env(), "not finite"),
        (lambda o, m: np.full(m.shape, np.inf), env(), "not finite"),
    ],
)
def test_what_cannot_be_taken_over_says_why(model, seen, said):
    with pytest.raises(PolicyError, match=said):
        tree.evaluate(TREE, as_policy(model, seen))


def test_it_is_saved_by_whoever_trained_it(tmp_path):
    with pytest.raises(SavedPolicyError, match="library that trained it"):
        as_policy(looks_first, env()).save(tmp_path)
