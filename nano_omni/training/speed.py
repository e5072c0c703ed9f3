"""Where the time of a training step goes: `python -m nano_omni.training.speed --config gpu`."""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from ..config import CONFIGS
from ..data import rooms, split_seeds
from .recipe import RECIPES
from .trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", choices=RECIPES, default="gpu")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    device, compiled = torch.device(asked.device), not asked.eager
    recipe = RECIPES[asked.config]
    recipe = replace(recipe, batch=asked.batch or recipe.batch, budget=0.0, steps=1_000_000)
    trainer = Trainer(CONFIGS[asked.config], recipe, device, 0, compiled)
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def clock(name: str, work: Callable[[], object], times: int) -> None:
        begun = time.monotonic()
        work()
        sync()
        first, begun = time.monotonic() - begun, time.monotonic()
        for _ in range(times):
            work()
        sync()
        print(f"{name}: {1e3 * (time.monotonic() - begun) / times:.1f} ms (first {first:.1f} s)", flush=True)

    count = recipe.batch * recipe.draw
    seeds = split_seeds("val", 0, count, device)
    clock(f"draw {count} rooms", lambda: rooms(seeds, trainer.config, compiled=compiled), 3)
    batch = rooms(seeds, trainer.config, compiled=compiled)[: recipe.batch]
    valid = {hops: round(asked.valid.float().mean().item(), 3) for hops, asked in batch.asked.items()}
    print("share of rooms with a question:", valid)
    forest = trainer.forests[0]
    clock("fill", lambda: forest.fill(batch, 0.5, trainer.random), 10)
    clock(f"step of {recipe.batch}", lambda: trainer.update(batch), 20)
    words, _ = forest.fill(batch, 0.5, trainer.random)
    everyone = torch.ones(len(batch), dtype=torch.bool, device=device)
    clock("round of self-writing", lambda: trainer.own_words(batch, words, everyone, 1, forest), 10)
    if device.type == "cuda":
        print(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most")
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            for _ in range(3):
                trainer.update(batch)
            sync()
        kernels = sorted(seen.key_averages(), key=lambda k: -k.self_device_time_total)
        print(f"{sum(k.self_device_time_total for k in kernels) / 3e3:.1f} ms a step on the device, of which")
        for k in kernels[:16]:
            print(f"{k.self_device_time_total / 3e3:8.2f} ms in {k.count // 3:4} of {k.key[:80]}")


if __name__ == "__main__":
    main()
