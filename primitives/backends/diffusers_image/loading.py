"""Pipelines that draw or edit: which of diffusers' they are, and what they are called with.

What holds for every pipeline, that it has all its parts with all their weights, is checked in
`primitives.backends.pipelines`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primitives.backends.checkpoints import Checkpoint
from primitives.backends.pipelines import check_taken, tell_steps
from unroller.capabilities import ImageEditor, ImageGenerator
from unroller.faults import MissingCapability, PluginError

WANTED = "a pipeline of diffusers that draws pictures from words, or edits them by words"

OTHER_KINDS = (
    "Adapter", "Allegro", "Animate", "AnyFlow", "Audio", "CogVideo", "Control", "CosmosTextToWorld",
    "CosmosVideo", "Cosmos3", "Decoder", "Depth", "DiffEdit", "Fill", "GLIGEN", "Inpaint", "Latte", "Layered",
    "LEdits", "LTX", "Marigold", "Mochi", "ModelEditing", "Modular", "Music", "Onnx", "Pix2PixZero", "Prior",
    "Redux", "SkyReels", "Upscale", "Variation", "Video", "VisualCloze", "Wan",
)  # fmt: skip
"""In the names of pipelines that make something else of something else."""

EDITS = ("Edit", "Pix2Pix", "Img2Img")
"""In the names of those that need a picture."""

DRAWS_AND_EDITS = ("Kontext", "Flux2")
"""In the names of those that take a picture, or none."""

OURS = {
    "prompt", "image", "width", "height", "generator", "output_type", "return_dict", "num_inference_steps",
    "num_images_per_prompt", "latents",
}  # fmt: skip
"""Arguments of a pipeline's call that are no options."""


def is_known(kind: str) -> bool:
    named = kind.endswith("Pipeline") and kind.isidentifier()
    return named and kind != "DiffusionPipeline" and not any(mark in kind for mark in OTHER_KINDS)


def capabilities_of(found: Checkpoint, strength: float | None) -> tuple[type[Any], ...]:
    """What a pipeline of this name can do; whether it takes what that needs is seen when it is loaded."""
    if any(mark in found.kind for mark in DRAWS_AND_EDITS):
        return (ImageGenerator, ImageEditor)
    if any(mark in found.kind for mark in EDITS):
        return (ImageEditor,)
    return (ImageGenerator,) if strength is None else (ImageGenerator, ImageEditor)


# ------------------------------------------------------------------------------------------- the pipeline


def image_to_image(diffusers: Any, pipe: Any, folder: Path) -> Any:
    """The pipeline of the same parts that begins with a picture. Raises MissingCapability."""
    try:
        twin = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
    except ValueError:
        raise MissingCapability(
            f"{folder} holds a {type(pipe).__name__}, of which diffusers has no image-to-image kind: leave"
            " strength out, or name a checkpoint that edits"
        ) from None
    tell_steps(twin)
    return twin


# -------------------------------------------------------------------------------------------- its arguments


def arguments(
    pipe: Any, needed: set[str], steps: int | None, guidance: float | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What every call of a pipeline is given beside prompts, pictures, sizes and generators.

    Raises MissingCapability for a pipeline that does not take what it is `needed` for, or takes or makes
    something else, and PluginError for settings that it does not take.
    """
    kind = type(pipe).__name__
    taken = dict(inspect.signature(pipe.__call__).parameters)
    own = [p.name for p in taken.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if not needed <= set(taken) or not set(own) <= needed or {"num_frames", "video"} & set(taken):
        raise MissingCapability(f"a {kind} is another kind of pipeline: this backend needs {WANTED}")
    given: dict[str, Any] = {"output_type": "pt"} if "output_type" in taken else {}
    if steps is not None:
        check_taken(taken, "num_inference_steps", kind, "steps", OURS)
        given["num_inference_steps"] = steps
    if "clean_caption" in taken:  # it would rewrite the prompt where a package is installed, and else not
        given["clean_caption"] = False
    # Families that are guided by a second pass over an empty prompt leave it out, in silence, where no
    # negative prompt is given.
    scale = getattr(taken.get("true_cfg_scale"), "default", None) or 0.0
    if scale > 1 and "negative_prompt" in taken:
        given["negative_prompt"] = " "
    if guidance is not None:
        name = "true_cfg_scale" if scale > 1 else "guidance_scale"
        check_taken(taken, name, kind, "guidance", OURS)
        given[name] = guidance
    for name, option in options.items():
        if name in OURS:
            raise PluginError(f"options={{{name!r}: …}}: that is given by the backend: leave it out")
        check_taken(taken, name, kind, name, OURS)
        given[name] = option
    if "strength" in given and "num_inference_steps" in taken:
        steps = given.get("num_inference_steps", taken["num_inference_steps"].default)
        if int(steps * given["strength"]) < 1:
            raise PluginError(
                f"strength={given['strength']} of {steps} steps leaves none to draw: give more of either"
            )
    return given
