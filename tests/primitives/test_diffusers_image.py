"""Pictures by published pipelines: real ones, as diffusers saves them, but tiny and untrained."""

import importlib
import inspect
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller import Executor, Problem, Text, primitive, progress
from unroller.capabilities import ImageEditor, ImageGenerator, Prompt
from unroller.check import check
from unroller.faults import InputError, MissingCapability, NotFinite, PluginError
from unroller.rendering import ImageSegment, TextSegment
from unroller.values import CameraPose, Image

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from tiny.pipelines import (  # noqa: E402
    FAMILIES,
    save_family,
    save_flux,
    save_instruct_pix2pix,
    save_qwen_image_edit,
    save_stable_diffusion,
)

from primitives.backends.diffusers_image import DiffusersImage  # noqa: E402

WIDTH, HEIGHT = 24, 16
LITTLE = {"max_area": WIDTH * HEIGHT, "_auto_resize": False}  # Flux Kontext paints a megapixel of its own


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    return save_stable_diffusion(tmp_path_factory.mktemp("stable_diffusion"))


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return save_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="module")
def kontext(tmp_path_factory):
    return save_flux(tmp_path_factory.mktemp("kontext"), "FluxKontextPipeline")


@pytest.fixture(scope="module")
def pix2pix(tmp_path_factory):
    return save_instruct_pix2pix(tmp_path_factory.mktemp("pix2pix"))


def backend(folder, **settings):
    return DiffusersImage(folder, **{"device": "cpu", "steps": 2, **settings})


def said(*words, told=""):
    return Prompt(tuple(map(TextSegment, words)), told)


def drawn(one, *prompts, seeds=None, width=WIDTH, height=HEIGHT):
    seeds = seeds or list(range(len(prompts)))
    return one.generate_image(prompts, width=width, height=height, seeds=seeds)


def photo(seed=0, width=WIDTH, height=HEIGHT):
    return Image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def levels(a, b):
    """How far pictures are apart, in levels of 255: some rounding is that of batch sizes."""
    assert a.size == b.size
    return int((torch.as_tensor(a.pixels).int() - torch.as_tensor(b.pixels).int()).abs().max())


# ------------------------------------------------------------------------------------------ what is drawn


@pytest.mark.parametrize("checkpoint", ["unet", "flux", "kontext"])
def test_a_picture_is_what_the_pipeline_draws_with_the_same_generator(checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    one = backend(folder, guidance=4.0)
    assert ImageGenerator in one.provides and isinstance(one, ImageGenerator)
    (ours,) = drawn(one, said("a red cone"), seeds=[7])
    pipe = getattr(diffusers, one.checkpoint.kind).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    area = {"max_area": WIDTH * HEIGHT} if checkpoint == "kontext" else {}
    theirs = pipe(
        prompt="a red cone",
        width=WIDTH,
        height=HEIGHT,
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(7),
        **area,
    ).images[0]
    assert ours.size == (WIDTH, HEIGHT) == theirs.size
    assert np.array_equal(ours.pixels.numpy(), np.asarray(theirs))


@pytest.mark.parametrize("checkpoint", ["unet", "flux", "kontext"])
def test_a_watched_run_is_told_every_step(checkpoint, request):
    told = []
    with progress.heard(lambda done, of: told.append((done, of))):
        drawn(backend(request.getfixturevalue(checkpoint), steps=3), said("a cone"))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("checkpoint", ["unet", "flux"])
def test_pictures_come_in_order_and_as_if_alone_and_seeds_repeat(checkpoint, request):
    one = backend(request.getfixturevalue(checkpoint), max_batch=2)
    prompts = [said("a red cone"), said("a blue box, seen from above"), said("a red cone")]
    together = drawn(one, *prompts, seeds=[1, 2, 3])
    for i, prompt in enumerate(prompts):
        (alone,) = drawn(one, prompt, seeds=[i + 1])
        assert levels(alone, together[i]) <= 1
    assert levels(together[0], together[2]) > 1, "of one prompt, but of two seeds"


def test_a_batch_is_one_call_of_the_pipeline_only_where_it_changes_nothing(unet, flux, monkeypatch):
    calls = []
    for folder in (unet, flux):
        one = backend(folder)
        kind = type(one._pipe)
        plain = kind.__call__

        def watched(self, *args, _plain=plain, **given):
            calls.append(1 if isinstance(given["prompt"], str) else len(given["prompt"]))
            return _plain(self, *args, **given)

        watched.__signature__ = inspect.signature(plain)
        monkeypatch.setattr(kind, "__call__", watched)
        drawn(one, *[said("a cone")] * 5)
    assert calls == [4, 1, 4, 1], "max_batch is 4"
    monkeypatch.setattr("primitives.backends.diffusers_image.drawing.BATCHES", set())
    calls.clear()
    drawn(backend(flux), *[said("a cone")] * 3)
    assert calls == [1, 1, 1]


def test_settings_reach_the_pipeline(unet):
    (plain,) = drawn(backend(unet), said("a cone"))
    for other in ({"steps": 3}, {"guidance": 1.0}, {"options": {"negative_prompt": "a box"}}):
        changed = backend(unet, **other)
        assert levels(drawn(changed, said("a cone"))[0], plain) > 1
        assert changed.fingerprint != backend(unet).fingerprint
    assert backend(unet).fingerprint == backend(unet).fingerprint


def test_weights_are_used_as_they_were_saved_or_as_asked(unet, tmp_path):
    assert backend(unet)._pipe.unet.dtype == torch.float32
    assert backend(unet, dtype="bfloat16")._pipe.unet.dtype == torch.bfloat16
    diffusers.DiffusionPipeline.from_pretrained(unet).to(torch.bfloat16).save_pretrained(tmp_path)
    pipe = backend(tmp_path)._pipe
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.bfloat16}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_with_their_own_ways_to_read_a_prompt(family, tmp_path):
    binned = family in ("sana", "pixart")  # in sizes of a megapixel, if they may
    more = {"use_resolution_binning": False} if binned else {}
    one = backend(save_family(tmp_path, family), options=more)
    prompts = [said("a red cone"), said("a blue box, seen from above, in the morning")]
    together = drawn(one, *prompts, seeds=[1, 1], width=64, height=32)
    assert together[0] != together[1]
    for i, prompt in enumerate(prompts):
        (alone,) = drawn(one, prompt, seeds=[1], width=64, height=32)
        assert alone.size == (64, 32) and levels(alone, together[i]) <= 1
    assert one._painter.given.get("clean_caption", False) is False
    (long,) = drawn(one, said("a cone", "left " * 2000))
    assert isinstance(long, InputError) and "and the pipeline reads" in str(long)


def test_guidance_by_a_second_prompt_is_not_left_out_in_silence(tmp_path):
    """Qwen-Image is guided only where it is given a negative prompt."""
    save_family(tmp_path, "qwen_image")
    plain, strong, none = (drawn(backend(tmp_path, guidance=g), said("a cone"))[0] for g in (None, 8.0, 1.0))
    assert levels(plain, strong) > 0 < levels(plain, none)


def test_what_a_pipeline_refuses_is_told_in_the_sample_s_place(tmp_path):
    one = backend(save_family(tmp_path, "flux2_klein"))
    small, large = one.edit_image([photo(), photo(0, 80, 64)], [said("make it red")] * 2, seeds=[1, 2])
    assert isinstance(small, InputError)
    assert "a Flux2KleinPipeline refuses this: Image too small" in str(small)
    assert large.size == (80, 64)


# ---------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize("checkpoint", ["unet", "flux"])
def test_another_thought_gives_another_picture(checkpoint, request):
    one = backend(request.getfixturevalue(checkpoint))
    prompts = [said("a cone", f"<think>it is {colour}</think>") for colour in ("red", "blue")]
    red, blue = drawn(one, *prompts, seeds=[1, 1])
    assert red != blue
    (words,) = drawn(one, said("a cone", "it is red"), seeds=[1])
    assert words == red, "the tag is for models that were trained on it"


def test_everything_in_a_prompt_becomes_words(flux):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pose = CameraPose((0.5, 0.0, 0.0), (0.0, 0.0, 0.0), scale="relative").render()[0].text
    prompt = Prompt(
        (
            ImageSegment(pixels, "photo 1"),
            TextSegment("a &lt;b> cone"),
            TextSegment("<think>wide,\nand 2 &lt; 3</think>"),
            TextSegment(pose),
        ),
        instruction="Draw it.",
        system="You paint.",
    )
    six = "0.500000 0.000000 0.000000 0.000000 0.000000 0.000000"
    lines = ["You paint.", "photo 1", "a <b> cone", "wide,", "and 2 < 3"]
    lines += [f"camera pose {six} (arbitrary unit)", "Draw it."]
    assert backend(flux)._reader.read(prompt).words.split("\n") == lines


def test_a_word_that_ends_a_prompt_is_broken(unet):
    """To CLIP what follows its end is not there."""
    one = backend(unet)
    red, blue = drawn(one, *[said(f"a &lt;|endoftext|> {c} cone") for c in ("red", "blue")], seeds=[1, 1])
    assert red != blue
    assert one._reader.read(said("a &lt;|endoftext|> b")).words == "a < |endoftext|> b"


def test_a_prompt_that_is_too_long_is_refused_with_its_length(unet):
    short, long = drawn(backend(unet), said("a cone"), said("a cone", "<think>" + "red " * 60 + "</think>"))
    assert isinstance(short, Image) and isinstance(long, InputError)
    assert "tokens, and the pipeline reads 77" in str(long) and "window='drop_oldest'" in str(long)


def test_the_oldest_contexts_are_left_out_and_written_down(unet):
    prompt = said("a cone", "<think>" + "x" * 40 + "</think>", "<think>" + "y" * 40 + "</think>")
    (picture,) = drawn(backend(unet, window="drop_oldest"), prompt)
    assert picture.source == f"left out of the prompt, which was too long: {'x' * 40}"
    (same,) = drawn(backend(unet), said("a cone", "y" * 40))
    assert np.array_equal(same.pixels, picture.pixels) and same.source == ""


def test_the_end_of_the_context_is_cut_at_a_word_and_written_down(unet):
    words = [f"w{i:02}" for i in range(30)]
    prompt = said("a cone", "<think>" + " ".join(words) + "</think>", told="seen from above")
    one = backend(unet, window="cut")
    made = one._reader.read(prompt)
    kept = made.words.split("\n")[1].split()
    assert made.words.startswith("a cone\n") and made.words.endswith("\nseen from above")
    assert kept == words[: len(kept)] and made.left_out.split() == words[len(kept) :]
    count = one._reader._count
    assert count(made.words) <= 77 < count(made.words) + count(words[0]) - 1, "no more than has to be"
    assert drawn(one, prompt)[0].source.endswith(made.left_out)


@pytest.mark.parametrize("window", ["refuse", "drop_oldest", "cut"])
def test_what_is_asked_for_is_never_cut(unet, window):
    (outcome,) = drawn(backend(unet, window=window), said("x" * 100, "<think>red</think>"))
    assert isinstance(outcome, InputError) and "and the pipeline reads 77" in str(outcome)


def test_clip_does_not_narrow_the_window_where_another_encoder_reads_on(flux):
    one = backend(flux)
    prompts = [said("a cone", f"<think>{'very ' * 40}{colour}</think>") for colour in ("red", "blue")]
    red, blue = drawn(one, *prompts, seeds=[1, 1])
    assert red != blue, "beyond CLIP's 77 tokens, which is all that Flux gives to it, T5 reads on"
    assert one._reader.limit == 512
    (refused,) = drawn(backend(flux, options={"max_sequence_length": 16}), prompts[0])
    assert isinstance(refused, InputError) and "reads 16" in str(refused)


def test_a_prompt_without_words_costs_its_mates_nothing(unet):
    nothing = Prompt((ImageSegment(np.zeros((4, 4, 3), np.uint8), "photo 1"),))
    first, second, third, fourth = drawn(backend(unet), said("a cone"), Prompt(()), said(" "), nothing)
    assert isinstance(first, Image)
    assert all(isinstance(o, InputError) and "say in words" in str(o) for o in (second, third, fourth))


# ------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((23, 17), "24 x 16"),
        ((1, 16), "8 x 16"),
        ((0, 16), "8 x 16"),
        ((-8, 16), "8 x 16"),
        ((10**9, 16), "8192 x 16"),
    ],
)
def test_a_size_that_cannot_be_drawn_is_refused_with_the_nearest_that_can(flux, size, nearest):
    (outcome,) = drawn(backend(flux), said("a cone"), width=size[0], height=size[1])
    assert isinstance(outcome, InputError) and "multiples of 8" in str(outcome)
    assert str(outcome).endswith(f"the nearest it can draw is {nearest}")


def test_the_size_that_a_checkpoint_was_trained_on_is_read_off_it(unet):
    assert backend(unet).size == (16, 16)


# ---------------------------------------------------------------------------------------------- editing


@pytest.mark.parametrize("checkpoint", ["pix2pix", "kontext"])
def test_an_edited_picture_is_what_the_pipeline_makes_of_it(checkpoint, request):
    folder = request.getfixturevalue(checkpoint)
    more = LITTLE if checkpoint == "kontext" else {}
    one = backend(folder, options=more)
    assert ImageEditor in one.provides and isinstance(one, ImageEditor)
    (ours,) = one.edit_image([photo()], [said("make it red")], seeds=[7])
    pipe = getattr(diffusers, one.checkpoint.kind).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt="make it red",
        image=Pillow.fromarray(photo().pixels),
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(7),
        **more,
    ).images[0]
    if theirs.size != (WIDTH, HEIGHT):  # Flux Kontext takes the aspects it was trained on
        theirs = theirs.resize((WIDTH, HEIGHT), Pillow.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(ours.pixels), np.asarray(theirs))


@pytest.mark.parametrize("kind", ["QwenImageEditPipeline", "QwenImageEditPlusPipeline"])
def test_a_family_that_looks_at_what_it_edits(kind, tmp_path, monkeypatch):
    """Its encoder reads the picture beside the words, by a processor that also knows videos."""
    from diffusers.pipelines import qwenimage

    name = "pipeline_qwenimage_edit" + "_plus" * ("Plus" in kind)
    of = importlib.import_module(f"{qwenimage.__name__}.{name}")
    small = (32, 32) if "Plus" in kind else (32, 32, None)  # in place of a megapixel
    monkeypatch.setattr(of, "calculate_dimensions", lambda *_: small)
    one = backend(save_qwen_image_edit(tmp_path, kind), guidance=3.0)
    assert one.provides == (ImageEditor,)
    photos, orders = [photo(0), photo(1, 13, 21)], [said("make it red"), said("a blue cone")]
    first, second = one.edit_image(photos, orders, seeds=[1, 2])
    assert first.size == (WIDTH, HEIGHT) and second.size == (13, 21)
    (alone,) = one.edit_image(photos[1:], orders[1:], seeds=[2])
    assert levels(alone, second) <= 1
    theirs = one._pipe(
        prompt="make it red",
        negative_prompt=" ",
        true_cfg_scale=3.0,
        image=Pillow.fromarray(photo(0).pixels),
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    assert np.array_equal(first.pixels, np.asarray(theirs.resize((WIDTH, HEIGHT), Pillow.Resampling.LANCZOS)))
    (long,) = one.edit_image(photos[:1], [said("cone " * 600)], seeds=[1])
    assert isinstance(long, InputError) and "and the pipeline reads" in str(long)


def test_pictures_of_mixed_sizes_are_edited_as_if_alone_and_keep_their_size(pix2pix):
    one = backend(pix2pix)
    photos = [photo(0), photo(1, 13, 21), photo(2), photo(3, 40, 1)]
    orders = [said("make it red"), said("make it blue"), said("take it away"), said("widen it")]
    *together, sliver = one.edit_image(photos, orders, seeds=[1, 2, 3, 4])
    assert isinstance(sliver, InputError) and "40 x 1 pixels is too small or too narrow" in str(sliver)
    for i, made in enumerate(together):
        assert made.size == photos[i].size
        (alone,) = one.edit_image([photos[i]], [orders[i]], seeds=[i + 1])
        assert levels(alone, made) <= 1
    (other,) = one.edit_image([photos[0]], [orders[1]], seeds=[1])
    assert other != together[0], "another instruction, another picture"


def test_a_large_picture_is_worked_on_smaller_and_comes_back_large(pix2pix, monkeypatch):
    one = backend(pix2pix, pixels=32 * 32)
    seen = []
    plain = one._pipe.image_processor.preprocess
    monkeypatch.setattr(one._pipe.image_processor, "preprocess", lambda i: seen.append(i.size) or plain(i))
    (made,) = one.edit_image([photo(0, 200, 100)], [said("make it red")], seeds=[1])
    assert made.size == (200, 100) and seen == [(45, 22)]


def test_a_pipeline_that_draws_edits_from_the_picture_on_where_a_strength_is_given(unet):
    assert ImageEditor not in backend(unet).provides
    outcomes = {}
    for strength in (0.5, 1.0):
        one = backend(unet, strength=strength, steps=4)
        assert one.provides == (ImageGenerator, ImageEditor)
        a, b = one.edit_image([photo(0), photo(1)], [said("a red cone")] * 2, seeds=[1, 1])
        outcomes[strength] = float((a.pixels.int() - b.pixels.int()).abs().float().mean())
        assert isinstance(drawn(one, said("a cone"))[0], Image)
    assert outcomes[0.5] > outcomes[1.0], "the less noise, the more is left of the picture"
    with pytest.raises(PluginError, match="strength=0.1 of 4 steps leaves none"):
        backend(unet, strength=0.1, steps=4).edit_image([photo()], [said("a cone")], seeds=[1])


# ------------------------------------------------------------------------------------- through the engine


@primitive(reads=("metadata",), writes=Text)
def colour(view):
    return Text(view.metadata["colour"])


def test_a_picture_is_drawn_from_the_problem_and_its_context(unet):
    ex = Executor(backend=backend(unet), primitives=[colour], policy=["colour"])
    size = {"width": WIDTH, "height": HEIGHT}
    problems = [Problem.generation("a cone", metadata={"colour": c, **size}) for c in ("red", "blue")]
    red, blue = ex.map(problems)
    assert not red.faults and red.output.size == (WIDTH, HEIGHT)
    assert red.output != blue.output and red.cost.model_calls == 1
    assert ex.run(problems[0]).output == red.output
    direct = ex.extend(policy=[]).run(Problem.generation("a cone"))
    assert direct.output.size == (16, 16), "the checkpoint's own size, where none is asked for"


def test_a_picture_is_changed_as_words_say(pix2pix, tmp_path):
    ex = Executor(backend=backend(pix2pix), policy=[], journal=tmp_path)
    with ex:
        run = ex.run(Problem.editing(photo(), "make it red"))
    assert not run.faults and run.output.size == (WIDTH, HEIGHT)
    (again,) = Executor(backend=backend(pix2pix)).resume(tmp_path)
    assert again.output == run.output


def test_problems_of_several_sizes_are_drawn_together(unet):
    ex = Executor(backend=backend(unet), policy=[])
    tall = {"width": 16, "height": 24}
    sizes = [tall, {}, tall, {"width": 24}, {"width": "wide"}, {"height": 18}]
    *runs, wrong, odd = ex.map([Problem.generation("a cone", metadata=size) for size in sizes])
    assert [run.output.size for run in runs] == [(16, 24), (16, 16), (16, 24), (24, 24)]
    assert "the nearest it can draw is 16 x 16" in odd.faults[0].message
    assert wrong.output is None and "'wide' is no side of a picture" in wrong.faults[0].message


@pytest.mark.parametrize("checkpoint", ["unet", "pix2pix", "flux"])
def test_the_backend_keeps_its_contract(checkpoint, request):
    found = check(backend(request.getfixturevalue(checkpoint), pixels=32 * 32))
    assert found.ok, str(found)


def test_without_a_folder_it_says_what_it_lacks(monkeypatch, unet):
    monkeypatch.delenv("UNROLLER_DIFFUSERS_IMAGE", raising=False)
    with pytest.raises(MissingCapability, match="lacks a checkpoint's folder in UNROLLER_DIFFUSERS_IMAGE"):
        Executor(backend=DiffusersImage(), policy=[]).run(Problem.generation("a cone"))
    monkeypatch.setenv("UNROLLER_DIFFUSERS_IMAGE", str(unet))
    assert DiffusersImage(device="cpu").provides == (ImageGenerator,)


# ------------------------------------------------------------------------------ what cannot be worked with


def refused(*args, kind=MissingCapability, **settings):
    with pytest.raises(kind) as raised:
        DiffusersImage(*args, **settings)
    message = str(raised.value)
    assert "\n" not in message
    return message


@pytest.fixture
def copy(unet, tmp_path):
    return shutil.copytree(unet, tmp_path / "copy")


def test_what_is_no_pipeline_that_draws_is_refused_where_it_is_named(tmp_path):
    index = {"_class_name": "MarigoldDepthPipeline", "_diffusers_version": "0.42.0"}
    upscales = "StableDiffusionUpscalePipeline"
    for kind in ("MarigoldDepthPipeline", "WanPipeline", upscales, ["own", "MyPipeline"]):
        (tmp_path / "model_index.json").write_text(json.dumps(index | {"_class_name": kind}))
        assert "this backend needs a pipeline of diffusers that draws" in refused(tmp_path)
    (tmp_path / "model_index.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlavaForConditionalGeneration"]}))
    assert "holds a LlavaForConditionalGeneration" in refused(tmp_path)
    assert "no such folder" in refused(tmp_path / "nowhere")


def test_a_part_that_is_missing_is_named(copy):
    shutil.rmtree(copy / "unet")
    shutil.rmtree(copy / "scheduler")
    assert "lacks parts of its StableDiffusionPipeline (scheduler, unet)" in refused(copy)


def test_weights_that_were_cut_short_are_found_before_they_are_loaded(copy):
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "was cut short" in refused(copy)


@pytest.mark.parametrize(
    ("part", "file"), [("unet", "diffusion_pytorch_model.safetensors"), ("text_encoder", "model.safetensors")]
)
def test_weights_that_are_missing_inside_are_not_made_up(copy, part, file):
    from safetensors.torch import load_file, save_file

    held = load_file(copy / part / file)
    lost = sorted(held)[3]
    save_file({n: t for n, t in held.items() if n != lost}, copy / part / file, metadata={"format": "pt"})
    with pytest.raises(MissingCapability, match=f"{part} lacks 1 of the weights of its "):
        drawn(backend(copy), said("a cone"))


def test_pickles_are_opened_only_where_the_user_says_so(copy, unet):
    from safetensors.torch import load_file

    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), copy / "unet" / "diffusion_pytorch_model.bin")
    file.unlink()
    assert "only pickled weights (diffusion_pytorch_model.bin)" in refused(copy)
    trusted = backend(copy, allow_pickle=True)
    assert drawn(trusted, said("a cone"))[0] == drawn(backend(unet), said("a cone"))[0]


def test_weights_of_which_only_a_variant_was_downloaded_are_found(unet, tmp_path):
    pipe = diffusers.DiffusionPipeline.from_pretrained(unet)
    pipe.save_pretrained(tmp_path, variant="fp16")
    (plain,) = drawn(backend(unet), said("a cone"))
    for variant in (None, "fp16"):
        assert drawn(backend(tmp_path, variant=variant), said("a cone"))[0] == plain
    assert "no weight files of the variant 'fp8'" in refused(tmp_path, variant="fp8")
    pipe.unet.conv_out.bias.data.fill_(3.0)
    shutil.copytree(unet / "unet", tmp_path / "unet", dirs_exist_ok=True)
    pipe.unet.save_pretrained(tmp_path / "unet", variant="fp16")
    assert drawn(backend(tmp_path), said("a cone"))[0] == plain, "the plain files, where there are both"
    assert drawn(backend(tmp_path, variant="fp16"), said("a cone"))[0] != plain


def test_code_of_a_checkpoint_s_own_is_not_run(copy, tmp_path):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"unet": ["evil", "Unet"]}))
    (copy / "unet" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Unet: pass")
    with pytest.raises(MissingCapability, match="cannot be loaded as a StableDiffusionPipeline"):
        drawn(backend(copy), said("a cone"))
    assert not (tmp_path / "ran").exists()


def test_a_pipeline_that_this_diffusers_does_not_have_is_named(copy):
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "NextYearPipeline"}))
    with pytest.raises(MissingCapability, match="pip install --upgrade diffusers"):
        drawn(backend(copy), said("a cone"))


def test_a_pipeline_that_makes_something_else_is_found_out_by_its_arguments(tmp_path):
    unet = diffusers.UNet2DModel(8, block_out_channels=(32,), down_block_types=["DownBlock2D"],
                                 up_block_types=["UpBlock2D"])  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    with pytest.raises(MissingCapability, match="a DDPMPipeline is another kind of pipeline"):
        drawn(backend(tmp_path), said("a cone"))


def test_settings_that_are_none_are_refused(unet):
    assert "steps=0: give 1 or more" in refused(unet, steps=0, kind=PluginError)
    for guidance in (-1.0, float("nan"), float("inf")):
        assert "guidance=" in refused(unet, guidance=guidance, kind=PluginError)
    assert "strength=0" in refused(unet, strength=0, kind=PluginError)
    assert "no window policy is called 'shorten'" in refused(unet, window="shorten", kind=PluginError)
    assert "is no dtype" in refused(unet, dtype="float31", kind=PluginError)
    callback = {"callback_on_step_end": print}
    assert "options must be plain data" in refused(unet, options=callback, kind=PluginError)
    assert "at least 1" in refused(unet, max_batch=0, kind=PluginError)
    assert '"cuda:99"' in refused(unet, device="cuda:99").replace("'", '"')


def test_settings_that_the_pipeline_does_not_take_are_refused_by_name(unet, flux):
    with pytest.raises(PluginError, match="takes no sharpness: leave it out .*negative_prompt"):
        drawn(backend(unet, options={"sharpness": 1}), said("a cone"))
    with pytest.raises(PluginError, match="that is given by the backend"):
        drawn(backend(unet, options={"width": 1}), said("a cone"))


def test_offloading_asks_for_what_it_needs(unet, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingCapability, match="pip install 'accelerate'"):
        drawn(backend(unet, offload=True), said("a cone"))


def test_a_picture_that_is_withheld_is_an_error_and_not_a_black_one(unet, monkeypatch):
    one = backend(unet)
    flags = iter([[False, True]])
    monkeypatch.setattr(one._pipe, "run_safety_checker", lambda image, *_: (image, next(flags)))
    first, second = drawn(one, said("a cone"), said("a box"))
    assert isinstance(first, Image)
    assert isinstance(second, InputError) and "safety checker withheld" in str(second)


def test_numbers_that_are_none_are_no_picture(copy):
    one = backend(copy)
    one._pipe.vae.decoder.conv_out.bias.data.fill_(float("nan"))
    (outcome,) = drawn(one, said("a cone"))
    assert isinstance(outcome, NotFinite) and "dtype='float32'" in str(outcome)


def test_the_fingerprint_sees_weights_schedulers_and_tokenizers(unet, copy):
    marks = {backend(unet).fingerprint, backend(copy).fingerprint}
    assert len(marks) == 1
    for changed in ("scheduler/scheduler_config.json", "tokenizer/tokenizer.json"):
        file = copy / changed
        file.write_text(file.read_text() + "\n")
        marks.add(backend(copy).fingerprint)
    assert len(marks) == 3


def test_nothing_heavy_is_imported_before_a_picture_is_wanted():
    code = "import sys, primitives.backends.diffusers_image, primitives.backends.janus, primitives.drawing\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'diffusers')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
