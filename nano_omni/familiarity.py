"""Does the model know what it looks at? Photos unlike its rooms, and objects that are not in them.

Two thresholds, measured on held-out rooms and kept beside the weights:

- *strange*: the Mahalanobis distance of a photo's mean patch feature from those of rooms (Lee et al., "A
  Simple Unified Framework for Detecting Out-of-Distribution Samples", 2018, with one class). The threshold
  lets 99.9 % of held-out photos pass.
- *seen*: the highest probability, over all patches of both photos, that a patch is a given object. The
  threshold lets 99.5 % of the objects pass that can be seen well enough to be asked about.

`python -m nano_omni.familiarity --weights DIR` fits them and measures what they catch on photos of other
kinds: noise, plain colours, gradients, richly textured rooms, rooms through another lens.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .data import rooms, split_seeds
from .model import NanoOmni
from .model import load as load_model
from .nodes import Look
from .reader import Reader
from .world.camera import intrinsics
from .world.questions.chains import chain
from .world.render import render, to_uint8
from .world.scene import sample_scenes
from .world.sight import sight, viewpoints

FILE, MEASURED = "familiarity.safetensors", "familiarity.json"
PASS_PHOTOS, PASS_OBJECTS = 0.999, 0.995
BATCH = 256


@dataclass(frozen=True, eq=False)
class Familiarity:
    """mean (d,) and precision (d, d) of photo features; strange: the largest distance that is still
    familiar; seen: the least probability of an object that counts as seen."""

    mean: Tensor
    precision: Tensor
    strange: float
    seen: float

    def distance(self, feature: Tensor) -> Tensor:
        """(..., d) -> (...)."""
        away = feature - self.mean
        return ((away @ self.precision) * away).sum(-1).clamp(min=0).sqrt()

    def is_strange(self, look: Look) -> bool:
        """Whether any of the photos is unlike the rooms the model was trained on."""
        return bool((self.distance(look.feature) > self.strange).any())

    def save(self, folder: Path) -> None:
        numbers = torch.tensor([self.strange, self.seen])
        save_file({"mean": self.mean, "precision": self.precision, "limits": numbers}, folder / FILE)


def load(folder: Path) -> Familiarity:
    """Raises FileNotFoundError where it was never fitted."""
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {FILE} in {folder}: python -m nano_omni.familiarity --weights {folder}")
    held = load_file(path)
    strange, seen = held["limits"].tolist()
    return Familiarity(held["mean"], held["precision"], strange, seen)


def _looks(model: NanoOmni, batches: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Photos (B, 2, 3, S, S) by batches -> features (N, 2, d) and seen (N, C)."""
    reader = Reader(model, max_bytes=0)
    nodes = (node for photos in batches for node in reader.look(list(photos)))
    looks = [node.look for node in nodes if node.look is not None]
    return torch.stack([look.feature for look in looks]), torch.stack([look.seen for look in looks])


def _photos(model: NanoOmni, start: int, count: int) -> Iterator[Tensor]:
    for at in range(start, start + count, BATCH):
        seeds = split_seeds("val", at, min(BATCH, start + count - at))
        yield rooms(seeds, model.config, (), imagined=False).photos


def fit(model: NanoOmni, count: int = 4096) -> tuple[Familiarity, dict[str, float]]:
    """The thresholds, from `count` validation rooms and as many others, and what they let through."""
    features, _ = _looks(model, _photos(model, 0, count))
    flat = features.flatten(0, 1).double()
    mean = flat.mean(0)
    covariance = torch.cov(flat.T)
    ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(len(mean), dtype=torch.float64)
    precision = torch.linalg.inv(covariance + ridge)
    bare = Familiarity(mean.float(), precision.float(), math.inf, 0.0)
    features, seen = _looks(model, _photos(model, count, count))
    strange = bare.distance(features).flatten().quantile(PASS_PHOTOS).item()
    there, absent = _objects(seen, count, model)
    least = there.quantile(1 - PASS_OBJECTS).item()
    found = Familiarity(bare.mean, bare.precision.contiguous(), strange, least)
    rates = {
        "absent objects refused": (absent < least).float().mean().item(),
        "objects asked about": len(there),
        "absent objects": len(absent),
        "rooms": 2 * count,
    }
    return found, rates


def _objects(seen: Tensor, start: int, model: NanoOmni) -> tuple[Tensor, Tensor]:
    """Probabilities of the objects that rooms from `start` on are asked about, and of kinds that are in
    neither the room nor its question."""
    there, absent = [], []
    size = model.config.photo
    for at in range(0, len(seen), BATCH):
        scene = sample_scenes(split_seeds("val", start + at, min(BATCH, len(seen) - at)), "plain")
        c2w = viewpoints(scene)
        what = sight(scene, c2w, render(scene, c2w, intrinsics(size, size), size, size).ids)
        here = seen[at : at + BATCH]
        nowhere = torch.ones_like(here, dtype=torch.bool).scatter(1, what.kind + 1, ~scene.present)
        nowhere[:, 0] = False
        absent.append(here[nowhere])
        for hops in (1, 3):
            asked = chain(what, hops)
            there.append(here.gather(1, asked.named + 1)[asked.valid].flatten())
    return torch.cat(there), torch.cat(absent)


def others(model: NanoOmni, count: int = 256) -> dict[str, Tensor]:
    """Pairs of photos the model was not made for: (count, 2, 3, S, S) uint8 each."""
    size = model.config.photo
    generator = torch.Generator().manual_seed(0)
    shape = (count, 2, 3, size, size)
    noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    plain = torch.randint(0, 256, (count, 2, 3, 1, 1), generator=generator, dtype=torch.uint8).expand(shape)
    ends = torch.rand(count, 2, 3, 2, 1, generator=generator) * 255
    ramp = torch.linspace(0, 1, size)[None, None, None, None]
    gradient = torch.lerp(ends[..., 0, :], ends[..., 1, :], ramp[0])[..., None, :].expand(shape)
    scene = sample_scenes(split_seeds("val", 1 << 20, count), "rich")
    c2w = viewpoints(scene)
    plain_scene = sample_scenes(split_seeds("val", 1 << 20, count), "plain")
    pictures = {
        "rooms with rich textures": render(scene, c2w, intrinsics(size, size), size, size, 2).images,
        "rooms through a lens of 50 degrees": render(
            plain_scene, c2w, intrinsics(size, size, math.radians(50)), size, size
        ).images,
    }
    return {
        "noise": noise,
        "one colour": plain.contiguous(),
        "gradients": gradient.to(torch.uint8).contiguous(),
        **{name: to_uint8(p).permute(0, 1, 4, 2, 3).contiguous() for name, p in pictures.items()},
    }


def measure(model: NanoOmni, found: Familiarity, count: int = 256) -> dict[str, float]:
    """Share of pairs that are called strange: of test rooms, and of each of `others`."""
    kinds = {"test rooms": rooms(split_seeds("test", 0, 4 * count), model.config, (), imagined=False).photos}
    rates = {}
    for name, photos in (kinds | others(model, count)).items():
        features, _ = _looks(model, iter(photos.split(BATCH)))
        rates[name] = (found.distance(features) > found.strange).any(1).float().mean().item()
    return rates


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--rooms", type=int, default=4096)
    asked = parser.parse_args(arguments)
    model = load_model(asked.weights)
    found, rates = fit(model, asked.rooms)
    found.save(asked.weights)
    report = {"strange": measure(model, found), "objects": rates, "limits": [found.strange, found.seen]}
    (asked.weights / MEASURED).write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
