"""The types of context.

A value is one typed piece of C_t. It states its units, frame and convention, and checks its metadata
(shape, dtype, range of scalars) when it is made; whether its numbers are finite is checked by the
executor, once a batch. Arrays are held by reference, on the device they were made on.

Conventions throughout: OpenCV camera axes (+x right, +y down, +z forward), metres unless a `unit` says
otherwise, pixel centres at +0.5, depth is z and not ray length, poses are camera-to-world.

A plug-in adds a type by subclassing `Value`, a frozen msgspec struct:

    class Heading(Value, frozen=True, eq=False):
        degrees: float

        def words(self): return f"heading {self.degrees:.0f} degrees"
"""

from __future__ import annotations

from unroller.values.base import VALUE_TYPES, Value, array_fields, arrays_of
from unroller.values.cameras import CameraPose, Vector3, pose_errors
from unroller.values.geometry import DepthMap, PointMap
from unroller.values.pictures import Image, NovelViews, Video
from unroller.values.tokens import Latents, VisualTokens
from unroller.values.words import Answer, Text

__all__ = [
    "Answer",
    "CameraPose",
    "DepthMap",
    "Image",
    "Latents",
    "NovelViews",
    "PointMap",
    "Text",
    "VALUE_TYPES",
    "Value",
    "Vector3",
    "Video",
    "VisualTokens",
    "array_fields",
    "arrays_of",
    "pose_errors",
]
