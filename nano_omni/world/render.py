"""Pictures of scenes with exact z-depth and object ids: every pixel a ray, batched over B and V.

Shapes depend on the arguments only, never on what is seen, so the inner function compiles as it is
(`compiled=True`). Work is cut into chunks of rays so that memory stays bounded.
"""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from .rays import Solids, intersect, solids
from .scene import Scene
from .shading import Looks, looks, shade

# Rays worked on at once. On the CPU temporaries should stay in cache; a GPU wants to be filled.
_CPU_CHUNK, _GPU_CHUNK = 65_536, 4_194_304


@dataclass(frozen=True)
class Views:
    """V pictures of each of B scenes.

    images (B, V, H, W, 3) float32, sRGB-coded, 0..1; depth (B, V, H, W) float32, metres along the
    optical axis (z, not the length of the ray); ids (B, V, H, W) int64, 0 for the room and k + 1
    for object k. Depth and ids belong to the centre of the pixel, also where the image is averaged
    over samples.
    """

    images: Tensor
    depth: Tensor
    ids: Tensor


@torch.no_grad()
def render(
    scene: Scene,
    c2w: Tensor,
    matrix: Tensor,
    width: int,
    height: int,
    samples: int = 1,
    compiled: bool = False,
    chunk: int | None = None,
) -> Views:
    """Render poses (B, V, 4, 4) of B scenes through one camera `matrix` (3, 3), in pixels.

    `samples` per side of a pixel are averaged (2: four rays a pixel) against jagged edges. `chunk`
    bounds the rays worked on at once. Runs on the scene's device. Cameras are taken to be inside
    the room and outside its objects. Raises ValueError for a shape of `c2w` that does not fit.
    """
    batch, device = len(scene), scene.device
    if c2w.dim() != 4 or c2w.shape[0] != batch or c2w.shape[2:] != (4, 4):
        raise ValueError(f"c2w must have shape ({batch}, V, 4, 4), not {tuple(c2w.shape)}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    views, pixels = c2w.shape[1], width * height
    trace = _compiled_trace() if compiled else _trace
    chunk = chunk or (_CPU_CHUNK if device.type == "cpu" else _GPU_CHUNK)
    surfaces, rooms = looks(scene), solids(scene)

    shots = c2w.to(device=device, dtype=torch.float32).reshape(batch * views, 4, 4)
    matrix = matrix.to(device=device, dtype=torch.float32)
    index = torch.arange(batch, device=device).repeat_interleave(views)  # (N,)
    rays_x = (torch.arange(width, device=device) + 0.5 - matrix[0, 2]) / matrix[0, 0]
    rays_y = (torch.arange(height, device=device) + 0.5 - matrix[1, 2]) / matrix[1, 1]
    rays_x, rays_y = rays_x.repeat(height), rays_y.repeat_interleave(width)  # (H W)
    pixel = 1 / matrix[0, 0]

    images = torch.empty(batch * views, pixels, 3, device=device)
    depth = torch.empty(batch * views, pixels, device=device)
    ids = torch.empty(batch * views, pixels, dtype=torch.int64, device=device)
    rows = max(1, chunk // pixels)  # shots in a chunk
    parts = -(-pixels // chunk)
    span = -(-pixels // parts)  # pixels in a chunk
    for i in range(0, batch * views, rows):
        own = index[i : i + rows]
        for j in range(0, pixels, span):
            part = slice(i, i + rows), slice(j, j + span)
            images[part], depth[part], ids[part] = trace(
                *(rooms[own], surfaces, own[:, None], shots[i : i + rows]),
                *(rays_x[part[1]], rays_y[part[1]], pixel, samples),
            )
    frame = (batch, views, height, width)
    return Views(images.view(*frame, 3), depth.view(frame), ids.view(frame))


def to_uint8(images: Tensor) -> Tensor:
    """Images of floats in 0..1 as bytes, rounded; any shape."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def _trace(
    rooms: Solids,
    surfaces: Looks,
    index: Tensor,
    c2w: Tensor,
    rays_x: Tensor,
    rays_y: Tensor,
    pixel: Tensor,
    samples: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """N shots along the same R camera rays: images (N, R, 3), depth (N, R), ids (N, R)."""
    origin = tuple(c2w[:, axis, 3:] for axis in range(3))  # (N, 1) each
    light: tuple[Tensor, ...] = ()
    middle = None
    for row in range(samples):
        for col in range(samples):
            shift_x = ((col + 0.5) / samples - 0.5) * pixel
            shift_y = ((row + 0.5) / samples - 0.5) * pixel
            ray = _directions(c2w, rays_x + shift_x, rays_y + shift_y)
            met = intersect(rooms, origin, ray)
            if 2 * row + 1 == samples and 2 * col + 1 == samples:
                middle = met
            lit = shade(rooms, surfaces, index, origin, ray, met, pixel / samples)
            lit = tuple(c.clamp(0.0, 1.0) for c in lit)
            light = tuple(a + b for a, b in zip(light, lit, strict=True)) if light else lit
    if middle is None:  # no sample of an even number falls on the centre
        middle = intersect(rooms, origin, _directions(c2w, rays_x, rays_y))
    image = torch.stack([(c / samples**2).sqrt() for c in light], dim=-1)  # (N, R, 3)
    return image, middle[0], middle[1].round().long()


def _directions(c2w: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """World directions of camera rays (x, y, 1): (N, 4, 4), (R,) -> (N, R) each."""
    a, b, c = (c2w[:, axis, 0:1] * x + c2w[:, axis, 1:2] * y + c2w[:, axis, 2:3] for axis in range(3))
    return a, b, c


@functools.cache
def _compiled_trace():
    return torch.compile(_trace, dynamic=False)
