"""A model that runs out of memory while it computes: the batch is halved, and what one sample alone has no
room for is a fault of that sample that says what to do. The models are real, tiny, and made to fail."""

import numpy as np
import pytest
import torch

from unroller import Call, Executor, Problem

pytest.importorskip("transformers")
pytest.importorskip("diffusers")
cv2 = pytest.importorskip("cv2")

from tiny.chat_models import llava, saved  # noqa: E402
from tiny.depth_models import save_depth_anything  # noqa: E402
from tiny.janus_models import save_janus  # noqa: E402
from tiny.matchers import HEIGHT, WIDTH, save_lightglue  # noqa: E402
from tiny.pipelines import save_instruct_pix2pix, save_stable_diffusion  # noqa: E402
from tiny.video_pipelines import save_wan  # noqa: E402

from primitives.backends.diffusers_image import DiffusersImage  # noqa: E402
from primitives.backends.diffusers_video import DiffusersVideo  # noqa: E402
from primitives.backends.hf_depth import HFDepth  # noqa: E402
from primitives.backends.hf_matching import HFMatching  # noqa: E402
from primitives.backends.hf_vlm import HFVLM  # noqa: E402
from primitives.backends.janus import Janus  # noqa: E402


def texture(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def asked(seed):
    return Problem.spatial(texture(seed), question="where is the cone", choices=["left", "right"])


def text(root):
    return HFVLM(saved(root, llava()), device="cpu"), asked, [Call("text_think", {"max_tokens": 4})]


def answers(root):
    return HFVLM(saved(root, llava()), device="cpu"), asked, []


def tokens(root):
    calls = [Call("visual_token_rollout", {"count": 4})]
    return Janus(save_janus(root), device="cpu"), asked, calls


def depth(root):
    return HFDepth(save_depth_anything(root), device="cpu"), lambda seed: Problem.depth(texture(seed)), []


def pose(root):
    def same(seed):  # a camera that did not move
        return Problem.relative_pose(texture(seed), texture(seed))

    return HFMatching(save_lightglue(root), device="cpu"), same, ["camera_pose_estimate"]


def pictures(root):
    def drawn(seed):
        return Problem.generation(f"cone {seed}", metadata={"width": 16, "height": 16})

    return DiffusersImage(save_stable_diffusion(root), device="cpu", steps=1), drawn, []


def edits(root):
    def edited(seed):
        return Problem.editing(texture(seed)[:16, :16].copy(), "make it red")

    return DiffusersImage(save_instruct_pix2pix(root), device="cpu", steps=1), edited, []


def clips(root):
    def filmed(seed):
        return Problem.video(f"cone {seed}", metadata={"width": 32, "height": 32, "frames": 1})

    pytest.importorskip("ftfy")
    return DiffusersVideo(save_wan(root, "WanPipeline"), device="cpu", steps=1), filmed, []


MODELS = (text, answers, tokens, depth, pose, pictures, edits, clips)


def computing(backend):
    """The module of a backend that takes the most memory."""
    if isinstance(backend, HFVLM):
        return backend.reader.model
    if (pipe := getattr(backend, "_pipe", None)) is not None:
        return getattr(pipe, "unet", None) or pipe.transformer
    backend.load()
    inside = backend._model if isinstance(backend, HFDepth) else backend._matcher
    return next(one for one in vars(inside).values() if isinstance(one, torch.nn.Module))


@pytest.fixture(params=MODELS, ids=lambda made: made.__name__)
def unrolled(request, tmp_path):
    """Problems, an executor, and a count of how often the model will run out of memory from now on."""
    backend, make, calls = request.param(tmp_path)
    left = [0]

    def exhausted(*_):
        if left[0] > 0:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it.")

    computing(backend).register_forward_pre_hook(exhausted)
    ex = Executor(backend=backend, policy=calls, memo=None)
    return [make(seed) for seed in range(3)], ex, left


def test_a_batch_is_halved_and_everybody_is_answered(unrolled):
    problems, ex, left = unrolled
    plain = [run.output for run in ex.map(problems)]
    left[0] = 1
    runs = list(ex.map(problems))
    assert left[0] == 0, "it ran out of memory"
    assert not [fault for run in runs for fault in run.faults]
    for run, output in zip(runs, plain, strict=True):
        assert run.output is not None and type(run.output) is type(output)


def test_a_sample_that_has_no_room_alone_is_a_fault_with_what_to_do(unrolled):
    problems, ex, left = unrolled
    left[0] = 10**9
    for run in ex.map(problems):
        assert run.output is None
        assert {fault.kind for fault in run.faults} == {"OutOfMemory"}
        for fault in run.faults:
            assert "2.00 GiB.): leave photos or contexts out, or choose a smaller model" in fault.message
            assert "\n" not in fault.message
