"""A backend that draws rooms for prompts: true renders, but for mistakes that can be worked out beforehand.

It errs in a share of the prompts, by their text: one object gets another colour. What it was told in words
and what it was shown in visual tokens each take a part of the mistakes away.
"""

from typing import ClassVar

import numpy as np
import torch
from xxhash import xxh3_64_intdigest

from nano_omni.world.camera import intrinsics
from nano_omni.world.prompts import parse, stage
from nano_omni.world.render import render, to_uint8
from nano_omni.world.scene import COLOURS, SHAPES, furnish
from unroller.capabilities import ImageGenerator
from unroller.rendering import TextSegment, TokenSegment
from unroller.values import Image

MISTAKES = {(False, False): 0.8, (True, False): 0.5, (False, True): 0.4, (True, True): 0.1}
"""Share of prompts that go wrong, by whether there are words and visual tokens in the context."""


def goes_wrong(prompt, told=False, shown=False):
    """Whether the picture of this prompt will have a mistake in it."""
    return xxh3_64_intdigest(prompt.encode()) / 2**64 < MISTAKES[told, shown]


class RoomDrawer:
    """`ImageGenerator` for the prompts of `nano_omni.world.prompts`, 64 x 64 pixels."""

    name = "room_drawer"
    fingerprint = "room_drawer-1"
    max_batch = 64
    size = (64, 64)
    provides: ClassVar = (ImageGenerator,)

    def generate_image(self, prompts, *, width, height, seeds):
        asked = [next(s.text for s in prompt.segments if isinstance(s, TextSegment)) for prompt in prompts]
        told = [sum(isinstance(s, TextSegment) for s in prompt.segments) > 1 for prompt in prompts]
        shown = [any(isinstance(s, TokenSegment) for s in prompt.segments) for prompt in prompts]
        wrong = list(map(goes_wrong, asked, told, shown))
        pictures = drawn([parse(one) for one in asked], [seed % 2**40 for seed in seeds], wrong, width)
        return [Image(picture) for picture in pictures]


def drawn(compositions, seeds, wrong, side=64):
    """Pictures (N, side, side, 3) uint8; where it is `wrong`, the first object has the next colour."""
    numbers = torch.tensor(seeds)
    staged = stage(compositions, numbers)
    for attempt in range(1, 8):  # another room where the objects found no place in the first
        if staged.valid.all():
            break
        numbers = torch.where(staged.valid, numbers, numbers + attempt)
        staged = stage(compositions, numbers)
    scene = staged.scene
    colour = scene.colour.clone()
    colour[:, 0] = torch.where(torch.tensor(wrong), (colour[:, 0] + 1) % len(COLOURS), colour[:, 0])
    kind = colour * len(SHAPES) + scene.shape
    scene = furnish(scene, scene.present, kind, scene.radius, scene.position)
    views = render(scene, staged.c2w, intrinsics(side, side), side, side)
    return np.ascontiguousarray(to_uint8(views.images[:, 0]).numpy())
