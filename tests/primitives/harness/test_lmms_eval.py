"""A pipeline as a model of lmms-eval, through its own `simple_evaluate` and its own command line."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("lmms_eval")

TASK = """
task: rooms_asked
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/asked.jsonl}}
test_split: test
output_type: generate_until
doc_to_visual: !function asking.pictures
doc_to_text: !function asking.text
doc_to_target: answer
process_results: !function asking.score
generation_kwargs: {{max_new_tokens: 6, temperature: 0, do_sample: false, until: []}}
metric_list: [{{metric: accuracy, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 0}}
"""
ASKING = """
from PIL import Image

def pictures(doc):
    return [Image.open(file) for file in doc["images"]]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]

def score(doc, results):
    return {"accuracy": float(results[0].strip() == doc["answer"])}
"""


@pytest.fixture
def task(tmp_path, rooms, monkeypatch):
    """A local task about rooms, as a benchmark writes it, in a folder."""

    def made(rows):
        (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (tmp_path / "rooms_asked.yaml").write_text(TASK.format(folder=tmp_path))
        (tmp_path / "asking.py").write_text(ASKING)
        return tmp_path

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return made


@pytest.fixture
def rows(rooms):
    return [
        {
            "images": files,
            "question": f"{x.question}\nOptions: "
            + ", ".join(f"{a}: {c}" for a, c in zip("ABCD", x.choices, strict=True)),
            "answer": "ABCD"[x.choices.index(x.metadata["truth"]["answer"])],
        }
        for x, files in rooms
    ]


def evaluated(folder, arguments, **more):
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    tasks = TaskManager(include_path=str(folder), include_defaults=False, model_name="unroller")
    return simple_evaluate(
        model="unroller",
        model_args=arguments,
        tasks=["rooms_asked"],
        task_manager=tasks,
        batch_size=1,
        **more,
    )


def test_multiple_choice_end_to_end(task, rows, truth):
    folder = task(rows)
    found = evaluated(folder, f"backend=nano,task=spatial,records={folder}/records.jsonl")
    said = [sample["filtered_resps"][0] for sample in found["samples"]["rooms_asked"]]
    assert said == ["ABCD"[choice] for choice in truth]
    right = sum(a == row["answer"] for a, row in zip(said, rows, strict=True))
    assert found["results"]["rooms_asked"]["accuracy,none"] == right / len(rows)

    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [(r["task"], r["doc"], r["text"]) for r in records] == [
        ("rooms_asked", n, a) for n, a in enumerate(said)
    ]
    assert all(r["calls"] == ["camera_pose_estimate", "text_think"] and not r["faults"] for r in records)
    usage = found["usage"]["by_task"]["rooms_asked"]
    assert usage["n_api_calls"] == sum(r["model_calls"] for r in records) == 3 * len(rows)
    assert usage["output_tokens"] + usage["reasoning_tokens"] == sum(r["tokens"] for r in records) > 0
    counts = [sample["token_counts"][0] for sample in found["samples"]["rooms_asked"]]
    assert [count["output_tokens"] for count in counts] == [r["tokens"] for r in records]
    assert all(count["input_tokens"] > 0 for count in counts)
    assert found["throughput"]["avg_model_calls_per_question"] == 3
    assert found["throughput"]["avg_without_answer"] == 0


def test_written_answers_and_what_cannot_be_asked(task, rows, words, tmp_path):
    rows[1]["images"] = []
    rows[2]["images"] = [str(tmp_path / "lost.png")]
    rows[3]["question"] = "a\x00b"
    rows[4]["images"] = rows[4]["images"] * 3
    folder = task(rows)
    found = evaluated(folder, f"backend={words},calls=text_think,records={folder}/records.jsonl")
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [n for n, record in enumerate(records) if "no_answer" in record] == [2, 3]
    assert "FileNotFoundError" in records[2]["no_answer"] and "control character" in records[3]["no_answer"]
    for sample, record in zip(found["samples"]["rooms_asked"], records, strict=True):
        (count,) = sample["token_counts"]
        assert bool(sample["filtered_resps"][0]) == ("no_answer" not in record)
        assert count["output_tokens"] - count["reasoning_tokens"] <= 6, "the task's max_new_tokens"
        assert record["text"] == sample["filtered_resps"][0]
    assert found["throughput"]["avg_without_answer"] == 2 / len(rows)


def test_repeats_are_samples_of_their_own(task, rows, words):
    folder = task(rows[:1])
    settings = "temperature=2,do_sample=True,max_new_tokens=10"
    found = evaluated(folder, f"backend={words},policy=direct", repeats=4, gen_kwargs=settings)
    (sample,) = found["samples"]["rooms_asked"]
    texts = sample["resps"][0]
    assert len(texts) == 4 and len(set(texts)) > 1
    assert found["usage"]["total"]["n_api_calls"] == 4


def test_lmms_eval_s_own_limit_of_tokens_is_kept(task, rows, words):
    folder = task(rows)
    found = evaluated(folder, f"backend={words},policy=direct,records={folder}/records.jsonl", max_tokens=1)
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert found["usage"]["budget_exceeded"] and len(records) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ("policy=direct", "name a backend"),
        ("backend=nano,policy=scedule", "Did you mean 'schedule'"),
        ("backend=nano,device=cuda:0", "words name its device"),
    ],
)
def test_what_is_wrong_is_said_before_a_task_is_loaded(arguments, match):
    from lmms_eval.models import get_model

    with pytest.raises(Exception, match=match):
        get_model("unroller").create_from_arg_string(arguments)


def test_tasks_of_other_kinds_are_refused_in_words():
    from lmms_eval.models import get_model

    model = get_model("unroller").create_from_arg_string("backend=nano")
    with pytest.raises(NotImplementedError, match="variant that generates"):
        model.loglikelihood([])
    with pytest.raises(NotImplementedError, match="several rounds"):
        model.generate_until_multi_round([])
    assert model.generate_until([]) == []


@pytest.mark.slow
def test_the_command_line(task, rows, words, tmp_path):
    folder = task(rows[:2])
    command = [sys.executable, "-m", "lmms_eval", "--model", "unroller"]
    command += ["--model_args", f"backend={words},policy=direct,budget=model_calls=1;seconds=60"]
    command += ["--tasks", "rooms_asked", "--include_path", str(folder), "--output_path", str(folder / "out")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--log_samples"], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (file,) = (folder / "out").rglob("*_results.json")
    found = json.loads(file.read_text())
    assert found["usage"]["total"]["n_api_calls"] == 2 and "accuracy,none" in found["results"]["rooms_asked"]
