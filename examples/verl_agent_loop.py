"""An agent loop for verl: a language model calls unroller's primitives, and is rewarded for what comes of it.

verl (https://github.com/verl-project/verl) runs it in its workers; nothing of this file needs verl until
then. Put a file beside your configuration that names it

    - name: unroll
      _target_: verl_agent_loop.UnrollAgentLoop

set actor_rollout_ref.rollout.agent.agent_loop_config_path to that file, and make a dataset whose rows have
agent_name "unroll", a prompt (which is replaced by the bench's), and extra_info {"problem": number}:

    python examples/verl_agent_loop.py --rows 1000 --out train.parquet

Written against verl 0.9 and 0.10 (`AgentLoopBase`, `AgentLoopOutput`, `register`). What tools return is in
response_ids, so that it is read when log-probabilities are computed, and has response_mask 0, so that it is
not trained on. Pictures are told in words.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any
from uuid import uuid4

from policies.agents import Bench
from policies.agents.conversation import Written, converse
from unroller import Executor
from unroller.registry import load

try:
    from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput, register
except ImportError as error:
    missing = error

    def register(name: str) -> Any:
        """Stands in for verl's where it is not installed: the class can be looked at, not made."""
        return lambda kind: kind

    class AgentLoopBase:
        def __init__(self, *args: Any, **options: Any) -> None:
            raise ImportError(f"an agent loop runs in verl, which cannot be imported here ({missing})")

    AgentLoopOutput: Any = dict

PROBLEMS = 1000


@cache
def bench() -> Bench:
    """What the agent works at, once a process: put your own executor and problems here."""
    problems = load("problems", "rooms").many(range(PROBLEMS), task="spatial", hops=0)
    executor = Executor(backend="nano", budget={"model_calls": 5}, memo="memory")
    return Bench(executor, problems, cost_weight=0.02)


@cache
def thread() -> ThreadPoolExecutor:
    """The one thread that calls primitives: backends do not expect several."""
    return ThreadPoolExecutor(1)


@register("unroll")
class UnrollAgentLoop(AgentLoopBase):  # pyright: ignore[reportGeneralTypeIssues]
    async def run(self, sampling_params: dict[str, Any], **row: Any) -> Any:
        """One rollout of the problem that the row names in its extra_info."""
        loop: Any = self  # verl's attributes: rollout_config, server_manager, tokenizer
        limits, request = loop.rollout_config, uuid4().hex

        extra: dict[str, Any] = {"turn_scores": [], "tool_rewards": []}

        async def generate(tokens: list[int]) -> Written:
            said = await loop.server_manager.generate(
                request_id=request, prompt_ids=tokens, sampling_params=sampling_params
            )
            # What the server says of the first turn stands, but for the last step whose weights were used.
            last = {k: v for k, v in said.extra_fields.items() if k == "max_global_steps" or k not in extra}
            extra.update(last)
            return Written(said.token_ids, said.log_probs or None)

        desk = bench()
        number = int((row.get("extra_info") or {})["problem"])
        rollout = await loop.loop.run_in_executor(thread(), desk.open, number)
        talk = await converse(
            rollout,
            loop.tokenizer,
            generate,
            longest=limits.response_length,
            turns=limits.multi_turn.max_assistant_turns or 8,
            template=dict(loop.apply_chat_template_kwargs),
            threads=thread(),
        )
        if len(talk.prompt) > limits.prompt_length:
            raise ValueError(f"a prompt of {len(talk.prompt)} tokens: raise rollout.prompt_length to that")
        return AgentLoopOutput(
            prompt_ids=talk.prompt,
            response_ids=talk.response,
            response_mask=talk.mask,
            response_logprobs=talk.log_probabilities,
            reward_score=talk.outcome.reward,
            num_turns=talk.turns,
            metrics={},
            extra_fields=extra | {"calls": len(rollout.calls), "score": talk.outcome.score},
        )


def rows(count: int) -> list[dict[str, Any]]:
    """A dataset as verl reads it."""
    told = [{"role": "user", "content": "(replaced by the bench)"}]
    return [
        {
            "data_source": "unroller",
            "agent_name": "unroll",
            "prompt": told,
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": number, "problem": number},
        }
        for number in range(count)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--out", help="a parquet file for verl")
    asked = parser.parse_args()
    made = rows(min(asked.rows, PROBLEMS))
    if asked.out:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(made), asked.out)
    tools = ", ".join(tool.name for tool in bench().tools)
    print(f"{len(made)} rows; the agent may call {tools}")
