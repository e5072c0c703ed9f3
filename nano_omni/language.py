"""Questions, thoughts and poses as words: how geometry is written for the model.

    question   at A facing B go C where D
    pose       <campose> right ahead direction </campose>
    thinking   <think> photo2 A 30deg 2.5m +1.25m +3m ... face 75deg to 120deg turn 45deg </think>
    answer     <answer> -> behind

In thinking every object stands immediately before its numbers: direction and distance in the photo that
shows it, then its place in camera 1's frame. (With colour, shape, marker and all numbers at the end the
notes found that grounding is not learned.) Then what follows from them, one step after another.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import vocabulary as words
from .vocabulary import INDEX, TwoHot
from .world.questions import CHOICES, OBJECTS, Questions, relative_pose

_STEPS = {1: 2, 2: 6, 3: 6, 4: 9}  # words after the objects
POSE_LENGTH = 5
_TEMPLATES: dict[int, tuple[str | int, ...]] = {  # a number: the object of that place
    1: ("at", "camera", "where", 0),
    2: ("at", 0, "facing", 1, "where", 2),
    3: ("at", 0, "facing", 1, "go", 2, "where", 3),
    4: ("at", 0, "facing", 1, "go", 2, "ahead", "where", 3),
}


def question_length(hops: int) -> int:
    return len(_TEMPLATES[hops])


def think_length(hops: int) -> int:
    """Tags included."""
    return 6 * OBJECTS[hops] + _STEPS[hops] + 2


def _word(like: Tensor, word: str) -> Tensor:
    return torch.full_like(like, INDEX[word], dtype=torch.long)


def question(asked: Questions) -> Tensor:
    """(B, question_length) int64."""
    first = asked.kind[:, 0]
    parts = [
        _word(first, part) if isinstance(part, str) else asked.kind[:, part] + words.OBJECT_0
        for part in _TEMPLATES[asked.hops]
    ]
    return torch.stack(parts, dim=1)


def answer(asked: Questions) -> Tensor:
    """(B,) int64, the word of the answer."""
    table = torch.tensor([INDEX[word] for word in CHOICES[asked.hops]], device=asked.answer.device)
    return table[asked.answer]


def pose(c2w: Tensor) -> TwoHot:
    """Of camera 2 in camera 1's level frame: views (B, 2, 4, 4) -> two-hot (B, POSE_LENGTH)."""
    place, ahead = relative_pose(c2w)
    return _join(
        [
            words.exactly(_word(ahead, "<campose>")),
            words.offset(place[:, 0]),
            words.offset(place[:, 1]),
            words.direction(ahead),
            words.exactly(_word(ahead, "</campose>")),
        ]
    )


def think(asked: Questions) -> TwoHot:
    """Two-hot (B, think_length)."""
    like = asked.face
    parts = [words.exactly(_word(like, "<think>"))]
    for n in range(OBJECTS[asked.hops]):
        parts += [
            words.exactly(asked.photo[:, n] + INDEX["photo1"]),
            words.exactly(asked.kind[:, n] + words.OBJECT_0),
            words.direction(asked.bearing[:, n]),
            words.distance(asked.distance[:, n]),
            words.offset(asked.place[:, n, 0]),
            words.offset(asked.place[:, n, 1]),
        ]
    if asked.hops > 1:
        parts += [words.exactly(_word(like, "face")), words.direction(asked.face)]
    if asked.hops == 4:
        parts += [
            words.exactly(_word(like, "stand")),
            words.offset(asked.stand[:, 0]),
            words.offset(asked.stand[:, 1]),
        ]
    parts += [words.exactly(_word(like, "to")), words.direction(asked.to)]
    if asked.hops > 1:
        parts += [words.exactly(_word(like, "turn")), words.direction(asked.turn)]
    parts.append(words.exactly(_word(like, "</think>")))
    return _join(parts)


def roles(hops: int) -> list[str]:
    """What each word of thinking says: 'tag', 'name', 'bearing', 'distance', 'place', 'face', ..."""
    one = ["photo", "name", "bearing", "distance", "place", "place"]
    steps = ["tag", "face"] if hops > 1 else []
    steps += ["tag", "stand", "stand"] if hops == 4 else []
    steps += ["tag", "to"] + (["tag", "turn"] if hops > 1 else [])
    return ["tag", *one * OBJECTS[hops], *steps, "tag"]


def _join(parts: Sequence[TwoHot]) -> TwoHot:
    low, high, share = (torch.stack([part[k] for part in parts], dim=1) for k in range(3))
    return low, high, share
