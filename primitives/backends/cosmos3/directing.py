"""Calling the pipeline of Cosmos 3: sizes it can work on, and one random generator a sample."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from primitives.backends.checkpoints import imported
from primitives.backends.clips import check_clip, covering, frames_of
from primitives.backends.pipelines import check_taken
from unroller.faults import InputError, PluginError
from unroller.values import Image

OURS = {
    "prompt", "image", "video", "width", "height", "num_frames", "fps", "generator", "output_type",
    "return_dict", "num_inference_steps", "guidance_scale", "latents", "sound_latents",
    "action_latents", "action", "enable_sound",
}  # fmt: skip
"""Arguments of a pipeline's call that are no options."""

THEIRS = "diffusers.pipelines.cosmos.pipeline_cosmos3_omni"
DOMAIN = "camera_pose"


class Director:
    """A loaded pipeline. options: further arguments of every call; steps: None: as the pipeline has it."""

    def __init__(self, pipe: Any, steps: int | None, options: Mapping[str, Any]) -> None:
        self.pipe = pipe
        self.multiple = int(pipe.vae_scale_factor_spatial)
        self.packed = int(pipe.vae_scale_factor_temporal)
        self.given: dict[str, Any] = {} if steps is None else {"num_inference_steps": steps}
        taken = inspect.signature(pipe.__call__).parameters
        for name, option in options.items():
            if name in OURS:
                raise PluginError(f"options={{{name!r}: …}}: that is given by the backend: leave it out")
            check_taken(taken, name, type(pipe).__name__, name, OURS)
            self.given[name] = option

    def film(
        self,
        words: str,
        shape: tuple[int, int, int],
        seed: int,
        fps: float,
        guidance: float | None,
        start: Image | None = None,
    ) -> Any:
        """(T, H, W, 3) uint8, a tensor, of `shape` width, height and frames; or an exception. Raises
        InputError for a shape that cannot be made."""
        width, height, frames = shape
        check_clip(width, height, frames, self.multiple, self.packed)
        more: dict[str, Any] = {"width": width, "height": height, "num_frames": frames, "fps": fps}
        if guidance is not None:
            more["guidance_scale"] = guidance
        if start is not None:
            more["image"] = _pillow(covering(start, width, height))
        made = self._called(words, seed, **more)
        return made if isinstance(made, Exception) else frames_of(made.video, (frames, height, width))

    def predicted(self, words: str, photo: Any, actions: Any, tier: int, seed: int, fps: float) -> Any:
        """Frames (T, h, w, 3) uint8 that follow a photo (h, w, 3) when its camera takes `actions` (T - 1, 9);
        or an exception."""
        import torch

        raw = {"raw_actions": torch.from_numpy(actions), "image": _pillow(photo)}
        action = self._action("forward_dynamics", len(actions), tier, **raw)
        made = self._called(words, seed, action=action, fps=fps, guidance_scale=1.0)
        return made if isinstance(made, Exception) else frames_of(made.video)

    def motion(self, words: str, photos: tuple[Any, Any], tier: int, seed: int, fps: float) -> Any:
        """Actions (T, 9) that lead from one photo (h, w, 3) to another of its size; or an exception.

        The second is shown for as long as one frame of the latents lasts: of a clip of two frames the VAE
        reads the first only, in silence.
        """
        frames = [_pillow(photos[0]), *[_pillow(photos[1])] * self.packed]
        action = self._action("inverse_dynamics", self.packed, tier, video=frames)
        made = self._called(words, seed, action=action, fps=fps, guidance_scale=1.0, output_type="latent")
        return made if isinstance(made, Exception) else made.action[0].float().numpy()

    def working_size(self, width: int, height: int, tier: int) -> tuple[int, int]:
        """Width and height that a photo is given in, so that the pipeline neither shrinks nor cuts it: it
        would cut what is no multiple of its VAE's factor off the right and the bottom."""
        canvases = imported(THEIRS, "diffusers>=0.42")._ACTION_RESOLUTION_BINS[str(tier)]
        classify = self.pipe.video_processor.classify_height_width_bin
        for _ in range(8):  # another shape may be put on another canvas
            high, wide = classify(height, width, ratios=canvases)
            scale = min(wide / width, high / height, 1.0)
            size = tuple(self._whole(int(scale * side + 0.5)) for side in (width, height))
            if size == (width, height):
                break
            width, height = min(size[0], wide), min(size[1], high)
        return width, height

    def _whole(self, side: int) -> int:
        return max(self.multiple, side // self.multiple * self.multiple)

    def _action(self, mode: str, steps: int, tier: int, **more: Any) -> Any:
        kind = imported(THEIRS, "diffusers>=0.42").CosmosActionCondition
        return kind(mode=mode, chunk_size=steps, domain_name=DOMAIN, resolution_tier=tier, **more)

    def _called(self, words: str, seed: int, **more: Any) -> Any:
        import torch

        # On the CPU, so that every device draws the same noise.
        generator = torch.Generator().manual_seed(seed)
        given = {"output_type": "pt", **self.given, **more}
        try:
            return self.pipe(prompt=words, generator=generator, **given)
        except ValueError as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            return InputError(f"a {type(self.pipe).__name__} refuses this: {why:.300}")


def _pillow(pixels: Any) -> Any:
    from PIL import Image as Pillow

    return Pillow.fromarray(np.ascontiguousarray(pixels))
