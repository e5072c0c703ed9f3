"""Train a language model with TRL's GRPO to call unroller's primitives before a question is answered.

    pip install "unroller[trl]"
    python examples/trl_grpo.py --model Qwen/Qwen3-0.6B --steps 200 --out runs/agent

Each primitive of the executor is a tool; the reward is the probability that the answer gives to the right
choice, less λ for each model call. Any chat model with a tool-calling template will do, a folder too. One
that sees (--images) is shown photos and pictures as pictures.
"""

import argparse

from policies.agents import Bench
from policies.agents.trl import dataset, environment
from unroller import Executor
from unroller.registry import load


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen3-0.6B")
    parser.add_argument("--out", default="runs/agent")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--cost-weight", type=float, default=0.02, help="λ, what a model call has to bring")
    parser.add_argument("--tokens", type=int, default=1024, help="of a rollout, what tools return included")
    parser.add_argument("--group", type=int, default=8, help="rollouts of a problem that are compared")
    parser.add_argument("--images", action="store_true", help="show photos and pictures: the model sees")
    parser.add_argument("--width", type=int, default=64, help="of the photos, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    import torch
    from trl import GRPOConfig, GRPOTrainer  # pyright: ignore[reportPrivateImportUsage]

    size = {"width": asked.width, "height": asked.width}
    problems = load("problems", "rooms").many(range(asked.problems), task="spatial", hops=0, **size)
    executor = Executor(backend="nano", budget={"model_calls": 5})
    bench = Bench(executor, problems, cost_weight=asked.cost_weight)
    args = GRPOConfig(
        output_dir=asked.out,
        max_steps=asked.steps,
        num_generations=asked.group,
        per_device_train_batch_size=asked.group,
        max_completion_length=asked.tokens,
        max_tool_calling_iterations=4,
        logging_steps=1,
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available(),
        seed=asked.seed,
    )
    trainer = GRPOTrainer(
        model=asked.model,
        args=args,
        train_dataset=dataset(bench),
        environment_factory=environment(bench, images=asked.images),
    )
    trainer.train()
    trainer.save_model(asked.out)
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    print(f"reward {rewards[0]:.3f} at first, {rewards[-1]:.3f} at last; the model is in {asked.out}")


if __name__ == "__main__":
    main()
