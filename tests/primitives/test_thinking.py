"""Text as context: what a writer is asked, what it costs, and what an oracle says in its place."""

import json
from typing import ClassVar

import numpy as np
import pytest

from primitives.thinking import (
    depth_caption,
    detailed_caption,
    oracle_pose,
    oracle_text,
    text_think,
    text_think_long,
)
from unroller import Call, Executor, Problem, Text, decoder
from unroller.capabilities import Generation, TextGenerator
from unroller.faults import InputError
from unroller.rendering import ImageSegment, in_words


class Writer:
    """Writes how many segments it read, and keeps the prompts."""

    name, fingerprint, max_batch = "writer", "writer-1", 8
    provides: ClassVar = (TextGenerator,)

    def __init__(self):
        self.prompts, self.how = [], []

    def generate_text(self, prompts, *, max_tokens, temperature, seeds):
        self.prompts += prompts
        self.how += [(max_tokens, temperature, seed) for seed in seeds]
        return [
            InputError("too dark")
            if not np.any(prompt.segments[0].pixels)
            else Generation(f"read {len(prompt.segments)}", 7)
            for prompt in prompts
        ]


@decoder(task="spatial", reads=(Text,), writes=Text)
def told(view):
    return Text(" | ".join(f"{text.kind}: {text.text}" for text in view.all(Text)))


WRITERS = [text_think, text_think_long, detailed_caption, depth_caption]


def ran(calls, x=None, **options):
    writer = Writer()
    ex = Executor(
        backend=writer,
        primitives=[*WRITERS, oracle_text, oracle_pose],
        decoders=[told],
        policy=list(calls),
        **options,
    )
    return writer, ex.run(x or Problem.spatial(picture(), picture(), question="Where?"))


def picture(shade=9):
    return np.full((4, 4, 3), shade, np.uint8)


def test_thoughts_read_the_photos_the_question_and_all_thoughts_before_them():
    writer, run = ran(["detailed_caption", "text_think"])
    assert run.output.text == "caption: read 3 | think: read 4"
    first, second = writer.prompts
    assert [type(s) for s in first.segments[:2]] == [ImageSegment, ImageSegment]
    assert in_words(list(second.segments)).startswith(in_words(list(first.segments)))  # a prefix
    assert (first.writes, second.writes) == ("caption", "think")
    assert "step by step" in second.instruction and "Where?" not in second.instruction


def test_what_was_written_is_charged_and_what_may_be_is_reserved():
    _, run = ran(["text_think"])
    assert (run.cost.model_calls, run.cost.tokens) == (1, 7)
    _, run = ran(["text_think"], budget={"tokens": 511})
    assert "512 tokens" in run.faults[0].message and run.cost.tokens == 0
    _, run = ran([Call("text_think", {"max_tokens": 100})], budget={"tokens": 511})
    assert not run.faults


def test_long_thinking_may_write_more_and_samples_differ_by_their_draw():
    writer, _ = ran(["text_think_long", Call("text_think", {"temperature": 0.7}, draw=1)])
    (long, _, first), (short, temperature, second) = writer.how
    assert long > short and temperature == 0.7 and first != second


def test_a_photo_that_cannot_be_described_is_its_own_fault():
    writer = Writer()
    ex = Executor(backend=writer, primitives=WRITERS, decoders=[told], policy=["text_think"])
    dark, light = (Problem.spatial(picture(shade), question="Where?") for shade in (0, 9))
    first, second = ex.map([dark, light])
    assert first.faults[0].message == "too dark" and second.output.text == "think: read 2"


def test_without_a_question_nothing_is_thought_and_without_a_photo_nothing_described():
    for call, x in [
        ("text_think", Problem(task="spatial", images=[picture()])),
        ("depth_caption", Problem(task="spatial", question="Where?")),
    ]:
        _, run = ran([call], x)
        assert run.faults[0].kind == "NotAllowed" and "needs a" in run.faults[0].message


def test_an_oracle_speaks_from_the_metadata_or_a_file(tmp_path):
    x = Problem.spatial(
        picture(),
        question="Where?",
        metadata={"oracle": {"think": "left of it"}, "truth": {"pose": [1, 0, 0, 0, 0.1, 0]}},
    )
    _, run = ran(["oracle_text", "oracle_pose"], x)
    assert run.entries[0].value == Text("left of it") and run.entries[1].value.translation == (1, 0, 0)
    file = tmp_path / "texts.json"
    file.write_text(json.dumps({"Where?": {"caption": "a cone"}}))
    _, run = ran([Call("oracle_text", {"kind": "caption", "file": str(file)})], x)
    assert run.entries[0].value == Text("a cone", kind="caption")


@pytest.mark.parametrize(
    ("parameters", "says"),
    [({}, "no oracle text of the kind 'think'"), ({"file": "nowhere.json"}, "nowhere.json holds no texts")],
)
def test_an_oracle_without_words_says_what_is_missing(parameters, says):
    _, run = ran([Call("oracle_text", parameters), "oracle_pose"])
    assert says in run.faults[0].message and "true pose" in run.faults[1].message
