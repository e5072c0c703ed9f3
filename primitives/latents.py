"""Hidden states as context: what a model makes of all it has read, without saying it."""

from __future__ import annotations

from collections.abc import Sequence

from primitives.prompts import prompt_of
from primitives.thinking import a_question
from unroller.capabilities import FeatureExtractor
from unroller.declare import View, primitive
from unroller.values import Latents, Value


@primitive(
    reads=("images", "question", Value),
    writes=Latents,
    needs=FeatureExtractor,
    batched=True,
    applies=a_question,
)
def latent_think(views: list[View], extractor: FeatureExtractor) -> Sequence[Latents | Exception]:
    """Think about the question in hidden states: the paper's hidden representation."""
    return extractor.hidden_states([prompt_of(view, "", writes="latents") for view in views])
