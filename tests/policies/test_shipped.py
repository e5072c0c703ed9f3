"""The policy that comes with the project, on rooms that it was not trained on."""

import pytest

from policies import LearnedPolicy
from primitives.backends.nano.photo_sets import many_edits
from primitives.backends.nano.rooms import many
from unroller import Executor

POSE, THINK = "camera_pose_estimate", "text_think"
FORMS = {1: [POSE], 2: [POSE, THINK], 3: [POSE, THINK], 4: [POSE, THINK]}


def calls_of(run):
    assert run.output is not None
    return [str(call) for decision in run.decisions for call in decision.calls]


@pytest.mark.parametrize("hops", FORMS)
def test_it_calls_what_the_form_of_a_question_is_worth(hops):
    (question,) = many([60_001], hops=hops)
    assert calls_of(Executor(backend="nano", policy="learned").run(question)) == FORMS[hops]


def test_it_thinks_before_counting_and_compares_at_once():
    asked = [many([60_001], ask=ask)[0] for ask in ("count", "compare")]
    runs = list(Executor(backend="nano", policy="learned").map(asked))
    assert [calls_of(run) for run in runs] == [[THINK], []]


def test_it_thinks_before_a_picture_is_changed():
    change = next(one for one in many_edits(range(8000, 8012)) if one.prompt.startswith("add"))
    assert THINK in calls_of(Executor(backend="nano", policy="learned").run(change))


def test_it_can_be_looked_at():
    policy = LearnedPolicy()
    assert {"camera_pose_estimate", "text_think", "text_think_long"} < set(policy.actions)
    assert sum(weights.numel() for weights in policy.network.parameters()) < 50_000
