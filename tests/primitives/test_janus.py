"""Visual tokens by Janus: a real one, as transformers saves it, but tiny and untrained."""

import json
import shutil

import numpy as np
import pytest

from unroller import Call, Executor, Problem, Text, VisualTokens, primitive
from unroller.capabilities import AnswerScorer, Prompt, TextGenerator, VisualTokenizer
from unroller.check import check
from unroller.faults import InputError, MissingCapability, NotFinite, PluginError
from unroller.rendering import ImageSegment, TextSegment
from unroller.values import Answer, Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tiny.chat_models import llava, saved  # noqa: E402
from tiny.janus_models import save_janus  # noqa: E402
from tiny.pipelines import save_stable_diffusion  # noqa: E402

from primitives.backends.diffusers_image import DiffusersImage  # noqa: E402
from primitives.backends.hf_vlm import HFVLM  # noqa: E402
from primitives.backends.janus import Janus  # noqa: E402
from primitives.visual_tokens import visual_token_rollout  # noqa: E402

QUESTION = "where is the red cone when I take photo 1?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_janus(tmp_path_factory.mktemp("janus"))


@pytest.fixture(scope="module")
def janus(folder):
    return Janus(folder, device="cpu")


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("chat"), llava())


def photo(seed=0, width=30, height=20):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def said(*words):
    return Prompt(tuple(map(TextSegment, words)))


def rolled(one, *prompts, count=1024, temperature=0.0, seeds=None):
    seeds = seeds or list(range(len(prompts)))
    return one.roll_out_tokens(prompts, count=count, temperature=temperature, seeds=seeds)


def ids(*tokens):
    return [one.ids.tolist() for one in tokens]


def theirs(one, words, **settings):
    """What transformers' own generation makes of a prompt of words."""
    processor, model = one.reader.chat.processor, one.reader.model
    turn = [{"role": "user", "content": [{"type": "text", "text": words}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    given = processor(text=[text], generation_mode="image", return_tensors="pt")
    model.generation_config.generation_kwargs = {"boi_token_id": processor.tokenizer.boi_token_id}
    return model.generate(**given, generation_mode="image", **settings)


# --------------------------------------------------------------------------------------------- rolling out


@pytest.mark.parametrize("guidance", [3.0, 1.5])
def test_the_most_probable_tokens_are_those_of_transformers(folder, guidance):
    one = Janus(folder, device="cpu", guidance=guidance)
    (tokens,) = rolled(one, said(QUESTION))
    assert tokens.ids.tolist() == theirs(one, QUESTION, do_sample=False, guidance_scale=guidance)[0].tolist()
    assert tokens.grid == (4, 4) and tokens.codebook_size == 32 and int(tokens.ids.max()) < 32


def test_drawn_tokens_follow_the_distribution_of_transformers(folder):
    """At one noise a sample theirs cannot be drawn; over many the first token is as frequent."""
    one = Janus(folder, device="cpu", guidance=1.5)
    count = 400
    drawn = rolled(one, *[said("a cone")] * count, count=1, temperature=1.0)
    ours = torch.stack([tokens.ids[0] for tokens in drawn]).bincount(minlength=32) / count
    torch.manual_seed(0)
    sampled = theirs(one, "a cone", do_sample=True, num_return_sequences=count, guidance_scale=1.5)[:, 0]
    assert float((ours - sampled.bincount(minlength=32) / count).abs().sum()) / 2 < 0.2


def test_prompts_of_all_lengths_are_rolled_out_in_order_and_as_if_alone(janus):
    prompts = [said("a cone"), said(QUESTION, "<think>" + "left " * 20 + "</think>"), said(QUESTION)]
    for temperature in (0.0, 1.0):
        together = rolled(janus, *prompts, temperature=temperature, seeds=[5, 6, 7])
        for i, prompt in enumerate(prompts):
            assert ids(*rolled(janus, prompt, temperature=temperature, seeds=[5 + i])) == ids(together[i])


def test_noise_belongs_to_the_seed_and_to_the_place(janus):
    prompt = said("a cone")
    one, again, other = rolled(janus, prompt, prompt, prompt, temperature=1.0, seeds=[1, 1, 2])
    assert ids(one) == ids(again) != ids(other)
    (beginning,) = rolled(janus, prompt, count=6, temperature=1.0, seeds=[1])
    assert beginning.ids.tolist() == one.ids[:6].tolist() and beginning.grid is None
    assert rolled(janus, prompt, count=8)[0].grid == (2, 4), "whole rows are a grid"


def test_every_word_of_the_context_counts(janus):
    red, blue = rolled(janus, *[said(QUESTION, f"<think>it is {c}</think>") for c in ("red", "blue")])
    assert ids(red) != ids(blue)


def test_pictures_are_told_by_their_words_or_looked_at(janus, folder):
    def seen(one, seed):
        return ids(*rolled(one, Prompt((ImageSegment(photo(seed), "photo 1"), TextSegment(QUESTION)))))

    assert seen(janus, 0) == seen(janus, 1) == ids(*rolled(janus, said("photo 1", QUESTION)))
    looking = Janus(folder, device="cpu", looks=True)
    assert seen(looking, 0) != seen(looking, 1)
    pair = [ImageSegment(photo(i), f"photo {i + 1}") for i in range(2)]
    prompts = [Prompt((*pair, TextSegment(QUESTION))), said("a cone")]
    for prompt, together in zip(prompts, rolled(looking, *prompts), strict=True):
        assert ids(*rolled(looking, prompt)) == ids(together)


def test_guidance_is_the_checkpoint_s_unless_it_is_given(janus, folder):
    assert janus.guidance == 3.0
    strong = Janus(folder, device="cpu", guidance=8.0)
    assert strong.fingerprint != janus.fingerprint == Janus(folder, device="cpu").fingerprint
    assert ids(*rolled(strong, said(QUESTION))) != ids(*rolled(janus, said(QUESTION)))


# ------------------------------------------------------------------------------------------------ decoding


def test_a_picture_is_what_the_model_itself_decodes(janus):
    tokens = rolled(janus, said(QUESTION), said("a cone"))
    pictures = janus.decode_tokens(tokens)
    drawn = janus.reader.model.decode_image_tokens(torch.stack([one.ids for one in tokens]))
    processor = janus.reader.chat.processor
    drawn = list(drawn.detach().float().permute(0, 3, 1, 2))
    own = processor.postprocess(drawn, return_tensors="PIL.Image.Image")["pixel_values"]
    for ours, picture in zip(pictures, own, strict=True):
        apart = np.abs(ours.pixels.numpy().astype(int) - np.asarray(picture).astype(int))
        assert ours.size == (16, 16) and apart.max() <= 1, "but for the rounding of what is cut off"


def test_tokens_of_another_model_are_refused(janus, folder, tmp_path):
    other = Janus(save_janus(tmp_path / "other", seed=1), device="cpu")
    (strange,) = rolled(other, said("a cone"))
    (own,) = rolled(janus, said("a cone"))
    refused, picture = janus.decode_tokens([strange, own])
    assert isinstance(picture, Image)
    assert isinstance(refused, InputError)
    assert "decode them with the model that rolled them out" in str(refused)
    moved = Janus(shutil.copytree(folder, tmp_path / "moved"), device="cpu", dtype="bfloat16")
    assert moved.codebook == janus.codebook, "the codes are the same, wherever they lie and however loaded"


def test_what_is_no_whole_picture_is_refused(janus):
    (whole,) = rolled(janus, said("a cone"))
    (part,) = rolled(janus, said("a cone"), count=8)
    beyond = VisualTokens(torch.full((16,), 32), janus.codebook, 64)
    below = VisualTokens(np.full(16, -1), janus.codebook, 32)
    outcomes = janus.decode_tokens([part, beyond, whole, below])
    assert "8 visual tokens are no whole picture, which has 16" in str(outcomes[0])
    assert "are 0 to 31, and these are not" in str(outcomes[1])
    assert "are 0 to 31, and these are not" in str(outcomes[3])
    assert isinstance(outcomes[2], Image)
    assert janus.decode_tokens([]) == []


def test_numbers_that_are_none_are_no_picture(folder):
    one = Janus(folder, device="cpu")
    (tokens,) = rolled(one, said("a cone"))
    one.reader.model.model.vqmodel.decoder.conv_out.bias.data.fill_(float("nan"))
    (outcome,) = one.decode_tokens([tokens])
    assert isinstance(outcome, NotFinite) and "dtype='float32'" in str(outcome)


# ---------------------------------------------------------------------------------------------------- text


def test_the_same_weights_read_and_write_text_as_hf_does(janus, folder):
    assert janus.provides[0] is VisualTokenizer
    assert isinstance(janus, TextGenerator) and isinstance(janus, AnswerScorer)
    hf = HFVLM(folder, device="cpu")
    prompts = [Prompt((ImageSegment(photo(), "photo 1"), TextSegment(QUESTION))), said(QUESTION)]
    for temperature in (0.0, 1.0):
        how = {"max_tokens": 8, "temperature": temperature, "seeds": [1, 2]}
        ours, own = (one.generate_text(prompts, **how) for one in (janus, hf))
        assert [one.text for one in ours] == [one.text for one in own]
    assert hf.score_answers(prompts, [("left", "right")] * 2)[0] == pytest.approx(
        janus.score_answers(prompts, [("left", "right")] * 2)[0], rel=1e-4
    )


def test_text_is_the_greedy_continuation_of_the_model(janus):
    """Janus' own generation leaves out the processors it is given: its text is drawn by transformers' own."""
    processor, model = janus.reader.chat.processor, janus.reader.model
    turn = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    given = processor(text=[text], return_tensors="pt")
    tokens = model.generate(**given, generation_mode="text", do_sample=False, max_new_tokens=8)
    own = processor.tokenizer.decode(tokens[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    (ours,) = janus.generate_text([said(QUESTION)], max_tokens=8, temperature=0.0, seeds=[0])
    assert ours.text == own.strip()


# ------------------------------------------------------------------------------------- through the engine


def test_a_thought_becomes_tokens_and_tokens_become_context_for_the_answer(chat, janus):
    ex = Executor(
        backend=[HFVLM(chat, device="cpu"), janus],
        policy=[Call("text_think", {"max_tokens": 8}), Call("visual_token_rollout", {"count": 1024})],
    )
    run = ex.run(Problem.spatial(photo(), photo(1), question=QUESTION, choices=["left", "right"]))
    assert not run.faults and isinstance(run.output, Answer)
    assert [type(entry.value) for entry in run.entries] == [Text, VisualTokens]
    tokens = run.entries[1].value
    assert tokens.codebook == janus.codebook and tokens.grid == (4, 4)
    assert run.cost.model_calls == 3 and run.cost.tokens >= 16
    assert isinstance(janus.decode_tokens([tokens])[0], Image)


def test_the_tokens_depend_on_the_thought(janus):
    def think(words):
        return primitive(reads=(), writes=Text, name="say", version=words)(lambda view: Text(words))

    found = []
    calls = ["say", "visual_token_rollout"]
    for words in ("it is red and left", "it is blue, and behind the box on the right"):
        ex = Executor(backend=janus, primitives=[think(words), visual_token_rollout], policy=calls)
        run = ex.run(Problem.spatial(photo(), question=QUESTION, choices=["left", "right"]))
        found.append(run.entries[1].value.ids.tolist())
    assert found[0] != found[1]


def test_think_roll_out_and_draw(chat, janus, tmp_path):
    painter = DiffusersImage(save_stable_diffusion(tmp_path), device="cpu", steps=2, window="cut")
    ex = Executor(
        backend=[HFVLM(chat, device="cpu"), janus, painter],
        policy=[Call("text_think", {"max_tokens": 8}), "visual_token_rollout"],
    )
    x = Problem.generation("a red cone", images=[photo()], question="where does it stand?")
    run = ex.run(x)
    assert not run.faults
    assert [entry.action for entry in run.entries] == ["text_think", "visual_token_rollout"]
    assert isinstance(run.output, Image) and run.output.size == (16, 16)
    assert run.output != ex.extend(policy=[]).run(x).output, "the context reached the painter"


def test_the_backend_keeps_its_contract(janus):
    found = check(janus)
    assert found.ok, str(found)


# ------------------------------------------------------------------------------ what cannot be worked with


def test_one_prompt_that_cannot_be_read_costs_the_others_nothing(janus):
    first, empty, long = rolled(janus, said("a cone"), Prompt(()), said("left " * 2000))
    assert ids(first) == ids(*rolled(janus, said("a cone")))
    assert isinstance(empty, InputError) and "this prompt is empty" in str(empty)
    assert isinstance(long, InputError) and "the window of" in str(long)


def test_a_folder_that_holds_no_janus_is_refused_where_it_is_named(chat, folder, tmp_path, monkeypatch):
    with pytest.raises(MissingCapability, match="holds a LlavaForConditionalGeneration.*needs a Janus model"):
        Janus(chat)
    with pytest.raises(MissingCapability, match="no such folder"):
        Janus(tmp_path / "nowhere")
    shutil.copytree(folder, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(MissingCapability, match="was cut short"):
        Janus(tmp_path / "cut")
    monkeypatch.delenv("UNROLLER_JANUS", raising=False)
    monkeypatch.setenv("UNROLLER_HF_CHECKPOINT", str(folder))
    assert Janus().provides == () and Janus().fingerprint == "janus-none"
    monkeypatch.setenv("UNROLLER_JANUS", str(folder))
    assert VisualTokenizer in Janus().provides


def test_a_checkpoint_that_does_not_say_how_a_picture_begins_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mute")
    file = tmp_path / "mute" / "tokenizer_config.json"
    held = json.loads(file.read_text())
    held.pop("boi_token")
    file.write_text(json.dumps(held))
    with pytest.raises(MissingCapability, match="boi_token"):
        rolled(Janus(tmp_path / "mute", device="cpu"), said("a cone"))


def test_settings_that_are_none_are_refused(folder, janus):
    for guidance in (0.5, -1.0, float("nan")):
        with pytest.raises(PluginError, match="guidance="):
            Janus(folder, guidance=guidance)
    with pytest.raises(PluginError, match="max_batch at least 1"):
        Janus(folder, max_batch=0)
    with pytest.raises(PluginError, match="count=0"):
        rolled(janus, said("a cone"), count=0)
