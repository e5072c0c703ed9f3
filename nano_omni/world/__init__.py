"""Procedural rooms with exact ground truth: pictures, z-depth, object ids and camera poses.

    pair = render_pair(seed=7)            # two photos of one room, 640 x 480, and how they relate
    pair.images, pair.depth, pair.relative

For training, draw a batch of scenes and render it where the model lives:

    scene = sample_scenes(torch.arange(256, device="cuda"))
    views = render(scene, aimed(scene, count=3), intrinsics(64, 64), 64, 64, compiled=True)

Modules: `scene` (what is in a room), `materials` and `texture` (how it looks), `camera` (pinhole
geometry), `viewpoints` (where cameras stand), `rays`, `shading` and `render` (pictures of it).
"""

from dataclasses import dataclass

from torch import Tensor

from .camera import FIELD_OF_VIEW, intrinsics, relative
from .render import Views, render, to_uint8
from .scene import COLOURS, SHAPES, Scene, sample_scenes
from .viewpoints import aimed, pair, walk

__all__ = [
    "COLOURS",
    "SHAPES",
    "Pair",
    "Scene",
    "Views",
    "aimed",
    "intrinsics",
    "pair",
    "relative",
    "render",
    "render_pair",
    "sample_scenes",
    "to_uint8",
    "walk",
]


@dataclass(frozen=True)
class Pair:
    """Two photos of one room.

    images uint8 (2, H, W, 3); depth float32 (2, H, W), z in metres; ids int64 (2, H, W), 0 for the
    room and k + 1 for object k of `scene`; c2w (2, 4, 4); intrinsics (3, 3) in pixels; relative
    (4, 4), the pose of photo 2 in the frame of photo 1, inv(c2w[0]) @ c2w[1].
    """

    images: Tensor
    depth: Tensor
    ids: Tensor
    c2w: Tensor
    intrinsics: Tensor
    relative: Tensor
    scene: Scene


def render_pair(
    seed: int,
    width: int = 640,
    height: int = 480,
    texture: str = "rich",
    samples: int = 2,
    field_of_view: float = FIELD_OF_VIEW,
    device: str | None = None,
) -> Pair:
    """Two overlapping photos of the room with this seed; field_of_view is horizontal, in radians.

    The same seed gives the same room at any size. Raises ValueError for an unknown `texture`.
    """
    scene = sample_scenes(seed, texture, device)
    matrix = intrinsics(width, height, field_of_view).to(scene.device)
    c2w = pair(scene, field_of_view=field_of_view, aspect=width / height)
    views = render(scene, c2w, matrix, width, height, samples)
    return Pair(
        images=to_uint8(views.images[0]),
        depth=views.depth[0],
        ids=views.ids[0],
        c2w=c2w[0],
        intrinsics=matrix,
        relative=relative(c2w[0, 0], c2w[0, 1]),
        scene=scene,
    )
