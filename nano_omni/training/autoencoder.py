"""Train the autoencoder: `python -m nano_omni.training.autoencoder` (twenty minutes on one core).

A quarter of the pictures are photos of rooms, the others rooms that show prompts, in plain and bare paint.
Objects and their outlines count more than walls, and small ones more than their size: a cone that is six
pixels wide is to come back as a cone. Latents are blurred by some noise, so that near latents mean near
pictures. Writes `nano_omni/autoencoder.safetensors` and autoencoder.json: how well test pictures come back.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from ..autoencoder import CHANNELS, DOWN, FILE, Autoencoder
from ..data import split_seeds
from ..world import prompts
from ..world.camera import intrinsics
from ..world.render import render
from ..world.scene import MAX_OBJECTS, sample_scenes
from ..world.sight import viewpoints
from .descent import Say, descend
from .muon import Muon
from .precision import precision

SIDE = 64
OBJECTS = 15.0  # how much more a pixel of an object counts that has AREA pixels
AREA = 40.0
NOISE = 0.1  # of the latents' deviation


@torch.no_grad()
def pictures(
    split: str, start: int, count: int, texture: str, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """`count` pictures (N, 3, SIDE, SIDE) in 0..1 and the objects in them (N, 1, SIDE, SIDE), 0 for none."""
    seeds = split_seeds(split, start, count)
    first, second = seeds.split([count // 4, count - count // 4])
    scene = sample_scenes(first, texture)
    staged = prompts.stage(prompts.draw(second), second, texture)
    lens = intrinsics(SIDE, SIDE)
    shots = (
        render(scene, viewpoints(scene)[:, :1], lens, SIDE, SIDE, compiled=compiled),
        render(staged.scene, staged.c2w, lens, SIDE, SIDE, compiled=compiled),
    )
    images = torch.cat([views.images[:, 0] for views in shots]).permute(0, 3, 1, 2)
    return images.contiguous(), torch.cat([views.ids for views in shots])


def weights(ids: Tensor) -> Tensor:
    """How much each pixel counts (N, 1, SIDE, SIDE), of objects (N, 1, SIDE, SIDE)."""
    shown = F.one_hot(ids[:, 0], MAX_OBJECTS + 1)[..., 1:].permute(0, 3, 1, 2).float()  # (N, K, S, S)
    area = shown.sum((2, 3), keepdim=True)
    each = F.max_pool2d(shown, 3, stride=1, padding=1) * (AREA / area.clamp(min=AREA / 4)).sqrt()
    return 1 + OBJECTS * each.amax(1, keepdim=True)


def batches(batch: int, draw: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
    """For ever, from rooms that nothing else is trained on."""
    start = (1 << 53) - (1 << 50)
    while True:
        texture = "plain" if (start // draw) % 4 == 0 else "bare"
        images, objects = pictures("train", start, draw, texture, compiled=True)
        start += draw
        for chosen in torch.randperm(draw, generator=torch.Generator().manual_seed(start)).split(batch):
            yield images[chosen], objects[chosen]


def loss(held: Autoencoder, images: Tensor, objects: Tensor, noise: Tensor) -> Tensor:
    raw = held.raw(images).float()
    drawn = held.drawn(raw + NOISE * raw.detach().std((0, 2, 3), keepdim=True) * noise).float()
    weight = weights(objects)
    weight = weight / weight.mean()
    far = (drawn - images).abs() + 2 * (drawn - images).square()
    edges = 0.0
    for d in (2, 3):
        along = weight.narrow(d, 1, SIDE - 1)
        edges = edges + ((drawn.diff(dim=d) - images.diff(dim=d)).abs() * along).mean()
    return (far * weight).mean() + edges + 1e-4 * raw.square().mean()


def train(
    steps: int, batch: int, seed: int = 0, seconds: float = math.inf, say: Say = print
) -> tuple[Autoencoder, int]:
    """`steps` steps, or as many as `seconds` allow, see `descend`. Returns how many were taken, too."""
    torch.manual_seed(seed)
    held = Autoencoder().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    inner, rest = [], []
    for name, p in held.named_parameters():
        (inner if p.dim() > 1 and (".first" in name or ".second" in name) else rest).append(p)
    optimizers = Muon(inner, lr=0.01), torch.optim.AdamW(rest, lr=2e-3, weight_decay=0.0)
    source, generator = batches(batch), torch.Generator().manual_seed(seed)

    def wrong() -> dict[str, Tensor]:
        images, objects = next(source)
        noise = torch.randn(batch, CHANNELS, SIDE // DOWN, SIDE // DOWN, generator=generator)
        with precision(images.device):
            images = images.contiguous(memory_format=torch.channels_last)
            return {"loss": loss(held, images, objects, noise)}

    curve = descend(optimizers, wrong, steps, say, 100, seconds)
    taken = int(curve[-1]["step"]) if curve else 0
    with torch.no_grad():
        raw = held.raw(torch.cat([next(source)[0] for _ in range(512 // batch)]))
        held.mean.copy_(raw.mean((0, 2, 3))[:, None, None])
        held.scale.copy_(raw.std((0, 2, 3))[:, None, None])
    return held.eval(), taken


@torch.no_grad()
def measure(held: Autoencoder, count: int = 1024) -> dict[str, float]:
    """PSNR in dB of test pictures, of their objects alone, and of latents that were moved by 0.1."""
    found: dict[str, list[Tensor]] = {}
    for texture in ("plain", "bare"):
        images, objects = pictures("test", 0, count // 2, texture)
        whole = (images * 255).round().to(torch.uint8)
        latents = held.encode(whole)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        for name, given in (("", latents), (", latents moved by 0.1", latents + 0.1 * noise)):
            wrong = (held.decode(given) - whole / 255).square()
            found.setdefault(f"pictures{name}", []).append(wrong.mean((1, 2, 3)))
            on = (objects > 0).float()
            share = on.sum((1, 2, 3)).clamp(min=1) * 3
            found.setdefault(f"objects{name}", []).append((wrong * on).sum((1, 2, 3)) / share)
    return {name: round(-10 * torch.cat(some).mean().log10().item(), 2) for name, some in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="of training, at most")
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args()
    begun = time.monotonic()
    held, taken = train(
        *(asked.steps, asked.batch, asked.seed, asked.seconds),
        say=lambda line: print(line, flush=True),
    )
    save_file({k: v.bfloat16().contiguous() for k, v in held.state_dict().items()}, asked.out)
    again = Autoencoder()
    again.load_state_dict({k: v.bfloat16() for k, v in held.state_dict().items()})
    report = {
        "psnr": measure(again.eval()),
        "n": 1024,
        "steps": taken,
        "batch": asked.batch,
        "seed": asked.seed,
        "seconds": round(time.monotonic() - begun),
        "parameters": sum(p.numel() for p in held.parameters()),
    }
    asked.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
