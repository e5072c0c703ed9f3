"""Probes for policies that learn: what a model makes of the problem, before anything is in the context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unroller.arrays import to_numpy
from unroller.capabilities import FeatureExtractor, Prompt
from unroller.declare import View, probe
from unroller.rendering import ImageSegment, Segment, TextSegment, escape


@probe(reads=("images", "question", "prompt"), writes=np.ndarray, needs=FeatureExtractor, batched=True)
def problem_features(views: list[View], extractor: FeatureExtractor) -> Sequence[np.ndarray | Exception]:
    """Features (D,) of photos, question and prompt, pooled by a model; D is the model's. Of the problem
    alone, so that it is measured, and charged, once a run."""
    found = extractor.pooled_features([_prompt(view) for view in views])
    return [f if isinstance(f, Exception) else to_numpy(f).astype(np.float32).reshape(-1) for f in found]


def _prompt(view: View) -> Prompt:
    photos = [ImageSegment(image.pixels, f"photo {i + 1}") for i, image in enumerate(view.images)]
    words = [TextSegment(escape(text)) for text in (view.question, view.prompt) if text is not None]
    segments: tuple[Segment, ...] = (*photos, *words)
    return Prompt(segments)
