"""A pipeline as a model of inspect_ai, through its own `eval` and its own command line."""

import base64
import json
import subprocess
import sys

import pytest

pytest.importorskip("inspect_ai")

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentText,
    GenerateConfig,
)
from inspect_ai.scorer import choice, includes
from inspect_ai.solver import generate, multiple_choice, use_tools
from inspect_ai.tool import tool

from unroller import Executor


@pytest.fixture
def evaluate(tmp_path):
    def run(samples, policy="direct", solver=None, scorer=None, **more):
        arguments = {name: more.pop(name) for name in list(more) if name in ARGUMENTS}
        task = Task(dataset=samples, solver=solver or generate(), scorer=scorer or includes())
        (log,) = eval(
            task,
            model=f"unroller/{policy}",
            model_args=arguments,
            log_dir=str(tmp_path),
            display="none",
            **more,
        )
        assert log.status == "success", log.error
        return log

    return run


ARGUMENTS = ("backend", "task", "calls", "budget", "answer", "executor", "batch")


def about(text, *files, **more):
    content = [*(ContentImage(image=file) for file in files), ContentText(text=text)]
    return Sample(input=[ChatMessageUser(content=content)], target="x", **more)


def test_multiple_choice_end_to_end(evaluate, rooms, truth):
    samples = []
    for x, files in rooms:
        right = "ABCD"[x.choices.index(x.metadata["truth"]["answer"])]
        samples.append(about(x.question, *files, choices=list(x.choices)))
        samples[-1].target = right
    log = evaluate(samples, "schedule", multiple_choice(), choice(), backend="nano", task="spatial")
    assert [sample.output.completion for sample in log.samples] == [f"ANSWER: {'ABCD'[c]}" for c in truth]
    right = sum(
        said == sample.target[-1] for said, sample in zip(("ABCD"[c] for c in truth), samples, strict=True)
    )
    assert log.results.scores[0].metrics["accuracy"].value == right / len(rooms)
    used = log.stats.model_usage["unroller/schedule"]
    records = [sample.output.metadata["unroller"] for sample in log.samples]
    assert used.output_tokens == used.reasoning_tokens == sum(record["tokens"] for record in records) > 0
    assert used.input_tokens > 0 and all(record["model_calls"] == 3 for record in records)
    assert used.total_tokens == used.input_tokens + used.input_tokens_cache_read + used.output_tokens
    thought = [part.reasoning for part in log.samples[0].output.message.content[:-1]]
    assert thought[0].startswith("camera_pose_estimate: <campose>") and thought[1].startswith("text_think: ")


def test_written_answers_meet_in_batches(evaluate, words, rooms):
    samples = [about(f"{x.question} {n}", *files) for n, (x, files) in enumerate(rooms)]
    log = evaluate(samples, "pipeline", backend=words, calls="text_think", max_tokens=5, max_connections=8)
    for sample in log.samples:
        record = sample.output.metadata["unroller"]
        assert sample.output.completion and record["calls"] == ["text_think"] and not record["faults"]
        assert sample.output.usage.output_tokens - sample.output.usage.reasoning_tokens <= 5
        assert sample.output.stop_reason in ("stop", "max_tokens")


def test_how_many_calls_share_a_batch_is_up_to_the_engine(rooms, words, evaluate):
    """All samples are asked at once, so the first batch of the model holds several."""
    from primitives.harness.pipeline import Pipeline

    executor = Pipeline(backend=words, calls="text_think")._base
    seen, perform = [], executor.engine.perform

    class Counting:
        def perform(self, action, views):
            seen.append(len(views))
            return perform(action, views)

    samples = [about(f"{n}?") for n in range(8)]
    counting = executor.extend(engine=Counting())
    evaluate(samples, "pipeline", executor=counting, max_tokens=3, max_connections=8)
    assert sum(seen) == 16 and max(seen) > 1


def test_epochs_are_samples_of_their_own_and_stop_sequences_end_answers(evaluate, words):
    log = evaluate([about("what?")], backend=words, epochs=4, temperature=2.0, max_tokens=10)
    assert len({sample.output.completion for sample in log.samples}) > 1
    text = next(sample.output.completion for sample in log.samples if len(sample.output.completion) > 3)
    greedy = evaluate([about("what?")], backend=words, max_tokens=10).samples[0].output.completion
    (cut,) = evaluate([about("what?")], backend=words, max_tokens=10, stop_seqs=[greedy[2]]).samples
    assert text and cut.output.completion == greedy.partition(greedy[2])[0]


def test_several_choices_of_one_call(evaluate, words):
    (sample,) = evaluate(
        [about("what?")], backend=words, num_choices=3, temperature=2.0, max_tokens=8
    ).samples
    assert len(sample.output.choices) == 3 and len(sample.output.metadata["unroller"]) == 3
    assert sample.output.usage.output_tokens == sum(r["tokens"] for r in sample.output.metadata["unroller"])


def test_a_conversation_is_one_question(evaluate, words):
    turns = [
        ChatMessageSystem(content="Be brief."),
        ChatMessageUser(content="left or right?"),
        ChatMessageAssistant(content="left"),
        ChatMessageUser(content="and now?"),
    ]
    (sample,) = evaluate([Sample(input=turns, target="x")], backend=words, max_tokens=4).samples
    assert sample.output.completion and sample.output.metadata["unroller"]["model_calls"] == 1


def uri(data, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@tool
def looks():
    async def execute(place: str):
        """Look somewhere.

        Args:
            place: Where to look.
        """
        return place

    return execute


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        (about("what?", uri(b"not a picture")), "not an image"),
        (about("what?", uri(b"\x89PNG\r\n\x1a\n")), "image"),
        (about(" "), "without words"),
        (about("a\x00b"), "control character"),
        (about("long " * 10_000), "shorten it"),
    ],
)
def test_what_cannot_be_asked_is_an_empty_completion_with_the_reason(evaluate, words, sample, why):
    log = evaluate([sample, about("what?")], backend=words, max_tokens=4)
    refused, good = (one.output for one in log.samples)
    assert refused.completion == "" and refused.stop_reason == "unknown"
    assert why in refused.metadata["unroller"]["no_answer"]
    assert good.completion and "no_answer" not in good.metadata["unroller"]


def test_a_pipeline_calls_no_tools_and_says_so(evaluate, words):
    (sample,) = evaluate([about("what?")], backend=words, solver=[use_tools(looks()), generate()]).samples
    assert "calls no tools" in sample.output.metadata["unroller"]["no_answer"]


def test_a_model_that_is_named_wrongly_is_an_error_before_the_evaluation(tmp_path):
    from inspect_ai.model import get_model

    with pytest.raises(Exception, match="Did you mean 'schedule'"):
        get_model("unroller/scedule", backend="nano")
    with pytest.raises(Exception, match="name a backend"):
        get_model("unroller/direct")


def test_an_executor_of_one_s_own_in_python():
    import asyncio

    from inspect_ai.model import get_model

    executor = Executor(backend="nano", policy=["text_think"])
    model = get_model("unroller/mine", executor=executor, memoize=False, config=GenerateConfig(max_tokens=8))
    output = asyncio.run(model.generate("Where? (A) left (B) right"))
    assert output.completion == "" and "two photos" in output.metadata["unroller"]["no_answer"]


@pytest.mark.slow
def test_the_command_line(tmp_path, rooms, words):
    lines = [
        {"input": [{"role": "user", "content": [{"type": "text", "text": x.question}]}], "target": "x"}
        for x, _ in rooms[:2]
    ]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "task.py").write_text(
        "from inspect_ai import Task, task\nfrom inspect_ai.dataset import json_dataset\n"
        "from inspect_ai.scorer import includes\n@task\ndef asked():\n"
        "    return Task(dataset=json_dataset('asked.jsonl'), scorer=includes())\n"
    )
    command = [sys.executable, "-m", "inspect_ai", "eval", "task.py", "--model", "unroller/direct"]
    command += ["-M", f"backend={words}", "-M", "budget=model_calls=1;seconds=60", "--max-tokens", "6"]
    done = subprocess.run(
        [*command, "--display", "none", "--log-dir", "logs"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (file,) = (tmp_path / "logs").glob("*.eval")
    log = read_eval_log(str(file))
    assert log.eval.model == "unroller/direct" and log.status == "success"
    for sample in log.samples:
        assert sample.output.completion and sample.output.metadata["unroller"]["model_calls"] == 1
