"""Where rays meet a room and its objects, exactly: no meshes, no marching.

The four shapes are two formulas. Sphere, cylinder and cone are quadrics
x^2 + y^2 + s (z - z0)^2 = q cut to the slab 0 <= z <= h; the box is three slabs. A miss is a
penalty on the distance, not a branch: every ray is tested against everything and the nearest wins.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .scene import SHAPES, Scene

_MISS = 1e10  # metres of penalty for each unit by which a condition is violated
_TINY = 1e-12  # keeps divisors from being zero
FAR = 1e4  # a ray that meets nothing; cannot happen inside a closed room


@dataclass(frozen=True)
class Solids:
    """What rays need to know of N rooms; (N, K) each unless said.

    x, y: the axis; height, half_width; cos, sin of yaw; s, z0, q: of the quadric; box, lid, absent:
    1.0 or 0.0 (box; flat top, there at all); half_x, half_y, top (N, 1): the room's extents.
    """

    x: Tensor
    y: Tensor
    height: Tensor
    half_width: Tensor
    cos: Tensor
    sin: Tensor
    s: Tensor
    z0: Tensor
    q: Tensor
    box: Tensor
    lid: Tensor
    absent: Tensor
    half_x: Tensor
    half_y: Tensor
    top: Tensor

    def __getitem__(self, index: Tensor | slice) -> "Solids":
        return Solids(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def solids(scene: Scene) -> Solids:
    """The geometry of each scene in the form that `intersect` reads."""
    sphere, box, cylinder, cone = (
        (scene.shape == SHAPES.index(name)).float() for name in ("sphere", "box", "cylinder", "cone")
    )
    slope = (scene.half_width / scene.height).square()
    wide = scene.half_width.square()
    half_x, half_y, top = (scene.size * torch.tensor([0.5, 0.5, 1.0], device=scene.device)).unbind(-1)
    return Solids(
        x=scene.position[..., 0],
        y=scene.position[..., 1],
        height=scene.height,
        half_width=scene.half_width,
        cos=scene.yaw.double().cos().float(),
        sin=scene.yaw.double().sin().float(),
        s=sphere - cone * slope,
        z0=sphere * scene.half_width + cone * scene.height,
        q=(sphere + cylinder) * wide,
        box=box,
        lid=box + cylinder,
        absent=1 - scene.present.float(),
        half_x=half_x[:, None],
        half_y=half_y[:, None],
        top=top[:, None],
    )


def intersect(
    rooms: Solids, origin: tuple[Tensor, ...], ray: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """The first thing each ray meets: t, id, face, all (N, R) float32.

    `origin` and `ray` are the x, y, z of where rays start (inside the room and outside all objects)
    and of their directions, (N, R) or (N, 1) each. The hit is at origin + t * ray; the direction
    need not have length one, so a direction with z-component 1 in the camera's frame makes t the
    z-depth. id is 0 for the room and k + 1 for object k. face is the face of the room behind
    whatever was met, an index into `materials.FACES`.
    """
    ox, oy, oz = origin
    dx, dy, dz = (d + _TINY for d in ray)
    # The room, from inside: the nearest of the three walls ahead.
    tx = (rooms.half_x * dx.sign() - ox) / dx
    ty = (rooms.half_y * dy.sign() - oy) / dy
    tz = (rooms.top * (dz.sign() * 0.5 + 0.5) - oz) / dz
    t = torch.minimum(torch.minimum(tx, ty), tz)
    on_x, on_y = (tx <= t).float(), (ty <= t).float()
    face = dz.sign() * 0.5 + 0.5
    face = torch.lerp(face, dy.sign() * 0.5 + 4.5, on_y)
    face = torch.lerp(face, dx.sign() * 0.5 + 2.5, on_x)

    hit = torch.zeros_like(t)
    for k in range(rooms.x.shape[1]):
        near = _object(rooms, slice(k, k + 1), ox, oy, oz, dx, dy, dz)
        closer = (near < t).float()
        t = torch.minimum(t, near)
        hit = torch.lerp(hit, torch.full_like(hit, k + 1.0), closer)
    return t, hit, face


def _object(rooms: Solids, k: slice, ox, oy, oz, dx, dy, dz) -> Tensor:
    """Distance along each ray to one object of each room, or something huge: (N, R)."""
    x, y = ox - rooms.x[:, k], oy - rooms.y[:, k]
    h, s = rooms.height[:, k], rooms.s[:, k]

    # Quadric: a t^2 + 2 b t + c = 0. Both roots: a ray may pass the upper half of a double cone.
    z = oz - rooms.z0[:, k]
    a = dx * dx + dy * dy + s * dz * dz + 1e-9
    b = x * dx + y * dy + s * z * dz
    c = x * x + y * y + s * z * z - rooms.q[:, k]
    inside = b * b - a * c
    root, missed = inside.clamp(min=0.0).sqrt(), (-inside).clamp(min=0.0)
    first, second = (-b - root) / a, (-b + root) / a
    curved = torch.minimum(_within(first, oz, dz, h), _within(second, oz, dz, h)) + _MISS * missed
    lid = (h - oz) / dz
    outside = ((a * lid + 2 * b) * lid + c).clamp(min=0.0)
    lid = lid + _MISS * (outside + (-lid).clamp(min=0.0) + (1 - rooms.lid[:, k]))
    quadric = torch.minimum(curved, lid)

    # Box: enter the last of three slabs before leaving the first.
    cos, sin, half = rooms.cos[:, k], rooms.sin[:, k], rooms.half_width[:, k]
    px, py = cos * x + sin * y, cos * y - sin * x
    qx, qy = cos * dx + sin * dy + _TINY, cos * dy - sin * dx + _TINY
    wide_x, wide_y, wide_z = half / qx.abs(), half / qy.abs(), 0.5 * h / dz.abs()
    mid_x, mid_y, mid_z = -px / qx, -py / qy, (0.5 * h - oz) / dz
    enter = torch.maximum(torch.maximum(mid_x - wide_x, mid_y - wide_y), mid_z - wide_z)
    leave = torch.minimum(torch.minimum(mid_x + wide_x, mid_y + wide_y), mid_z + wide_z)
    box = enter + _MISS * ((enter - leave).clamp(min=0.0) + (-enter).clamp(min=0.0))

    is_box = rooms.box[:, k]
    return quadric * (1 - is_box) + box * is_box + FAR * rooms.absent[:, k]


def _within(t: Tensor, oz: Tensor, dz: Tensor, h: Tensor) -> Tensor:
    """t where it is ahead and the hit lies in 0 <= z <= h; else huge."""
    z = oz + t * dz
    return t + _MISS * ((-t).clamp(min=0.0) + (-z).clamp(min=0.0) + (z - h).clamp(min=0.0))
