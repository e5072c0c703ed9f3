"""Depth of single photos by published models: transformers' depth estimators, and Marigold through diffusers.

    HFDepth("depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf", device="cuda")

What a model's numbers mean differs between families, and is read off the checkpoint, never guessed:

    ZoeDepth, GLPN, DepthAnything "metric"    metres
    DepthPro                                  metres, by the photo's focal length or its own field of view;
                                              "relative" where neither is known
    DepthAnything "relative"                  inverse depth of unknown scale and shift: see `from_inverse`
    Marigold                                  affine-invariant depth, 0 (nearest) to 1: "relative", as it is

Departs from the libraries' own post-processing in one thing: predictions are enlarged bilinearly, not by
bicubic splines, which overshoot at the edges of things, to below zero where a near one stands before a far.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from primitives.backends.checkpoints import (
    Checkpoint,
    imported,
    model,
    opened,
    telling,
    torch_device,
    torch_dtype,
)
from primitives.backends.pipelines import tell_steps
from unroller.arrays import to_numpy
from unroller.capabilities import DepthEstimator, DepthRequest, Outcomes
from unroller.dispatch import is_out_of_memory
from unroller.faults import InputError, MissingCapability, PluginError
from unroller.problem import Intrinsics
from unroller.values import DepthMap, Image

Meaning = Literal["metres", "depth", "inverse", "canonical"]
"""Of a model's numbers: metres; depth, or inverse depth, of unknown scale and shift; inverse depth times the
focal length in widths of the photo (DepthPro)."""

WANTED = "a depth estimator (…ForDepthEstimation, or MarigoldDepthPipeline)"

MEANINGS: dict[str, Meaning] = {"zoedepth": "metres", "glpn": "metres", "depth_pro": "canonical"}

FARTHEST = 1000.0
"""Times the distance of the nearest point: inverse depth that says farther is sky, and has no depth."""

LONGEST_METRES, SHORTEST_METRES = 1e4, 1e-4
"""Where DepthPro's metres end, as in its authors' code."""


class HFDepth:
    """`DepthEstimator` by a checkpoint in a local folder (or of a Hub id that was downloaded before).

    path: the folder; None: the one that the environment variable UNROLLER_HF_DEPTH names. device: "auto",
    "cpu", "cuda", "cuda:1", "mps"; dtype: "float32", "float16", "bfloat16", or "auto" (as saved; Marigold:
    float32); max_batch: photos in one forward pass; meaning: of the model's numbers, for a family whose
    checkpoints do not say (DPT: MiDaS is "inverse"); steps, ensemble: Marigold's denoising steps (None: as
    the checkpoint says) and predictions a photo. Raises MissingCapability, with what to do, for a folder
    without a whole checkpoint of a depth estimator, pickled weights (unless `allow_pickle`) or a device that
    is not there, PluginError for settings that are none. Weights are loaded at the first call.

    Depth is z, (H, W) float32 at the photo's size, a tensor where the model ran. Only Marigold draws random
    numbers.
    """

    name = "hf_depth"
    # The class provides nothing and a model does: one that was made without a checkpoint, as the executor
    # does with everything that is registered, must not be chosen.
    provides: tuple[type[Any], ...] = ()
    lacks = "a checkpoint's folder in UNROLLER_HF_DEPTH"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "float32",
        max_batch: int = 8,
        meaning: Meaning | None = None,
        steps: int | None = None,
        ensemble: int = 1,
        allow_pickle: bool = False,
    ) -> None:
        if meaning not in (None, *get_args(Meaning)):
            raise PluginError(f"meaning={meaning!r}: write one of {', '.join(get_args(Meaning))}")
        if ensemble < 1 or (steps is not None and steps < 1):
            raise PluginError(f"steps={steps}, ensemble={ensemble}: give 1 or more")
        self.max_batch = max_batch
        self.steps, self.ensemble = steps, ensemble
        self._checkpoint: Checkpoint | None = None
        if path := path or os.environ.get("UNROLLER_HF_DEPTH"):
            self._checkpoint = opened(path, wanted=WANTED, accepts=_is_depth, allow_pickle=allow_pickle)
            self.meaning: Meaning = meaning or _meaning(self._checkpoint)
            self.device = torch_device(device)
            self.dtype = torch_dtype(dtype)
            self.provides = (DepthEstimator,)
        self._lock = threading.Lock()  # batches may come on several threads

    @property
    def checkpoint(self) -> Checkpoint:
        """What was found at `path`. Raises MissingCapability where none was given."""
        if self._checkpoint is None:
            raise MissingCapability(
                "the hf_depth backend was given no checkpoint: name its folder, HFDepth('/models/…'), or set"
                " UNROLLER_HF_DEPTH"
            )
        return self._checkpoint

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights' content and the settings; not of the device, which changes rounding only."""
        if self._checkpoint is None:
            return "hf_depth-none"
        settings = (str(self.dtype), self.meaning, self.steps, self.ensemble)
        return f"hf_depth-1-{self.checkpoint.fingerprint(*settings)}"

    def load(self) -> None:
        """Now, and not at the first call. Raises MissingCapability."""
        with self._lock:
            _ = self._model

    def estimate_depth(self, requests: Sequence[DepthRequest], *, seeds: Sequence[int]) -> Outcomes[DepthMap]:
        """Depth of each request's photo; its second photo is not used. A camera that is known (given, or
        from EXIF) takes the place of a field of view that DepthPro would estimate."""
        predictions = self._predicted([request.photo for request in requests], seeds)
        outcomes: list[Any] = []
        for request, predicted in zip(requests, predictions, strict=True):
            if isinstance(predicted, Exception):
                outcomes.append(predicted)
                continue
            try:
                outcomes.append(_depth_map(request, predicted, self.meaning))
            except InputError as error:
                outcomes.append(error)
        return outcomes

    def fields_of_view(self, photos: Sequence[Image]) -> Outcomes[float | None]:
        """Degrees across the width of each photo, where the model estimates them (DepthPro), else None."""
        predictions = self._predicted(photos, [0] * len(photos))
        return [p if isinstance(p, Exception) else p.field_of_view for p in predictions]

    def _predicted(self, photos: Sequence[Image], seeds: Sequence[int]) -> list[Prediction | Exception]:
        with self._lock:  # also while it runs: a diffusion scheduler keeps its place in itself
            return self._model.predict([to_numpy(photo.pixels) for photo in photos], seeds)

    @cached_property
    def _model(self) -> Any:
        if self.checkpoint.kind == "MarigoldDepthPipeline":
            return _Marigold(self)
        return _Regressor(self)


def _is_depth(kind: str) -> bool:
    return kind.endswith("ForDepthEstimation") or kind == "MarigoldDepthPipeline"


def _meaning(found: Checkpoint) -> Meaning:
    """What a checkpoint's numbers mean. Raises MissingCapability where it does not say."""
    if found.kind == "MarigoldDepthPipeline":
        return "inverse" if found.config.get("prediction_type") == "disparity" else "depth"
    family = found.config.get("model_type", "")
    if family == "depth_anything":
        return "metres" if found.config.get("depth_estimation_type") == "metric" else "inverse"
    if family not in MEANINGS:
        raise MissingCapability(
            f"{found.folder} ({found.kind}) does not say whether it predicts metres, depth or inverse depth:"
            ' pass meaning="metres", "depth" or "inverse" (MiDaS: "inverse"; tuned on NYU or KITTI: "metres")'
        )
    return MEANINGS[family]


class Prediction(NamedTuple):
    """What a model said of one photo: numbers (H, W) float32 at its size, what they mean is the backend's
    business; field_of_view: degrees across its width, if the model estimates it."""

    numbers: Any
    field_of_view: float | None = None


# -------------------------------------------------------------------------------------- what it means


def _depth_map(request: DepthRequest, predicted: Prediction, meaning: Meaning) -> DepthMap:
    """Raises InputError where nothing has a depth."""
    numbers, photo = predicted.numbers, request.index
    if meaning == "metres":
        seen = ~(numbers <= 0)  # what is no number stays, for the engine to find
        return DepthMap(numbers.where(seen, 0.0), seen, "metre", photo)
    if meaning == "depth":
        return DepthMap(numbers, numbers.isfinite(), "relative", photo)
    if meaning == "canonical":
        focal = _focal(request.photo.size[0], request.camera, predicted.field_of_view)  # in widths
        if focal is not None:
            inverse = (numbers / focal).clamp(1 / LONGEST_METRES, 1 / SHORTEST_METRES)
            return DepthMap(1.0 / inverse, None, "metre", photo)
    depth, valid = from_inverse(numbers)
    return DepthMap(depth, valid, "relative", photo)


def from_inverse(inverse: Any) -> tuple[Any, Any]:
    """Depth and where there is one, from inverse depth of unknown scale and shift; both tensors (H, W).

    The scale is chosen so that the median of what is seen lies at 1. The shift cannot be known from one
    photo and is taken as it is: zero is infinitely far, where DepthAnything is trained to put the sky. What
    is farther than FARTHEST times the nearest point is sky: depth 0, not valid. The order of depths is the
    model's own; their ratios hold as far as that zero does (MiDaS puts it anywhere). Raises InputError where
    all is sky.
    """
    nearest = inverse.max()
    valid = ~(inverse <= nearest.clamp(min=0) / FARTHEST)
    if not bool(valid.any()):
        raise InputError("the depth model sees nothing but sky in this photo: choose one with something near")
    middle = inverse[valid].median()
    # Division by what is not valid would give infinities, which multiply to NaN even where masked.
    depth = middle / inverse.where(valid, middle)
    return depth.where(valid, 0.0), valid


def _focal(width: int, camera: Intrinsics | None, degrees: float | None) -> float | None:
    """Focal length in widths of the photo: of a camera that is known, else of the model's field of view.
    Raises InputError for a field of view that is none."""
    if camera is not None and camera.source != "default":
        return camera.fx / width
    if degrees is None:
        return None
    if not 0 < degrees < 180:
        raise InputError(
            f"the depth model takes this photo's field of view for {degrees:.1f}°: give its intrinsics"
        )
    return 0.5 / math.tan(math.radians(degrees) / 2)


# ----------------------------------------------------------------------------------------- the models


class _Regressor:
    """transformers' …ForDepthEstimation: one forward pass for photos that are prepared to equal size."""

    def __init__(self, settings: HFDepth) -> None:
        library = imported("transformers", "transformers>=5.0")
        found = settings.checkpoint
        self.model = model(library.AutoModelForDepthEstimation, found, settings.device, settings.dtype)
        self.family = found.config.get("model_type")
        self.most = settings.max_batch
        if len(found.config.get("bin_configurations") or ()) > 1:
            # ZoeDepth with several heads lets the whole batch vote on which one, indoors or outdoors.
            self.most = 1
        self.processor: Any = None
        with telling(found):
            if self.family == "depth_pro":  # its processor needs torchvision, and is three lines
                file = found.folder / "preprocessor_config.json"
                self.settings = _json(file) if file.is_file() else {}
            else:
                # By Pillow, with or without torchvision, so that every machine gets the same numbers.
                self.processor = library.AutoImageProcessor.from_pretrained(
                    found.folder, backend="pil", local_files_only=True
                )
        self.padded = bool(getattr(self.processor, "do_pad", False))
        if self.padded and self.family != "zoedepth":
            raise MissingCapability(
                f"{found.folder} pads its pictures (do_pad in preprocessor_config.json), which is undone for"
                " ZoeDepth only: set it to false"
            )

    def predict(self, photos: Sequence[Any], seeds: Sequence[int]) -> list[Prediction | Exception]:
        import torch

        made: list[Any] = [self._prepared(photo) for photo in photos]
        for group in _of_equal_shape(made, self.most):
            batch = torch.stack([made[i] for i in group])  # (B, 3, h, w)
            with torch.no_grad():
                said = self.model(pixel_values=batch.to(self.model.device, self.model.dtype))
            angles = getattr(said, "field_of_view", None)
            for row, i in enumerate(group):
                numbers = self._at_size(said.predicted_depth[row].float(), *photos[i].shape[:2])
                made[i] = Prediction(numbers, None if angles is None else float(angles.flatten()[row]))
        return made

    def _prepared(self, photo: Any) -> Any:
        """(3, h, w) float32, or InputError for a photo that cannot be brought to the model's size."""
        import torch
        from PIL import Image as Pillow

        if self.processor is None:
            return self._prepared_for_depth_pro(photo)
        try:
            prepared = self.processor(images=Pillow.fromarray(photo), return_tensors="pt").pixel_values[0]
        except (ValueError, RuntimeError, ZeroDivisionError) as error:  # a side came out at no pixels
            if is_out_of_memory(error):
                raise
            height, width = photo.shape[:2]
            return InputError(
                f"a photo of {width} × {height} pixels cannot be brought to the size that {self.family} reads"
                f" ({str(error).splitlines()[0]:.80}): crop it, or give a larger one"
            )
        return prepared.to(torch.float32)

    def _prepared_for_depth_pro(self, photo: Any) -> Any:
        """As its image processor does: normalised first, then made square without low-pass filtering."""
        import torch

        mean, std = (torch.tensor(self.settings.get(k, [0.5] * 3)) for k in ("image_mean", "image_std"))
        size = self.settings.get("size", {"height": 1536, "width": 1536})
        pixels = (torch.from_numpy(np.array(photo)).float() / 255 - mean) / std  # (H, W, 3)
        return _resized(pixels.permute(2, 0, 1), size["height"], size["width"])

    def _at_size(self, numbers: Any, height: int, width: int) -> Any:
        """(h, w) of what the model was shown to (H, W) of the photo."""
        if not self.padded:
            return _resized(numbers[None], height, width)[0]
        # ZoeDepth sees photos within a mirrored margin.
        above, beside = (int(math.sqrt(side / 2) * 3) for side in (height, width))
        whole = _resized(numbers[None], height + 2 * above, width + 2 * beside)[0]
        return whole[above : above + height, beside : beside + width].contiguous()


class _Marigold:
    """Depth by denoising (Ke et al., "Repurposing Diffusion-Based Image Generators for Monocular Depth
    Estimation", CVPR 2024)."""

    def __init__(self, settings: HFDepth) -> None:
        library = imported("diffusers", "diffusers>=0.36")
        torch = imported("torch", "torch")
        if settings.ensemble > 1:
            imported("scipy", "scipy")  # which diffusers aligns the members with
        found = settings.checkpoint
        with telling(found):
            pipe = library.MarigoldDepthPipeline.from_pretrained(
                str(found.folder), local_files_only=True, use_safetensors=not found.pickled
            )
        tell_steps(pipe)
        wanted = torch.float32 if settings.dtype == "auto" else settings.dtype
        # After loading: the keyword for it there is another one in every other version of diffusers.
        self.pipe = pipe.to(settings.device) if pipe.dtype == wanted else pipe.to(settings.device, wanted)
        self.steps, self.ensemble = settings.steps, settings.ensemble
        # Members are aligned by a few steps of a minimiser, which makes differences of what was rounding
        # between batch sizes: an ensemble is a batch of its own.
        self.most = settings.max_batch if self.ensemble == 1 else 1
        self.torch = torch

    def predict(self, photos: Sequence[Any], seeds: Sequence[int]) -> list[Prediction | Exception]:
        from PIL import Image as Pillow

        made: list[Any] = list(photos)
        for group in _of_equal_shape(photos, self.most):
            try:
                said = self.pipe(
                    [Pillow.fromarray(photos[i]) for i in group],
                    num_inference_steps=self.steps,
                    ensemble_size=self.ensemble,
                    batch_size=len(group) * self.ensemble,
                    generator=[self._generator(seeds[i], k) for i in group for k in range(self.ensemble)],
                    output_type="pt",
                )
            except ValueError as error:  # of a shape that cannot be brought to its resolution
                for i in group:
                    made[i] = InputError(f"the photo cannot be brought to Marigold's size ({error}): crop it")
                continue
            for row, i in enumerate(group):
                made[i] = Prediction(said.prediction[row, 0].float())  # of (B, 1, H, W)
        return made

    def _generator(self, seed: int, member: int) -> Any:
        """On the CPU, so that every device draws the same; the first as diffusers' users seed it by hand."""
        if member:
            seed = int(np.random.SeedSequence([seed % 2**64, member]).generate_state(1, np.uint64)[0])
        return self.torch.Generator().manual_seed(seed)


def _of_equal_shape(pictures: Sequence[Any], most: int) -> Iterator[list[int]]:
    """The places of pictures of equal shape, at most so many together; those of exceptions are left out."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, picture in enumerate(pictures):
        if not isinstance(picture, Exception):
            groups.setdefault(tuple(picture.shape), []).append(i)
    for group in groups.values():
        for start in range(0, len(group), most):
            yield group[start : start + most]


def _resized(channels: Any, height: int, width: int) -> Any:
    """(C, h, w) to (C, H, W), bilinearly; pixel centres at +0.5 before and after."""
    from torch.nn.functional import interpolate

    return interpolate(channels[None], size=(height, width), mode="bilinear", align_corners=False)[0]


def _json(file: Any) -> dict[str, Any]:
    import json

    return json.loads(file.read_text(encoding="utf-8"))
