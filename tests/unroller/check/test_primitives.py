"""What `check` says of primitives: good ones pass, and each bad one shows a mistake and its mending."""

import itertools
import random
import time

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from unroller import Answer, CameraPose, Cost, Image, Problem, Text, Value, decoder, primitive, probe
from unroller.arrays import Array
from unroller.capabilities import PhotoPair, PoseEstimator, Prompt, TextGenerator
from unroller.check import check
from unroller.check import primitives as checks
from unroller.faults import InputError
from unroller.rendering import TextSegment


def expect(findings, level, subject, *words):
    """The one line about a subject at a level, which must hold these words."""
    lines = [f for f in findings if (f.level, f.subject) == (level, subject)]
    assert lines, str(findings)
    text = " ".join(f"{line.found} → {line.mend}" for line in lines)
    for word in words:
        assert word in text, text


def well(thing, **options):
    findings = check(thing, **options)
    assert findings.ok and not findings.warnings, str(findings)
    return findings


class Length(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    max_tokens: int = 16


# ----------------------------------------------------------------------------------------------- good


@primitive(reads=(CameraPose,), writes=Text)
def motion(view):
    """Say where the camera went."""
    pose = view.latest(CameraPose)
    if pose is None:
        raise InputError("there is no pose yet: call camera_pose_estimate first")
    return Text("moved right" if pose.translation[0] > 0 else "moved left")


@primitive(
    reads=("question", Text),
    writes=Text,
    needs=TextGenerator,
    parameters=Length,
    presets={"long": {"max_tokens": 64}},
    cost=lambda p: Cost(model_calls=1, tokens=p.max_tokens),
    stochastic=True,
    batched=True,
)
def think(views, generator):
    """Think about the question."""
    prompts = [Prompt((*view.segments(), TextSegment(str(view.question)))) for view in views]
    seeds = [view.seed for view in views]
    limit = views[0].parameters.max_tokens
    written = generator.generate_text(prompts, max_tokens=limit, temperature=1.0, seeds=seeds)
    values = []
    for view, one in zip(views, written, strict=True):
        if not isinstance(one, Exception):
            view.charge(model_calls=1, tokens=one.tokens)
            one = Text(one.text)
        values.append(one)
    return values


@primitive(
    reads=("images", "intrinsics"),
    writes=CameraPose,
    needs=PoseEstimator,
    stochastic=True,
    batched=True,
    applies=lambda problem: None if len(problem.images) == 2 else "needs two photos",
)
def pose(views, estimator):
    """Where the second photo was taken."""
    pairs = []
    for view in views:
        first, second = view.images
        pairs.append(PhotoPair(first, second, view.camera(0), view.camera(1)))
    return estimator.estimate_pose(pairs, seeds=[view.seed for view in views])


@primitive(reads=("images",), writes=Image, stochastic=True)
def noisy(view):
    """A photo with noise on it."""
    if not view.images:
        raise InputError("there is no photo to add noise to: give the problem one")
    pixels = view.images[0].pixels
    return Image(np.clip(pixels + view.rng.normal(0, 9, pixels.shape), 0, 255).astype(np.uint8))


@primitive(reads=("question",), writes=Text)
async def waits(view):
    """Say the question again, in its own time."""
    return Text(view.question or "nothing was asked")


@decoder(task="spatial", writes=Answer)
def guess(view):
    """The first choice."""
    return Answer(view.choices[0] if view.choices else "nothing", view.choices)


@probe(reads=("question",))
def length(view):
    """How long the question is."""
    return float(len(view.question or ""))


@pytest.mark.parametrize("good", [motion, think, pose, noisy, waits, guess, length], ids=lambda p: p.name)
def test_good_ones_pass(good):
    well(good)


def test_each_preset_is_tried():
    expect(well(think), "ok", "presets", "think:long validates and runs")


# ---------------------------------------------------------------------------------------- declaration


def test_no_docstring():
    @primitive(reads=("question",), writes=Text)
    def silent(view):
        return Text("hello")

    expect(check(silent), "warn", "declaration", "no docstring", "one sentence")


def test_reads_nothing():
    @primitive(reads=(), writes=Text)
    def blind(view):
        """See nothing."""
        return Text("hello")

    expect(check(blind), "warn", "declaration", "same value for every problem", "reads=")


def test_preset_that_does_not_validate():
    @primitive(reads=("question",), writes=Text, parameters=Length, presets={"long": {"max_token": 9}})
    def talk(view):
        """Talk."""
        return Text(str(view.question))

    expect(check(talk), "fail", "declaration", "the preset 'long'", "max_token", "mend the preset")


def test_preset_that_works_on_no_sample():
    class Which(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        photo: int = 0

    @primitive(reads=("images",), writes=Image, parameters=Which, presets={"tenth": {"photo": 9}})
    def pick(view):
        """One of the photos."""
        if view.parameters.photo >= len(view.images):
            raise InputError(f"there is no photo {view.parameters.photo + 1}: choose another")
        return view.images[view.parameters.photo]

    expect(check(pick), "warn", "presets", "pick:tenth could compute no sample", "no photo 10")


def test_parameter_without_a_default():
    class Needs(BaseModel):
        model_config = ConfigDict(extra="forbid")
        style: str

    @primitive(reads=("question",), writes=Text, parameters=Needs, presets={"dry": {"style": "dry"}})
    def styled(view):
        """Talk in style."""
        return Text(view.parameters.style)

    expect(check(styled), "fail", "declaration", "without a preset", "every field of Needs a default")


def test_parameters_that_swallow_misspellings():
    class Loose(BaseModel):
        style: str = "dry"

    @primitive(reads=("question",), writes=Text, parameters=Loose)
    def styled(view):
        """Talk in style."""
        return Text(f"{view.parameters.style} {view.question}")

    expect(check(styled), "warn", "declaration", "misspelt parameter", 'extra="forbid"')


def test_decoder_of_an_impossible_task():
    @decoder(task="Spatial Questions", writes=Answer)
    def guess(view):
        """Guess."""
        return Answer("left")

    expect(check(guess), "fail", "declaration", "'Spatial Questions'", "lower-case")


def test_version_that_cannot_see_what_it_closes_over():
    def saying(word):
        @primitive(reads=("question",), writes=Text)
        def say(view):
            """Say a word."""
            return Text(f"{word} {view.question}")

        return say

    expect(check(saying("yes")), "warn", "version", "closes over word", 'version=f"{word}"')


def test_version_of_what_has_no_source():
    class Talker:
        """Talks."""

        def __call__(self, view):
            return Text(str(view.question))

    from unroller import Primitive

    talker = Primitive(Talker(), name="talker", reads=("question",), writes=Text)
    expect(check(talker), "warn", "version", "a Talker, whose source cannot be read", 'version="1"')


def test_applies_that_answers_yes_or_no():
    @primitive(reads=("question",), writes=Text, applies=lambda problem: bool(problem.question))
    def talk(view):
        """Talk."""
        return Text(view.question)

    expect(check(talk), "fail", "applies", "returned True", "return None if it can be called")


def test_applies_that_raises():
    @primitive(reads=("images",), writes=Text, applies=lambda problem: problem.images[1] and None)
    def count(view):
        """Count the photos."""
        return Text(str(len(view.images)))

    expect(check(count), "fail", "applies", "raised IndexError", "without photos", "never raise")


def test_capability_that_nobody_provides():
    class Oracle:
        pass

    @primitive(reads=("question",), writes=Text, needs=Oracle)
    def ask(view, oracle):
        """Ask the oracle."""
        return Text("42")

    expect(check(ask), "fail", "declaration", "needs Oracle", "backends=[…]")


# -------------------------------------------------------------------------------------- what comes back


def test_wrong_type():
    @primitive(reads=("question",), writes=Text)
    def talk(view):
        """Talk."""
        return view.question

    expect(check(talk), "fail", "types", "declares that it writes Text and returned str", "return a Text")


def test_wrong_number_of_values():
    @primitive(reads=("question",), writes=Text, batched=True)
    def talk(views):
        """Talk."""
        return [Text(str(view.question)) for view in views] + [Text("and one more")]

    expect(check(talk), "fail", "types", "2 values for 1 samples", "a list of values", "in place of one")


def test_one_value_where_a_list_is_due():
    @primitive(reads=("question",), writes=Text, batched=True)
    def talk(views):
        """Talk."""
        return Text("for all of you")

    expect(check(talk), "fail", "types", "must return a list, not Text")


def test_not_a_number():
    @probe(reads=("question",))
    def surprise(view):
        """Divide by nothing."""
        return float("nan")

    expect(check(surprise), "fail", "types", "measured nan", "divides by")


# ---------------------------------------------------------------------------------------------- errors


def test_bug_on_a_good_problem():
    @primitive(reads=("choices",), writes=Text)
    def tenth(view):
        """The tenth choice."""
        return Text(view.choices[9])

    expect(check(tenth), "fail", "errors", "IndexError: tuple index out of range", "mend it")


def test_untyped_error_on_an_empty_context():
    @primitive(reads=(CameraPose,), writes=Text)
    def motion(view):
        """Say where the camera went."""
        return Text("right" if view.latest(CameraPose).translation[0] > 0 else "left")

    found = check(motion)
    assert found.ok
    expect(found, "warn", "errors", "on an empty context it raised AttributeError", "raise InputError(")


def test_untyped_error_on_a_problem_without_photos():
    @primitive(reads=("images",), writes=Text)
    def size(view):
        """Say how large the first photo is."""
        return Text(view.images[0].words())

    expect(check(size), "warn", "errors", "a problem without photos", "IndexError", "declare applies=…")


def test_nothing_could_be_checked():
    @primitive(reads=("metadata",), writes=Text)
    def label(view):
        """Say the label in the metadata."""
        if "label" not in view.metadata:
            raise InputError("the problem has no metadata['label']: give it one")
        return Text(view.metadata["label"])

    found = check(label)
    expect(found, "fail", "samples", "no sample could be computed", "no metadata['label']", "problems=[")
    mine = [Problem.generation("a room", metadata={"label": f"room {i}"}) for i in range(3)]
    assert check(label, problems=mine).ok


# ------------------------------------------------------------------------------- same in, same out


def test_counter():
    count = itertools.count()

    @primitive(reads=("question",), writes=Text, version="1")
    def numbered(view):
        """Number the answers."""
        return Text(f"answer {next(count)}")

    expect(check(numbered), "fail", "same call", "different values", "'answer ", "no clock, no counter")


def test_global_random_numbers():
    @primitive(reads=("question",), writes=Text)
    def dice(view):
        """Throw a die."""
        return Text(f"{view.question} {random.random()}")

    expect(check(dice), "fail", "same call", "global random generator", "view.rng", "stochastic=True")


def test_global_random_numbers_of_numpy_in_a_stochastic_one():
    @primitive(reads=("question",), writes=Text, stochastic=True)
    def dice(view):
        """Throw a die."""
        return Text(f"{view.question} {np.random.random()}")

    expect(check(dice), "fail", "same call", "global random generator", "view.rng")


def test_seeding_the_global_generator():
    @primitive(reads=("question",), writes=Text, stochastic=True)
    def dice(view):
        """Throw a die."""
        np.random.seed(view.seed % 2**32)
        return Text(f"{np.random.random()}")

    found = check(dice)
    assert found.ok
    expect(found, "warn", "same call", "which others rely on", "make a generator of your own")


def test_stochastic_that_never_draws():
    @primitive(reads=("question",), writes=Text, stochastic=True)
    def steady(view):
        """Say the question again."""
        return Text(str(view.question))

    expect(check(steady), "warn", "draws", "never used view.seed or view.rng", "do not declare it")


def test_stochastic_that_never_differs():
    @primitive(reads=("question",), writes=Text, stochastic=True)
    def steady(view):
        """Round a random number to nothing."""
        return Text(f"{view.question} {view.rng.random() * 0:.0f}")

    expect(check(steady), "warn", "draws", "4 draws of it never differed", "computed once")


def test_batch_mates_that_share_a_generator():
    @primitive(reads=("question",), writes=Text, stochastic=True, batched=True)
    def dice(views):
        """Throw a die for each."""
        rng = views[0].rng
        return [Text(f"{rng.random():.6f}") for _ in views]

    expect(check(dice), "fail", "batch", "differ from one by one", "one generator a view")


def test_batch_that_is_normalised_as_one():
    @primitive(reads=("images",), writes=Image, batched=True)
    def brighten(views):
        """Brighten by the mean of the whole batch."""
        photos = [view.images[0].pixels if view.images else np.zeros((4, 4, 3)) for view in views]
        mean = np.mean([photo.mean() for photo in photos])
        return [Image(np.clip(photo + 128 - mean, 0, 255).astype(np.uint8)) for photo in photos]

    expect(check(brighten), "fail", "batch", "Image.pixels", "own view alone")


def test_batch_that_cannot_be_stacked():
    @primitive(reads=("images",), writes=Image, batched=True)
    def flip(views):
        """Mirror the photos, all in one array."""
        if not all(view.images for view in views):
            raise InputError("there is no photo to mirror: give the problem one")
        return [Image(photo) for photo in np.stack([view.images[0].pixels for view in views])[:, :, ::-1]]

    expect(check(flip), "fail", "batch", "raised ValueError", "each work alone", "differ in sizes")


def test_bad_sample_that_fails_its_batch():
    @primitive(reads=("images",), writes=Text, batched=True)
    def count(views):
        """Count the photos."""
        if not all(view.images for view in views):
            raise InputError("there are no photos to count: give the problem some")
        return [Text(f"{len(view.images)} photos") for view in views]

    found = check(count)
    assert found.ok
    expect(found, "warn", "batch", "failed its whole batch", "put the InputError in the list")


# ------------------------------------------------------------------------------- reads, inputs, costs


def test_undeclared_field():
    @primitive(reads=("images",), writes=Text)
    def talk(view):
        """Say the question."""
        return Text(f"{len(view.images)} photos: {view.question}")

    expect(check(talk), "fail", "reads", "it reads x.question", 'add "question" to its reads')


def test_undeclared_type():
    @primitive(reads=(Text,), writes=Text)
    def talk(view):
        """Say where the camera is."""
        return Text(f"{view.latest(CameraPose)} {view.latest(Text)}")

    expect(check(talk), "fail", "reads", "it reads CameraPose of C", "add CameraPose to its reads")


def test_undeclared_seed():
    @primitive(reads=("question",), writes=Text)
    def dice(view):
        """Throw a die."""
        return Text(f"{view.question} {view.rng.random()}")

    expect(check(dice), "fail", "reads", "its seed", "declare stochastic=True")


def test_undeclared_cameras():
    @primitive(reads=("images",), writes=Text)
    def focal(view):
        """Say how long the lens is."""
        return Text(f"{len(view.images)} photos, {view.camera(0)}")

    expect(check(focal), "fail", "reads", "it reads x.intrinsics", 'add "intrinsics" to its reads')


def test_undeclared_order():
    @primitive(reads=(Text, CameraPose), writes=Text, ordered=False)
    def retell(view):
        """Say it all again, in order."""
        return Text(f"{len(view.segments())} segments")

    expect(check(retell), "fail", "reads", "the order between value types", "declare ordered=True")


def test_undeclared_read_that_is_swallowed():
    @primitive(reads=("images",), writes=Text)
    def talk(view):
        """Say the question if there is one."""
        return Text(f"{len(view.images)} photos: {getattr(view, 'question', '')}")

    expect(check(talk), "fail", "reads", "it reads x.question", 'add "question" to its reads')


def test_declared_and_never_read():
    @primitive(reads=("question", "images", CameraPose), writes=Text)
    def talk(view):
        """Say the question."""
        return Text(str(view.question))

    found = check(talk)
    assert found.ok
    expect(found, "warn", "reads", '"images", CameraPose', "take it out of reads")


def test_changed_inputs():
    @primitive(reads=("images",), writes=Text)
    def darken(view):
        """Look at the photos in the dark."""
        for image in view.images:
            image.pixels[:] //= 2
        return Text(f"{len(view.images)} photos")

    expect(check(darken), "fail", "inputs", "changed x.images in place", "work on a copy")


def test_changed_context():
    @primitive(reads=(Image,), writes=Text)
    def darken(view):
        """Look at the picture in the dark."""
        for image in view.all(Image):
            image.pixels[:] = 0
        return Text("dark")

    expect(check(darken), "fail", "inputs", "changed Image of C in place", "work on a copy")


def test_free_use_of_a_model():
    @primitive(reads=("images",), writes=CameraPose, needs=PoseEstimator, cost=Cost(), batched=True)
    def pose(views, estimator):
        """Where the second photo was taken."""
        return estimator.estimate_pose([PhotoPair(*v.images) for v in views], seeds=[0] * len(views))

    expect(check(pose), "warn", "cost", "asks for PoseEstimator", "costs nothing", "Cost(model_calls=1)")


def test_tokens_that_are_not_charged():
    @primitive(reads=("question",), writes=Text, needs=TextGenerator)
    def think(view, generator):
        """Think."""
        prompt = Prompt((TextSegment(str(view.question)),))
        (one,) = generator.generate_text([prompt], max_tokens=9, temperature=0.0, seeds=[0])
        return Text(one.text)

    expect(check(think), "warn", "cost", "counts no tokens", "view.charge(model_calls=1, tokens=")


def test_negative_bound():
    @primitive(reads=("question",), writes=Text, cost=Cost(price=-1.0))
    def gift(view):
        """Give money back."""
        return Text(str(view.question))

    expect(check(gift), "fail", "cost", "$-1.0000", "not below 0")


def test_bound_that_is_no_cost():
    @primitive(reads=("question",), writes=Text, cost=lambda p: 3)
    def odd(view):
        """Cost three of something."""
        return Text(str(view.question))

    expect(check(odd), "fail", "cost", "its cost is 3, no Cost", "return Cost(")


def test_charge_above_the_bound():
    @primitive(reads=("question",), writes=Text, cost=Cost(model_calls=1))
    def eager(view):
        """Call twice."""
        view.charge(model_calls=2)
        return Text(str(view.question))

    expect(check(eager), "fail", "cost", "charged 2 calls", "declares at most 1 call", "the true bound")


def test_charge_that_varies():
    count = itertools.count()

    @primitive(reads=("question",), writes=Text, cost=Cost(tokens=10**6), version="1")
    def moody(view):
        """Charge more each time."""
        view.charge(tokens=next(count))
        return Text(str(view.question))

    expect(check(moody), "fail", "same call", "charged 0 calls", "then 0 calls")


# -------------------------------------------------------------------------- what becomes of the values


class Course(Value, frozen=True):
    """Where the camera looks, in degrees from north."""

    degrees: float

    def words(self):
        return f"heading {self.degrees:.0f} degrees"


class Bare(Value, frozen=True):
    """A number that a picture goes with."""

    points: Array
    name: str = ""

    @classmethod
    def example(cls):
        return [cls(np.arange(3.0) + i, f"bare {i}") for i in range(2)]

    def render(self):
        return (TextSegment(f"<bare>{self.name}</bare>"),)


def test_a_type_of_ones_own():
    @primitive(reads=(Course,), writes=Course)
    def turn(view):
        """Turn by ten degrees."""
        last = view.latest(Course)
        return Course(10.0 if last is None else last.degrees + 10)

    well(turn)


def test_a_type_that_gives_no_example():
    class Cloud(Value, frozen=True):
        points: Array

    @primitive(reads=(Cloud,), writes=Text)
    def describe(view):
        """Describe the cloud."""
        return Text("a cloud")

    expect(check(describe), "fail", "samples", "example of Cloud", "'points'", "def example(cls)")


def test_a_value_that_renders_forged_tags():
    @primitive(reads=(Bare, "question"), writes=Bare)
    def name(view):
        """Name the points after the question."""
        return Bare(np.arange(3.0), str(view.question))

    expect(check(name), "fail", "rendering", "can forge a tag", "<campose>", "rendering.escape")


def test_slow_without_a_timeout(monkeypatch):
    monkeypatch.setattr(checks, "SLOW", 0.001)

    @primitive(reads=("question",), writes=Text)
    def ponder(view):
        """Take a while."""
        time.sleep(0.003)
        return Text(str(view.question))

    expect(check(ponder), "warn", "time", "declares no timeout", "timeout=… seconds")


def test_slower_than_its_timeout():
    @primitive(reads=("question",), writes=Text, timeout=0.05)
    def ponder(view):
        """Take a while, on short questions."""
        time.sleep(0.0 if view.question and len(view.question) > 30 else 0.2)
        return Text(str(view.question))

    expect(check(ponder), "warn", "time", "outlasted its timeout", "raise its timeout of 0.05 s")


def test_a_value_that_cannot_be_journaled():
    class Lambda(Value, frozen=True):
        """Holds a function."""

        function: object = None

    @primitive(reads=("question",), writes=Lambda)
    def wrap(view):
        """Wrap a function."""
        return Lambda(len)

    expect(check(wrap), "fail", "journal", "cannot be written and read back", "plain data")
