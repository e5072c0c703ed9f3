"""What backends over a pipeline of diffusers in a local folder have in common."""

from __future__ import annotations

import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, get_args

from primitives.backends.checkpoints import Checkpoint, torch_device, torch_dtype
from primitives.backends.pipelines import check_options, fingerprint, found_at, sequence_length
from primitives.backends.prompt_words import Reader, Window
from unroller.faults import MissingCapability, PluginError

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class PipelineBackend(ABC):
    """Its settings, its folder, found and not loaded, and what it is known by. A subclass has a `name`, the
    `variable` of the environment that names a folder; it sets `provides` where a folder was given."""

    name: str
    variable: ClassVar[str]
    # The class provides nothing and a model does: one that was made without a checkpoint, as the executor
    # does with everything that is registered, must not be chosen.
    provides: tuple[type[Any], ...] = ()
    device: Any
    dtype: str

    def __init__(
        self,
        *,
        guidance: float | None,
        options: Mapping[str, Any],
        window: Window,
        variant: str | None,
        offload: bool,
    ) -> None:
        """Raises PluginError for settings that are none."""
        if guidance is not None and not 0 <= guidance < math.inf:
            raise PluginError(f"guidance={guidance}: give 0 or more (1, or 0 for some, is none)")
        if window not in get_args(Window):
            raise PluginError(f"no window policy is called {window!r}: write {', '.join(get_args(Window))}")
        check_options(options)
        self.guidance, self.options = guidance, dict(options)
        self.window: Window = window
        self.variant, self.offload = variant, offload
        self._checkpoint: Checkpoint | None = None
        self._lock = threading.RLock()  # a scheduler keeps its place in itself

    def _open(
        self,
        path: str | Path | None,
        device: str,
        dtype: str,
        wanted: str,
        accepts: Callable[[str], bool],
        allow_pickle: bool,
    ) -> Checkpoint | None:
        """What lies at the path, or at the environment's; None where neither is given. wanted and accepts: as
        for `found_at`. Raises MissingCapability for a folder or device that is not there, PluginError for a
        dtype that is none."""
        if found := path or os.environ.get(self.variable):
            self._checkpoint = found_at(found, wanted, accepts, allow_pickle, self.variant)
            self.device = torch_device(device)
            self.dtype = dtype
            torch_dtype(dtype)  # one that is none is an error here
        return self._checkpoint

    @property
    def checkpoint(self) -> Checkpoint:
        """What was found at `path`. Raises MissingCapability where none was given."""
        if self._checkpoint is None:
            raise MissingCapability(
                f"the {self.name} backend was given no checkpoint: name its folder,"
                f" {type(self).__name__}('/models/…'), or set {self.variable}"
            )
        return self._checkpoint

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights' content and the settings that change what is made."""
        if self._checkpoint is None:
            return f"{self.name}-none"
        how = (self.dtype, self.guidance, sorted(self.options.items()), self.window, self.variant)
        return f"{self.name}-1-{fingerprint(self.checkpoint, *how, *self._settings())}"

    def _settings(self) -> tuple[object, ...]:
        """Settings of its own that change what is made."""
        return ()

    @abstractmethod
    def _loaded(self) -> Any:
        """The pipeline, loaded. Raises MissingCapability."""

    @cached_property
    def _pipe(self) -> Any:
        return self._loaded()

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self._pipe, sequence_length(self._pipe, self.options), self.window)
