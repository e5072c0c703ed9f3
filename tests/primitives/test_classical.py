"""Two-view geometry end to end, on rendered rooms whose truth is known, and on photos that are none."""

import io
import math

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller import STOP, CameraPose, Executor, Problem
from unroller.faults import MissingCapability, ProblemError
from unroller.images import decode_image
from unroller.values import pose_errors

pytest.importorskip("cv2")
torch = pytest.importorskip("torch")

WIDTH, HEIGHT = 320, 240


class Room:
    """Two rendered photos, the camera, and where the second was really taken."""

    def __init__(self, seed):
        from nano_omni.world import render_pair

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # on a busy machine many threads are slower than one
        pair = render_pair(seed, WIDTH, HEIGHT, samples=1)
        torch.set_num_threads(threads)
        self.first, self.second = (image.cpu().numpy() for image in pair.images)
        self.k = pair.intrinsics.double().cpu().numpy()
        self.pose = CameraPose.from_matrix(pair.relative.double().cpu().numpy())
        self.depth = pair.depth[0].cpu().numpy()
        self.distance = math.hypot(*self.pose.translation)

    def problem(self, task="pose", **fields):
        fields = {"images": [self.first, self.second], "intrinsics": self.k} | fields
        return Problem(task=task, **fields)


@pytest.fixture(scope="module")
def room():
    return Room(7)


@pytest.fixture(scope="module")
def another_room():
    return Room(2)


@pytest.fixture
def executor():
    return Executor(backend="classical")


def as_jpeg(pixels, exif=None):
    out = io.BytesIO()
    options = {} if exif is None else {"exif": exif}
    Pillow.fromarray(pixels).save(out, "JPEG", quality=95, **options)
    return decode_image(out.getvalue())


# --------------------------------------------------------------------------------------------------- pose


def test_the_pose_of_two_photos_is_found_within_two_degrees(executor, room, another_room):
    for each in (room, another_room):
        run = executor.run(each.problem())
        assert [e.action for e in run.entries] == ["camera_pose_estimate", "describe_motion"]
        rotation, direction = pose_errors(run.output, each.pose)
        assert rotation < 2 and direction < 2
        assert run.output.scale == "unit" and run.output.inliers > 50 and run.output.confidence > 0.5
        assert not run.faults


def test_the_sentence_says_where_the_camera_went(executor, room, another_room):
    forward, x = room.pose.translation[2], another_room.pose.translation[0]
    assert forward > 0 and x > 0, "what the rooms are"
    sentence = executor.run(room.problem()).entries[1].value.text
    assert sentence.startswith("The camera moved forward") and "turned right by 20°" in sentence
    sentence = executor.run(another_room.problem()).entries[1].value.text
    assert sentence.startswith("The camera moved right") and "turned left by 14°" in sentence


def test_the_photos_the_other_way_round_give_the_inverse(executor, room):
    x = room.problem(images=[room.second, room.first])
    rotation, direction = pose_errors(executor.run(x).output, room.pose.inverse)
    assert rotation < 2 and direction < 2


def test_the_same_photos_give_the_same_pose_whatever_the_batch(executor, room, another_room):
    alone = executor.extend(memo=None).run(room.problem()).output
    fresh = Executor(backend="classical", memo=None)
    runs = list(fresh.map([another_room.problem(), room.problem(), room.problem(seed=5)]))
    assert runs[1].output == alone and runs[2].output == alone


def test_a_photo_that_was_turned_upright_by_exif_is_the_photo(executor, room):
    exif = Pillow.Exif()
    exif[0x0112] = 6
    sideways = np.ascontiguousarray(np.rot90(room.second))
    upright = as_jpeg(sideways, exif)
    assert upright.size == (WIDTH, HEIGHT)
    x = room.problem(images=[as_jpeg(room.first), upright])
    assert max(pose_errors(executor.run(x).output, room.pose)) < 3


# ------------------------------------------------------------------------------------- whose intrinsics


def test_given_intrinsics_are_used_and_nothing_is_assumed(executor, room):
    run = executor.run(room.problem())
    assert "assumed" not in run.output.note


def test_without_intrinsics_the_default_is_stated(executor, room):
    run = executor.run(room.problem(intrinsics=None))
    assert "The focal length of both photos is assumed (60° field of view)." in run.output.note
    run = executor.run(room.problem(intrinsics=[room.k, None]))
    assert "The focal length of the second photo is assumed" in run.output.note


def test_the_focal_length_of_exif_is_used_where_none_is_given(executor, room):
    diagonal = math.hypot(WIDTH, HEIGHT)
    exif = Pillow.Exif()
    exif.get_ifd(0x8769)[0xA405] = round(room.k[0, 0] / diagonal * 43.27)
    photos = [as_jpeg(room.first, exif), as_jpeg(room.second, exif)]
    assert photos[0].focal_px == pytest.approx(room.k[0, 0], rel=0.05)
    run = executor.run(room.problem(images=photos, intrinsics=None))
    assert "assumed" not in run.output.note
    assert max(pose_errors(run.output, room.pose)) < 5


# --------------------------------------------------------------------------------- photos that will not do


def blank():
    return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_two_identical_photos_are_a_camera_that_did_not_move(executor, room):
    run = executor.run(room.problem(images=[room.first, room.first.copy()]))
    assert run.output.scale == "none" and run.output.translation == (0, 0, 0)
    assert math.degrees(math.hypot(*run.output.rotation)) < 0.5
    assert run.entries[1].value.text == "The camera did not move."


@pytest.mark.parametrize("what", ["another room", "noise", "blank"])
def test_photos_without_overlap_are_a_recorded_fault_with_the_reason(executor, room, another_room, what):
    other = {"another room": another_room.second, "noise": noise(1), "blank": blank()}[what]
    run = executor.run(room.problem(images=[room.first, other]))
    assert run.output is None
    kinds = {(f.action, f.kind, f.phase) for f in run.faults}
    assert ("camera_pose_estimate", "InputError", "call") in kinds
    assert ("pose", "InputError", "decode") in kinds
    assert all(len(f.message) > 20 for f in run.faults)


def test_one_bad_pair_in_a_batch_costs_the_others_nothing(executor, room, another_room):
    pairs = [(room.first, room.second), (room.first, blank()), (another_room.first, another_room.second)]
    runs = list(executor.map([room.problem(images=list(pair)) for pair in pairs]))
    assert [run.output is not None for run in runs] == [True, False, True]


@pytest.mark.parametrize("shape", [(1, 1), (4, 400), (16, 16)])
def test_photos_of_hardly_any_pixels_are_a_fault_and_no_crash(executor, shape):
    tiny = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    run = executor.run(Problem.relative_pose(tiny, tiny[::-1].copy()))
    assert run.output is None or run.output.scale in ("none", "unit")
    assert all(f.kind in ("InputError", "NotAllowed") for f in run.faults), run.faults


def test_photos_of_different_sizes_can_be_compared(executor, room):
    half = np.asarray(Pillow.fromarray(room.second).resize((WIDTH // 2, HEIGHT // 2), Pillow.Resampling.BOX))
    small_k = room.k.copy()
    small_k[:2] /= 2
    run = executor.run(room.problem(images=[room.first, half], intrinsics=[room.k, small_k]))
    assert max(pose_errors(run.output, room.pose)) < 4


def test_one_photo_where_two_are_needed_is_refused(executor, room):
    with pytest.raises(ProblemError, match="needs two photos of one scene, and has 1"):
        executor.run(Problem(task="pose", images=room.first))


# ---------------------------------------------------------------------------------------- depth and views


def test_depth_is_in_units_of_the_distance_between_the_cameras(executor, another_room):
    run = executor.run(another_room.problem("depth"))
    depth = run.output
    assert run.entries == []  # two photos are all that geometry needs
    assert depth.unit == "baseline" and depth.depth.shape == (HEIGHT, WIDTH)
    metres, true = depth.depth[depth.valid] * another_room.distance, another_room.depth[depth.valid]
    assert depth.valid.mean() > 0.2 and np.median(np.abs(metres - true) / true) < 0.05
    assert not depth.depth[~depth.valid].any()


def test_depth_that_the_context_holds_is_the_answer(executor, another_room):
    calls = ["camera_pose_estimate", "depth_estimate"]
    run = executor.extend(policy=calls).run(another_room.problem("depth"))
    assert run.output is run.entries[1].value


def test_depth_takes_the_unit_of_a_metric_pose(room):
    from primitives.backends.classical import Classical
    from unroller.capabilities import DepthRequest
    from unroller.problem import Intrinsics
    from unroller.values import Image

    camera = Intrinsics.of(room.k)
    request = DepthRequest(Image(room.first), camera, Image(room.second), camera, room.pose)
    (depth,) = Classical().estimate_depth([request], seeds=[0])
    true = room.depth[depth.valid]
    assert depth.unit == "metre" and depth.valid.mean() > 0.2
    assert np.median(np.abs(depth.depth[depth.valid] - true) / true) < 0.1


def test_depth_of_one_photo_needs_a_model_that_geometry_is_not(executor, room):
    run = executor.run(Problem.depth(room.first))
    assert run.output is None
    assert "needs a second photo of the scene" in run.faults[-1].message


def test_views_in_four_directions_show_what_the_photo_saw_and_say_what_it_did_not(executor, room):
    run = executor.extend(policy=[]).run(room.problem("novel_view"))
    views = run.output
    assert views.directions == ("up", "down", "left", "right") and views.views.shape == (4, HEIGHT, WIDTH, 3)
    left, right = views.valid[2].mean(axis=0), views.valid[3].mean(axis=0)
    assert left[:20].mean() < 0.1 < left[-20:].mean(), "what lies further left was not seen"
    assert right[-20:].mean() < 0.1 < right[:20].mean()


def test_looking_to_the_right_moves_the_picture_to_the_left(executor, room):
    """A view to the right is what the second photo would be had the camera only turned."""
    x = room.problem("novel_view", pose=CameraPose((0, 0, 0), (0, math.radians(10), 0), "none"))
    run = executor.extend(policy=[]).run(x)
    seen = run.output.valid[0]
    f, cx = room.k[0, 0], room.k[0, 2]
    shifted = int(cx - f * math.tan(math.radians(10)))
    centre = room.first[HEIGHT // 2 - 2 : HEIGHT // 2 + 2, WIDTH // 2 - 2 : WIDTH // 2 + 2].mean((0, 1))
    found = run.output.views[0][HEIGHT // 2 - 2 : HEIGHT // 2 + 2, shifted - 2 : shifted + 2].mean((0, 1))
    assert seen[HEIGHT // 2, shifted] and np.abs(centre - found).max() < 25


def test_a_camera_that_moves_is_drawn_from_depth_and_refused_without(executor, room):
    step = CameraPose((0.2, 0, 0), (0, 0, 0), "relative")
    run = executor.run(room.problem("novel_view", pose=step))
    assert run.output.directions == ("pose",) and run.output.valid.mean() > 0.2
    run = executor.run(Problem.novel_view(room.first, pose=step))
    assert run.output is None and "needs the photo's depth" in run.faults[-1].message


def test_a_direction_that_is_none_is_named(executor, room):
    with pytest.raises(ProblemError, match="no direction is called 'inside'"):
        executor.extend(policy=[]).run(room.problem("novel_view", look=("inside",)))


# ------------------------------------------------------------------------------------- what it cannot do


def test_a_question_needs_a_capability_that_geometry_does_not_have(executor, room):
    with pytest.raises(MissingCapability) as raised:
        executor.run(room.problem("spatial", question="Where is the cone?", choices=["left", "right"]))
    message = str(raised.value)
    assert message.startswith("spatial needs AnswerScorer, which no chosen backend provides (classical).")


def test_actions_that_need_another_backend_are_refused_with_that_reason(executor, room):
    seen = {}

    def watch(state):
        seen.update({name: state.refusal(name) for name in state.actions})
        return STOP

    executor.extend(policy=watch).run(room.problem())
    assert seen["camera_pose_estimate"] is None and seen["depth_estimate"] is None
    unable = {name for name, reason in seen.items() if reason and "no chosen backend provides" in reason}
    assert unable == {name for name in seen if executor.actions[name].missing is not None}


def test_graph_and_schedule_do_the_same(room):
    planned = Executor(backend="classical", planner="graph").run(room.problem())
    scheduled = Executor(backend="classical", policy="schedule").run(room.problem())
    assert planned.output == scheduled.output
    assert [e.id for e in planned.entries] == [e.id for e in scheduled.entries]
