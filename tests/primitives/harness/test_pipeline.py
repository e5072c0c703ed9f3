"""What a harness asks and what a pipeline answers, without any harness."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from primitives.harness.meeting import Meeting
from primitives.harness.options import options_in
from primitives.harness.pipeline import Asking, Pipeline, Question
from primitives.harness.question import Other, Picture, Turn, question_of
from primitives.written import written_answer
from unroller import Executor, Problem
from unroller.capabilities import Prompt
from unroller.faults import BudgetError, MissingCapability, PluginError, UnknownName
from unroller.rendering import ImageSegment, TextSegment

FEW = Asking(max_tokens=6)


def picture(seed=0, side=24):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def asked(text, *pictures, how=FEW, **more):
    return Question([Turn("user", [*map(Picture, pictures), text])], how, **more)


# ------------------------------------------------------------------------------------------ written answers


def test_without_context_the_model_reads_what_the_harness_says_and_nothing_else(words, chat):
    from primitives.backends.hf_vlm import HFVLM

    (reply,) = Pipeline(backend=words, policy="direct").answers([asked("where is it?", picture())])
    prompt = Prompt((ImageSegment(picture(), "photo 1"), TextSegment("where is it?")))
    model = HFVLM(chat, device="cpu", dtype="float32")
    (alone,) = model.generate_text([prompt], max_tokens=6, temperature=0, seeds=[0])
    assert reply.text == alone.text and reply.text
    assert reply.cost.model_calls == 1 and reply.cost.tokens == alone.tokens
    assert not reply.context and reply.reading.prefilled > 10


def test_the_context_is_built_first_and_charged_apart(words):
    pipeline = Pipeline(backend=words, calls="text_think;detailed_caption", budget="tokens=2000")
    replies = list(pipeline.answers(asked(f"what is {n}?", picture(n)) for n in range(3)))
    for reply in replies:
        assert [action for action, _ in reply.context] == ["text_think", "detailed_caption"]
        assert reply.cost.model_calls == 3 and reply.context_cost.model_calls == 2
        assert 0 < reply.context_cost.tokens < reply.cost.tokens
        assert reply.record()["calls"] == ["text_think", "detailed_caption"]
    assert len({reply.text for reply in replies}) > 1, "each looked at its own picture"


def test_settings_of_the_harness_are_of_the_answer_alone(words):
    pipeline = Pipeline(backend=words, calls="text_think")
    few, many = pipeline.answers([asked("what?", how=Asking(2)), asked("what?", how=Asking(12))])
    assert few.cost.tokens - few.context_cost.tokens == 2 and few.cut
    assert few.context == many.context and many.text.startswith(few.text)


def test_the_same_question_again_is_another_sample(words):
    pipeline = Pipeline(backend=words, policy="direct")
    freely = asked("what?", how=Asking(12, 2.0))
    first = [reply.text for reply in pipeline.answers([freely] * 4)]
    assert len(set(first)) > 1
    assert [r.text for r in Pipeline(backend=words, policy="direct").answers([freely] * 4)] == first


def test_with_a_memo_on_disk_an_evaluation_that_was_cut_short_goes_on(words, tmp_path):
    questions = [asked(f"what is {n}?", picture(n)) for n in range(3)]
    first = Pipeline(backend=words, policy="direct", memo=str(tmp_path / "memo"))
    begun = [reply.text for reply in first.answers(questions[:2])]
    again = Pipeline(backend=words, policy="direct", memo=str(tmp_path / "memo"))
    replies = list(again.answers(questions))
    assert [reply.text for reply in replies[:2]] == begun
    read = [reply.reading is not None and reply.reading.prefilled > 0 for reply in replies]
    assert read == [False, False, True]
    assert len({reply.cost.model_calls for reply in replies}) == 1, "charged as if it were computed"


def test_a_policy_that_fails_costs_its_context_and_not_the_answer(words):
    from unroller import policy

    @policy()
    def broken(state):
        raise RuntimeError("no idea")

    executor = Executor(backend=[words], policy=broken)
    (reply,) = Pipeline(executor=executor).answers([asked("what?")])
    assert reply.text and "no idea" in reply.faults[0]


def test_what_ends_an_answer_is_cut_off(words):
    pipeline = Pipeline(backend=words, policy="direct")
    (whole,) = pipeline.answers([asked("what?")])
    (stopped,) = pipeline.answers([asked("what?", how=Asking(6, 0.0, (whole.text[2:4], "")))])
    assert stopped.text == whole.text[: whole.text.find(whole.text[2:4])]
    assert stopped.cost == whole.cost


def test_a_written_answer_in_an_executor_of_one_s_own(chat):
    from primitives.backends.hf_vlm import HFVLM

    model = HFVLM(chat, device="cpu", dtype="float32")
    executor = Executor(backend=model, policy=[], decoders=[written_answer("understanding", max_tokens=4)])
    run = executor.run(Problem.understanding(picture(), question="what is this?"))
    assert run.output.text and run.cost.tokens == 4 and not run.output.choices
    (reply,) = Pipeline(executor=executor, max_tokens=4).answers(
        [asked("what is this?", picture(), how=Asking(4))]
    )
    assert reply.text == run.output.text


# -------------------------------------------------------------------------------------- options and letters

MMSI = "Where is it?\nOptions: A: left, B: right of the cone, C: behind\nAnswer with the option's letter."
LINES = "Where is it?\n\n(A) 1.5 m\n(B) 2 m\n\nAnswer with the letter."
INSPECT = (
    "Answer the following multiple choice question. The entire content of your response should be of the"
    " following format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of A,B.\n\nWhere is it?\n\n"
    "A) left\nB) right"
)


@pytest.mark.parametrize(
    ("text", "texts", "question", "said"),
    [
        (MMSI, ("left", "right of the cone", "behind"), "Where is it?", "B"),
        (LINES, ("1.5 m", "2 m"), "Where is it?", "B"),
        (INSPECT, ("left", "right"), "Where is it?", "ANSWER: B"),
        ("Is it (A) red or (B) blue?", ("red or", "blue?"), "Is it", "B"),
        ("Which?\nChoices:\nA. x\nB. y\nC. z", ("x", "y", "z"), "Which?", "B"),
    ],
)
def test_options_are_read_off_the_question(text, texts, question, said):
    found = options_in(text)
    assert (found.texts, found.question, found.said(1)) == (texts, question, said)


def test_options_are_looked_for_in_little_time_in_hostile_text():
    assert options_in("A. x\n" * 6_000) is None
    assert options_in("A. x\nB. y\n" * 3_000).texts == ("x", "y")


@pytest.mark.parametrize(
    "text", ["where is it?", "A. only one", "", "Plan A: go. Plan Z: stay.", "B. x\nC. y"]
)
def test_where_there_are_no_options_none_are_found(text):
    assert options_in(text) is None


def test_letters_of_the_options_are_scored(words):
    pipeline = Pipeline(backend=words, policy="direct", answer="letters")
    said, why = pipeline.answers([asked(MMSI, picture()), asked("no options here", picture())])
    assert said.text in "ABC" and said.cost.model_calls == 1 and said.cost.tokens == 0
    assert not why.text and "no lettered options" in why.refusal


def test_the_embedded_model_answers_questions_in_its_own_words():
    from unroller.registry import load

    rooms = load("problems", "rooms").many(range(4), "spatial")
    pipeline = Pipeline(backend="nano", task="spatial")
    assert pipeline.answer == "options"
    questions = []
    for x in rooms:
        options = ", ".join(f"{letter}: {choice}" for letter, choice in zip("ABCD", x.choices, strict=True))
        questions.append(asked(f"{x.question}\nOptions: {options}", *(i.pixels for i in x.images)))
    replies = list(pipeline.answers(questions))
    bare = [x.model_copy(update={"metadata": {}, "intrinsics": ()}) for x in rooms]
    runs = Executor(backend="nano").map(bare)
    assert [r.text for r in replies] == ["ABCD"[run.output.choice] for run in runs]
    assert all(reply.cost.model_calls == 3 for reply in replies)


# ------------------------------------------------------------------------------------------------ questions


def test_one_user_s_words_stay_as_they_are():
    text, pictures = question_of(
        [Turn("system", ["Be brief."]), Turn("user", [Picture(1), Picture(2), "Where?"])]
    )
    assert text == "Be brief.\n\nWhere?" and [p.held for p in pictures] == [1, 2]


def test_of_a_conversation_each_turn_says_who_speaks_and_pictures_leave_their_place():
    turns = [
        Turn("user", ["Here", Picture(1), "and"]),
        Turn("assistant", ["Yes?"]),
        Turn("user", [Picture(2), "?"]),
    ]
    text, pictures = question_of(turns)
    assert (
        text == "user: Here\n(photo 1)\nand\n\nassistant: Yes?\n\nuser: (photo 2)\n?" and len(pictures) == 2
    )


@pytest.mark.parametrize(
    ("turns", "why"),
    [
        ([], "without words"),
        ([Turn("user", ["  \n"])], "without words"),
        ([Turn("user", [Picture(picture())])], "without words"),
        ([Turn("user", [Other("video"), "what?"])], "video"),
        ([Turn("user", [Picture("no/such.png"), "what?"])], "no such file"),
        ([Turn("user", [Picture(object()), "what?"])], "not a picture"),
        ([Turn("user", [Picture(np.zeros((0, 4, 3), np.uint8)), "what?"])], "ImageError"),
        ([Turn("user", ["a\x00b"])], "control character"),
        ([Turn("user", ["long " * 10_000])], "shorten it"),
    ],
)
def test_what_cannot_be_asked_has_an_empty_answer_and_its_mates_have_theirs(words, turns, why):
    pipeline = Pipeline(backend=words, policy="direct")
    good = asked("what?", picture())
    before, refused, after = pipeline.answers([good, Question(turns, FEW), good])
    assert before.text and after.text
    assert refused.text == "" and why in refused.refusal and why in refused.record()["no_answer"]


def test_a_question_without_pictures_and_one_with_several(words):
    none, several = Pipeline(backend=words, policy="direct").answers(
        [asked("what?"), asked("what?", *(picture(n, 8 + n) for n in range(6)))]
    )
    assert none.text and several.text and not none.faults and not several.faults


def test_what_the_model_refuses_is_an_empty_answer_with_the_fault(words):
    replies = list(
        Pipeline(backend="nano", task="spatial", answer="written").answers([asked("what?", picture())])
    )
    assert replies[0].text == "" and "was asked for answer" in replies[0].refusal
    *context, answer = replies[0].faults
    assert context and "was asked for answer" in answer, "the context's failed too"


def test_an_answer_beyond_the_budget_is_refused_and_the_others_are_not(words):
    pipeline = Pipeline(backend=words, policy="direct", budget="tokens=20", max_tokens=10)
    long, short = pipeline.answers([asked("what?", how=Asking(50)), asked("what?")])
    assert "raise it" in long.refusal and short.text
    with pytest.raises(BudgetError, match="raise it"):
        Pipeline(backend=words, policy="direct", budget="tokens=20")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({}, PluginError, "name a backend"),
        ({"backend": "nnano"}, UnknownName, "nano"),
        ({"backend": "text=hf:/no/such"}, MissingCapability, "/no/such"),
        ({"backend": "nano", "policy": "scedule"}, UnknownName, "schedule"),
        ({"backend": "nano", "calls": "text_thinc"}, UnknownName, "text_think"),
        ({"backend": "nano", "budget": "model_calls"}, BudgetError, "model_calls=6"),
        ({"backend": "nano", "answer": "loud"}, PluginError, "written, letters, options"),
        ({"backend": "nano", "task": "cooking"}, UnknownName, "cooking"),
        ({"backend": "classical"}, MissingCapability, "TextGenerator"),
        ({"backend": "nano", "max_tokens": 0}, PluginError, "1 or more"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_question(arguments, error, match):
    with pytest.raises(error, match=match):
        Pipeline(**arguments)


# -------------------------------------------------------------------------------------------------- meeting


def test_questions_that_come_together_are_answered_together():
    import anyio

    batches = []

    def perform(questions):
        batches.append(list(questions))
        if "bad" in questions:
            raise ValueError("a bad batch")
        return [question.upper() for question in questions]

    async def main():
        meeting, answers = Meeting(perform, largest=4), {}

        async def ask(question):
            try:
                answers[question] = await meeting.ask(question)
            except ValueError as error:
                answers[question] = str(error)

        async with anyio.create_task_group() as group:
            for question in "abcdef":
                group.start_soon(ask, question)
        await ask("bad")
        with anyio.move_on_after(0):
            await meeting.ask("left")
        await ask("last")
        return answers

    for _ in range(2):  # a harness starts a new event loop for every evaluation
        batches.clear()
        answers = anyio.run(main)
        assert answers == {q: q.upper() for q in "abcdef"} | {"bad": "a bad batch", "last": "LAST"}
        assert [len(batch) for batch in batches] == [4, 2, 1, 1], "who was cancelled is not waited for"


def test_what_comes_while_a_batch_is_answered_waits_for_the_next():
    import anyio

    entered, go, batches = threading.Event(), threading.Event(), []

    def perform(questions):
        batches.append(list(questions))
        entered.set()
        assert go.wait(10)
        return questions

    async def main():
        meeting = Meeting(perform)
        async with anyio.create_task_group() as group:
            group.start_soon(meeting.ask, 1)
            await anyio.to_thread.run_sync(entered.wait)
            for question in (2, 3, 4):
                group.start_soon(meeting.ask, question)
            await anyio.sleep(0)
            go.set()

    anyio.run(main)
    assert batches == [[1], [2, 3, 4]]


def test_importing_it_loads_neither_torch_nor_a_harness():
    code = (
        "import sys, primitives.harness.pipeline, primitives.harness.meeting\n"
        "import primitives.harness.lmms_eval_manifest\n"
        "assert not {'torch', 'transformers', 'inspect_ai', 'lmms_eval', 'anyio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
