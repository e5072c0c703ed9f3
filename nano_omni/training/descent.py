"""Going down: the steps of a small network's training, with a curve of its losses."""

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Say = Callable[[str], None]


def descend(
    optimizers: Sequence[torch.optim.Optimizer],
    wrong: Callable[[], dict[str, Tensor]],
    steps: int,
    say: Say = print,
    every: int = 50,
    seconds: float = math.inf,
) -> list[dict[str, float]]:
    """Minimise the sum of what is wrong, and return it as it was `every` so many steps, and at the last.

    wrong: losses of the next batch, by name. Rates rise over 50 steps, and over the second half fall to
    nothing; where `seconds` are over before `steps` are, they fall with those.
    """
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    begun, taken = time.monotonic(), 0
    curve: list[dict[str, float]] = []
    found: dict[str, Tensor] = {}

    def note() -> None:
        line = {"step": taken, "seconds": round(time.monotonic() - begun, 1)}
        curve.append(line | {name: round(value.item(), 4) for name, value in found.items()})
        say("  ".join(f"{name} {value:g}" for name, value in curve[-1].items()))

    for step in range(steps):
        done = max(step / steps, (time.monotonic() - begun) / seconds)
        if done >= 1:
            break
        found = wrong()
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        share = min(1.0, (step + 1) / 50, 2 * (1 - done))
        for optimizer, own in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = rate * share
            optimizer.step()
        taken = step + 1
        if taken % every == 0:
            note()
    if taken % every:
        note()
    return curve
