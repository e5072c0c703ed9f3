"""Dense depth from two photographs, against the exact depth of a rendered room."""

import numpy as np
import pytest

from primitives.backends.pinhole import InvalidPose
from primitives.backends.stereo import NoDepth, NoParallax, two_view_depth


def views(scenes, step):
    """Photo a, photo b, b's pose in a's frame, and the depth of a."""
    end = scenes.pose(**step)
    a, depth = scenes.room.render(np.eye(4), scenes.K, scenes.width, scenes.height)
    b, _ = scenes.room.render(end, scenes.K, scenes.width, scenes.height)
    return a, b, end, depth


@pytest.mark.parametrize(
    ("step", "method"),
    [
        ({"x": 0.3}, "rectified"),
        ({"x": -0.3, "yaw": 6}, "rectified"),
        ({"y": -0.3, "pitch": -4}, "rectified"),
        ({"z": 0.5}, "plane sweep"),
        ({"x": 0.1, "z": -0.5, "yaw": 5}, "plane sweep"),
    ],
)
def test_depth_in_metres_when_the_step_is_metric(scenes, step, method):
    a, b, T, true = views(scenes, step)
    found = two_view_depth(a, b, scenes.K, scenes.K, T[:3, :3], T[:3, 3])
    assert found.method == method
    assert found.depth.dtype == np.float32 and found.depth.shape == true.shape
    assert np.isfinite(found.depth).all() and (found.depth[~found.valid] == 0).all()
    assert found.coverage == found.valid.mean() > 0.6
    error = np.abs(found.depth - true)[found.valid] / true[found.valid]
    assert np.median(error) < 0.01 and np.mean(error > 0.1) < 0.03


def test_depth_is_in_baselines_when_the_step_has_unit_length(scenes):
    a, b, T, true = views(scenes, {"x": 0.3})
    found = two_view_depth(a, b, scenes.K, scenes.K, T[:3, :3], [1, 0, 0])
    ratio = true[found.valid] / found.depth[found.valid]
    assert np.median(ratio) == pytest.approx(0.3, rel=0.01)


def test_sweeping_planes_agrees_with_rectification(scenes):
    a, b, T, _ = views(scenes, {"x": 0.3})
    pose = scenes.K, scenes.K, T[:3, :3], T[:3, 3]
    one, other = (two_view_depth(a, b, *pose, method=m) for m in ("rectified", "plane sweep"))
    both = one.valid & other.valid
    assert both.mean() > 0.7
    assert np.median(np.abs(one.depth / np.maximum(other.depth, 1e-9) - 1)[both]) < 0.01


def test_photos_of_different_size(scenes):
    K_b = np.array([[520.0, 0, 200], [0, 520.0, 250], [0, 0, 1]])
    a, true = scenes.room.render(np.eye(4), scenes.K, scenes.width, scenes.height)
    b, _ = scenes.room.render(scenes.pose(x=0.3), K_b, 400, 500)
    found = two_view_depth(a, b, scenes.K, K_b, np.eye(3), [0.3, 0, 0])
    error = np.abs(found.depth - true)[found.valid] / true[found.valid]
    assert found.coverage > 0.4 and np.median(error) < 0.01


def test_a_turn_without_a_step_holds_no_depth(scenes):
    a, b, _, _ = views(scenes, {"yaw": 5})
    with pytest.raises(NoParallax, match="step aside"):
        two_view_depth(a, b, scenes.K, scenes.K, scenes.pose(yaw=5)[:3, :3], np.zeros(3))


def test_a_pose_that_fits_nothing_is_refused(scenes):
    a, b, _, _ = views(scenes, {"x": 0.3})
    with pytest.raises(NoDepth, match="check"):
        two_view_depth(a, b, scenes.K, scenes.K, scenes.pose(pitch=20)[:3, :3], [1, 0, 0])


def test_a_pose_that_is_none_is_refused(scenes):
    a, b, _, _ = views(scenes, {"x": 0.3})
    with pytest.raises(InvalidPose, match="orthonormal"):
        two_view_depth(a, b, scenes.K, scenes.K, 2 * np.eye(3), [1, 0, 0])
    with pytest.raises(InvalidPose, match="finite"):
        two_view_depth(a, b, scenes.K, scenes.K, np.eye(3), [np.nan, 0, 0])
