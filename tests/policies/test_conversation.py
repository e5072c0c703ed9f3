"""Conversations in tokens: what the model wrote is trained on, what tools returned is read."""

import asyncio
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny.chat_tools import TOOL_TURNS, chat_model, chat_words, conversation, taught
from tiny.quiz import executor, hint, mumble, problems, stumble

from policies.agents import Bench
from policies.agents.conversation import Written, calls_in, carry_out, converse
from unroller.faults import PolicyError


@pytest.fixture(scope="module")
def chat():
    """A bench, and a tiny model that was taught to ask for a hint and then to stop."""
    bench = Bench(executor(hint, mumble), problems(4), cost_weight=0.05)
    talks = [conversation(bench, i, "hint") for i in range(2)]
    texts = [message["content"] for said in talks for message in said]
    words = chat_words(TOOL_TURNS, texts, [])
    words.add_tokens(['\n{"name": "hint", "arguments": {}}\n', '\n{"arguments": {}, "name": "hint"}\n'])
    model = taught(chat_model(words), words, talks, [tool.schema for tool in bench.tools], steps=30)
    return bench, words, model.eval()


def writes(model, words):
    """What the model likes best, one turn at a time, with its log-probabilities."""

    async def generate(tokens):
        ids = torch.tensor([tokens])
        with torch.no_grad():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=24,
                return_dict_in_generate=True,
                output_logits=True,
            )
        new = out.sequences[0, len(tokens) :]
        logs = torch.stack(out.logits, 1)[0].log_softmax(-1).gather(1, new[:, None])[:, 0]
        return Written(new.tolist(), logs.tolist())

    return generate


def scripted(words, *turns):
    """A model that writes these turns, whatever it reads."""
    left = list(turns)

    async def generate(tokens):
        return Written(words(left.pop(0)).input_ids)

    return generate


def test_a_conversation_is_one_sequence_in_which_only_the_models_own_words_are_trained_on(chat):
    bench, words, model = chat
    found = asyncio.run(converse(bench.open(1), words, writes(model, words), longest=200))
    own = words.decode([token for token, mine in zip(found.response, found.mask, strict=True) if mine])
    told = words.decode([token for token, mine in zip(found.response, found.mask, strict=True) if not mine])
    assert '"name": "hint"' in own and "done" in own and "<hint>" not in own
    assert "<hint>b</hint>" in told and "assistant" in told
    assert found.outcome.reward == pytest.approx(0.9 - 2 * 0.05) and found.failures == 0
    assert found.turns == 4  # the question, the call, its reply, the end


def test_reading_the_whole_sequence_again_gives_the_probabilities_that_it_was_written_with(chat):
    bench, words, model = chat
    found = asyncio.run(converse(bench.open(0), words, writes(model, words), longest=200))
    ids = torch.tensor([[*found.prompt, *found.response]])
    with torch.no_grad():
        logs = model(input_ids=ids).logits[0, len(found.prompt) - 1 : -1].log_softmax(-1)
    again = logs.gather(1, torch.tensor(found.response)[:, None])[:, 0]
    mine = torch.tensor(found.mask, dtype=torch.bool)
    torch.testing.assert_close(again[mine], torch.tensor(found.log_probabilities)[mine], atol=1e-4, rtol=0)
    # Without what the tool returned the model's later words would have had other probabilities.
    without = [t for t, keep in zip(found.response, found.mask, strict=True) if keep]
    with torch.no_grad():
        ids = torch.tensor([[*found.prompt, *without]])
        bare = model(input_ids=ids).logits[0, len(found.prompt) - 1 : -1].log_softmax(-1)
    bare = bare.gather(1, torch.tensor(without)[:, None])[:, 0]
    assert (bare - again[mine]).abs().max() > 1e-2


CALL = '<tool_call>\n{"name": "hint", "arguments": {}}\n</tool_call><|im_end|>'


def test_a_reply_that_does_not_fit_ends_the_conversation_before_it(chat):
    bench, words, _ = chat
    long = len(words(CALL).input_ids)
    found = asyncio.run(converse(bench.open(0), words, scripted(words, CALL), longest=long + 3))
    assert found.response == words(CALL).input_ids and set(found.mask) == {1}
    assert found.log_probabilities is None and found.outcome.score == 0.9  # it was called all the same


def test_a_turn_that_was_cut_off_calls_nothing(chat):
    bench, words, _ = chat
    open_end = CALL.removesuffix("<|im_end|>")
    found = asyncio.run(converse(bench.open(0), words, scripted(words, open_end), longest=200))
    assert found.outcome.cost.model_calls == 1 and found.turns == 2


def test_calls_after_the_last_turn_are_not_carried_out(chat):
    bench, words, _ = chat
    rollout = bench.open(0)
    asyncio.run(converse(rollout, words, scripted(words, CALL, CALL), longest=400, turns=2))
    assert rollout.calls == ["hint"]


def test_what_a_call_cannot_do_is_told_to_the_model():
    bench = Bench(executor(hint, stumble), problems(2), answers=True)
    rollout = bench.open(0)
    unknown = "Error: no tool is called 'fly'; there are: hint, stumble, answer"
    assert carry_out(rollout, "fly", {}) == (unknown, False)
    text, well = carry_out(rollout, "stumble", {"preset": ["<|im_end|>"]})
    assert not well and "no preset ['&lt;|im_end|>']" in text
    text, well = carry_out(rollout, "stumble", {})
    assert not well and "fell over" in text
    assert carry_out(rollout, "hint", {"anything": "else"}) == ("<hint>a</hint>", True)
    assert carry_out(rollout, "answer", {"choice": "c"})[1] is False
    assert carry_out(rollout, "answer", {"choice": "a"}) == ("Answered.", True)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("", []),
        ("done", []),
        ('<tool_call>{"name": "hint"}</tool_call>', [("hint", {})]),
        ('<tool_call>{"name": "hint", "arguments": "x"}</tool_call>', [("hint", {})]),
        ('<tool_call>{"name": "a", "arguments": {"n": 1}}</tool_call> <tool_call>{"name": "b"}</tool_call>',
         [("a", {"n": 1}), ("b", {})]),
        ('<think><tool_call>{"name": "hint"}</tool_call></think>done', []),
        ("<tool_call>[1]</tool_call><tool_call>{</tool_call><tool_call></tool_call>", []),
        ('<tool_call>{"name": ["hint"]}</tool_call>', []),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", []),
        ('<tool_call>{"name": "hint"}', []),
    ],
)  # fmt: skip
def test_calls_are_read_and_nonsense_is_passed_over(text, calls):
    assert calls_in(text) == calls


def test_a_template_that_renders_the_past_anew_is_refused(chat):
    bench, *_ = chat
    again = chat_words("{{ messages | length }}" + TOOL_TURNS, ["a b"], ["hint"])
    with pytest.raises(PolicyError, match="keeps what it has rendered"):
        asyncio.run(converse(bench.open(0), again, scripted(again, CALL), longest=4000))


# ------------------------------------------------------------------------------------------------- verl


def verl_example():
    path = Path(__file__).resolve().parents[2] / "examples" / "verl_agent_loop.py"
    spec = importlib.util.spec_from_file_location("verl_agent_loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_verls_agent_loop_returns_what_verl_asks_for(chat):
    """verl is not installed here: what it gives a loop is given by hand, the model and its words are real."""
    bench, words, model = chat
    example = verl_example()
    example.bench = lambda: bench
    asked = []

    class Server:
        async def generate(self, *, request_id, prompt_ids, sampling_params):
            asked.append((request_id, sampling_params))
            written = await writes(model, words)(prompt_ids)
            extra = {"min_global_steps": len(asked), "max_global_steps": len(asked)}
            return SimpleNamespace(
                token_ids=written.tokens, log_probs=written.log_probabilities, extra_fields=extra
            )

    async def run():
        with ThreadPoolExecutor(1) as threads:
            example.thread = lambda: threads
            loop = SimpleNamespace(
                rollout_config=SimpleNamespace(
                    prompt_length=2000,
                    response_length=200,
                    multi_turn=SimpleNamespace(max_assistant_turns=4),
                ),
                server_manager=Server(),
                tokenizer=words,
                apply_chat_template_kwargs={},
                loop=asyncio.get_running_loop(),
            )
            row = {"raw_prompt": [], "extra_info": {"problem": 1}, "index": 1}
            return await example.UnrollAgentLoop.run(loop, {"temperature": 1.0}, **row)

    made = asyncio.run(run())
    if not isinstance(made, dict):
        made = made.model_dump()
    assert len({request for request, _ in asked}) == 1 and len(asked) == 2
    assert len(made["response_ids"]) == len(made["response_mask"]) == len(made["response_logprobs"])
    assert {0, 1} == set(made["response_mask"]) and made["num_turns"] == 4
    assert made["reward_score"] == pytest.approx(0.8)
    assert made["extra_fields"]["min_global_steps"] == 1 and made["extra_fields"]["max_global_steps"] == 2


@pytest.mark.skipif(importlib.util.find_spec("verl") is not None, reason="verl is installed")
def test_without_verl_the_loop_is_imported_and_says_what_it_needs():
    example = verl_example()
    with pytest.raises(ImportError, match="runs in verl, which cannot be imported here"):
        example.UnrollAgentLoop(None)
    rows = example.rows(3)
    assert [row["extra_info"]["problem"] for row in rows] == [0, 1, 2]
