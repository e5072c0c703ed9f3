"""Prompts and plans of pictures as words: what is to be drawn, and where it is to stand.

    prompt    <draw> 2 A 1 B A left B none ... </draw>
    thinking  <think> A 345deg 2.5m A 330deg 2.25m B 15deg 2m none none none </think>
    plan      <plan> A 345deg 2.5m 1 2 1 3 A ... none ... </plan>
    roll-out  <view> picture  16 visual tokens, row by row  </view>

A prompt counts its objects and then says how they stand to one another. Thinking gives each object a
direction and a distance from the camera; a plan, thinking at length, also where in the picture its middle is:
of the 4 x 4 cells that visual tokens and latents have the column, and which quarter of the cell's width, then
the row, and which quarter of its height. A roll-out is the picture in visual tokens. All have a fixed length:
where there is no more to say, `none` is said to the end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import language
from . import vocabulary as words
from .model import Grammar
from .visual import GRID
from .vocabulary import CODE_0, CODES, INDEX, OBJECT_0, TwoHot
from .world.prompts import RELATIONS, Composition, Found, Group

GROUPS, OBJECTS, MOST_RELATIONS = 3, 4, 3
"""The most that a prompt may ask for."""
PROMPT_LENGTH = 2 + 2 * GROUPS + 3 * MOST_RELATIONS
THINK_EACH, PLAN_EACH = 3, 7  # words an object
THINK_LENGTH, PLAN_LENGTH = (2 + each * OBJECTS for each in (THINK_EACH, PLAN_EACH))
OPENING = (INDEX["<view>"], INDEX["picture"])
CELLS = GRID * GRID
ROLL_OUT_LENGTH = len(OPENING) + CELLS + 1
NONE = INDEX["none"]
EMPTY = (INDEX["<draw>"], INDEX["</draw>"])  # nothing is asked for: what guidance leads away from
_RELATED: dict[str, str] = dict(zip(RELATIONS, ("left", "right", "front", "behind"), strict=True))
_COUNTS = tuple(str(k) for k in range(1, OBJECTS + 1))
_QUARTERS = tuple(INDEX[str(k)] for k in range(GRID))
_OBJECT = (language.NAMES, *language.OBJECT_GRAMMAR[2:4], *(_QUARTERS,) * 4)
_OR_NONE = tuple((*may, NONE) for may in _OBJECT)
THINK_GRAMMAR = Grammar(_OR_NONE[:THINK_EACH] * OBJECTS)
PLAN_GRAMMAR = Grammar(_OR_NONE * OBJECTS)
ROLL_OUT_GRAMMAR = Grammar((range(CODE_0, CODE_0 + CODES),) * CELLS)


def prompt(asked: Composition) -> list[int]:
    """PROMPT_LENGTH words. Raises ValueError for more than the model was taught to read."""
    total = sum(group.count for group in asked.groups)
    for count, most, what in (
        (total, OBJECTS, "objects"),
        (len(asked.groups), GROUPS, "kinds of objects"),
        (len(asked.relations), MOST_RELATIONS, "relations"),
    ):
        if count > most:
            raise ValueError(f"{count} {what} in a prompt: the nano model draws up to {most}")
    said = [w for g in asked.groups for w in (INDEX[_COUNTS[g.count - 1]], OBJECT_0 + g.kind)]
    for a, relation, b in asked.relations:
        first, second = (OBJECT_0 + asked.groups[k].kind for k in (a, b))
        said += [first, INDEX[_RELATED[relation]], second]
    return [INDEX["<draw>"], *said, *[NONE] * (PROMPT_LENGTH - 2 - len(said)), INDEX["</draw>"]]


def composition(written: Sequence[int]) -> Composition:
    """`prompt` turned round. Raises ValueError for other words."""
    said = [word for word in written[1:-1] if word != NONE]
    if len(written) != PROMPT_LENGTH or list(written) != [
        INDEX["<draw>"],
        *said,
        *[NONE] * (PROMPT_LENGTH - 2 - len(said)),
        INDEX["</draw>"],
    ]:
        raise ValueError(f"{len(written)} words that are no prompt")
    counts = {INDEX[word]: k + 1 for k, word in enumerate(_COUNTS)}
    relations = {INDEX[word]: relation for relation, word in _RELATED.items()}
    groups: list[Group] = []
    while said and said[0] in counts:
        groups.append(Group(counts[said[0]], said[1] - OBJECT_0))
        said = said[2:]
    place = {group.kind + OBJECT_0: k for k, group in enumerate(groups)}
    related = [(place[said[k]], relations[said[k + 1]], place[said[k + 2]]) for k in range(0, len(said), 3)]
    return Composition(tuple(groups), tuple(related))


def think(kinds: Tensor, bearing: Tensor, distance: Tensor, there: Tensor) -> TwoHot:
    """Of objects (B, OBJECTS), radians and metres, in the order of the prompt: two-hot (B, THINK_LENGTH)."""
    parts = [
        [
            words.exactly(kinds[:, k] + OBJECT_0),
            words.direction(bearing[:, k]),
            words.distance(distance[:, k]),
        ]
        for k in range(OBJECTS)
    ]
    return _told(parts, there, "think")


def plan(kinds: Tensor, bearing: Tensor, distance: Tensor, there: Tensor, middle: Tensor) -> TwoHot:
    """The same, and middles (B, OBJECTS, 2), column and row of the picture in 0..1: (B, PLAN_LENGTH)."""
    quarters = (middle * GRID * GRID).long().clamp(0, GRID * GRID - 1)  # (B, K, 2)
    zero = INDEX["0"]
    parts = [
        [
            words.exactly(kinds[:, k] + OBJECT_0),
            words.direction(bearing[:, k]),
            words.distance(distance[:, k]),
            *(
                words.exactly(zero + part)
                for axis in range(2)
                for part in (quarters[:, k, axis] // GRID, quarters[:, k, axis] % GRID)
            ),
        ]
        for k in range(OBJECTS)
    ]
    return _told(parts, there, "plan")


def roll_out(codes: Tensor) -> Tensor:
    """Visual tokens (B, 16) -> words (B, ROLL_OUT_LENGTH)."""
    opening = torch.tensor(OPENING, device=codes.device).expand(len(codes), -1)
    closing = torch.full_like(codes[:, :1], INDEX["</view>"])
    return torch.cat([opening, codes + CODE_0, closing], dim=1)


def found(written: Sequence[int]) -> list[Found]:
    """What thinking or a plan (tags included) says is where, for `world.prompts.judge`.

    Objects of which something is left open are left out.
    """
    each = THINK_EACH if len(written) == THINK_LENGTH else PLAN_EACH
    inside = written[1:-1]
    seen: list[Found] = []
    for k in range(0, len(inside), each):
        name, direction, distance = inside[k : k + 3]
        if NONE in inside[k : k + each]:
            continue
        step = (direction - words.DIRECTION_0 + words.DIRECTIONS // 2) % words.DIRECTIONS
        bearing = (step - words.DIRECTIONS // 2) * 2 * torch.pi / words.DIRECTIONS
        seen.append(Found(name - OBJECT_0, bearing, (distance - words.DISTANCE_0) * words.METRES))
    return seen


def _told(parts: Sequence[Sequence[TwoHot]], there: Tensor, tag: str) -> TwoHot:
    """Between tags the words of each object, `none` for objects that are not there (B, OBJECTS)."""
    inside: list[TwoHot] = []
    for k, part in enumerate(parts):
        keep = there[:, k]
        for low, high, share in part:
            none = torch.full_like(low, NONE)
            inside.append((low.where(keep, none), high.where(keep, none), share * keep))
    like = parts[0][0][0]
    opening, closing = (words.exactly(language.word(like, said)) for said in (f"<{tag}>", f"</{tag}>"))
    return language.join([opening, *inside, closing])
