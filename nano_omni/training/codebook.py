"""Find what visual tokens look like: `python -m nano_omni.training.codebook` (half a minute).

k-means of where objects are in patches and of the colours of walls and floor, on training rooms that training
does not come to. Writes `nano_omni/visual.safetensors`: weights that were trained before know other tokens.
"""

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..data import split_seeds
from ..visual import FILE, FILLS, FINE, GRID, Codebook, coarse, dominant
from ..vocabulary import CODES, OBJECT_CODES, ROOM_CODES
from ..world.camera import intrinsics
from ..world.render import render
from ..world.scene import SHAPES, sample_scenes
from ..world.sight import viewpoints


def means(points: Tensor, count: int, rounds: int = 30, seed: int = 0) -> Tensor:
    """k-means of (N, D): (count, D), from k-means++ starts."""
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        far = torch.cdist(points, centres).amin(1).square()
        centres = torch.cat([centres, points[torch.multinomial(far + 1e-12, 1, generator=generator)]])
    for _ in range(rounds):
        own = torch.cdist(points, centres).argmin(1)
        total = torch.zeros_like(centres).index_add_(0, own, points)
        size = own.bincount(minlength=count)[:, None]
        centres = torch.where(size > 0, total / size.clamp(min=1), centres)
    return centres


@torch.no_grad()
def find(count: int = 3072, batch: int = 256) -> Codebook:
    """From pictures of `count` training rooms, two photos each."""
    size = GRID * FINE
    images, ids, kinds = [], [], []
    for at in range(0, count, batch):
        # Rooms far from those that training begins with.
        scene = sample_scenes(split_seeds("train", (1 << 52) + at, min(batch, count - at)), "plain")
        views = render(scene, viewpoints(scene), intrinsics(size, size), size, size)
        images.append(views.images.flatten(0, 1).permute(0, 3, 1, 2))
        ids.append(views.ids.flatten(0, 1))
        kinds.append((scene.colour * len(SHAPES) + scene.shape).repeat_interleave(2, 0))
    pictures, maps, names = torch.cat(images), torch.cat(ids), torch.cat(kinds)
    share, mask = dominant(maps, names.shape[1])
    which = share.max(-1).indices
    filled = share.gather(2, which[..., None])[..., 0] >= FILLS
    own = mask.gather(2, which[..., None, None].expand(-1, -1, 1, mask.shape[-1]))[:, :, 0]
    masks = means(own[filled][:20_000], OBJECT_CODES)
    colours = means(coarse(pictures)[~filled][:40_000], ROOM_CODES)
    bare = Codebook(masks, colours, torch.zeros(CODES, 3, FINE, FINE, dtype=torch.uint8))
    tokens = bare.tokens(pictures, maps, names).flatten()
    patches = pictures.unfold(2, FINE, FINE).unfold(3, FINE, FINE).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    total = torch.zeros(CODES, 3, FINE, FINE).index_add_(0, tokens, patches.contiguous())
    mean = total / tokens.bincount(minlength=CODES).clamp(min=1)[:, None, None, None]
    return Codebook(masks, colours, (mean * 255).round().to(torch.uint8))


def main() -> None:
    found = find()
    empty = int((found.patches.flatten(1).amax(1) == 0).sum())
    tensors = {"masks": found.masks, "colours": found.colours, "patches": found.patches}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, FILE)
    again = found.read(found.draw(torch.arange(CODES).view(-1, GRID * GRID)))
    exact = bool((again.flatten() == torch.arange(CODES)).all())
    print(f"{CODES} looks, {empty} never seen, read back exactly: {exact}; {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
