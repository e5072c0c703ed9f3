"""Pinhole cameras: intrinsics, poses and what follows from them. No rooms in here.

OpenCV axes: +x right, +y down, +z forward. Metres, radians, pixels with centres at +0.5: pixel
(row i, column j) is seen through (j + 0.5, i + 0.5). A pose is camera-to-world (c2w). The world has
+z up (see `scene`).
"""

import math

import torch
from torch import Tensor

FIELD_OF_VIEW = math.pi / 2  # horizontal
HEIGHT = 1.45  # metres above the floor
PITCH = 0.18  # radians down


def intrinsics(width: int, height: int, field_of_view: float = FIELD_OF_VIEW) -> Tensor:
    """Square pixels, the principal point in the middle: (3, 3) float32, in pixels.

    `field_of_view` is horizontal, in radians. Raises ValueError outside (0, pi).
    """
    if not 0 < field_of_view < math.pi:
        raise ValueError(f"field_of_view must lie in (0, pi) radians, not {field_of_view}")
    focal = 0.5 * width / math.tan(0.5 * field_of_view)
    return torch.tensor([[focal, 0, 0.5 * width], [0, focal, 0.5 * height], [0, 0, 1.0]])


def pose(position: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """c2w of upright cameras: (..., 3), (...), (...) -> (..., 4, 4), in the dtype of `position`.

    yaw turns from world +x towards +y; pitch looks down.
    """
    cos, sin = yaw.cos(), yaw.sin()
    level, drop, zero = pitch.cos(), pitch.sin(), torch.zeros_like(yaw)
    right = torch.stack([sin, -cos, zero], dim=-1)
    down = torch.stack([-cos * drop, -sin * drop, -level], dim=-1)
    forward = torch.stack([cos * level, sin * level, -drop], dim=-1)
    upper = torch.stack([right, down, forward, position.to(right)], dim=-1)  # (..., 3, 4)
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat([upper, last], dim=-2).to(position.dtype)


def inverse(c2w: Tensor) -> Tensor:
    """World-to-camera of camera-to-world, or back: (..., 4, 4). Rotations are transposed."""
    turn = c2w[..., :3, :3].transpose(-1, -2)
    upper = torch.cat([turn, -turn @ c2w[..., :3, 3:]], dim=-1)
    return torch.cat([upper, c2w[..., 3:, :]], dim=-2)


def relative(c2w_a: Tensor, c2w_b: Tensor) -> Tensor:
    """The pose of camera b in the frame of camera a, inv(c2w_a) @ c2w_b: (..., 4, 4).

    Its translation is b's centre seen from a; it takes points of b's frame into a's.
    """
    return inverse(c2w_a) @ c2w_b


def rays(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Directions with z = 1 through pixel coordinates: (..., 2), (3, 3) -> (..., 3), camera frame.

    A direction times a z-depth is a point.
    """
    xy = (pixels - matrix[:2, 2]) / torch.stack([matrix[0, 0], matrix[1, 1]])
    return torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)


def unproject(depth: Tensor, matrix: Tensor) -> Tensor:
    """The point seen in each pixel of z-depth maps: (..., H, W) -> (..., H, W, 3), camera frame."""
    height, width = depth.shape[-2:]
    rows = torch.arange(height, device=depth.device) + 0.5
    cols = torch.arange(width, device=depth.device) + 0.5
    pixels = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), dim=-1)  # (H, W, 2)
    return rays(pixels, matrix.to(depth.device)) * depth[..., None]


def project(points: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel coordinates (..., 2) and z-depths (...) of points (..., 3) in the camera's frame.

    A depth at or below zero means behind the camera; its pixel coordinates mean nothing.
    """
    depth = points[..., 2]
    xy = points[..., :2] / depth.clamp(min=1e-6)[..., None]
    focal = torch.stack([matrix[0, 0], matrix[1, 1]]).to(points)
    return xy * focal + matrix[:2, 2].to(points), depth


def transform(matrix: Tensor, points: Tensor) -> Tensor:
    """Points (..., N, 3) moved by rigid motions (..., 4, 4)."""
    return turn(matrix, points) + matrix[..., None, :3, 3]


def turn(matrix: Tensor, points: Tensor) -> Tensor:
    """Points or directions (..., N, 3) turned by the rotations of (..., 4, 4), not moved.

    Written out because a batched product may round by the size of the batch it is in, and a choice
    of viewpoint must not hang on that.
    """
    axes = matrix[..., None, :3, :3]  # (..., 1, 3, 3)
    x, y, z = points[..., 0:1], points[..., 1:2], points[..., 2:3]
    return x * axes[..., 0] + y * axes[..., 1] + z * axes[..., 2]
