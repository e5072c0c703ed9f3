"""Changes of pictures in the model's words, and pairs of pictures that show them.

    change    <edit> recolour A green none </edit>
              <edit> remove A none none </edit>
              <edit> add A left B </edit>
              <edit> move A behind B </edit>

Contexts are those of `plans`, of the picture as it is to be: thinking and a plan tell of its objects from
left to right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import plans
from .pictures import PLACES, SIDE, Pictures, shot, told
from .vocabulary import INDEX, OBJECT_0
from .world import prompts
from .world.prompts import RELATIONS, Change, Composition, Found
from .world.render import to_uint8
from .world.scene import COLOURS

LENGTH = 6
NO_CHANGE = (INDEX["<edit>"], INDEX["</edit>"])
_RELATED: dict[str, str] = dict(zip(RELATIONS, ("left", "right", "front", "behind"), strict=True))
_COLOUR_0 = INDEX[next(iter(COLOURS))]


def words(change: Change) -> list[int]:
    """LENGTH words."""
    said = [INDEX[change.what], OBJECT_0 + change.kind]
    if change.colour is not None:
        said += [_COLOUR_0 + change.colour]
    if change.relation is not None and change.other is not None:
        said += [INDEX[_RELATED[change.relation]], OBJECT_0 + change.other]
    return [NO_CHANGE[0], *said, *[plans.NONE] * (LENGTH - 2 - len(said)), NO_CHANGE[1]]


@dataclass(frozen=True)
class Edited:
    """N pairs of pictures: before (N, 3, SIDE, SIDE) uint8; after, with the change's words as its prompt and
    as `objects` the share of each place that is another; mask (N, SIDE, SIDE) bool, the pixels of the object
    that was changed, in either picture; the changes; the compositions that the new pictures meet; what stands
    where in them; and the places of the seeds that the pairs come from."""

    before: Tensor
    after: Pictures
    mask: Tensor
    changes: list[Change]
    compositions: list[Composition]
    found: list[list[Found]]
    rows: list[int]

    def __len__(self) -> int:
        return len(self.before)


@torch.no_grad()
def edited(seeds: Tensor, texture: str = "bare", compiled: bool = False) -> Edited:
    """One pair for each seed (N,) whose room holds all its objects, before and after: N or fewer."""
    drawn = prompts.draw(seeds, plans.OBJECTS)
    staged = prompts.stage(drawn, seeds, texture)
    changes = prompts.draw_changes(drawn, staged, seeds, plans.OBJECTS)
    held = {i: one for i, one in enumerate(changes) if one is not None and bool(staged.valid[i])}
    some, count = list(held), len(held)
    some += some[-1:] * (len(seeds) - count)  # as many as were asked for, or each count compiles anew
    kept = [held[i] for i in some]
    index = torch.tensor(some, dtype=torch.long)
    seeds, compositions = seeds[index], [drawn[i] for i in some]
    staged = prompts.Staged(staged.scene[index], staged.c2w[index], staged.valid[index])
    other, which = prompts.change(staged, kept, seeds)
    first, second = shot(staged, compiled), shot(other, compiled)
    said = torch.tensor([words(one) for one in kept], dtype=torch.long).view(-1, LENGTH)
    _, shows = told(staged, said, first)
    after, good = told(other, said, second, grouped=False)
    before = to_uint8(first.images[:, 0].permute(0, 3, 1, 2))
    differs = (before.int() - after.pictures.int()).abs().amax(1) > 2  # (N, S, S)
    objects = F.avg_pool2d(differs.float()[:, None], SIDE // PLACES)[:, 0]
    number = which[:, None, None] + 1
    mask = (first.ids[:, 0] == number) | (second.ids[:, 0] == number)
    after = Pictures(**{**vars(after), "objects": objects})
    chosen = (shows & good & other.valid)[:count].nonzero()[:, 0]
    of = chosen.tolist()
    return Edited(
        before[chosen],
        after[chosen],
        mask[chosen],
        [kept[i] for i in of],
        [prompts.expected(_kinds(compositions[i]), kept[i]) for i in of],
        [other.found(i) for i in of],
        [some[i] for i in of],
    )


def _kinds(composition: Composition) -> Sequence[int]:
    return [group.kind for group in composition.groups for _ in range(group.count)]
