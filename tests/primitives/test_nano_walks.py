"""The embedded model sees a photo from elsewhere with the help of its depth: views, and walks as clips."""

import numpy as np
import pytest
from tiny.nano_models import save_drawer

from nano_omni.data import split_seeds
from nano_omni.world.camera import intrinsics
from nano_omni.world.render import render, to_uint8
from nano_omni.world.scene import sample_scenes
from nano_omni.world.sight import viewpoints
from nano_omni.world.walks import parse_walk
from primitives.backends.nano import Nano, depths, walks
from primitives.backends.nano.carried import carried, completed
from primitives.depth import depth_estimate
from primitives.filming import video
from primitives.views import novel_view
from primitives.visual_tokens import visual_token_rollout
from unroller import CameraPose, Executor, Problem, primitive
from unroller.capabilities import VideoGenerator
from unroller.faults import MissingCapability, ProblemError
from unroller.measures import ssim
from unroller.picture_scorers import video as score
from unroller.values import DepthMap, Video

WALK = "go forward 0.5 m and turn left 20 degrees"
TASKS = ["generation", "depth", "novel_view"]


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    return Nano(save_drawer(tmp_path_factory.mktemp("walks"), TASKS), steps=2, refuse=False)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def executor(nano, *calls, **options):
    options = {"primitives": [depth_estimate, visual_token_rollout]} | options
    return Executor(backend=nano, decoders=[video, novel_view], policy=list(calls), memo=None, **options)


def filmed(count, said, side=64):
    """Rooms on a walk with their depth: frames (F, S, S, 3) and (F, S, S), and the poses."""
    scene = sample_scenes(split_seeds("test", 40, 1), "plain")
    poses = parse_walk(said).poses(count)
    seen = render(
        scene, (viewpoints(scene)[:, :1].double() @ poses).float(), intrinsics(side, side), side, side
    )
    return to_uint8(seen.images)[0].numpy(), seen.depth[0].numpy(), poses.numpy()


def test_what_a_photo_shows_is_carried_over_to_where_it_is_seen():
    """With the true depth, a walk looks as it does."""
    frames, depth, poses = filmed(5, "go forward 0.6 m and turn right 15 degrees")
    for k in range(1, 5):
        some = carried(frames[0], DepthMap(depth[0]), poses[k], 64)
        assert some.shown.mean() > 0.7
        whole = completed(some, frames[k] if some.away.max() > 16 else None, 16.0)
        assert ssim(whole, frames[k]) > 0.75 > ssim(frames[0], frames[k]) + 0.2


def test_a_larger_photo_stays_sharp():
    frames, depth, poses = filmed(2, "go forward 0.3 m", side=192)
    small = DepthMap(depth[0][::3, ::3].copy())
    whole = completed(carried(frames[0], small, poses[1], 192), None, 99.0)
    assert whole.shape == (192, 192, 3) and ssim(whole, frames[1]) > 0.7


def test_far_from_what_is_carried_over_everything_is_drawn(photo):
    flat = DepthMap(np.full((64, 64), 2.0, np.float32))
    drawn = np.full((64, 64, 3), 7, np.uint8)
    away = np.eye(4)
    away[0, 3] = 2.0  # half of the picture is beyond the photo's edge
    some = carried(photo, flat, away, 64)
    whole = completed(some, drawn, 4.0)
    assert (whole[:, 45:] == 7).all() and not (whole[:, :34] == 7).all(axis=(0, 1)).any()
    assert (completed(some, drawn, 99.0)[:, 45:] != 7).any()
    behind = np.diag([-1.0, 1.0, -1.0, 1.0])
    assert (completed(carried(photo, flat, behind, 64), drawn, 4.0) == 7).all()


def test_pixels_without_a_depth_are_not_carried_over(photo):
    valid = np.arange(64)[None].repeat(64, 0) < 32
    depth = DepthMap(np.where(valid, 2.0, 0.0).astype(np.float32), valid)
    some = carried(photo, depth, np.eye(4), 64)
    assert (some.shown == valid).all() and not some.pixels[~valid].any()


@pytest.mark.parametrize("said", [WALK, "turn right 180 degrees", "go back 1 m, then go left 0.5 m"])
def test_a_walk_from_a_photo(nano, photo, said):
    run = executor(nano).run(Problem.video(said, photo, metadata={"frames": 5}))
    assert not run.faults, run.faults
    clip = run.output
    assert isinstance(clip, Video) and clip.frames.shape == (5, 64, 64, 3)
    assert (
        np.abs(clip.frames[0].astype(int) - photo).mean() < np.abs(clip.frames[4].astype(int) - photo).mean()
    )
    again = executor(nano).run(Problem.video(said, photo, metadata={"frames": 5}))
    assert np.array_equal(clip.frames, again.output.frames)


def test_clips_have_the_length_and_size_that_are_asked_for(nano):
    large = np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)
    whole = executor(nano).run(Problem.video("turn left 5 degrees", large, metadata={"width": 128})).output
    assert whole.frames.shape == (Nano.length, 128, 128, 3)
    one = executor(nano).run(Problem.video(WALK, large, metadata={"frames": 1})).output
    assert one.frames.shape == (1, 64, 64, 3)


def test_a_walk_does_not_depend_on_what_is_filmed_beside_it(nano, photo):
    problems = [Problem.video(said, photo, metadata={"frames": 3}) for said in (WALK, "fly", "go back 1 m")]
    runs = list(executor(nano).map(problems))
    assert "not understood" in runs[1].faults[0].message and runs[1].output is None
    for i in (0, 2):
        alone = executor(nano).run(problems[i]).output.frames
        assert np.abs(alone.astype(int) - runs[i].output.frames).max() <= 2


@pytest.mark.parametrize(
    ("said", "pictures", "metadata", "why"),
    [
        ("a red cone", 1, {}, "go forward 1 m"),
        (WALK, 0, {}, "from a photo"),
        (WALK, 2, {}, "one photo"),
        (WALK, 1, {"width": 32}, "64 to 1024 pixels"),
        (WALK, 1, {"width": 64, "height": 128}, "square ones"),
        (WALK, 1, {"frames": 0}, "no number of frames"),
        (WALK, 1, {"width": 1024, "frames": 500}, "64 megapixels"),
        ("go forward 9 m, then turn left 170 degrees", 1, {}, "outside of the room"),
    ],
)
def test_what_cannot_be_filmed_is_refused_in_words(nano, photo, said, pictures, metadata, why):
    run = executor(nano).run(Problem.video(said, *[photo] * pictures, metadata={"frames": 3} | metadata))
    assert run.output is None and why in run.faults[0].message


def test_a_photo_of_another_shape_is_refused(nano, photo):
    run = executor(nano).run(Problem.video(WALK, photo[:, :48].copy()))
    assert run.output is None and "square" in run.faults[0].message


@pytest.mark.parametrize("calls", [["depth_estimate"], ["depth_estimate", "visual_token_rollout"]])
def test_a_view_is_drawn_only_where_the_photo_does_not_show_it(nano, photo, calls):
    pose = CameraPose((0.0, 0.0, 0.25), (0.0, 0.0, 0.0))
    drawn = executor(nano, *calls[1:]).run(Problem.novel_view(photo, pose=pose))
    told = executor(nano, *calls).run(Problem.novel_view(photo, pose=pose))
    assert not told.faults, told.faults
    assert not np.array_equal(told.output.views, drawn.output.views)
    depth = told.workspace[0].value
    some = carried(photo, depth, pose.matrix, 64)
    assert np.array_equal(told.output.views[0][some.shown], some.pixels[some.shown])


def test_a_depth_map_in_another_unit_than_the_pose_is_refused(nano, photo):
    @primitive(reads=(), writes=DepthMap, name="somebody")
    def somebody(view):
        return DepthMap(np.ones((64, 64), np.float32), unit="relative")

    pose = CameraPose((0.0, 0.0, 0.25), (0.0, 0.0, 0.0))
    run = executor(nano, "somebody", primitives=[somebody]).run(Problem.novel_view(photo, pose=pose))
    assert run.output is None and "in metres" in run.faults[0].message


def test_walks_are_filmed_with_weights_for_both_depth_and_views(tmp_path, photo):
    assert VideoGenerator in Nano(save_drawer(tmp_path / "both", TASKS)).provides
    for task, lacks in (
        ("depth", "draw views: .* --tasks generation,novel_view"),
        ("novel_view", "draw depth"),
    ):
        nano = Nano(save_drawer(tmp_path / task, [task]))
        assert VideoGenerator not in nano.provides
        with pytest.raises(MissingCapability, match=f"nano lacks weights that {lacks}"):
            executor(nano).run(Problem.video(WALK, photo))
    with pytest.raises(MissingCapability, match="draw depth and draw views: .* generation,depth,novel_view"):
        executor(Nano(save_drawer(tmp_path / "neither", ["editing"]))).run(Problem.video(WALK, photo))


def test_walks_as_problems_hold_their_truth():
    one = walks(5)
    true = np.array(one.metadata["truth"]["frames"], np.uint8)
    assert true.shape == (5, 64, 64, 3) and np.array_equal(true[0], one.images[0].pixels)
    assert score(one, Video(true))["score"] == pytest.approx(1)
    still = score(one, Video(true[:1].repeat(5, 0)))
    assert still["score"] == still["SSIM of standing still"] < 0.9
    # The words say where the camera went: by the true depth of the same photo, its pixels are seen there.
    depth = DepthMap(np.array(depths(5).metadata["truth"]["depth"], np.float32))
    for frame, pose in zip(true[1:], parse_walk(one.prompt).poses(5).numpy()[1:], strict=True):
        some = carried(true[0], depth, pose, 64)
        off, still = (np.abs(one.astype(int) - frame)[some.shown].mean() for one in (some.pixels, true[0]))
        assert off < still / 2
    assert len(walks(5, frames=3).metadata["truth"]["frames"]) == 3
    for number, options in ((-1, {}), (0, {"task": "depth"}), (0, {"frames": 1}), (0, {"frames": 999})):
        with pytest.raises(ProblemError):
            walks(number, **options)
