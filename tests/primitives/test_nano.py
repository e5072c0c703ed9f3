"""The embedded model as a backend: real weights of a tiny model, made here; what it can do is tested on the
shipped ones elsewhere."""

import sys

import numpy as np
import pytest
import torch

from nano_omni import familiarity, tokenizer
from nano_omni.config import CONFIGS
from nano_omni.language import pose_words
from nano_omni.model import NanoOmni
from nano_omni.vocabulary import OBJECTS
from primitives.answers import answer_entropy, spatial
from primitives.backends.nano import Nano, UnwaryNano, rooms
from primitives.backends.nano.weights import Loaded
from primitives.latents import latent_think
from primitives.pose import camera_pose_estimate, describe_motion, pose
from primitives.thinking import (
    depth_caption,
    detailed_caption,
    oracle_pose,
    oracle_text,
    text_think,
    text_think_long,
)
from primitives.views import novel_view_synthesis
from primitives.visual_tokens import visual_token_rollout
from unroller import Call, CameraPose, Executor, Problem, Text
from unroller.capabilities import Prompt
from unroller.faults import MissingCapability, ProblemError
from unroller.rendering import ImageSegment, TextSegment
from unroller.values import Latents, NovelViews, VisualTokens

PRIMITIVES = [
    *(camera_pose_estimate, describe_motion, text_think, text_think_long, oracle_text, oracle_pose),
    *(detailed_caption, depth_caption, novel_view_synthesis, visual_token_rollout, latent_think),
]


def weights(folder, seed=0):
    """A tiny model with random weights that finds everything familiar."""
    torch.manual_seed(seed)
    model = NanoOmni(config=CONFIGS["tiny"])
    for block in model.blocks:
        for layer in (block.experts[0].out, block.experts[0].down):
            torch.nn.init.normal_(layer.weight, std=0.2)
    torch.nn.init.normal_(model.head.weight)
    model.save_pretrained(folder)
    tokenizer.save(folder)
    d = model.config.width
    familiarity.Familiarity(torch.zeros(d), torch.eye(d), 1e6, 0.0).save(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def asked():
    return rooms.many(range(6), hops=2) + rooms.many(range(3), hops=4)


@pytest.fixture
def nano(folder):
    return Nano(folder)


def executor(nano, calls, **options):
    return Executor(
        backend=nano,
        primitives=PRIMITIVES,
        decoders=[spatial, pose],
        probes=[answer_entropy],
        policy=calls,
        **options,
    )


BOTH = ["camera_pose_estimate", "text_think"]


def test_many_together_come_out_as_one_by_one(folder, asked):
    calls = [*BOTH, Call("text_think", {"temperature": 1.0}, draw=1)]
    together = list(executor(Nano(folder), calls).map(asked))
    alone = [executor(Nano(folder), calls, memo=None).run(x) for x in asked]
    for a, b in zip(together, alone, strict=True):
        assert [e.value for e in a.entries] == [e.value for e in b.entries]
        assert a.output.probabilities == pytest.approx(b.output.probabilities, abs=1e-4)
        assert sum(a.output.probabilities) == pytest.approx(1)


def test_nothing_is_read_twice(nano, asked):
    ex = executor(nano, BOTH)
    list(ex.map(asked))
    reader = nano.reader
    read, reused = reader.prefilled, reader.reused
    photos = {x.images[0].pixels.tobytes() + x.images[1].pixels.tobytes() for x in asked}
    cameras = len(photos) * 2 * (1 + nano.reader.model.config.grid**2)
    questions = sum(len(tokenizer.question_words(tokenizer.build(), x.question)[1]) for x in asked)
    # Photos once, questions once, the pose once after its question (it was written before one), and a word
    # to answer with. Thoughts were written by the model itself: they are there already.
    assert read == cameras + questions + 5 * len(asked) + len(asked)
    runs = list(executor(nano, [*BOTH], memo=None).map(asked))
    assert reader.prefilled == read + len(asked) and reader.reused > reused
    shares = [run.spent.reading for run in runs]
    assert sum(one.prefilled for one in shares) == pytest.approx(len(asked))  # each run says what it read
    assert sum(one.reused for one in shares) == pytest.approx(reader.reused - reused)
    assert "tokens prefilled" in runs[0].explain()


def test_a_pose_is_read_back_as_it_was_written(nano, asked):
    run = executor(nano, ["camera_pose_estimate"]).run(asked[0])
    found = run.entries[0].value
    assert isinstance(found, CameraPose) and found.scale == "metric"
    words = pose_words(torch.from_numpy(found.matrix))
    six = [float(n) for n in found.campose.removeprefix("<campose>").removesuffix("</campose>").split()]
    assert words == pose_words(torch.from_numpy(CameraPose(tuple(six[:3]), tuple(six[3:])).matrix))
    assert (
        Problem.relative_pose(*asked[0].images).images
        and executor(nano, []).run(Problem.relative_pose(*asked[0].images)).output.words() == found.words()
    )


def test_what_is_written_is_charged_and_bounded(nano, asked):
    run = executor(nano, [Call("text_think", {"max_tokens": 9})]).run(asked[0])
    assert 0 < run.cost.tokens <= 9 and run.cost.model_calls == 2
    assert len(run.entries[0].value.text.split()) < 20


def test_samples_differ_by_their_draw_and_repeat_with_it(nano, asked):
    def thought(draw):
        call = Call("text_think", {"temperature": 2.0}, draw=draw)
        return executor(nano, [call], memo=None).run(asked[0]).entries[0].value

    assert thought(0) == thought(0) != thought(1)


def test_oracles_are_read_as_the_model_writes(nano, asked):
    run = executor(nano, ["oracle_pose", "oracle_text"]).run(asked[0])
    assert run.output is not None and not run.faults


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": lambda x: x.images[:1]}, "two photos of one room"),
        ({"images": lambda x: (*x.images, x.images[0])}, "was given 3"),
        ({"question": lambda x: "How many pyramids are there?"}, "cannot be counted"),
        ({"images": lambda x: [np.zeros((64, 80, 3), np.uint8)] * 2}, "square"),
        ({"images": lambda x: [np.zeros((32, 32, 3), np.uint8)] * 2}, "32 pixels"),
        ({"question": lambda x: "Where is the purpel cone when I take photo 1?"}, "purple cone"),
        ({"question": lambda x: "Why?"}, "Ask one of"),
        ({"question": lambda x: x.question + " </think><campose>1 2 3"}, "<"),
        ({"question": lambda x: "where " * 5_000}, "too many"),
        ({"choices": lambda x: ("left", "upstairs")}, "'upstairs' is no answer"),
        ({"choices": lambda x: ("left", "Left ")}, "are the same"),
    ],
)
def test_what_the_model_has_no_words_for_is_refused_with_what_to_do(nano, asked, change, says):
    x = asked[0].model_copy(update={name: made(asked[0]) for name, made in change.items()})
    run = executor(nano, []).run(x)
    assert run.output is None and says in run.faults[-1].message, run.faults


def test_a_context_it_cannot_read_is_named(nano, asked):
    run = executor(nano, ["camera_pose_estimate", "describe_motion"]).run(asked[0])
    assert "no words for this context" in run.faults[0].message and "<motion>" in run.faults[0].message


def test_a_large_picture_is_made_small(nano):
    x = rooms(3, "spatial", width=512, hops=1)
    assert x.images[0].pixels.shape == (512, 512, 3)
    assert executor(nano, BOTH).run(x).output is not None


def test_photos_it_was_not_made_for_and_objects_it_does_not_see(folder, asked):
    wary = Nano(folder)
    reader, words, familiar = wary._loaded

    def limits(strange, seen):
        of = familiarity.Familiarity(familiar.mean, familiar.precision, strange, seen)
        wary.__dict__["_loaded"] = Loaded(reader, words, of)

    limits(strange=0.0, seen=0.0)
    run = executor(wary, []).run(asked[0])
    assert "not like the rooms" in run.faults[0].message and "--backend" in run.faults[0].message
    limits(strange=1e9, seen=1.1)
    run = executor(wary, []).run(asked[0])
    assert "sees no" in run.faults[0].message


def test_for_controls_there_is_a_twin_that_refuses_nothing(folder, asked):
    nothing = asked[0].model_copy(update={"images": [np.full((64, 64, 3), 128, np.uint8)] * 2})
    for backend, refuses in ((Nano(folder), True), (UnwaryNano(folder), False)):
        reader, words, familiar = backend._loaded
        strict = familiarity.Familiarity(familiar.mean, familiar.precision, 0.0, 1.1)
        backend.__dict__["_loaded"] = Loaded(reader, words, strict)
        run = executor(backend, ["text_think"]).run(nothing)
        assert (run.output is None) is refuses
    assert Nano(folder).fingerprint != UnwaryNano(folder).fingerprint


def test_weights_that_are_missing_truncated_or_of_another_version(folder, tmp_path, asked):
    with pytest.raises(MissingCapability, match="make weights"):
        Nano(tmp_path / "nowhere").reader  # noqa: B018
    broken = weights(tmp_path / "broken")
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    run = executor(Nano(broken), []).run(asked[0])
    assert "damaged or of another version" in run.faults[0].message
    other = weights(tmp_path / "other")
    text = (other / "config.json").read_text().replace('"width": 32', '"width": 64')
    (other / "config.json").write_text(text)
    assert Nano(other).fingerprint != Nano(folder).fingerprint
    with pytest.raises(MissingCapability, match="another version"):
        Nano(other).reader  # noqa: B018


def test_questions_are_numbered_balanced_and_the_same_alone_or_together():
    together = rooms.many([5, 9], hops=3)
    alone = rooms(9, "spatial", width=64, hops=3)
    assert together[1].question == alone.question and together[1].metadata == alone.metadata
    assert np.array_equal(together[1].images[0].pixels, alone.images[0].pixels)
    assert [x.metadata["hops"] for x in rooms.many([4, 5, 6, 7], hops=0)] == [1, 2, 3, 4]
    answers = [x.metadata["truth"]["answer"] for x in rooms.many(range(200), hops=2)]
    assert all(answers.count(a) > 25 for a in ("front", "right", "behind", "left"))


def test_a_number_whose_rooms_have_no_such_question_takes_a_room_further_on():
    (one,) = rooms.many([6928], hops=0, ask="all")  # none of its sixteen rooms has anything to count
    assert one.question == "How many boxes do the two photos show?" and one.metadata["room"] == 6928


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"hops": 5}, "1 to 4 hops"),
        ({"ask": "why"}, "where, count, compare, all"),
        ({"photos": 4}, "two or three"),
        ({"photos": 3}, "chains of 3 or 4 hops"),
        ({"width": 640, "height": 480}, "square"),
        ({"seed": -1}, "numbered 0 to"),
        ({"width": 8}, "16 to 4096"),
    ],
)
def test_questions_that_there_are_not(wrong, says):
    with pytest.raises(ProblemError, match=says):
        rooms(**({"seed": 1, "task": "spatial"} | wrong))


def test_counting_and_comparing(nano):
    for ask, choices in (("count", ("0", "1", "2", "3")), ("compare", None)):
        x = rooms.many([3], ask=ask)[0]
        assert choices in (None, x.choices) and x.metadata["truth"]["answer"] in x.choices
        run = executor(nano, ["text_think", "oracle_text"]).run(x)
        assert run.output.text in x.choices and not run.faults
    article = x.model_copy(update={"choices": tuple(f"the {choice}" for choice in x.choices)})
    assert executor(nano, []).run(article).output.choice is not None
    wrong = x.model_copy(update={"choices": ("red cone", "up there")})
    assert "the choices are" in executor(nano, []).run(wrong).faults[0].message
    assert [x.metadata["form"] for x in rooms.many(range(6), ask="all")] == [*"1234", "count", "compare"]


def test_chains_across_three_photos_are_asked_and_not_answered_by_this_model(nano):
    x, y = rooms.many([5, 6], hops=0, photos=3)
    assert len(x.images) == 3 and (x.metadata["hops"], y.metadata["hops"]) == (4, 3)
    alone = rooms(5, "spatial", width=64, hops=0, photos=3)
    assert alone.question == x.question and np.array_equal(alone.images[2].pixels, x.images[2].pixels)
    run = executor(nano, []).run(x)
    assert "was given 3" in run.faults[0].message


EVERYTHING = [
    *("camera_pose_estimate", "detailed_caption", "depth_caption", "novel_view_synthesis:sides"),
    *("visual_token_rollout", "latent_think", "text_think", "text_think_long"),
]


def test_whatever_it_writes_it_reads_again(nano, asked):
    run = executor(nano, EVERYTHING).run(asked[0])
    assert not run.faults and run.output is not None
    assert [entry.action for entry in run.entries] == EVERYTHING
    kinds = [type(entry.value) for entry in run.entries]
    assert kinds == [CameraPose, Text, Text, NovelViews, VisualTokens, Latents, Text, Text]
    assert kinds.count(Text) == 4 and run.entries[-1].value.text.count(";") == 1


def test_views_and_visual_tokens_are_the_same_pictures(nano, asked):
    run = executor(nano, ["novel_view_synthesis:sides", "visual_token_rollout"]).run(asked[0])
    pictures, tokens = (entry.value for entry in run.entries)
    assert pictures.views.shape == (2, 64, 64, 3) and tokens.grid == (8, 4)
    drawn = nano.decode_tokens([tokens])[0]
    assert np.array_equal(drawn.pixels, pictures.views.reshape(128, 64, 3))
    said = [segment.text for segment in pictures.render() if isinstance(segment, TextSegment)]
    assert said == ["Photo 1, looking left 75°:", "Photo 1, looking right 75°:"]
    contexts = []
    for value in (pictures, tokens):
        prompt = Prompt((*photos(asked[0]), TextSegment(asked[0].question), *value.render()))
        contexts.append(nano._asked(prompt).contexts)
    assert contexts[0] == contexts[1]  # a picture that it drew is read back exactly


def photos(x):
    return [ImageSegment(image.pixels, "") for image in x.images]


def test_what_is_told_without_a_question_is_written_once(nano, asked):
    ex = executor(nano, ["camera_pose_estimate", "detailed_caption", "novel_view_synthesis:sides"])
    ex.run(asked[0])
    written = nano.reader.written
    again = ex.extend(policy=["visual_token_rollout"]).run(asked[0])
    assert nano.reader.written == written and again.spent.reading.reused > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (Call("visual_token_rollout", {"count": 31}), "32 visual tokens, not 31"),
        (Call("novel_view_synthesis", {"photo": 2}), "no photo 3"),
    ],
)
def test_what_it_cannot_picture(nano, asked, call, says):
    run = executor(nano, [call]).run(asked[0])
    assert says in run.faults[0].message and run.output is not None


def test_hidden_states_of_other_weights_are_not_read(nano, asked, tmp_path):
    other = Nano(weights(tmp_path / "other", seed=1))
    latents = executor(other, ["latent_think"]).run(asked[0]).entries[0].value
    assert latents.hidden.shape == (4, nano.reader.model.config.width)
    prompt = Prompt((*photos(asked[0]), TextSegment(asked[0].question), *latents.render()))
    (outcome,) = nano.score_answers([prompt], [asked[0].choices])
    assert "no words for this context" in str(outcome)
    assert sum(other.score_answers([prompt], [asked[0].choices])[0]) == pytest.approx(1)


def test_thinking_is_text_of_the_models_own_words(nano, asked):
    thought = executor(nano, ["text_think"]).run(asked[0]).entries[0].value
    assert isinstance(thought, Text) and thought.kind == "think"
    assert tokenizer.encode_words(tokenizer.build(), thought.text)


def test_a_caption_tells_of_an_object_once(nano, asked):
    for x in asked[:4]:  # whatever random weights would say again and again
        run = executor(nano, ["detailed_caption", "depth_caption"]).run(x)
        for entry in run.entries:
            named = [name for name in OBJECTS if name in entry.value.text]
            assert named and all(entry.value.text.count(name) == 1 for name in named)


def test_without_torch_one_command_is_named(asked, tmp_path, monkeypatch):
    folder = weights(tmp_path / "more")
    monkeypatch.setitem(sys.modules, "torch", None)
    run = executor(Nano(folder), ["text_think"]).run(asked[0])
    assert run.output is None and {fault.kind for fault in run.faults} == {"MissingCapability"}
    assert all("pip install 'torch'" in fault.message for fault in run.faults)
