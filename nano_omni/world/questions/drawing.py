"""Which of many possible questions a scene is asked: the answer first, then one that has it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..randomness import uniform
from ..scene import COLOURS, SHAPES


def draw(
    seeds: Tensor, what: str, fits: Tensor, answer: Tensor, weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """One of P questions for each of B scenes: fits (B, P) bool, answer (B, P) in 0 .. len(weights) - 1.

    The answer is drawn among those that the scene allows, with `weights` so set that all come out equally
    often over many scenes. Returns the index of the question (B,) and whether there is one (B,).
    """
    allowed = torch.stack([(fits & (answer == k)).any(1) for k in range(len(weights))], dim=-1)
    lot = uniform(seeds, f"questions.answer.{what}", len(weights), 1e-6, 1.0).log()
    lot = lot / torch.tensor(weights, device=seeds.device)  # the largest wins as often as its weight says
    wanted = lot.masked_fill(~allowed, -math.inf).argmax(1, keepdim=True)  # (B, 1)
    score = uniform(seeds, f"questions.tuple.{what}", fits.shape[1], 1.0, 2.0)
    score = score * (fits & (answer == wanted))
    best = score.argmax(1)
    return best, score.gather(1, best[:, None])[:, 0] > 0


def name(kind: int) -> str:
    """'red cone' for colour * 4 + shape."""
    return f"{list(COLOURS)[kind // len(SHAPES)]} {SHAPES[kind % len(SHAPES)]}"
