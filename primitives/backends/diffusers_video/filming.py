"""Calling a Wan pipeline: sizes and lengths it can make, and one random generator a sample."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from primitives.backends.clips import check_clip, frames_of
from primitives.backends.pipelines import check_taken
from unroller.faults import InputError, PluginError

OURS = {
    "prompt", "video", "mask", "width", "height", "num_frames", "generator", "output_type", "return_dict",
    "num_inference_steps", "num_videos_per_prompt", "latents",
}  # fmt: skip
"""Arguments of a pipeline's call that are no options."""


class Clip(NamedTuple):
    """What is known of a clip: frames (T, H, W, 3) uint8, and where (T, H, W) bool they are known."""

    frames: Any
    known: Any


class Filmer:
    """A loaded pipeline. given: the arguments of every call."""

    def __init__(self, pipe: Any, given: dict[str, Any]) -> None:
        self.pipe, self.given = pipe, given
        denoiser = pipe.transformer if pipe.transformer is not None else pipe.transformer_2
        self.multiple = int(pipe.vae_scale_factor_spatial) * int(denoiser.config.patch_size[1])
        self.packed = int(pipe.vae_scale_factor_temporal)
        """Frames that become one in the pipeline's latents; the first stands alone."""

    @property
    def fills(self) -> bool:
        """Whether it takes a clip of which a part is known."""
        return "mask" in inspect.signature(self.pipe.__call__).parameters

    def check(self, width: int, height: int, frames: int) -> None:
        """Raises InputError, with the nearest that can be made, for a clip that cannot."""
        check_clip(width, height, frames, self.multiple, self.packed)

    def film(
        self, words: str, width: int, height: int, frames: int, seed: int, clip: Clip | None = None
    ) -> Any:
        """(T, H, W, 3) uint8, a tensor where the pipeline runs; or an exception: InputError for what the
        pipeline refuses, NotFinite for what came out as no picture. clip: what is known of it, at this
        size."""
        import torch

        # On the CPU, so that every device draws the same noise.
        given: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed), **self.given}
        given |= {"prompt": words, "width": width, "height": height, "num_frames": frames}
        if clip is not None:
            seen = torch.from_numpy(np.ascontiguousarray(clip.known))[:, None]  # (T, 1, H, W)
            shown = torch.from_numpy(np.ascontiguousarray(clip.frames)).permute(0, 3, 1, 2) / 255
            # What is not known is middle grey, which these models take for nothing.
            given["video"] = [torch.where(seen, shown, 0.5)]
            given["mask"] = [(~seen).float().expand(-1, 3, -1, -1)]
        try:
            made = self.pipe(**given).frames[0]  # (T, 3, H, W), 0 to 1
        except ValueError as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            return InputError(f"a {type(self.pipe).__name__} refuses this: {why:.300}")
        return frames_of(made, (frames, height, width))


def arguments(
    pipe: Any, steps: int | None, guidance: float | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What every call of a pipeline is given beside prompts, clips, sizes and generators. Raises PluginError
    for settings that it does not take."""
    kind = type(pipe).__name__
    taken = inspect.signature(pipe.__call__).parameters
    given: dict[str, Any] = {"output_type": "pt"}
    if steps is not None:
        given["num_inference_steps"] = steps
    if guidance is not None:
        given["guidance_scale"] = guidance
    for name, option in options.items():
        if name in OURS:
            raise PluginError(f"options={{{name!r}: …}}: that is given by the backend: leave it out")
        check_taken(taken, name, kind, name, OURS)
        given[name] = option
    return given
