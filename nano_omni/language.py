"""Questions, thoughts and poses as words: how geometry is written for the model.

    question   at A facing B go C where D
    pose       <campose> right ahead direction </campose>
    posing     <campose> A 30deg 2.5m 345deg 1.25m 15deg 60deg right ahead direction </campose>
    an object  A photo2 30deg 2.5m +1.25m +3m
    thinking   <think> A photo2 30deg 2.5m +1.25m +3m B ... face 75deg to 120deg turn 45deg </think>
    answer     <answer> -> behind

In thinking every object stands before all that is said of it: the photo that shows it, direction and
distance there, then its place in camera 1's frame. (With the name anywhere else, after the photo or before
other names, what is said of it is not learned to be looked up.) Then what follows, one step after another.

A pose is worked out from an object that both photos show, its direction and distance in one and in the other,
and from how the walls stand to each camera (0 to 90 degrees: walls are at right angles, so that is the turn
between the photos but for quarters of a circle). As context it is read without that.
"""

import math
from collections.abc import Sequence
from functools import singledispatch

import torch
from torch import Tensor

from . import vocabulary as words
from .model import Grammar
from .vocabulary import INDEX, OBJECT_0, TwoHot
from .world import camera
from .world.questions import Form, Question, chains, comparing, counting
from .world.questions.chains import Chain
from .world.questions.comparing import Comparison
from .world.questions.counting import Count
from .world.scene import SHAPES
from .world.sight import Sight, relative_pose

POSE_LENGTH = 5
WORKINGS = 7  # words before those of the pose
POSING_LENGTH = WORKINGS + POSE_LENGTH
OBJECT_LENGTH = 6
LATENTS = 4  # hidden states that may be appended as context
SHAPE = -1  # in a template: the shape that is counted
TEMPLATES: dict[Form, tuple[str | int, ...]] = {  # a number: the object of that place
    1: ("at", "camera", "where", 0),
    2: ("at", 0, "facing", 1, "where", 2),
    3: ("at", 0, "facing", 1, "go", 2, "where", 3),
    4: ("at", 0, "facing", 1, "go", 2, "ahead", "where", 3),
    "count": ("count", SHAPE),
    "compare": ("near", 0, 1, 2),
}
_OBJECT = ("name", "photo", "bearing", "distance", "place", "place")
_FACE, _STAND, _TO, _TURN = ("tag", "face"), ("tag", "stand", "stand"), ("tag", "to"), ("tag", "turn")
# What each word of thinking says, between <think> and </think>.
ROLES: dict[Form, tuple[str, ...]] = {
    1: (*_OBJECT, *_TO),
    2: (*_OBJECT * 3, *_FACE, *_TO, *_TURN),
    3: (*_OBJECT * 4, *_FACE, *_TO, *_TURN),
    4: (*_OBJECT * 4, *_FACE, *_STAND, *_TO, *_TURN),
    "count": (*("photo", "bearing", "name") * counting.MOST, "tag", "total"),
    "compare": (*_OBJECT * comparing.OBJECTS, "tag", "apart", "apart"),
}


def question_length(form: Form) -> int:
    return len(TEMPLATES[form])


def think_length(form: Form) -> int:
    """Tags included."""
    return len(ROLES[form]) + 2


LONGEST_THOUGHT = max(map(think_length, ROLES))
"""Of a question, tags included."""


def roles(form: Form) -> list[str]:
    """What each word of thinking says: 'tag', 'name', 'bearing', 'distance', 'place', 'face', ..."""
    return ["tag", *ROLES[form], "tag"]


def word(like: Tensor, said: str) -> Tensor:
    return torch.full_like(like, INDEX[said], dtype=torch.long)


def question(asked: Question) -> Tensor:
    """(B, question_length) int64."""
    like = asked.answer

    def one(part: str | int) -> Tensor:
        if isinstance(part, str):
            return word(like, part)
        if part == SHAPE:
            assert isinstance(asked, Count)
            return asked.shape + INDEX[SHAPES[0]]
        assert isinstance(asked, Chain | Comparison)
        return asked.named[:, part] + OBJECT_0

    return torch.stack([one(part) for part in TEMPLATES[asked.form]], dim=1)


def choices(asked: Question) -> Tensor:
    """(B, n) int64, the words that may be answered; `asked.answer` says which is right."""
    if isinstance(asked, Comparison):
        return asked.named[:, 1:] + OBJECT_0
    said = counting.CHOICES if isinstance(asked, Count) else chains.CHOICES[asked.form]
    return torch.stack([word(asked.answer, choice) for choice in said], dim=1)


def answers(form: Form, question: Sequence[int]) -> list[int]:
    """The words that a question (question_length words) may be answered with."""
    if form == "compare":
        return list(question[2:])
    said = counting.CHOICES if form == "count" else chains.CHOICES[int(form)]
    return [INDEX[choice] for choice in said]


def pose(c2w: Tensor) -> TwoHot:
    """Of camera 2 in camera 1's level frame: views (B, 2, 4, 4) -> two-hot (B, POSE_LENGTH)."""
    place, ahead = relative_pose(c2w)
    return join(
        [
            words.exactly(word(ahead, "<campose>")),
            words.offset(place[:, 0]),
            words.offset(place[:, 1]),
            words.direction(ahead),
            words.exactly(word(ahead, "</campose>")),
        ]
    )


def posing(seen: Sight, pose: TwoHot) -> TwoHot:
    """The pose (B, POSE_LENGTH) worked out, from what both photos show best: two-hot (B, POSING_LENGTH)."""
    shown = seen.shares.amin(1) * seen.seen.all(1)  # (B, K)
    most, best = shown.max(1)
    rows = torch.arange(len(best), device=best.device)
    parts = [words.exactly(seen.kind[rows, best] + OBJECT_0)]
    for view in range(2):
        parts.append(words.direction(seen.bearing[rows, view, best]))
        parts.append(words.distance(seen.distance[rows, view, best]))
    keep, none = (most > 0)[:, None], INDEX["none"]
    low, high, share = join(parts)
    anchor = low.where(keep, none), high.where(keep, none), share * keep
    walls = join([words.quarter(seen.walls[:, view]) for view in range(2)])
    tags = [tuple(part[:, :1] for part in pose), tuple(part[:, 1:] for part in pose)]
    low, high, share = (torch.cat(said, 1) for said in zip(tags[0], anchor, walls, tags[1], strict=True))
    return low, high, share


def objects(seen: Sight) -> TwoHot:
    """Every object of a room in words, known or not: two-hot (B, K, OBJECT_LENGTH)."""
    parts = [
        words.exactly(seen.kind + OBJECT_0),
        words.exactly(seen.photo + INDEX["photo1"]),
        words.direction(seen.there(seen.bearing)),
        words.distance(seen.there(seen.distance)),
        words.offset(seen.place[..., 0]),
        words.offset(seen.place[..., 1]),
    ]
    low, high, share = (torch.stack([part[k] for part in parts], dim=-1) for k in range(3))
    return low, high, share


def told(objects: TwoHot, which: Tensor) -> list[TwoHot]:
    """The words of those objects (B, n), one after another, of all (B, K, OBJECT_LENGTH)."""
    index = which[..., None].expand(-1, -1, OBJECT_LENGTH)
    low, high, share = (part.gather(1, index).flatten(1) for part in objects)
    return [(low[:, k], high[:, k], share[:, k]) for k in range(low.shape[1])]


def think(asked: Question, objects: TwoHot) -> TwoHot:
    """Two-hot (B, think_length); objects: all of the room, as above."""
    like = asked.answer
    inside = _steps(asked, objects)
    return join([words.exactly(word(like, "<think>")), *inside, words.exactly(word(like, "</think>"))])


@singledispatch
def _steps(asked: Question, objects: TwoHot) -> list[TwoHot]:
    raise TypeError(f"no thoughts about a {type(asked).__name__}")


@_steps.register
def _(asked: Chain, objects: TwoHot) -> list[TwoHot]:
    like = asked.answer
    parts = told(objects, asked.objects)
    if asked.form > 1:
        parts += [words.exactly(word(like, "face")), words.direction(asked.face)]
    if asked.form == 4:
        parts.append(words.exactly(word(like, "stand")))
        parts += [words.offset(asked.stand[:, k]) for k in range(2)]
    parts += [words.exactly(word(like, "to")), words.direction(asked.to)]
    if asked.form > 1:
        parts += [words.exactly(word(like, "turn")), words.direction(asked.turn)]
    return parts


@_steps.register
def _(asked: Count, objects: TwoHot) -> list[TwoHot]:
    parts: list[TwoHot] = []
    none = INDEX["none"]
    for which in asked.listed.unbind(1):
        there = which >= 0
        told_of = told(objects, which.clamp(min=0)[:, None])
        for low, high, share in (told_of[1], told_of[2], told_of[0]):  # photo, bearing, name
            parts.append((low.where(there, none), high.where(there, none), share * there))
    total = words.exactly(asked.answer + INDEX[counting.CHOICES[0]])
    return [*parts, words.exactly(word(asked.answer, "total")), total]


@_steps.register
def _(asked: Comparison, objects: TwoHot) -> list[TwoHot]:
    far = [words.distance(asked.apart[:, k]) for k in range(2)]
    return [*told(objects, asked.objects), words.exactly(word(asked.answer, "near")), *far]


def join(parts: Sequence[TwoHot]) -> TwoHot:
    """Words (B,) one after another: (B, n)."""
    low, high, share = (torch.stack([part[k] for part in parts], dim=1) for k in range(3))
    return low, high, share


# What the words between <campose> and </campose> may be, read and written.
NAMES = range(OBJECT_0, OBJECT_0 + len(words.OBJECTS))
_DIRECTIONS = range(words.DIRECTION_0, words.DIRECTION_0 + words.DIRECTIONS)
_DISTANCES = range(words.DISTANCE_0, words.DISTANCE_0 + words.DISTANCES)
_OFFSETS = range(words.OFFSET_0, words.OFFSET_0 + words.OFFSETS)
OBJECT_GRAMMAR = (
    *(NAMES, (INDEX["photo1"], INDEX["photo2"]), _DIRECTIONS, _DISTANCES),
    *(_OFFSETS, _OFFSETS),
)
POSE_GRAMMAR = (_OFFSETS, _OFFSETS, _DIRECTIONS)
_QUARTERS = range(words.DIRECTION_0, words.DIRECTION_0 + words.DIRECTIONS // 4)
POSING_GRAMMAR = Grammar(
    (
        *((*may, INDEX["none"]) for may in (NAMES, *(_DIRECTIONS, _DISTANCES) * 2)),
        *(_QUARTERS,) * 2,
        *POSE_GRAMMAR,
    )
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
