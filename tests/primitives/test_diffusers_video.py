"""Clips and in-painted views by Wan pipelines: real ones, as diffusers saves them, but tiny and untrained."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from unroller import Executor, Problem
from unroller.capabilities import DepthEstimator, Prompt, VideoGenerator, ViewRequest, ViewSynthesizer
from unroller.check import check
from unroller.faults import InputError, MissingCapability, NotFinite, PluginError
from unroller.problem import Intrinsics
from unroller.rendering import TextSegment
from unroller.values import CameraPose, DepthMap, Image, NovelViews, Video

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("ftfy")
pytest.importorskip("cv2")

from tiny.video_pipelines import save_wan  # noqa: E402

from primitives.backends.asked_views import asked_of  # noqa: E402
from primitives.backends.diffusers_video import DiffusersVideo  # noqa: E402
from primitives.backends.diffusers_video.looking import scene_of, way_to  # noqa: E402
from primitives.backends.view_warp import rotate_view, warp_by_depth  # noqa: E402

WIDTH, HEIGHT, FRAMES = 48, 32, 5
ASIDE = CameraPose((0.4, 0.0, 0.0), (0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def vace(tmp_path_factory):
    return save_wan(tmp_path_factory.mktemp("vace"))


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    return save_wan(tmp_path_factory.mktemp("wan"), "WanPipeline")


def backend(folder, **settings):
    small = {"device": "cpu", "steps": 2, "frames": FRAMES, "pixels": WIDTH * HEIGHT}
    return DiffusersVideo(folder, **{**small, **settings})


def photo(seed=0, width=WIDTH, height=HEIGHT):
    return Image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def flat(image, metres=2.0, **fields):
    width, height = image.size
    return DepthMap(np.full((height, width), metres, np.float32), **fields)


def said(words):
    return Prompt((TextSegment(words),))


def clips(one, *prompts, starts=None, seeds=None, width=WIDTH, height=HEIGHT, frames=FRAMES):
    starts = starts or [None] * len(prompts)
    seeds = seeds or list(range(len(prompts)))
    return one.generate_video(prompts, starts, width=width, height=height, frames=frames, seeds=seeds)


def views(one, *requests, seeds=None):
    return one.synthesize_views(requests, seeds=seeds or list(range(len(requests))))


def loaded(one, folder):
    pipe = getattr(diffusers, one.checkpoint.kind).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


# ------------------------------------------------------------------------------------- where pixels land


def scene_with_a_board():
    """A blue wall four metres away and a red board two metres before it, 128 x 96 pixels."""
    pixels, depth = np.zeros((96, 128, 3), np.uint8), np.full((96, 128), 4.0, np.float32)
    pixels[..., 2] = 200
    pixels[32:64, 40:60], depth[32:64, 40:60] = (200, 0, 0), 2.0
    return Image(pixels), DepthMap(depth), Intrinsics(fx=100, fy=100, cx=64, cy=48)


def test_the_clip_goes_from_the_photo_to_what_is_seen_from_the_view():
    image, depth, camera = scene_with_a_board()
    to_the_left = CameraPose((-0.4, 0.0, 0.0), (0.0, 0.0, 0.0))
    request = ViewRequest(image, camera, (), to_the_left, depth)
    clip = way_to(asked_of(request)[0], scene_of(request, 128 * 96, 16), 17, 4)
    assert clip.frames.shape == (17, 96, 128, 3) and clip.known.shape == (17, 96, 128)
    assert clip.known[0].all() and np.array_equal(clip.frames[0], image.pixels)
    view, seen = clip.frames[-1], clip.known[-1]
    # The board moves right by 20 pixels, the wall by 10.
    assert (view[36:60, 61:79] == (200, 0, 0)).all() and seen[36:60, 61:79].all()
    assert not seen[36:60, 51:59].any(), "uncovered by the board"
    assert (view[36:60, 82:] == (0, 0, 200)).all() and not seen[:, :9].any()
    red = [np.flatnonzero(frame[48, :, 0]).mean() for frame in clip.frames]
    assert np.allclose(red[:14], 49.5 + 20 / 13 * np.arange(14), atol=1.5), "evenly"
    assert len(set(red[13:])) == 1, "and then it rests"
    exact = warp_by_depth(image.pixels, depth.depth, depth.depth > 0, camera.matrix, to_the_left.matrix)
    assert np.array_equal(view, exact[0]) and np.array_equal(seen, exact[1])


def test_a_photo_that_is_worked_on_smaller_is_looked_at_by_the_same_angle():
    image, depth, camera = scene_with_a_board()
    request = ViewRequest(image, camera, (), CameraPose((-0.4, 0.0, 0.0), (0.0, 0.0, 0.0)), depth)
    scene = scene_of(request, 64 * 48, 16)
    assert scene.pixels.shape == (48, 64, 3) and scene.size == (128, 96)
    assert np.allclose(scene.k, [[50, 0, 32], [0, 50, 24], [0, 0, 1]])
    (asked,) = asked_of(request)
    view = way_to(asked, scene, 1, 4).frames[0]
    assert (view[19:29, 31:39] == (200, 0, 0)).all() and (view[19:29, 42:] == (0, 0, 200)).all()


# ------------------------------------------------------------------------------------------------ views


def test_a_view_is_what_the_pipeline_makes_of_the_turned_photo(vace):
    one = backend(vace, prompt="a room", guidance=4.0)
    assert one.provides == (ViewSynthesizer, VideoGenerator)
    assert isinstance(one, ViewSynthesizer) and isinstance(one, VideoGenerator)
    (ours,) = views(one, ViewRequest(photo(), None, ("left",), degrees=20.0), seeds=[7])
    turned, seen = rotate_view(photo().pixels, Intrinsics.default(WIDTH, HEIGHT).matrix, yaw=-np.radians(20))
    known = np.stack([np.ones_like(seen), *[seen] * 4])[..., None]
    shown = np.where(known, np.stack([photo().pixels, *[turned] * 4]) / 255, 0.5)
    holes = np.repeat(1.0 - known, 3, axis=-1)
    theirs = loaded(one, vace)(
        prompt="a room",
        video=[torch.tensor(shown, dtype=torch.float32).permute(0, 3, 1, 2)],
        mask=[torch.tensor(holes, dtype=torch.float32).permute(0, 3, 1, 2)],
        width=WIDTH,
        height=HEIGHT,
        num_frames=FRAMES,
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(7),
    ).frames[0][-1]
    assert np.array_equal(ours.views[0], (theirs * 255).round().astype(np.uint8))
    assert ours.valid is None, "all of it is the pipeline's"


def test_views_say_where_they_are_looked_from_and_in_which_unit(vace):
    depth = flat(photo(), unit="baseline")
    request = ViewRequest(photo(), None, ("right", "up"), ASIDE, depth, 25.0, index=1)
    (made,) = views(backend(vace), request)
    assert made.directions == ("right", "up", "pose") and made.views.shape == (3, HEIGHT, WIDTH, 3)
    turn = np.radians(25.0)
    assert made.poses == (
        ((0.0, 0.0, 0.0), (0.0, turn, 0.0)),
        ((0.0, 0.0, 0.0), (turn, 0.0, 0.0)),
        (ASIDE.translation, ASIDE.rotation),
    )
    assert made.unit == "baseline" and made.photo == 1
    (only_turned,) = views(backend(vace), ViewRequest(photo(), None, ("right",)))
    assert only_turned.unit is None


def test_views_come_in_order_and_as_if_alone_and_seeds_repeat(vace):
    one = backend(vace)
    requests = [
        ViewRequest(photo(0), None, ("left", "up")),
        ViewRequest(photo(1, 61, 40), None, (), ASIDE, flat(photo(1, 61, 40))),
        ViewRequest(photo(2), None, ("sideways",)),
        ViewRequest(photo(3), None, ()),
    ]
    first, second, odd, nothing = views(one, *requests, seeds=[5, 6, 7, 8])
    assert first.views.shape == (2, HEIGHT, WIDTH, 3) and second.views.shape == (1, 40, 61, 3)
    assert isinstance(odd, InputError) and "no direction is called 'sideways'" in str(odd)
    assert isinstance(nothing, InputError) and "no view was asked for" in str(nothing)
    assert views(one, requests[1], seeds=[6])[0] == second == views(backend(vace), requests[1], seeds=[6])[0]
    assert views(one, requests[1], seeds=[7])[0] != second
    (up,) = views(one, ViewRequest(photo(0), None, ("up",)), seeds=[5])
    assert np.array_equal(up.views[0], first.views[1]), "whatever else is asked for"


def test_what_is_said_of_the_views_counts(vace):
    request = ViewRequest(photo(), None, ("left",))
    assert views(backend(vace), request)[0] != views(backend(vace, prompt="a kitchen"), request)[0]
    marks = {backend(vace, **more).fingerprint for more in ({}, {"prompt": "a kitchen"}, {"frames": 9})}
    assert len(marks) == 3


# ------------------------------------------------------------------------------------------------ depth


class Flat:
    """A depth backend that takes every photo for a wall two units away."""

    name, max_batch, provides = "flat", 2, (DepthEstimator,)

    def __init__(self, unit="metre"):
        self.unit, self.fingerprint, self.asked = unit, f"flat {unit}", []

    def estimate_depth(self, requests, *, seeds):
        self.asked.append(list(seeds))
        return [flat(request.photo, unit=self.unit, photo=request.index) for request in requests]


def test_a_camera_that_moves_needs_depth_and_is_told_where_to_get_it(vace):
    to_the_left = ViewRequest(photo(), None, ("left",))
    turned, moved = views(backend(vace), to_the_left, ViewRequest(photo(), pose=ASIDE))
    assert isinstance(turned, NovelViews)
    assert isinstance(moved, InputError)
    assert "depth_estimate" in str(moved) and "depth=HFDepth(" in str(moved)
    with pytest.raises(PluginError, match="estimates no depth: give a backend"):
        backend(vace, depth="hf_depth")


def test_depth_that_no_request_brings_is_asked_of_the_backend_that_was_given(vace):
    deep = Flat()
    one = backend(vace, depth=deep)
    requests = [
        ViewRequest(photo(0), pose=ASIDE),
        ViewRequest(photo(1), None, ("left",)),
        ViewRequest(photo(2), pose=ASIDE, depth=flat(photo(2))),
        ViewRequest(photo(3), pose=ASIDE),
        ViewRequest(photo(4), pose=ASIDE),
    ]
    made = views(one, *requests)
    assert deep.asked == [[0, 3], [4]] and [one.unit for one in made] == ["metre", None, *["metre"] * 3]
    brought = ViewRequest(photo(3), pose=ASIDE, depth=flat(photo(3)))
    assert views(one, brought, seeds=[3])[0] == made[3]
    assert one.fingerprint != backend(vace).fingerprint


def test_metres_are_not_walked_in_a_depth_without_them(vace):
    one = backend(vace, depth=Flat("relative"))
    metres, relative = views(
        one,
        ViewRequest(photo(), pose=ASIDE),
        ViewRequest(photo(), pose=CameraPose((0.4, 0.0, 0.0), (0.0, 0.0, 0.0), "relative")),
    )
    assert isinstance(metres, InputError) and "a depth model that estimates metres" in str(metres)
    assert relative.unit == "relative"


# ------------------------------------------------------------------------------------------------ clips


@pytest.mark.parametrize("checkpoint", ["wan", "vace"])
def test_a_clip_is_what_the_pipeline_makes_with_the_same_generator(checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    one = backend(folder, fps=24.0)
    (ours,) = clips(one, said("a red cone"), seeds=[7])
    theirs = loaded(one, folder)(
        prompt="a red cone",
        width=WIDTH,
        height=HEIGHT,
        num_frames=FRAMES,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(7),
    ).frames[0]
    assert isinstance(ours, Video) and ours.fps == 24.0
    assert np.array_equal(ours.frames.numpy(), (theirs * 255).round().astype(np.uint8))


def test_clips_come_in_order_and_as_if_alone(vace):
    one = backend(vace)
    first, empty, second = clips(one, said("a cone"), Prompt(()), said("a box"), seeds=[1, 2, 3])
    assert isinstance(empty, InputError) and "say in words" in str(empty)
    assert clips(one, said("a box"), seeds=[3])[0] == second != first


def test_a_clip_begins_with_the_picture_that_is_given(vace, wan):
    one = backend(vace)
    free, a, b = clips(one, *[said("a cone")] * 3, starts=[None, photo(0), photo(1, 20, 40)], seeds=[1] * 3)
    assert len({clip.frames.numpy().tobytes() for clip in (free, a, b)}) == 3
    (refused,) = clips(backend(wan), said("a cone"), starts=[photo()])
    assert isinstance(refused, InputError) and "begins with no picture" in str(refused)


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ({"width": 50}, "the nearest it can draw is 48 x 32"),
        ({"height": 0}, "the nearest it can draw is 48 x 16"),
        ({"frames": 7}, "the nearest it can make is 9"),
        ({"frames": 0}, "the nearest it can make is 1"),
        ({"frames": 10**9}, "the nearest it can make is 1021"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_nearest_that_can(wan, size, says):
    (outcome,) = clips(backend(wan), said("a cone"), **size)
    assert isinstance(outcome, InputError) and str(outcome).endswith(says)


# ------------------------------------------------------------------------------------- through the engine


def test_a_view_from_a_step_aside_is_drawn_with_the_depth_of_the_context(vace):
    class Deep(Flat):
        fingerprint = "deep"

    ex = Executor(backend=[backend(vace), Deep()], policy=["depth_estimate"])
    run = ex.run(Problem.novel_view(photo(), pose=ASIDE))
    assert not run.faults and run.output.directions == ("pose",) and run.output.unit == "metre"
    without = ex.extend(policy=[]).run(Problem.novel_view(photo(), pose=ASIDE))
    assert "depth_estimate" in without.faults[0].message


def test_clips_are_made_from_problems_of_several_shapes(vace, tmp_path):
    ex = Executor(backend=backend(vace), policy=[], journal=tmp_path)
    shape = {"width": WIDTH, "height": HEIGHT, "frames": FRAMES}
    problems = [
        Problem.video("a cone", metadata=shape),
        Problem.video("a cone", photo(), metadata=shape),
        Problem.video("a cone", metadata={**shape, "frames": 1}),
        Problem.video("a cone", metadata={**shape, "frames": "many"}),
    ]
    with ex:
        *runs, wrong = ex.map(problems)
    assert [run.output.frames.shape[0] for run in runs] == [FRAMES, FRAMES, 1]
    assert runs[0].output != runs[1].output
    assert "'many' is no number of frames" in wrong.faults[0].message


@pytest.mark.parametrize("checkpoint", ["vace", "wan"])
def test_the_backend_keeps_its_contract(checkpoint, request):
    found = check(backend(request.getfixturevalue(checkpoint)))
    assert found.ok, str(found)


def test_without_a_folder_it_says_what_it_lacks(monkeypatch, vace):
    monkeypatch.delenv("UNROLLER_DIFFUSERS_VIDEO", raising=False)
    with pytest.raises(MissingCapability, match="lacks a checkpoint's folder in UNROLLER_DIFFUSERS_VIDEO"):
        Executor(backend=DiffusersVideo(), policy=[]).run(Problem.video("a cone"))
    monkeypatch.setenv("UNROLLER_DIFFUSERS_VIDEO", str(vace))
    assert DiffusersVideo(device="cpu").provides == (ViewSynthesizer, VideoGenerator)


# ------------------------------------------------------------------------------ what cannot be worked with


def refused(*args, kind=MissingCapability, **settings):
    with pytest.raises(kind) as raised:
        DiffusersVideo(*args, **settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def copy(vace, tmp_path):
    return shutil.copytree(vace, tmp_path / "copy")


def test_a_pipeline_that_completes_nothing_draws_no_views(wan):
    one = backend(wan)
    assert one.provides == (VideoGenerator,)
    with pytest.raises(MissingCapability, match="name a checkpoint of Wan VACE"):
        views(one, ViewRequest(photo(), None, ("left",)))


def test_what_is_no_wan_pipeline_is_refused_where_it_is_named(tmp_path):
    for kind in ("FluxPipeline", "WanImageToVideoPipeline", ["own", "MyPipeline"]):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
        assert "this backend needs a WanVACEPipeline" in refused(tmp_path)
    assert "no such folder" in refused(tmp_path / "nowhere")


def test_parts_and_weights_that_are_missing_are_named(copy):
    from safetensors.torch import load_file, save_file

    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    lost = sorted(held)[3]
    save_file({n: t for n, t in held.items() if n != lost}, file, metadata={"format": "pt"})
    with pytest.raises(MissingCapability, match="transformer lacks 1 of the weights of its "):
        clips(backend(copy), said("a cone"))
    file.write_bytes(file.read_bytes()[:-100])
    assert "was cut short" in refused(copy)
    shutil.rmtree(copy / "transformer")
    assert "lacks parts of its WanVACEPipeline (transformer)" in refused(copy)


def test_settings_that_are_none_are_refused(vace):
    for wrong in ({"steps": 0}, {"frames": 0}, {"pixels": 0}):
        assert "give 1 or more" in refused(vace, **wrong, kind=PluginError)
    for wrong in ({"fps": 0.0}, {"shift": float("nan")}, {"shift": -1.0}):
        assert "give more than 0" in refused(vace, **wrong, kind=PluginError)
    assert "guidance=-1" in refused(vace, guidance=-1, kind=PluginError)
    assert "prompt is empty" in refused(vace, prompt=" ", kind=PluginError)
    assert "no window policy is called 'shorten'" in refused(vace, window="shorten", kind=PluginError)
    assert "options must be plain data" in refused(vace, options={"a": print}, kind=PluginError)
    assert "is no dtype" in refused(vace, dtype="float31", kind=PluginError)


def test_settings_that_the_pipeline_does_not_take_are_refused_by_name(vace):
    with pytest.raises(PluginError, match="takes no sharpness: leave it out .*conditioning_scale"):
        clips(backend(vace, options={"sharpness": 1}), said("a cone"))
    with pytest.raises(PluginError, match="that is given by the backend"):
        clips(backend(vace, options={"mask": 1}), said("a cone"))
    with pytest.raises(PluginError, match="frames=6: .* the nearest it can make is 5"):
        views(backend(vace, frames=6), ViewRequest(photo(), None, ("left",)))


def test_another_shift_is_another_clip(vace):
    (plain,) = clips(backend(vace, steps=3), said("a cone"))
    assert clips(backend(vace, steps=3, shift=5.0), said("a cone"))[0] != plain


def test_a_photo_that_is_too_small_costs_its_mates_nothing(vace):
    small, good = views(
        backend(vace),
        ViewRequest(photo(0, 8, 40), None, ("left",)),
        ViewRequest(photo(1, 400, 17), None, ("left",)),
    )
    assert isinstance(small, InputError) and "use at least 16 x 16 pixels" in str(small)
    assert good.views.shape == (1, 17, 400, 3)


def test_a_look_that_is_none_and_a_depth_that_knows_nothing_cost_their_mates_nothing(vace):
    dark = DepthMap(np.full((HEIGHT, WIDTH), np.nan, np.float32))
    *refused, good = views(
        backend(vace),
        ViewRequest(photo(), None, ("left",), degrees=float("nan")),
        ViewRequest(photo(), None, ("left",), degrees=900.0),
        ViewRequest(photo(), pose=ASIDE, depth=dark),
        ViewRequest(photo(), None, ("left",), depth=dark, degrees=180.0),
    )
    assert all(isinstance(one, InputError) for one in refused)
    assert "at most 180" in str(refused[1]) and "how far nothing in this photo is" in str(refused[2])
    assert isinstance(good, NovelViews)


def test_numbers_that_are_none_are_no_clip(copy):
    one = backend(copy)
    one._pipe.vae.decoder.conv_out.bias.data.fill_(float("nan"))
    (outcome,) = clips(one, said("a cone"))
    assert isinstance(outcome, NotFinite) and "dtype='float32'" in str(outcome)
    (outcome,) = views(one, ViewRequest(photo(), None, ("left",)))
    assert isinstance(outcome, NotFinite)


def test_what_reads_the_prompts_is_asked_for(vace, monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(MissingCapability, match=r"pip install 'unroller\[video\]'"):
        clips(backend(vace), said("a cone"))


def test_nothing_heavy_is_imported_before_a_clip_is_wanted():
    code = "import sys, primitives.backends.diffusers_video, primitives.filming\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'diffusers', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
