"""Camera pose from photo pairs that a published model matches: SuperPoint with LightGlue or SuperGlue, and
EfficientLoFTR, through transformers.

    HFMatching("zju-community/efficientloftr", device="cuda")

Only the matches are the model's: `classical` estimates the pose from them, and refuses to, as it does from
SIFT's. Two photos do not show how far apart they were taken, so a pose has scale "unit", or "none" where the
camera only turned.

Departs from transformers' post-processing, which rounds matches down to whole pixels: one of 640 is a tenth
of a degree. And each pair is matched alone, so that no result depends on batch mates (SuperPoint pads a batch
to the photo with most keypoints), and EfficientLoFTR is mended: see `pair_up`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from primitives.backends.checkpoints import Checkpoint, imported, model, opened, telling, torch_device
from primitives.backends.classical import Classical, camera_of
from unroller.arrays import to_numpy
from unroller.capabilities import Outcomes, PhotoPair, PoseEstimator
from unroller.faults import MissingCapability, PluginError
from unroller.values import CameraPose, Image

WANTED = "a keypoint matcher (…ForKeypointMatching, such as EfficientLoFTR, or LightGlue with SuperPoint)"


class HFMatching:
    """`PoseEstimator` by a keypoint matcher in a local folder (or of a Hub id that was downloaded before).

    path: the folder; None: the one that the environment variable UNROLLER_HF_MATCHING names. device: "auto",
    "cpu", "cuda", "cuda:1", "mps"; threshold: the least score of a match, 0 to 1, beside the checkpoint's
    own; max_batch: pairs in one call. Raises MissingCapability, with what to do, for a folder without a whole
    checkpoint of a matcher, pickled weights (unless `allow_pickle`) or a device that is not there,
    PluginError for settings that are none. Weights are loaded at the first call, which raises
    MissingCapability where OpenCV is not installed. They are float32 always: positions come out in the
    model's own precision, and bfloat16 rounds them to two or three pixels.
    """

    name = "hf_matching"
    extra = "vision"
    # The class provides nothing and a model does: one that was made without a checkpoint, as the executor
    # does with everything that is registered, must not be chosen.
    provides: tuple[type[Any], ...] = ()
    lacks = "a checkpoint's folder in UNROLLER_HF_MATCHING"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        device: str = "auto",
        max_batch: int = 8,
        threshold: float = 0.0,
        allow_pickle: bool = False,
    ) -> None:
        if not 0 <= threshold < 1:
            raise PluginError(f"threshold={threshold}: a score lies between 0 and 1")
        self.max_batch = max_batch
        self.threshold = threshold
        self._checkpoint: Checkpoint | None = None
        if path := path or os.environ.get("UNROLLER_HF_MATCHING"):
            self._checkpoint = opened(path, wanted=WANTED, accepts=_is_matcher, allow_pickle=allow_pickle)
            self.device = torch_device(device)
            self.provides = (PoseEstimator,)
        self._lock = threading.Lock()  # batches may come on several threads

    @property
    def checkpoint(self) -> Checkpoint:
        """What was found at `path`. Raises MissingCapability where none was given."""
        if self._checkpoint is None:
            raise MissingCapability(
                "the hf_matching backend was given no checkpoint: name its folder, HFMatching('/models/…'),"
                " or set UNROLLER_HF_MATCHING"
            )
        return self._checkpoint

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights' content and the settings; not of the device, which changes rounding only."""
        if self._checkpoint is None:
            return "hf_matching-none"
        return f"hf_matching-1-{self.checkpoint.fingerprint(self.threshold)}"

    def load(self) -> None:
        """Now, and not at the first call. Raises MissingCapability."""
        imported("cv2", "unroller[vision]")
        with self._lock:
            _ = self._matcher

    def estimate_pose(self, pairs: Sequence[PhotoPair], *, seeds: Sequence[int]) -> Outcomes[CameraPose]:
        """Scale "unit" (the translation is a direction), or "none" where the camera only turned. A pair
        whose matches do not support a pose is answered by InputError. Nothing is drawn from the seeds."""
        self.load()  # here, because what keeps the model from being loaded is no pair's fault
        return self._geometry.estimate_pose(pairs, seeds=seeds)

    def match(self, first: Image, second: Image) -> Matches:
        """The matches of two photos."""
        with self._lock:
            return self._matcher(first, second)

    @cached_property
    def _geometry(self) -> Classical:
        return _Geometry(self.match)

    @cached_property
    def _matcher(self) -> _Matcher:
        return _Matcher(self)


def _is_matcher(kind: str) -> bool:
    return kind.endswith("ForKeypointMatching")


class Matches(NamedTuple):
    """Where the model sees the same places in two photos, in the pixels that it was shown (centres at +0.5).

    At that size, usually 640 × 480 whatever the photo's shape, a keypoint is placed to about a pixel, which
    is what the bounds of `pose_from_matches` are in.
    """

    points_a: np.ndarray[Any, Any]  # (M, 2) float64
    points_b: np.ndarray[Any, Any]  # (M, 2)
    scores: np.ndarray[Any, Any]  # (M,) 0 to 1
    size: tuple[int, int]  # (width, height) that both photos were brought to


class _Matcher:
    """A loaded model with what prepares photos for it."""

    def __init__(self, settings: HFMatching) -> None:
        torch, library = imported("torch", "torch"), imported("transformers", "transformers>=5.0")
        found = settings.checkpoint
        self.model = model(library.AutoModelForKeypointMatching, found, settings.device, torch.float32)
        with telling(found):  # by Pillow, so that every machine gets the same numbers
            self.processor = library.AutoImageProcessor.from_pretrained(
                found.folder, backend="pil", local_files_only=True
            )
        self.threshold = settings.threshold
        self.dense = found.config.get("model_type") == "efficientloftr"
        if self.dense:
            pair_up(self.model)

    def __call__(self, first: Image, second: Image) -> Matches:
        import torch
        from PIL import Image as Pillow

        pair = [Pillow.fromarray(to_numpy(photo.pixels)) for photo in (first, second)]
        shown = self.processor(images=[pair], return_tensors="pt").pixel_values  # (1, 2, 3, h, w)
        with torch.no_grad():
            said = self.model(pixel_values=shown.to(self.model.device, torch.float32))
        height, width = shown.shape[-2:]
        # Relative to the size, and pixels counted from the middle of the first one.
        points = said.keypoints[0].double().cpu() * torch.tensor([width, height]) + 0.5  # (2, N, 2)
        scores, partners = said.matching_scores[0, 0].float().cpu(), said.matches[0].cpu().long()
        kept = (partners[0] > -1) & (scores > self.threshold)
        if self.dense:  # the keypoints lie in pairs already
            chosen = points[0][kept], points[1][kept]
        else:  # of keypoint i of the first photo, its partner among the second's; padding is nobody's
            there = said.mask[0].cpu() > 0  # (2, N)
            kept &= there[0] & there[1][partners[0].clamp(min=0)]
            chosen = points[0][kept], points[1][partners[0][kept]]
        return Matches(chosen[0].numpy(), chosen[1].numpy(), scores[kept].numpy(), (width, height))


def pair_up(model: Any) -> None:
    """Have EfficientLoFTR refine, and return, the cells that it matched with one another.

    transformers (5.23) lists for every cell of photo 2 its match in photo 1, for every cell of photo 1 its
    match in photo 2, and takes the n-th of one list and the n-th of the other for a pair: a picture shifted
    by 32 pixels is said to be shifted by 64. Here both lists are by the cells of photo 1. For one pair of
    photos: the lists of several are mixed up before.
    """
    import torch

    listed = model._get_matches_from_scores

    def paired(scores: Any) -> tuple[Any, Any]:
        matches, values = listed(scores)  # (1, 2, N) each
        second, value = matches[:, 1], values[:, 1]
        first = torch.arange(second.shape[1], device=second.device).where(second > -1, -1)
        return torch.stack([first, second], dim=1), torch.stack([value, value], dim=1)

    model._get_matches_from_scores = paired


class _Geometry(Classical):
    """Classical geometry on the matches of a model."""

    def __init__(self, match: Callable[[Image, Image], Matches]) -> None:
        super().__init__()
        self._match = match

    def matched(self, pair: PhotoPair, seed: int) -> Any:
        from primitives.backends.two_view import NoOverlap, at_full_size, pose_from_matches

        photos = (pair.first, pair.second)
        found = self._match(*photos)
        shown = (found.size[1], found.size[0])  # (height, width)
        cameras = (pair.first_camera, pair.second_camera)
        k_a, k_b = (
            np.diag([found.size[0] / photo.size[0], found.size[1] / photo.size[1], 1.0])
            @ camera_of(photo, camera).matrix
            for photo, camera in zip(photos, cameras, strict=True)
        )
        try:
            pose = pose_from_matches(found.points_a, found.points_b, k_a, k_b, shown, shown)
        except NoOverlap as error:  # this one is learned
            raise NoOverlap(str(error).replace(", or use a learned matcher", "")) from None
        first, second = (to_numpy(photo.pixels) for photo in photos)
        same = np.array_equal(first, second) and np.allclose(k_a, k_b)
        return at_full_size(pose, first.shape, shown, second.shape, shown, same)
