"""unroller: build context first, then answer.

C_0 = {}          C_{t+1} = C_t ⊕ φ_t(x, C_t)          y = ψ(x | C_T)

The names below are imported when they are first used, so that `import unroller` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unroller.cost import Budget, Cost
    from unroller.decide import STOP, Call, Decision, FixedList, State, policy
    from unroller.declare import Decoder, Primitive, Probe, View, decoder, primitive, probe
    from unroller.executor import Executor
    from unroller.problem import Intrinsics, Problem
    from unroller.run import Run
    from unroller.values import (
        Answer,
        CameraPose,
        DepthMap,
        Image,
        Latents,
        NovelViews,
        PointMap,
        Text,
        Value,
        Video,
        VisualTokens,
    )
    from unroller.workspace import Entry, Workspace

_HOMES = {
    "cost": ("Budget", "Cost"),
    "decide": ("STOP", "Call", "Decision", "FixedList", "State", "policy"),
    "declare": ("Decoder", "Primitive", "Probe", "View", "decoder", "primitive", "probe"),
    "executor": ("Executor",),
    "problem": ("Intrinsics", "Problem"),
    "run": ("Run",),
    "values": (
        "Answer",
        "CameraPose",
        "DepthMap",
        "Image",
        "Latents",
        "NovelViews",
        "PointMap",
        "Text",
        "Value",
        "Video",
        "VisualTokens",
    ),
    "workspace": ("Entry", "Workspace"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"unroller has no {name!r}")
    found = globals()[name] = getattr(import_module(f"unroller.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})


__all__ = [
    "STOP",
    "Answer",
    "Budget",
    "Call",
    "CameraPose",
    "Cost",
    "Decision",
    "Decoder",
    "DepthMap",
    "Entry",
    "Executor",
    "FixedList",
    "Image",
    "Intrinsics",
    "Latents",
    "NovelViews",
    "PointMap",
    "Primitive",
    "Probe",
    "Problem",
    "Run",
    "State",
    "Text",
    "Value",
    "Video",
    "View",
    "VisualTokens",
    "Workspace",
    "decoder",
    "policy",
    "primitive",
    "probe",
]
