"""Pictures to be drawn from photos as problems: changes of rooms, depth, views from elsewhere, and walks.

All of the test split, which nothing of ours was trained on, in pictures of the model's 64 pixels a side, with
the truth in the metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from primitives.backends.nano.prompt_set import ROWS, TRIES, as_data, in_words
from primitives.backends.nano.rooms import one_thread
from unroller.faults import ProblemError
from unroller.problem import Problem
from unroller.values import CameraPose

NUMBERS = 1 << 14
"""How many problems each set has."""
DEPTH_ROWS: Mapping[str, Sequence[str]] = {
    "direct": (),
    "+ detailed caption": ("detailed_caption",),
    "+ depth caption": ("depth_caption",),
    "+ visual tokens": ("visual_token_rollout",),
}
"""The rows of the paper's Table 4."""
VIEW_ROWS: Mapping[str, Sequence[str]] = {
    "direct": (),
    "visual": ("visual_token_rollout",),
    "depth": ("depth_estimate",),
    "visual + depth": ("visual_token_rollout", "depth_estimate"),
}
MOST_FRAMES = 64
_BATCH = 256


def edits(seed: int, task: str = "editing", texture: str = "bare") -> Problem:
    """Change number `seed`: a picture of a room, and what is to become of one of its objects.

    The metadata holds what the changed picture must show ("truth.composition"), the pixels of the object that
    changes, in either picture, counted row by row ("truth.changed"), what an oracle would think, and the kind
    of change. Raises ProblemError for a number, a task or a texture that there is none of.
    """
    return many_edits([seed], task, texture)[0]


def many_edits(seeds: Sequence[int], task: str = "editing", texture: str = "bare") -> list[Problem]:
    """Many changes, drawn together: see `edits`."""
    _check(seeds, task, edits, texture)

    def drawn(numbers: list[int], attempt: int) -> dict[int, Problem]:
        import torch

        from nano_omni.data import split_seeds
        from nano_omni.edits import edited

        first = split_seeds("test", 0, 1)
        every = first + torch.tensor([number * TRIES + attempt for number in numbers])
        some = edited(every, texture)
        found: dict[int, Problem] = {}
        for i, row in enumerate(some.rows):
            layout = sorted(some.found[i], key=lambda one: one.bearing)
            truth = {
                "composition": as_data(some.compositions[i]),
                "changed": some.mask[i].flatten().nonzero()[:, 0].tolist(),
            }
            found[numbers[row]] = Problem.editing(
                some.before[i].permute(1, 2, 0).contiguous().numpy(),
                str(some.changes[i]),
                metadata={
                    "truth": truth,
                    "oracle": {"think": in_words(layout)},
                    "number": numbers[row],
                    "change": some.changes[i].what,
                },
            )
        return found

    return _all(seeds, drawn)


def depths(seed: int, task: str = "depth", texture: str = "plain") -> Problem:
    """Room number `seed` in two photos, of which the first one's depth is wanted.

    The metadata holds it, metres in rows ("truth.depth"), and the pose of the second photo. `texture`: bare,
    where how far a wall is must be guessed from one photo, or plain. Raises ProblemError as `edits` does.
    """
    return many_depths([seed], task, texture)[0]


def many_depths(seeds: Sequence[int], task: str = "depth", texture: str = "plain") -> list[Problem]:
    """Many rooms, drawn together: see `depths`."""
    _check(seeds, task, depths, texture)

    def problem(some: Any, i: int) -> Problem:
        photos = some.photos[i].permute(0, 2, 3, 1).contiguous().numpy()
        depth = [[round(one, 3) for one in row] for row in some.depth[i].tolist()]
        pose = _pose(some, i)
        truth = {"depth": depth, "pose": [*pose.translation, *pose.rotation]}
        return Problem.depth(*photos, metadata={"truth": truth})

    return _of_pairs(seeds, texture, problem)


def views(seed: int, task: str = "novel_view", texture: str = "plain") -> Problem:
    """Room number `seed` in one photo, and a pose from which it is to be seen.

    The metadata holds the true view ("truth.views"). Raises ProblemError as `edits` does.
    """
    return many_views([seed], task, texture)[0]


def many_views(seeds: Sequence[int], task: str = "novel_view", texture: str = "plain") -> list[Problem]:
    """Many rooms, drawn together: see `views`."""
    _check(seeds, task, views, texture)

    def problem(some: Any, i: int) -> Problem:
        first, second = some.photos[i].permute(0, 2, 3, 1).contiguous().numpy()
        return Problem.novel_view(
            first,
            pose=_pose(some, i),
            metadata={"truth": {"views": [second.tolist()]}},
        )

    return _of_pairs(seeds, texture, problem)


def walks(seed: int, task: str = "video", texture: str = "plain", frames: int = 5) -> Problem:
    """Room number `seed` in one photo, and a walk from there, in words, to be shown in so many frames, of
    which the photo is the first.

    The metadata holds the true frames ("truth.frames"). Raises ProblemError as `edits` does, and for fewer
    than two frames or more than 64.
    """
    return many_walks([seed], task, texture, frames)[0]


def many_walks(
    seeds: Sequence[int], task: str = "video", texture: str = "plain", frames: int = 5
) -> list[Problem]:
    """Many rooms, drawn together: see `walks`."""
    _check(seeds, task, walks, texture)
    if not isinstance(frames, int) or not 2 <= frames <= MOST_FRAMES:
        raise ProblemError(f"a walk in {frames} frames: give 2 to {MOST_FRAMES}")

    def drawn(numbers: list[int], attempt: int) -> dict[int, Problem]:
        import torch

        from nano_omni.data import split_seeds
        from nano_omni.pictures import SIDE
        from nano_omni.world.camera import intrinsics
        from nano_omni.world.render import render, to_uint8
        from nano_omni.world.scene import sample_scenes
        from nano_omni.world.sight import viewpoints
        from nano_omni.world.walks import draw_walks

        some = split_seeds("test", 0, NUMBERS)[numbers]
        scene = sample_scenes(some, texture)
        first = viewpoints(scene)[:, :1]  # (B, 1, 4, 4)
        ways = draw_walks(scene, first[:, 0], some)
        poses = torch.stack([way.poses(frames) for way in ways])  # (B, F, 4, 4)
        shown = render(scene, (first.double() @ poses).float(), intrinsics(SIDE, SIDE), SIDE, SIDE)
        clips = to_uint8(shown.images).numpy()  # (B, F, S, S, 3)
        return {
            number: Problem.video(
                str(way), clip[0], metadata={"frames": frames, "truth": {"frames": clip.tolist()}}
            )
            for number, way, clip in zip(numbers, ways, clips, strict=True)
        }

    return _all(seeds, drawn)


edits.many = many_edits  # type: ignore[attr-defined]
edits.tasks = ("editing",)  # type: ignore[attr-defined]
edits.rows = ROWS  # type: ignore[attr-defined]
edits.column = "change"  # type: ignore[attr-defined]
depths.many = many_depths  # type: ignore[attr-defined]
depths.tasks = ("depth",)  # type: ignore[attr-defined]
depths.rows = DEPTH_ROWS  # type: ignore[attr-defined]
views.many = many_views  # type: ignore[attr-defined]
views.tasks = ("novel_view",)  # type: ignore[attr-defined]
views.rows = VIEW_ROWS  # type: ignore[attr-defined]
walks.many = many_walks  # type: ignore[attr-defined]
walks.tasks = ("video",)  # type: ignore[attr-defined]


def _of_pairs(seeds: Sequence[int], texture: str, problem: Callable[[Any, int], Problem]) -> list[Problem]:
    def drawn(numbers: list[int], attempt: int) -> dict[int, Problem]:
        from nano_omni.data import split_seeds
        from nano_omni.pairs import pairs

        some = pairs(split_seeds("test", 0, NUMBERS)[numbers], texture)
        return {number: problem(some, i) for i, number in enumerate(numbers)}

    return _all(seeds, drawn)


def _all(seeds: Sequence[int], drawn: Callable[[list[int], int], dict[int, Problem]]) -> list[Problem]:
    """The problems of those numbers: a room that has none is passed over."""
    found: dict[int, Problem] = {}
    with one_thread():
        for attempt in range(TRIES):
            missing = [seed for seed in dict.fromkeys(seeds) if seed not in found]
            for at in range(0, len(missing), _BATCH):
                found.update(drawn(missing[at : at + _BATCH], attempt))
            if not missing:
                break
    return [found[seed] for seed in seeds]


def _check(seeds: Sequence[int], task: str, made: Any, texture: str) -> None:
    from nano_omni.world.scene import TEXTURES

    wrong = next((seed for seed in seeds if not 0 <= seed < NUMBERS), None)
    if wrong is not None:
        raise ProblemError(f"there is no number {wrong} in this problem set: 0 to {NUMBERS - 1}")
    if task not in made.tasks:
        raise ProblemError(f"these problems are for the task {made.tasks[0]}, not {task}: take another set")
    if texture not in TEXTURES:
        raise ProblemError(f"there is no texture called {texture!r}: choose among {', '.join(TEXTURES)}")


def _pose(some: Any, i: int) -> CameraPose:
    return CameraPose.from_matrix(some.relative[i].double().numpy())
