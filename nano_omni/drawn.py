"""What a batch of prompts is drawn from: many sets of contexts, each written by the model itself.

Does for drawing what `branches` does for questions: the rows of the paper's table, without the engine.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from . import plans
from .drawing import Sampling, draw, seen
from .nodes import Node
from .pictures import Pictures
from .reader import Reader
from .vocabulary import INDEX, nearest

ROWS = (
    *("direct", "short", "long", "visual", "short + visual", "long + visual"),
    *("oracle", "oracle + visual", "oracle + oracle visual", "oracle visual"),
    *("short pause", "long pause", "visual pause"),
)
"""oracle: the plan of a true picture; oracle visual: its visual tokens; a pause: as many words as the context
has, which say nothing."""
_PAUSES = {
    "short pause": plans.THINK_LENGTH,
    "long pause": plans.PLAN_LENGTH,
    "visual pause": plans.ROLL_OUT_LENGTH,
}


def drawn(
    reader: Reader,
    some: Pictures,
    row: str,
    sampling: Sampling,
    temperature: float = 0.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Pictures (B, 3, 64, 64) uint8 of the prompts of `some`, and the thoughts and visual tokens they were
    drawn from, as words (B, n), where there are any. Contexts are written at a temperature."""
    count = len(some)
    seeds = [seed * 1_000_003 + k for k in range(count)]
    parts = row.split(" + ")
    asked = reader.begin(some.prompt.tolist())
    nodes, thought, rolled = asked, None, None
    for part in parts:
        if part == "direct":
            continue
        if part == "visual":
            nodes, rolled = _written(reader, nodes, "visual", temperature, seeds)
        elif part in ("short", "long"):
            nodes, thought = _written(reader, nodes, part, temperature, seeds)
        elif part == "oracle":
            thought = nearest(some.plan())
            nodes = reader.read(nodes, thought.tolist())
        elif part in _PAUSES:
            nodes = reader.read(nodes, [[INDEX["<pause>"]] * _PAUSES[part]] * count)
        elif part == "oracle visual":
            rolled = plans.roll_out(some.codes)
            nodes = reader.read(nodes, rolled.tolist())
        else:
            raise ValueError(f"no row is called {row!r}")
    free = [seen(node) for node in reader.begin([plans.EMPTY] * count)]
    told, unseen = [seen(node) for node in nodes], None
    if rolled is None:
        sampling = replace(sampling, guidance=replace(sampling.guidance, image=1.0))
    elif sampling.guidance.image != 1:
        without = asked if thought is None else reader.read(asked, thought.tolist())
        unseen = [seen(node) for node in without]
    return draw(reader.model, told, free, unseen, seeds, sampling), thought, rolled


def _written(
    reader: Reader, nodes: Sequence[Node], what: str, temperature: float, seeds: Sequence[int]
) -> tuple[list[Node], Tensor]:
    opening, closing, grammar = {
        "short": ((INDEX["<think>"],), "</think>", plans.THINK_GRAMMAR),
        "long": ((INDEX["<plan>"],), "</plan>", plans.PLAN_GRAMMAR),
        "visual": (plans.OPENING, "</view>", plans.ROLL_OUT_GRAMMAR),
    }[what]
    written = reader.write(nodes, opening, closing, 0, temperature, seeds, grammar)
    words = torch.tensor([[*opening, *one.words] for one in written])
    return [one.node for one in written], words
