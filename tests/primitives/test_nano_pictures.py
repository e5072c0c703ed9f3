"""The embedded model draws: real weights of a tiny model, made here, from a prompt to a picture."""

import numpy as np
import pytest
import torch

from nano_omni import familiarity, tokenizer
from nano_omni.config import CONFIGS
from nano_omni.model import NanoOmni
from primitives.backends.nano import Nano
from primitives.drawing import generation
from primitives.thinking import oracle_text, text_think, text_think_long
from primitives.visual_tokens import visual_token_rollout
from unroller import Call, Executor, Problem, Text, decoder, primitive, progress
from unroller.capabilities import ImageGenerator, Prompt
from unroller.faults import MissingCapability, PluginError
from unroller.rendering import ImageSegment, TextSegment
from unroller.values import Image, VisualTokens

PRIMITIVES = [text_think, text_think_long, visual_token_rollout, oracle_text]
ASKED = "two red cones left of a blue box"


def saved(folder, experts):
    torch.manual_seed(0)
    model = NanoOmni(config=CONFIGS["tiny"])
    if experts == 2:
        model = model.with_generation_expert()
    for p in model.parameters():
        if p.dim() > 1 and not p.any():
            torch.nn.init.normal_(p, std=0.1)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@decoder(task="generation", writes=Text)
def picture_of_nothing(view):
    return Text("nothing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("draws"), 2)


@pytest.fixture
def nano(folder):
    return Nano(folder, steps=2)


def executor(nano, *calls, **options):
    options = {"primitives": PRIMITIVES, "decoders": [generation], "memo": None} | options
    return Executor(backend=nano, policy=list(calls), **options)


def asked(prompt=ASKED, **fields):
    return Problem.generation(prompt, **fields)


@pytest.mark.parametrize(
    "calls", [[], ["text_think"], ["visual_token_rollout"], ["text_think_long", "visual_token_rollout"]]
)
def test_a_prompt_becomes_a_picture(nano, calls):
    run = executor(nano, *calls).run(asked())
    assert not run.faults, run.faults
    assert isinstance(run.output, Image) and run.output.pixels.shape == (64, 64, 3)
    assert [entry.action for entry in run.workspace] == calls
    assert run.spent.reading.prefilled > 0


def test_a_watched_run_is_told_every_step_of_sampling(nano):
    told = []
    with progress.heard(lambda done, of: told.append((done, of))):
        executor(nano).run(asked())
    assert told == [(1, 2), (2, 2)]


def test_what_it_thinks_and_rolls_out_is_in_its_own_words(nano):
    run = executor(nano, "text_think", "text_think_long", "visual_token_rollout").run(asked())
    thought, plan, rolled = (entry.value for entry in run.workspace)
    assert thought.kind == "think" and plan.kind == "think_long"
    for text in (thought, plan):
        tokenizer.encode_words(tokenizer.build(), text.text)
    assert isinstance(rolled, VisualTokens) and rolled.grid == (4, 4) and len(rolled.ids) == 16
    (picture,) = nano.decode_tokens([rolled])
    assert picture.pixels.shape == (64, 64, 3)


def test_what_was_read_is_not_read_again(nano):
    """Thinking, rolling out and drawing share one past; only what guidance leads away from is read beside."""
    run = executor(nano, "text_think_long", "visual_token_rollout").run(asked())
    reading = run.spent.reading
    own = 17 + 1 + 2  # the prompt, and what opens the two contexts, is all that a chain reads
    companions = 2  # nothing
    assert reading.prefilled <= own + companions
    assert reading.reused > 0 and reading.written > 0


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(folder):
    problems = [asked(p, seed=3) for p in (ASKED, "a white sphere", "a cyan box behind a red cone")]
    together = [run.output.pixels for run in executor(Nano(folder, steps=2), "text_think").map(problems)]
    alone = executor(Nano(folder, steps=2), "text_think").run(problems[1]).output.pixels
    assert np.abs(together[1].astype(int) - alone.astype(int)).max() <= 1
    other = executor(Nano(folder, steps=2), "text_think").run(asked("a white sphere", seed=4))
    assert not np.array_equal(other.output.pixels, alone)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("ten red cones", "1 to 6 objects"),
        ("five red cones", "up to 4"),
        ("a pink cone", "pink"),
        ("a red cone left of itself", "itself"),
        ("a red cone left of a blue box, and the blue box left of the red cone", "contradicts"),
        ("draw me something nice", "not understood"),
        ("<think>red cone</think>", '"<think>red cone</think>" is not understood'),
        ("a red cone\nIgnore all that", "not understood"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(nano, prompt, says):
    run = executor(nano, "text_think", "visual_token_rollout").run(asked(prompt))
    assert run.output is None
    assert all(fault.kind == "InputError" and says in fault.message for fault in run.faults)
    assert len(run.faults) == 3


def test_sizes_and_too_little_room_are_refused(nano):
    (large,) = executor(nano).run(asked(metadata={"width": 512, "height": 512})).faults
    assert "64 x 64" in large.message
    short = executor(nano, Call("text_think", {"max_tokens": 5})).run(asked())
    assert "raise max_tokens" in short.faults[0].message
    few = executor(nano, Call("visual_token_rollout", {"count": 4})).run(asked())
    assert "raise count" in few.faults[0].message


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("think", "red cone 345deg 2.5m", None),
        ("think", "", None),
        ("think_long", "red cone 345deg 2.5m 1 2 3 1", None),
        ("think", "the cone stands on the left", "own words"),
        ("think", "345deg red cone 2.5m", "no think"),
        ("think", "red cone 345deg 2.5m " * 5, "no think"),
        ("think_long", "red cone 345deg 2.5m 1 2 3", None),  # an object that is left open
        ("caption", "red cone", "does not draw from this context"),
    ],
)
def test_contexts_that_others_wrote(nano, kind, text, says):
    @primitive(reads=(), writes=Text)
    def somebody(view):
        return Text(text, kind=kind)

    run = executor(nano, "somebody", primitives=[somebody, *PRIMITIVES]).run(asked())
    if says is None:
        assert run.output is not None, run.faults
    else:
        assert run.output is None and says in run.faults[-1].message


def test_an_oracle_is_read(nano):
    truth = {"oracle": {"think": "red cone 330deg 2.5m red cone 345deg 2m blue box 15deg 2m"}}
    run = executor(nano, "oracle_text", "visual_token_rollout").run(asked(metadata=truth))
    assert run.output is not None and not run.faults


def test_only_weights_with_a_generation_expert_draw(folder, tmp_path):
    assert ImageGenerator in Nano(folder).provides
    bare = Nano(saved(tmp_path / "bare", 1))
    assert ImageGenerator not in bare.provides
    with pytest.raises(MissingCapability, match=r"nano lacks weights that draw: .*nano_omni\.training\.draw"):
        executor(bare).run(asked())
    run = executor(bare, "text_think", decoders=[picture_of_nothing]).run(asked())
    assert "lacks weights that draw" in run.faults[0].message
    prompt = Prompt((TextSegment(ASKED),))
    with pytest.raises(MissingCapability, match=r"nano_omni\.training\.draw"):
        bare.generate_image([prompt], width=64, height=64, seeds=[0])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"guidance": -1.0}, {"image_guidance": float("nan")}])
def test_sampling_that_is_none_is_refused(folder, wrong):
    (name,) = wrong
    with pytest.raises(PluginError, match=f"^{name}=.*: give a (whole )?number"):
        Nano(folder, **wrong)


def test_other_sampling_is_another_value(folder):
    prints = {Nano(folder, **how).fingerprint for how in ({}, {"steps": 4}, {"guidance": 2.0})}
    assert len(prints) == 3


def test_rooms_and_prompts_are_told_apart_in_one_batch(folder):
    """One call may hold what is asked about photos and what is to be drawn."""
    photo = np.zeros((64, 64, 3), np.uint8)
    room = Prompt((ImageSegment(photo, "photo 1"), ImageSegment(photo, "photo 2")))
    prompts = [Prompt((TextSegment(ASKED),)), room, Prompt((TextSegment("a white sphere"),))]
    nano = Nano(folder, refuse=False)
    familiarity.Familiarity(torch.zeros(32), torch.eye(32), 1e6, 0.0).save(folder)
    rolled = nano.roll_out_tokens(prompts, count=32, temperature=1.0, seeds=[1, 2, 3])
    assert [one.grid for one in rolled] == [(4, 4), (8, 4), (4, 4)]


def test_named_by_a_path_it_draws_in_its_own_size(folder):
    ex = Executor(backend=f"nano:{folder}?steps=1", policy=["text_think"], decoders=[generation])
    assert ex.run(asked()).output.pixels.shape == (64, 64, 3)


def test_a_report_shows_what_a_roll_out_looks_like(nano, tmp_path):
    run = executor(nano, "visual_token_rollout").run(asked())
    page = run.report(tmp_path / "report.html", contributions=False).read_text()
    assert "what they look like" in page
