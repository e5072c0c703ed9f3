"""What the embedded model's backend can be told, checked when it is made."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

from unroller.faults import PluginError


def check(steps: Any, guidance: Any, image_guidance: Any, max_bytes: Any, refuse: Any, weights: Any) -> None:
    """Raises PluginError for settings that are none, whatever their type."""
    for name, given, least in (("steps", steps, 1), ("max_bytes", max_bytes, 0)):
        if not (_is_a(Integral, given) and given >= least):
            raise PluginError(f"{name}={given!r}: give a whole number, {least} or more")
    scales = {} if guidance is None else {"guidance": guidance}
    for name, given in (scales | {"image_guidance": image_guidance}).items():
        if not (_is_a(Real, given) and 0 <= given < 100):  # nor is NaN
            raise PluginError(f"{name}={given!r}: give a number, 0 or more and below 100, or leave it out")
    if not isinstance(refuse, bool):
        raise PluginError(f"refuse={refuse!r}: give true or false")
    if not (weights is None or isinstance(weights, (str, os.PathLike))):
        raise PluginError(f"weights={weights!r}: give the folder that holds them")


def _is_a(kind: type[Any], given: Any) -> bool:
    """Of numbers; True and False are none."""
    return isinstance(given, kind) and not isinstance(given, bool)
