"""From what a ray met to the light it carries: which surface, its paint, the lamp and the shadows.

Not physics but a picture that reads well: Lambert from one ceiling lamp, soft shadows of the
ellipsoids that fit the objects, darkened corners and contacts, an ambient term. Light is added up
in linear units, taken as the square of the sRGB code (gamma 2).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .materials import COLUMNS, FACES, FIRST_DECAL, FIRST_OBJECT, SLOTS, SURFACES
from .rays import Solids
from .scene import Scene
from .texture import paint, step

_NORMALS = (  # of the room's faces, inwards, in the order of FACES
    (0.0, 0.0, 1.0, -1.0, 0.0, 0.0),
    (0.0, 0.0, 0.0, 0.0, 1.0, -1.0),
    (1.0, -1.0, 0.0, 0.0, 0.0, 0.0),
)
_LAMP_RADIUS = 0.30
_LAMP_COLOUR = (1.06, 1.0, 0.90)
_LAMP_DROP = 0.50  # metres below the ceiling, where its light seems to come from
_SKIRTING = (0.86, 0.84, 0.80)  # the board along the foot of rich walls


@dataclass(frozen=True)
class Looks:
    """The tables of surfaces of B scenes, laid out for gathering by scene and surface.

    materials (P, B * SURFACES); salts (B * SURFACES); decals (4, SLOTS, B * 6); normals (3, 6);
    lamp (B, 2).
    """

    materials: Tensor
    salts: Tensor
    decals: Tensor
    normals: Tensor
    lamp: Tensor
    rich: bool


def looks(scene: Scene) -> Looks:
    """The surfaces of each scene in the form that `shade` reads."""
    return Looks(
        materials=scene.materials.permute(2, 0, 1).flatten(1).contiguous(),
        salts=scene.salts.flatten(),
        decals=scene.decals.permute(3, 2, 0, 1).flatten(2).contiguous(),
        normals=torch.tensor(_NORMALS, device=scene.device),
        lamp=scene.lamp,
        rich=scene.texture == "rich",
    )


def face_coordinates(rooms: Solids, face: Tensor, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Metres along a face from its corner: floor and ceiling (x, y), walls (along, up)."""
    along_x, along_y = x + rooms.half_x, y + rooms.half_y
    wall = step(face - 1.5)
    across = step(face - 1.5) * step(3.5 - face)  # walls west and east run along y
    return torch.lerp(along_x, along_y, across), torch.lerp(along_y, z, wall)


def shade(
    rooms: Solids,
    surfaces: Looks,
    index: Tensor,
    origin: tuple[Tensor, ...],
    ray: tuple[Tensor, ...],
    met: tuple[Tensor, ...],
    pixel: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Linear red, green and blue of rays, (N, R) each.

    `index` (N, 1) says which scene of `surfaces` each row belongs to, `rooms` holds N rows already;
    `met` is what `rays.intersect` returned; `pixel` (a number tensor) is a pixel's width at z = 1.
    """
    t, hit, face = met
    x, y, z = (o + t * d for o, d in zip(origin, ray, strict=True))
    solid = hit.clamp(max=1.0)  # 1: an object, 0: the room

    # The room's surface: a face, or a decal on it.
    face_index = face.long()
    nx, ny, nz = (_gather(row, face_index) for row in surfaces.normals)
    u, v = face_coordinates(rooms, face, x, y, z)
    surface = face
    edge, extent = torch.full_like(t, 1e3), torch.ones_like(t)
    if surfaces.rich:
        bare = torch.ones_like(t)
        where = index * len(FACES) + face_index
        wall_u, wall_v = u, v
        for slot in range(SLOTS):
            cu, cv, hu, hv = (_gather(row, where) for row in surfaces.decals[:, slot])
            du, dv = wall_u - cu, wall_v - cv
            border = torch.minimum(hu - du.abs(), hv - dv.abs())
            on = step(border)
            surface = torch.lerp(surface, FIRST_DECAL + face * SLOTS + slot, on)
            u, v = torch.lerp(u, du + hu, on), torch.lerp(v, dv + hv, on)
            edge, extent = torch.lerp(edge, border, on), torch.lerp(extent, 2 * hv, on)
            bare = bare * (1 - on)

    # The object's surface: normal and coordinates in its own frame.
    object_normal, object_u, object_v, low = _object_surface(rooms, hit, x, y, z)
    nx, ny, nz = (torch.lerp(room, own, solid) for room, own in zip((nx, ny, nz), object_normal, strict=True))
    u, v = torch.lerp(u, object_u, solid), torch.lerp(v, object_v, solid)
    surface = torch.lerp(surface, FIRST_OBJECT - 1 + hit, solid)
    edge = torch.lerp(edge, torch.full_like(edge, 1e3), solid)

    # Paint.
    dx, dy, dz = ray
    length = (dx * dx + dy * dy + dz * dz).sqrt()
    facing = (nx * dx + ny * dy + nz * dz).abs() / length
    footprint = t * pixel / facing.clamp(min=0.08).sqrt()
    row = (index * SURFACES + surface.round().long()).flatten()

    def column(name: str) -> Tensor:
        return surfaces.materials[COLUMNS.index(name)].index_select(0, row).view_as(t)

    salt = surfaces.salts.index_select(0, row).view_as(t)
    colour = paint(column, salt, u, v, footprint, edge, extent, surfaces.rich)
    on_floor = (1 - face).clamp(min=0.0) * (1 - solid)
    on_wall = step(face - 1.5) * (1 - solid)
    if surfaces.rich:
        board = ((0.095 - z) / footprint + 0.5).clamp(0.0, 1.0) * on_wall * bare
        board = board * (1 - 0.45 * ((z - 0.08) / footprint + 0.5).clamp(0.0, 1.0))
        colour = tuple(c + board * (s - c) for c, s in zip(colour, _SKIRTING, strict=True))

    # Light.
    lamp_x, lamp_y = surfaces.lamp[index[:, 0]].unsqueeze(-1).unbind(1)  # (N, 1) each
    lx, ly, lz = lamp_x - x, lamp_y - y, rooms.top - _LAMP_DROP - z
    away = (lx * lx + ly * ly + lz * lz).sqrt()
    lx, ly, lz = lx / away, ly / away, lz / away
    lambert = (nx * lx + ny * ly + nz * lz).clamp(min=0.0)
    lit, contact = _shadows(rooms, hit, on_floor, x, y, z, lx, ly, lz)
    direct = 1.75 * lambert * lit / (1 + 0.09 * away * away)
    direct = direct * (1 - 0.6 * _is_ceiling(face) * (1 - solid))  # the lamp has a shade
    ambient = 0.29 + 0.07 * nz + 0.04 * nx  # the small tilt tells opposite faces apart
    corner = _corners(rooms, nx, ny, nz, x, y, z)
    light = (ambient * corner + direct) * contact * (1 - 0.30 * low * solid)
    gloss = 0.30 * solid * lit * _gloss((nx, ny, nz), (lx, ly, lz), ray, length)

    disc = (lamp_x - x).square() + (lamp_y - y).square()
    glow = _is_ceiling(face) * (1 - solid)
    lamp = ((_LAMP_RADIUS - disc.sqrt()) / footprint + 0.5).clamp(0.0, 1.0) * glow
    halo = 0.42 * glow / (1 + 3 * disc)
    red, green, blue = (
        torch.lerp((c * c * (light + halo) + gloss) * shine, torch.full_like(c, 1.2 * shine), lamp)
        for c, shine in zip(colour, _LAMP_COLOUR, strict=True)
    )
    return red, green, blue


def _gloss(normal: tuple[Tensor, ...], lamp: tuple[Tensor, ...], ray, length: Tensor) -> Tensor:
    """The highlight of the lamp (Blinn-Phong), the one light that depends on the viewer: (N, R)."""
    half = [a - b / length for a, b in zip(lamp, ray, strict=True)]
    norm = (half[0] * half[0] + half[1] * half[1] + half[2] * half[2]).sqrt() + 1e-9
    facing = sum(n * h for n, h in zip(normal, half, strict=True)) / norm
    facing = facing.clamp(min=0.0).square().square().square()  # ^8
    return facing.square().square()  # ^32


def _is_ceiling(face: Tensor) -> Tensor:
    """1.0 where the face is the ceiling."""
    return (1 - (face - 1).abs()).clamp(min=0.0)


def _gather(row: Tensor, index: Tensor) -> Tensor:
    return row.index_select(0, index.flatten()).view(index.shape)


def _object_surface(
    rooms: Solids, hit: Tensor, x: Tensor, y: Tensor, z: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor, Tensor]:
    """Normal in the world, u, v and how near the floor (0..1) of the points of objects.

    Coordinates are metres on the surface rolled out flat: cones and cylinders exactly, spheres by
    Lambert's equal-area projection from the top, boxes face by face. Where `hit` is 0 the numbers
    mean nothing.
    """
    rows = torch.arange(hit.shape[0], device=hit.device)[:, None]
    place = rows * rooms.x.shape[1] + (hit - 1).clamp(min=0.0).long()

    def of(table: Tensor) -> Tensor:
        return _gather(table.flatten(), place)

    height, half, box, lid = of(rooms.height), of(rooms.half_width), of(rooms.box), of(rooms.lid)
    cos, sin = of(rooms.cos), of(rooms.sin)
    x, y = x - of(rooms.x), y - of(rooms.y)
    x, y = cos * x + sin * y, cos * y - sin * x
    below = (height - z).clamp(min=0.0)
    on_lid = lid * step(1e-4 - below)

    # Round ones: the normal is the gradient of the quadric.
    gz = of(rooms.s) * (z - of(rooms.z0))
    norm = (x * x + y * y + gz * gz).sqrt() + 1e-9
    nx, ny, nz = x / norm, y / norm, gz / norm
    # Seams are at the back (local -x), and there are none on spheres.
    angle, out = torch.atan2(y, x), (x * x + y * y).sqrt()
    away = (out * out + below * below).sqrt() + 1e-9
    cone, column = step(-of(rooms.s)), lid * (1 - box) * (1 - on_lid)
    turned = angle * torch.lerp(torch.ones_like(out), out / away, cone)
    u = torch.lerp(away * turned.cos(), half * angle, column)
    v = torch.lerp(away * turned.sin(), below + 3.0, column)

    # Boxes: the side whose plane is nearest.
    side_x = step(x.abs() - y.abs()) * (1 - on_lid)
    side_y = (1 - side_x) * (1 - on_lid)
    nx, ny = torch.lerp(nx, side_x * x.sign(), box), torch.lerp(ny, side_y * y.sign(), box)
    face_u = x * (1 - side_x) + (y + 7 * x.sign()) * side_x + 17 * y.sign() * side_y
    face_v = y * on_lid + z * (1 - on_lid)
    u, v = torch.lerp(u, face_u, box), torch.lerp(v, face_v, box)

    nz = torch.lerp(nz * (1 - box), torch.ones_like(nz), on_lid)
    nx, ny = nx * (1 - on_lid), ny * (1 - on_lid)
    low = (1 - z / (0.45 * half)).clamp(0.0, 1.0)
    return (cos * nx - sin * ny, sin * nx + cos * ny, nz), u + 50.0, v + 50.0, low


def _shadows(rooms: Solids, hit: Tensor, on_floor: Tensor, x, y, z, lx, ly, lz) -> tuple[Tensor, Tensor]:
    """How much of the lamp a point sees, and the darkening under objects: (N, R) in 0..1 each.

    The shadow of an object is that of the ellipsoid that fits it, with a penumbra that widens with
    distance from it.
    """
    lit, contact = torch.ones_like(x), torch.ones_like(x)
    for k in range(rooms.x.shape[1]):
        k = slice(k, k + 1)
        half, height = rooms.half_width[:, k], rooms.height[:, k]
        there = 1 - rooms.absent[:, k]
        cx, cy = rooms.x[:, k] - x, rooms.y[:, k] - y
        flat = cx * cx + cy * cy
        squash = 2 * half / height
        cz, tz = (0.5 * height - z) * squash, lz * squash
        norm = (lx * lx + ly * ly + tz * tz).sqrt()
        along = (cx * lx + cy * ly + cz * tz) / norm
        miss = (flat + cz * cz - along * along).clamp(min=0.0).sqrt()
        soft = 0.25 * half + 0.16 * along.clamp(min=0.0)
        shade = ((1.1 * half - miss) / soft * 0.5 + 0.5).clamp(0.0, 1.0)
        shade = shade * shade * (3 - 2 * shade) * (along / half).clamp(0.0, 1.0)
        other = (hit - (k.start + 1)).abs().clamp(max=1.0)
        lit = lit * (1 - 0.85 * shade * other * there)
        near = (2.0 - flat.sqrt() / half).clamp(0.0, 1.0)
        contact = contact * (1 - 0.65 * near * near * there * on_floor)
    return lit, contact


def _corners(rooms: Solids, nx, ny, nz, x, y, z) -> Tensor:
    """Darkening where faces of the room meet, for points with the given normals: (N, R)."""
    shade = torch.ones_like(x)
    walls = (
        (rooms.half_x - x.abs(), nx.abs()),
        (rooms.half_y - y.abs(), ny.abs()),
        (z, nz.abs()),
        (rooms.top - z, nz.abs()),
    )
    for distance, turned in walls:
        shade = shade * (1 - 0.38 * (1 - turned) * (-distance.clamp(min=0.0) / 0.30).exp())
    return shade
