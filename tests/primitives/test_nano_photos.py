"""The embedded model draws from photos: real weights of a tiny model, made here, from a photo to a
picture."""

import shutil

import numpy as np
import pytest
import torch
from tiny.nano_models import save_drawer

from nano_omni import familiarity, tokenizer
from nano_omni.config import CONFIGS
from nano_omni.model import NanoOmni
from primitives.backends.nano import Nano, depths, edits, views
from primitives.backends.nano.verdicts import editing as scored
from primitives.backends.nano.verdicts import view_objects as objects_score
from primitives.depth import depth, depth_estimate
from primitives.drawing import editing
from primitives.pose import camera_pose_estimate
from primitives.thinking import oracle_text, text_think, text_think_long
from primitives.views import novel_view
from primitives.visual_tokens import visual_token_rollout
from unroller import CameraPose, Executor, Problem, Text, primitive
from unroller.capabilities import DepthEstimator, ImageEditor, ImageGenerator
from unroller.faults import ContractError, MissingCapability, ProblemError
from unroller.picture_scorers import depth as depth_score
from unroller.picture_scorers import novel_view as view_score
from unroller.problem import Intrinsics
from unroller.values import DepthMap, Image, NovelViews, VisualTokens

PRIMITIVES = [text_think, text_think_long, visual_token_rollout, oracle_text, camera_pose_estimate]
CHANGE = "make the red cone green"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_drawer(tmp_path_factory.mktemp("photos"), ["generation", "editing", "depth", "novel_view"])


@pytest.fixture
def nano(folder):
    return Nano(folder, steps=2, refuse=False)


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def executor(nano, *calls, **options):
    options = {"primitives": PRIMITIVES, "decoders": [editing, depth, novel_view], "memo": None} | options
    return Executor(backend=nano, policy=list(calls), **options)


def somebody(said, kind):
    @primitive(reads=(), writes=Text, name="somebody")
    def wrote(view):
        return Text(said, kind=kind)

    return wrote


# ---------------------------------------------------------------------------------------------------- editing


@pytest.mark.parametrize(
    "calls", [[], ["text_think"], ["visual_token_rollout"], ["text_think_long", "visual_token_rollout"]]
)
def test_a_picture_is_changed(nano, photo, calls):
    run = executor(nano, *calls).run(Problem.editing(photo, CHANGE))
    assert not run.faults, run.faults
    assert isinstance(run.output, Image) and run.output.pixels.shape == (64, 64, 3)
    assert [entry.action for entry in run.workspace] == calls


def test_weights_that_change_nothing_leave_every_pixel_round_after_round(tmp_path, photo):
    nano = Nano(save_drawer(tmp_path, ["editing"], spoiled=0.0), steps=3, refuse=False)
    picture = photo
    for _ in range(3):
        picture = executor(nano).run(Problem.editing(picture, CHANGE)).output.pixels
    assert np.array_equal(picture, photo)


def test_larger_pictures_come_back_as_large(nano, photo):
    large = photo.repeat(3, 0).repeat(3, 1)
    run = executor(nano).run(Problem.editing(large, CHANGE))
    assert run.output.pixels.shape == (192, 192, 3)


def test_what_changes_in_a_larger_picture_is_replaced_and_nothing_of_the_old_is_left(nano):
    from nano_omni.autoencoder import autoencoder
    from nano_omni.latents import patches
    from primitives.backends.nano import photos

    old = np.full((256, 256, 3), 200, np.uint8)
    old[96:160, 96:160] = np.indices((64, 64)).sum(0)[..., None] % 2 * 255  # finer than 64 pixels a side hold
    new = torch.full((1, 3, 64, 64), 200, dtype=torch.uint8)
    new[:, :, 24:40, 24:40] = torch.tensor([220, 20, 20]).view(3, 1, 1)

    class Drawer:
        def latents(self, asked, seeds):
            return [patches(autoencoder().encode(new))[0]]

    (made,) = photos.edited(Drawer(), [old], [photos.wanted([old])], [0])
    inside, outside = made.pixels[108:148, 108:148].astype(float), made.pixels[:64]
    assert inside.std((0, 1)).max() < 25, "the old pattern's edges are gone"
    assert inside.mean((0, 1))[0] > 150 > 80 > inside.mean((0, 1))[1] and (outside == 200).all()


def test_a_camera_that_sees_less_than_the_model_was_taught_is_refused(nano, photo):
    narrow, right = [Intrinsics(fx=f, fy=f, cx=32, cy=32) for f in (90, 32)]
    for task, asked in ("depth", {}), ("novel_view", {"pose": CameraPose((0.5, 0, 0), (0, 0, 0))}):
        for camera, known in (narrow, False), (right, True):
            problem = Problem(task=task, images=[photo], intrinsics=camera, **asked)
            run = executor(nano).run(problem)
            assert (run.output is not None) == known == nano.knows(problem)
            assert known or "sees 39 degrees" in str(run.faults[-1].message)


def test_it_does_not_know_what_it_cannot_draw_or_has_no_files_for(nano, photo, tmp_path, folder):
    around = Problem(task="novel_view", images=[photo])
    assert not nano.knows(around), "no pose: from where the photo was taken, which takes two photos"
    assert nano.knows(Problem(task="depth", images=[photo]))
    shutil.copytree(folder, tmp_path / "cut")
    model = tmp_path / "cut" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:2000])
    assert not Nano(tmp_path / "cut").knows(Problem(task="depth", images=[photo])), "others may know it"


def test_a_question_about_one_photo_is_told_to_take_two(nano, photo):
    asked = Problem(
        task="spatial",
        images=[photo],
        question="Stand at the red box and face the blue cone. Where is the green cone?",
        choices=("front", "right", "behind", "left"),
    )
    run = Executor(backend=nano, primitives=PRIMITIVES, policy=["text_think"], memo=None).run(asked)
    assert "about two photos of one room" in run.faults[0].message


def test_the_photo_is_read_once_for_all_contexts_steps_and_branches(nano, photo):
    run = executor(nano, "text_think_long", "visual_token_rollout").run(Problem.editing(photo, CHANGE))
    reading = run.spent.reading
    photo_and_words = 17 + 16 + 6 + 1 + 2  # tag and patches, latents, the change, what opens two contexts
    companions = 2 + 19  # no change, and the roll-out after it
    assert reading.prefilled <= photo_and_words + companions
    assert reading.reused > 0


def test_a_change_does_not_depend_on_what_is_changed_beside_it(folder, photo):
    other = np.flip(photo, 0).copy()
    problems = [
        Problem.editing(p, said, seed=3) for p, said in ((photo, CHANGE), (other, "remove the red cone"))
    ]
    together = [run.output.pixels for run in executor(Nano(folder, steps=2, refuse=False)).map(problems)]
    alone = executor(Nano(folder, steps=2, refuse=False)).run(problems[1]).output.pixels
    assert np.abs(together[1].astype(int) - alone.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("make the red cone pink", "pink"),
        ("make it nicer", "not understood"),
        ("move the red cone left of itself", "itself"),
        ("remove the red cone, then the blue box", "one change at a time"),
        ("<edit>remove the red cone</edit>", "no tags; what is not understood: '<edit>remove"),
        ("make the red cones green", "one object at a time"),
    ],
)
def test_what_is_no_change_is_refused_in_words(nano, photo, prompt, says):
    run = executor(nano, "text_think", "visual_token_rollout").run(Problem.editing(photo, prompt))
    assert run.output is None and len(run.faults) == 3
    assert all(fault.kind == "InputError" and says in fault.message for fault in run.faults)


def test_an_object_that_is_not_seen_is_refused(folder, tmp_path):
    torch.manual_seed(0)
    model = NanoOmni(config=CONFIGS["tiny"]).to_be_taught(["editing"])
    with torch.no_grad():  # sees a room and nothing else
        model.name_patch.weight.zero_()
        model.name_patch.bias.copy_(torch.tensor([20.0] + [0.0] * 32))
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    grey = np.full((64, 64, 3), 99, np.uint8)
    run = executor(Nano(tmp_path, steps=1)).run(Problem.editing(grey, CHANGE))
    assert "sees no red cone in this picture; it is sure of nothing" in run.faults[0].message


def test_pictures_of_other_shapes_and_several_pictures_are_refused(nano, photo):
    for wrong, says in ((photo[:40], "64 x 40"), (photo[:32, :32], "32 pixels")):
        (fault,) = executor(nano).run(Problem.editing(wrong, CHANGE)).faults
        assert says in fault.message
    two = Problem(task="editing", images=(photo, photo), prompt=CHANGE)
    assert "give one picture" in executor(nano).run(two).faults[0].message


def test_an_oracle_is_read_and_a_stranger_is_not(nano, photo):
    truth = {"oracle": {"think": "green cone 330deg 2.5m"}}
    run = executor(nano, "oracle_text").run(Problem.editing(photo, CHANGE, metadata=truth))
    assert run.output is not None and not run.faults
    strange = somebody("the cone, but green", "think")
    run = executor(nano, "somebody", primitives=[strange]).run(Problem.editing(photo, CHANGE))
    assert run.output is None and "own words" in run.faults[-1].message


# ------------------------------------------------------------------------------------------- depth and views


def test_depth_of_one_photo_and_of_two(nano, photo):
    for photos in ((photo,), (photo, np.flip(photo, 1).copy()), (photo.repeat(2, 0).repeat(2, 1),)):
        run = executor(nano).run(Problem.depth(*photos))
        assert not run.faults, run.faults
        assert isinstance(run.output, DepthMap) and run.output.unit == "metre"
        assert tuple(run.output.depth.shape) == photos[0].shape[:2]
        assert run.output.depth.min() >= 0.3 and run.output.depth.max() <= 8.001


@pytest.mark.parametrize(
    ("kind", "said"),
    [("caption", "photo1 30deg 2.5m red cone +1.25m +3m"), ("depth_caption", "1.5m red cone 2.25m blue box")],
)
def test_depth_is_drawn_from_what_is_told(nano, photo, kind, said):
    other = np.flip(photo, 1).copy()
    told = executor(nano, "somebody", primitives=[somebody(said, kind)]).run(
        Problem.depth(photo, other, seed=1)
    )
    assert not told.faults, told.faults
    bare = executor(nano).run(Problem.depth(photo, other, seed=1))
    assert not np.array_equal(told.output.depth, bare.output.depth)
    alone = executor(nano, "somebody", primitives=[somebody(said, kind)]).run(Problem.depth(photo))
    assert alone.output is None and "give it both" in alone.faults[-1].message


def test_a_pose_and_a_depth_map_in_the_context_are_no_words_to_it(tmp_path, photo):
    """What is geometry has a place of its own in a request."""
    familiarity.Familiarity(torch.zeros(32), torch.eye(32), 1e6, 0.0).save(tmp_path)
    nano = Nano(save_drawer(tmp_path, ["depth", "novel_view"]), steps=2)
    known = [depth_estimate, camera_pose_estimate]
    pose = CameraPose((0.5, 0.0, 0.0), (0.0, 0.0, 0.0))
    for problem in (Problem.novel_view(photo, photo, pose=pose), Problem.depth(photo, photo)):
        calls = ["camera_pose_estimate"] + ["depth_estimate"] * (problem.task == "novel_view")
        run = executor(nano, *calls, primitives=known).run(problem)
        assert not run.faults, run.faults
        assert run.output is not None and len(run.workspace) == len(calls)


def test_depth_from_words_that_are_none_is_refused(nano, photo):
    run = executor(nano, "somebody", primitives=[somebody("far away", "depth_caption")]).run(
        Problem.depth(photo, photo)
    )
    assert run.output is None and "own words" in run.faults[-1].message


@pytest.mark.parametrize("scale", ["metric", "relative"])
@pytest.mark.parametrize("calls", [[], ["visual_token_rollout"]])
def test_a_view_from_a_pose(nano, calls, scale):
    """relative: as numbers on the command line are, in the unit of what is drawn."""
    problem = views(3)
    pose = CameraPose(problem.pose.translation, problem.pose.rotation, scale=scale)
    problem = problem.model_copy(update={"metadata": {}, "pose": pose})
    run = executor(nano, *calls).run(problem)
    assert not run.faults, run.faults
    assert run.output.views.shape == (1, 64, 64, 3)
    assert np.allclose(run.output.poses[0][0], problem.pose.translation)
    assert all(
        isinstance(entry.value, VisualTokens) and entry.value.grid == (4, 4) for entry in run.workspace
    )


@pytest.mark.parametrize(
    ("pose", "says"),
    [
        (CameraPose((0.0, 0.0, 50.0), (0.0, 0.0, 0.0)), "outside of the room"),
        (CameraPose((0.0, -1.5, 0.0), (0.0, 0.0, 0.0)), "along the floor"),
        (CameraPose((0.0, 0.0, 0.0), (1.0, 0.0, 0.0)), "along the floor"),
        (CameraPose((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), scale="unit"), "in metres"),
    ],
)
def test_poses_that_there_are_no_words_for_are_refused(nano, photo, pose, says):
    run = executor(nano).run(Problem.novel_view(photo, pose=pose))
    assert run.output is None and says in run.faults[0].message


# --------------------------------------------------------------------------------------- what is taught


def test_weights_say_what_they_were_taught(tmp_path, photo):
    prompts = Nano(save_drawer(tmp_path / "prompts", ["generation"]))
    assert ImageGenerator in prompts.provides
    assert not {ImageEditor, DepthEstimator} & set(prompts.provides)
    with pytest.raises(
        MissingCapability, match=r"nano lacks weights that change pictures: .*generation,editing"
    ):
        executor(prompts).run(Problem.editing(photo, CHANGE))
    with pytest.raises(MissingCapability, match=r"nano lacks weights that draw depth"):
        executor(prompts).run(Problem.depth(photo))
    pose = CameraPose((0.5, 0.0, 0.0), (0.0, 0.0, 0.0))
    (fault,) = executor(prompts).run(Problem.novel_view(photo, pose=pose)).faults
    assert "weights that draw views" in fault.message
    edits_only = Nano(save_drawer(tmp_path / "edits", ["editing"]))
    assert ImageEditor in edits_only.provides and DepthEstimator not in edits_only.provides


def test_objects_of_a_view_are_found_again_where_they_should_be():
    turned = 0.0
    for view in map(views, range(6)):
        true = np.array(view.metadata["truth"]["views"], np.uint8)
        assert objects_score(view, NovelViews(true, ("pose",)))["score"] == 1.0
        grey = objects_score(view, NovelViews(np.full_like(true, 128), ("pose",)))
        assert grey == {"score": 0.0, "precision": 0.0}  # of every problem, or rows could not be compared
        turned += objects_score(view, NovelViews(true[:, :, ::-1].copy(), ("pose",)))["score"]
    assert turned < 3
    with pytest.raises(ProblemError, match="has no true views"):
        objects_score(Problem.novel_view(true[0], pose=CameraPose((0.5, 0, 0), (0, 0, 0))), None)
    with pytest.raises(ContractError, match="2 views were drawn, and 1 are true"):
        objects_score(view, NovelViews(np.repeat(true, 2, 0), ("pose", "pose")))


def test_problem_sets_hold_their_truth():
    change, room, view = edits(5), depths(5), views(5)
    assert scored(change, change.images[0]) == {"score": 0.0, "kept": 1.0}
    assert scored(change, None) == {"score": 0.0, "kept": 0.0}
    true = np.array(room.metadata["truth"]["depth"], np.float32)
    assert depth_score(room, DepthMap(true))["score"] == 1.0
    (shown,) = np.array(view.metadata["truth"]["views"], np.uint8)
    assert shown.shape == (64, 64, 3)
    assert view_score(view, None)["score"] == 0.0
    with pytest.raises(ValueError, match="no number -1"):
        edits(-1)
    with pytest.raises(ValueError, match="for the task depth"):
        depths(0, task="pose")
