"""A backend that provides every capability without a model: for checks and tests.

Its results mean nothing, but they keep every promise: they depend on a sample's own inputs and seed alone,
and a sample without a picture to work with (a blank one) gets an InputError in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from unroller.arrays import to_numpy
from unroller.capabilities import (
    AnswerScorer,
    DepthEstimator,
    DepthRequest,
    FeatureExtractor,
    Generation,
    ImageEditor,
    ImageGenerator,
    PhotoPair,
    PoseEstimator,
    Prompt,
    TextGenerator,
    VideoGenerator,
    ViewRequest,
    ViewSynthesizer,
    VisualTokenizer,
)
from unroller.check.comparing import content
from unroller.check.samples import texture
from unroller.faults import InputError
from unroller.values import CameraPose, DepthMap, Image, Latents, NovelViews, Video, VisualTokens

WORDS = tuple("red blue green cone sphere cube left right behind near far".split())  # noqa: SIM905


class StandIn:
    """Provides everything, knows nothing."""

    name = "stand-in"
    fingerprint = "stand-in 1"
    max_batch = 8
    provides: ClassVar[tuple[type[Any], ...]] = (
        TextGenerator,
        AnswerScorer,
        PoseEstimator,
        ViewSynthesizer,
        DepthEstimator,
        VisualTokenizer,
        ImageGenerator,
        ImageEditor,
        VideoGenerator,
        FeatureExtractor,
    )

    def generate_text(
        self,
        prompts: Sequence[Prompt],
        *,
        max_tokens: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> list[Generation | Exception]:
        def write(prompt: Prompt, seed: int) -> Generation:
            rng = _rng(prompt, seed if temperature > 0 else 0)
            count = int(rng.integers(1, min(12, max_tokens) + 1))
            return Generation(" ".join(rng.choice(WORDS, count)), count, -0.5 * count)

        return _each(write, prompts, seeds)

    def score_answers(
        self, prompts: Sequence[Prompt], choices: Sequence[tuple[str, ...]]
    ) -> list[Sequence[float] | Exception]:
        def score(prompt: Prompt, offered: tuple[str, ...]) -> Sequence[float]:
            if not offered:
                raise InputError("there are no choices to score: give the problem some")
            weights = np.exp(_rng([prompt, offered]).standard_normal(len(offered)))
            return tuple(float(w) for w in weights / weights.sum())

        return _each(score, prompts, choices)

    def estimate_pose(
        self, pairs: Sequence[PhotoPair], *, seeds: Sequence[int]
    ) -> list[CameraPose | Exception]:
        def estimate(pair: PhotoPair, seed: int) -> CameraPose:
            _seen(pair.first, pair.second)
            rng = _rng(pair, seed)
            direction = rng.standard_normal(3)
            x, y, z = (float(v) for v in direction / np.linalg.norm(direction))
            return CameraPose((x, y, z), (0.0, float(rng.uniform(-1, 1)), 0.0), scale="unit")

        return _each(estimate, pairs, seeds)

    def synthesize_views(
        self, requests: Sequence[ViewRequest], *, seeds: Sequence[int]
    ) -> list[NovelViews | Exception]:
        def draw(request: ViewRequest, seed: int) -> NovelViews:
            _seen(request.photo)
            names = request.directions + (() if request.pose is None else ("asked",))
            if not names:
                raise InputError("no view is asked for: name a direction, or give a pose")
            turns = _rng(request, seed).integers(1, 20, len(names))
            photo = to_numpy(request.photo.pixels)
            views = np.stack([np.roll(photo, int(turn), axis=1) for turn in turns])
            return NovelViews(views, names, photo=request.index)

        return _each(draw, requests, seeds)

    def estimate_depth(
        self, requests: Sequence[DepthRequest], *, seeds: Sequence[int]
    ) -> list[DepthMap | Exception]:
        def estimate(request: DepthRequest, seed: int) -> DepthMap:
            _seen(request.photo)
            width, height = request.photo.size
            near, far = np.sort(_rng(request, seed).uniform(1, 9, 2))
            rows = np.linspace(far, near, height, dtype=np.float32)
            return DepthMap(np.repeat(rows[:, None], width, axis=1), photo=request.index)

        return _each(estimate, requests, seeds)

    def roll_out_tokens(
        self, prompts: Sequence[Prompt], *, count: int, temperature: float, seeds: Sequence[int]
    ) -> list[VisualTokens | Exception]:
        def roll(prompt: Prompt, seed: int) -> VisualTokens:
            rng = _rng(prompt, seed if temperature > 0 else 0)
            return VisualTokens(rng.integers(0, 512, count), "stand-in", 512)

        return _each(roll, prompts, seeds)

    def decode_tokens(self, tokens: Sequence[VisualTokens]) -> list[Image | Exception]:
        def draw(given: VisualTokens) -> Image:
            return _drawn(given, 0, 64, 64)

        return _each(draw, tokens)

    def generate_image(
        self, prompts: Sequence[Prompt], *, width: int, height: int, seeds: Sequence[int]
    ) -> list[Image | Exception]:
        def draw(prompt: Prompt, seed: int) -> Image:
            return _drawn(prompt, seed, width, height)

        return _each(draw, prompts, seeds)

    def edit_image(
        self, images: Sequence[Image], prompts: Sequence[Prompt], *, seeds: Sequence[int]
    ) -> list[Image | Exception]:
        def edit(image: Image, prompt: Prompt, seed: int) -> Image:
            width, height = image.size
            return _drawn([image, prompt], seed, width, height)

        return _each(edit, images, prompts, seeds)

    def generate_video(
        self,
        prompts: Sequence[Prompt],
        starts: Sequence[Image | None],
        *,
        width: int,
        height: int,
        frames: int,
        seeds: Sequence[int],
    ) -> list[Video | Exception]:
        def film(prompt: Prompt, start: Image | None, seed: int) -> Video:
            drawn = [_drawn([prompt, start, t], seed, width, height).pixels for t in range(frames)]
            return Video(np.stack([to_numpy(pixels) for pixels in drawn]))

        return _each(film, prompts, starts, seeds)

    def hidden_states(self, prompts: Sequence[Prompt]) -> list[Latents | Exception]:
        def think(prompt: Prompt) -> Latents:
            return Latents(_rng(prompt).standard_normal((6, 8)).astype(np.float32), "stand-in")

        return _each(think, prompts)

    def pooled_features(self, prompts: Sequence[Prompt]) -> list[Any]:
        def pool(prompt: Prompt) -> Any:
            return _rng(prompt).standard_normal(8).astype(np.float32)

        return _each(pool, prompts)


def _each(work: Callable[..., Any], *batches: Sequence[Any]) -> list[Any]:
    """One outcome a sample: a result, or its InputError in its place."""
    outcomes: list[Any] = []
    for sample in zip(*batches, strict=True):
        try:
            outcomes.append(work(*sample))
        except InputError as error:
            outcomes.append(error)
    return outcomes


def _rng(request: Any, seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([int.from_bytes(content(request), "big"), seed % 2**64])


def _seen(*photos: Image) -> None:
    for photo in photos:
        if to_numpy(photo.pixels).std() < 1:
            raise InputError("a photo is blank: there is nothing on it to work with")


def _drawn(request: Any, seed: int, width: int, height: int) -> Image:
    return Image(texture(int(_rng(request, seed).integers(2**32)), height, width))
