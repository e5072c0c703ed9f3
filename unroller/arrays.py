"""Arrays, whoever made them: numpy or torch, on the device they were made on.

The engine never imports torch. It meets a tensor only when a backend has made one, and then torch is
already loaded: `sys.modules` has it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np


@runtime_checkable
class Array(Protocol):
    """A numpy array or a torch tensor."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def ndim(self) -> int: ...


def is_torch(array: object) -> bool:
    """Whether `array` is a torch tensor (without importing torch)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def is_array(thing: object) -> bool:
    """Whether `thing` is a numpy array or a torch tensor."""
    return isinstance(thing, np.ndarray) or is_torch(thing)


def dtype_name(array: Array) -> str:
    """`"uint8"`, `"float32"`, `"bfloat16"` …, the same word for both libraries."""
    return str(array.dtype).removeprefix("torch.")


def is_floating(array: Array) -> bool:
    """Whether the array holds floating-point numbers (and so could hold NaN), of either byte order."""
    if isinstance(array, np.ndarray):
        return cast("np.ndarray[Any, Any]", array).dtype.kind == "f"
    return "float" in dtype_name(array)


def nbytes(array: Array) -> int:
    """Size of the payload in bytes."""
    return int(cast(Any, array).nbytes)


def to_numpy(array: Array) -> np.ndarray[Any, Any]:
    """The array on the host as numpy; bfloat16 and the 8-bit floats become float32. This synchronises a
    GPU: for reports, pictures and disk, never for the loop."""
    if isinstance(array, np.ndarray):
        return cast("np.ndarray[Any, Any]", array)
    tensor = cast(Any, array).detach()
    if _is_narrow(array):
        tensor = tensor.float()
    return tensor.cpu().numpy()


def _is_narrow(array: Array) -> bool:
    """Whether it is one of the floating types that numpy lacks."""
    name = dtype_name(array)
    return name == "bfloat16" or name.startswith("float8")


def all_finite(arrays: Sequence[Array]) -> list[bool]:
    """For each array, whether every element is finite.

    Tensors on one device are reduced there and read back together, so a batch on a GPU costs one
    synchronisation, not one a value.
    """
    finite = [True] * len(arrays)
    on_device: dict[Any, list[int]] = {}
    for i, array in enumerate(arrays):
        if not is_floating(array):
            continue
        if isinstance(array, np.ndarray):
            finite[i] = _finite_numpy(cast("np.ndarray[Any, Any]", array))
        else:
            on_device.setdefault(cast(Any, array).device, []).append(i)
    for indices in on_device.values():
        torch: Any = sys.modules["torch"]
        flags = torch.stack([torch.isfinite(_widened(arrays[i])).all() for i in indices])
        for i, flag in zip(indices, flags.tolist(), strict=True):
            finite[i] = flag
    return finite


def _widened(tensor: Any) -> Any:
    # torch has no isfinite for 8-bit floats.
    return tensor.float() if dtype_name(tensor).startswith("float8") else tensor


def _finite_numpy(array: np.ndarray[Any, Any]) -> bool:
    # The largest and the smallest are NaN if any element is, and infinite if one is: no mask in memory.
    return not array.size or bool(np.isfinite(array.max()) and np.isfinite(array.min()))
