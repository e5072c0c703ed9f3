"""The procedural world: what it promises about truth, and that a seed means one room."""

import math
import zlib

import pytest
import torch

from nano_omni.world import (
    aimed,
    intrinsics,
    pair,
    relative,
    render,
    render_pair,
    sample_scenes,
    to_uint8,
    walk,
)
from nano_omni.world.camera import inverse, pose, project, transform, unproject
from nano_omni.world.randomness import as_seeds, permutation, uniform
from nano_omni.world.scene import COLOURS, SHAPES, reach
from nano_omni.world.viewpoints import CLEARANCE, clearance, flatness, overlap_of


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small operations on several threads wait for each other when the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(range(200))


# --- random numbers ---


def test_random_numbers_are_splitmix64():
    """Against plain integers: state + gamma, two multiply-xorshifts, as published."""
    mask = (1 << 64) - 1

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    name = zlib.crc32(b"test") * 0x94D049BB133111EB & mask
    gamma = 0x9E3779B97F4A7C15
    for seed in (0, 1, 2**62, -5):
        key = mix(mix((seed + gamma) & mask) ^ name)
        expected = [(mix((key + i * gamma) & mask) >> 40) / 2**24 for i in (1, 2, 3)]
        assert uniform(as_seeds([seed]), "test", 3)[0].tolist() == expected


def test_random_numbers_are_uniform_and_unrelated():
    draws = uniform(torch.arange(20_000), "a", 2)
    other = uniform(torch.arange(20_000), "b", 1)[:, 0]
    assert abs(draws.mean() - 0.5) < 0.01 and abs(draws.var() - 1 / 12) < 0.002
    for column in (draws[:, 1], other, draws[:, 0].roll(1)):  # position, stream, seed
        assert abs(torch.corrcoef(torch.stack([draws[:, 0], column]))[0, 1]) < 0.02
    assert permutation(torch.arange(9), "c", 7).sort(1).values.tolist() == [list(range(7))] * 9


@pytest.mark.parametrize("seeds", [1.5, [0.0, 1.0], True])
def test_seeds_must_be_integers(seeds):
    with pytest.raises(TypeError, match="integers"):
        sample_scenes(seeds)


# --- scenes ---


def test_objects_are_unique_apart_and_inside(scenes):
    count = scenes.present.sum(1)
    assert set(count.tolist()) == {4, 5, 6}
    for i in range(len(scenes)):
        names = scenes.names(i)
        assert len(set(names)) == len(names) == count[i]
    extent = reach(scenes)
    apart = torch.cdist(scenes.position, scenes.position) + 10 * torch.eye(6)
    both = scenes.present[:, :, None] & scenes.present[:, None]
    assert apart[both].min() >= 1.0 - 1e-6
    assert (apart - extent[:, :, None] - extent[:, None])[both].min() > 0
    to_wall = scenes.size[:, None, :2] / 2 - scenes.position.abs() - extent[..., None]
    assert to_wall.min() > 0.09
    assert scenes.radius.min() >= 0.3 and scenes.radius.max() < 0.5
    assert scenes.size[:, :2].min() >= 4 and scenes.size[:, :2].max() < 6


def test_every_kind_occurs_about_equally_often():
    scenes = sample_scenes(range(2000))
    for values, kinds in ((scenes.shape, len(SHAPES)), (scenes.colour, len(COLOURS))):
        share = torch.bincount(values[scenes.present], minlength=kinds) / scenes.present.sum()
        assert (share * kinds - 1).abs().max() < 0.12


def test_a_batch_equals_one_by_one():
    batch = sample_scenes([11, 12, 13], "rich")
    poses, matrix = pair(batch), intrinsics(40, 30)
    together = render(batch, poses, matrix, 40, 30, samples=2)
    for i, seed in enumerate((11, 12, 13)):
        alone = sample_scenes(seed, "rich")
        assert torch.equal(alone.materials[0], batch.materials[i])
        assert torch.equal(pair(alone)[0], poses[i])
        assert torch.equal(walk(alone, 5)[0], walk(batch, 5)[i])
        view = render(alone, pair(alone), matrix, 40, 30, samples=2)
        torch.testing.assert_close(view.images[0], together.images[i], rtol=0, atol=1e-5)
        torch.testing.assert_close(view.depth[0], together.depth[i], rtol=0, atol=1e-5)
        assert torch.equal(view.ids[0], together.ids[i])


def test_texture_changes_the_looks_and_not_the_layout():
    plain, rich = sample_scenes(5, "plain"), sample_scenes(5, "rich")
    assert torch.equal(plain.position, rich.position) and plain.names() == rich.names()
    assert torch.equal(pair(plain), pair(rich))
    matrix = intrinsics(64, 64)
    a, b = (render(s, aimed(s), matrix, 64, 64) for s in (plain, rich))
    assert torch.equal(a.depth, b.depth) and torch.equal(a.ids, b.ids)
    detail = [v.images.diff(dim=3).abs().mean() for v in (a, b)]
    assert detail[1] > 1.5 * detail[0]
    with pytest.raises(ValueError, match="texture"):
        sample_scenes(5, "fancy")


def test_bare_walls_leave_depth_to_be_guessed():
    """From one pixel of a bare wall to the next only the light changes, a little, at any distance."""
    even = {}
    for texture in ("bare", "plain", "rich"):
        scene = sample_scenes(range(8), texture)
        views = render(scene, aimed(scene, 4), intrinsics(64, 64), 64, 64)
        step = (views.images.diff(dim=3).abs().amax(-1) * 255)[..., 8:28, :]  # above the horizon: walls
        room = (views.ids == 0)[..., 8:28, :]
        even[texture] = (step[(room[..., 1:] & room[..., :-1])] < 8).float().mean().item()
        if texture == "bare":
            depth = views.depth[..., 8:28, :][room]
            assert depth.quantile(0.9) > 1.5 * depth.quantile(0.1)
    assert even["bare"] > 0.9 > even["plain"] > even["rich"]


def test_walls_do_not_give_the_heading_away(scenes):
    """Each wall draws from the whole palette, and neighbours differ."""
    walls = scenes.materials[:, 2:6, :3]  # (B, 4, 3)
    mean, spread = walls.mean(0), walls.std(0)
    assert (mean - mean.mean(0)).abs().max() < 0.03 and spread.min() > 0.05
    assert (walls - walls.roll(1, 1)).abs().sum(-1).min() > 0


# --- pictures and their truth ---


def test_the_same_seed_is_the_same_picture():
    first, again, other = (render_pair(seed, 48, 36) for seed in (3, 3, 4))
    for name in ("images", "depth", "ids", "c2w"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert (first.images.float() - other.images.float()).abs().mean() > 10
    assert first.images.dtype == torch.uint8 and first.images.shape == (2, 36, 48, 3)
    assert first.depth.shape == first.ids.shape == (2, 36, 48)
    torch.testing.assert_close(first.relative, first.c2w[0].inverse() @ first.c2w[1])


def test_depth_is_z_and_not_the_length_of_the_ray():
    """Facing a wall squarely, all of it is at one depth."""
    scene = sample_scenes(0)
    matrix = intrinsics(31, 31)
    spot = torch.tensor([0.0, 0.0, 2.5])  # above the objects
    view = render(scene, pose(spot, torch.zeros(()), torch.zeros(()))[None, None], matrix, 31, 31)
    distance = scene.size[0, 0] / 2
    wall = unproject(view.depth[0, 0], matrix)[..., 2]
    sky = view.depth[0, 0, :3]  # the ceiling, 0.3 m above, comes nearer towards the edge
    assert abs(view.depth[0, 0, 15, 15] - distance) < 1e-5
    assert torch.allclose(view.depth[0, 0, 15], distance.expand(31), atol=1e-5)
    assert torch.equal(wall, view.depth[0, 0])
    rows = (torch.arange(3) + 0.5 - 15.5) / matrix[1, 1]
    assert torch.allclose(sky, (0.3 / -rows)[:, None].expand(3, 31), atol=1e-4)


def test_points_lie_on_the_surfaces_they_are_said_to_be_on(scenes):
    """The implicit equation of each solid, in float64, at every pixel's unprojected point."""
    batch = scenes[:40]
    poses, matrix = aimed(batch, 2), intrinsics(48, 48)
    views = render(batch, poses, matrix, 48, 48)
    points = unproject(views.depth.double(), matrix.double()).flatten(2, 3)  # (B, V, N, 3)
    points = transform(poses.double(), points)
    ids = views.ids.flatten(2, 3)
    seen = set()
    for i in range(len(batch)):
        half = torch.tensor([*(batch.size[i, :2] / 2), batch.size[i, 2] / 2]).double()
        room = points[i][ids[i] == 0] - torch.tensor([0, 0, 1.4])
        assert ((room.abs() - half).amax(-1)).abs().max() < 1e-4
        for k in range(6):
            here = points[i][ids[i] == k + 1]
            if not len(here):
                continue
            assert batch.present[i, k]
            kind = SHAPES[batch.shape[i, k]]
            seen.add(kind)
            w, h, yaw = (t[i, k].double() for t in (batch.half_width, batch.height, batch.yaw))
            x, y = (here[:, :2] - batch.position[i, k]).unbind(-1)
            x, y, z = yaw.cos() * x + yaw.sin() * y, yaw.cos() * y - yaw.sin() * x, here[:, 2]
            out = (x * x + y * y).sqrt()
            off = {
                "sphere": (out**2 + (z - w) ** 2).sqrt() - w,
                "box": torch.stack([x.abs() - w, y.abs() - w, (z - h / 2).abs() - h / 2]).amax(0),
                "cylinder": torch.maximum(out - w, (z - h / 2).abs() - h / 2),
                "cone": (out - w * (1 - z / h)) * h / (w**2 + h**2).sqrt(),
            }[kind]
            assert off.abs().max() < 3e-3, kind  # grazing rays: single precision under a root
            assert off.abs().median() < 1e-5, kind
            assert z.min() > -1e-4 and z.max() < h + 1e-4
    assert seen == set(SHAPES)


@pytest.mark.parametrize("texture", ["bare", "plain", "rich"])
def test_what_one_view_sees_the_other_sees_in_the_same_place(texture):
    """Reproject view a into b by z-depth and relative pose: depth, ids and colour agree there."""
    width, height = 160, 120
    batch = sample_scenes(range(20, 24), texture)
    poses, matrix = pair(batch, aspect=width / height), intrinsics(width, height)
    views = render(batch, poses, matrix, width, height, samples=2)
    compared = []
    for i in range(len(batch)):
        points = unproject(views.depth[i, 0], matrix).view(-1, 3)
        points = transform(inverse(relative(poses[i, 0], poses[i, 1])), points)
        pixels, depth = project(points, matrix)
        inside = (depth > 0) & (pixels > 1).all(-1)
        inside &= (pixels[:, 0] < width - 1) & (pixels[:, 1] < height - 1)
        col, row = pixels[inside].floor().long().unbind(-1)
        there = views.depth[i, 1, row, col]
        near = (there - depth[inside]).abs() < 0.03 * depth[inside]
        hidden = there < 0.97 * depth[inside]
        assert (near | hidden).float().mean() > 0.97  # the rest: the other side of an edge
        same = views.ids[i, 0].flatten()[inside] == views.ids[i, 1, row, col]
        assert same[near].float().mean() > 0.99
        # Colour, sampled between pixels as the point lies there.
        grid = pixels[inside] / torch.tensor([width, height]) * 2 - 1
        image = views.images[i, 1].permute(2, 0, 1)[None]
        colour = torch.nn.functional.grid_sample(image, grid[None, None], align_corners=False)
        colour = colour[0, :, 0].T  # (n, 3)
        error = (colour - views.images[i, 0].view(-1, 3)[inside]).abs().mean(-1)[near]
        shuffled = (colour.flip(0) - views.images[i, 0].view(-1, 3)[inside]).abs().mean(-1)[near]
        assert error.median() < 0.02 and error.mean() < 0.25 * shuffled.mean()
        compared.append(near.float().mean() * inside.float().mean())
    assert min(compared) > 0.35


def test_depth_and_ids_belong_to_pixel_centres_whatever_the_sampling(scenes):
    batch, matrix = scenes[:3], intrinsics(24, 24)
    one, two, three = (render(batch, aimed(batch), matrix, 24, 24, samples=n) for n in (1, 2, 3))
    for other in (two, three):
        assert torch.equal(one.ids, other.ids)
        torch.testing.assert_close(one.depth, other.depth, rtol=0, atol=1e-5)


def test_chunks_make_no_difference(scenes):
    batch, matrix = scenes[:3], intrinsics(20, 15)
    whole, parts = (render(batch, aimed(batch, 2), matrix, 20, 15, chunk=c) for c in (10**6, 70))
    torch.testing.assert_close(whole.images, parts.images, rtol=0, atol=1e-5)
    assert torch.equal(whole.ids, parts.ids)
    assert whole.images.isfinite().all() and whole.depth.isfinite().all()
    assert whole.images.min() >= 0 and whole.images.max() <= 1
    assert to_uint8(whole.images).dtype == torch.uint8


def test_objects_have_the_colour_of_their_name(scenes):
    """In plain rooms the hue of an object's pixels is nearest to its own name, nearly always."""
    batch, matrix = scenes[:60], intrinsics(48, 48)
    views = render(batch, aimed(batch, 2), matrix, 48, 48)
    names = torch.tensor(list(COLOURS.values()))
    names = names / names.norm(dim=-1, keepdim=True)
    right = []
    for i in range(len(batch)):
        for k in range(6):
            pixels = views.images[i][views.ids[i] == k + 1]
            if len(pixels) > 30:
                mean = pixels.median(0).values
                right.append((names @ mean).argmax() == batch.colour[i, k])
    assert len(right) > 100 and sum(right) / len(right) > 0.97


def test_wrong_shapes_are_refused(scenes):
    with pytest.raises(ValueError, match="c2w"):
        render(scenes, aimed(scenes[:2]), intrinsics(8, 8), 8, 8)
    with pytest.raises(ValueError, match="samples"):
        render(scenes[:1], aimed(scenes[:1]), intrinsics(8, 8), 8, 8, samples=0)
    with pytest.raises(ValueError, match="field_of_view"):
        intrinsics(8, 8, math.pi)


# --- cameras ---


def test_intrinsics_put_the_field_of_view_at_the_borders():
    matrix = intrinsics(64, 48, math.radians(60))
    edge = torch.tensor([[math.tan(math.radians(30)), 0.0, 1.0], [0.0, 0.0, 2.0]])
    pixels, depth = project(edge, matrix)
    assert torch.allclose(pixels, torch.tensor([[64.0, 24.0], [32.0, 24.0]]), atol=1e-4)
    assert depth.tolist() == [1.0, 2.0]


def test_poses_follow_opencv_axes():
    c2w = pose(torch.tensor([1.0, 2.0, 1.5]), torch.tensor(math.pi / 2), torch.tensor(0.0))
    # Looking along +y of the world: right is +x, down is -z.
    expected = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    assert torch.allclose(c2w[:3, :3], expected, atol=1e-6)
    # A camera one step to the right and one ahead, turned left by 90 degrees.
    other = pose(torch.tensor([2.0, 3.0, 1.5]), torch.tensor(math.pi), torch.tensor(0.0))
    b_in_a = relative(c2w, other)
    assert torch.allclose(b_in_a[:3, 3], torch.tensor([1.0, 0.0, 1.0]), atol=1e-6)
    assert torch.allclose(b_in_a[:3, 2], torch.tensor([-1.0, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(b_in_a, torch.linalg.inv(c2w) @ other, atol=1e-6)


def test_cameras_stand_free(scenes):
    for poses in (aimed(scenes, 3), pair(scenes), walk(scenes, 9)):
        assert clearance(scenes, poses[..., :2, 3]).min() > CLEARANCE - 1e-3
        assert poses[..., 2, 3].sub(1.45).abs().max() <= 0.0501
        turn = poses[..., :3, :3]
        eye = torch.eye(3).expand_as(turn)
        assert torch.allclose(turn @ turn.transpose(-1, -2), eye, atol=1e-5)
        assert torch.allclose(torch.linalg.det(turn), torch.ones(turn.shape[:-2]), atol=1e-5)
        assert torch.allclose(poses[..., 2, 2].neg().asin(), torch.tensor(0.18), atol=0.0401)


def test_pairs_overlap_and_have_a_baseline(scenes):
    poses = pair(scenes)
    motion = relative(poses[:, 0], poses[:, 1])
    step = motion[:, :3, 3].norm(dim=-1)
    angle = ((motion[:, 0, 0] + motion[:, 1, 1] + motion[:, 2, 2] - 1) / 2).acos().rad2deg()
    assert step.min() > 0.29 and step.max() < 0.91
    assert angle.min() > 4.9 and angle.max() < 25.9
    matrix = intrinsics(32, 32)
    for a, b in ((0, 1), (1, 0)):
        shared = overlap_of(scenes, poses[:, a, None], poses[:, b, None], matrix)
        assert shared.median() > 0.6 and shared.min() > 0.3
    assert flatness(scenes, poses, matrix).max() < 0.6  # not one wall and nothing else
    assert not torch.equal(poses, pair(scenes, draw=1))


def test_walks_are_smooth(scenes):
    poses = walk(scenes, 20)
    moved = poses.diff(dim=1)[..., :2, 3].norm(dim=-1)  # (B, 19)
    turned = (poses[:, 1:, :3, 2] * poses[:, :-1, :3, 2]).sum(-1).clamp(-1, 1).acos().rad2deg()
    assert moved.max() < 0.25 and turned.max() < 8
    assert (moved.amax(1) / moved.amin(1)).max() < 2.0
    assert moved.sum(1).median() > 1.0
    assert walk(scenes[:2], 1).shape == (2, 1, 4, 4)


def test_classical_geometry_recovers_the_pose():
    """SIFT and an essential matrix on rich pictures: rotation and direction, signs included."""
    cv2 = pytest.importorskip("cv2")
    import numpy as np

    errors = []
    for seed in (100, 101):
        shot = render_pair(seed)
        grey = [cv2.cvtColor(image.numpy(), cv2.COLOR_RGB2GRAY) for image in shot.images]
        found = [cv2.SIFT_create(2000).detectAndCompute(image, None) for image in grey]
        pairs = cv2.BFMatcher().knnMatch(found[0][1], found[1][1], k=2)
        good = [m for m, n in pairs if m.distance < 0.75 * n.distance]
        a = np.array([found[0][0][m.queryIdx].pt for m in good]) + 0.5  # OpenCV centres are at 0
        b = np.array([found[1][0][m.trainIdx].pt for m in good]) + 0.5
        matrix = shot.intrinsics.double().numpy()
        essential, kept = cv2.findEssentialMat(a, b, matrix, cv2.USAC_MAGSAC, 0.999, 1.0)
        _, rotation, shift, _ = cv2.recoverPose(essential[:3], a, b, matrix, mask=kept)
        # OpenCV answers world-to-camera; ours is camera-to-world.
        rotation = torch.from_numpy(rotation).T
        centre = (-rotation @ torch.from_numpy(shift))[:, 0]
        truth = shot.relative.double()
        turn = ((torch.trace(rotation.T @ truth[:3, :3]) - 1) / 2).clamp(-1, 1).acos().rad2deg()
        cosine = torch.cosine_similarity(centre, truth[:3, 3], dim=0)
        errors.append((float(turn), float(cosine.clamp(-1, 1).acos().rad2deg())))
    assert max(turn for turn, _ in errors) < 1 and max(way for _, way in errors) < 5
