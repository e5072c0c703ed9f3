"""unroller: build context first, then answer.

C_0 = {}          C_{t+1} = C_t ⊕ φ_t(x, C_t)          y = ψ(x | C_T)
"""

from unroller.cost import Budget, Cost
from unroller.executor import Executor
from unroller.policy import STOP, Call, Decision, FixedList, State, policy
from unroller.primitive import Decoder, Primitive, Probe, View, decoder, primitive, probe
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

__version__ = "0.1.0"

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
