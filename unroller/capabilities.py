"""What a primitive may ask for, never whom: the protocols that backends provide.

Every method takes a batch and returns one result a sample, in order. A sample that cannot be worked with
is answered by an exception *in its place* (usually InputError), so that one bad pair of photos does not
fail its batch mates; raising fails the whole batch. `seeds` holds one integer a sample: random numbers may
depend on it and on nothing else, so that a sample's result does not depend on its batch mates.

A backend is any object with `name`, `fingerprint` (it changes when results would), `max_batch`, and the
methods of the protocols it lists in `provides`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from unroller.arrays import Array
from unroller.problem import Intrinsics
from unroller.rendering import Segment
from unroller.values import CameraPose, DepthMap, Image, Latents, NovelViews, Video, VisualTokens

T = TypeVar("T")
Outcomes = Sequence[T | Exception]
"""One a sample: a result, or the reason why this sample has none."""


class Prompt(msgspec.Struct, frozen=True, eq=False):
    """What a language model reads, in order: what is given (photos, then the question) and the context as it
    was written, and last the instruction, what to do now, which is dropped afterwards.

    writes: the kind of text that is wanted ("think", "caption", …), for models that were trained to open
    with a tag of that name and not to follow instructions.
    """

    segments: tuple[Segment, ...]
    instruction: str = ""
    system: str = ""
    writes: str = ""


class Generation(msgspec.Struct, frozen=True):
    """What it wrote: text, how many tokens that took, and their summed log-probability if known; price: what
    reading the prompt and writing this cost by a price list, in dollars."""

    text: str
    tokens: int
    log_probability: float | None = None
    price: float = 0.0


class Scores(tuple[float, ...]):
    """Probabilities of choices that had their price, in dollars. Where scoring is charged as one model call
    and no more, any sequence will do."""

    price: float = 0.0


class PhotoPair(msgspec.Struct, frozen=True, eq=False):
    """Two photos and what is known of their cameras (None: the backend states its default)."""

    first: Image
    second: Image
    first_camera: Intrinsics | None = None
    second_camera: Intrinsics | None = None


class DepthRequest(msgspec.Struct, frozen=True, eq=False):
    """A photo; optionally a second one of the same scene and where it was taken. context: what else was
    written about them so far, for a model that reads it."""

    photo: Image
    camera: Intrinsics | None = None
    second: Image | None = None
    second_camera: Intrinsics | None = None
    pose: CameraPose | None = None
    index: int = 0
    context: tuple[Segment, ...] = ()


class ViewRequest(msgspec.Struct, frozen=True, eq=False):
    """A photo and the views wanted of its scene: named directions, and / or a camera in its frame.

    degrees: how far to look in those directions; None leaves it to the backend, which says what it took in
    the views' poses. depth: the photo's, if known. photos: all of the problem, of which this one is number
    `index`, for who can see in one what lies beyond the edge of another. context: what else was written
    so far, for a model that reads it."""

    photo: Image
    camera: Intrinsics | None = None
    directions: tuple[str, ...] = ()
    pose: CameraPose | None = None
    depth: DepthMap | None = None
    degrees: float | None = None
    index: int = 0
    photos: tuple[Image, ...] = ()
    context: tuple[Segment, ...] = ()


@runtime_checkable
class TextGenerator(Protocol):
    """Writes text."""

    def generate_text(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> Outcomes[Generation]: ...


@runtime_checkable
class AnswerScorer(Protocol):
    """Says how probable each choice is as the answer: probabilities that sum to 1."""

    def score_answers(
        self, prompts: Sequence[Prompt], choices: Sequence[tuple[str, ...]]
    ) -> Outcomes[Sequence[float]]: ...


@runtime_checkable
class PoseEstimator(Protocol):
    """Where the second photo was taken, in the first camera's frame."""

    def estimate_pose(self, pairs: Sequence[PhotoPair], *, seeds: Sequence[int]) -> Outcomes[CameraPose]: ...


@runtime_checkable
class ViewSynthesizer(Protocol):
    """Views of a scene that nobody photographed."""

    def synthesize_views(
        self, requests: Sequence[ViewRequest], *, seeds: Sequence[int]
    ) -> Outcomes[NovelViews]: ...


@runtime_checkable
class DepthEstimator(Protocol):
    """How far each pixel is along the camera's axis."""

    def estimate_depth(
        self, requests: Sequence[DepthRequest], *, seeds: Sequence[int]
    ) -> Outcomes[DepthMap]: ...


@runtime_checkable
class VisualTokenizer(Protocol):
    """Rolls out discrete visual tokens from a prompt, and decodes them to a picture."""

    def roll_out_tokens(
        self, prompts: Sequence[Prompt], *, count: int, temperature: float, seeds: Sequence[int]
    ) -> Outcomes[VisualTokens]: ...

    def decode_tokens(self, tokens: Sequence[VisualTokens]) -> Outcomes[Image]: ...


@runtime_checkable
class ImageGenerator(Protocol):
    """Draws a picture from a prompt."""

    def generate_image(
        self, prompts: Sequence[Prompt], *, width: int, height: int, seeds: Sequence[int]
    ) -> Outcomes[Image]: ...


@runtime_checkable
class ImageEditor(Protocol):
    """Changes a picture as a prompt says."""

    def edit_image(
        self, images: Sequence[Image], prompts: Sequence[Prompt], *, seeds: Sequence[int]
    ) -> Outcomes[Image]: ...


@runtime_checkable
class VideoGenerator(Protocol):
    """Makes a clip of so many frames from a prompt, and from its first frame where one is given."""

    def generate_video(
        self,
        prompts: Sequence[Prompt],
        starts: Sequence[Image | None],
        *,
        width: int,
        height: int,
        frames: int,
        seeds: Sequence[int],
    ) -> Outcomes[Video]: ...


@runtime_checkable
class FeatureExtractor(Protocol):
    """Hidden states for a prompt, and pooled features (D,) of it as a probe."""

    def hidden_states(self, prompts: Sequence[Prompt]) -> Outcomes[Latents]: ...

    def pooled_features(self, prompts: Sequence[Prompt]) -> Outcomes[Array]: ...


class Backend(Protocol):
    """What stands behind the capabilities. `provides` lists the protocols it implements.

    A model that reads only contexts of its own kind says `unified = True`: it is then not mixed with other
    backends unless they are named; value types that it writes and does not read are its `unreadable`. One
    that is made for some pictures only may have `knows(problem)`, whether a problem is of that kind: where
    no backend is named it comes before others for those, else after them. One that remembers what it has
    read has a `reading`, a `cost.Reading` of all its tokens so far: each run then reports its share. One
    that provides nothing as it stands may say in words what it `lacks`. One that is put together from
    several may have `provider_of(capability)`, which answers who provides it: then that one's
    `fingerprint`, `max_batch` and `reading` count. One that has a classmethod `from_words(words)` is asked
    for what says more than a name (see `unroller.backends`).
    """

    name: str
    fingerprint: str
    max_batch: int
    provides: tuple[type[Any], ...]
