"""Sample requests of every capability, and what may come back for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from unroller.arrays import all_finite, is_array
from unroller.capabilities import DepthRequest, Generation, PhotoPair, Prompt, ViewRequest
from unroller.check.samples import blank, example, own
from unroller.problem import Problem
from unroller.rendering import ImageSegment, TextSegment, escape
from unroller.values import (
    CameraPose,
    DepthMap,
    Image,
    Latents,
    NovelViews,
    Value,
    Video,
    VisualTokens,
    arrays_of,
)

SIZE = 48
"""Pixels a side of the pictures that are asked for."""


FRAMES = 5
"""Of the clips that are asked for: models that pack four frames into one make one, five, nine …"""


class Ask(msgspec.Struct, eq=False):
    """A method with sample requests: `batches` are its batch arguments by name, `fixed` the others.

    bad: one request that it may well refuse, in the order of `batches`; right: what is wrong with a
    result of request number i, or None.
    """

    method: str
    batches: dict[str, list[Any]]
    fixed: dict[str, Any]
    bad: tuple[Any, ...]
    right: Callable[[Any, int], str | None]


def asks(problems: Sequence[Problem]) -> dict[str, list[Ask]]:
    """Sample requests of every capability, by its name, made of problems' photos and questions."""
    n = len(problems)
    seeds = [11 + i for i in range(n)]
    text = [_prompt(problem, pictures=False) for problem in problems]
    mixed = [_prompt(problem, pictures=True) for problem in problems]
    empty = Prompt(())
    offered = [problem.choices or ("yes", "no") for problem in problems]
    # Some models only read, others need something to look at; some follow instructions, others open a tag.
    written = [msgspec.structs.replace(prompt, writes="think") for prompt in (*text, *mixed)]
    sampled: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0}
    found: dict[str, list[Ask]] = {
        "TextGenerator": [
            Ask("generate_text", {"prompts": written, "seeds": [*seeds, *(seed + n for seed in seeds)]},
                sampled, (empty, 0), _a_text)
        ],
        "AnswerScorer": [
            Ask("score_answers", {"prompts": mixed, "choices": offered}, {}, (empty, ("a", "b")),
                lambda got, i: _probabilities(got, len(offered[i])))
        ],
        "VisualTokenizer": [
            Ask("roll_out_tokens", {"prompts": mixed, "seeds": seeds},
                {"count": 16, "temperature": 1.0}, (empty, 0), _of(VisualTokens)),
        ],
        "ImageGenerator": [
            Ask("generate_image", {"prompts": text, "seeds": seeds},
                {"width": SIZE, "height": SIZE}, (empty, 0), _of(Image))
        ],
        "VideoGenerator": [
            Ask("generate_video", {"prompts": text, "starts": [None] * n, "seeds": seeds},
                {"width": SIZE, "height": SIZE, "frames": FRAMES}, (empty, None, 0), _a_clip)
        ],
        "FeatureExtractor": [
            Ask("hidden_states", {"prompts": mixed}, {}, (empty,), _of(Latents)),
            Ask("pooled_features", {"prompts": mixed}, {}, (empty,), _features),
        ],
    }  # fmt: skip
    seen = [problem for problem in problems if problem.images]
    seeds = seeds[: len(seen)]
    if seen:
        photos = [problem.images[0] for problem in seen]
        orders = [_prompt(problem, pictures=False) for problem in seen]
        found["ImageEditor"] = [
            Ask("edit_image", {"images": photos, "prompts": orders, "seeds": seeds}, {},
                (blank(), empty, 0), _of(Image))
        ]  # fmt: skip
        views = [ViewRequest(p.images[0], p.camera(0), ("left", "right"), depth=_depth(p)) for p in seen]
        found["ViewSynthesizer"] = [
            Ask("synthesize_views", {"requests": views, "seeds": seeds}, {},
                (ViewRequest(blank(), None, ()), 0), _views)
        ]  # fmt: skip
        depths = [_depth_request(p) for p in seen]
        found["DepthEstimator"] = [
            Ask("estimate_depth", {"requests": depths, "seeds": seeds}, {},
                (DepthRequest(blank(), None, blank()), 0),
                lambda got, i: _a_depth(got, seen[i].images[0]))
        ]  # fmt: skip
    pairs = [PhotoPair(p.images[0], p.images[1], p.camera(0), p.camera(1)) for p in seen if len(p.images) > 1]
    if pairs:
        found["PoseEstimator"] = [
            Ask("estimate_pose", {"pairs": pairs, "seeds": seeds[: len(pairs)]}, {},
                (PhotoPair(blank(), blank()), 0), _of(CameraPose))
        ]  # fmt: skip
    return found


def _prompt(problem: Problem, pictures: bool) -> Prompt:
    segments: list[Any] = []
    if pictures:
        segments += [ImageSegment(p.pixels, f"photo {i + 1}") for i, p in enumerate(problem.images)]
    words = problem.question or problem.prompt or "What is there to see?"
    return Prompt((*segments, TextSegment(escape(words))))


def _depth(problem: Problem) -> DepthMap:
    return cast(DepthMap, example(DepthMap, problem))


def _depth_request(p: Problem) -> DepthRequest:
    first, *others = p.images
    if not others:
        return DepthRequest(first, p.camera(0))
    pose = CameraPose((0.1, 0.0, 0.0), (0.0, 0.0, 0.0))
    return DepthRequest(first, p.camera(0), others[0], p.camera(1), pose)


# ---------------------------------------------------------------------------------- what may come back


def _of(kind: type[Value]) -> Callable[[Any, int], str | None]:
    def right(got: Any, i: int) -> str | None:
        if not isinstance(got, kind):
            return f"{type(got).__name__}, not {kind.__name__}"
        finite = all_finite([array for _, array in arrays_of(got)])
        return None if all(finite) else f"{kind.__name__} with NaN or infinity"

    return right


def _a_clip(got: Any, i: int) -> str | None:
    wrong = _of(Video)(got, i)
    if wrong is None and tuple(got.frames.shape) != (FRAMES, SIZE, SIZE, 3):
        return f"frames of shape {tuple(got.frames.shape)} where {(FRAMES, SIZE, SIZE, 3)} was asked for"
    return wrong


def _views(got: Any, i: int) -> str | None:
    wrong = _of(NovelViews)(got, i)
    if wrong is None and tuple(got.directions)[:2] != ("left", "right"):
        return f"views {got.directions} where left and right were asked for"
    return wrong


def _a_depth(got: Any, photo: Image) -> str | None:
    wrong = _of(DepthMap)(got, 0)
    if wrong is None and tuple(got.depth.shape) != tuple(photo.pixels.shape[:2]):
        return f"depth of shape {tuple(got.depth.shape)} for a photo of {photo.pixels.shape[:2]}"
    return wrong


def _a_text(got: Any, i: int) -> str | None:
    if not isinstance(got, Generation):
        return f"{type(got).__name__}, not Generation"
    if not isinstance(got.text, str) or not 0 <= got.tokens <= 24:  # pyright: ignore[reportUnnecessaryIsInstance]
        return f"{got.tokens} tokens where at most 24 were asked for"
    likelihood = got.log_probability
    if likelihood is not None and not (np.isfinite(likelihood) and likelihood <= 1e-6):
        return f"a log-probability of {likelihood}"
    return None


def _probabilities(got: Any, count: int) -> str | None:
    try:
        p = [float(q) for q in got]
    except TypeError:
        return f"{type(got).__name__}, not one probability a choice"
    if len(p) != count:
        return f"{len(p)} probabilities for {count} choices"
    if not all(0 <= q <= 1 for q in p) or abs(sum(p) - 1) > 1e-3:
        return f"probabilities that do not lie in 0..1 and sum to 1: {[round(q, 3) for q in p]}"
    return None


def _features(got: Any, i: int) -> str | None:
    if not is_array(got) or got.ndim != 1:
        return f"{type(got).__name__}, not an array (D,)"
    return None if all_finite([got])[0] else "features with NaN or infinity"


def own_request(request: Any) -> Any:
    """A copy of a request that shares no array with it."""
    if isinstance(request, Image) or not isinstance(request, msgspec.Struct):
        return own(request)
    held = {name: getattr(request, name) for name in request.__struct_fields__}
    return type(request)(**{n: own(v) if isinstance(v, Value) else v for n, v in held.items()})
