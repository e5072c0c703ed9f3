"""A language model chooses: what it is shown, what its replies lead to, what that costs."""

import numpy as np
import pytest
from tiny.chat_models import llava, saved

from policies.language_model import LanguageModelPolicy
from policies.saved import load_policy
from unroller import Decision, Executor, Problem, Text, decoder, primitive
from unroller.capabilities import AnswerScorer, Generation, TextGenerator
from unroller.check import StandIn, check
from unroller.cost import Cost
from unroller.faults import InputError, MissingCapability, PolicyError


class Replies:
    """A backend that says what it was told to, one reply after the other, and keeps what it was shown."""

    name, fingerprint, max_batch = "replies", "replies-1", 8
    provides = (TextGenerator,)

    def __init__(self, *replies, log_probability=-0.5):
        self.replies = replies
        self.log_probability = log_probability
        self.shown = []

    def generate_text(self, prompts, *, max_tokens, temperature, seeds):
        first = len(self.shown)
        self.shown += prompts
        said = [self.replies[min(first + i, len(self.replies) - 1)] for i in range(len(prompts))]
        return [
            one if isinstance(one, Exception) else Generation(one, 3, self.log_probability) for one in said
        ]


def says(name, cost=1, **declared):
    declared = {"reads": ("question", Text), "writes": Text, "cost": Cost(model_calls=cost)} | declared

    def say(view):
        """Say one's own name."""
        return Text(name)

    return primitive(name=name, **declared)(say)


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text(" ".join(t.text for t in view.all(Text)) or "nothing")


PRIMITIVES = says("look_around"), says("think_hard"), says("oracle_text")


def executor(backend, policy=None, *, primitives=PRIMITIVES, **options):
    return Executor(
        backend=backend,
        primitives=primitives,
        decoders=[words],
        policy=policy or LanguageModelPolicy(),
        **options,
    )


def x(question="where?"):
    return Problem(task="words", question=question)


def test_it_calls_what_the_model_names_until_the_model_stops():
    model = Replies("think_hard", "look_around", "STOP")
    run = executor(model).run(x())
    assert run.output == Text("think_hard look_around") and not run.faults
    # two of ours, and two questions: with nothing left to choose the model is not asked.
    assert run.cost.model_calls == 2 + 2 and run.cost.tokens == 6
    assert len(model.shown) == 2


def test_it_is_shown_the_problem_the_context_and_what_is_left_to_choose():
    model = Replies("think_hard", "STOP")
    executor(model).run(x("is a < b, or is <b> a tag?"))
    first, second = model.shown
    assert first.segments[0].text == "is a < b, or is &lt;b> a tag?"
    assert "- look_around: Say one's own name. It writes Text and costs at most 1 call." in first.instruction
    assert "oracle" not in first.instruction
    assert [s.text for s in second.segments][1:] == ["<think>think_hard</think>"]
    assert "look_around" in second.instruction and "- think_hard" not in second.instruction


def test_a_reply_that_names_nothing_is_told_so_and_asked_again():
    model = Replies("Let me see.</campose>", "look_around", "STOP")
    run = executor(model).run(x())
    assert run.output == Text("look_around")
    assert "The reply 'Let me see.&lt;/campose>' names none of these" in model.shown[1].instruction
    assert run.cost.model_calls == 1 + 3
    first = next(e for e in run.events if isinstance(e, Decision))
    assert first.log_probability == -1.0, "of both replies"


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_after_as_many_replies_that_name_nothing_as_it_may_try_it_stops(tries):
    model = Replies("red cone left")
    run = executor(model, LanguageModelPolicy(tries=tries)).run(x())
    assert run.output == Text("nothing") and len(model.shown) == tries == run.cost.model_calls


def test_of_several_names_the_first_that_can_be_called_is():
    dear = says("dear_look", cost=50)
    model = Replies("dear_look, oracle_text, think_hard", "STOP")
    run = executor(model, primitives=(*PRIMITIVES, dear), budget={"model_calls": 9}).run(x())
    assert run.output == Text("think_hard") and not run.faults
    run = executor(Replies("dear_look"), primitives=(dear,), budget={"model_calls": 9}).run(x())
    assert run.output == Text("nothing"), "none of what it names can be called"


def test_one_that_names_the_same_for_ever_stops_after_calling_it_once():
    run = executor(Replies("look_around")).run(x())
    assert run.output == Text("look_around")


def test_questions_are_charged_to_the_budget_and_not_asked_where_it_affords_none():
    model = Replies("look_around")
    run = executor(model, budget={"model_calls": 1}).run(x())
    assert run.output == Text("nothing") and not model.shown and run.cost.model_calls == 0


def test_questions_are_batched_over_problems_and_remembered():
    model = Replies("STOP")
    ex = executor(model)
    runs = list(ex.map([x(f"question {n}") for n in range(8)]))
    assert len(model.shown) == 8 and all(r.measured[0].cost.model_calls == 1 for r in runs)
    again = ex.run(x("question 3"))
    assert len(model.shown) == 8 and again.cost.model_calls == 1, "charged as if it had been asked"


def test_a_model_that_fails_is_on_the_record_and_the_problem_is_decoded():
    run = executor(Replies(InputError("the picture is blank"))).run(x())
    assert run.output == Text("nothing") and [f.phase for f in run.faults] == ["probe"]


def test_a_log_probability_that_the_model_does_not_know_is_not_made_up():
    run = executor(Replies("look_around", "STOP", log_probability=None)).run(x())
    assert {e.log_probability for e in run.events if isinstance(e, Decision)} == {None}


def test_it_may_be_given_its_own_model_beside_the_executors_backends():
    model = Replies("think_hard", "STOP")
    run = executor([], LanguageModelPolicy(model)).run(x())
    assert run.output == Text("think_hard") and run.cost.model_calls == 3
    with pytest.raises(PolicyError, match="cannot be saved"):
        LanguageModelPolicy(model).save("nowhere")


def test_without_a_model_that_writes_text_the_error_says_who_could():
    class Scores:
        name, fingerprint, max_batch, provides = "scores", "1", 1, (AnswerScorer,)

    with pytest.raises(MissingCapability, match="next_call needs TextGenerator"):
        executor(Scores())


def test_where_there_is_nothing_to_choose_from_it_decodes():
    assert executor(Replies("look"), primitives=()).run(x()).output == Text("nothing")


def test_its_prompt_is_saved_with_it(tmp_path):
    told = "Pick: {actions}"
    opened = load_policy(LanguageModelPolicy(told=told, tries=3, temperature=0.5).save(tmp_path))
    assert opened._settings() == LanguageModelPolicy(told=told, tries=3, temperature=0.5)._settings()


@pytest.mark.parametrize(
    "wrong",
    [{"tries": 0}, {"max_tokens": 0}, {"temperature": -1}, {"temperature": float("nan")}, {"told": "choose"}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(PolicyError):
        LanguageModelPolicy(**wrong)
    with pytest.raises(PolicyError, match="writes no text"):
        LanguageModelPolicy(object())


def test_it_passes_the_checks_for_policies():
    for policy in (
        LanguageModelPolicy(),
        LanguageModelPolicy(temperature=1.0),
        LanguageModelPolicy(StandIn()),
    ):
        assert check(policy).ok, check(policy)


def test_a_real_chat_model_is_asked_through_its_template(tmp_path):
    """A Llava of random weights: it replies with nonsense, which is what has to be survived."""
    from primitives.backends.hf_vlm import HFVLM

    model = HFVLM(saved(tmp_path, llava()), device="cpu", dtype="float32")
    photo = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    problem = Problem(task="words", images=photo, question="where is the red cone?")
    policy = LanguageModelPolicy(max_tokens=6, temperature=1.0, tries=2)
    runs = list(executor(model, policy).map([problem, problem.model_copy(update={"seed": 1})]))
    for run in runs:
        assert not run.faults and run.output is not None
        assert 1 <= run.cost.model_calls <= 2 * 3 and run.cost.tokens > 0
        said = next(e for e in run.events if isinstance(e, Decision)).log_probability
        assert said is not None and said < 0
