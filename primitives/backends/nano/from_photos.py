"""The part of the embedded model's backend that draws from photos, for weights that were taught so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from primitives.backends.nano import photos
from primitives.backends.nano.pictures import Pictures, Wanted, is_drawing, wanted_of
from primitives.backends.nano.prompts import context_of
from unroller.capabilities import DepthRequest, Outcomes, Prompt, ViewRequest
from unroller.faults import InputError, MissingCapability
from unroller.problem import Problem
from unroller.rendering import ImageSegment, TextSegment
from unroller.values import CameraPose, DepthMap, Image, NovelViews

VIEW = "view_tokens"
"""What a prompt writes that asks for visual tokens of a view from elsewhere."""


def is_edit(prompt: Prompt) -> bool:
    """Whether a prompt is about one picture and words on it: of rooms two photos are shown."""
    first = prompt.segments[:2]
    return len(first) == 2 and isinstance(first[0], ImageSegment) and isinstance(first[1], TextSegment)


def asked_for(prompt: Prompt, words: Any) -> Wanted:
    """What a prompt asks to be drawn: from words alone, from a pose, or as a change. Raises InputError."""
    if is_drawing(prompt):
        return wanted_of(prompt, words)
    first = prompt.segments[0]
    assert isinstance(first, ImageSegment)
    if prompt.writes != VIEW:
        return photos.edit_of(first.pixels, prompt.segments[1:], words)
    texts = [k for k, segment in enumerate(prompt.segments) if isinstance(segment, TextSegment)]
    kind, said = context_of(prompt.segments[texts[0]]) if texts else ("", "")
    if kind != "campose":
        raise InputError("the nano model rolls out a view of a pose in metres")
    x, y, z, a, b, c = map(float, said.split())
    pose = CameraPose((x, y, z), (a, b, c))
    return photos.view_of(first.pixels, pose, prompt.segments[texts[0] + 1 :], words)


class FromPhotos:
    """`ImageEditor`, `DepthEstimator`, and views from elsewhere."""

    _drawer: Pictures
    _draws: tuple[str, ...]
    refuse: bool

    def edit_image(
        self, images: Sequence[Image], prompts: Sequence[Prompt], *, seeds: Sequence[int]
    ) -> Outcomes[Image]:
        """Changes like "make the red cone green". Pixels that show the same as before stay as they are."""
        self._need("editing")
        words = self._drawer.words

        def read(i: int) -> Wanted:
            return photos.edit_of(images[i].pixels, prompts[i].segments, words)

        def draw(asked: list[Wanted], of: list[int]) -> list[Image]:
            return photos.edited(self._drawer, [images[i].pixels for i in of], asked, [seeds[i] for i in of])

        return self._where_drawable(len(images), read, draw)

    def estimate_depth(self, requests: Sequence[DepthRequest], *, seeds: Sequence[int]) -> Outcomes[DepthMap]:
        """In metres, 0.3 to 8, for square photos with a field of view of 90 degrees."""
        self._need("depth")
        words = self._drawer.words

        def draw(asked: list[Wanted], of: list[int]) -> list[Any]:
            some: list[Any] = [None] * len(asked)
            pairs = [len(one.photos) for one in asked]
            for count in dict.fromkeys(pairs):
                part = [k for k, own in enumerate(pairs) if own == count]
                found = photos.depths(
                    self._drawer,
                    [requests[of[k]] for k in part],
                    [asked[k] for k in part],
                    [seeds[of[k]] for k in part],
                )
                for k, one in zip(part, found, strict=True):
                    some[k] = one
            return some

        return self._where_drawable(len(requests), lambda i: photos.depth_of(requests[i], words), draw)

    def _from_poses(self, requests: Sequence[ViewRequest], seeds: Sequence[int]) -> list[Any]:
        """Pictures of 64 x 64 pixels of what is seen from the requests' poses."""
        words = self._drawer.words

        def read(i: int) -> Wanted:
            one = requests[i]
            if one.directions or one.pose is None:
                raise InputError("ask for a pose or for directions, not for both")
            return photos.view_of(one.photo.pixels, one.pose, one.context, words)

        def draw(asked: list[Wanted], of: list[int]) -> list[NovelViews]:
            drawn = self._drawer.draw(asked, [seeds[i] for i in of])
            return [_as_views(requests[i], picture) for i, picture in zip(of, drawn, strict=True)]

        return self._where_drawable(len(requests), read, draw)

    def _where_drawable(
        self,
        count: int,
        read: Callable[[int], Wanted],
        work: Callable[[list[Wanted], list[int]], Sequence[Any]],
    ) -> list[Any]:
        """`work` on all samples that `read` can read and the model knows; for the others, why not."""
        outcomes: list[Any] = [None] * count
        asked: list[Wanted] = []
        of: list[int] = []
        for i in range(count):
            try:
                asked.append(read(i))
                of.append(i)
            except InputError as error:
                outcomes[i] = error
        why = self._unseen(asked)
        for i, reason in zip(of, why, strict=True):
            if reason is not None:
                outcomes[i] = InputError(reason)
        known = [k for k, reason in enumerate(why) if reason is None]
        of = [of[k] for k in known]
        for i, outcome in zip(of, work([asked[k] for k in known], of) if of else (), strict=True):
            outcomes[i] = outcome
        return outcomes

    def _unseen(self, asked: Sequence[Wanted]) -> list[str | None]:
        """Why the model does not know what it is shown, or sees nothing of what it is asked to change."""
        why: list[str | None] = [None] * len(asked)
        if not self.refuse:
            return why
        familiar = self._drawer.familiar
        of = [i for i, one in enumerate(asked) if one.photos is not None]
        for i, look in zip(of, self._drawer.looks([asked[i] for i in of]), strict=True):
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
        if problem.task not in self._draws or not problem.images or problem.look:
            return False
        try:
            one = photos.wanted([image.pixels for image in problem.images[:2]])
        except InputError:
            return False
        return self._unseen([one]) == [None]

    def _need(self, task: str) -> None:
        if task not in self._draws:
            raise MissingCapability(f"the nano model lacks {teach(task)}")


def teach(task: str) -> str:
    """What weights lack that were not taught a task, and how they get it."""
    what = {"generation": "draw", "editing": "change pictures", "depth": "draw depth"}.get(task, "draw views")
    more = "" if task == "generation" else f" --tasks generation,{task}"
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
