"""An agent's conversation in tokens: what it wrote, what tools returned, and which is which.

For trainers that ask for a whole conversation (verl's agent loops, a rollout function of one's own). What a
tool returned stands among the tokens of the response and is read when log-probabilities are computed anew;
`response_mask` leaves it out of the loss. Tokens are only ever put behind one another: what the model wrote
is never decoded and encoded again, which might split it otherwise.

Calls are read in the form in which Qwen's and Hermes' models write them, JSON in <tool_call>.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor as Threads
from typing import Any, Protocol, cast

import msgspec

from policies.agents.rollout import Outcome, Rollout
from policies.agents.tools import ANSWER, blocks
from unroller.faults import PolicyError, UnrollerError
from unroller.rendering import escape

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_THOUGHTS = re.compile(r"\A.*</think>", re.DOTALL)


class Written(msgspec.Struct, frozen=True):
    """What a model wrote in a turn: tokens, the closing one among them, and their log-probabilities if
    known."""

    tokens: Sequence[int]
    log_probabilities: Sequence[float] | None = None


class Conversation(msgspec.Struct, frozen=True):
    """A rollout in tokens. prompt; response, what was written and what tools returned; mask, 1 where the
    model wrote and 0 where a tool did; log_probabilities of the response, 0 where a tool did (None: not
    known); turns: of anybody; failures: calls that were not carried out; outcome."""

    prompt: list[int]
    response: list[int]
    mask: list[int]
    log_probabilities: list[float] | None
    turns: int
    failures: int
    outcome: Outcome


class ChatTokenizer(Protocol):
    """Of transformers: what is asked of a tokenizer here."""

    eos_token_id: int | None

    def apply_chat_template(self, conversation: Any, **how: Any) -> Any: ...

    def decode(self, token_ids: Any, **how: Any) -> Any: ...


async def converse(
    rollout: Rollout,
    tokenizer: ChatTokenizer,
    generate: Callable[[list[int]], Awaitable[Written]],
    *,
    longest: int,
    turns: int = 8,
    template: dict[str, Any] | None = None,
    threads: Threads | None = None,
) -> Conversation:
    """Let a model work at a rollout until it calls nothing, or `turns` or `longest` tokens are reached.

    generate: the tokens so far -> what the model writes next. longest: tokens of the response; what a tool
    returned is left out, and the conversation ends, where it would not fit. template: more words for the
    chat template. threads: where calls are carried out, so that the event loop goes on; one thread, since
    backends do not expect to be called from several. Raises PolicyError for a chat template that does not
    keep what it has rendered.
    """
    how = {"tokenize": True, "return_dict": False, **(template or {})}
    bench = rollout.bench
    opening = blocks(rollout.opening(), images=False)
    said = [{"role": "system", "content": bench.told}, {"role": "user", "content": opening}]
    schemas = [tool.schema for tool in bench.tools]
    prompt = _tokens(tokenizer, said, tools=schemas, add_generation_prompt=True, **how)
    response: list[int] = []
    mask: list[int] = []
    logs: list[float] | None = []
    failures, spoken = 0, 0
    for turn in range(turns):
        written = await generate([*prompt, *response])
        new = list(written.tokens)[: longest - len(response)]
        response += new
        mask += [1] * len(new)
        if written.log_probabilities is None:
            logs = None
        if logs is not None:
            logs += list(written.log_probabilities or ())[: len(new)]
        spoken += 1
        whole = bool(new) and new[-1] == tokenizer.eos_token_id
        calls = calls_in(str(tokenizer.decode(new))) if whole else []
        if not calls or turn == turns - 1:
            break
        replies: list[dict[str, Any]] = []
        for name, arguments in calls:
            loop = asyncio.get_running_loop()
            text, well = await loop.run_in_executor(threads, carry_out, rollout, name, arguments)
            failures += not well
            replies.append({"role": "tool", "name": name, "content": text})
        returned = between(tokenizer, calls, replies, how)
        if len(response) + len(returned) >= longest:
            break
        response += returned
        mask += [0] * len(returned)
        if logs is not None:
            logs += [0.0] * len(returned)
        spoken += 1
    loop = asyncio.get_running_loop()
    (outcome,) = await loop.run_in_executor(threads, bench.settle, [rollout])
    return Conversation(prompt, response, mask, logs, spoken + 1, failures, outcome)


def carry_out(rollout: Rollout, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """What a call returns, in words, and whether it was carried out; what is wrong with it is told."""
    try:
        if name == ANSWER and rollout.bench.answers:
            rollout.answer(str(arguments.get("choice", "")))
            return "Answered.", True
        return str(blocks(rollout.call(name, arguments.get("preset")), images=False)), True
    except UnrollerError as error:
        return f"Error: {escape(str(error))}", False


def calls_in(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The tool calls of a reply, (name, arguments), in order; what is no call, or in thoughts, is passed
    over."""
    found: list[tuple[str, dict[str, Any]]] = []
    for inside in _CALL.findall(_THOUGHTS.sub("", text)):
        try:
            held = json.loads(inside)
        except (ValueError, RecursionError):
            continue
        if not isinstance(held, dict):
            continue
        name, given = (cast("dict[str, Any]", held).get(key) for key in ("name", "arguments"))
        if isinstance(name, str):
            found.append((name, cast("dict[str, Any]", given) if isinstance(given, dict) else {}))
    return found


def between(
    tokenizer: ChatTokenizer,
    calls: Sequence[tuple[str, dict[str, Any]]],
    replies: Sequence[dict[str, Any]],
    how: dict[str, Any],
) -> list[int]:
    """The tokens from the end of a turn that called tools to where the model is to write again.

    They are what the chat template adds to a small conversation of the same form. Raises PolicyError where
    it renders the turns before otherwise once more follow.
    """
    called = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in calls]
    before = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": called}]
    short = _tokens(tokenizer, before, **how)
    whole = _tokens(tokenizer, [*before, *replies], add_generation_prompt=True, **how)
    ends = [i for i, token in enumerate(short) if token == tokenizer.eos_token_id]
    end = ends[-1] + 1 if ends else len(short)
    if whole[:end] != short[:end]:
        raise PolicyError(
            "the chat template renders a turn otherwise once a tool has replied: give the tokenizer one that"
            " keeps what it has rendered, such as trl.chat_template_utils.get_training_chat_template makes"
        )
    return whole[end:]


def _tokens(tokenizer: ChatTokenizer, messages: list[dict[str, Any]], **how: Any) -> list[int]:
    tokens = tokenizer.apply_chat_template(messages, **how)
    return list(tokens[0] if tokens and isinstance(tokens[0], list) else tokens)
