"""What photos show, told in words without any question.

    caption        <caption> photo1 30deg 2.5m A +1.25m +3m photo2 ... none none ... </caption>
    depth caption  <depth> 1.5m A 2.25m B ... none none </depth>

A caption tells of every object that a photo shows well, those of photo 1 from left to right, then the rest
of photo 2. A depth caption tells how far those of photo 1 are, the nearest first. Both have a fixed length:
where there is no more to tell, `none` is said to the end.

Here the name stands after what leads to it. In thinking the name is given by the question and everything is
looked up by it; in a caption the next object is found by where it is, and a name before that is guesswork.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import language
from . import vocabulary as words
from .model import Grammar
from .vocabulary import INDEX, OBJECT_0, TwoHot
from .world.questions.counting import reading_order
from .world.scene import MAX_OBJECTS
from .world.sight import Sight

CAPTION_LENGTH = language.OBJECT_LENGTH * MAX_OBJECTS + 2
DEPTHS = 4  # objects of a depth caption
DEPTH_LENGTH = 2 * DEPTHS + 2
NONE = INDEX["none"]
_OR_NONE = tuple((*may, NONE) for may in language.OBJECT_GRAMMAR)
TOLD = (1, 2, 3, 0, 4, 5)  # the words of `language.objects` in the order of a caption
NAME = TOLD.index(0)
CAPTION_GRAMMAR = Grammar(  # an object is told once
    tuple(_OR_NONE[k] for k in TOLD) * MAX_OBJECTS, once=language.NAMES
)
DEPTH_GRAMMAR = Grammar((_OR_NONE[3], _OR_NONE[0]) * DEPTHS, once=language.NAMES)


def caption(seen: Sight, objects: TwoHot) -> TwoHot:
    """Two-hot (B, CAPTION_LENGTH); objects: all of the room, as `language.objects` puts them."""
    order = reading_order(seen).masked_fill(~seen.known, torch.inf)
    rank, which = order.sort(1)
    low, high, share = (part[..., list(TOLD)] for part in objects)
    return _told(language.told((low, high, share), which), rank.isfinite(), language.OBJECT_LENGTH, "caption")


def depth_caption(seen: Sight) -> TwoHot:
    """Two-hot (B, DEPTH_LENGTH): photo 1."""
    far = seen.distance[:, 0].masked_fill(~seen.seen[:, 0], torch.inf)
    far, which = far.sort(1)
    names = seen.kind.gather(1, which) + OBJECT_0
    parts: list[TwoHot] = []
    for k in range(DEPTHS):
        parts += [words.distance(far[:, k].clamp(max=100.0)), words.exactly(names[:, k])]
    return _told(parts, far[:, :DEPTHS].isfinite(), 2, "depth")


def _told(parts: Sequence[TwoHot], there: Tensor, each: int, tag: str) -> TwoHot:
    """Between tags, words of which `each` belong to one object, `none` where it is not there (B, n)."""
    some = there.repeat_interleave(each, 1)
    inside = []
    for k, (low, high, share) in enumerate(parts):
        keep = some[:, k]
        none = torch.full_like(low, NONE)
        inside.append((low.where(keep, none), high.where(keep, none), share * keep))
    like = parts[0][0]
    opening, closing = (words.exactly(language.word(like, said)) for said in (f"<{tag}>", f"</{tag}>"))
    return language.join([opening, *inside, closing])


def plain(written: Sequence[int]) -> list[int]:
    """Words as they are read by people: without the `none` at the end."""
    end = len(written)
    while end and written[end - 1] == NONE:
        end -= 1
    return list(written[:end])


def filled(said: Sequence[int], length: int) -> list[int]:
    """`plain` turned round, for `length` words between tags. Raises ValueError for more."""
    if len(said) > length:
        raise ValueError(f"{len(said)} words, where at most {length} are told")
    return [*said, *[NONE] * (length - len(said))]
