"""Cosmos 3 as a backend: how a camera moved, what it would see elsewhere, pictures and clips, from one set of
weights.

    Cosmos3("/models/Cosmos3-Nano", device="cuda", dtype="bfloat16", shift=5.0)

Nothing heavy is imported, and nothing is loaded, before the first call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from primitives.backends.asked_views import asked_of, moves
from primitives.backends.checkpoints import imported
from primitives.backends.clips import covering, longest_of, resized, shifted
from primitives.backends.cosmos3.actions import WIDTH, actions_to, pose_after
from primitives.backends.cosmos3.directing import Director
from primitives.backends.pipeline_backend import NO_OPTIONS, PipelineBackend
from primitives.backends.pipelines import load
from primitives.backends.prompt_words import Window
from primitives.prompts import instruction
from unroller.capabilities import (
    ImageGenerator,
    Outcomes,
    PhotoPair,
    PoseEstimator,
    Prompt,
    VideoGenerator,
    ViewRequest,
    ViewSynthesizer,
)
from unroller.faults import InputError, MissingCapability, NotFinite, PluginError
from unroller.rendering import TextSegment
from unroller.values import CameraPose, Image, NovelViews, Video, pose_errors

VARIABLE = "UNROLLER_COSMOS3"
WANTED = "a Cosmos3OmniPipeline of diffusers"
TIERS = (256, 480, 704, 720)
MEASURE = "calibrate() measures it on photos whose poses are known in metres"


class Calibration(NamedTuple):
    """What the model's poses are worth, on photos whose poses are known.

    scale: the model's units in a metre (the median over pairs), for `Cosmos3(scale=…)`; spread: the middle
    half of the pairs lies within this factor of one another; rotation, direction: median errors in degrees,
    the latter signed, so that 90 is chance and 180 a flipped axis; pairs: how many counted.
    """

    scale: float
    spread: float
    rotation: float
    direction: float
    pairs: int


class Cosmos3(PipelineBackend):
    """`PoseEstimator` by inverse dynamics, `ViewSynthesizer` by forward dynamics, `ImageGenerator` and
    `VideoGenerator` by one Cosmos 3 in a local folder. One that was made without actions draws only.

    A pose is what the model says of a clip that begins as the first photo and goes on as the second. A view
    is the end of the clip that follows the photo when its camera goes there evenly; all of it is the model's,
    and `valid` is None. Both know nothing of focal lengths: cameras in a request are not used.

    The model's unit of length is its own, and not published. Without `scale` poses are stamped "relative",
    and a step in metres is refused; with it (units in a metre: see `calibrate`) poses are metric. Photos'
    depths are not used.

    path: the folder, or "org/model" of one that was downloaded (None: what UNROLLER_COSMOS3 names). tier: how
    many lines photos are worked on in, 256, 480, 704 or 720; views come back in the photo's size, at most
    1600 pixels on the longer side. frames: of the clip through which a view is drawn, one and a multiple of
    four. prompt: what is said of photos (None: `camera_motion.md` for poses, `novel_view.md` for views, of
    `primitives/prompts`). steps: None: as the pipeline has it; guidance: of pictures and clips, None: as the
    pipeline has it (poses and views go without, as the authors' examples do). shift: of the noise schedule
    (the authors: 5 or 10 for actions; None: as the checkpoint has it). fps, action_fps: of clips, and of what
    is taken for one. options: further arguments of the pipeline's call (negative_prompt, use_system_prompt).
    window: what to do with prompts that are longer than the pipeline reads, see `prompt_words`. guardrail:
    with NVIDIA's, which needs `cosmos_guardrail` and models that it loads by itself, from the Hub too; what
    it blocks is an InputError. device, dtype, variant, offload, allow_pickle: as for `DiffusersImage`.

    The pipeline takes one sample a call, which is one model call. It writes no text: the part that
    reasons is transformers' `Cosmos3OmniForConditionalGeneration`, which the backend `hf` reads from the same
    folder where its config.json and weights lie there, too.

    Raises MissingCapability, with what to do, for a folder without a whole pipeline of that kind, pickled
    weights or a device that is not there, and PluginError for settings that are none, or that the pipeline
    does not take; the latter, and what only loading can show, at the first call.
    """

    name = "cosmos3"
    variable = VARIABLE
    lacks = f"a checkpoint's folder in {VARIABLE}"
    max_batch = 4

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        scale: float | None = None,
        tier: int = 480,
        frames: int = 17,
        prompt: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        shift: float | None = None,
        fps: float = 24.0,
        action_fps: float = 30.0,
        options: Mapping[str, Any] = NO_OPTIONS,
        window: Window = "refuse",
        guardrail: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        variant: str | None = None,
        offload: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        if tier not in TIERS:
            raise PluginError(f"tier={tier}: write one of {', '.join(map(str, TIERS))}")
        if frames < 2 or (steps is not None and steps < 1):
            raise PluginError(f"frames={frames}, steps={steps}: give 2 frames or more, and 1 step or more")
        if any(one is not None and not 0 < one < math.inf for one in (scale, shift, fps, action_fps)):
            raise PluginError(
                f"scale={scale}, shift={shift}, fps={fps}, action_fps={action_fps}: give more than 0"
            )
        if prompt is not None and not prompt.strip():
            raise PluginError("prompt is empty: say in words what the photos show, or leave it out")
        super().__init__(guidance=guidance, options=options, window=window, variant=variant, offload=offload)
        self.scale, self.tier, self.frames, self.prompt = scale, tier, frames, prompt
        self.steps, self.shift, self.fps, self.action_fps = steps, shift, fps, action_fps
        self.guardrail = guardrail
        if self._open(path, device, dtype, WANTED, "Cosmos3OmniPipeline".__eq__, allow_pickle):
            drawing = (ImageGenerator, VideoGenerator)
            self.provides = (PoseEstimator, ViewSynthesizer, *drawing) if self._acts else drawing

    def _settings(self) -> tuple[object, ...]:
        said = [self._about(name) for name in ("camera_motion", "novel_view")]
        how = (self.steps, self.shift, self.tier, self.frames, self.fps, self.action_fps)
        return (*how, said, self.scale, self.guardrail)

    size, length = (1280, 720), 121
    """Width and height of a picture or a clip, and its frames, where nothing is said."""

    # --------------------------------------------------------------------------- poses, views

    def estimate_pose(self, pairs: Sequence[PhotoPair], *, seeds: Sequence[int]) -> Outcomes[CameraPose]:
        """Where each second photo was taken: metric where the scale is known, else "relative" in the model's
        own unit. A second photo of another shape is cut to that of the first."""

        def pose(pair: PhotoPair, seed: int) -> CameraPose:
            found = self._motion(pair, seed)
            if self.scale is None:
                note = "In the model's own unit of length, which was not calibrated."
                return CameraPose.from_matrix(found, scale="relative", note=note)
            found[:3, 3] /= self.scale
            return CameraPose.from_matrix(found)

        return self._each(pose, pairs, seeds, self._check_acts)

    def synthesize_views(
        self, requests: Sequence[ViewRequest], *, seeds: Sequence[int]
    ) -> Outcomes[NovelViews]:
        """Views of each photo, in its size; every view is drawn with the sample's seed, whatever others are
        asked for beside it."""
        return self._each(self._views, requests, seeds, self._check_acts)

    def calibrate(
        self, pairs: Sequence[PhotoPair], poses: Sequence[CameraPose], *, seed: int = 0
    ) -> Calibration:
        """Compare the model's poses with known ones, to give this class the `scale` that it found.

        Photos of one's own with metric poses: half a dozen pairs a step apart are a beginning. Pairs whose
        camera moved less than a centimetre say nothing of scale and are left out. Raises InputError where
        poses are not in metres, or no pair counts."""
        if len(pairs) != len(poses) or any(pose.scale != "metric" for pose in poses):
            raise InputError("calibrate() needs one pose a pair of photos, in metres (scale 'metric')")
        ratios, turned, pointed = [], [], []
        for pair, known in zip(pairs, poses, strict=True):
            length = math.hypot(*known.translation)
            with self._lock:
                self._check_acts()
                found = CameraPose.from_matrix(self._motion(pair, seed), scale="relative")
            if length < 0.01 or not any(found.translation):
                continue
            rotation, direction = pose_errors(found, known)
            ratios.append(math.hypot(*found.translation) / length)
            turned.append(rotation)
            pointed.append(direction)
        if not ratios:
            raise InputError("no pair tells of scale: give photos between which the camera moved")
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        errors = float(np.median(turned)), float(np.median(pointed))
        return Calibration(float(middle), float(high / low), *errors, len(ratios))

    def _motion(self, pair: PhotoPair, seed: int) -> np.ndarray[Any, Any]:
        """(4, 4) of the second photo's camera in the first one's frame, in the model's unit."""
        size = self._director.working_size(*pair.first.size, self.tier)
        second = pair.second
        if second.size != pair.first.size:
            second = Image(covering(second, *pair.first.size))
        photos = resized(pair.first.pixels, size), resized(second.pixels, size)
        said = self._said("camera_motion")
        return pose_after(_good(self._director.motion(said, photos, self.tier, seed, self.action_fps)))

    def _views(self, request: ViewRequest, seed: int) -> NovelViews:
        asked, units = asked_of(request), self._units(request)
        director, steps = self._director, self.frames - 1
        if steps % director.packed:
            raise PluginError(f"frames={self.frames}: give one and a multiple of {director.packed}")
        size = director.working_size(*request.photo.size, self.tier)
        photo = resized(request.photo.pixels, size)
        views: list[Any] = []
        for one in asked:
            actions = actions_to(one, steps, units)
            said = self._said("novel_view")
            made = _good(director.predicted(said, photo, actions, self.tier, seed, self.action_fps))
            views.append(resized(made[-1], longest_of(request.photo.size)))
        poses = tuple((one.translation, one.rotation) for one in asked)
        named = tuple(one.name for one in asked)
        metric = request.pose is not None and request.pose.scale == "metric"
        unit = ("metre" if metric else "relative") if moves(request) else None
        return NovelViews(np.stack(views), named, None, request.index, poses, unit)

    def _units(self, request: ViewRequest) -> float:
        """The model's units in one of the request's. Raises InputError where they cannot be known."""
        if request.pose is None or not moves(request) or request.pose.scale == "relative":
            return 1.0
        if request.pose.scale == "unit":
            raise InputError(
                "a pose of scale 'unit' says where to and not how far: give it in metres, or as 'relative' in"
                " the model's own unit"
            )
        if self.scale is None:
            raise InputError(
                "the pose is in metres, and the model's unit of length is not known: give the backend its"
                f" scale ({MEASURE}), or a pose of scale 'relative' in that unit"
            )
        return self.scale

    # ----------------------------------------------------------------------------- pictures, clips

    def generate_image(
        self, prompts: Sequence[Prompt], *, width: int, height: int, seeds: Sequence[int]
    ) -> Outcomes[Image]:
        """A picture of this size a prompt. A size that the pipeline cannot draw is an InputError that names
        the nearest one that it can."""

        def picture(prompt: Prompt, seed: int) -> Image:
            made, left_out = self._film(prompt, None, (width, height, 1), seed)
            note = f"left out of the prompt, which was too long: {left_out}" if left_out else ""
            return Image(made[0], source=note)

        return self._each(picture, prompts, seeds)

    def generate_video(
        self,
        prompts: Sequence[Prompt],
        starts: Sequence[Image | None],
        *,
        width: int,
        height: int,
        frames: int,
        seeds: Sequence[int],
    ) -> Outcomes[Video]:
        """A clip a prompt. A first frame of another shape is cut to this one. A size or a length that the
        pipeline cannot make is an InputError that names the nearest one that it can."""

        def clip(asked: tuple[Prompt, Image | None], seed: int) -> Video:
            return Video(self._film(*asked, (width, height, frames), seed)[0], self.fps)

        return self._each(clip, list(zip(prompts, starts, strict=True)), seeds)

    def _film(self, prompt: Prompt, start: Image | None, shape: tuple[int, int, int], seed: int) -> Any:
        said = self._reader.read(prompt)
        made = self._director.film(said.words, shape, seed, self.fps, self.guidance, start)
        return _good(made), said.left_out

    def _each(self, work: Any, asked: Sequence[Any], seeds: Sequence[int], check: Any = None) -> list[Any]:
        """One outcome a sample: what cannot be worked with is an exception in its place."""
        with self._lock:
            if check is not None:
                check()
            outcomes: list[Any] = []
            for one, seed in zip(asked, seeds, strict=True):
                try:
                    outcomes.append(work(one, seed))
                except (InputError, NotFinite) as error:
                    outcomes.append(error)
            return outcomes

    # --------------------------------------------------------------------------------------- the pipeline

    @cached_property
    def _acts(self) -> bool:
        """Whether the model was made with actions."""
        file = self.checkpoint.folder / "transformer" / "config.json"
        held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return bool(held.get("action_gen")) and (held.get("action_dim") or 0) >= WIDTH

    def _check_acts(self) -> None:
        if not self._acts:
            raise MissingCapability(
                f"{self.checkpoint.folder} holds a Cosmos 3 without actions, and so without poses and views:"
                " name one that has them, as nvidia/Cosmos3-Nano"
            )

    def _loaded(self) -> Any:
        if self.guardrail:
            imported("cosmos_guardrail", "cosmos_guardrail")
        more: dict[str, Any] = {"enable_safety_checker": self.guardrail}
        pipe = load(self.checkpoint, self.device, self.dtype, self.variant, self.offload, **more)
        if self.shift is not None:
            pipe.scheduler = shifted(pipe.scheduler, self.shift)
        return pipe

    @cached_property
    def _director(self) -> Director:
        return Director(self._pipe, self.steps, self.options)

    def _about(self, name: str) -> str:
        return instruction(name) if self.prompt is None else self.prompt

    def _said(self, name: str) -> str:
        return self._reader.read(Prompt((TextSegment(self._about(name)),))).words


def _good(made: Any) -> Any:
    """What was made; raises it where it is an exception."""
    if isinstance(made, Exception):
        raise made
    return made
