"""The policy that comes with the project, on rooms that it was not trained on."""

import pytest

from policies import LearnedPolicy
from primitives.backends.nano.photo_sets import many_edits
from primitives.backends.nano.rooms import many
from unroller import Executor

HOPS = {1: ["camera_pose_estimate"], 3: []}
VERBS = {"add": True, "remove": False}


def calls_of(run):
    assert run.output is not None
    return [str(call) for decision in run.decisions for call in decision.calls]


@pytest.mark.parametrize("hops", HOPS)
def test_it_calls_what_the_form_of_a_question_is_worth(hops):
    (question,) = many([60_001], hops=hops)
    assert calls_of(Executor(backend="nano", policy="learned").run(question)) == HOPS[hops]


@pytest.mark.parametrize("verb", VERBS)
def test_it_thinks_before_something_is_added_and_not_before_it_is_taken_away(verb):
    change = next(one for one in many_edits(range(8000, 8012)) if one.prompt.startswith(verb))
    calls = calls_of(Executor(backend="nano", policy="learned").run(change))
    assert any(call.startswith("text_think") for call in calls) == VERBS[verb]


def test_it_can_be_looked_at():
    policy = LearnedPolicy()
    assert {"camera_pose_estimate", "text_think", "text_think_long"} < set(policy.actions)
    assert sum(weights.numel() for weights in policy.network.parameters()) < 50_000
