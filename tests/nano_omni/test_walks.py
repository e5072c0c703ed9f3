"""Walks of a camera: read and written in words, and where the camera then is."""

import math

import numpy as np
import pytest
import torch

from nano_omni.data import split_seeds
from nano_omni.world.camera import PITCH, pose
from nano_omni.world.prompts import PromptError
from nano_omni.world.scene import sample_scenes
from nano_omni.world.sight import viewpoints
from nano_omni.world.viewpoints import CLEARANCE, clearance
from nano_omni.world.walks import Leg, Walk, draw_walks, parse_walk


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("go forward 1 m", [Leg(ahead=1)]),
        ("Walk straight ahead 1.5m.", [Leg(ahead=1.5)]),
        ("step to the left 50 cm", [Leg(right=-0.5)]),
        ("go 2 metres back", [Leg(ahead=-2)]),
        ("turn left 30 degrees", [Leg(turn=-30)]),
        ("look right 20°", [Leg(turn=20)]),
        ("turn 90 deg right", [Leg(turn=90)]),
        ("Walk forward for 2 m. Rotate by 20 degrees to the left.", [Leg(ahead=2), Leg(turn=-20)]),
        ("back up 1 m; strafe left 1 m", [Leg(ahead=-1), Leg(right=-1)]),
        ("walk 1m and turn left 20 degrees", [Leg(ahead=1, turn=-20)]),
        ("walk 1 m", [Leg(ahead=1)]),
        ("go forward 1 m and turn left 20 degrees", [Leg(ahead=1, turn=-20)]),
        ("go forward 1 m, go right 0.5 m and turn left 20 degrees", [Leg(0.5, 1, -20)]),
        (
            "go forward 1 m, then turn right 45 degrees and then go back .5 m",
            [Leg(ahead=1), Leg(turn=45), Leg(ahead=-0.5)],
        ),
    ],
)
def test_walks_are_read_and_written(said, means):
    assert parse_walk(said) == Walk(tuple(means))
    assert parse_walk(str(parse_walk(said))) == parse_walk(said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "1 to 400 characters"),
        ("a red cone", "not understood"),
        ("go to the red cone", "not understood"),
        ("go up 1 m", "forward, back, left, right"),
        ("go rigt 1 m", "did you mean right"),
        ("turn forward 20 degrees", "left or right"),
        ("turn left 30", "not understood"),
        ("turn left 1 m", "in degrees"),
        ("go forward 30 degrees", "in m or cm"),
        ("go forward 0 m", "goes somewhere"),
        ("go forward 99 m", "at most 10 m"),
        ("turn left 400 degrees", "360 degrees"),
        ("go forward 1 m and go back 1 m", 'one after the other with "then"'),
        ("then", "nothing before or after"),
        ("go forward 1 m and then", "nothing before or after"),
        ("go forward -1 m", "not understood"),
        ("go forward 1 m <campose>", "not understood"),
    ],
)
def test_what_is_no_walk_is_refused_in_words(said, why):
    with pytest.raises(PromptError, match=why):
        parse_walk(said)


def test_the_camera_goes_along_the_floor_as_words_say():
    """In a room: whoever turns left and goes forward has gone where left was, as high as before."""
    here = pose(
        torch.tensor([0.0, 0.0, 1.45]).double(), torch.tensor(0.3).double(), torch.tensor(PITCH).double()
    )
    poses = here @ parse_walk("turn left 90 degrees, then go forward 2 m").poses(7)
    assert np.allclose(poses[0], here) and np.allclose(poses[:, 2, 3], 1.45)
    left = torch.tensor([math.cos(0.3 + math.pi / 2), math.sin(0.3 + math.pi / 2)])
    assert np.allclose(poses[-1, :2, 3], 2 * left, atol=1e-6)
    assert np.allclose(poses[:4, :2, 3], 0, atol=1e-9)  # 90 degrees take as long as two metres
    # It looks down as before, and where left was.
    assert np.allclose(poses[-1, :3, 2], [*(math.cos(PITCH) * left), -math.sin(PITCH)], atol=1e-6)
    assert np.allclose(Walk((Leg(ahead=1),)).poses(1)[0], np.eye(4))


def test_walks_that_are_drawn_come_too_near_to_nothing():
    seeds = split_seeds("test", 0, 48)
    scene = sample_scenes(seeds)
    first = viewpoints(scene)[:, 0]
    walks = draw_walks(scene, first, seeds)
    ways = torch.stack([walk.poses(9) for walk in walks]).float()
    assert clearance(scene, (first[:, None] @ ways)[..., :2, 3]).min() >= CLEARANCE - 1e-3
    assert len(set(map(str, walks))) > 40
    assert [str(one) for one in draw_walks(scene[:5], first[:5], seeds[:5])] == list(map(str, walks[:5]))
