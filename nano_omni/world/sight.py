"""What two or three views of a room show, and how they relate: the ground on which questions stand.

Directions are radians in [-pi, pi], clockwise seen from above, 0 ahead; places are metres (to the right,
ahead) in the level frame of a camera.
"""

import itertools
import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .randomness import uniform
from .scene import MAX_OBJECTS, SHAPES, Scene
from .viewpoints import aimed

SEEN, HIDDEN = 24 / 4096, 2 / 4096  # shares of a picture: at least, at most; between them: not asked about
VIEWS = 16  # candidate views, of which two are taken
BEHIND = 0.7  # share of scenes in which an object behind camera 1 is looked for


@dataclass(frozen=True)
class Sight:
    """What V views, two or three, show of the K objects of each of B scenes.

    seeds (B,) int64; c2w (B, V, 4, 4); kind (B, K), names, colour * 4 + shape; shares (B, V, K) of the
    pictures; seen, hidden (B, V, K) bool, enough to be asked about and not at all; known (B, K), seen in
    some photo; photo (B, K), from 0, the first that shows it; bearing and distance (B, V, K) in the level
    frame of each camera; place (B, K, 2) in that of camera 1. walls (B, V), the direction of the room's
    x axis from each camera; size (B, 2), the room's extent.
    """

    seeds: Tensor
    c2w: Tensor
    size: Tensor
    kind: Tensor
    shares: Tensor
    seen: Tensor
    hidden: Tensor
    known: Tensor
    photo: Tensor
    bearing: Tensor
    distance: Tensor
    place: Tensor
    walls: Tensor

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: Tensor | slice) -> "Sight":
        return Sight(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @property
    def count(self) -> int:
        """V."""
        return self.seen.shape[1]

    @property
    def only(self) -> Tensor:
        """Whether this photo shows an object and every other one hides it: (B, V, K)."""
        others = self.hidden.sum(1, keepdim=True) - self.hidden.long()
        return self.seen & (others == self.count - 1)

    def there(self, values: Tensor) -> Tensor:
        """Of values (B, V, K) by view, those in the photo that shows each object: (B, K)."""
        return values.gather(1, self.photo[:, None])[:, 0]


def sight(scene: Scene, c2w: Tensor, ids: Tensor) -> Sight:
    """Views (B, V, 4, 4) and their maps of object ids (B, V, H, W)."""
    shares = visibility(ids)
    seen = (shares >= SEEN) & scene.present[:, None]
    spots = level_frame(c2w, scene.position)  # (B, 2, K, 2)
    return Sight(
        seeds=scene.seeds,
        c2w=c2w,
        size=scene.size[:, :2],
        kind=scene.colour * len(SHAPES) + scene.shape,
        shares=shares,
        seen=seen,
        hidden=(shares <= HIDDEN) | ~scene.present[:, None],
        known=seen.any(1),
        photo=seen.long().argmax(1),
        bearing=angle(spots),
        distance=spots.square().sum(-1).sqrt(),
        place=spots[:, 0],
        walls=angle(torch.stack([c2w[..., 0, 0], c2w[..., 0, 2]], -1)),
    )


def visibility(ids: Tensor) -> Tensor:
    """Share of each picture that each object fills: ids (B, V, H, W) -> (B, V, K)."""
    pixels = ids.flatten(2)
    return torch.stack([(pixels == k + 1).float().mean(-1) for k in range(MAX_OBJECTS)], dim=-1)


def level_frame(c2w: Tensor, points: Tensor) -> Tensor:
    """World places (B, K, 2) in the level frames of cameras (B, V, 4, 4): (B, V, K, 2) right, ahead."""
    right, ahead = c2w[..., :2, 0], c2w[..., :2, 2]
    ahead = ahead / ahead.square().sum(-1, keepdim=True).sqrt()
    away = points[:, None] - c2w[..., None, :2, 3]  # (B, V, K, 2)
    return torch.stack([(away * right[..., None, :]).sum(-1), (away * ahead[..., None, :]).sum(-1)], -1)


def angle(vector: Tensor) -> Tensor:
    """Clockwise from ahead, of vectors (..., 2) right, ahead."""
    return torch.atan2(vector[..., 0], vector[..., 1])


def wrap(radians: Tensor) -> Tensor:
    return torch.remainder(radians + math.pi, 2 * math.pi) - math.pi


def relative_pose(c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Of camera 2 in the level frame of camera 1: place (B, 2) and direction of view (B,)."""
    place = level_frame(c2w[:, :1], c2w[:, 1:, :2, 3])[:, 0, 0]
    ahead = level_frame(c2w[:, :1], c2w[:, 1:, :2, 3] + c2w[:, 1:, :2, 2])[:, 0, 0] - place
    return place, angle(ahead)


def viewpoints(scene: Scene, count: int = 2) -> Tensor:
    """Views that can be asked about, two or three of VIEWS candidates: (B, count, 4, 4) c2w.

    Preferred are views that share an object or two (else nothing tells how they relate) and each show
    one that the others do not. Hiding of one object by another is left to `visibility`. Raises ValueError
    for another count.
    """
    if count not in (2, 3):
        raise ValueError(f"questions go across two or three photos, not {count}")
    c2w = aimed(scene, VIEWS)
    spots = level_frame(c2w, scene.position)  # (B, V, K, 2)
    far = spots.square().sum(-1).sqrt()
    off = angle(spots).abs()  # from the middle of the picture
    there = scene.present[:, None]
    inside = (off < math.radians(40)) & (far > 0.9) & there
    outside = (off > math.radians(46) + 1.2 * scene.radius[:, None] / far.clamp(min=0.5)) & there
    if count == 3:
        return _three(scene, c2w, inside, outside)
    behind = outside & (off > math.radians(100))
    i, j = (
        torch.tensor(index, device=scene.device)
        for index in zip(*itertools.permutations(range(VIEWS), 2), strict=True)
    )
    both, either = (inside[:, i] & inside[:, j]).sum(-1), (inside[:, i] | inside[:, j]).sum(-1)  # (B, P)
    mine, yours = (inside[:, i] & outside[:, j]).any(-1), (outside[:, i] & inside[:, j]).any(-1)
    back = (behind[:, i] & inside[:, j]).any(-1)
    # Objects behind camera 1 are rare among such pairs: in a part of the scenes they are asked for.
    lot = uniform(scene.seeds, "questions.behind", 1) < BEHIND
    score = 2.5 * both.clamp(max=1) + 2.0 * mine + 2.0 * yours + either.clamp(max=4) + 1.2 * (lot & back)
    score = score + 0.9 * uniform(scene.seeds, "questions.views", len(i))
    best = score.argmax(1)
    rows = torch.arange(len(scene), device=scene.device)
    return torch.stack([c2w[rows, i[best]], c2w[rows, j[best]]], dim=1)


def _three(scene: Scene, c2w: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Of views (B, V, 4, 4) that show objects (B, V, K) or surely do not, the three that need each other:
    each shows one that no other does, and each shares one with another."""
    triples = torch.tensor(list(itertools.combinations(range(VIEWS), 3)), device=scene.device)  # (T, 3)
    shown, hidden = inside[:, triples], outside[:, triples]  # (B, T, 3, K)
    others = hidden.sum(2, keepdim=True) - hidden.long()
    alone = (shown & (others == 2)).any(-1).sum(-1)  # (B, T)
    links = torch.stack([(shown[:, :, a] & shown[:, :, b]).any(-1) for a, b in ((0, 1), (0, 2), (1, 2))])
    score = 2.5 * alone + 1.5 * links.sum(0).clamp(max=2) + 0.5 * shown.any(2).sum(-1)
    best = (score + 0.5 * uniform(scene.seeds, "questions.three", len(triples))).argmax(1)
    rows = torch.arange(len(scene), device=scene.device)[:, None]
    return c2w[rows, triples[best]]
