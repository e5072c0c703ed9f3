"""Where cameras stand in a room: single views, overlapping pairs, walks.

All draw from the scene's own seed: `draw` numbers repeated samples. No camera is inside an object
or the room's walls: each keeps CLEARANCE from both. Angles are worked out in float64, so that the
choices made here come out alike on CPU and CUDA.
"""

import torch
from torch import Tensor

from .camera import (
    FIELD_OF_VIEW,
    HEIGHT,
    PITCH,
    intrinsics,
    inverse,
    pose,
    project,
    rays,
    transform,
    turn,
)
from .materials import FACES
from .randomness import uniform
from .rays import Solids, intersect, solids
from .scene import Scene, reach, take

CLEARANCE = 0.25  # metres from walls and from the sides of objects
NEAREST = 1.1  # metres to the middle of the object that a camera is aimed at
AIM = 0.5  # radians a camera looks past the object it is aimed at, at most
_TRIES = 48


def clearance(scene: Scene, spots: Tensor) -> Tensor:
    """Metres from spots on the floor (B, T, 2) to the nearest wall or object: (B, T).

    Objects count as upright cylinders around their widest part.
    """
    to_wall = (scene.size[:, None, :2] / 2 - spots.abs()).amin(-1)  # (B, T)
    apart = (spots[:, :, None] - scene.position[:, None]).square().sum(-1).sqrt()  # (B, T, K)
    apart = apart - reach(scene)[:, None] + 1e3 * (~scene.present)[:, None]
    return torch.minimum(to_wall, apart.amin(-1))


def aimed(scene: Scene, count: int = 1, draw: int = 0) -> Tensor:
    """Views at about eye height, each aimed at a random object give or take AIM: (B, V, 4, 4) c2w.

    Height and pitch are within 5 cm and .04 rad of camera.HEIGHT and camera.PITCH.
    """
    spots, yaw, far = _candidates(scene, count * _TRIES, f"aimed.{draw}")
    batch = len(scene)
    room = torch.minimum(clearance(scene, spots), far).view(batch * count, _TRIES)
    chosen = take(torch.cat([spots, yaw[..., None]], -1).view(batch * count, _TRIES, 3), _first_free(room))
    spots, yaw = chosen[:, :2].view(batch, count, 2), chosen[:, 2].view(batch, count)
    level = uniform(scene.seeds, f"aimed.{draw}.level", count * 2, -1.0, 1.0).view(batch, count, 2)
    return _stand(spots, yaw, level)


def pair(
    scene: Scene,
    draw: int = 0,
    field_of_view: float = FIELD_OF_VIEW,
    aspect: float = 1.0,
    move: tuple[float, float] = (0.3, 0.9),
    turn_degrees: tuple[float, float] = (5.0, 25.0),
    overlap: float = 0.55,
    flat: float = 0.5,
) -> Tensor:
    """Two views that see much of the same: (B, 2, 4, 4) c2w.

    The second camera is `move` metres from the first, in any direction along the floor, and turned
    by `turn_degrees` to either side. Of a few dozen such pairs the first is taken that stands free
    and in which at least `overlap` of each picture (`field_of_view` radians wide, `aspect` width
    by height) is seen in the other, while no single wall fills more than `flat` of either (points
    on one plane leave the relative pose ambiguous). If none does, the free one that comes nearest.
    """
    batch, device = len(scene), scene.device
    first, yaw, far = _candidates(scene, _TRIES, f"pair.{draw}")
    unit = uniform(scene.seeds, f"pair.{draw}.step", _TRIES * 4).view(batch, _TRIES, 4)
    heading = unit[..., 0] * (2 * torch.pi)
    distance = move[0] + (move[1] - move[0]) * unit[..., 1]
    second = first + _towards(heading) * distance[..., None]
    low, high = (torch.pi / 180 * degrees for degrees in turn_degrees)
    side = torch.where(unit[..., 3] < 0.5, 1.0, -1.0)
    turned = yaw + (low + (high - low) * unit[..., 2]) * side
    level = uniform(scene.seeds, f"pair.{draw}.level", _TRIES * 4, -1.0, 1.0)
    level = level.view(batch, _TRIES, 2, 2)
    spots = torch.stack([first, second], dim=2)  # (B, T, 2, 2)
    poses = _stand(spots, torch.stack([yaw, turned], -1), level)  # (B, T, 2, 4, 4)

    room = clearance(scene, spots.flatten(1, 2)).view(batch, _TRIES, 2).amin(-1)
    room = torch.minimum(room, far)
    matrix = intrinsics(16, max(1, round(16 / aspect)), field_of_view).to(device)
    shared = torch.minimum(
        overlap_of(scene, poses[:, :, 0], poses[:, :, 1], matrix),
        overlap_of(scene, poses[:, :, 1], poses[:, :, 0], matrix),
    )  # (B, T)
    plane = flatness(scene, poses.flatten(1, 2), matrix).view(batch, _TRIES, 2).amax(-1)
    short = (overlap - shared).clamp(min=0.0) + (plane - flat).clamp(min=0.0)
    order = torch.arange(_TRIES, 0, -1, device=device)
    free = (room >= CLEARANCE).float()
    score = free * (2 - short + (short <= 0) * order) + (room - 10) * (1 - free)
    return take(poses, score)


def walk(scene: Scene, count: int, draw: int = 0, length: float = 2.5) -> Tensor:
    """A smooth walk of `count` poses: (B, count, 4, 4) c2w.

    A bent path of up to about `length` metres, shorter where objects leave less room, at even
    steps in the curve's parameter; the gaze swings from one object to another.
    """
    batch, device, tries = len(scene), scene.device, 4 * _TRIES
    start = aimed(scene, 1, draw)[:, 0]  # (B, 4, 4)
    unit = uniform(scene.seeds, f"walk.{draw}", tries * 2).view(batch, tries, 2)
    heading = unit[..., 0] * (2 * torch.pi)
    # Candidates grow shorter, the last ones so short that they stay within the start's clearance.
    size = length * 0.985 ** torch.arange(tries, device=device)  # (T,)
    size = size - size[-1] + 0.02
    bend = (unit[..., 1] - 0.5) * 2.4
    time = torch.linspace(0, 1, max(count, 2), device=device)[:count]
    fine = torch.linspace(0, 1, 48, device=device)

    def path(t: Tensor) -> Tensor:
        """Arcs: the heading turns by `bend` on the way; (B, T, len(t), 2)."""
        angle = heading[..., None] + bend[..., None] * t / 2  # a chord points half way
        chord = _towards(angle) * (size[:, None] * t)[..., None]
        return start[:, None, None, :2, 3] + chord

    spots = path(fine)  # (B, T, 48, 2)
    room = clearance(scene, spots.flatten(1, 2)).view(batch, tries, 48).amin(-1)
    way = take(path(time), _first_free(room))  # (B, n, 2)

    # The gaze ends on the object, not too near, that takes a swing of about half a radian.
    from_yaw = _bearing(start[:, None, :2, 2])  # (B, 1)
    to_object = scene.position - way[:, -1:]  # (B, K, 2)
    swing = _bearing(to_object) - from_yaw
    swing = _bearing(_towards(swing))  # wrapped to +-pi
    near = (1.2 - to_object.square().sum(-1).sqrt()).clamp(min=0.0)
    fit = -(swing.abs() - 0.5).abs() - 5 * near - 1e3 * (~scene.present)
    swing = take(swing, fit).clamp(-1.4, 1.4)
    yaw = from_yaw + swing[:, None] * (time * time * (3 - 2 * time))
    return _stand(way, yaw, torch.zeros(batch, count, 2, device=device))


def overlap_of(scene: Scene, c2w_a: Tensor, c2w_b: Tensor, matrix: Tensor) -> Tensor:
    """The share of picture a that picture b sees too: (B, T, 4, 4) twice -> (B, T) in 0..1.

    Measured on a grid of 8 x 6 rays of the camera `matrix` (3, 3): seen by both means in front of
    b, inside its picture and not hidden from it.
    """
    batch, tries = c2w_a.shape[:2]
    across, down = 2 * matrix[0, 2], 2 * matrix[1, 2]
    sight = _grid(matrix)
    rooms = solids(scene)
    depth, _, _ = _cast(rooms, c2w_a, sight.expand(batch, tries, -1, -1))
    points = transform(c2w_a, sight * depth[..., None])  # (B, T, 48, 3)
    seen = transform(inverse(c2w_b), points)
    pixels, distance = project(seen, matrix)
    inside = (pixels >= 0).all(-1) & (pixels[..., 0] < across) & (pixels[..., 1] < down)
    inside = inside & (distance > 0.1)
    towards = seen / distance.clamp(min=0.1)[..., None]
    reached, _, _ = _cast(rooms, c2w_b, towards)
    return (inside & (reached > 0.97 * distance)).float().mean(-1)


def flatness(scene: Scene, c2w: Tensor, matrix: Tensor) -> Tensor:
    """The share of a picture filled by one face of the room, the largest: (B, T, 4, 4) -> (B, T).

    Measured on the same grid as `overlap_of`; 1 means that nothing but a wall is seen.
    """
    sight = _grid(matrix).expand(*c2w.shape[:2], -1, -1)
    _, hit, face = _cast(solids(scene), c2w, sight)
    faces = torch.arange(len(FACES), device=c2w.device)
    return ((face[..., None] == faces) & (hit[..., None] == 0)).float().mean(-2).amax(-1)


def _grid(matrix: Tensor) -> Tensor:
    """8 x 6 camera rays that cover the picture evenly: (3, 3) -> (48, 3)."""
    cols = (torch.arange(8, device=matrix.device) + 0.5) * matrix[0, 2] / 4
    rows = (torch.arange(6, device=matrix.device) + 0.5) * matrix[1, 2] / 3
    return rays(torch.stack(torch.meshgrid(cols, rows, indexing="xy"), dim=-1).view(-1, 2), matrix)


def _cast(rooms: Solids, c2w: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `rays.intersect` says along camera-frame directions with z = 1, so t is the z-depth.

    (B, T, 4, 4), (B, T, R, 3) -> t, id, face, (B, T, R) each.
    """
    world = turn(c2w, directions)
    origin = c2w[..., None, :3, 3].expand_as(world)
    met = intersect(rooms, origin.flatten(1, 2).unbind(-1), world.flatten(1, 2).unbind(-1))
    t, hit, face = (number.view(directions.shape[:-1]) for number in met)
    return t, hit, face


def _candidates(scene: Scene, count: int, stream: str) -> tuple[Tensor, Tensor, Tensor]:
    """Random spots in the room (B, T, 2) and yaws that aim at objects from there (B, T).

    The third, (B, T), falls below CLEARANCE where the object aimed at is too near for a good view.
    """
    unit = uniform(scene.seeds, stream, count * 4).view(len(scene), count, 4)
    free = scene.size[:, None, :2] / 2 - CLEARANCE
    spots = (unit[..., :2] * 2 - 1) * free
    which = (unit[..., 2] * scene.present.sum(1, keepdim=True)).long()
    goal = scene.position.gather(1, which[..., None].expand(-1, -1, 2))
    yaw = _bearing(goal - spots) + (unit[..., 3] * 2 - 1) * AIM
    far = (goal - spots).square().sum(-1).sqrt() - (NEAREST - CLEARANCE)
    return spots, yaw, far


def _towards(angle: Tensor) -> Tensor:
    """Unit vectors along the floor: (...) radians -> (..., 2)."""
    angle = angle.double()
    return torch.stack([angle.cos(), angle.sin()], dim=-1).float()


def _bearing(vector: Tensor) -> Tensor:
    """The yaw of vectors along the floor: (..., 2) -> (...) radians."""
    vector = vector.double()
    return torch.atan2(vector[..., 1], vector[..., 0]).float()


def _first_free(room: Tensor) -> Tensor:
    """Scores for `take`: the first candidate with enough clearance, else the one with most."""
    order = torch.arange(room.shape[1], 0, -1, device=room.device)
    return room.clamp(max=CLEARANCE) + (room >= CLEARANCE) * order


def _stand(spots: Tensor, yaw: Tensor, level: Tensor) -> Tensor:
    """c2w of cameras at spots (..., 2); level (..., 2) in [-1, 1] varies height and pitch."""
    height = HEIGHT + 0.05 * level[..., :1]
    pitch = PITCH + 0.04 * level[..., 1]
    return pose(torch.cat([spots, height], -1), yaw.double(), pitch.double())
