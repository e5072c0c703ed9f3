"""Poses, views, pictures and clips by Cosmos 3: a real pipeline, as diffusers saves it, but tiny."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from unroller import Executor, Problem
from unroller.capabilities import (
    ImageGenerator,
    PhotoPair,
    PoseEstimator,
    Prompt,
    TextGenerator,
    VideoGenerator,
    ViewRequest,
    ViewSynthesizer,
)
from unroller.check import check
from unroller.faults import InputError, MissingCapability, NotFinite, PluginError
from unroller.rendering import TextSegment
from unroller.values import CameraPose, Image, pose_errors

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from tiny.video_pipelines import save_cosmos3  # noqa: E402

from primitives.backends.asked_views import Asked  # noqa: E402
from primitives.backends.cosmos3 import Cosmos3  # noqa: E402
from primitives.backends.cosmos3.actions import actions_to, pose_after  # noqa: E402

WIDTH, HEIGHT = 48, 32
ASIDE = CameraPose((0.4, 0.1, 0.2), (0.1, 0.5, 0.0))


CANVASES = {"0.6667": (32, 48), "1.0": (64, 64), "1.5": (48, 32)}
"""Height and width of what photos are laid on, where the pipeline's own would take most of the time."""


@pytest.fixture(autouse=True)
def small_canvases(request, monkeypatch):
    if "own_canvases" not in request.fixturenames:
        from diffusers.pipelines.cosmos import pipeline_cosmos3_omni

        monkeypatch.setitem(pipeline_cosmos3_omni._ACTION_RESOLUTION_BINS, "256", CANVASES)


@pytest.fixture
def own_canvases():
    """Those that the pipeline has."""


@pytest.fixture(scope="module")
def cosmos(tmp_path_factory):
    return save_cosmos3(tmp_path_factory.mktemp("cosmos3"))


def backend(folder, **settings):
    small = {"device": "cpu", "steps": 1, "tier": 256, "frames": 5, "guidance": 1.0}
    return Cosmos3(folder, **{**small, **settings})


def photo(seed=0, width=WIDTH, height=HEIGHT):
    return Image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def said(words):
    return Prompt((TextSegment(words),))


def poses(one, *pairs, seeds=None):
    return one.estimate_pose([PhotoPair(*pair) for pair in pairs], seeds=seeds or list(range(len(pairs))))


def views(one, *requests, seeds=None):
    return one.synthesize_views(requests, seeds=seeds or list(range(len(requests))))


def pictures(one, *prompts, width=WIDTH, height=HEIGHT):
    return one.generate_image(prompts, width=width, height=height, seeds=list(range(len(prompts))))


# -------------------------------------------------------------------------------------- motion as actions


def test_actions_are_even_steps_that_lead_to_the_view():
    asked = Asked("pose", ASIDE.translation, ASIDE.rotation)
    actions = actions_to(asked, 8, 1.0)
    assert actions.shape == (8, 9)
    assert np.allclose(pose_after(actions), ASIDE.matrix, atol=1e-5)
    assert np.allclose(pose_after(actions[:4]), asked.at(0.5), atol=1e-5)
    lengths = np.linalg.norm(actions[:, :3], axis=1)
    assert np.allclose(lengths, np.linalg.norm(ASIDE.translation) / 8, atol=1e-6)
    assert np.allclose(actions[:, 3:], actions[0, 3:], atol=1e-6), "one axis, one speed"


def test_an_action_is_the_next_camera_in_the_last_one_s_frame():
    ahead = CameraPose((0.0, 0.0, 1.0), (0.0, np.pi / 2, 0.0))  # a step ahead, and a turn to the right
    (action,) = actions_to(Asked("pose", ahead.translation, ahead.rotation), 1, 10.0)
    assert np.allclose(action, [0, 0, 10, 0, 0, -1, 0, 1, 0], atol=1e-6), "right is now backwards, down stays"
    twice = pose_after([[*action[:3] / 10, *action[3:]]] * 2)
    assert np.allclose(twice[:3, 3], [1, 0, 1], atol=1e-6), "the second step goes to the right"


def test_columns_that_are_no_rotation_are_taken_for_the_nearest_one():
    found = pose_after([[0, 0, 0, 2.0, 0.0, 0.0, 0.3, 0.5, 0.0]])
    assert np.allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3)) and np.linalg.det(found[:3, :3]) > 0
    with pytest.raises(InputError, match="sees no motion"):
        pose_after([[0, 0, 0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]])
    with pytest.raises(NotFinite):
        pose_after([[np.nan] * 9])


# ---------------------------------------------------------------------------------------------------- poses


def theirs(folder, **given):
    from diffusers.pipelines.cosmos.pipeline_cosmos3_omni import CosmosActionCondition

    pipe = diffusers.Cosmos3OmniPipeline.from_pretrained(folder, enable_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    action = CosmosActionCondition(domain_name="camera_pose", resolution_tier=256, chunk_size=4, **given)
    return pipe(
        prompt="a room",
        action=action,
        fps=30.0,
        num_inference_steps=1,
        guidance_scale=1.0,
        output_type="pt",
        generator=torch.Generator().manual_seed(7),
    )


def pillow(image):
    from PIL import Image as Pillow

    return Pillow.fromarray(image.pixels)


def test_a_pose_is_where_the_pipeline_s_steps_lead(cosmos):
    one = backend(cosmos, prompt="a room")
    assert one.provides == (PoseEstimator, ViewSynthesizer, ImageGenerator, VideoGenerator)
    assert all(isinstance(one, capability) for capability in one.provides)
    (ours,) = poses(one, (photo(0), photo(1)), seeds=[7])
    clip = [pillow(photo(0)), *[pillow(photo(1))] * 4]
    (steps,) = theirs(cosmos, mode="inverse_dynamics", video=clip).action
    assert np.allclose(ours.matrix, pose_after(steps.numpy()), atol=1e-5)
    assert ours.scale == "relative" and "not calibrated" in ours.note


def test_the_second_photo_counts_as_it_would_not_in_a_clip_of_two_frames(cosmos):
    one = backend(cosmos)
    a, b = poses(one, (photo(0), photo(1)), (photo(0), photo(2)), seeds=[7, 7])
    assert max(pose_errors(a, b)) > 1e-4
    director = one._director
    director.packed = 1  # a clip of two frames, of which the VAE reads one
    a, b = poses(one, (photo(0), photo(1)), (photo(0), photo(2)), seeds=[7, 7])
    assert a == b


def test_poses_come_in_order_and_as_if_alone_and_seeds_repeat(cosmos):
    one = backend(cosmos)
    first, second = poses(one, (photo(0), photo(1)), (photo(2), photo(3, 60, 20)), seeds=[1, 2])
    assert poses(backend(cosmos), (photo(2), photo(3, 60, 20)), seeds=[2])[0] == second != first


def test_with_its_scale_a_model_speaks_in_metres(cosmos):
    (relative,) = poses(backend(cosmos), (photo(0), photo(1)))
    (metric,) = poses(backend(cosmos, scale=10.0), (photo(0), photo(1)))
    assert metric.scale == "metric" and np.allclose(np.multiply(metric.translation, 10), relative.translation)
    assert metric.rotation == relative.rotation


def test_the_scale_is_measured_on_photos_whose_poses_are_known(cosmos):
    one = backend(cosmos)
    pairs = [PhotoPair(photo(i), photo(i + 1)) for i in range(2)]
    found = one.estimate_pose(pairs, seeds=[0, 0])
    known = [CameraPose(tuple(t / 5.0 for t in p.translation), p.rotation) for p in found]
    measured = one.calibrate(pairs, known)
    assert measured.scale == pytest.approx(5.0) and measured.spread == pytest.approx(1.0)
    assert measured.rotation < 1e-3 and measured.direction < 1e-3 and measured.pairs == 2
    flipped = [CameraPose(tuple(-t for t in p.translation), p.rotation) for p in known]
    assert one.calibrate(pairs[:1], flipped[:1]).direction == pytest.approx(180.0)
    with pytest.raises(InputError, match="in metres"):
        one.calibrate(pairs, found)
    with pytest.raises(InputError, match="no pair tells of scale"):
        one.calibrate(pairs[:1], [CameraPose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))])


# ---------------------------------------------------------------------------------------------------- views


def test_a_view_is_the_end_of_the_clip_that_the_pipeline_makes(cosmos):
    one = backend(cosmos, prompt="a room", scale=10.0)
    (ours,) = views(one, ViewRequest(photo(), pose=ASIDE), seeds=[7])
    actions = torch.from_numpy(actions_to(Asked("pose", ASIDE.translation, ASIDE.rotation), 4, 10.0))
    clip = theirs(cosmos, mode="forward_dynamics", image=pillow(photo()), raw_actions=actions).video
    assert np.array_equal(ours.views[0], (clip[-1].permute(1, 2, 0) * 255).round().byte().numpy())
    assert ours.directions == ("pose",) and ours.poses == ((ASIDE.translation, ASIDE.rotation),)
    assert ours.unit == "metre" and ours.valid is None


def test_a_step_in_metres_needs_the_model_s_scale(cosmos):
    still = CameraPose((0.0, 0.0, 0.0), (0.0, 0.3, 0.0), "none")
    metres, unit, relative, turned = views(
        backend(cosmos),
        ViewRequest(photo(), pose=ASIDE),
        ViewRequest(photo(), pose=CameraPose((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), "unit")),
        ViewRequest(photo(), pose=CameraPose((1.0, 0.0, 0.0), (0.0, 0.0, 0.0), "relative")),
        ViewRequest(photo(), pose=still),
    )
    assert isinstance(metres, InputError) and "calibrate()" in str(metres)
    assert isinstance(unit, InputError) and "not how far" in str(unit)
    assert relative.unit == "relative" and turned.unit is None


def test_views_are_drawn_as_if_alone_and_come_back_in_the_photo_s_size(cosmos):
    one = backend(cosmos)
    request = ViewRequest(photo(0, 61, 43), None, ("left", "up"), degrees=20.0)
    first, odd = views(one, request, ViewRequest(photo(1), None, ("sideways",)), seeds=[5, 6])
    assert first.views.shape == (2, 43, 61, 3) and first.directions == ("left", "up")
    assert isinstance(odd, InputError) and "no direction is called 'sideways'" in str(odd)
    (up,) = views(one, ViewRequest(photo(0, 61, 43), None, ("up",), degrees=20.0), seeds=[5])
    assert np.array_equal(up.views[0], first.views[1])


@pytest.mark.parametrize("size", [(48, 32), (640, 480), (1000, 300), (300, 1000), (256, 255), (3, 900)])
def test_photos_are_brought_to_a_size_that_is_neither_shrunk_nor_cut(cosmos, size, own_canvases):
    director = backend(cosmos)._director
    width, height = director.working_size(*size, 256)
    frames, shape, *_ = director.pipe._prepare_action_video_conditioning(
        [pillow(photo(0, width, height))], 256, 1, "cpu", torch.float32
    )
    assert shape[2:].tolist() == [height, width], "the content is all of it"
    assert width % 8 == 0 and height % 8 == 0 and frames.shape[-1] >= width


# ------------------------------------------------------------------------------------------ pictures, clips


def test_pictures_and_clips_are_what_the_pipeline_makes(cosmos):
    one = backend(cosmos)
    picture, empty = pictures(one, said("a cone"), Prompt(()))
    assert picture.size == (WIDTH, HEIGHT)
    assert isinstance(empty, InputError) and "say in words" in str(empty)
    shape = {"width": WIDTH, "height": HEIGHT, "frames": 5}
    free, begun = one.generate_video([said("a cone")] * 2, [None, photo(0, 90, 40)], **shape, seeds=[0, 0])
    assert free.frames.shape == begun.frames.shape == (5, HEIGHT, WIDTH, 3) and free != begun
    pipe = diffusers.Cosmos3OmniPipeline.from_pretrained(cosmos, enable_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    given = {"width": WIDTH, "height": HEIGHT, "num_inference_steps": 1, "guidance_scale": 1.0}
    for ours, count in ((picture.pixels[None], 1), (free.frames, 5)):
        seeded = {"num_frames": count, "generator": torch.Generator().manual_seed(0)}
        made = pipe(prompt="a cone", output_type="pt", **seeded, **given).video
        assert torch.equal(ours, (made.permute(0, 2, 3, 1) * 255).round().byte())


def test_special_tokens_in_a_prompt_are_words(cosmos):
    one = backend(cosmos)
    assert one._reader.read(said("a <|vision_start|> cone")).words == "a < |vision_start|> cone"


def test_a_size_that_cannot_be_drawn_is_refused_with_the_nearest_that_can(cosmos):
    (outcome,) = pictures(backend(cosmos), said("a cone"), width=50)
    assert isinstance(outcome, InputError) and str(outcome).endswith("the nearest it can draw is 48 x 32")


# ------------------------------------------------------------------------------------- through the engine


def test_one_set_of_weights_unrolls_pose_and_views_and_draws(cosmos):
    one = backend(cosmos)
    steps = ["camera_pose_estimate", "novel_view_synthesis"]
    ex = Executor(backend=one, policy=steps)
    run = ex.run(Problem.relative_pose(photo(0), photo(1)))
    assert not run.faults and run.output.scale == "relative"
    drawn = ex.extend(policy=[]).run(Problem.generation("a cone", metadata={"width": 48, "height": 32}))
    assert not drawn.faults and drawn.output.size == (48, 32)


def test_the_folder_of_a_pipeline_that_also_reasons_is_read_by_both_backends(tmp_path):
    from tiny.video_pipelines import save_cosmos3_reasoner

    from primitives.backends.hf_vlm import HFVLM

    save_cosmos3_reasoner(save_cosmos3(tmp_path))
    draws, thinks = backend(tmp_path), HFVLM(tmp_path, device="cpu")
    assert TextGenerator in thinks.provides and TextGenerator not in draws.provides
    ex = Executor(backend=[thinks, draws], policy=["camera_pose_estimate"])
    run = ex.run(Problem.spatial(photo(0), photo(1), question="where is the cone", choices=["left", "right"]))
    assert not run.faults and run.output.choice in (0, 1)
    (thought,) = thinks.generate_text([said("where")], max_tokens=4, temperature=0.0, seeds=[0])
    assert thought.tokens


def test_the_backend_keeps_its_contract(cosmos):
    found = check(backend(cosmos))
    assert found.ok, str(found)


def test_without_a_folder_it_says_what_it_lacks(monkeypatch, cosmos):
    monkeypatch.delenv("UNROLLER_COSMOS3", raising=False)
    with pytest.raises(MissingCapability, match="lacks a checkpoint's folder in UNROLLER_COSMOS3"):
        Executor(backend=Cosmos3(), policy=[]).run(Problem.generation("a cone"))
    monkeypatch.setenv("UNROLLER_COSMOS3", str(cosmos))
    assert PoseEstimator in Cosmos3(device="cpu").provides


# ------------------------------------------------------------------------------ what cannot be worked with


def refused(*args, kind=MissingCapability, **settings):
    with pytest.raises(kind) as raised:
        Cosmos3(*args, **settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_model_without_actions_draws_only(tmp_path):
    one = backend(save_cosmos3(tmp_path, action_gen=False, action_dim=None))
    assert one.provides == (ImageGenerator, VideoGenerator)
    assert isinstance(pictures(one, said("a cone"))[0], Image)
    with pytest.raises(MissingCapability, match="without actions"):
        poses(one, (photo(0), photo(1)))


def test_what_is_no_cosmos_3_is_refused_where_it_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "CosmosTextToWorldPipeline"}))
    assert "this backend needs a Cosmos3OmniPipeline" in refused(tmp_path)
    assert "no such folder" in refused(tmp_path / "nowhere")


def test_parts_and_weights_that_are_missing_are_named(cosmos, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(cosmos, tmp_path / "copy")
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    held = load_file(file)
    lost = sorted(held)[3]
    save_file({n: t for n, t in held.items() if n != lost}, file, metadata={"format": "pt"})
    with pytest.raises(MissingCapability, match="transformer lacks 1 of the weights of its "):
        pictures(backend(copy), said("a cone"))
    shutil.rmtree(copy / "vae")
    assert "lacks parts of its Cosmos3OmniPipeline (vae)" in refused(copy)


def test_settings_that_are_none_are_refused(cosmos):
    assert "tier=512: write one of 256, 480" in refused(cosmos, tier=512, kind=PluginError)
    assert "2 frames or more" in refused(cosmos, frames=1, kind=PluginError)
    for wrong in ({"scale": 0.0}, {"scale": float("inf")}, {"fps": -1.0}, {"shift": 0.0}):
        assert "give more than 0" in refused(cosmos, **wrong, kind=PluginError)
    assert "guidance=-1" in refused(cosmos, guidance=-1, kind=PluginError)
    with pytest.raises(PluginError, match="takes no sharpness"):
        pictures(backend(cosmos, options={"sharpness": 1}), said("a cone"))
    with pytest.raises(PluginError, match="frames=7: give one and a multiple of 4"):
        views(backend(cosmos, frames=7), ViewRequest(photo(), None, ("left",)))


def test_the_guardrail_is_used_only_where_it_is_asked_for(cosmos, monkeypatch):
    monkeypatch.setitem(sys.modules, "cosmos_guardrail", None)
    with pytest.raises(MissingCapability, match="pip install 'cosmos_guardrail'"):
        pictures(backend(cosmos, guardrail=True), said("a cone"))


def test_the_fingerprint_sees_what_changes_poses_and_views(cosmos):
    settings = [{}, {"scale": 2.0}, {"prompt": "a kitchen"}, {"frames": 9}, {"tier": 480}, {"fps": 9.0}]
    assert len({backend(cosmos, **more).fingerprint for more in settings}) == len(settings)
    assert backend(cosmos).fingerprint == backend(cosmos).fingerprint


def test_numbers_that_are_none_are_no_pose_and_no_picture(cosmos):
    one = backend(cosmos)
    one._pipe.transformer.proj_out.bias.data.fill_(float("nan"))
    one._pipe.transformer.action_proj_out.fc.weight.data.fill_(float("nan"))
    (pose,), (picture,) = poses(one, (photo(0), photo(1))), pictures(one, said("a cone"))
    assert isinstance(pose, NotFinite) and isinstance(picture, NotFinite)


def test_nothing_heavy_is_imported_before_the_model_is_needed():
    code = "import sys, primitives.backends.cosmos3\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'diffusers', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
