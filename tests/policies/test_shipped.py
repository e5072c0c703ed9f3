"""The policy that comes with the project, on rooms that it was not trained on."""

import pytest

from policies import LearnedPolicy
from primitives.backends.nano.rooms import many
from unroller import Executor

FORMS = {"compare": [], "where": ["camera_pose_estimate", "text_think"]}


@pytest.mark.parametrize("ask", FORMS)
def test_it_calls_what_the_form_of_a_question_is_worth(ask):
    (question,) = many([60_001], ask=ask)
    run = Executor(backend="nano", policy="learned").run(question)
    assert run.output is not None
    assert [str(call) for decision in run.decisions for call in decision.calls] == FORMS[ask]


def test_it_can_be_looked_at():
    policy = LearnedPolicy()
    assert policy.actions == ("camera_pose_estimate", "text_think", "detailed_caption", "latent_think")
    assert sum(weights.numel() for weights in policy.network.parameters()) < 50_000
