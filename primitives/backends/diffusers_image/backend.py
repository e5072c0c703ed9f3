"""A pipeline of diffusers as a backend: pictures from words, and pictures changed by words.

    DiffusersImage("/models/FLUX.1-schnell", device="cuda", steps=4)

Nothing heavy is imported, and nothing is loaded, before the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from primitives.backends.checkpoints import imported
from primitives.backends.diffusers_image.drawing import Painter
from primitives.backends.diffusers_image.loading import (
    WANTED,
    arguments,
    capabilities_of,
    image_to_image,
    is_known,
)
from primitives.backends.pipeline_backend import NO_OPTIONS, PipelineBackend
from primitives.backends.pipelines import load
from primitives.backends.prompt_words import Said, Window
from unroller.capabilities import Outcomes, Prompt
from unroller.faults import InputError, PluginError
from unroller.values import Image

VARIABLE = "UNROLLER_DIFFUSERS_IMAGE"


class DiffusersImage(PipelineBackend):
    """`ImageGenerator` by a text-to-image pipeline in a local folder (Stable Diffusion, SDXL, SD3, Flux,
    Qwen-Image, Sana, Z-Image, …), `ImageEditor` by one that edits (InstructPix2Pix, Qwen-Image-Edit, …), and
    both by one that does both (Flux Kontext, Flux 2).

    path: the folder, or "org/model" of one that was downloaded (None: what UNROLLER_DIFFUSERS_IMAGE names).
    steps, guidance: None: as the pipeline has it. strength: 0 to 1; given, a pipeline that only draws also
    edits, by noising the picture so far and drawing on: words then describe the whole picture, and are no
    instruction. options: further arguments of the pipeline's call, by its own names (negative_prompt,
    image_guidance_scale, max_sequence_length). window: what to do with prompts that are longer than the
    pipeline reads, see `prompt_words`. pixels: of the largest picture that is edited at its size; larger ones
    are worked on smaller, and every edited picture comes back in the size it was given in. max_batch: samples
    in one call, for families whose samples do not depend on their mates (`drawing.BATCHES`); others go one by
    one. device: "auto", "cpu", "cuda", "cuda:1", "mps"; dtype: "auto" (as the denoiser was saved), "float32",
    "float16", "bfloat16"; variant: of weight files, such as "fp16" (found by itself where there is no other);
    offload: keep on the GPU only the part that computes (needs accelerate); allow_pickle: open weights that
    are pickles, which can run code.

    A prompt's pictures are told to it by their words: these models have no eyes for them. What a shortened
    prompt lost stands in the picture's `source`. A picture that a checkpoint's safety checker withholds is an
    error, not a black picture. A sample is one model call, however many steps it takes.

    Raises MissingCapability, with what to do, for a folder without a whole pipeline of that kind, pickled
    weights or a device that is not there, and PluginError for settings that are none, or that the pipeline
    does not take; the latter, and what only loading can show, at the first call.
    """

    name = "diffusers_image"
    variable = VARIABLE
    lacks = f"a checkpoint's folder in {VARIABLE}"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        strength: float | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
        window: Window = "refuse",
        pixels: int = 1 << 20,
        max_batch: int = 4,
        device: str = "auto",
        dtype: str = "auto",
        variant: str | None = None,
        offload: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        if steps is not None and steps < 1:
            raise PluginError(f"steps={steps}: give 1 or more")
        if strength is not None and not 0 < strength <= 1:
            raise PluginError(f"strength={strength}: give more than 0, at most 1 (all noise)")
        if pixels < 1 or max_batch < 1:
            raise PluginError("pixels and max_batch must be at least 1")
        super().__init__(guidance=guidance, options=options, window=window, variant=variant, offload=offload)
        self.steps, self.strength, self.pixels = steps, strength, pixels
        self.max_batch = max_batch
        if self._open(path, device, dtype, WANTED, is_known, allow_pickle):
            self.provides = capabilities_of(self.checkpoint, strength)

    def _settings(self) -> tuple[object, ...]:
        return (self.steps, self.strength, self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that the checkpoint was trained on."""
        with self._lock:
            return self._painter.native

    # ------------------------------------------------------------------------------------ capabilities

    def generate_image(
        self, prompts: Sequence[Prompt], *, width: int, height: int, seeds: Sequence[int]
    ) -> Outcomes[Image]:
        """A picture of this size a prompt. A size that the pipeline cannot draw is an InputError that names
        the nearest one that it can."""

        def work(said: list[Said], of: list[int]) -> Sequence[Any]:
            return self._painter.draw(said, width, height, [seeds[i] for i in of])

        return self._where_readable(prompts, work)

    def edit_image(
        self, images: Sequence[Image], prompts: Sequence[Prompt], *, seeds: Sequence[int]
    ) -> Outcomes[Image]:
        """Each picture changed as its prompt says, in the size that it was given in."""

        def work(said: list[Said], of: list[int]) -> Sequence[Any]:
            photos = [images[i].pixels for i in of]
            return self._editor.edit(photos, said, [seeds[i] for i in of], self.pixels)

        return self._where_readable(prompts, work)

    def _where_readable(
        self, prompts: Sequence[Prompt], work: Callable[[list[Said], list[int]], Sequence[Any]]
    ) -> list[Any]:
        """`work` on the prompts that fit; for the others, why not."""
        with self._lock:
            outcomes: list[Any] = []
            for prompt in prompts:
                try:
                    outcomes.append(self._reader.read(prompt))
                except InputError as error:
                    outcomes.append(error)
            of = [i for i, said in enumerate(outcomes) if isinstance(said, Said)]
            try:
                made = work([outcomes[i] for i in of], of) if of else ()
            except InputError as error:  # a size that cannot be drawn is everybody's
                made = [error] * len(of)
            for i, picture in zip(of, made, strict=True):
                outcomes[i] = picture
            return outcomes

    # --------------------------------------------------------------------------------------- the pipeline

    def _loaded(self) -> Any:
        return load(self.checkpoint, self.device, self.dtype, self.variant, self.offload)

    @cached_property
    def _painter(self) -> Painter:
        given = arguments(
            self._pipe, {"prompt", "width", "height", "generator"}, self.steps, self.guidance, self.options
        )
        return Painter(self._pipe, given, self.max_batch)

    @cached_property
    def _editor(self) -> Painter:
        pipe, more = self._pipe, dict(self.options)
        if self.strength is not None:
            more["strength"] = self.strength
            if "ImageEditor" not in {c.__name__ for c in capabilities_of(self.checkpoint, None)}:
                pipe = image_to_image(imported("diffusers", "diffusers>=0.36"), pipe, self.checkpoint.folder)
        given = arguments(pipe, {"prompt", "image", "generator"}, self.steps, self.guidance, more)
        return Painter(pipe, given, self.max_batch)
