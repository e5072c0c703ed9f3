"""Families of vision-language models that read pictures, or keep what was read, in ways of their own: what
`HFVLM` makes of them is what transformers makes of them, also where it cannot go on from what it has read."""

import json
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from tiny.chat_families import FAMILIES, save_family

from primitives.backends.hf_vlm import HFVLM
from unroller.capabilities import Prompt
from unroller.faults import InputError, MissingCapability
from unroller.rendering import ImageSegment, TextSegment

GO_ON = {"qwen2_5_vl", "internvl", "llava_onevision", "smolvlm"}
"""Those that go on from what they have read. The others say that they do not."""

CHOICES = ("left", "right", "left of it")


def picture(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def asked(*more, photos=(1, 2), told="Think step by step."):
    shown = [ImageSegment(picture(p, 20 + p, 36 - 3 * p), f"photo {i + 1}") for i, p in enumerate(photos)]
    return Prompt((*shown, TextSegment("where is the red cone"), *more), told)


def view(seed):
    words = "Photo 1, looking left:"
    return TextSegment(words), ImageSegment(picture(seed, 24, 32), words)


def opened(folder, **settings):
    """A loaded backend; that it cannot go on from what it has read is no news here."""
    backend = HFVLM(folder, device="cpu", dtype="float32", **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*cannot go on from what it has read")
        backend.load()
    return backend


def written(backend, prompts, temperature=0.0, seeds=None):
    seeds = seeds or list(range(len(prompts)))
    return backend.generate_text(prompts, max_tokens=8, temperature=temperature, seeds=seeds)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    if request.param == "smolvlm":
        pytest.importorskip("num2words")
    folder = save_family(tmp_path_factory.mktemp(request.param), request.param)
    return request.param, folder, opened(folder)


@pytest.fixture
def prompts():
    thought = TextSegment("<think>left</think>")
    return [
        asked(),
        asked(thought),
        asked(thought, *view(7)),
        asked(photos=(3,)),
        asked(thought, photos=(3, 4, 5)),
    ]


def given(backend, prompt):
    """What the family's own processor makes of a prompt."""
    chat = backend.reader.chat
    parts = []
    for segment in prompt.segments:
        if isinstance(segment, ImageSegment):
            parts += [] if parts and isinstance(parts[-1], str) else [f"{segment.words}:"]
            parts.append(Pillow.fromarray(segment.pixels))
        else:
            parts.append(segment.text)
    content = []
    for part in [*parts, prompt.instruction]:
        if not isinstance(part, str):
            content.append({"type": "image"})
        elif content and content[-1]["type"] == "text":
            content[-1]["text"] += f"\n{part}"
        else:
            content.append({"type": "text", "text": part})
    images = [part for part in parts if not isinstance(part, str)]
    text = chat.processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    made = chat.processor(
        text=[text],
        images=[images],
        return_tensors="pt",
        add_special_tokens=chat.tokenizer.bos_token is not None,
    )
    return {name: held for name, held in made.items() if isinstance(held, torch.Tensor) and name != "labels"}


def test_what_it_writes_is_what_transformers_writes(family, prompts):
    _, _, backend = family
    chat = backend.reader.chat
    for prompt in prompts:
        inputs = given(backend, prompt)
        with torch.no_grad():
            out = chat.model.generate(
                **inputs, do_sample=False, max_new_tokens=8, eos_token_id=list(chat.ends), pad_token_id=0
            )
        (one,) = written(backend, [prompt])
        assert one.text == chat.decode(out[0, inputs["input_ids"].shape[1] :].tolist())


def test_it_goes_on_where_that_changes_nothing_and_says_where_it_does(family, prompts):
    name, folder, backend = family
    assert backend.reader.remembers == (name in GO_ON)
    if name in GO_ON:
        before = backend.reading
        written(backend, [asked(TextSegment("<think>left</think>"), TextSegment("so right"))])
        assert backend.reading.reused > before.reused
    else:
        with pytest.warns(UserWarning, match="cannot go on from what it has read"):
            HFVLM(folder, device="cpu").load()


def test_many_together_and_one_after_the_other_come_out_as_each_alone(family, prompts):
    _, folder, backend = family
    fresh = opened(folder, max_bytes=0)
    alone = [written(fresh, [p], 1.0, [i])[0] for i, p in enumerate(prompts)]
    assert [g.text for g in written(backend, prompts, 1.0)] == [g.text for g in alone]
    scores = backend.score_answers(prompts, [CHOICES] * len(prompts))
    by_one = [fresh.score_answers([p], [CHOICES])[0] for p in prompts]
    assert np.allclose(scores, by_one, atol=1e-4)
    features, one = backend.pooled_features(prompts), fresh.pooled_features(prompts[2:3])
    assert torch.allclose(features[2], one[0], atol=1e-3)
    assert not torch.allclose(features[0], features[3], atol=1e-3)  # other photos


def test_answers_are_scored_as_they_would_be_written(family):
    """The probability of a token is that which generation gives it."""
    _, _, backend = family
    chat = backend.reader.chat
    (scored,) = backend.score_answers([asked()], [CHOICES])
    inputs = given(backend, asked())
    said = [chat.answer_tokens(chat.read(asked(), 0), choice) for choice in CHOICES]
    totals = []
    for tokens in said:
        path = [*tokens, chat.ends[0]]

        def only(batch, sofar, path=path, start=inputs["input_ids"].shape[1]):
            return [path[len(sofar) - start]]

        with torch.no_grad():
            out = chat.model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=len(path),
                prefix_allowed_tokens_fn=only,
                output_logits=True,
                return_dict_in_generate=True,
                pad_token_id=0,
                eos_token_id=list(chat.ends),
            )
        steps = [logits[0].float().log_softmax(-1) for logits in out.logits]
        ended = steps[-1][list(chat.ends)].logsumexp(0)
        totals.append(float(sum(step[t] for step, t in zip(steps, tokens, strict=False)) + ended))
    assert scored == pytest.approx(torch.tensor(totals).softmax(0).tolist(), abs=1e-4)


# ------------------------------------------------------------------------------------ what stands in the way


def test_a_family_that_must_see_a_picture_says_so(tmp_path):
    backend = opened(save_family(tmp_path, "paligemma"))
    (one,) = written(backend, [asked(photos=())])
    assert isinstance(one, InputError) and "give it a photo to look at" in str(one)


def test_a_package_that_a_processor_needs_is_named(tmp_path, monkeypatch):
    from transformers.models.smolvlm import processing_smolvlm

    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    folder = save_family(tmp_path, "smolvlm")
    with pytest.raises(MissingCapability, match="install what it needs: pip install num2words") as raised:
        HFVLM(folder, device="cpu").load()
    assert "\n" not in str(raised.value)


def test_a_processor_is_made_with_the_settings_that_lie_beside_it(tmp_path):
    folder = save_family(tmp_path, "internvl")
    held = json.loads((folder / "processor_config.json").read_text())
    assert opened(folder).reader.chat.processor.image_seq_length == held["image_seq_length"] == 4
    # As transformers 5 saves them: one file, and the template beside it.
    held["video_processor"] = {"video_processor_type": "InternVLVideoProcessor"}
    held["image_processor"] = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps(held))
    template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    (folder / "chat_template.json").unlink()
    (folder / "chat_template.jinja").write_text(template)
    again = opened(folder)
    assert again.reader.chat.processor.image_seq_length == 4
    assert len(again.reader.chat.read(asked(), 0)) > 60 and written(again, [asked()])[0].tokens


@pytest.mark.skipif("torchvision" in sys.modules, reason="with torchvision nothing is missing")
def test_a_processor_that_needs_torchvision_says_so(tmp_path):
    folder = save_family(tmp_path, "internvl")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(MissingCapability, match="has no processor") as raised:
        HFVLM(folder, device="cpu").load()
    assert "\n" not in str(raised.value)
