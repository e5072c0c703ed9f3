"""What capabilities are called for short, on the command line and in files."""

from __future__ import annotations

from typing import Any

from unroller.capabilities import (
    AnswerScorer,
    DepthEstimator,
    FeatureExtractor,
    ImageEditor,
    ImageGenerator,
    PoseEstimator,
    TextGenerator,
    VideoGenerator,
    ViewSynthesizer,
    VisualTokenizer,
)
from unroller.faults import UnknownName
from unroller.registry import near

SHORT: dict[str, type[Any]] = {
    "text": TextGenerator,
    "answers": AnswerScorer,
    "pose": PoseEstimator,
    "depth": DepthEstimator,
    "views": ViewSynthesizer,
    "tokens": VisualTokenizer,
    "image": ImageGenerator,
    "edit": ImageEditor,
    "video": VideoGenerator,
    "features": FeatureExtractor,
}

WITH: dict[type[Any], tuple[type[Any], ...]] = {TextGenerator: (AnswerScorer, FeatureExtractor)}
"""What else somebody who is named for a capability is asked for, where nobody is named for that: who writes
text scores answers, too."""

_NAMES = {capability: name for name, capability in SHORT.items()}


def short_name(capability: type[Any]) -> str:
    """Of a capability that unroller does not know, the name of its class."""
    return _NAMES.get(capability, capability.__name__)


def one_of(name: str, provided: tuple[type[Any], ...]) -> type[Any] | None:
    """That of the capabilities which is called so; one that a plug-in brought, by its class's name."""
    return next((c for c in provided if name in (short_name(c), c.__name__)), None)


def check_name(name: str) -> None:
    """Raises UnknownName for what is no short name, and no name of a class either."""
    if name not in SHORT and not name[:1].isupper():
        raise UnknownName(f"no capability is called {name!r}.{near(name, SHORT)}")
