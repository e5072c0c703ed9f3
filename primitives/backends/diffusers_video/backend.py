"""A Wan pipeline of diffusers as a backend: clips from words, and views of photographs that nobody took.

    DiffusersVideo("/models/Wan2.1-VACE-1.3B-diffusers", depth=HFDepth("/models/depth"), device="cuda")

Nothing heavy is imported, and nothing is loaded, before the first call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from primitives.backends.asked_views import asked_of, moves
from primitives.backends.checkpoints import imported
from primitives.backends.clips import covering, resized, shifted
from primitives.backends.diffusers_video.filming import Clip, Filmer, arguments
from primitives.backends.pipeline_backend import NO_OPTIONS, PipelineBackend
from primitives.backends.pipelines import load
from primitives.backends.prompt_words import Window
from primitives.prompts import instruction
from unroller.capabilities import DepthRequest, Outcomes, Prompt, VideoGenerator, ViewRequest, ViewSynthesizer
from unroller.faults import InputError, MissingCapability, PluginError
from unroller.rendering import TextSegment
from unroller.values import DepthMap, Image, NovelViews, Video

VARIABLE = "UNROLLER_DIFFUSERS_VIDEO"
WANTED = "a WanVACEPipeline (clips and views) or a WanPipeline (clips) of diffusers"
KINDS: dict[str, tuple[type[Any], ...]] = {
    "WanVACEPipeline": (ViewSynthesizer, VideoGenerator),
    "WanPipeline": (VideoGenerator,),
}


class DiffusersVideo(PipelineBackend):
    """`VideoGenerator` by a Wan pipeline in a local folder, and by one of Wan VACE, which completes clips of
    which a part is known, `ViewSynthesizer` on photographs as well.

    A view is drawn as the end of a clip: it begins as the photo, the camera goes from there to where the view
    is asked for, each frame shows what the photo shows from there (by its depth; a camera that only turns
    needs none), and the pipeline fills in the rest. The whole of each view is the pipeline's, which keeps
    what is known as far as its VAE does: `valid` is None.

    path: the folder, or "org/model" of one that was downloaded (None: what UNROLLER_DIFFUSERS_VIDEO names).
    depth: a backend that is asked for the depth of photos whose request brings none; without it a camera that
    moves is an InputError there. prompt: what is said of every view (None: the text of
    `primitives/prompts/novel_view.md`). frames: of the clip through which a view is drawn, one and a multiple
    of four; 1: the view alone. pixels: of the largest frame; larger photos are worked on smaller and their
    views come back in the photo's size, at most 1600 on the longer side. fps: of the clips, as the checkpoint
    was trained (Wan 2.1: 16). shift: of the noise schedule (Wan 2.1: 3 for 480 lines, 5 for 720; None: as the
    checkpoint has it). steps, guidance: None: as the pipeline has them. options: further arguments of the
    pipeline's call (negative_prompt, conditioning_scale, guidance_scale_2). window: what to do with prompts
    that are longer than the pipeline reads, see `prompt_words`. device: "auto", "cpu", "cuda", "cuda:1",
    "mps"; dtype: "auto" (as the denoiser was saved; the VAE stays in float32, which it needs), "float32",
    "float16", "bfloat16"; variant, offload, allow_pickle: as for `DiffusersImage`.

    These pipelines take one sample a call, which is one model call, however many steps it takes.

    Raises MissingCapability, with what to do, for a folder without a whole pipeline of that kind, pickled
    weights or a device that is not there, and PluginError for settings that are none, or that the pipeline
    does not take; the latter, and what only loading can show, at the first call.
    """

    name = "diffusers_video"
    variable = VARIABLE
    lacks = f"a checkpoint's folder in {VARIABLE}"
    max_batch = 4

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        depth: Any = None,
        prompt: str | None = None,
        frames: int = 17,
        pixels: int = 832 * 480,
        fps: float = 16.0,
        shift: float | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
        window: Window = "refuse",
        device: str = "auto",
        dtype: str = "auto",
        variant: str | None = None,
        offload: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        if depth is not None and not callable(getattr(depth, "estimate_depth", None)):
            raise PluginError(f"depth={depth!r} estimates no depth: give a backend, as HFDepth('/models/…')")
        if frames < 1 or pixels < 1 or (steps is not None and steps < 1):
            raise PluginError(f"frames={frames}, pixels={pixels}, steps={steps}: give 1 or more")
        if any(one is not None and not 0 < one < math.inf for one in (fps, shift)):
            raise PluginError(f"fps={fps}, shift={shift}: give more than 0")
        if prompt is not None and not prompt.strip():
            raise PluginError("prompt is empty: say in words what the photos show, or leave it out")
        super().__init__(guidance=guidance, options=options, window=window, variant=variant, offload=offload)
        self.depth, self.frames, self.pixels, self.fps = depth, frames, pixels, fps
        self.prompt = instruction("novel_view") if prompt is None else prompt
        self.shift, self.steps = shift, steps
        if self._open(path, device, dtype, WANTED, KINDS.__contains__, allow_pickle):
            self.provides = KINDS[self.checkpoint.kind]

    def _settings(self) -> tuple[object, ...]:
        depth = None if self.depth is None else self.depth.fingerprint
        return (self.steps, self.shift, self.prompt, self.frames, self.pixels, self.fps, depth)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a clip where nothing is said: what these models were trained on."""
        return (832, 480)

    length = 81
    """Frames of a clip where nothing is said."""

    # ------------------------------------------------------------------------------------ capabilities

    def synthesize_views(
        self, requests: Sequence[ViewRequest], *, seeds: Sequence[int]
    ) -> Outcomes[NovelViews]:
        """Views of each photo, in its size; every view is drawn with the sample's seed, whatever others are
        asked for beside it. A pose's translation is in the unit of the depth that is used."""
        imported("cv2", "unroller[vision]")
        from primitives.backends.pinhole import GeometryError

        with self._lock:
            self._needs(ViewSynthesizer)
            outcomes: list[Any] = []
            for request, seed in zip(self._with_depth(requests, seeds), seeds, strict=True):
                try:
                    outcomes.append(request if isinstance(request, Exception) else self._views(request, seed))
                except (InputError, GeometryError) as error:
                    outcomes.append(InputError(str(error)))
            return outcomes

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
        with self._lock:
            outcomes: list[Any] = []
            for prompt, start, seed in zip(prompts, starts, seeds, strict=True):
                try:
                    outcomes.append(self._clip(prompt, start, (width, height, frames), seed))
                except InputError as error:
                    outcomes.append(error)
            return outcomes

    def _clip(self, prompt: Prompt, start: Image | None, shape: tuple[int, int, int], seed: int) -> Any:
        width, height, frames = shape
        self._filmer.check(width, height, frames)
        said = self._reader.read(prompt)
        known = None
        if start is not None and not self._filmer.fills:
            raise InputError(
                f"a {self.checkpoint.kind} begins with no picture: leave the first frame out, or name a"
                " checkpoint of Wan VACE"
            )
        if start is not None:
            shown = np.full((frames, height, width, 3), 128, np.uint8)
            shown[0] = covering(start, width, height)
            known = Clip(shown, np.arange(frames)[:, None, None] == np.zeros((1, height, width), int))
        made = self._filmer.film(said.words, width, height, frames, seed, known)
        return made if isinstance(made, Exception) else Video(made, self.fps)

    def _views(self, request: ViewRequest, seed: int) -> NovelViews | Exception:
        from primitives.backends.diffusers_video.looking import scene_of, way_to

        asked = asked_of(request)
        scene = scene_of(request, self.pixels, self._filmer.multiple)
        height, width = scene.pixels.shape[:2]
        try:
            self._filmer.check(width, height, self.frames)
        except InputError as error:
            raise PluginError(f"frames={self.frames}: {error}") from None
        views: list[Any] = []
        for one in asked:
            clip = way_to(one, scene, self.frames, self._filmer.packed)
            made = self._filmer.film(self._told, width, height, self.frames, seed, clip)
            if isinstance(made, Exception):
                return made
            views.append(resized(made[-1], scene.size))
        unit = request.depth.unit if moves(request) and request.depth is not None else None
        poses = tuple((one.translation, one.rotation) for one in asked)
        return NovelViews(np.stack(views), tuple(one.name for one in asked), None, request.index, poses, unit)

    # ------------------------------------------------------------------------------------------- depth

    def _with_depth(self, requests: Sequence[ViewRequest], seeds: Sequence[int]) -> list[Any]:
        """The requests, those that need a depth with one; or why not."""
        import msgspec

        outcomes: list[Any] = list(requests)
        lacking = [i for i, r in enumerate(requests) if moves(r) and r.depth is None]
        if not lacking:
            return outcomes
        if self.depth is None:
            for i in lacking:
                outcomes[i] = InputError(
                    "a camera that moves needs the photo's depth: let depth_estimate write it into the"
                    " context, or give this backend one that estimates it, as depth=HFDepth('/models/…')"
                )
            return outcomes
        moving = [requests[i] for i in lacking]
        asked = [DepthRequest(one.photo, one.camera, index=one.index) for one in moving]
        most = max(1, int(getattr(self.depth, "max_batch", 1)))
        for start in range(0, len(lacking), most):
            of = slice(start, start + most)
            found = self.depth.estimate_depth(asked[of], seeds=[seeds[i] for i in lacking[of]])
            for i, depth in zip(lacking[of], found, strict=True):
                wrong = depth if isinstance(depth, Exception) else _unlike(requests[i], depth)
                outcomes[i] = wrong or msgspec.structs.replace(requests[i], depth=depth)
        return outcomes

    # --------------------------------------------------------------------------------------- the pipeline

    def _needs(self, capability: type[Any]) -> None:
        if capability not in KINDS[self.checkpoint.kind]:
            raise MissingCapability(
                f"{self.checkpoint.folder} holds a {self.checkpoint.kind}, which completes no clip of which a"
                " part is known: name a checkpoint of Wan VACE"
            )

    def _loaded(self) -> Any:
        imported("ftfy", "unroller[video]")  # which these pipelines call without asking whether it is there
        pipe = load(self.checkpoint, self.device, self.dtype, self.variant, self.offload, whole=("vae",))
        if self.shift is not None:
            pipe.scheduler = shifted(pipe.scheduler, self.shift)
        return pipe

    @cached_property
    def _filmer(self) -> Filmer:
        return Filmer(self._pipe, arguments(self._pipe, self.steps, self.guidance, self.options))

    @cached_property
    def _told(self) -> str:
        return self._reader.read(Prompt((TextSegment(self.prompt),))).words


def _unlike(request: ViewRequest, depth: DepthMap) -> InputError | None:
    """Why a depth that was estimated for a request cannot carry its camera."""
    if request.pose is None or request.pose.scale != "metric" or depth.unit == "metre":
        return None
    return InputError(
        f"the pose is in metres and the estimated depth in units of: {depth.unit}: give this backend a depth"
        " model that estimates metres, or a pose of scale 'relative' in that unit"
    )
