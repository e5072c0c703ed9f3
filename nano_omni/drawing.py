"""Drawing with a model: what was read once, prompt and contexts, is what every step of sampling looks at.

    reader = Reader(model)
    nodes = reader.begin([plans.prompt(parse("two red cones left of a blue box"))])
    nothing = reader.begin([plans.EMPTY])
    pictures = draw(model, [seen(nodes[0])], [seen(nothing[0])], None, seeds=[0])

A picture drawn from a photo has read it twice, as understanding sees it and as clean latents
(`Reader.read_latents`), and has its latents beside its own at every step: see `latents.Ends`.

The branches of guidance, with all contexts, with none, without visual tokens, stand side by side in one
batch, each with a past of its own and padded to the longest. A sample's noise is keyed by its seed, so that
its picture does not depend on what else is drawn with it (but for the last bits of floating point).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .autoencoder import Autoencoder, autoencoder
from .flow import Guidance, guided, sample
from .latents import NUMBERS, TOKENS, whole
from .model import NanoOmni, Past
from .nodes import Node
from .world.randomness import uniform

CHUNK = 256  # samples at a time


@dataclass(frozen=True)
class Sampling:
    """steps from noise to a picture; shift of times, as the model was trained; guidance: see `flow.Guidance`.
    Raises ValueError for no steps."""

    steps: int = 16
    shift: float = 3.0
    guidance: Guidance = field(default_factory=Guidance)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"sampling takes 1 step or more, not {self.steps}")
        if not 0 < self.shift < math.inf:
            raise ValueError(f"the shift of times is above 0, not {self.shift:g}")


@dataclass(frozen=True)
class Source:
    """Clean tokens (B, TOKENS, NUMBERS) of the photos that are drawn from; changes: they are kept where the
    model says nothing new."""

    tokens: Tensor
    changes: bool = False

    def __getitem__(self, part: slice) -> "Source":
        return Source(self.tokens[part], self.changes)


class Seen(NamedTuple):
    """What one sample has read: keys and values (layers, 2, H, S, D), and the position of what comes next."""

    kept: Tensor
    position: int


def seen(node: Node) -> Seen:
    """Everything up to a node."""
    return Seen(torch.cat([link.kept for link in node.chain], dim=3), node.position)


@torch.no_grad()
def draw(
    model: NanoOmni,
    told: Sequence[Seen],
    without_words: Sequence[Seen] | None,
    without_pictures: Sequence[Seen] | None,
    seeds: Sequence[int],
    sampling: Sampling = Sampling(),
    shown: Callable[[int, Tensor], None] | None = None,
    held: Autoencoder | None = None,
) -> Tensor:
    """Pictures (B, 3, 64, 64) uint8 of what B samples were told: see `drawn_latents`. shown: is given the
    number of each step that was taken and what the pictures would be (B, 3, 64, 64) by then. held: the
    autoencoder of the latents; the one that comes along."""
    held = held or autoencoder()

    def watched(step: int, x: Tensor) -> None:
        assert shown is not None
        shown(step, pixels(held, x))

    watch = watched if shown else None
    return pixels(held, drawn_latents(model, told, without_words, without_pictures, seeds, sampling, watch))


@torch.no_grad()
def drawn_latents(
    model: NanoOmni,
    told: Sequence[Seen],
    without_words: Sequence[Seen] | None,
    without_pictures: Sequence[Seen] | None,
    seeds: Sequence[int],
    sampling: Sampling = Sampling(),
    shown: Callable[[int, Tensor], None] | None = None,
    source: Source | None = None,
) -> Tensor:
    """Latents (B, TOKENS, NUMBERS) of the pictures of what B samples were told.

    without_words, without_pictures: what is read where nothing is asked for, or all but the visual tokens;
    they may be None where the guidance on text, or on pictures, is 1. source: the photos, where
    pictures are drawn from photos. shown: as in `draw`, with latents.

    Raises ValueError for weights without a generation expert, and for guidance that lacks a companion.
    """
    if model.ends is None:
        raise ValueError("these weights have no generation expert: they do not draw")
    guidance = sampling.guidance
    branches = [told]
    for scale, other, what in (
        (guidance.text, without_words, "text"),
        (guidance.image, without_pictures, "pictures"),
    ):
        if scale == 1:
            continue
        if other is None:
            raise ValueError(f"guidance on {what} ({scale:g}) needs what was read without: or set it to 1")
        branches.append(other)
    drawn: list[Tensor] = []
    for at in range(0, len(told), CHUNK):
        part = slice(at, at + CHUNK)
        some, photos = [branch[part] for branch in branches], None if source is None else source[part]
        drawn.append(_sampled(model, some, seeds[part], sampling, shown, photos))
    return torch.cat(drawn)


def noise(seeds: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Normal numbers (B, TOKENS, NUMBERS), of each seed its own."""
    count = TOKENS * NUMBERS
    lots = torch.tensor([seed & (1 << 62) - 1 for seed in seeds], device=device)
    radius = (-2 * uniform(lots, "draw.radius", count, 1e-7, 1.0).log()).sqrt()
    angle = uniform(lots, "draw.angle", count, 0.0, 2 * math.pi)
    return (radius * angle.cos()).view(-1, TOKENS, NUMBERS)


class Together:
    """Pasts of different lengths as one batch, to be looked at by TOKENS latents each."""

    def __init__(self, some: Sequence[Seen]) -> None:
        lengths = [one.kept.shape[3] for one in some]
        most = max(lengths)
        padded = torch.stack(
            [F.pad(one.kept, (0, 0, 0, most - n)) for one, n in zip(some, lengths, strict=True)]
        )
        device = padded.device  # (N, layers, 2, H, S, D)
        self.past: Past = tuple((layer[:, 0], layer[:, 1]) for layer in padded.unbind(1))
        place = torch.arange(most + TOKENS, device=device)
        n = torch.tensor(lengths, device=device)[:, None]
        self.mask = ((place < n) | (place >= most))[:, None, None].expand(-1, 1, TOKENS, -1)
        positions = torch.tensor([one.position for one in some], device=device)
        self.positions = positions[:, None, None] + torch.arange(TOKENS, device=device)  # (N, 1, T)
        self.generation = torch.ones(TOKENS, dtype=torch.bool, device=device)


def velocity(
    model: NanoOmni, together: Together, noised: Tensor, t: float, source: Source | None = None
) -> Tensor:
    """Of latents (N, TOKENS, NUMBERS) at time t, given what each has read."""
    assert model.ends is not None
    times = torch.full((len(noised),), t, device=noised.device)
    beside = None if source is None else source.tokens
    entered = model.ends.embed(noised, times, beside)
    x, _ = model.run(
        *(entered.tokens.to(together.past[0][0].dtype), together.positions, together.mask),
        *(together.past, together.generation),
        keep=False,
    )
    changed = beside if source is not None and source.changes else None
    return model.ends.velocity(x, noised, times, entered, changed)


def _sampled(
    model: NanoOmni,
    branches: list[Sequence[Seen]],
    seeds: Sequence[int],
    sampling: Sampling,
    shown: Callable[[int, Tensor], None] | None,
    source: Source | None,
) -> Tensor:
    guidance, count = sampling.guidance, len(seeds)
    sources = None if source is None else Source(source.tokens.repeat(len(branches), 1, 1), source.changes)
    alone = Together(branches[0])
    all_of_them = Together([one for branch in branches for one in branch]) if len(branches) > 1 else alone

    def followed(x: Tensor, t: float) -> Tensor:
        if len(branches) == 1 or not guidance.begin < t <= guidance.end:
            return velocity(model, alone, x, t, source)
        each = list(velocity(model, all_of_them, x.repeat(len(branches), 1, 1), t, sources).split(count))
        first = each.pop(0)
        without_words = each.pop(0) if guidance.text != 1 else None
        return guided(first, without_words, each.pop(0) if guidance.image != 1 else None, guidance, t)

    return sample(followed, noise(seeds, model.device), sampling.steps, sampling.shift, shown)


def pixels(held: Autoencoder, latents: Tensor) -> Tensor:
    """(N, TOKENS, NUMBERS) -> pictures (N, 3, 64, 64) uint8."""
    pictures = held.decode(whole(latents).to(held.mean))
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)
