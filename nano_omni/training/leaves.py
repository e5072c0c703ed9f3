"""A training sequence of drawing: a prompt, read once, contexts under it, under each a picture with noise.

    prompt - *                                  direct
           - think - *                          short
                   - roll-out - *               short + visual
           - plan - *                           long
                  - roll-out - *                long + visual
           - roll-out - *                       visual
    nothing - *                                 what guidance leads away from
            - roll-out - *                      and where there is a roll-out

Each leaf (*) is the same picture with noise of its own at a time of its own, and sees just what a model that
unrolled so far would have read: one pass trains many subsets of contexts. A step takes one of TURNS, so that
a sequence stays short. The last two teach what is drawn without a prompt: conditions are dropped as a branch
of the tree, not by chance.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import plans
from ..latents import TOKENS
from ..masks import Segment, attention_mask, generation, positions
from ..pictures import Pictures
from ..vocabulary import CODE_0, INDEX, OBJECT_CODES, OBJECTS, TwoHot, neighbours
from .forest import Targets

Node = tuple[str, str | None, str]  # name, parent, what it holds

_PROMPT, _NOTHING = ("prompt", None, "prompt"), ("nothing", None, "nothing")
TURNS: tuple[tuple[tuple[Node, ...], tuple[str, ...]], ...] = (  # texts, and those that have a leaf
    (
        (_PROMPT, ("short", "prompt", "think"), ("short + visual", "short", "roll-out")),
        ("prompt", "short", "short + visual"),
    ),
    (
        (_PROMPT, ("long", "prompt", "plan"), ("long + visual", "long", "roll-out")),
        ("prompt", "long", "long + visual"),
    ),
    (
        (_PROMPT, ("visual", "prompt", "roll-out"), _NOTHING, ("nothing + visual", "nothing", "roll-out")),
        ("prompt", "visual", "nothing", "nothing + visual"),
    ),
)
LEAVES = tuple(dict.fromkeys(leaf for _, leaves in TURNS for leaf in leaves))
"""All sets of contexts that are drawn from; "prompt" is direct."""
_LENGTHS = {
    "prompt": plans.PROMPT_LENGTH,
    "nothing": len(plans.EMPTY),
    "think": plans.THINK_LENGTH,
    "plan": plans.PLAN_LENGTH,
    "roll-out": plans.ROLL_OUT_LENGTH,
}
_NONE, _ROOM_CODE = 0.2, 0.3  # what weighs less: nothing more to say, and pieces of wall


class Leaves:
    """One of TURNS laid out: texts first, then leaves. mask (L, L), positions (L,), generation (L,), read
    (n,) the places whose words are predicted; rows: of those, the (first, last + 1) of each context."""

    def __init__(self, turn: int, device: torch.device | str = "cpu") -> None:
        nodes, self.leaves = TURNS[turn]
        self.texts = [what for _, _, what in nodes]
        index = {name: k for k, (name, _, _) in enumerate(nodes)}
        segments = [
            Segment("text", _LENGTHS[what], None if parent is None else index[parent])
            for _, parent, what in nodes
        ]
        segments += [Segment("noised", TOKENS, index[leaf]) for leaf in self.leaves]
        read: list[int] = []
        self.rows: dict[str, tuple[int, int]] = {}
        at = 0
        for name, parent, what in nodes:
            if parent == "prompt" or parent in ("short", "long"):
                opening = len(plans.OPENING) if what == "roll-out" else 1
                self.rows[name] = len(read), len(read) + _LENGTHS[what] - opening
                read.extend(range(at + opening - 1, at + _LENGTHS[what] - 1))
            at += _LENGTHS[what]
        self.predicted = [name in self.rows for name, _, _ in nodes]
        self.length = at
        self.segments = segments
        self.mask = attention_mask(segments).to(device)
        self.positions = positions(segments).to(device)
        self.generation = generation(segments).to(device)
        self.read = torch.tensor(read, device=device)
        self.before, self.after = neighbours(device)

    def fill(
        self, some: Pictures, noise: float, wrong: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Targets]:
        """Words (B, T) of all texts, and targets of those that are predicted.

        Contexts hold the truth, rounded at random in proportion; of the numbers in thinking and plans a
        `noise` share is moved by one step, and of the visual tokens a `wrong` share is another picture's:
        what a model writes itself is not without faults, and no picture should depend on one word.
        """
        words: list[Tensor] = []
        aims: list[tuple[Tensor, ...]] = []
        for what, predicted in zip(self.texts, self.predicted, strict=True):
            if what == "prompt":
                words.append(some.prompt)
            elif what == "nothing":
                words.append(torch.tensor(plans.EMPTY, device=some.prompt.device).expand(len(some), -1))
            elif what == "roll-out":
                said = plans.roll_out(some.codes)
                lots = torch.rand(said.shape, device=said.device, generator=generator)
                other = (said >= CODE_0) & (said < INDEX["<draw>"]) & (lots < wrong)
                words.append(torch.where(other, said.roll(1, 0), said))
                if predicted:
                    codes = said[:, len(plans.OPENING) :]
                    room = (codes >= CODE_0 + OBJECT_CODES * len(OBJECTS)).float()
                    weight = 1 - (1 - _ROOM_CODE) * room
                    aims.append((codes, codes, torch.zeros_like(weight), weight))
            else:
                truth = some.think() if what == "think" else some.plan()
                words.append(self._rounded(truth, noise, generator))
                low, high, share = (part[:, 1:] for part in truth)
                aims.append((low, high, share, 1 - (1 - _NONE) * (low == plans.NONE).float()))
        low, high, share, weight = (torch.cat(parts, 1) for parts in zip(*aims, strict=True))
        return torch.cat(words, 1), Targets(low, high, share, weight)

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
    return torch.stack(
        [cost[:, a:b].sum() / targets.weight[:, a:b].sum().clamp(min=1) for a, b in rows.values()]
    )


def picture_losses(velocity: Tensor, truth: Tensor, objects: Tensor) -> Tensor:
    """Mean squared error of each leaf (B, leaves, TOKENS, NUMBERS): (leaves,). objects (B, TOKENS, NUMBERS):
    how much each number counts."""
    return ((velocity - truth).square() * objects[:, None]).mean((0, 2, 3))


def leaf_names(turns: Sequence[int] = range(len(TURNS))) -> list[str]:
    """Of each turn its leaves, one after another."""
    return [leaf for turn in turns for leaf in TURNS[turn][1]]
