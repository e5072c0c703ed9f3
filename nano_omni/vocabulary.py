"""The words of the nano model: one flat list, numbers included, each number family in order.

Numbers are words of their own: directions in steps of 7.5 degrees, distances and offsets in steps of
0.25 m. A real value lies between two of them, so it is written as `(low, high, share)`: two neighbouring
words and the share of the upper one (a two-hot target). That keeps what rounding would throw away.
"""

import math

import torch
from torch import Tensor

from .world.scene import COLOURS, SHAPES

SPECIAL = (
    *("<pad>", "<photo1>", "<photo2>", "<campose>", "</campose>", "<think>", "</think>", "<answer>"),
    *("<room>", "<bos>", "<eos>", "<unk>", "<pause>", "<latent>"),
    *("<caption>", "</caption>", "<depth>", "</depth>", "<view>", "</view>"),
)
WORDS = (
    *("at", "camera", "facing", "go", "ahead", "where", "count", "near"),  # of questions
    *("photo1", "photo2", "face", "stand", "to", "turn", "total"),  # of thinking
    *("none", "up", "down"),  # of captions and views
)
ANSWERS = ("front-left", "front-right", "back-left", "back-right", "front", "right", "behind", "left")
NUMBERS = ("0", "1", "2", "3")
OBJECTS = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
DIRECTIONS = 48  # all around, clockwise seen from above: 0 is ahead, 12 is right
DISTANCES = 32  # 0 .. 7.75 m
OFFSETS = 64  # -8 .. 7.75 m
METRES = 0.25
OBJECT_CODES, ROOM_CODES = 4, 64  # visual tokens of each object, and of what is not an object
CODES = OBJECT_CODES * len(OBJECTS) + ROOM_CODES
# Of prompts and plans. New words come last: weights that were trained before keep theirs.
DRAWING = ("<draw>", "</draw>", "<plan>", "</plan>", "picture", "4", "5", "6")
PHOTOS = ("<edit>", "</edit>", "recolour", "remove", "add", "move", "depth")  # of pictures from pictures

TOKENS: tuple[str, ...] = (
    *SPECIAL,
    *WORDS,
    *ANSWERS,
    *NUMBERS,
    *COLOURS,
    *SHAPES,
    *OBJECTS,
    *(f"{360 * k / DIRECTIONS:g}deg" for k in range(DIRECTIONS)),
    *(f"{k * METRES:g}m" for k in range(DISTANCES)),
    *(f"{k * METRES - 8:+g}m" for k in range(OFFSETS)),
    *(f"<v{k}>" for k in range(CODES)),
    *DRAWING,
    *PHOTOS,
)
INDEX = {word: k for k, word in enumerate(TOKENS)}
SIZE = len(TOKENS)
OBJECT_0 = INDEX[OBJECTS[0]]
DIRECTION_0 = INDEX["0deg"]
DISTANCE_0 = INDEX["0m"]
OFFSET_0 = DISTANCE_0 + DISTANCES
CODE_0 = INDEX["<v0>"]

# What contexts are written in: no tags but the closing one, no colour or shape apart from its object.
WRITABLE = tuple(INDEX[word] for word in TOKENS[:CODE_0] if word not in {*SPECIAL, *COLOURS, *SHAPES})

TwoHot = tuple[Tensor, Tensor, Tensor]  # low word, high word (int64), share of high (float32)


def direction(angle: Tensor) -> TwoHot:
    """Angles in radians, clockwise from ahead, any shape."""
    steps = torch.remainder(angle * (DIRECTIONS / (2 * math.pi)), DIRECTIONS)
    low = steps.floor()
    first = low.long() % DIRECTIONS
    return first + DIRECTION_0, (first + 1) % DIRECTIONS + DIRECTION_0, steps - low


def quarter(angle: Tensor) -> TwoHot:
    """Angles in radians of which only the part within a quarter of a circle is said, any shape."""
    count = DIRECTIONS // 4
    steps = torch.remainder(angle * (DIRECTIONS / (2 * math.pi)), count)
    low = steps.floor()
    first = low.long() % count
    return first + DIRECTION_0, (first + 1) % count + DIRECTION_0, steps - low


def distance(metres: Tensor) -> TwoHot:
    """Distances in metres, any shape; beyond the last word they are cut."""
    return _line(metres / METRES, DISTANCES, DISTANCE_0)


def offset(metres: Tensor) -> TwoHot:
    """Signed offsets in metres, any shape; beyond +-8 m they are cut."""
    return _line((metres + 8) / METRES, OFFSETS, OFFSET_0)


def _line(steps: Tensor, count: int, first: int) -> TwoHot:
    steps = steps.clamp(0, count - 1 - 1e-3)
    low = steps.floor()
    return low.long() + first, low.long() + first + 1, steps - low


def exactly(word: Tensor) -> TwoHot:
    """Words that are no numbers."""
    return word, word, torch.zeros(word.shape, device=word.device)


def nearest(number: TwoHot) -> Tensor:
    low, high, share = number
    return torch.where(share > 0.5, high, low)


def neighbours(device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """For every word the one before and the one after in its number family, itself if it has none."""
    before, after = list(range(SIZE)), list(range(SIZE))
    for first, count, ring in (
        (DIRECTION_0, DIRECTIONS, True),
        (DISTANCE_0, DISTANCES, False),
        (OFFSET_0, OFFSETS, False),
    ):
        for k in range(count):
            before[first + k] = first + ((k - 1) % count if ring else max(k - 1, 0))
            after[first + k] = first + ((k + 1) % count if ring else min(k + 1, count - 1))
    return torch.tensor(before, device=device), torch.tensor(after, device=device)


def smooth_embedding(width: int, generator: torch.Generator | None = None) -> Tensor:
    """Initial embeddings (SIZE, width): near numbers start out alike, all other words at random."""
    table = torch.randn(SIZE, width, generator=generator)
    for first, count, ring in (
        (DIRECTION_0, DIRECTIONS, True),
        (DISTANCE_0, DISTANCES, False),
        (OFFSET_0, OFFSETS, False),
    ):
        k = torch.arange(count)
        apart = (k[:, None] - k[None, :]).abs()
        if ring:
            apart = torch.minimum(apart, count - apart)
        kernel = torch.zeros(count, count)
        for reach in (1.5, 5.0, 15.0):  # several scales: neighbours and the lie of the whole range
            bump = torch.exp(-0.5 * (apart / reach) ** 2)
            kernel = kernel + bump / bump.square().sum(1, keepdim=True).sqrt()
        numbers = kernel @ torch.randn(count, width, generator=generator)
        table[first : first + count] = numbers / numbers.std()
    # A visual token of an object begins near the object's name.
    objects = table[OBJECT_0 : OBJECT_0 + len(OBJECTS)].repeat_interleave(OBJECT_CODES, 0)
    table[CODE_0 : CODE_0 + len(objects)] = (table[CODE_0 : CODE_0 + len(objects)] + objects) / math.sqrt(2)
    return table
