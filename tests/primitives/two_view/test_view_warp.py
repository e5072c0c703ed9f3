"""Photographs seen from elsewhere, against renderings from there."""

import numpy as np
import pytest

from primitives.backends.pinhole import InvalidPose
from primitives.backends.view_warp import InvalidDepth, rotate_view, warp_by_depth


def difference(a, b, mask):
    return np.abs(a.astype(int) - b)[mask].mean()


def render(scenes, c2w):
    return scenes.room.render(c2w, scenes.K, scenes.width, scenes.height)


@pytest.mark.parametrize(("yaw", "pitch"), [(12, 0), (-12, 0), (0, 8), (0, -8), (10, 6)])
def test_a_turned_view_is_what_the_turned_camera_sees(scenes, yaw, pitch):
    source, _ = render(scenes, scenes.pose())
    target, _ = render(scenes, scenes.pose(yaw=yaw, pitch=pitch))
    view, seen = rotate_view(source, scenes.K, np.radians(yaw), np.radians(pitch))
    assert view.shape == source.shape and view.dtype == np.uint8
    assert 0.5 < seen.mean() < 0.9
    assert difference(view, target, seen) < 5
    assert (view[~seen] == 0).all()


def test_looking_right_reveals_the_right_margin(scenes):
    source, _ = render(scenes, scenes.pose())
    _, seen = rotate_view(source, scenes.K, yaw=0.2)
    assert seen[:, 20:100].all() and not seen[:, -60:].any()
    _, seen = rotate_view(source, scenes.K, pitch=0.2)  # up
    assert seen[-60:, 100:-100].all() and not seen[:20].any()


def test_no_turn_changes_nothing_and_a_half_turn_sees_nothing(scenes):
    source, _ = render(scenes, scenes.pose())
    view, seen = rotate_view(source, scenes.K)
    assert seen.all() and np.array_equal(view, source)
    view, seen = rotate_view(source, scenes.K, yaw=np.pi)
    assert not seen.any() and not view.any()
    with pytest.raises(InvalidPose, match="finite"):
        rotate_view(source, scenes.K, yaw=np.nan)


@pytest.mark.parametrize(
    "step", [{"x": 0.3}, {"x": -0.2, "yaw": 5}, {"z": 0.8}, {"z": -0.5, "y": 0.1}, {"pitch": 5}]
)
def test_a_moved_view_is_what_the_moved_camera_sees(scenes, step):
    source, depth = render(scenes, scenes.pose())
    target, _ = render(scenes, scenes.pose(**step))
    view, seen = warp_by_depth(source, depth, depth > 0, scenes.K, scenes.pose(**step))
    assert seen.mean() > 0.5
    assert difference(view, target, seen) < 6
    assert (view[~seen] == 0).all()


def test_moving_ahead_leaves_no_cracks(scenes):
    source, depth = render(scenes, scenes.pose())
    _, seen = warp_by_depth(source, depth, depth > 0, scenes.K, scenes.pose(z=1.0))
    assert seen.mean() > 0.93


def test_what_stands_in_front_hides_what_is_behind():
    K = np.array([[100.0, 0, 50], [0, 100.0, 50], [0, 0, 1]])
    image = np.zeros((100, 100, 3), np.uint8)
    depth = np.full((100, 100), 4.0)
    image[..., 2] = 200  # a blue wall and a red board two metres before it
    image[30:70, 20:40], depth[30:70, 20:40] = (200, 0, 0), 2.0
    T = np.eye(4)
    T[0, 3] = -0.4  # to the left: the board moves right by 20 pixels, the wall by 10
    view, seen = warp_by_depth(image, depth, depth > 0, K, T)
    assert (view[35:65, 41:59] == (200, 0, 0)).all() and seen[35:65, 41:59].all()
    assert not seen[35:65, 31:39].any()  # uncovered by the board
    assert (view[35:65, 62:] == (0, 0, 200)).all() and not seen[:, :9].any()


def test_pixels_without_depth_are_not_shown(scenes):
    source, depth = render(scenes, scenes.pose())
    valid = np.ones(depth.shape, bool)
    valid[100:200, 100:200] = False
    depth = np.where(valid, depth, np.nan)
    view, seen = warp_by_depth(source, depth, valid, scenes.K, np.eye(4))
    assert not seen[105:195, 105:195].any() and seen[210:].all()
    assert np.abs(view[210:].astype(int) - source[210:]).max() <= 1
    _, seen = warp_by_depth(source, depth, np.zeros_like(valid), scenes.K, np.eye(4))
    assert not seen.any()


def test_depth_of_another_size_is_refused(scenes):
    source, depth = render(scenes, scenes.pose())
    with pytest.raises(InvalidDepth, match="size of the image"):
        warp_by_depth(source, depth[::2, ::2], depth[::2, ::2] > 0, scenes.K, np.eye(4))
    with pytest.raises(InvalidPose):
        warp_by_depth(source, depth, depth > 0, scenes.K, np.zeros((4, 4)))
