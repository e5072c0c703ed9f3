"""Scores of drawn pictures, by the verifier of the embedded world: how much of its prompt a picture meets.

`generation` is TIFA-GM as GenEval 2 defines it (Kamath et al., 2025, there called Soft-TIFA GM): a prompt's
constraints are asked of the picture one by one, and the geometric mean of the probabilities of the right
answers is the prompt's score; the verifier's probabilities stand where a language model's would.
`whole_prompt` is stricter and simpler: 1 where everything asked for is there and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from primitives.backends.nano import weights as files
from primitives.backends.nano.prompt_set import composition_of
from primitives.backends.nano.rooms import one_thread
from unroller.arrays import to_numpy
from unroller.faults import ContractError, ProblemError
from unroller.problem import Problem
from unroller.scorers import with_parts
from unroller.values import Image, NovelViews

SKILLS = ("object", "attribute", "count", "position")
KEPT, WITHIN = "kept", 8
"""The part of `editing`, and how much of 255 a pixel that was kept may differ."""
PRECISION, NEAR = "precision", 12.0
"""The part of `view_objects`, and how many degrees an object may be from where it should be."""
PARTS = (*SKILLS, "whole prompt", "no extras")


def about() -> str:
    """How often the verifier itself is right."""
    from nano_omni.verifier import measured

    held = measured()
    wrong, redrawn = held["wrong"], held.get("right, through the autoencoder")
    least = min(wrong, key=lambda name: wrong[name]["share"])
    words = f"The verifier passes {_percent(held['right'])} of true renders"
    if redrawn is not None:
        words += f", {_percent(redrawn)} of them through the autoencoder,"
    words += f" and refuses {_percent(held['wrong, all'])} of those with one thing wrong"
    if wrong[least]["share"] < 100:
        words += f" (least: {least}, {_percent(wrong[least])})"
    return words


@with_parts(*PARTS, about=about)
def generation(problem: Problem, output: Any) -> dict[str, float | None]:
    """TIFA-GM: the geometric mean of the probabilities of the prompt's atoms.

    Parts: the arithmetic mean of those probabilities over its atoms of each skill; whether the whole prompt
    is met, and whether nothing else is shown, each yes or no. Truth: `metadata["truth"]["composition"]`, or
    else the prompt itself, if it is one of the grammar. Raises ProblemError where there is neither,
    ContractError for what is no square picture.
    """
    asked = asked_of(problem)
    if output is None:
        return _scored(asked, [0.0] * len(asked.atoms()), 0.0, False, False)
    verdict, sure = _judged(output, asked)
    mean = math.exp(sum(math.log(max(p, 1e-12)) for p in sure) / len(sure))
    return _scored(asked, sure, mean, verdict.success, not verdict.extras)


@with_parts(*PARTS, about=about)
def whole_prompt(problem: Problem, output: Any) -> dict[str, float | None]:
    """1 where the picture meets every atom of its prompt and shows nothing else, else 0.

    Parts: the share of its atoms of each skill that are met, yes or no each, and the last two of
    `generation`. Truth and errors as there.
    """
    asked = asked_of(problem)
    if output is None:
        return _scored(asked, [0.0] * len(asked.atoms()), 0.0, False, False)
    verdict, _ = _judged(output, asked)
    holds = [float(one) for one in verdict.holds]
    return _scored(asked, holds, float(verdict.success), verdict.success, not verdict.extras)


@with_parts(KEPT, about=about)
def editing(problem: Problem, output: Any) -> dict[str, float | None]:
    """1 where the changed picture shows what it must and nothing else, by the verifier, else 0.

    Part: the share of pixels that differ by WITHIN at most on each channel, of those that show the changed
    object in neither true picture. Truth: `metadata["truth"]["composition"]` and, for that part, the pixels
    left out, `["changed"]`, counted row by row. Raises as `generation` does.
    """
    asked = asked_of(problem)
    if output is None:
        return {"score": 0.0, KEPT: 0.0}
    verdict, _ = _judged(output, asked)
    return {"score": float(verdict.success), KEPT: _kept(problem, output)}


@with_parts(PRECISION, about="Recall of the objects that the verifier of drawn rooms finds in the true views")
def view_objects(problem: Problem, output: Any) -> dict[str, float]:
    """The share of the objects of the true views that the drawn ones show: of the same kind, NEAR degrees at
    most from where they should be; 1 where there are none. Part: the share of what is drawn that is there;
    where nothing is drawn 0, and 1 if nothing is there.

    Truth: `metadata["truth"]["views"]`. What both show is told by the verifier. Raises ProblemError where
    there is no truth, ContractError for what is no views, or not as many as the true ones.
    """
    truth = problem.metadata.get("truth")
    true = truth.get("views") if isinstance(truth, Mapping) else None
    if true is None:
        raise ProblemError(f'{problem!r:.300} has no true views: put them into metadata["truth"]["views"]')
    there = _seen(np.asarray(true, dtype=np.uint8))
    if output is None:
        return {"score": 0.0, PRECISION: 0.0}
    if not isinstance(output, NovelViews):
        raise ContractError(f"this scores views, and this output is a {type(output).__name__}")
    drawn = _seen(to_numpy(output.views))
    if len(drawn) != len(there):
        raise ContractError(f"{len(drawn)} views were drawn, and {len(there)} are true")
    met = sum(_matched(*pair) for pair in zip(there, drawn, strict=True))
    count, shown = (sum(map(len, some)) for some in (there, drawn))
    return {
        "score": met / count if count else 1.0,
        PRECISION: met / shown if shown else float(not count),
    }


def _seen(views: Any) -> list[list[Any]]:
    """What the verifier finds in each of (V, H, W, 3)."""
    pictures = pictures_of([Image(view) for view in views])
    with one_thread():
        return files.verifier().look(pictures)


def _matched(there: Sequence[Any], drawn: Sequence[Any]) -> int:
    """How many objects are found again, the nearest first, each once."""
    apart = sorted(
        (abs(a.bearing - b.bearing), i, j)
        for i, a in enumerate(there)
        for j, b in enumerate(drawn)
        if a.kind == b.kind
    )
    own: set[int] = set()
    theirs: set[int] = set()
    for angle, i, j in apart:
        if angle <= math.radians(NEAR) and i not in own and j not in theirs:
            own.add(i)
            theirs.add(j)
    return len(own)


def _kept(problem: Problem, output: Any) -> float | None:
    truth = problem.metadata.get("truth")
    left_out = truth.get("changed") if isinstance(truth, Mapping) else None
    if left_out is None:
        return None
    before, after = (to_numpy(one.pixels).astype(int) for one in (problem.images[0], output))
    if before.shape != after.shape:
        raise ContractError(f"a picture of {before.shape} became one of {after.shape}: give it back as large")
    counts = np.ones(before.shape[:2], bool).reshape(-1)
    try:
        counts[np.asarray(left_out, dtype=int)] = False
    except (IndexError, ValueError, TypeError):
        raise ProblemError('metadata["truth"]["changed"] holds no pixels of this picture') from None
    same = (np.abs(before - after).max(-1) <= WITHIN).reshape(-1)
    return float(same[counts].mean()) if counts.any() else None


def asked_of(problem: Problem) -> Any:
    """What the problem asks for, a composition of `nano_omni.world.prompts`. Raises ProblemError."""
    from nano_omni.world.prompts import PromptError, parse

    truth = problem.metadata.get("truth")
    held = truth.get("composition") if isinstance(truth, Mapping) else None
    if held is not None:
        return composition_of(held)
    try:
        return parse(problem.prompt or "")
    except PromptError as error:
        raise ProblemError(
            f'{problem!r:.300} says nowhere what a right picture shows: put it into metadata["truth"]'
            f'["composition"], or write a prompt of the grammar ({error})'
        ) from None


def pictures_of(outputs: Sequence[Any]) -> Any:
    """Pictures as the verifier takes them, a tensor (N, 3, 64, 64) uint8. Raises ContractError for what is no
    square picture of 64 pixels a side or more."""
    import torch
    import torch.nn.functional as F

    from nano_omni.verifier import SIDE

    pictures: list[Any] = []
    for output in outputs:
        if not isinstance(output, Image):
            raise ContractError(f"this scores pictures, and this output is a {type(output).__name__}")
        pixels = np.ascontiguousarray(to_numpy(output.pixels))
        height, width = pixels.shape[:2]
        if height != width or width < SIDE:
            raise ContractError(
                f"a picture of {width} x {height}: the verifier looks at square ones of {SIDE} pixels or more"
            )
        one = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        if width != SIDE:
            smaller = F.interpolate(one[None].float(), (SIDE, SIDE), mode="area")[0]
            one = smaller.round().clamp(0, 255).to(torch.uint8)
        pictures.append(one)
    return torch.stack(pictures)


def _scored(
    asked: Any, sure: Sequence[float], score: float, whole: bool, alone: bool
) -> dict[str, float | None]:
    """sure: a number of each atom, whose mean by skill is a part."""
    parts: dict[str, float | None] = {}
    for skill in SKILLS:
        of = [p for atom, p in zip(asked.atoms(), sure, strict=True) if atom.skill == skill]
        parts[skill] = sum(of) / len(of) if of else None
    return {"score": score, **parts, "whole prompt": float(whole), "no extras": float(alone)}


def _judged(output: Any, asked: Any) -> tuple[Any, tuple[float, ...]]:
    """The verdict on a picture, and the chances of the atoms."""
    pictures = pictures_of([output])
    with one_thread():
        return files.verifier().judged(pictures, [asked])[0]


def _percent(share: dict[str, Any]) -> str:
    return f"{share['share']:.1f} % [{share['low']:.1f}, {share['high']:.1f}] (n = {share['n']:,})"
