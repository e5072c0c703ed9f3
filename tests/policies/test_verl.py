"""verl's worker runs the agent loop, its GRPO trains the model: on a CPU, a tiny chat model for a server.

verl is not among the development tools (it wants a GPU, and pins much); where it is installed, this runs.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny.chat_tools import TOOL_TURNS, chat_model, chat_words, conversation, taught
from tiny.quiz import executor, hint, mumble, problems

from policies.agents import Bench

pytest.importorskip("verl.experimental.agent_loop.agent_loop", exc_type=ImportError)
pytestmark = pytest.mark.filterwarnings("ignore")  # of verl about its dependencies

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GROUP = 16


class Server:
    """What stands for verl's inference server: the model itself, asked one turn at a time."""

    def __init__(self, model):
        self.model = model

    async def generate(self, *, request_id, prompt_ids, sampling_params, **others):
        ids = torch.tensor([prompt_ids])
        with torch.no_grad():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                temperature=sampling_params["temperature"],
                top_k=0,
                max_new_tokens=24,
                return_dict_in_generate=True,
                output_logits=True,
            )
        new = out.sequences[0, len(prompt_ids) :]
        logs = torch.stack(out.logits, 1)[0].log_softmax(-1).gather(1, new[:, None])[:, 0]
        extra = {"min_global_steps": 0, "max_global_steps": 0}
        return SimpleNamespace(token_ids=new.tolist(), log_probs=logs.tolist(), extra_fields=extra)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A model that calls hint, mumble or nothing about as often, its words, and verl's worker over it."""
    import verl
    from hydra import compose, initialize_config_dir
    from verl.experimental.agent_loop.agent_loop import AgentLoopWorker

    bench = Bench(executor(hint, mumble), problems(4), cost_weight=0.05)
    talks = [conversation(bench, i, name) for i in range(2) for name in ("hint", "mumble", "")]
    texts = [message["content"] for talk in talks for message in talk]
    words = chat_words(TOOL_TURNS, texts, [])
    for name in ("hint", "mumble"):
        words.add_tokens([f'\n{{"name": "{name}", "arguments": {{}}}}\n'])
        words.add_tokens([f'\n{{"arguments": {{}}, "name": "{name}"}}\n'])
    model = taught(chat_model(words), words, talks, [tool.schema for tool in bench.tools], steps=60)
    model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    (tmp_path / "loops.yaml").write_text("- name: unroll\n  _target_: verl_agent_loop.UnrollAgentLoop\n")

    monkeypatch.syspath_prepend(str(EXAMPLES))
    import verl_agent_loop

    threads = ThreadPoolExecutor(1)
    monkeypatch.setattr(verl_agent_loop, "bench", lambda: bench)
    monkeypatch.setattr(verl_agent_loop, "thread", lambda: threads)
    rollout = "actor_rollout_ref.rollout"
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        config = compose(
            "ppo_trainer",
            [
                f"actor_rollout_ref.model.path={tmp_path / 'model'}",
                "+actor_rollout_ref.model.override_config.attn_implementation=eager",
                f"{rollout}.name=vllm",
                f"{rollout}.prompt_length=1200",
                f"{rollout}.response_length=100",
                f"{rollout}.calculate_log_probs=true",
                f"{rollout}.multi_turn.max_assistant_turns=4",
                f"{rollout}.agent.agent_loop_config_path={tmp_path / 'loops.yaml'}",
                "algorithm.adv_estimator=grpo",
                "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
            ],
        )
    yield model, words, config, AgentLoopWorker(config, Server(model))
    threads.shutdown()
    sys.modules.pop("verl_agent_loop", None)


def batch(rows, group):
    """What verl's trainer hands a worker: every row of the dataset, `group` times."""
    from verl import DataProto

    def column(values):
        made = np.empty(len(values), object)
        made[:] = values
        return made

    rows = [row for row in rows for _ in range(group)]
    return DataProto(
        non_tensor_batch={
            "agent_name": column(["unroll"] * len(rows)),
            "raw_prompt": column([row["prompt"] for row in rows]),
            "extra_info": column([row["extra_info"] for row in rows]),
            "index": column([row["extra_info"]["index"] for row in rows]),
            "uid": column([str(row["extra_info"]["index"]) for row in rows]),
        }
    )


def test_verls_worker_runs_the_loop_and_verls_grpo_makes_what_pays_more_likely(desk):
    import verl_agent_loop
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
    from verl.trainer.ppo.ray_trainer import compute_advantage
    from verl.utils.config import omega_conf_to_dataclass

    model, words, config, worker = desk
    torch.manual_seed(0)
    made = asyncio.run(worker.generate_sequences(batch(verl_agent_loop.rows(2), GROUP)))

    # What the tools returned is read and not trained on; the reward stands at a conversation's last token.
    tensors, others = made.batch, made.non_tensor_batch
    mask = tensors["response_mask"]
    assert tensors["responses"].shape == mask.shape == (2 * GROUP, 100)
    rewards = tensors["rm_scores"].sum(1)
    for row in range(2 * GROUP):
        own = words.decode(tensors["responses"][row][mask[row] == 1])
        called = others["calls"][row]
        assert "<hint>" not in own and others["__num_turns__"][row] == 2 + 2 * called
        if '"hint"' in own:
            assert rewards[row] == pytest.approx(0.9 - 0.05 * (called + 1), abs=1e-6)
    assert len(set(np.round(rewards.tolist(), 3))) >= 2  # a group in which something can be learned

    # verl's advantages and loss, and some steps on them.
    tensors["token_level_rewards"] = tensors["rm_scores"]
    made = compute_advantage(made, "grpo", config=omega_conf_to_dataclass(config.algorithm))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def log_probabilities():
        logits = model(
            input_ids=tensors["input_ids"],
            attention_mask=tensors["attention_mask"],
            position_ids=tensors["position_ids"],
        ).logits[:, -101:-1]
        return logits.log_softmax(-1).gather(2, tensors["responses"][..., None])[..., 0]

    before = log_probabilities().detach()
    mine = mask.bool()
    torch.testing.assert_close(before[mine], tensors["rollout_log_probs"][mine], atol=1e-3, rtol=1e-3)
    for _ in range(3):
        loss, _ = compute_policy_loss_vanilla(
            tensors["rollout_log_probs"], log_probabilities(), made.batch["advantages"], mask, config=actor
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    change = ((log_probabilities().detach() - before) * mask).sum(1)
    best, worst = rewards >= rewards.max() - 1e-6, rewards <= rewards.min() + 1e-6
    assert change[best].mean() > 0 > change[worst].mean()
