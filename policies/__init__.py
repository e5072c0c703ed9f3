"""Policies π, what they are trained on, and how they are saved: see docs/policies.md.

The names below are imported when they are first used: naming a schedule loads no network.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policies.bandit import RidgeBandit
    from policies.confidence import ConfidencePolicy
    from policies.language_model import LanguageModelPolicy
    from policies.learned import LearnedPolicy
    from policies.observation import Observation, ProblemFeatures
    from policies.price import Price
    from policies.random import RandomPolicy
    from policies.saved import Saveable, SavedPolicyError, load_policy
    from policies.schedules import AllPrimitives, DirectPolicy, SchedulePolicy

_HOMES = {
    "bandit": ("RidgeBandit",),
    "confidence": ("ConfidencePolicy",),
    "language_model": ("LanguageModelPolicy",),
    "learned": ("LearnedPolicy",),
    "observation": ("Observation", "ProblemFeatures"),
    "price": ("Price",),
    "random": ("RandomPolicy",),
    "saved": ("Saveable", "SavedPolicyError", "load_policy"),
    "schedules": ("AllPrimitives", "DirectPolicy", "SchedulePolicy"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"policies has no {name!r}")
    found = globals()[name] = getattr(import_module(f"policies.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = [
    "AllPrimitives",
    "ConfidencePolicy",
    "DirectPolicy",
    "LanguageModelPolicy",
    "LearnedPolicy",
    "Observation",
    "Price",
    "ProblemFeatures",
    "RandomPolicy",
    "RidgeBandit",
    "Saveable",
    "SavedPolicyError",
    "SchedulePolicy",
    "load_policy",
]
