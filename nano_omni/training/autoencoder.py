"""Train the autoencoder: `python -m nano_omni.training.autoencoder` (15 minutes on one core).

Half of the pictures are photos of rooms, half are rooms that show prompts, in plain and bare paint. Objects
count more than walls, and latents are blurred by some noise, so that near latents mean near pictures. Writes
`nano_omni/autoencoder.safetensors` and autoencoder.json: how well test pictures come back.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..autoencoder import FILE, Autoencoder
from ..data import split_seeds
from ..world import prompts
from ..world.camera import intrinsics
from ..world.render import render
from ..world.scene import sample_scenes
from ..world.sight import viewpoints
from .muon import Muon

SIDE = 64
OBJECTS = 4.0  # how much more a pixel of an object counts
NOISE = 0.1  # of the latents' deviation


@torch.no_grad()
def pictures(split: str, start: int, count: int, texture: str) -> tuple[Tensor, Tensor]:
    """`count` pictures (N, 3, SIDE, SIDE) in 0..1 and what is an object in them (N, 1, SIDE, SIDE)."""
    seeds = split_seeds(split, start, count)
    first, second = seeds.chunk(2)
    scene = sample_scenes(first, texture)
    staged = prompts.stage(prompts.draw(second), second, texture)
    lens = intrinsics(SIDE, SIDE)
    shots = (
        render(scene, viewpoints(scene)[:, :1], lens, SIDE, SIDE),
        render(staged.scene, staged.c2w, lens, SIDE, SIDE),
    )
    images = torch.cat([views.images[:, 0] for views in shots]).permute(0, 3, 1, 2)
    return images.contiguous(), torch.cat([views.ids for views in shots]) > 0


def batches(batch: int, draw: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
    """For ever, from rooms that nothing else is trained on."""
    start = (1 << 53) - (1 << 50)
    while True:
        texture = "bare" if (start // draw) % 4 == 0 else "plain"
        images, objects = pictures("train", start, draw, texture)
        start += draw
        for chosen in torch.randperm(draw, generator=torch.Generator().manual_seed(start)).split(batch):
            yield images[chosen], objects[chosen]


def loss(held: Autoencoder, images: Tensor, objects: Tensor, noise: Tensor) -> Tensor:
    raw = held.raw(images)
    drawn = held.drawn(raw + NOISE * raw.detach().std((0, 2, 3), keepdim=True) * noise)
    weight = 1 + (OBJECTS - 1) * objects.float()
    far = (drawn - images).abs() + 2 * (drawn - images).square()
    edges = sum((drawn.diff(dim=d) - images.diff(dim=d)).abs().mean() for d in (2, 3))
    return (far * weight).mean() + edges + 1e-4 * raw.square().mean()


def train(steps: int, batch: int, seed: int = 0, say=print) -> Autoencoder:
    torch.manual_seed(seed)
    held = Autoencoder().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    inner, rest = [], []
    for name, p in held.named_parameters():
        (inner if p.dim() > 1 and (".first" in name or ".second" in name) else rest).append(p)
    optimizers = Muon(inner, lr=0.01), torch.optim.AdamW(rest, lr=2e-3, weight_decay=0.0)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    source, generator = batches(batch), torch.Generator().manual_seed(seed)
    begun = time.monotonic()
    for step in range(steps):
        images, objects = next(source)
        noise = torch.randn(batch, 8, SIDE // 8, SIDE // 8, generator=generator)
        change = loss(held, images.contiguous(memory_format=torch.channels_last), objects, noise)
        for optimizer in optimizers:
            optimizer.zero_grad()
        change.backward()
        share = min(1.0, (step + 1) / 50, 2 * (1 - step / steps))
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
        if step % 100 == 99:
            say(f"step {step + 1}  {time.monotonic() - begun:.0f} s  {change.item():.4f}")
    with torch.no_grad():
        raw = held.raw(torch.cat([next(source)[0] for _ in range(512 // batch)]))
        held.mean.copy_(raw.mean((0, 2, 3))[:, None, None])
        held.scale.copy_(raw.std((0, 2, 3))[:, None, None])
    return held.eval()


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
            on = objects.float()
            share = on.sum((1, 2, 3)).clamp(min=1) * 3
            found.setdefault(f"objects{name}", []).append((wrong * on).sum((1, 2, 3)) / share)
    return {name: round(-10 * torch.cat(some).mean().log10().item(), 2) for name, some in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=FILE)
    asked = parser.parse_args()
    begun = time.monotonic()
    held = train(asked.steps, asked.batch, asked.seed, say=lambda line: print(line, flush=True))
    save_file({k: v.bfloat16().contiguous() for k, v in held.state_dict().items()}, asked.out)
    again = Autoencoder()
    again.load_state_dict({k: v.bfloat16() for k, v in held.state_dict().items()})
    report = {
        "psnr": measure(again.eval()),
        "n": 1024,
        "steps": asked.steps,
        "batch": asked.batch,
        "seed": asked.seed,
        "seconds": round(time.monotonic() - begun),
        "parameters": sum(p.numel() for p in held.parameters()),
    }
    asked.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
