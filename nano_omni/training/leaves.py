"""A training sequence of drawing: photos and words, read once, and under each set of contexts a picture with
noise.

Each leaf of a tree (see `turns`) is the same picture with noise of its own at a time of its own, and sees
just what a model that unrolled so far would have read: one pass trains many subsets of contexts. A step takes
one turn, so that a sequence stays short. Some leaves teach what is drawn without words: conditions are
dropped as a branch of the tree, not by chance.
"""

from typing import Any

import torch
from torch import Tensor

from .. import edits, plans
from ..latents import TOKENS
from ..masks import Segment, attention_mask, generation, photo_segments, positions
from ..vocabulary import CODE_0, INDEX, OBJECT_CODES, OBJECTS, TwoHot, neighbours
from .forest import Targets
from .turns import ALONE, PAUSE, PHOTO, PREDICTED, TURNS, Turn

LEAVES = tuple(dict.fromkeys(leaf for turn in TURNS["generation"] for leaf in turn.leaves))
"""All sets of contexts that pictures of prompts are drawn from; "prompt" is direct."""
_NOTHING = {
    "generation": plans.EMPTY,
    "editing": edits.NO_CHANGE,
    "novel_view": (INDEX["<campose>"], INDEX["</campose>"]),
}
_NONE, _ROOM_CODE = 0.2, 0.3  # what weighs less: nothing more to say, and pieces of wall


class Leaves:
    """A turn laid out: photos, then words, then clean latents of the first photo (once for each root), then
    leaves. mask (L, L), positions (L,), generation (L,), read (n,) the places whose words are predicted;
    rows: of those, the (first, last + 1) of each context; length: of photos and words. patches: of a
    photo."""

    def __init__(self, turn: Turn, patches: int = 16, device: torch.device | str = "cpu") -> None:
        self.turn, self.leaves = turn, turn.leaves
        self.texts = [what for _, _, what in turn.texts]
        segments, index, self.clean = [], {}, 0
        if turn.photos:
            segments = photo_segments(patches, turn.photos)
            segments.append(Segment("latent", TOKENS, len(segments) - 1))
            index[PHOTO], self.clean = len(segments) - 1, 1
        if turn.alone:
            segments.append(Segment("latent", TOKENS, 1))
            index[ALONE], self.clean = len(segments) - 1, 2
        at = sum(s.length for s in segments if s.kind != "latent")
        read: list[int] = []
        self.rows: dict[str, tuple[int, int]] = {}
        for name, parent, what in turn.texts:
            length = turn.length_of(what)
            index[name] = len(segments)
            segments.append(Segment("text", length, None if parent is None else index[parent]))
            if what in PREDICTED and parent != "nothing":
                opening = len(plans.OPENING) if what == "roll-out" else 1
                self.rows[name] = len(read), len(read) + length - opening
                read.extend(range(at + opening - 1, at + length - 1))
            at += length
        segments += [Segment("noised", TOKENS, index[leaf]) for leaf in turn.leaves]
        self.predicted = [name in self.rows for name, _, _ in turn.texts]
        self.length = at
        self.segments = segments
        drawn = generation(segments)
        order = drawn.long().argsort(stable=True)  # latents last: one expert after the other
        self.mask = attention_mask(segments)[order][:, order].to(device)
        self.positions = positions(segments)[order].to(device)
        self.generation = drawn[order].to(device)
        self.read = torch.tensor(read, dtype=torch.long, device=device)
        self.before, self.after = neighbours(device)

    def fill(
        self, some: Any, noise: float, wrong: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Targets]:
        """Words (B, T) of all texts, and targets of those that are predicted. some: `materials` of the task.

        Contexts hold the truth, rounded at random in proportion; of the numbers in thinking and plans a
        `noise` share is moved by one step, and of the visual tokens a `wrong` share is another picture's:
        what a model writes itself is not without faults, and no picture should depend on one word.
        """
        words: list[Tensor] = []
        aims: list[tuple[Tensor, ...]] = []
        for what, predicted in zip(self.texts, self.predicted, strict=True):
            if what == "prompt":
                words.append(self._asked(some, generator))
            elif what == "nothing":
                said = torch.tensor(_NOTHING[self.turn.task], device=self.before.device)
                words.append(said.expand(len(some), -1))
            elif what.startswith(PAUSE):
                paused = torch.tensor(INDEX["<pause>"], device=self.before.device)
                words.append(paused.expand(len(some), self.turn.length_of(what)))
            elif what in ("roll-out", "sides"):
                said = plans.roll_out(some.codes) if what == "roll-out" else some.sides
                lots = torch.rand(said.shape, device=said.device, generator=generator)
                other = (said >= CODE_0) & (said < INDEX["<draw>"]) & (lots < wrong)
                words.append(torch.where(other, said.roll(1, 0), said))
                if predicted:
                    codes = said[:, len(plans.OPENING) :]
                    room = (codes >= CODE_0 + OBJECT_CODES * len(OBJECTS)).float()
                    weight = 1 - (1 - _ROOM_CODE) * room
                    aims.append((codes, codes, torch.zeros_like(weight), weight))
            elif what in ("caption", "depth caption"):
                told = some.caption if what == "caption" else some.depth_caption
                words.append(self._rounded(told, noise, generator))
            else:
                truth = some.think() if what == "think" else some.plan()
                words.append(self._rounded(truth, noise, generator))
                low, high, share = (part[:, 1:] for part in truth)
                aims.append((low, high, share, 1 - (1 - _NONE) * (low == plans.NONE).float()))
        said = torch.cat(words, 1)
        if not aims:
            nothing = said[:, :0]
            return said, Targets(nothing, nothing, nothing.float(), nothing.float())
        low, high, share, weight = (torch.cat(parts, 1) for parts in zip(*aims, strict=True))
        return said, Targets(low, high, share, weight)

    def _asked(self, some: Any, generator: torch.Generator | None) -> Tensor:
        """What is asked for: a prompt or a change, a pose, or just how far all is."""
        if self.turn.task == "depth":
            return torch.full((len(some), 1), INDEX["depth"], device=self.before.device)
        if self.turn.task == "novel_view":
            return self._rounded(some.pose, 0.0, generator)
        return some.prompt

    def _rounded(self, number: TwoHot, noise: float, generator: torch.Generator | None) -> Tensor:
        low, high, share = number
        lots = torch.rand(2, *share.shape, device=share.device, generator=generator)
        word = torch.where(lots[0] < share, high, low)
        word = torch.where(lots[1] < noise / 2, self.before[word], word)
        return torch.where(lots[1] > 1 - noise / 2, self.after[word], word)


def context_losses(logits: Tensor, targets: Targets, rows: dict[str, tuple[int, int]]) -> Tensor:
    """Of each context that is predicted the mean loss of its words: (C,), from logits (B, n, vocabulary)."""
    logs = logits.float().log_softmax(-1)
    lower = logs.gather(-1, targets.low[..., None])[..., 0]
    upper = logs.gather(-1, targets.high[..., None])[..., 0]
    cost = -torch.lerp(lower, upper, targets.share) * targets.weight  # (B, n)
    if not rows:
        return logits.new_zeros(0, dtype=torch.float32)
    return torch.stack(
        [cost[:, a:b].sum() / targets.weight[:, a:b].sum().clamp(min=1) for a, b in rows.values()]
    )


def picture_losses(velocity: Tensor, truth: Tensor, objects: Tensor) -> Tensor:
    """Mean squared error of each leaf (B, leaves, TOKENS, NUMBERS): (leaves,). objects (B, TOKENS, NUMBERS):
    how much each number counts."""
    return ((velocity - truth).square() * objects[:, None]).mean((0, 2, 3))
