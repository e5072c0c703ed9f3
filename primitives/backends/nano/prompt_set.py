"""Prompts for pictures of rooms as problems: what is to be drawn, and what a true picture of it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from primitives.backends.nano.rooms import one_thread
from unroller.faults import ProblemError
from unroller.problem import Problem

PROMPTS = 1 << 14
"""How many prompts there are: of the test split, which nothing of ours was trained on."""
TRIES = 1 << 10  # rooms looked at for each number
ROWS: Mapping[str, Sequence[str]] = {
    "direct": (),
    "short": ("text_think",),
    "long": ("text_think_long",),
    "visual": ("visual_token_rollout",),
    "short + visual": ("text_think", "visual_token_rollout"),
    "long + visual": ("text_think_long", "visual_token_rollout"),
    "oracle": ("oracle_text",),
    "oracle + visual": ("oracle_text", "visual_token_rollout"),
}
"""The rows of the paper's Table 2."""


def prompts(
    seed: int, task: str = "generation", objects: int = 4, atoms: int = 0, texture: str = "bare"
) -> Problem:
    """What prompt number `seed` asks for: "two red cones left of a blue box, and a green sphere".

    Up to `objects` objects in all, of up to three kinds; `atoms`: prompts with just so many constraints (0:
    however many), of 3, 6, 7, 9, 10 and 11. The metadata holds the composition as plain data, a true layout
    (name, bearing in radians to the right, distance in metres) and its visual tokens, under "truth"; what an
    oracle would think, under "oracle"; and the number of atoms. A few prompts whose objects find no place in
    their room are passed over. `texture`: of the true room, by default in bare paint, as the embedded model
    draws them.
    Raises ProblemError for a number, a task, or a number of objects or atoms that there is no prompt for.
    """
    return many([seed], task, objects, atoms, texture)[0]


def many(
    seeds: Sequence[int],
    task: str = "generation",
    objects: int = 4,
    atoms: int = 0,
    texture: str = "bare",
) -> list[Problem]:
    """Many prompts, drawn together: see `prompts`."""
    _check(seeds, task, objects, atoms, texture)
    found: dict[int, Problem] = {}
    with one_thread():
        for attempt in range(TRIES):
            missing = [seed for seed in dict.fromkeys(seeds) if seed not in found]
            for at in range(0, len(missing), 256):
                found.update(_drawn(missing[at : at + 256], attempt, task, objects, atoms, texture))
            if len(missing) == 0:
                break
    lost = next((seed for seed in seeds if seed not in found), None)
    if lost is not None:
        raise ProblemError(f"no prompt of number {lost} has {atoms} atoms: choose another number")
    return [found[seed] for seed in seeds]


prompts.many = many  # type: ignore[attr-defined]  # for whoever wants hundreds: drawing them alone is slow
prompts.tasks = ("generation",)  # type: ignore[attr-defined]
prompts.rows = ROWS  # type: ignore[attr-defined]
prompts.column = "atoms"  # type: ignore[attr-defined]


def _check(seeds: Sequence[int], task: str, objects: int, atoms: int, texture: str) -> None:
    from nano_omni.world.prompts import MOST
    from nano_omni.world.scene import TEXTURES

    wrong = next((seed for seed in seeds if not 0 <= seed < PROMPTS), None)
    if wrong is not None:
        raise ProblemError(f"there is no prompt {wrong}: they are numbered 0 to {PROMPTS - 1}")
    if task != "generation":
        raise ProblemError(f"prompts are for the task generation, not {task}: take another problem set")
    if not isinstance(objects, int) or not 1 <= objects <= MOST:
        raise ProblemError(f"objects={objects!r}: choose 1 to {MOST} objects, the most that prompts ask for")
    least = {3: 1, 6: 2, 7: 2, 9: 3, 10: 3, 11: 3}
    if atoms and (atoms not in least or least[atoms] > objects):
        known = ", ".join(str(n) for n, needed in least.items() if needed <= objects)
        raise ProblemError(f"atoms={atoms!r}: with up to {objects} objects prompts have {known} (0: any)")
    if texture not in TEXTURES:
        raise ProblemError(f"there is no texture called {texture!r}: choose among {', '.join(TEXTURES)}")


def _drawn(
    numbers: list[int], attempt: int, task: str, objects: int, atoms: int, texture: str
) -> dict[int, Problem]:
    """The problems of those numbers whose prompt of this attempt fits and can be laid out."""
    import torch

    from nano_omni.data import split_seeds
    from nano_omni.visual import codebook
    from nano_omni.world.camera import intrinsics
    from nano_omni.world.prompts import draw, stage, write
    from nano_omni.world.render import render
    from nano_omni.world.scene import SHAPES

    first = split_seeds("test", 0, 1)
    every = first + torch.tensor([number * TRIES + attempt for number in numbers])
    asked = draw(every, objects)
    fitting = [i for i, one in enumerate(asked) if atoms in (0, len(one.atoms()))]
    if not fitting:
        return {}
    seeds, wanted = every[fitting], [asked[i] for i in fitting]
    staged = stage(wanted, seeds, texture)
    views = render(staged.scene, staged.c2w, intrinsics(64, 64), 64, 64)
    kinds = staged.scene.colour * len(SHAPES) + staged.scene.shape
    tokens = codebook().tokens(views.images[:, 0].permute(0, 3, 1, 2), views.ids[:, 0], kinds).tolist()
    problems: dict[int, Problem] = {}
    for i, (one, valid) in enumerate(zip(wanted, staged.valid.tolist(), strict=True)):
        if not valid:
            continue
        order = {group.kind: k for k, group in enumerate(one.groups)}
        layout = sorted(staged.found(i), key=lambda found: (order[found.kind], found.bearing))
        number = numbers[fitting[i]]
        truth = {"composition": as_data(one), "layout": _layout(layout), "visual_tokens": tokens[i]}
        problems[number] = Problem(
            task=task,
            prompt=write(one),
            metadata={
                "truth": truth,
                "oracle": {"think": in_words(layout)},
                "number": number,
                "atoms": len(one.atoms()),
            },
        )
    return problems


def as_data(composition: Any) -> dict[str, Any]:
    """A composition as JSON holds it."""
    groups = [{"count": g.count, "colour": g.colour, "shape": g.shape} for g in composition.groups]
    return {"groups": groups, "relations": [list(relation) for relation in composition.relations]}


def composition_of(data: Any) -> Any:
    """`as_data` turned round. Raises ProblemError for what is no composition."""
    from nano_omni.world.prompts import RELATIONS, Composition, Group
    from nano_omni.world.scene import COLOURS, SHAPES

    try:
        groups = tuple(
            Group(int(g["count"]), list(COLOURS).index(g["colour"]) * len(SHAPES) + SHAPES.index(g["shape"]))
            for g in data["groups"]
        )
        relations = tuple((int(a), str(relation), int(b)) for a, relation, b in data["relations"])
        for a, relation, b in relations:
            if relation not in RELATIONS or not (0 <= a < len(groups) and 0 <= b < len(groups)):
                raise ValueError(f"there is no relation {a} {relation} {b}")
        return Composition(groups, relations)
    except (KeyError, TypeError, ValueError) as error:
        raise ProblemError(f"{data!r:.200} is no composition ({error})") from None


def _layout(objects: Sequence[Any]) -> list[dict[str, Any]]:
    from nano_omni.world.questions.drawing import name

    return [
        {"name": name(one.kind), "bearing": round(one.bearing, 4), "distance": round(one.distance, 3)}
        for one in objects
    ]


def in_words(objects: Sequence[Any]) -> str:
    """Where each object is to stand: "red cone 345deg 2.5m blue box 15deg 2m"."""
    import torch

    from nano_omni.vocabulary import OBJECT_0, TOKENS, direction, distance, nearest

    bearings = nearest(direction(torch.tensor([one.bearing for one in objects]))).tolist()
    distances = nearest(distance(torch.tensor([one.distance for one in objects]))).tolist()
    words = zip((OBJECT_0 + one.kind for one in objects), bearings, distances, strict=True)
    return " ".join(TOKENS[word] for each in words for word in each)
