"""TRL's GRPOTrainer over primitives: real optimisation steps of tiny chat models that call them as tools."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from tiny.chat_tools import chat_model, chat_words, conversation, seeing, taught
from tiny.quiz import executor, hint, mumble, problems, sketch, view

from policies.agents import Bench
from policies.agents.trl import dataset, environment
from unroller.faults import NotAllowed, PolicyError, ProblemError

trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL and transformers about one another


def tools_in(kind):
    return [getattr(kind(), tool.name) for tool in kind._bench.tools]


def chat(bench, names, steps=60):
    """A tiny Qwen3 that calls each of these tools, or none, about as often."""
    from transformers.utils import get_json_schema
    from trl.chat_template_utils import get_training_chat_template, qwen3_chat_template

    kind = environment(bench)
    tools = tools_in(kind)
    talks = [conversation(bench, i, name) for i in range(2) for name in names]
    texts = [json.dumps(get_json_schema(tool)) for tool in tools]
    texts += [message["content"] for talk in talks for message in talk]
    words = chat_words(qwen3_chat_template, texts, [tool.name for tool in bench.tools])
    words.chat_template = get_training_chat_template(words)
    model = taught(chat_model(words), words, talks, tools, steps)
    words.chat_template = qwen3_chat_template
    return model, words, kind


def trained(model, words, kind, rows, folder, trainer=trl.GRPOTrainer, **changes):
    how = {
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 64,
        "max_tool_calling_iterations": 3,
        "max_steps": 3,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "constant",
        "temperature": 0.8,
    }
    args = trl.GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
        **{**how, **changes},
    )
    made = trainer(
        model=model, args=args, train_dataset=rows, environment_factory=kind, processing_class=words
    )
    made.train()
    return made


def test_tools_are_described_as_a_chat_template_wants_them():
    from transformers.utils import get_json_schema

    kind = environment(Bench(executor(hint, view), problems(), answers=True))
    said = {tool.__name__: get_json_schema(tool)["function"] for tool in tools_in(kind)}
    assert said.keys() == {"hint", "view", "answer"}
    assert said["hint"]["description"] == "Say what the answer is. It writes Text and costs at most 1 call."
    assert said["view"]["parameters"]["properties"]["preset"]["enum"] == ["default", "left"]
    assert said["answer"]["parameters"]["required"] == ["choice"]
    for tool in kind._bench.tools:  # the schema that is made without TRL says the same
        ours = tool.schema["function"]
        theirs = said[tool.name]["parameters"]
        assert ours["description"] == said[tool.name]["description"]
        assert ours["parameters"]["properties"] == theirs["properties"]


def test_a_language_model_is_trained_to_call_what_helps(tmp_path):
    bench = Bench(executor(hint, mumble), problems(8), cost_weight=0.05)
    model, words, kind = chat(bench, ("hint", "mumble", ""))
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = trained(model, words, kind, dataset(bench), tmp_path, max_steps=4)
    logged = [row for row in trainer.state.log_history if "reward" in row]
    assert len(logged) == 4
    assert all(0.5 - 3 * 0.05 - 0.05 <= row["reward"] <= 0.8 for row in logged)
    assert {row["rewards/UnrollEnvironment/mean"] for row in logged} == {row["reward"] for row in logged}
    assert sum(row["tools/call_frequency"] for row in logged) > 0
    assert all(0 <= row["frac_reward_zero_std"] <= 1 for row in logged)  # groups without variance
    assert min(row["frac_reward_zero_std"] for row in logged) < 1
    assert any((value != before[name]).any() for name, value in model.named_parameters())
    assert all(value.isfinite().all() for value in model.parameters())


def test_what_tools_return_is_read_and_not_trained_on(tmp_path):
    bench = Bench(executor(hint), problems(2))
    model, words, kind = chat(bench, ("hint",), steps=40)
    seen = {}

    class Watched(trl.GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            made = super()._generate_and_score_completions(inputs)
            seen.update(made)
            return made

    trained(model, words, kind, dataset(bench), tmp_path, Watched, max_steps=1)
    ids, mask = seen["completion_ids"], seen["tool_mask"].bool() & seen["completion_mask"].bool()
    whole = [words.decode(row[keep.bool()]) for row, keep in zip(ids, seen["completion_mask"], strict=True)]
    own = [words.decode(row[keep]) for row, keep in zip(ids, mask, strict=True)]
    called = [i for i, text in enumerate(whole) if "<tool_response>" in text]
    assert called
    for i in called:
        assert "<hint>" in whole[i] and "<hint>" not in own[i]
        assert '"name": "hint"' in own[i]


def test_pictures_that_tools_return_are_seen_by_a_model_that_sees(tmp_path):
    from transformers.utils import get_json_schema
    from trl.chat_template_utils import get_training_chat_template, qwen3_vl_chat_template

    bench = Bench(executor(sketch), problems(2))
    kind = environment(bench, images=True)
    tools = tools_in(kind)
    talks = [conversation(bench, i, "sketch")[:3] for i in range(2)]  # up to the call
    texts = [json.dumps(get_json_schema(tool)) for tool in tools]
    texts += [message["content"] for talk in talks for message in talk]
    words = chat_words(qwen3_vl_chat_template, texts, ["sketch"])
    model, processor = seeing(words)
    words.chat_template = get_training_chat_template(words)
    taught(model, words, talks, tools, steps=25)
    seen = {}

    class Watched(trl.GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            made = super()._generate_and_score_completions(inputs)
            seen.update(made)
            return made

    how = {"max_steps": 1, "max_tool_calling_iterations": 1, "max_completion_length": 96}
    trained(model, processor, kind, dataset(bench), tmp_path, Watched, **how)
    pads = seen["completion_ids"] == words.convert_tokens_to_ids("<|image_pad|>")
    assert pads.any() and not seen["tool_mask"].bool()[pads].any()
    assert len(seen["image_grid_thw"]) == pads.any(1).sum()
    assert seen["pixel_values"].isfinite().all()


def test_an_environment_stands_alone_and_says_what_is_wrong():
    bench = Bench(executor(hint, sketch), problems(2), cost_weight=0.1)
    desk = environment(bench)()
    with pytest.raises(PolicyError, match="reset the environment"):
        desk.get_reward()
    with pytest.raises(ProblemError, match="no column 'problem'"):
        desk.reset(prompt="?")
    assert desk.reset(problem=1, prompt="?") == "a or b, 1?\n- a\n- b"
    assert desk.hint() == "<hint>b</hint>"
    assert desk.get_reward() == pytest.approx(0.9 - 0.2)
    with pytest.raises(NotAllowed, match="wrote before"):
        desk.hint()
    rows = dataset(bench)
    assert rows["problem"] == [0, 1] and rows[0]["prompt"][0]["content"] == bench.told
    assert dataset(bench, [1])["problem"] == [1]


def test_the_first_reward_that_is_asked_for_settles_all_rollouts():
    bench = Bench(executor(hint), problems(2))
    kind = environment(bench)
    several = [kind() for _ in range(6)]
    for i, desk in enumerate(several):
        desk.reset(problem=i % 2)
    several[0].get_reward()
    assert all(desk.rollout.outcome is not None for desk in several)
    assert not kind._under_way
    several[0].reset(problem=0)
    several[0].reset(problem=1)  # the rollout before was given up
    assert [rollout.number for rollout in kind._under_way] == [1]


def test_nothing_is_learned_where_every_rollout_of_a_group_is_worth_the_same(tmp_path):
    bench = Bench(executor(view), problems(2))  # it costs nothing, and helps nobody
    model, words, kind = chat(bench, ("view", ""), steps=40)
    before = model.lm_head.weight.clone()
    trainer = trained(model, words, kind, dataset(bench), tmp_path, max_steps=1)
    (row,) = [row for row in trainer.state.log_history if "reward" in row]
    assert row["frac_reward_zero_std"] == 1 and row["reward"] == 0.5
    assert torch.equal(model.lm_head.weight, before)


def test_the_example_trains_a_model_in_a_folder_on_the_embedded_model(tmp_path, monkeypatch, capsys):
    from unroller import Executor
    from unroller.registry import load

    problems = load("problems", "rooms").many(range(4), task="spatial", hops=0)
    bench = Bench(Executor(backend="nano", budget={"model_calls": 5}), problems)
    model, words, _ = chat(bench, ("camera_pose_estimate",), steps=10)
    for one in (model, words):
        one.save_pretrained(tmp_path / "chat")
    said = f"trl_grpo.py --model {tmp_path / 'chat'} --out {tmp_path / 'out'}"
    said += " --steps 2 --problems 4 --group 4 --tokens 128"
    monkeypatch.setattr(sys, "argv", said.split())
    example = Path(__file__).resolve().parents[2] / "examples" / "trl_grpo.py"
    runpy.run_path(str(example), run_name="__main__")
    assert "at last; the model is in" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").exists()
