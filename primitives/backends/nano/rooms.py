"""The embedded world's rooms as problems: two pictures of a room, and what is asked about them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from unroller.faults import ProblemError
from unroller.problem import Problem
from unroller.values import CameraPose

SEEDS = 1 << 62
SIDES = 16, 4096  # pixels, least and most
QUESTIONED = 1 << 20  # rooms with questions: test rooms, which no model of ours was trained on
TRIES = 16  # rooms of each number, looked at until one has its question; most have
ROUNDS = 4  # where none has, so many numbers' rooms in all
ASKS = ("where", "count", "compare", "all")


def rooms(
    seed: int,
    task: str = "pose",
    width: int | None = None,
    height: int | None = None,
    hops: int = 2,
    ask: str = "where",
    photos: int = 2,
) -> Problem:
    """Two pictures of procedural room number `seed`, with exact intrinsics and the truth in the metadata.

    `pose` and other geometric tasks: richly textured, 640 x 480 pixels unless said otherwise. `spatial`: a
    question about a plain room as the embedded model knows them, in square pictures of 512 pixels: where
    something is, in 1 to 4 `hops` (0: each in turn, by the number); or, as `ask` says, to count or to compare
    (all: each in turn, the hops too). Chains of 3 and 4 hops may go across three `photos`, none of which can
    be left out. The metadata holds the true answer, the true pose and what an oracle
    would think and tell.
    Raises ProblemError for a seed, a size, a number of hops or an `ask` that there is no room for.
    """
    if task in ("spatial", "understanding"):
        side = width or height or 512
        return many([seed], task, width=side, height=height or side, hops=hops, ask=ask, photos=photos)[0]
    width, height = width or 640, height or 480
    if not 0 <= seed < SEEDS:
        raise ProblemError(f"there is no room {seed}: rooms are numbered 0 to {SEEDS - 1}")
    _check_sides(width, height)
    from nano_omni.world import render_pair

    with one_thread():
        pair = render_pair(seed, width=width, height=height)
    true = CameraPose.from_matrix(pair.relative.double().cpu().numpy())
    return Problem(
        task=task,
        images=tuple(image.cpu().numpy() for image in pair.images),
        intrinsics=pair.intrinsics.double().cpu().numpy(),
        metadata={"truth": {"pose": [*true.translation, *true.rotation]}, "room": seed},
    )


def many(
    seeds: Sequence[int],
    task: str = "spatial",
    width: int = 64,
    height: int = 64,
    hops: int = 2,
    ask: str = "where",
    photos: int = 2,
) -> list[Problem]:
    """Questions about many rooms, drawn together: see `rooms`. Pictures have the model's 64 pixels."""
    if task not in ("spatial", "understanding"):
        return [rooms(seed, task) for seed in seeds]
    forms = _forms(hops, ask, photos)
    if width != height:
        raise ProblemError(f"{width} x {height}: the pictures of these questions are square")
    _check_sides(width, height)
    wrong = next((seed for seed in seeds if not 0 <= seed < QUESTIONED), None)
    if wrong is not None:
        raise ProblemError(f"there is no question {wrong}: they are numbered 0 to {QUESTIONED - 1}")
    found: dict[int, Problem] = {}
    with one_thread():
        for attempt in range(ROUNDS * TRIES):
            missing = [seed for seed in dict.fromkeys(seeds) if seed not in found]
            for k, form in enumerate(forms):
                some = [seed for seed in missing if seed % len(forms) == k]
                for at in range(0, len(some), 256):
                    found.update(_asked(some[at : at + 256], attempt, task, width, form, photos))
    lost = next((seed for seed in seeds if seed not in found), None)
    if lost is not None:
        raise ProblemError(f"room {lost} has no such question: choose another number")
    return [found[seed] for seed in seeds]


def _forms(hops: int, ask: str, photos: int) -> tuple[int | str, ...]:
    """The forms of questions that are asked by turns."""
    from nano_omni.world.questions import FORMS, HOPS

    if ask not in ASKS:
        raise ProblemError(f"there is nothing to ask called {ask!r}: choose among {', '.join(ASKS)}")
    if hops not in (0, *HOPS):
        raise ProblemError(f"questions have {HOPS[0]} to {HOPS[-1]} hops (0: each in turn), not {hops}")
    if photos == 3:  # other questions hardly ever need all three
        if ask != "where" or hops not in (0, 3, 4):
            raise ProblemError("across three photos only chains of 3 or 4 hops are asked (0: in turn)")
        return (hops,) if hops else (3, 4)
    if photos != 2:
        raise ProblemError(f"questions go across two or three photos, not {photos}")
    if ask == "where":
        return (hops,) if hops else HOPS
    return FORMS if ask == "all" else (ask,)


rooms.many = many  # type: ignore[attr-defined]  # for whoever wants hundreds: drawing them alone is slow
rooms.tasks = ("pose", "spatial", "understanding")  # type: ignore[attr-defined]


def _asked(
    seeds: list[int], attempt: int, task: str, side: int, form: int | str, photos: int
) -> dict[int, Problem]:
    """The problems of those seeds whose room of this attempt has a question."""
    from nano_omni import captions, language, vocabulary
    from nano_omni.data import split_seeds
    from nano_omni.world.camera import intrinsics, relative
    from nano_omni.world.questions import ask
    from nano_omni.world.render import render, to_uint8
    from nano_omni.world.scene import sample_scenes
    from nano_omni.world.sight import sight, viewpoints

    # TRIES rooms a number. Some questions need more, those across three photos often: of another number.
    round_, turn = divmod(attempt, TRIES)
    places = [(seed * TRIES + turn + round_ * 7919 * TRIES) % (QUESTIONED * TRIES) for seed in seeds]
    numbers = split_seeds("test", 0, QUESTIONED * TRIES)[places]
    scene = sample_scenes(numbers, "plain")
    c2w = viewpoints(scene, photos)
    small = render(scene, c2w, intrinsics(64, 64), 64, 64)
    seen = sight(scene, c2w, small.ids)
    asked = ask(seen, form)
    images = to_uint8(small.images).numpy()
    camera = intrinsics(side, side)
    if side != 64:
        images = to_uint8(render(scene, c2w, camera, side, side, 2).images).numpy()
    objects = language.objects(seen)
    told = {
        "think": language.think(asked, objects),
        "caption": captions.caption(seen, objects),
        "depth_caption": captions.depth_caption(seen),
    }
    oracle = {kind: vocabulary.nearest(words)[:, 1:-1].tolist() for kind, words in told.items()}
    problems: dict[int, Problem] = {}
    for i in asked.valid.nonzero()[:, 0].tolist():
        true = CameraPose.from_matrix(relative(c2w[i, 0], c2w[i, 1]).double().numpy())
        choices = asked.choices(i)
        metadata: dict[str, Any] = {
            "truth": {
                "answer": choices[int(asked.answer[i])],
                "pose": [*true.translation, *true.rotation],
            },
            "oracle": {kind: _in_words(words[i]) for kind, words in oracle.items()},
            "room": seeds[i],
            "form": str(form),
        }
        if isinstance(form, int):
            metadata["hops"] = form
        problems[seeds[i]] = Problem(
            task=task,
            images=tuple(images[i]),
            question=asked.text(i),
            choices=choices,
            intrinsics=camera.double().numpy(),
            metadata=metadata,
        )
    return problems


def _in_words(ids: list[int]) -> str:
    from nano_omni.captions import plain
    from nano_omni.vocabulary import TOKENS

    return " ".join(TOKENS[word] for word in plain(ids))


def _check_sides(width: int, height: int) -> None:
    least, most = SIDES
    if not (least <= width <= most and least <= height <= most):
        raise ProblemError(f"a picture of {width} x {height}: sides are {least} to {most} pixels")


@contextmanager
def one_thread() -> Generator[None]:
    """Where other programs are busy, torch's threads wait for each other at every small step, and a picture
    that takes two seconds can take forty."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
