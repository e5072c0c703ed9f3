"""How often the verifier is right: its errors on test renders.

Both kinds of error are counted. Renders that show their prompt must pass; renders in which one thing is wrong
must not: an object in another colour or shape, one taken away, one too many, a relation turned round, the
picture of another prompt.

`python -m nano_omni.training.verifying` counts them anew for the verifier that comes along.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from ..data import split_seeds
from ..verifier import FILE, SIDE, Verifier, load
from ..world.camera import intrinsics
from ..world.prompts import MOST, Composition, Found, Group, Staged, Verdict, draw, judge, stage
from ..world.randomness import uniform
from ..world.render import render, to_uint8
from ..world.scene import COLOURS, SHAPES, furnish
from .spoiling import redrawing, spoil

Wrong = Literal["another prompt", "recoloured", "reshaped", "taken away", "one too many", "turned round"]
_TURNED = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}
BATCH = 400  # pictures drawn at a time


@dataclass(frozen=True)
class Shown:
    """Pictures (N, 3, SIDE, SIDE) uint8 that were made for prompts, and what they truly show."""

    compositions: list[Composition]
    pictures: Tensor
    found: list[list[Found]]

    @property
    def verdicts(self) -> list[Verdict]:
        return [judge(c, found) for c, found in zip(self.compositions, self.found, strict=True)]


@torch.no_grad()
def shown(
    split: str, start: int, count: int, wrong: Wrong | None = None, texture: str = "bare", most: int = 4
) -> Shown:
    """Pictures for the prompts of `count` seeds with up to `most` objects, right or wrong in one way; those
    that cannot be so wrong, or whose objects found no place, are left out."""
    seeds = split_seeds(split, start, count)
    asked = draw(seeds, most)
    staged, kept = _staged(asked, seeds, wrong, texture)
    views = render(staged.scene, staged.c2w, intrinsics(SIDE, SIDE), SIDE, SIDE)
    pictures = to_uint8(views.images[:, 0]).permute(0, 3, 1, 2)
    chosen = kept.nonzero()[:, 0].tolist()
    return Shown([asked[i] for i in chosen], pictures[kept].contiguous(), [staged.found(i) for i in chosen])


def _staged(
    asked: list[Composition], seeds: Tensor, wrong: Wrong | None, texture: str
) -> tuple[Staged, Tensor]:
    """Rooms for the prompts, and which of them are as wanted (B,)."""
    lots = (uniform(seeds, "verifying.lot", 1)[:, 0] * 997).long().tolist()
    other = asked
    if wrong == "another prompt":
        other = [*asked[1:], asked[0]]
    elif wrong == "one too many":
        other = [_more(c, lot) for c, lot in zip(asked, lots, strict=True)]
    elif wrong == "turned round":
        other = [_turned(c, lot) for c, lot in zip(asked, lots, strict=True)]
    staged = stage(other, seeds, texture)
    if wrong in ("recoloured", "reshaped", "taken away"):
        staged = _changed(staged, lots, wrong)
    kept = staged.valid
    if wrong is not None:
        verdicts = [judge(c, staged.found(i)) for i, c in enumerate(asked)]
        kept = kept & torch.tensor([not verdict.success for verdict in verdicts])
    return staged, kept


def _more(composition: Composition, lot: int) -> Composition:
    """With one object more, of a group's kind or of a kind of its own; as it is, where the room is full."""
    groups = list(composition.groups)
    if sum(group.count for group in groups) == MOST:
        return composition
    k = lot % (len(groups) + 1)
    if k < len(groups):
        groups[k] = Group(groups[k].count + 1, groups[k].kind)
    else:
        free = [kind for kind in range(len(COLOURS) * len(SHAPES)) if kind not in {g.kind for g in groups}]
        groups.append(Group(1, free[lot % len(free)]))
    return Composition(tuple(groups), composition.relations)


def _turned(composition: Composition, lot: int) -> Composition:
    """With one relation the other way round; as it is, where there is none."""
    relations = list(composition.relations)
    if relations:
        a, relation, b = relations[lot % len(relations)]
        relations[lot % len(relations)] = (a, _TURNED[relation], b)
    return Composition(composition.groups, tuple(relations))


def _changed(staged: Staged, lots: Sequence[int], wrong: Wrong) -> Staged:
    """With one object in another colour or shape, or without it; all else stays where it is."""
    scene = staged.scene
    present, colour, shape = scene.present.clone(), scene.colour.clone(), scene.shape.clone()
    for i, lot in enumerate(lots):
        k = lot % int(present[i].sum())
        if wrong == "taken away":
            present[i, k] = False
        elif wrong == "recoloured":
            colour[i, k] = (colour[i, k] + 1 + lot // MOST % (len(COLOURS) - 1)) % len(COLOURS)
        else:
            shape[i, k] = (shape[i, k] + 1 + lot // MOST % (len(SHAPES) - 1)) % len(SHAPES)
    kind = colour * len(SHAPES) + shape
    return replace(staged, scene=furnish(scene, present, kind, scene.radius, scene.position))


def measure(judge_: Verifier, count: int = 3000, redrawn: Callable[[Tensor], Tensor] | None = None) -> dict:
    """On test renders, in bare paint and of up to four objects where nothing else is said: shares of pictures
    judged rightly, in percent, with 95 % intervals (Wilson). `right`: shown as asked, and said so; `wrong`:
    one thing wrong, and said so; `exact`: every atom and the number of extras as they are. redrawn: see
    `training.verifier.train`."""
    clean = _all("test", count)
    said, sure = _judged(judge_, clean)
    right = [verdict.success for verdict in said]
    sizes = [sum(group.count for group in c.groups) for c in clean.compositions]
    report = {
        "right": share(right),
        "right, by number of objects": {
            str(n): share([one for one, size in zip(right, sizes, strict=True) if size == n])
            for n in sorted(set(sizes))
        },
        "atoms": _atoms(clean.compositions, said, clean.verdicts),
        "no extras seen": share([not verdict.extras for verdict in said]),
        "right, up to six objects": _passed(judge_, _all("test", count // 2, most=MOST)),
        "right, plain paint": _passed(judge_, _all("test", count // 2, texture="plain")),
        "right, plain paint, up to six objects": _passed(
            judge_, _all("test", count // 2, texture="plain", most=MOST)
        ),
    }
    generator = torch.Generator().manual_seed(1)
    changes: dict[str, Callable[[Tensor], Tensor]] = {"spoiled": lambda pictures: spoil(pictures, generator)}
    if redrawn is not None:
        changes["through the autoencoder"] = redrawn
    for name, change in changes.items():
        report[f"right, {name}"] = _passed(judge_, _after(clean, change))
    report["TIFA-GM, right"] = _tifa(sure)
    refused: dict[str, list[bool]] = {}
    redrawn_refused: list[bool] = []
    report["wrong"], report["wrong, exact"], report["TIFA-GM, wrong"] = {}, {}, {}
    for wrong in get_args(Wrong):
        some = _all("test", count // 3, wrong)
        verdicts, sure = _judged(judge_, some)
        refused[wrong] = [not verdict.success for verdict in verdicts]
        report["wrong"][wrong] = share(refused[wrong])
        exact = [a == b for a, b in zip(verdicts, some.verdicts, strict=True)]
        report["wrong, exact"][wrong] = share(exact)
        report["TIFA-GM, wrong"][wrong] = _tifa(sure)
        if redrawn is not None:
            again = _after(some, redrawn)
            redrawn_refused += [
                not verdict.success for verdict in judge_.verdicts(again.pictures, again.compositions)
            ]
    report["wrong, all"] = share([one for some in refused.values() for one in some])
    if redrawn is not None:
        report["wrong, all, through the autoencoder"] = share(redrawn_refused)
    return report | {"limits": {name: round(value, 4) for name, value in vars(judge_.limits).items()}}


def _passed(judge_: Verifier, some: Shown) -> dict[str, float | int]:
    return share([verdict.success for verdict in judge_.verdicts(some.pictures, some.compositions)])


def _after(some: Shown, change: Callable[[Tensor], Tensor]) -> Shown:
    """With other pictures: of floats (N, 3, SIDE, SIDE) in 0..1, as many floats."""
    parts = [(change(part.float() / 255) * 255).round() for part in some.pictures.split(BATCH)]
    return replace(some, pictures=torch.cat(parts).to(torch.uint8))


def _all(split: str, count: int, wrong: Wrong | None = None, **how) -> Shown:
    """Drawn BATCH at a time; how: see `shown`."""
    parts = [shown(split, at, min(BATCH, count - at), wrong, **how) for at in range(0, count, BATCH)]
    return Shown(
        [c for part in parts for c in part.compositions],
        torch.cat([part.pictures for part in parts]),
        [one for part in parts for one in part.found],
    )


def _judged(judge_: Verifier, some: Shown) -> tuple[list[Verdict], list[tuple[float, ...]]]:
    both = judge_.judged(some.pictures, some.compositions)
    return [verdict for verdict, _ in both], [sure for _, sure in both]


def _tifa(sure: Sequence[Sequence[float]]) -> float:
    """100 x the mean over pictures of the geometric mean of the probabilities of their atoms."""
    means = [math.exp(sum(math.log(max(p, 1e-12)) for p in each) / len(each)) for each in sure]
    return round(100 * sum(means) / len(means), 2)


def _atoms(asked: Sequence[Composition], said: Sequence[Verdict], true: Sequence[Verdict]) -> dict[str, dict]:
    """Shares of atoms judged rightly, by skill."""
    agreed: dict[str, list[bool]] = {}
    for c, one, other in zip(asked, said, true, strict=True):
        for atom, a, b in zip(c.atoms(), one.holds, other.holds, strict=True):
            agreed.setdefault(atom.skill, []).append(a == b)
    return {skill: share(some) for skill, some in agreed.items()}


def share(of: Sequence[bool]) -> dict[str, float | int]:
    """In percent, with its 95 % interval (Wilson, 1927)."""
    n, z = len(of), 1.96
    if not n:
        return {"n": 0}
    p = sum(of) / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {
        "share": round(100 * p, 2),
        "low": round(100 * (middle - half), 2),
        "high": round(100 * (middle + half), 2),
        "n": n,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, default=FILE)
    parser.add_argument("--pictures", type=int, default=3000)
    parser.add_argument("--redraw", action="store_true", help="also measure through the autoencoder")
    asked = parser.parse_args(arguments)
    file = asked.weights.with_suffix(".json")
    before = json.loads(file.read_text()) if file.is_file() else {}
    report = measure(load(asked.weights), asked.pictures, redrawing() if asked.redraw else None)
    report |= {name: before[name] for name in ("training", "parameters") if name in before}
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
