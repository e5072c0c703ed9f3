"""The part of the embedded model's backend that draws: from prompts, and from photos where weights were
taught so. What is asked for is read, thought about, rolled out and drawn by a `pictures.Pictures`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from primitives.backends.nano import filming, photos
from primitives.backends.nano import weights as files
from primitives.backends.nano.pictures import Pictures, Wanted, is_drawing, wanted_of
from primitives.backends.nano.prompts import context_of
from unroller.capabilities import (
    DepthEstimator,
    DepthRequest,
    ImageEditor,
    ImageGenerator,
    Outcomes,
    Prompt,
    VideoGenerator,
    ViewRequest,
)
from unroller.faults import InputError, MissingCapability
from unroller.problem import Problem
from unroller.rendering import ImageSegment, TextSegment
from unroller.values import CameraPose, DepthMap, Image, NovelViews, Video

STEPS, IMAGE_GUIDANCE = 16, 1.0
"""How pictures are sampled: see `nano_omni.drawing.Sampling`."""
GUIDANCE: dict[str, float] = {"generation": 5.0, "editing": 2.0, "novel_view": 1.0}
"""On words, where nothing else is said. Of prompts and changes what did best on problems other than the first
thousand, which are reported on; of views 1.5, 2 and 3 did no better. Depth has no words to be led by."""
DRAWS: dict[type[Any], tuple[str, ...]] = {
    ImageGenerator: ("generation",),
    ImageEditor: ("editing",),
    DepthEstimator: ("depth",),
    VideoGenerator: ("depth", "novel_view"),
}
"""The capabilities that weights may have, and the tasks they were then taught."""
VIEW = "view_tokens"
"""What a prompt writes that asks for visual tokens of a view from elsewhere."""


def is_edit(prompt: Prompt) -> bool:
    """Whether a prompt is about one picture and words on it: of rooms two photos are shown."""
    first = prompt.segments[:2]
    return len(first) == 2 and isinstance(first[0], ImageSegment) and isinstance(first[1], TextSegment)


def asked_for(prompt: Prompt, words: Any) -> Wanted:
    """What a prompt asks to be drawn: from words alone, from a pose, or as a change. Raises InputError."""
    if is_drawing(prompt):
        _check_no_question(prompt)
        return wanted_of(prompt, words)
    first = prompt.segments[0]
    assert isinstance(first, ImageSegment)
    _check_no_question(prompt)
    if prompt.writes != VIEW:
        return photos.edit_of(first.pixels, prompt.segments[1:], words)
    texts = [k for k, segment in enumerate(prompt.segments) if isinstance(segment, TextSegment)]
    kind, said = context_of(prompt.segments[texts[0]]) if texts else ("", "")
    if kind != "campose":
        raise InputError("the nano model rolls out a view of a pose in metres")
    x, y, z, a, b, c = map(float, said.split())
    pose = CameraPose((x, y, z), (a, b, c))
    contexts = [one for one in prompt.segments[texts[0] + 1 :] if not filming.is_depth(one)]
    return photos.view_of(first.pixels, pose, contexts, words)


def _check_no_question(prompt: Prompt) -> None:
    """Raises InputError for what asks about a room with too few photos of it."""
    texts = [segment.text for segment in prompt.segments if isinstance(segment, TextSegment)]
    if texts and texts[0].rstrip().endswith("?"):
        raise InputError(
            "the nano model answers questions about two photos of one room: give it two, or choose another"
            " backend"
        )


class Draws:
    """`ImageGenerator`, `ImageEditor`, `DepthEstimator`, `VideoGenerator`, and views from elsewhere."""

    size: ClassVar[tuple[int, int]] = (64, 64)
    """Of the pictures that it draws."""
    length: ClassVar[int] = 17
    """Frames of a clip, where no number is asked for."""
    unreadable: ClassVar[tuple[type[Any], ...]] = (DepthMap,)
    """What it draws for others, and cannot read as a context of its own, but for views from elsewhere."""

    folder: Path
    drawing: dict[str, Path]
    device: str
    max_bytes: int
    refuse: bool
    sampling: tuple[int, float | None, float]
    """Steps, guidance on words (None: of each task its own) and on pictures."""
    _loaded: files.Loaded
    _drawers: dict[Path, Pictures]

    def _drawer(self, task: str) -> Pictures:
        """What draws a task. Raises MissingCapability where no weights were taught it."""
        folder = self.drawing.get(task)
        if folder is None:
            raise MissingCapability(f"the nano model lacks {teach(task)}")
        if folder not in self._drawers:
            known = files.knows_photos(folder)
            if folder == self.folder and known:
                loaded = self._loaded
            else:
                loaded = files.load(folder, self.device, self.max_bytes, known)
            self._drawers[folder] = Pictures(loaded.reader, loaded.words, self._sampling, loaded.familiar)
        return self._drawers[folder]

    @cached_property
    def _words(self) -> Any:
        """The tokenizer: all weights that come along have the same."""
        if not self.drawing:
            self._drawer("generation")  # says what is lacking
        return files.tokenizer(next(iter(self.drawing.values())))

    def _sampling(self, task: str) -> Any:
        """How pictures of a task are sampled: a `nano_omni.drawing.Sampling`."""
        from nano_omni.drawing import Sampling
        from nano_omni.flow import Guidance

        steps, guidance, image_guidance = self.sampling
        if task not in GUIDANCE:
            return Sampling(steps, guidance=Guidance(1.0, 1.0))
        return Sampling(
            steps, guidance=Guidance(GUIDANCE[task] if guidance is None else guidance, image_guidance)
        )

    def generate_image(
        self, prompts: Sequence[Prompt], *, width: int, height: int, seeds: Sequence[int]
    ) -> Outcomes[Image]:
        """Pictures of 64 x 64 pixels of prompts like "two red cones left of a blue box"."""
        if (width, height) != self.size:
            why = (
                f"the nano model draws pictures of 64 x 64 pixels, not {width} x {height}: leave the size out"
            )
            return [InputError(why)] * len(prompts)
        self._drawer("generation")  # or it says what is lacking
        return self._where_wanted(
            prompts, lambda drawer, asked, of: drawer.draw(asked, [seeds[i] for i in of])
        )

    def edit_image(
        self, images: Sequence[Image], prompts: Sequence[Prompt], *, seeds: Sequence[int]
    ) -> Outcomes[Image]:
        """Changes like "make the red cone green". Pixels that show the same as before stay as they are."""
        words = self._drawer("editing").words

        def read(i: int) -> Wanted:
            return photos.edit_of(images[i].pixels, prompts[i].segments, words)

        def draw(drawer: Pictures, asked: list[Wanted], of: list[int]) -> list[Image]:
            return photos.edited(drawer, [images[i].pixels for i in of], asked, [seeds[i] for i in of])

        return self._where_drawable(len(images), read, draw)

    def estimate_depth(self, requests: Sequence[DepthRequest], *, seeds: Sequence[int]) -> Outcomes[DepthMap]:
        """In metres, 0.3 to 8, for square photos with a field of view of 90 degrees."""
        words = self._drawer("depth").words

        def draw(drawer: Pictures, asked: list[Wanted], of: list[int]) -> list[Any]:
            some: list[Any] = [None] * len(asked)
            pairs = [len(one.photos) for one in asked]
            for count in dict.fromkeys(pairs):
                part = [k for k, own in enumerate(pairs) if own == count]
                found = photos.depths(
                    drawer,
                    [requests[of[k]] for k in part],
                    [asked[k] for k in part],
                    [seeds[of[k]] for k in part],
                )
                for k, one in zip(part, found, strict=True):
                    some[k] = one
            return some

        def read(i: int) -> Wanted:
            photos.check_lens(requests[i].photo, requests[i].camera)
            return photos.depth_of(requests[i], words)

        return self._where_drawable(len(requests), read, draw)

    def _from_poses(self, requests: Sequence[ViewRequest], seeds: Sequence[int]) -> list[Any]:
        """Pictures of 64 x 64 pixels of what is seen from the requests' poses. Where a request holds the
        photo's depth, what the photo shows of the view is carried over, and only the rest is drawn."""
        words = self._drawer("novel_view").words

        def read(i: int) -> Wanted:
            one = requests[i]
            photos.check_lens(one.photo, one.camera)
            if one.directions or one.pose is None:
                raise InputError("ask for a pose or for directions, not for both")
            if one.depth is not None:
                filming.check_depth(one.depth)
            return photos.view_of(one.photo.pixels, one.pose, one.context, words)

        def draw(drawer: Pictures, asked: list[Wanted], of: list[int]) -> list[NovelViews]:
            drawn = drawer.draw(asked, [seeds[i] for i in of])
            return [
                _as_views(requests[i], filming.view(requests[i], picture))
                for i, picture in zip(of, drawn, strict=True)
            ]

        return self._where_drawable(len(requests), read, draw)

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
        """Walks like "go forward 1 m and turn left 20 degrees" from a photo, whose depth is drawn first: what
        it shows is carried over into each frame, only what lies far from that is drawn. Square, from 64
        pixels a side up to `filming.LARGEST`, as sharp as the photo."""
        outcomes: list[Any] = [None] * len(prompts)
        scenes: dict[int, filming.Scene] = {}
        for i, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
            try:
                scenes[i] = filming.scene_of(start, prompt.segments, (width, height), frames)
            except InputError as error:
                outcomes[i] = error
        if not scenes:
            return outcomes
        drawer = self._drawer("novel_view")
        asked = [DepthRequest(scene.photo) for scene in scenes.values()]
        depths = self.estimate_depth(asked, seeds=[seeds[i] for i in scenes])
        for (i, scene), depth in zip(scenes.items(), depths, strict=True):
            try:
                outcomes[i] = depth
                if not isinstance(depth, Exception):
                    outcomes[i] = filming.filmed(drawer, scene, depth, seeds[i])
            except InputError as error:
                outcomes[i] = error
        return outcomes

    def _of_a_picture(self, prompt: Prompt) -> bool:
        """Whether it is about a picture that there is not yet."""
        if prompt.writes == VIEW:
            return "novel_view" in self.drawing
        return is_drawing(prompt) or ("editing" in self.drawing and is_edit(prompt))

    def _sketches(self, prompts: list[Prompt], count: int, temperature: float, seeds: list[int]) -> list[Any]:
        return self._where_wanted(
            prompts,
            lambda drawer, asked, of: drawer.roll_out(asked, count, temperature, [seeds[i] for i in of]),
        )

    def _plans(
        self, kind: str, prompts: list[Prompt], most: int, temperature: float, seeds: list[int]
    ) -> list[Any]:
        return self._where_wanted(
            prompts,
            lambda drawer, asked, of: drawer.think(asked, kind, most, temperature, [seeds[i] for i in of]),
        )

    def _where_wanted(
        self, prompts: Sequence[Prompt], work: Callable[[Pictures, list[Any], list[int]], Sequence[Any]]
    ) -> list[Any]:
        """`work` on all prompts for pictures that can be read; for the others, why not."""
        words = self._words
        return self._where_drawable(len(prompts), lambda i: asked_for(prompts[i], words), work)

    def _where_drawable(
        self,
        count: int,
        read: Callable[[int], Wanted],
        work: Callable[[Pictures, list[Wanted], list[int]], Sequence[Any]],
    ) -> list[Any]:
        """`work` on all samples that `read` can read and the model knows, with what draws them; for the
        others, why not."""
        outcomes: list[Any] = [None] * count
        asked: list[Wanted] = []
        of: list[int] = []
        for i in range(count):
            try:
                asked.append(read(i))
                of.append(i)
            except InputError as error:
                outcomes[i] = error
        for drawer in dict.fromkeys(self._drawer(one.task) for one in asked):
            own = [k for k, one in enumerate(asked) if self._drawer(one.task) is drawer]
            why = self._unseen(drawer, [asked[k] for k in own])
            for k, reason in zip(own, why, strict=True):
                if reason is not None:
                    outcomes[of[k]] = InputError(reason)
            known = [k for k, reason in zip(own, why, strict=True) if reason is None]
            places = [of[k] for k in known]
            made = work(drawer, [asked[k] for k in known], places) if known else ()
            for i, outcome in zip(places, made, strict=True):
                outcomes[i] = outcome
        return outcomes

    def _unseen(self, drawer: Pictures, asked: Sequence[Wanted]) -> list[str | None]:
        """Why the model does not know what it is shown, or sees nothing of what it is asked to change."""
        why: list[str | None] = [None] * len(asked)
        if not self.refuse:
            return why
        familiar = drawer.familiar
        of = [i for i, one in enumerate(asked) if one.photos is not None]
        for i, look in zip(of, drawer.looks([asked[i] for i in of]), strict=True):
            if familiar is not None and familiar.is_strange(look):
                why[i] = (
                    "this picture is not like the rooms the nano model was trained on: choose a backend made"
                    " for photographs with --backend; `unroller primitives` lists what each provides"
                )
            else:
                why[i] = photos.not_seen(asked[i], look, photos.SEEN if familiar is None else familiar.seen)
        return why

    def knows(self, problem: Problem) -> bool:
        """Whether it was taught to draw what a problem asks for, from pictures like these."""
        if problem.task not in self.drawing or not problem.images or problem.look:
            return False
        if problem.task == "novel_view" and problem.pose is None:  # views all around: not from elsewhere
            return False
        try:
            photos.check_lens(problem.images[0], problem.camera(0))
            one = photos.wanted([image.pixels for image in problem.images[:2]])
            return self._unseen(self._drawer(problem.task), [one]) == [None]
        except (InputError, MissingCapability):  # its files may be damaged: others need not be
            return False


def teach(*tasks: str) -> str:
    """What weights lack that were not taught some tasks, and how they get it."""
    known = {"generation": "draw", "editing": "change pictures", "depth": "draw depth"}
    what = " and ".join(known.get(task, "draw views") for task in tasks)
    more = "" if tasks == ("generation",) else f" --tasks {','.join(('generation', *tasks))}"
    return (
        f"weights that {what}: teach it with `python -m nano_omni.training.draw{more}`, or name a folder of"
        " others as nano:PATH or Nano(PATH)"
    )


def _as_views(request: ViewRequest, picture: Image) -> NovelViews:
    pose = request.pose
    assert pose is not None
    return NovelViews(
        np.asarray(picture.pixels)[None],
        ("pose",),
        photo=request.index,
        poses=((pose.translation, pose.rotation),),
        unit="metre",
    )
