"""The colour of a point on a surface, in closed form: a function of surface coordinates only.

So two cameras that see a point see the same paint, which is what makes two-view geometry on these
pictures honest. The one dependence on the view is the footprint of a pixel: detail finer than it
fades out instead of aliasing (as mip-mapping does).

Arithmetic stands in for branches throughout (`lerp` by a mask of 0 and 1): on the CPU `where` costs
some twenty times a multiplication.
"""

from collections.abc import Callable

import torch
from torch import Tensor

OCTAVES = 5
_TURN = (0.8, 0.6)  # cosine and sine between octaves: their lattices must not line up
_ODD = (0x27D4EB2D, 0x165667B1, 0x2C1B3C6D)


def step(x: Tensor) -> Tensor:
    """0 where x <= 0, 1 where x > 0 (a ramp of 1e-9 between)."""
    return (x * 1e9).clamp(0.0, 1.0)


def lattice(ix: Tensor, iy: Tensor, salt: Tensor) -> Tensor:
    """A random number in [0, 1] for each point of an integer lattice, any equal shapes.

    h (2h + 1) is a permutation of the integers modulo 2^32 (the one in RC6); applied twice, its
    high bits are random enough for paint, and it needs no shifts, which are slow in torch.
    """
    h = ix * _ODD[0] + iy * _ODD[1] + salt
    h = h * (2 * h + 1) + _ODD[2]
    h = h * (2 * h + 1)
    return h.to(torch.float32) * 2.0**-32 + 0.5


def value_noise(u: Tensor, v: Tensor, salt: Tensor) -> Tensor:
    """Smooth noise in [-1, 1] with features of size 1: shapes equal, salt int32."""
    fu, fv = u.floor(), v.floor()
    iu, iv = fu.to(torch.int32), fv.to(torch.int32)
    u, v = u - fu, v - fv
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    near = torch.lerp(lattice(iu, iv, salt), lattice(iu + 1, iv, salt), u)
    far = torch.lerp(lattice(iu, iv + 1, salt), lattice(iu + 1, iv + 1, salt), u)
    return torch.lerp(near, far, v) * 2 - 1


def fractal_noise(u: Tensor, v: Tensor, footprint: Tensor, salt: Tensor) -> tuple[Tensor, Tensor]:
    """Octaves of noise added up: (all of them, the two coarsest), each about within [-1, 1].

    u, v and the footprint of a pixel are in units of the coarsest feature.
    """
    total = coarse = torch.zeros_like(u)
    weight, scale = 0.62, 1.0
    for octave in range(OCTAVES):
        sharp = (1.6 - 2.5 * scale * footprint).clamp(0.0, 1.0)
        total = total + weight * sharp * value_noise(u, v, salt + octave * 7919)
        if octave == 1:
            coarse = total
        u, v = _TURN[0] * u - _TURN[1] * v, _TURN[1] * u + _TURN[0] * v
        u, v = 2.03 * u + 17.3, 2.03 * v + 5.7
        weight, scale = weight * 0.78, scale * 2.03
    return total, coarse


def paint(
    column: Callable[[str], Tensor],
    salt: Tensor,
    u: Tensor,
    v: Tensor,
    footprint: Tensor,
    edge: Tensor,
    extent: Tensor,
    rich: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue (sRGB-coded, 0..1) of points on surfaces; all shapes alike.

    `column(name)` gives a setting of each point's material (see `materials.COLUMNS`); u, v are
    coordinates on the surface, `footprint` the width of a pixel there, `edge` the distance to the
    border of the decal the point is on (large if none), all in metres; `extent` is the height of
    that decal. `rich=False` leaves out what only rich materials have: noise, speckles, pictures.
    """
    cell_u, cell_v = column("cell_u"), column("cell_v")
    # Coordinates: exchanged by `turn`, and by `weave` in every second square.
    odd = _parity((u / cell_u).floor() + (v / cell_u).floor())
    swap = (column("turn") + column("weave") * odd).clamp(max=1.0)
    u, v = torch.lerp(u, v, swap), torch.lerp(v, u, swap)

    # Cells, in rows that may be shifted against each other.
    y = v / cell_v
    row = y.floor()
    irow = row.to(torch.int32)
    x = u / cell_u + column("shift") * row
    if rich:
        x = x + column("stagger") * lattice(irow, irow * 3 + 1, salt) * 0.999
    col = x.floor()
    icol = col.to(torch.int32)
    fx, fy = x - col, y - row
    joint = torch.minimum(
        torch.minimum(fx, 1 - fx) * cell_u, torch.minimum(fy, 1 - fy) * cell_v
    )  # metres to the nearest joint
    lot = lattice(icol, irow, salt)
    checker = column("checker")
    sharp = (2 * joint / footprint).clamp(max=1.0)  # half each within half a pixel of a joint
    mix = checker * (0.5 + sharp * (_parity(col + row) - 0.5))
    tone = 1 + column("tone") * sharp * (_fraction(lot * 61.7) - 0.5)

    if rich:
        mix = mix + column("mosaic") * lot
        frequency, start = column("frequency"), column("offset") * lot * 83.0
        noise, coarse = fractal_noise(
            u * frequency / column("stretch") + start,
            v * frequency + start,
            footprint * frequency,
            salt,
        )
        mix = mix + column("vein") * (coarse + 0.12).clamp(min=0.0) * 1.5
        tone = tone * (1 + column("grain") * noise)
    mix = mix.clamp(0.0, 1.0)
    colour = [torch.lerp(column(f"a_{c}"), column(f"b_{c}"), mix) for c in _RGB]
    line_colour = [column(f"line_{c}") for c in _RGB]

    half = column("line")
    line = ((half - joint) / footprint + 0.5).clamp(0.0, 1.0) * (2 * half / footprint).clamp(max=1)
    if rich:
        spot = _speckle(u, v, column("speckle_frequency"), column("speckle"), footprint, salt)
        line = torch.maximum(line, spot)
    colour = [torch.lerp(c, j, line) for c, j in zip(colour, line_colour, strict=True)]
    if rich:
        painted = column("picture")
        scene = _landscape(u / extent, v / extent, colour, column, salt)
        colour = [torch.lerp(c, s, painted) for c, s in zip(colour, scene, strict=True)]
        frame = ((column("frame") - edge) / footprint + 0.5).clamp(0.0, 1.0)
        frame = frame * step(column("frame"))
        colour = [torch.lerp(c, j, frame) for c, j in zip(colour, line_colour, strict=True)]
    red, green, blue = ((c * tone).clamp(0.0, 1.0) for c in colour)
    return red, green, blue


_RGB = ("red", "green", "blue")


def _fraction(x: Tensor) -> Tensor:
    return x - x.floor()


def _parity(x: Tensor) -> Tensor:
    """0.0 for even and 1.0 for odd whole numbers."""
    return x - 2 * (x * 0.5).floor()


def _speckle(
    u: Tensor, v: Tensor, frequency: Tensor, share: Tensor, footprint: Tensor, salt: Tensor
) -> Tensor:
    """Round spots, one at most in each square of side 1 / frequency: cover in [0, 1]."""
    x, y = u * frequency, v * frequency
    col, row = x.floor(), y.floor()
    lot = lattice(col.to(torch.int32), row.to(torch.int32), salt + 104729)
    cx, cy = _fraction(lot * 37.1), _fraction(lot * 911.7)
    radius = 0.10 + 0.22 * _fraction(lot * 5003.3)
    middle = 0.35 + 0.3 * cx, 0.35 + 0.3 * cy
    away = ((x - col - middle[0]).square() + (y - row - middle[1]).square()).sqrt()
    cover = ((radius - away) / (footprint * frequency) + 0.5).clamp(0.0, 1.0)
    # A spot smaller than the pixel covers only a part of it.
    return cover * step(share - lot) * (radius / (footprint * frequency)).clamp(max=1.0)


def _landscape(
    u: Tensor, v: Tensor, sky: list[Tensor], column: Callable[[str], Tensor], salt: Tensor
) -> list[Tensor]:
    """Sun and three ranges of hills under a sky of the material's colour a; u, v from 0 upwards."""
    b = [column(f"b_{c}") for c in _RGB]
    colour = [torch.lerp(s, torch.ones_like(s), (0.55 - 0.5 * v).clamp(0.0, 0.5)) for s in sky]
    place = lattice(salt, salt, salt)
    sun = step(0.13 - ((u - 0.3 - place).square() + (v - 0.72).square()).sqrt())
    sunlight = (0.98, 0.86, 0.55)
    colour = [c + sun * (s - c) for c, s in zip(colour, sunlight, strict=True)]
    for k in range(3):
        ridge = (
            0.56
            - 0.17 * k
            + 0.13 * value_noise(u * (1.7 + 1.1 * k) + 31.0 * k, torch.zeros_like(u), salt + k)
        )
        hill = step(ridge - v)
        depth = 1.1 - 0.3 * k  # nearer hills are darker
        colour = [torch.lerp(c, s * depth, hill) for c, s in zip(colour, b, strict=True)]
    return colour
