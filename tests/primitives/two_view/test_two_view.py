"""Camera motion between two photographs: exact numbers on rendered rooms, and every refusal."""

import cv2
import numpy as np
import pytest

from primitives.backends import epipolar, two_view
from primitives.backends.pinhole import InvalidImage, InvalidIntrinsics, shrunk
from primitives.backends.two_view import NoKeypoints, NoOverlap, pose_from_matches, relative_pose


def photo(scenes, c2w, scene="room"):
    return getattr(scenes, scene).render(c2w, scenes.K, scenes.width, scenes.height)[0]


def motion(scenes, start, end, scene="room"):
    """The estimate, and the true inv(c2w_a) @ c2w_b."""
    a, b = photo(scenes, start, scene), photo(scenes, end, scene)
    return relative_pose(a, b, scenes.K, scenes.K), np.linalg.inv(start) @ end


def errors(found, true):
    """Degrees of rotation and of (signed) direction."""
    rotation = epipolar.rotation_angle(found.rotation.T @ true[:3, :3])
    return rotation, two_view.angle_between(found.translation, true[:3, 3])


@pytest.mark.parametrize(
    "step",
    [
        {"x": 0.4, "yaw": -10},
        {"y": -0.3, "pitch": 4},
        {"z": 0.6},
        {"x": -0.7, "y": 0.1, "z": 0.5, "yaw": 15, "pitch": -4},
        {"x": 0.03},
    ],
)
def test_recovers_an_exact_motion(scenes, step):
    found, true = motion(scenes, scenes.pose(x=0.1, yaw=3), scenes.pose(**step))
    rotation, direction = errors(found, true)
    assert rotation < 0.1 and direction < 1.0
    assert np.linalg.norm(found.translation) == pytest.approx(1)
    assert found.confidence > 0.9 and not (found.pure_rotation or found.planar or found.identical)
    assert rotation < 5 * found.rotation_error and direction < 5 * found.direction_error
    assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3))


def test_signs_are_those_of_the_second_camera_in_the_first_ones_frame(scenes):
    found, _ = motion(scenes, scenes.pose(), scenes.pose(x=0.4, yaw=-8))
    assert found.translation[0] > 0.99  # moved right
    assert cv2.Rodrigues(found.rotation)[0].ravel()[1] < -0.13  # turned left: about -y, y is down
    found, _ = motion(scenes, scenes.pose(), scenes.pose(y=-0.3, pitch=5))
    assert found.translation[1] < -0.99  # moved up
    assert cv2.Rodrigues(found.rotation)[0].ravel()[0] > 0.08  # looked up: about +x


def test_swapped_photos_give_the_inverse_pose(scenes):
    a, b = photo(scenes, scenes.pose()), photo(scenes, scenes.pose(x=0.5, z=0.2, yaw=-9))
    there = relative_pose(a, b, scenes.K, scenes.K)
    back = relative_pose(b, a, scenes.K, scenes.K)
    rotation, direction = errors(back, np.linalg.inv(there.matrix))
    assert rotation < 0.05 and direction < 0.5


def test_equal_photos_and_seed_give_bit_equal_answers_on_any_number_of_threads(scenes):
    a, b = photo(scenes, scenes.pose()), photo(scenes, scenes.pose(x=0.4))
    first = relative_pose(a, b, scenes.K, scenes.K, seed=5)
    before = cv2.getNumThreads()
    cv2.setRNGSeed(123)
    np.random.seed(7)
    try:
        cv2.setNumThreads(1)
        second = relative_pose(a, b, scenes.K, scenes.K, seed=5)
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(first.matrix, second.matrix)
    assert np.array_equal(first.points_a, second.points_a)


def test_photos_of_different_size_and_focal_length(scenes):
    start, end = scenes.pose(), scenes.pose(x=0.4, yaw=-5)
    a = photo(scenes, start)
    K_b = np.array([[520.0, 0, 200], [0, 520.0, 250], [0, 0, 1]])
    b, _ = scenes.room.render(end, K_b, 400, 500)
    found = relative_pose(a, b, scenes.K, K_b)
    rotation, direction = errors(found, end)
    assert rotation < 0.1 and direction < 1
    assert (found.points_b < (400, 500)).all() and (found.points_b > 0).all()


def test_large_photos_are_matched_reduced_and_points_returned_at_full_size(scenes, monkeypatch):
    monkeypatch.setattr(two_view, "LONGEST", 320)
    found, true = motion(scenes, scenes.pose(), scenes.pose(x=0.4))
    assert max(errors(found, true)) < 1
    assert found.points_a[:, 0].max() > 320
    F = np.linalg.inv(scenes.K).T @ epipolar.cross_matrix(true[:3, 3]) @ np.linalg.inv(scenes.K)
    on_a, on_b = (np.column_stack([p, np.ones(len(p))]) for p in (found.points_a, found.points_b))
    lines = on_a @ F.T
    gaps = np.abs((on_b * lines).sum(axis=1)) / np.linalg.norm(lines[:, :2], axis=1)
    assert np.median(gaps) < 1


@pytest.mark.parametrize("scene", ["room", "wall"])
def test_a_turn_on_the_spot_has_no_translation(scenes, scene):
    found, true = motion(scenes, scenes.pose(), scenes.pose(yaw=9, pitch=-3), scene)
    assert found.pure_rotation and not found.identical
    assert np.array_equal(found.translation, np.zeros(3))
    assert epipolar.rotation_angle(found.rotation.T @ true[:3, :3]) < 0.05
    assert found.direction_error == 180 and "turned" in found.note


def pixels(scenes, points, T):
    """Where the camera at pose T sees points (N, 3) of camera a's frame."""
    seen = (points - T[:3, 3]) @ T[:3, :3] @ scenes.K.T
    return seen[:, :2] / seen[:, 2:]


@pytest.mark.parametrize("yaw", [4, 20, 35])
def test_noise_of_a_wide_turn_is_no_step(scenes, yaw):
    """Some matches are much worse than most, and a wide turn magnifies them at the margin."""
    rng = np.random.default_rng(yaw)
    rays = np.column_stack([rng.uniform(-0.1, 0.6, 400), rng.uniform(-0.4, 0.4, 400), np.ones(400)])
    T = scenes.pose(yaw=yaw)
    noise = 0.1 * rng.standard_t(1.7, (2, 400, 2)).clip(-15, 15)
    a, b = pixels(scenes, rays, np.eye(4)) + noise[0], pixels(scenes, rays, T) + noise[1]
    size = scenes.height, scenes.width
    found = pose_from_matches(a, b, scenes.K, scenes.K, size, size)
    assert found.pure_rotation
    assert epipolar.rotation_angle(found.rotation.T @ T[:3, :3]) < 0.1


def test_a_tiny_step_is_told_from_a_turn_and_its_doubt_is_stated(scenes):
    found, true = motion(scenes, scenes.pose(), scenes.pose(x=0.02, z=0.01, yaw=3))
    wide, _ = motion(scenes, scenes.pose(), scenes.pose(x=0.4, z=0.2, yaw=3))
    assert not found.pure_rotation
    assert errors(found, true)[1] < 5
    assert found.direction_error > 3 * wide.direction_error


def test_the_best_of_all_readings_is_not_missed_where_most_lies_on_one_plane(scenes):
    rng = np.random.default_rng(3)
    rays = np.column_stack([rng.uniform(-0.4, 0.4, (200, 2)), np.ones(200)])
    depth = 4 / (rays @ np.array([0.25, 0.1, 1.0]))
    depth[:40] *= rng.uniform(0.5, 0.8, 40)  # a fifth stands in front
    T = scenes.pose(x=0.4, z=0.5, yaw=-4)
    points = depth[:, None] * rays
    a, b = (pixels(scenes, points, c) + rng.normal(0, 0.15, (200, 2)) for c in (np.eye(4), T))
    size = scenes.height, scenes.width
    for seed in range(3):
        found = pose_from_matches(a, b, scenes.K, scenes.K, size, size, seed)
        rotation, direction = errors(found, T)
        assert rotation < 0.5 and direction < 3 and found.inliers > 190


def test_a_fit_to_half_of_the_matches_is_trusted_less(scenes):
    T = scenes.pose(x=0.5, z=0.2, yaw=-5)
    a, b = scattered(scenes, T, noise=0.15)
    size = scenes.height, scenes.width
    clean = pose_from_matches(a, b, scenes.K, scenes.K, size, size)
    wrong = np.random.default_rng(1).uniform(0, size[::-1], (2, *a.shape))
    mixed = [np.concatenate(pair) for pair in zip((a, b), wrong, strict=True)]
    found = pose_from_matches(*mixed, scenes.K, scenes.K, size, size)
    assert clean.confidence > 0.9 > found.confidence


def test_one_photo_twice_is_identical(scenes):
    a = photo(scenes, scenes.pose())
    found = relative_pose(a, a, scenes.K, scenes.K)
    assert found.identical and found.pure_rotation
    assert np.array_equal(found.matrix, np.eye(4))


def test_a_wall_alone_is_flagged_as_planar(scenes):
    found, true = motion(scenes, scenes.pose(), scenes.pose(x=0.7, yaw=-8), "wall")
    assert found.planar
    assert max(errors(found, true)) < 1


def scattered(scenes, T, planar=False, count=150, noise=0.3, seed=0):
    """Matched pixels of random points before two cameras; T is b's pose in a's frame."""
    rng = np.random.default_rng(seed)
    rays = np.column_stack([rng.uniform(-0.3, 0.3, (count, 2)), np.ones(count)])
    normal = np.array([0.25, 0.1, 1.0])
    depth = 4 / (rays @ normal) if planar else rng.uniform(2, 8, count)
    points = depth[:, None] * rays
    moved = (points - T[:3, 3]) @ T[:3, :3]
    pixels = [(p @ scenes.K.T)[:, :2] / p[:, 2:] for p in (points, moved)]
    return [p + rng.normal(0, noise, p.shape) for p in pixels]


def test_both_readings_of_a_plane_are_returned_when_they_tie(scenes):
    T = scenes.pose(z=0.6)
    a, b = scattered(scenes, T, planar=True)
    size = scenes.height, scenes.width
    found = pose_from_matches(a, b, scenes.K, scenes.K, size, size)
    assert found.planar and found.alternative is not None and found.confidence <= 0.5
    readings = [(found.rotation, found.translation), found.alternative]
    direction = [two_view.angle_between(t, T[:3, 3]) for _, t in readings]
    assert min(direction) < 5 and "plane" in found.note


def test_half_of_the_matches_may_be_wrong(scenes):
    T = scenes.pose(x=0.5, z=0.2, yaw=-5)
    a, b = scattered(scenes, T, noise=0.15)
    rng = np.random.default_rng(1)
    size = scenes.height, scenes.width
    a = np.concatenate([a, rng.uniform(0, size[::-1], a.shape)])
    b = np.concatenate([b, rng.uniform(0, size[::-1], b.shape)])
    found = pose_from_matches(a, b, scenes.K, scenes.K, size, size)
    rotation, direction = errors(found, T)
    assert rotation < 0.5 and direction < 3
    assert found.matches == 300 and 140 <= found.inliers <= 160


@pytest.mark.parametrize("count", [5, 20, 60, 300])
def test_random_matches_are_refused(scenes, count):
    size = scenes.height, scenes.width
    for seed in range(3):
        rng = np.random.default_rng(seed)
        a, b = rng.uniform(0, size[::-1], (2, count, 2))
        with pytest.raises(NoOverlap, match="could not be matched"):
            pose_from_matches(a, b, scenes.K, scenes.K, size, size, seed)


def test_unrelated_rooms_are_refused(scenes):
    a, b = photo(scenes, scenes.pose()), photo(scenes, scenes.pose(x=0.3), "elsewhere")
    with pytest.raises(NoOverlap, match="Choose photos"):
        relative_pose(a, b, scenes.K, scenes.K)


def test_a_shared_watermark_is_no_overlap(scenes):
    a, b = photo(scenes, scenes.pose()), photo(scenes, scenes.pose(x=0.3), "elsewhere").copy()
    b[300:320, 400:425] = a[300:320, 400:425]
    with pytest.raises(NoOverlap):
        relative_pose(a, b, scenes.K, scenes.K)


def test_a_blank_photo_is_refused(scenes):
    a, blank = photo(scenes, scenes.pose()), np.full((360, 480, 3), 128, np.uint8)
    with pytest.raises(NoKeypoints, match="second photo"):
        relative_pose(a, blank, scenes.K, scenes.K)
    with pytest.raises(NoKeypoints, match="first photo"):
        relative_pose(blank, blank, scenes.K, scenes.K)


@pytest.mark.parametrize(
    ("K", "says"),
    [
        (np.zeros((3, 3)), "must read"),
        (np.diag([0.0, 400, 1]), "positive"),
        (np.diag([-400.0, 400, 1]), "positive"),
        (np.diag([np.nan, 400, 1]), "NaN"),
        (np.eye(4), "shape"),
        ("focal", "numeric"),
    ],
)
def test_unusable_intrinsics_are_refused(scenes, K, says):
    a = photo(scenes, scenes.pose())
    with pytest.raises(InvalidIntrinsics, match=says):
        relative_pose(a, a, scenes.K, K)


def test_pictures_that_are_not_eight_bit_rgb_are_refused(scenes):
    a = photo(scenes, scenes.pose())
    for wrong in (a / 255.0, a[..., 0], np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(InvalidImage, match="image_b"):
            relative_pose(a, wrong, scenes.K, scenes.K)


def test_a_photo_is_shrunk_with_its_intrinsics():
    K = np.array([[3000.0, 0, 2000], [0, 3000, 1500], [0, 0, 1]])
    image, small = shrunk(np.zeros((3000, 4000, 3), np.uint8), K, 1600)
    assert image.shape == (1200, 1600, 3)
    assert np.allclose(small[:2], 0.4 * K[:2])
