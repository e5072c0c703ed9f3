"""What `check` says of backends, and that the stand-in keeps every promise."""

import numpy as np
import pytest

from unroller import CameraPose
from unroller.capabilities import AnswerScorer, Generation, PoseEstimator, TextGenerator
from unroller.check import StandIn, check
from unroller.faults import InputError


def expect(findings, level, subject, *words):
    lines = [f for f in findings if (f.level, f.subject) == (level, subject)]
    assert lines, str(findings)
    text = " ".join(f"{line.found} → {line.mend}" for line in lines)
    for word in words:
        assert word in text, text


class Compass:
    """A good backend: knows where a camera went by how bright its photo is."""

    name = "compass"
    fingerprint = "compass 1"
    max_batch = 4
    provides = (PoseEstimator,)

    def estimate_pose(self, pairs, *, seeds):
        return [self.one(pair, seed) for pair, seed in zip(pairs, seeds, strict=True)]

    def one(self, pair, seed):
        if pair.first.pixels.std() == 0:
            return InputError("the first photo is blank: take another")
        step = float(pair.second.pixels.mean() - pair.first.pixels.mean())
        return CameraPose((step, 0.0, 1.0), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("good", [Compass, Compass(), StandIn])
def test_good_ones_pass(good):
    findings = check(good)
    assert findings.ok and not findings.warnings, str(findings)


def test_declaration():
    class Vague(Compass):
        name = ""
        max_batch = 0
        fingerprint = None
        provides = ("PoseEstimator",)

    found = check(Vague)
    expect(found, "fail", "declaration", "its name is ''", "max_batch is 0", "'PoseEstimator', which is no")
    expect(found, "fail", "fingerprint", "is None, not words", "version, weights, settings")


def test_fingerprint_with_an_address():
    class Where(Compass):
        @property
        def fingerprint(self):
            return repr(object())

    expect(check(Where), "fail", "fingerprint", "an address in memory", "the same in every process")


def test_fingerprint_that_changes_between_instances():
    class Numbered(Compass):
        made = 0

        def __init__(self):
            Numbered.made += 1
            self.fingerprint = f"compass {Numbered.made}"

    expect(check(Numbered), "fail", "fingerprint", "two instances made alike", "never of id()")


def test_missing_method():
    class Mute(Compass):
        provides = (PoseEstimator, TextGenerator)

    expect(check(Mute), "fail", "TextGenerator", "has no method generate_text", "take it out of provides")


def test_wrong_signature():
    class Seedless(Compass):
        def estimate_pose(self, pairs):
            return [self.one(pair, 0) for pair in pairs]

    expect(check(Seedless), "fail", "PoseEstimator", "unexpected", "estimate_pose(pairs, *, seeds)")


def test_capability_that_is_not_listed():
    class Modest(Compass):
        def score_answers(self, prompts, choices):
            return [[1.0]]

    expect(check(Modest), "warn", "declaration", "does not list AnswerScorer", "add AnswerScorer")


def test_one_outcome_too_few():
    class Short(Compass):
        def estimate_pose(self, pairs, *, seeds):
            return super().estimate_pose(pairs, seeds=seeds)[1:]

    expect(check(Short), "fail", "estimate_pose", "2 outcomes for 3 samples", "one outcome a sample")


def test_wrong_type():
    class Matrix(Compass):
        def one(self, pair, seed):
            return np.eye(4)

    expect(check(Matrix), "fail", "estimate_pose", "ndarray, not CameraPose")


def test_probabilities_that_do_not_sum_to_one():
    class Scorer:
        name, fingerprint, max_batch, provides = "scorer", "1", 4, (AnswerScorer,)

        def score_answers(self, prompts, choices):
            return [[0.5 for _ in offered] for offered in choices]

    expect(check(Scorer), "fail", "score_answers", "sum to 1", "what the protocol says")


def test_more_tokens_than_asked_for():
    class Chatter:
        name, fingerprint, max_batch, provides = "chatter", "1", 4, (TextGenerator,)

        def generate_text(self, prompts, *, max_tokens, temperature, seeds):
            return [Generation("word " * 99, 99) for _ in prompts]

    expect(check(Chatter), "fail", "generate_text", "99 tokens where at most 24")


def test_bad_sample_that_fails_its_mates():
    class Strict(Compass):
        def one(self, pair, seed):
            found = super().one(pair, seed)
            if isinstance(found, Exception):
                raise found
            return found

    expect(
        check(Strict),
        "fail",
        "estimate_pose",
        "cannot answer among others",
        "raised InputError",
        "in the place",
    )


def test_global_random_numbers():
    class Noisy(Compass):
        def one(self, pair, seed):
            return CameraPose((np.random.random(), 0.0, 1.0), (0.0, 0.0, 0.0))

    expect(check(Noisy), "fail", "estimate_pose", "global random state", "each sample's seed")


def test_shared_generator():
    class Shared(Compass):
        def estimate_pose(self, pairs, *, seeds):
            rng = np.random.default_rng(seeds[0])
            return [CameraPose((rng.random(), 0.0, 1.0), (0.0, 0.0, 0.0)) for _ in pairs]

    expect(check(Shared), "fail", "estimate_pose", "together and one by one differ", "shared generators")


def test_changed_inputs():
    class Vandal(Compass):
        def one(self, pair, seed):
            pair.first.pixels[0] = 0
            return super().one(pair, seed)

    expect(check(Vandal), "fail", "estimate_pose", "changed its inputs", "work on a copy")


def test_nothing_answered():
    class Lazy(Compass):
        def one(self, pair, seed):
            return InputError("not today")

    expect(check(Lazy), "fail", "estimate_pose", "none of 3 requests", "not today", "problems=[…]")


def test_coroutine():
    class Async(Compass):
        async def estimate_pose(self, pairs, *, seeds):
            return []

    expect(check(Async), "fail", "estimate_pose", "coroutine", "drop async")


def test_capability_of_a_plug_in():
    from typing import Protocol

    class Smells(Protocol):
        def smell(self, images): ...

    class Nose:
        name, fingerprint, max_batch, provides = "nose", "1", 4, (Smells,)

        def smell(self, images):
            return ["roses" for _ in images]

    expect(check(Nose), "warn", "Smells", "no sample requests")
