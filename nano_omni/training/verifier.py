"""Train the verifier: `python -m nano_omni.training.verifier` (half an hour on one core).

Pictures are true renders: rooms that show prompts, with one to six objects, and ordinary rooms, in plain and
bare paint; a part of them spoiled a little (blurred, noisy, another light, through the autoencoder), so that
what is drawn nearly right is read right. The detector is trained here, its closer look in `closer`. Then
thresholds are set on validation renders, and both kinds of error are counted on test renders. Writes
`nano_omni/verifier.safetensors`, verifier.json with what was measured, and verifier.csv, the losses on the
way.
"""

import argparse
import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import split_seeds
from ..verifier import BEARING, CELL, CELLS, DISTANCE, FILE, SIDE, Detector, Maps, Verifier, load
from ..world import camera, prompts
from ..world.render import render
from ..world.scene import Scene, sample_scenes
from ..world.sight import angle, level_frame, visibility
from ..world.viewpoints import aimed
from .closer import train_outline
from .descent import Say, descend
from .muon import Muon
from .spoiling import redrawing, spoil

LEAST_SEEN = 6 / SIDE**2  # of the picture; what shows less is neither asked for nor punished
STAGED = 7 / 8  # of the pictures; the others are ordinary rooms
FIRST = 1 << 54  # of the training rooms: nothing else comes to those
AROUND = 0.1  # what a cell next to a middle counts


@dataclass(frozen=True)
class Labels:
    """pictures (N, 3, SIDE, SIDE) in 0..1, and of each cell (N, C, C): middle, 1 where one is, 0 where none
    is; weight, what that counts; near, whether an object's middle is here or next to it; colour, shape,
    bearing and log of the distance of that one."""

    pictures: Tensor
    middle: Tensor
    weight: Tensor
    near: Tensor
    colour: Tensor
    shape: Tensor
    bearing: Tensor
    log_distance: Tensor

    def __getitem__(self, index: Tensor) -> "Labels":
        return Labels(**{name: value[index] for name, value in vars(self).items()})


def join(parts: list[Labels]) -> Labels:
    return Labels(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@torch.no_grad()
def label(scene: Scene, c2w: Tensor, compiled: bool = False) -> Labels:
    """One picture of each room, c2w (B, 1, 4, 4), and what is where in it."""
    lens = camera.intrinsics(SIDE, SIDE)
    views = render(scene, c2w, lens, SIDE, SIDE, compiled=compiled)
    spots = level_frame(c2w, scene.position)[:, 0]  # (B, K, 2)
    body = torch.cat([scene.position, scene.height[..., None] / 2], dim=-1)
    pixel, depth = camera.project(camera.transform(camera.inverse(c2w[:, 0]), body), lens)  # (B, K, 2)
    cell = (pixel / CELL).floor().long()
    inside = ((cell >= 0) & (cell < CELLS)).all(-1) & (depth > 0.2) & scene.present
    seen = inside & (visibility(views.ids)[:, 0] >= LEAST_SEEN)
    rows, columns = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    away = (
        torch.stack([columns, rows], -1)[None, None] + 0.5 - pixel[:, :, None, None] / CELL
    )  # (B, K, C, C, 2)
    step = (
        (torch.stack([columns, rows], -1)[None, None] - cell[:, :, None, None]).abs().amax(-1)
    )  # (B, K, C, C)
    hit = (step == 0) & seen[..., None, None]
    close = (step <= 1) & seen[..., None, None]
    unknown = ((step <= 2) & (scene.present & ~seen & (depth > 0))[..., None, None]).any(1)
    whose = away.square().sum(-1).masked_fill(~close, torch.inf).argmin(1)  # (B, C, C)
    middle, near = hit.any(1), close.any(1)
    weight = torch.where(near, AROUND, 1.0)
    weight = torch.where(middle, 1.0, torch.where(unknown & ~near, 0.0, weight))

    def theirs(values: Tensor) -> Tensor:
        return values[:, :, None, None].expand(-1, -1, CELLS, CELLS).gather(1, whose[:, None])[:, 0]

    return Labels(
        views.images[:, 0].permute(0, 3, 1, 2).contiguous(),
        *(middle.float(), weight, near, theirs(scene.colour), theirs(scene.shape)),
        *(theirs(angle(spots)), theirs(spots.norm(dim=-1).clamp(min=0.1).log())),
    )


def draw(start: int, count: int, compiled: bool = False) -> Labels:
    """`count` training pictures from number `start` on."""
    seeds = split_seeds("train", FIRST + start, count)
    texture = "bare" if (start // count) % 3 == 0 else "plain"
    staged, ordinary = seeds.split([int(STAGED * count), count - int(STAGED * count)])
    few, many = staged.chunk(2)
    shown = prompts.stage([*prompts.draw(few), *prompts.draw(many, prompts.MOST)], staged, texture)
    room = sample_scenes(ordinary, texture)
    return join([label(shown.scene, shown.c2w, compiled), label(room, aimed(room, 1), compiled)])


def batches(batch: int, several: int = 512, compiled: bool = False, start: int = 0) -> Iterator[Labels]:
    """For ever, none twice; `several` are drawn at a time."""
    while True:
        drawn = draw(start, several, compiled)
        start += several
        order = torch.randperm(several, generator=torch.Generator().manual_seed(start))
        yield from (drawn[chosen] for chosen in order.split(batch))


def losses(maps: Maps, true: Labels) -> dict[str, Tensor]:
    """What is wrong with each answer, by name."""
    there = F.binary_cross_entropy_with_logits(maps.middle, true.middle, true.weight, reduction="sum")
    counts = true.near * torch.where(true.middle > 0, 1.0, 0.3)
    objects = true.middle.sum().clamp(min=1)

    def each(wrong: Tensor) -> Tensor:
        return (wrong * counts).sum() / counts.sum().clamp(min=1)

    return {
        "there": there / objects,
        "colour": each(F.cross_entropy(maps.colour, true.colour, reduction="none")),
        "shape": each(F.cross_entropy(maps.shape, true.shape, reduction="none")),
        "bearing": each(
            F.smooth_l1_loss(maps.bearing / BEARING, true.bearing / BEARING, reduction="none", beta=0.1)
        ),
        "distance": each(
            F.smooth_l1_loss(
                maps.log_distance / DISTANCE, true.log_distance / DISTANCE, reduction="none", beta=0.1
            )
        ),
    }


def train(
    steps: int,
    batch: int,
    seed: int = 0,
    compiled: bool = True,
    redrawn: Callable[[Tensor], Tensor] | None = None,
    say: Say = print,
    several: int = 512,
    every: int = 50,
) -> tuple[Detector, list[dict[str, float]]]:
    """A detector, and its losses `every` so many steps. redrawn: pictures (N, 3, SIDE, SIDE) in 0..1 as
    somebody else draws them again, an autoencoder's; several: pictures that are drawn at a time."""
    torch.manual_seed(seed)
    detector = Detector().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    source = batches(batch, several, compiled)
    generator = torch.Generator().manual_seed(seed)

    def wrong() -> dict[str, Tensor]:
        true = next(source)
        pictures = spoil(true.pictures, generator, redrawn)
        return losses(detector(pictures.contiguous(memory_format=torch.channels_last)), true)

    inner, rest = [], []
    for name, p in detector.named_parameters():
        (inner if p.dim() > 1 and not name.startswith(("enter", "leave")) else rest).append(p)
    optimizers = Muon(inner, lr=0.01), torch.optim.AdamW(rest, lr=3e-3, weight_decay=0.0)
    return detector.eval(), descend(optimizers, wrong, steps, say, every)


def main(arguments: list[str] | None = None) -> None:
    from .limits import set_limits
    from .verifying import measure

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1800, help="of the detector")
    parser.add_argument("--closer-steps", type=int, default=4000, help="of its closer look")
    parser.add_argument("--closer-seconds", type=float, default=math.inf, help="of it, at most")
    parser.add_argument("--closer-only", action="store_true", help="the detector of --out, and a new look")
    parser.add_argument("--batch", type=int, default=48, help="pictures a step of the detector")
    parser.add_argument("--closer-batch", type=int, default=96, help="objects a step of its closer look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--redraw", action="store_true", help="show some pictures through the autoencoder")
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args(arguments)
    if min(asked.steps, asked.closer_steps, asked.batch, asked.closer_batch, asked.closer_seconds) <= 0:
        parser.error("steps, batches and seconds must be above 0")

    def say(line: str) -> None:
        print(line, flush=True)

    redrawn = redrawing() if asked.redraw else None
    how = {"seed": asked.seed, "compiled": not asked.eager, "redrawn": redrawn, "say": say}
    curves = asked.out.with_suffix(".csv")
    if asked.closer_only:
        detector = load(asked.out).detector
        with open(curves, newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["net"] == "detector"]
    else:
        detector, curve = train(asked.steps, asked.batch, **how)
        lines = [{"net": "detector", **line} for line in curve]
        Verifier(detector).save(asked.out)
    outline, curve = train_outline(
        asked.closer_steps, asked.closer_batch, seconds=asked.closer_seconds, **how
    )
    lines += [{"net": "closer look", **line} for line in curve]
    with open(curves, "w", newline="") as file:
        table = csv.DictWriter(file, list(lines[0]), restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    judge = Verifier(detector, outline)
    judge.limits = set_limits(judge)
    judge.save(asked.out)
    report = measure(judge, redrawn=redrawn)
    report["training"] = {name: getattr(asked, name) for name in ("steps", "batch", "closer_batch", "seed")}
    report["training"]["closer_steps"] = curve[-1]["step"]
    report["parameters"] = sum(p.numel() for net in (detector, outline) for p in net.parameters())
    asked.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    say(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
