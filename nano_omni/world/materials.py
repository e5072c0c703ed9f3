"""What the surfaces of a scene look like, as a table of numbers that `texture` can evaluate.

A surface is a face of the room, a decal on a face (a picture on a wall, a rug) or an object. All of
them share one parametric material, a row of COLUMNS; brick, parquet, plaster and marble are
settings of it, not programs of their own. So a batch of different rooms needs no branching.
"""

import torch
from torch import Tensor

from .randomness import permutation, random_bits, uniform

FACES = ("floor", "ceiling", "west", "east", "south", "north")  # z=0, z=top, -x, +x, -y, +y
SLOTS = 2  # decals on a face
FIRST_DECAL = len(FACES)
FIRST_OBJECT = FIRST_DECAL + len(FACES) * SLOTS
_OBJECTS = 6
SURFACES = FIRST_OBJECT + _OBJECTS

# Lengths in metres, frequencies in cycles per metre, the rest fractions of 1.
COLUMNS = (
    *("a_red", "a_green", "a_blue"),  # the main colour
    *("b_red", "b_green", "b_blue"),  # the second colour: of checkers, stripes, veins
    *("line_red", "line_green", "line_blue"),  # of mortar, joints, speckles and frames
    *("cell_u", "cell_v"),  # size of a brick, tile, plank or stripe
    "turn",  # 1: u and v change places
    "weave",  # 1: they change places in every second square of side cell_u (basket parquet)
    "shift",  # how far each row of cells moves on, in cells (0.5: bricks)
    "stagger",  # the same at random (planks)
    "checker",  # how far cells alternate between the colours a and b
    "mosaic",  # how far a cell's colour lies at random between a and b
    "tone",  # how much cells differ in brightness
    "line",  # half the width of the joint between cells
    "grain",  # strength of the noise in brightness
    "vein",  # strength of the noise between a and b
    "frequency",  # of the coarsest octave of noise
    "stretch",  # how much longer than wide its features are (wood)
    "offset",  # 1: noise starts anew in every cell (planks, bricks)
    "speckle",  # share of places that hold a speckle
    "speckle_frequency",
    "frame",  # width of a decal's border
    "picture",  # 1: a little landscape is painted on it
)

# Kinds of surface: what differs from a smooth coat of colour a. `accent` is how far colour b moves
# from a to another colour of the palette, `shade` then its brightness; `joint` is the brightness
# of lines relative to a (above 1: towards white).
_DEFAULTS = dict.fromkeys(COLUMNS, 0.0) | {
    "cell_u": 200.0,
    "cell_v": 200.0,
    "frequency": 3.0,
    "stretch": 1.0,
    "speckle_frequency": 12.0,
    "accent": 0.0,
    "shade": 0.8,
    "joint": 0.5,
}
_PLAIN_WALLS = (
    {"cell_u": 0.50, "checker": 1.0, "shade": 0.72},
    {"cell_u": 0.50, "checker": 1.0, "turn": 1.0, "shade": 0.72},
    {"cell_u": 0.70, "cell_v": 0.70, "checker": 1.0, "shade": 0.80},
    {"cell_u": 1.00, "checker": 1.0, "accent": 0.5, "shade": 0.9},
)
_PLAIN_FLOORS = (
    {"cell_u": 0.60, "cell_v": 0.60, "checker": 1.0, "shade": 0.62},
    {"cell_u": 0.80, "cell_v": 0.20, "weave": 1.0, "tone": 0.25, "line": 0.008, "joint": 0.6},
    {"cell_u": 0.55, "cell_v": 0.55, "tone": 0.12, "line": 0.02, "joint": 0.55},
)
_RICH_WALLS = (
    {  # brick
        **{"cell_u": 0.27, "cell_v": 0.095, "shift": 0.5, "mosaic": 0.7, "shade": 0.62},
        **{"tone": 0.34, "line": 0.006, "joint": 1.25, "grain": 0.34, "frequency": 7.0},
        "offset": 1.0,
    },
    {  # plaster
        **{"grain": 0.22, "vein": 0.9, "frequency": 2.2, "shade": 0.70},
        **{"speckle": 0.16, "speckle_frequency": 19.0, "joint": 0.72},
    },
    {  # wallpaper
        **{"cell_u": 0.24, "checker": 0.75, "accent": 0.25, "shade": 0.88, "grain": 0.18},
        **{"speckle": 0.55, "speckle_frequency": 9.0, "joint": 1.35, "frequency": 5.0},
    },
    {  # upright boards
        **{"cell_u": 2.3, "cell_v": 0.14, "turn": 1.0, "stagger": 1.0, "tone": 0.30},
        **{"line": 0.004, "joint": 0.4, "grain": 0.40, "vein": 0.5, "frequency": 14.0},
        **{"stretch": 7.0, "offset": 1.0, "shade": 0.68},
    },
    {  # hewn stone
        **{"cell_u": 0.52, "cell_v": 0.30, "shift": 0.37, "mosaic": 1.0, "tone": 0.25},
        **{"line": 0.007, "joint": 0.6, "grain": 0.41, "vein": 0.5, "frequency": 6.0},
        **{"offset": 1.0, "shade": 0.66},
    },
)
_RICH_FLOORS = (
    {  # marble checkers
        **{"cell_u": 0.45, "cell_v": 0.45, "checker": 0.8, "shade": 0.55, "tone": 0.2},
        **{"line": 0.004, "joint": 0.45, "grain": 0.39, "vein": 0.4, "frequency": 6.0},
        **{"speckle": 0.2, "speckle_frequency": 21.0},
        "offset": 1.0,
    },
    {  # basket parquet
        **{"cell_u": 0.48, "cell_v": 0.12, "weave": 1.0, "tone": 0.38, "mosaic": 0.6},
        **{"line": 0.0025, "joint": 0.35, "grain": 0.34, "frequency": 18.0, "stretch": 7.0},
        **{"offset": 1.0, "shade": 0.70},
    },
    {  # planks
        **{"cell_u": 1.6, "cell_v": 0.15, "stagger": 1.0, "tone": 0.36, "mosaic": 0.6},
        **{"line": 0.003, "joint": 0.35, "grain": 0.38, "frequency": 14.0, "stretch": 8.0},
        **{"offset": 1.0, "shade": 0.68},
    },
    {  # terrazzo tiles
        **{"cell_u": 0.60, "cell_v": 0.60, "tone": 0.16, "line": 0.004, "joint": 0.5},
        **{"speckle": 0.8, "speckle_frequency": 16.0, "grain": 0.25, "vein": 0.5},
        **{"frequency": 4.0, "offset": 1.0, "shade": 0.72},
    },
)
_RICH_CEILINGS = ({"grain": 0.07, "vein": 0.2, "frequency": 6.0, "shade": 0.93},)
_PICTURES = (
    {"picture": 1.0, "grain": 0.35, "frequency": 9.0, "frame": 0.035, "accent": 1.0, "joint": 0.25},
    {"picture": 1.0, "grain": 0.35, "frequency": 9.0, "frame": 0.045, "accent": 1.0, "joint": 2.2},
    {  # coloured squares
        **{"cell_u": 0.13, "cell_v": 0.13, "mosaic": 1.0, "tone": 0.8, "accent": 1.0},
        **{"shade": 1.0, "line": 0.005, "joint": 0.2, "grain": 0.25, "frame": 0.03},
        "frequency": 8.0,
    },
    {  # poured paint
        **{"vein": 1.6, "grain": 0.3, "frequency": 3.5, "accent": 1.0, "shade": 1.0},
        **{"speckle": 0.5, "speckle_frequency": 11.0, "frame": 0.04, "joint": 0.22},
    },
)
_RUGS = (
    {
        **{"cell_u": 0.17, "checker": 0.9, "accent": 1.0, "shade": 0.9, "grain": 0.34},
        **{"frequency": 12.0, "frame": 0.09, "joint": 0.45, "vein": 0.2},
    },
    {
        **{"cell_u": 0.21, "cell_v": 0.21, "mosaic": 1.0, "tone": 0.4, "accent": 1.0},
        **{"shade": 0.9, "grain": 0.34, "frequency": 12.0, "frame": 0.10, "joint": 0.4},
    },
)
_RICH_OBJECTS = (
    {  # speckled
        **{"grain": 0.16, "frequency": 6.0, "vein": 0.3, "shade": 0.78},
        **{"speckle": 0.4, "speckle_frequency": 26.0, "joint": 0.55},
    },
    {  # veined
        **{"grain": 0.24, "frequency": 5.0, "vein": 0.8, "shade": 0.62},
        **{"speckle": 0.22, "speckle_frequency": 30.0, "joint": 1.4},
    },
)

_WALL_COLOURS = (
    *((0.80, 0.71, 0.56), (0.56, 0.66, 0.71), (0.64, 0.71, 0.55), (0.80, 0.60, 0.51)),
    *((0.66, 0.58, 0.71), (0.84, 0.79, 0.70), (0.50, 0.62, 0.60), (0.78, 0.65, 0.66)),
    *((0.62, 0.55, 0.48), (0.70, 0.74, 0.78)),
)
_FLOOR_COLOURS = (
    *((0.70, 0.52, 0.35), (0.60, 0.44, 0.31), (0.74, 0.66, 0.54), (0.62, 0.63, 0.64)),
    *((0.68, 0.60, 0.55), (0.56, 0.56, 0.50)),
)
_CEILING_COLOURS = ((0.90, 0.89, 0.86), (0.86, 0.88, 0.90))
_ART_COLOURS = (
    *((0.83, 0.42, 0.28), (0.18, 0.36, 0.52), (0.90, 0.75, 0.42), (0.30, 0.50, 0.40)),
    *((0.60, 0.24, 0.30), (0.88, 0.84, 0.76), (0.35, 0.30, 0.45), (0.47, 0.66, 0.72)),
)


def sample_materials(seeds: Tensor, object_colours: Tensor, texture: str) -> Tensor:
    """Materials of all surfaces: (B,) seeds and (B, K, 3) colours in 0..1 -> (B, SURFACES, P)."""
    rich = texture == "rich"
    plain_coat = ({},)
    floors = {"bare": plain_coat, "plain": _PLAIN_FLOORS, "rich": _RICH_FLOORS}[texture]
    walls = {"bare": plain_coat, "plain": _PLAIN_WALLS, "rich": _RICH_WALLS}[texture]
    groups = (
        (1, floors, _FLOOR_COLOURS, "floor"),
        (1, _RICH_CEILINGS if rich else plain_coat, _CEILING_COLOURS, "ceiling"),
        (4, walls, _WALL_COLOURS, "walls"),
        (2 * SLOTS, _RUGS if rich else plain_coat, _ART_COLOURS, "rugs"),
        (4 * SLOTS, _PICTURES if rich else plain_coat, _ART_COLOURS, "pictures"),
        (_OBJECTS, _RICH_OBJECTS if rich else plain_coat, None, "objects"),
    )
    materials = torch.cat([_group(seeds, *group, object_colours) for group in groups], dim=1)
    if texture == "bare":
        first = FACES.index("west")
        materials[:, first : first + 4] = materials[:, first : first + 1]  # all walls alike
    return materials


def _group(
    seeds: Tensor,
    count: int,
    kinds: tuple[dict[str, float], ...],
    palette: tuple[tuple[float, float, float], ...] | None,
    name: str,
    object_colours: Tensor,
) -> Tensor:
    """`count` surfaces, each of a random kind, in colours of one palette: (B, count, P)."""
    device, batch = seeds.device, seeds.shape[0]
    full = [_DEFAULTS | kind for kind in kinds]
    table = torch.tensor([list(kind.values()) for kind in full], device=device)  # (n, P + 3)
    order = permutation(seeds, f"{name}.kind", max(len(kinds), count)) % len(kinds)
    rows = table[order[:, :count]]  # (B, count, P + 3)
    settings, (accent, shade, joint) = rows[..., :-3], rows[..., -3:, None].unbind(-2)
    if palette is None:
        first, second = object_colours, object_colours
    else:
        # Neighbouring surfaces get different colours; the order is random (a fixed one would give
        # the camera's heading away).
        colours = torch.tensor(palette, device=device)
        order = permutation(seeds, f"{name}.colour", max(len(palette), count)) % len(palette)
        first, second = colours[order[:, :count]], colours[order.roll(-1, 1)[:, :count]]
        jitter = uniform(seeds, f"{name}.jitter", count * 3, -0.04, 0.04).view(batch, count, 3)
        first = first + jitter
    b = (first + accent * (second - first)) * shade
    line = first * joint.clamp(max=1.0)
    line = line + (0.92 - line) * (joint - 1).clamp(0.0, 1.0)
    return torch.cat([first, b, line, settings[..., 9:]], dim=-1)


def sample_salts(seeds: Tensor) -> Tensor:
    """A random int32 per surface that sets its noise apart from all others': (B, SURFACES)."""
    return (random_bits(seeds, "surfaces.salt", SURFACES) & 0x3FFFFFFF).to(torch.int32)


def sample_decals(seeds: Tensor, size: Tensor, texture: str) -> Tensor:
    """Rectangles on the faces of the room: (B, 6, SLOTS, 4) metres.

    The four numbers are the middle (u, v) and half the width and height, in the face's coordinates
    (see `shading.face_coordinates`). A half width below zero means that there is none.
    """
    batch = seeds.shape[0]
    decals = torch.zeros(batch, len(FACES), SLOTS, 4, device=seeds.device)
    decals[..., 2:] = -1.0
    if texture != "rich":
        return decals
    half_u = uniform(seeds, "rugs.width", 1, 0.75, 1.2)
    half_v = uniform(seeds, "rugs.length", 1, 0.6, 0.95)
    middle = size[:, :2] / 2 + uniform(seeds, "rugs.place", 2, -0.5, 0.5)
    decals[:, 0, 0] = torch.cat([middle, half_u, half_v], dim=1)

    draw = uniform(seeds, "pictures.place", 4 * SLOTS * 5).view(batch, 4, SLOTS, 5)
    length = size[:, [1, 1, 0, 0], None]  # (B, 4, 1): walls west, east, south, north
    slots = torch.arange(SLOTS, device=seeds.device)
    there = draw[..., 4] < 0.85
    pictures = torch.stack(
        [
            (slots + 0.5) * length / SLOTS + (draw[..., 0] - 0.5) * 0.5,
            1.35 + 0.45 * draw[..., 1],
            torch.where(there, 0.32 + 0.36 * draw[..., 2], -1.0),
            0.26 + 0.24 * draw[..., 3],
        ],
        dim=-1,
    )
    decals[:, 2:] = pictures
    return decals
