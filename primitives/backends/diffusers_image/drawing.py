"""Calling a pipeline: sizes it can draw, a random generator a sample, and its numbers as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from inspect import signature
from typing import Any

import numpy as np

from primitives.backends.pipelines import check_size
from primitives.backends.prompt_words import Said
from unroller.arrays import to_numpy
from unroller.faults import InputError, NotFinite, PluginError
from unroller.values import Image

BATCHES = {
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
    "FluxKontextPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusion3Img2ImgPipeline",
    "FluxImg2ImgPipeline",
}
"""Families that read every prompt at one length, so that a sample does not depend on its batch mates. Others
pad prompts to the longest of a batch, or take one: they are called sample by sample."""

SAMPLES = ("prompt", "generator", "image")
"""Arguments that hold one a sample."""

Drawn = Image | Exception


class Painter:
    """A loaded pipeline. most: samples in one call; given: the arguments of every call."""

    def __init__(self, pipe: Any, given: dict[str, Any], most: int) -> None:
        self.pipe, self.given = pipe, given
        self.most = most if type(pipe).__name__ in BATCHES else 1
        self.multiple = _multiple(pipe)

    @property
    def native(self) -> tuple[int, int]:
        """Width and height that the checkpoint was trained on; 1024 each where it does not say."""
        denoiser = getattr(self.pipe, "transformer", None) or getattr(self.pipe, "unet", None)
        cells = getattr(self.pipe, "default_sample_size", None)
        cells = cells or getattr(getattr(denoiser, "config", None), "sample_size", None)
        if not isinstance(cells, int):
            return (1024, 1024)
        side = cells * int(self.pipe.vae_scale_factor)
        return (side, side)

    def draw(self, said: Sequence[Said], width: int, height: int, seeds: Sequence[int]) -> list[Drawn]:
        """A picture of exactly this size a prompt. Raises InputError for a size that cannot be drawn."""
        check_size(width, height, self.multiple)
        size = {"width": width, "height": height}
        if "max_area" in signature(self.pipe.__call__).parameters:  # else it keeps the aspect, and no more
            size["max_area"] = width * height
        made: list[Any] = [None] * len(said)
        for start in range(0, len(said), self.most):
            group = list(range(start, min(start + self.most, len(said))))
            drawn = self._called(group, said, seeds, **size)
            for i, picture in zip(group, drawn, strict=True):
                if not isinstance(picture, Exception) and picture.size != (width, height):
                    w, h = picture.size
                    picture = InputError(
                        f"the pipeline drew {w} x {h} pixels where {width} x {height} were asked for: ask for"
                        " a size that it draws"
                    )
                made[i] = picture
        return made

    def edit(
        self, photos: Sequence[Any], said: Sequence[Said], seeds: Sequence[int], pixels: int
    ) -> list[Drawn]:
        """Each photo (H, W, 3) changed, in its own size. One of more than `pixels` is worked on smaller."""
        shown = [_shrunk(photo, pixels) for photo in photos]
        made: list[Any] = [None] * len(said)
        for group in _of_equal_size(shown, self.most):
            low = min(shown[group[0]].size)
            if low < self.multiple:
                for i in group:
                    h, w = photos[i].shape[:2]
                    made[i] = InputError(
                        f"a picture of {w} x {h} pixels is too small or too narrow to be edited: give one of"
                        f" at least {self.multiple} pixels a side"
                    )
                continue
            for i, picture in zip(
                group, self._called(group, said, seeds, image=[shown[i] for i in group]), strict=True
            ):
                made[i] = picture if isinstance(picture, Exception) else _sized(picture, photos[i].shape)
        return made

    def _called(
        self, group: Sequence[int], said: Sequence[Said], seeds: Sequence[int], **more: Any
    ) -> list[Drawn]:
        """What the pipeline makes of some samples."""
        import torch

        # On the CPU, so that every device draws the same noise.
        generators = [torch.Generator().manual_seed(seeds[i]) for i in group]
        words = [said[i].words for i in group]
        given: dict[str, Any] = {"prompt": words, "generator": generators, **self.given, **more}
        if len(group) == 1:
            given = {name: one[0] if name in SAMPLES else one for name, one in given.items()}
        elif "negative_prompt" in given:
            given["negative_prompt"] = [given["negative_prompt"]] * len(group)
        try:
            made = self.pipe(**given)
        except ValueError as error:  # families have least sizes, and more, of their own
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            refused = InputError(f"a {type(self.pipe).__name__} refuses this: {why:.300}")
            return [refused] * len(group)
        withheld = getattr(made, "nsfw_content_detected", None) or [False] * len(group)
        return [
            _picture(picture, flagged, said[i].left_out)
            for i, picture, flagged in zip(group, made.images, withheld, strict=True)
        ]


def _multiple(pipe: Any) -> int:
    """What the sides of a picture must be multiples of: the VAE's factor, times the transformer's patches;
    and 8, which the older families have written into their checks."""
    factor = int(getattr(pipe, "vae_scale_factor", 8))
    processor = getattr(pipe, "image_processor", None)
    coarse = int(getattr(getattr(processor, "config", None), "vae_scale_factor", factor))
    transformer = getattr(getattr(pipe, "transformer", None), "config", None)
    patch = getattr(transformer, "patch_size", 1)
    return math.lcm(8, coarse, factor * (patch if isinstance(patch, int) else 1))


# --------------------------------------------------------------------------------------- pictures, pixels


def _picture(drawn: Any, withheld: bool, left_out: str) -> Drawn:
    """(3, H, W) of 0 to 1, or whatever else a pipeline returns, as a picture."""
    if withheld:
        return InputError("the checkpoint's safety checker withheld this picture: ask for another one")
    if not hasattr(drawn, "permute"):  # a family that makes Pillow images whatever it is asked for
        pixels: Any = np.asarray(drawn.convert("RGB"))
    else:
        if drawn.ndim != 3 or drawn.shape[0] != 3:
            return PluginError(f"the pipeline drew an array of shape {tuple(drawn.shape)}, and no picture")
        drawn = drawn.float()
        if not bool(drawn.isfinite().all()):
            return NotFinite(
                "the pipeline drew NaN or infinity, as some do in half precision: pass dtype='bfloat16' or"
                " dtype='float32'"
            )
        pixels = (drawn.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().contiguous()  # (H, W, 3)
    note = f"left out of the prompt, which was too long: {left_out}" if left_out else ""
    return Image(pixels, source=note)


def _shrunk(photo: Any, pixels: int) -> Any:
    """A Pillow image of the photo, of at most so many pixels."""
    from PIL import Image as Pillow

    shown = Pillow.fromarray(np.ascontiguousarray(to_numpy(photo)))
    scale = math.sqrt(pixels / (shown.width * shown.height))
    if scale >= 1:
        return shown
    return shown.resize(
        (max(1, int(shown.width * scale)), max(1, int(shown.height * scale))), Pillow.Resampling.LANCZOS
    )


def _sized(picture: Image, shape: Sequence[int]) -> Image:
    """The picture at the size of the photo that it was made from."""
    from PIL import Image as Pillow

    height, width = int(shape[0]), int(shape[1])
    if picture.size == (width, height):
        return picture
    whole = Pillow.fromarray(to_numpy(picture.pixels)).resize((width, height), Pillow.Resampling.LANCZOS)
    return Image(np.array(whole), source=picture.source)


def _of_equal_size(shown: Sequence[Any], most: int) -> Iterator[list[int]]:
    groups: dict[tuple[int, int], list[int]] = {}
    for i, picture in enumerate(shown):
        groups.setdefault(picture.size, []).append(i)
    for group in groups.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]
