"""Questions, thoughts and poses as words: how geometry is written for the model.

    question   at A facing B go C where D
    pose       <campose> right ahead direction </campose>
    an object  A photo2 30deg 2.5m +1.25m +3m
    thinking   <think> A photo2 30deg 2.5m +1.25m +3m B ... face 75deg to 120deg turn 45deg </think>
    answer     <answer> -> behind

In thinking every object stands before all that is said of it: the photo that shows it, direction and
distance there, then its place in camera 1's frame. (With the name anywhere else, after the photo or before
other names, what is said of it is not learned to be looked up.) Then what follows, one step after another.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from . import vocabulary as words
from .vocabulary import INDEX, TwoHot
from .world import camera
from .world.questions import CHOICES, OBJECTS, Questions, relative_pose

_STEPS = {1: 2, 2: 6, 3: 6, 4: 9}  # words after the objects
POSE_LENGTH = 5
OBJECT_LENGTH = 6
TEMPLATES: dict[int, tuple[str | int, ...]] = {  # a number: the object of that place
    1: ("at", "camera", "where", 0),
    2: ("at", 0, "facing", 1, "where", 2),
    3: ("at", 0, "facing", 1, "go", 2, "where", 3),
    4: ("at", 0, "facing", 1, "go", 2, "ahead", "where", 3),
}


def question_length(hops: int) -> int:
    return len(TEMPLATES[hops])


def think_length(hops: int) -> int:
    """Tags included."""
    return OBJECT_LENGTH * OBJECTS[hops] + _STEPS[hops] + 2


def _word(like: Tensor, word: str) -> Tensor:
    return torch.full_like(like, INDEX[word], dtype=torch.long)


def question(asked: Questions) -> Tensor:
    """(B, question_length) int64."""
    first = asked.kind[:, 0]
    parts = [
        _word(first, part) if isinstance(part, str) else asked.kind[:, part] + words.OBJECT_0
        for part in TEMPLATES[asked.hops]
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


def located(kind: Tensor, photo: Tensor, bearing: Tensor, distance: Tensor, place: Tensor) -> TwoHot:
    """Objects (B, K), place (B, K, 2), each in words: two-hot (B, K, OBJECT_LENGTH)."""
    parts = _object(kind, photo, bearing, distance, place)
    low, high, share = (torch.stack([part[k] for part in parts], dim=-1) for k in range(3))
    return low, high, share


def _object(
    kind: Tensor, photo: Tensor, bearing: Tensor, distance: Tensor, place: Tensor
) -> list[TwoHot]:
    return [
        words.exactly(kind + words.OBJECT_0),
        words.exactly(photo + INDEX["photo1"]),
        words.direction(bearing),
        words.distance(distance),
        words.offset(place[..., 0]),
        words.offset(place[..., 1]),
    ]


def think(asked: Questions) -> TwoHot:
    """Two-hot (B, think_length)."""
    like = asked.face
    parts = [words.exactly(_word(like, "<think>"))]
    for n in range(OBJECTS[asked.hops]):
        parts += _object(
            asked.kind[:, n],
            asked.photo[:, n],
            asked.bearing[:, n],
            asked.distance[:, n],
            asked.place[:, n],
        )
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
    one = ["name", "photo", "bearing", "distance", "place", "place"]
    steps = ["tag", "face"] if hops > 1 else []
    steps += ["tag", "stand", "stand"] if hops == 4 else []
    steps += ["tag", "to"] + (["tag", "turn"] if hops > 1 else [])
    return ["tag", *one * OBJECTS[hops], *steps, "tag"]


def _join(parts: Sequence[TwoHot]) -> TwoHot:
    low, high, share = (torch.stack([part[k] for part in parts], dim=1) for k in range(3))
    return low, high, share


# What the words between <campose> and </campose> may be.
POSE_GRAMMAR = (
    range(words.OFFSET_0, words.OFFSET_0 + words.OFFSETS),
    range(words.OFFSET_0, words.OFFSET_0 + words.OFFSETS),
    range(words.DIRECTION_0, words.DIRECTION_0 + words.DIRECTIONS),
)


def pose_matrix(written: Sequence[int]) -> Tensor:
    """The words right, ahead, direction of a pose -> (4, 4) float64, camera 2 in camera 1's own (tilted,
    OpenCV) frame, in metres; both cameras look down by camera.PITCH. Raises ValueError for other words."""
    if len(written) != 3 or any(word not in may for word, may in zip(written, POSE_GRAMMAR, strict=True)):
        said = " ".join(words.TOKENS[word] for word in written)
        raise ValueError(f"a pose is two offsets and a direction, not {said!r}")
    right, ahead, turned = written
    place = [(word - words.OFFSET_0) * words.METRES - 8 for word in (right, ahead)]
    direction = (turned - words.DIRECTION_0) * 2 * math.pi / words.DIRECTIONS
    cameras = camera.pose(
        torch.tensor([[0.0, 0.0, 0.0], [*place, 0.0]], dtype=torch.float64),
        math.pi / 2 - torch.tensor([0.0, direction], dtype=torch.float64),
        torch.full((2,), camera.PITCH, dtype=torch.float64),
    )
    return camera.relative(cameras[0], cameras[1])


def pose_words(matrix: Tensor) -> list[int]:
    """`pose_matrix` turned round: (4, 4) -> the nearest words <campose> ... </campose>."""
    first = camera.pose(
        torch.zeros(1, 3, dtype=torch.float64),
        torch.tensor([math.pi / 2], dtype=torch.float64),
        torch.tensor([camera.PITCH], dtype=torch.float64),
    )
    both = torch.cat([first, first @ matrix.double()])[None]  # (1, 2, 4, 4)
    return words.nearest(pose(both))[0].tolist()
