"""What a model makes of a problem before anything is written: one vector, for policies to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from primitives.prompts import prompt_of
from primitives.thinking import a_question
from unroller.capabilities import FeatureExtractor
from unroller.declare import View, probe


@probe(
    reads=("images", "question"), writes=np.ndarray, needs=FeatureExtractor, batched=True, applies=a_question
)
def problem_features(views: list[View], extractor: FeatureExtractor) -> Sequence[Any]:
    """Pooled features (D,) of the photos and the question, the same whatever the context."""
    return extractor.pooled_features([prompt_of(view, "", writes="features") for view in views])
