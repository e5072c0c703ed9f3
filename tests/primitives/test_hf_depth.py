"""Depth by published models: real ones, as transformers and diffusers save them, but tiny and untrained."""

import json
import math
import shutil
import threading

import numpy as np
import pytest

from unroller import Executor, Problem
from unroller.capabilities import DepthEstimator, DepthRequest
from unroller.faults import InputError, MissingCapability, PluginError
from unroller.problem import Intrinsics
from unroller.values import DepthMap, Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tiny.depth_models import (  # noqa: E402
    save_depth_anything,
    save_depth_pro,
    save_marigold,
    save_zoedepth,
)

from primitives.backends.hf_depth import HFDepth, from_inverse  # noqa: E402

SIZES = [(40, 60), (60, 40), (40, 60), (33, 33)]  # of the photos, height and width


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(0)
    return [Image(rng.integers(0, 256, (*size, 3), np.uint8)) for size in SIZES]


@pytest.fixture(scope="module")
def relative(tmp_path_factory):
    return save_depth_anything(tmp_path_factory.mktemp("depth_anything"))


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return save_depth_anything(tmp_path_factory.mktemp("depth_anything_metric"), "metric", 20)


@pytest.fixture(scope="module")
def zoedepth(tmp_path_factory):
    return save_zoedepth(tmp_path_factory.mktemp("zoedepth"))


@pytest.fixture(scope="module")
def depth_pro(tmp_path_factory):
    return save_depth_pro(tmp_path_factory.mktemp("depth_pro"))


@pytest.fixture(scope="module")
def marigold(tmp_path_factory):
    return save_marigold(tmp_path_factory.mktemp("marigold"))


def estimated(backend, photos, seeds=None, cameras=None):
    cameras = cameras or [None] * len(photos)
    requests = [DepthRequest(photo, camera) for photo, camera in zip(photos, cameras, strict=True)]
    return backend.estimate_depth(requests, seeds=seeds or range(len(photos)))


def close(a, b):
    """Numbers may differ by rounding between batch sizes, which is much where inverse depth is near zero."""
    if a.depth.shape != b.depth.shape:
        return False
    apart, inverse = (a.depth - b.depth).abs(), (a.depth.reciprocal() - b.depth.reciprocal()).abs()
    return bool(((apart <= 1e-5 + 1e-3 * b.depth.abs()) | (inverse < 1e-4)).all())


# -------------------------------------------------------------------------------------- through the engine


@pytest.mark.parametrize("checkpoint", ["relative", "metric", "zoedepth", "depth_pro", "marigold"])
def test_a_photo_s_depth_is_answered_through_the_executor(checkpoint, photos, request):
    backend = HFDepth(request.getfixturevalue(checkpoint), device="cpu")
    executor = Executor(backend=backend, policy=["depth_estimate"])
    run = executor.run(Problem.depth(photos[0].pixels))
    assert not run.faults
    assert [entry.action for entry in run.entries] == ["depth_estimate"]
    assert isinstance(run.output, DepthMap) and tuple(run.output.depth.shape) == SIZES[0]
    assert run.output.unit == ("relative" if checkpoint in ("relative", "marigold") else "metre")
    direct = executor.extend(policy=[]).run(Problem.depth(photos[0].pixels))
    assert not direct.entries and direct.output.unit == run.output.unit


def test_depth_of_the_second_photo_is_the_second_photo_s(relative, photos):
    from primitives.depth import depth_estimate
    from unroller import STOP, Call

    def second(state):
        return STOP if state.step else Call("depth_estimate", {"photo": 1})

    executor = Executor(backend=HFDepth(relative, device="cpu"), policy=second, primitives=[depth_estimate])
    run = executor.run(Problem.depth(photos[0].pixels, photos[1].pixels))
    assert run.entries[0].value.photo == 1 and tuple(run.entries[0].value.depth.shape) == SIZES[1]
    assert run.output.photo == 0


def test_a_run_is_written_down_and_read_back(metric, photos, tmp_path):
    with Executor(backend=HFDepth(metric, device="cpu"), journal=tmp_path) as executor:
        run = executor.run(Problem.depth(photos[0].pixels))
    (again,) = Executor(backend=HFDepth(metric, device="cpu")).resume(tmp_path)
    assert again.output == run.output


# ----------------------------------------------------------------------------------- what the numbers mean


def test_metres_are_the_model_s_own(metric, photos):
    backend = HFDepth(metric, device="cpu")
    assert isinstance(backend, DepthEstimator) and backend.provides == (DepthEstimator,)
    (found,) = estimated(backend, [photos[3]])
    model = transformers.AutoModelForDepthEstimation.from_pretrained(metric)
    processor = transformers.AutoImageProcessor.from_pretrained(metric, backend="pil")
    with torch.no_grad():
        outputs = model(**processor(images=[photos[3].pixels], return_tensors="pt"))
    theirs = processor.post_process_depth_estimation(outputs, [SIZES[3]])[0]["predicted_depth"]
    assert found.unit == "metre" and bool(found.valid.all()) and found.depth.dtype == torch.float32
    apart = float((found.depth - theirs).abs().mean())
    assert apart < 0.02 * float(theirs.mean()), "but for how it is enlarged"


def test_an_edge_between_near_and_far_is_not_overshot(metric, photos):
    """Bicubic enlargement, the library's own, would put depths below zero beside such an edge."""
    backend = HFDepth(metric, device="cpu")
    edge = torch.full((28, 42), 80.0)
    edge[:, :21] = 0.5
    enlarged = backend._model._at_size(edge, 280, 420)
    assert float(enlarged.min()) == 0.5 and float(enlarged.max()) == 80.0


def test_inverse_depth_is_turned_over_and_scaled_to_a_median_of_one():
    true = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, float("inf")]])
    depth, valid = from_inverse(5.0 / true)
    assert valid.tolist() == [[True, True, True], [True, True, False]], "sky has no depth"
    assert torch.allclose(depth[valid], true[valid] / 4.0), "ratios are kept, and the middle lies at 1"
    assert depth[~valid].tolist() == [0.0]


def test_nothing_but_sky_is_refused_and_what_is_no_number_is_not_hidden():
    with pytest.raises(InputError, match="nothing but sky"):
        from_inverse(torch.zeros(2, 2))
    depth, _ = from_inverse(torch.tensor([[1.0, float("nan")]]))
    assert depth.isnan().any(), "the engine finds and names it"


def test_relative_models_keep_the_order_and_say_that_they_are(relative, photos):
    (found,) = estimated(HFDepth(relative, device="cpu"), photos[:1])
    seen = found.depth[found.valid]
    assert found.unit == "relative" and float(seen.median()) == pytest.approx(1.0, rel=0.01)
    assert float(seen.min()) > 0 and not bool(found.depth[~found.valid].any())


def test_zoedepth_s_margin_is_taken_off_again(zoedepth):
    """ZoeDepth sees photos within a mirrored margin; a square in the middle stays in the middle."""
    backend = HFDepth(zoedepth, device="cpu")
    height, width = 100, 60
    margins = [int(math.sqrt(side / 2) * 3) for side in (height, width)]
    seen = torch.zeros(height + 2 * margins[0], width + 2 * margins[1])
    seen[margins[0] + 40 : margins[0] + 60, margins[1] + 20 : margins[1] + 40] = 1.0
    depth = backend._model._at_size(seen, height, width)
    assert depth.shape == (height, width) and bool((depth[40:60, 20:40] == 1).all()) and depth.sum() == 400


def test_depth_pro_uses_the_field_of_view_that_it_sees(depth_pro, photos):
    backend = HFDepth(depth_pro, device="cpu")
    angles = backend.fields_of_view(photos[:2])
    assert angles == [pytest.approx(60.0, abs=1e-4)] * 2
    (seen,) = estimated(backend, photos[:1])
    width = SIZES[0][1]
    focal = 0.5 * width / math.tan(math.radians(30))
    same = Intrinsics(fx=focal, fy=focal, cx=width / 2, cy=20)
    longer = Intrinsics(fx=2 * focal, fy=2 * focal, cx=width / 2, cy=20)
    (given,), (doubled,) = (estimated(backend, photos[:1], cameras=[k]) for k in (same, longer))
    assert close(seen, given)
    inside = seen.depth < 4000  # metres end at 10 km
    assert inside.any()
    assert torch.allclose(doubled.depth[inside], 2 * seen.depth[inside]), "and a known one in its place"
    assumed = longer.model_copy(update={"source": "default"})
    assert close(estimated(backend, photos[:1], cameras=[assumed])[0], seen), "an assumed camera is not known"


def test_depth_pro_without_a_field_of_view_knows_no_metres(tmp_path, photos):
    backend = HFDepth(save_depth_pro(tmp_path, degrees=None), device="cpu")
    assert backend.fields_of_view(photos[:1]) == [None]
    camera = Intrinsics(fx=50, fy=50, cx=30, cy=20)
    unknown, known = estimated(backend, photos[:2], cameras=[None, camera])
    assert unknown.unit == "relative" and known.unit == "metre"


def test_a_field_of_view_that_is_none_is_refused(tmp_path, photos):
    backend = HFDepth(save_depth_pro(tmp_path, degrees=-3.0), device="cpu")
    (outcome,) = estimated(backend, photos[:1])
    assert isinstance(outcome, InputError) and "-3.0°: give its intrinsics" in str(outcome)


def test_depth_pro_is_shown_what_its_own_processor_would_show_it(depth_pro, photos):
    """The processor needs torchvision; these are its steps, by torch."""
    from PIL import Image as Pillow

    shown = HFDepth(depth_pro, device="cpu")._model._prepared(photos[0].pixels)
    assert shown.shape == (3, 64, 64) and float(shown.abs().max()) <= 1
    channel = Pillow.fromarray(photos[0].pixels[..., 0].astype(np.float32) / 127.5 - 1)
    enlarged = np.asarray(channel.resize((64, 64), Pillow.Resampling.BILINEAR))
    assert np.abs(shown[0].numpy() - enlarged).max() < 1e-4


def test_a_family_that_does_not_say_what_it_predicts_has_to_be_told(relative, tmp_path):
    shutil.copytree(relative, tmp_path / "dpt")
    config = tmp_path / "dpt" / "config.json"
    config.write_text(json.dumps({"architectures": ["DPTForDepthEstimation"], "model_type": "dpt"}))
    with pytest.raises(MissingCapability, match='pass meaning="metres", "depth" or "inverse"'):
        HFDepth(tmp_path / "dpt")
    assert HFDepth(tmp_path / "dpt", device="cpu", meaning="inverse").meaning == "inverse"


def test_without_a_folder_it_says_what_it_lacks(monkeypatch, photos):
    monkeypatch.delenv("UNROLLER_HF_DEPTH", raising=False)
    with pytest.raises(MissingCapability, match="hf_depth lacks a checkpoint's folder in UNROLLER_HF_DEPTH"):
        Executor(backend=HFDepth(), policy=[]).run(Problem.depth(photos[0].pixels))


# --------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("checkpoint", ["metric", "zoedepth", "depth_pro", "marigold"])
def test_photos_of_mixed_sizes_come_back_in_order_and_as_if_alone(checkpoint, photos, request):
    backend = HFDepth(request.getfixturevalue(checkpoint), device="cpu", max_batch=2)
    seeds = [3, 1, 4, 1]
    together = estimated(backend, photos, seeds)
    assert [tuple(found.depth.shape) for found in together] == SIZES
    for i, photo in enumerate(photos):
        (alone,) = estimated(backend, [photo], [seeds[i]])
        assert close(alone, together[i])


def test_zoedepth_with_two_heads_does_not_let_the_batch_vote(tmp_path, photos):
    """Which head answers, indoors or outdoors, is summed over the batch in transformers."""
    backend = HFDepth(save_zoedepth(tmp_path, heads=2), device="cpu")
    shown = []
    forward = backend._model.model.forward

    def watched(pixel_values):
        shown.append(len(pixel_values))
        return forward(pixel_values)

    backend._model.model.forward = watched
    assert all(isinstance(found, DepthMap) for found in estimated(backend, photos))
    assert shown == [1, 1, 1, 1]


def test_one_photo_that_cannot_be_read_costs_the_others_nothing(zoedepth, photos):
    sliver = Image(np.zeros((4, 400, 3), np.uint8))
    first, second, third = estimated(HFDepth(zoedepth, device="cpu"), [photos[0], sliver, photos[2]])
    assert isinstance(first, DepthMap) and isinstance(third, DepthMap)
    assert isinstance(second, InputError) and "400 × 4 pixels cannot be brought" in str(second)


def test_marigold_draws_from_its_seed_and_nothing_else(marigold, photos):
    backend = HFDepth(marigold, device="cpu", ensemble=3)
    one, _ = estimated(backend, [photos[0], photos[2]], [5, 6])
    (again,) = estimated(backend, [photos[0]], [5])
    (differs,) = estimated(backend, [photos[0]], [6])
    assert close(one, again) and not close(one, differs)
    assert one.unit == "relative" and float(one.depth.min()) >= 0 and float(one.depth.max()) <= 1
    assert bool(one.valid.all()), "the nearest point, at 0, is a point too"


def test_several_threads_load_the_model_once(metric, photos):
    backend, outcomes = HFDepth(metric, device="cpu"), []
    threads = [
        threading.Thread(target=lambda: outcomes.extend(estimated(backend, photos[:1]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4 and all(close(outcome, outcomes[0]) for outcome in outcomes)


# --------------------------------------------------------------------------------------- the fingerprint


def test_the_fingerprint_is_of_weights_and_settings(metric, relative, tmp_path):
    shutil.copytree(metric, tmp_path / "moved")
    assert HFDepth(tmp_path / "moved").fingerprint == HFDepth(metric).fingerprint
    assert HFDepth(metric, dtype="bfloat16").fingerprint != HFDepth(metric).fingerprint
    assert HFDepth(relative).fingerprint != HFDepth(metric).fingerprint
    file = tmp_path / "moved" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert HFDepth(tmp_path / "moved").fingerprint != HFDepth(metric).fingerprint


def test_of_large_weights_a_block_of_every_tensor_is_read(tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    from primitives.backends import checkpoints

    config = {"architectures": ["ZoeDepthForDepthEstimation"], "model_type": "zoedepth"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(checkpoints, "WHOLE", 1 << 10)
    tensors = {name: np.zeros((64, 64), np.float32) for name in "abc"}
    marks = set()
    for changed in (None, "a", "b", "c"):
        held = {name: tensor + (name == changed) for name, tensor in tensors.items()}
        save_file(held, tmp_path / "model.safetensors")
        marks.add(HFDepth(tmp_path).fingerprint)
    assert len(marks) == 4


# ------------------------------------------------------------------------------ what cannot be worked with


def refused(*args, kind=MissingCapability, **settings):
    with pytest.raises(kind) as raised:
        HFDepth(*args, **settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_no_checkpoint_says_where_to_get_one(tmp_path):
    assert "hf download ORG/MODEL --local-dir" in refused(tmp_path / "nowhere")
    assert "get it with `hf download nobody/nothing`" in refused("nobody/nothing")
    assert "holds no checkpoint" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "download the checkpoint again" in refused(tmp_path)


def test_without_a_checkpoint_it_provides_nothing_and_says_why(metric, photos, monkeypatch):
    nothing = HFDepth()
    assert nothing.provides == () and nothing.fingerprint == "hf_depth-none"
    with pytest.raises(MissingCapability, match="needs DepthEstimator, which no chosen backend provides"):
        Executor(backend=nothing).run(Problem.depth(photos[0].pixels))
    with pytest.raises(MissingCapability, match="name its folder, HFDepth.*or set UNROLLER_HF_DEPTH"):
        estimated(nothing, photos[:1])
    monkeypatch.setenv("UNROLLER_HF_DEPTH", str(metric))
    assert HFDepth().fingerprint == HFDepth(metric).fingerprint


def test_a_config_without_its_weights_is_refused(metric, tmp_path):
    shutil.copy(metric / "config.json", tmp_path)
    assert "holds no weights: download the whole checkpoint" in refused(tmp_path)


def test_a_checkpoint_of_another_kind_is_named(tmp_path):
    config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    assert "holds a BertForMaskedLM, and this backend needs a depth estimator" in refused(tmp_path)


def test_weights_that_were_cut_short_are_found_before_they_are_loaded(metric, tmp_path):
    shutil.copytree(metric, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "model.safetensors is damaged or was cut short" in refused(tmp_path / "cut")


def test_a_shard_that_is_missing_is_named(metric, tmp_path):
    shutil.copytree(metric, tmp_path / "sharded")
    shards = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "sharded" / "model.safetensors.index.json").write_text(json.dumps(shards))
    assert "lacks 1 of its 2 weight files (model-2.safetensors" in refused(tmp_path / "sharded")


def test_weights_that_are_missing_inside_are_not_made_up(metric, photos, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(metric, tmp_path / "part")
    file = tmp_path / "part" / "model.safetensors"
    held = {name: tensor for name, tensor in load_file(file).items() if not name.startswith("head.")}
    save_file(held, file, metadata={"format": "pt"})
    with pytest.raises(MissingCapability, match="lacks 6 of the weights of a DepthAnything.*head.conv1"):
        estimated(HFDepth(tmp_path / "part", device="cpu"), photos[:1])


def test_pickles_are_opened_only_where_the_user_says_so(metric, photos, tmp_path):
    from safetensors.torch import load_file

    shutil.copytree(metric, tmp_path / "pickled")
    file = tmp_path / "pickled" / "model.safetensors"
    torch.save(load_file(file), tmp_path / "pickled" / "pytorch_model.bin")
    file.unlink()
    assert "only pickled weights (pytorch_model.bin)" in refused(tmp_path / "pickled")
    trusted = HFDepth(tmp_path / "pickled", device="cpu", allow_pickle=True)
    assert close(estimated(trusted, photos[:1])[0], estimated(HFDepth(metric, device="cpu"), photos[:1])[0])


def test_a_checkpoint_without_its_image_processor_is_not_guessed(metric, photos, tmp_path):
    shutil.copytree(metric, tmp_path / "bare")
    (tmp_path / "bare" / "preprocessor_config.json").unlink()
    with pytest.raises(MissingCapability, match="cannot be loaded as a DepthAnythingForDepthEstimation"):
        estimated(HFDepth(tmp_path / "bare", device="cpu"), photos[:1])


def test_a_gpu_that_is_not_there_is_refused_by_name(metric):
    assert '"cuda:99"' in refused(metric, device="cuda:99").replace("'", '"')
    assert "is no device" in refused(metric, device="the fast one", kind=PluginError)


def test_settings_that_are_none_are_refused(metric):
    assert "is no dtype" in refused(metric, dtype="float31", kind=PluginError)
    assert "give 1 or more" in refused(metric, ensemble=0, kind=PluginError)
    assert "meaning=" in refused(metric, meaning="feet", kind=PluginError)


def test_a_library_that_is_not_installed_is_named_with_its_command(metric, photos, monkeypatch):
    import sys

    backend = HFDepth(metric, device="cpu")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingCapability, match="pip install 'transformers>=5.0'"):
        estimated(backend, photos[:1])


def test_nothing_heavy_is_imported_before_a_model_is_wanted():
    import subprocess
    import sys

    code = "import sys, primitives.backends.hf_depth, primitives.backends.hf_matching\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'diffusers', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
