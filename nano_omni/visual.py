"""Visual tokens: a picture as GRID x GRID words, each of which stands for what a patch looks like.

A patch in which an object fills enough is one of OBJECT_CODES looks of that object (where in the patch it
is), any other one of ROOM_CODES looks of walls and floor. So the name comes first, which is what counts, and
a token begins its life near the object's word. The looks are k-means centres, found once on training rooms;
drawing a picture is putting the mean patch of each token in its place, and such a picture is read back
exactly.

`python -m nano_omni.training.codebook` finds them anew; they are part of the code, not of any weights.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from .vocabulary import OBJECT_CODES, OBJECTS

FILE = Path(__file__).with_name("visual.safetensors")
GRID = 4
FILLS = 0.10  # share of a patch from which on it is the object's
COARSE = 4  # pixels a side in which patches are compared
FINE = 16  # and drawn


@dataclass(frozen=True)
class Codebook:
    """masks (OBJECT_CODES, COARSE^2): where in a patch an object is; colours (ROOM_CODES, COARSE^2 * 3) in
    0..1; patches (CODES, 3, FINE, FINE) uint8: what each token is drawn as."""

    masks: Tensor
    colours: Tensor
    patches: Tensor

    def to(self, device: torch.device | str) -> "Codebook":
        return Codebook(self.masks.to(device), self.colours.to(device), self.patches.to(device))

    def tokens(self, images: Tensor, ids: Tensor, kinds: Tensor) -> Tensor:
        """Pictures (N, 3, S, S) in 0..1, their object ids (N, S, S) and the names (N, K) of those: (N, 16)
        tokens in 0 .. CODES - 1, row by row. S is a multiple of GRID * COARSE."""
        share, mask = dominant(ids, kinds.shape[1])  # (N, P), (N, P, C^2)
        which = share.max(-1).indices  # (N, P)
        filled = share.gather(2, which[..., None])[..., 0]
        own = mask.gather(2, which[..., None, None].expand(-1, -1, 1, mask.shape[-1]))[:, :, 0]
        look = torch.cdist(own, self.masks)
        kind = kinds.gather(1, which)
        room = torch.cdist(coarse(images), self.colours).argmin(-1) + OBJECT_CODES * len(OBJECTS)
        return torch.where(filled >= FILLS, kind * OBJECT_CODES + look.argmin(-1), room)

    def draw(self, tokens: Tensor) -> Tensor:
        """(N, 16) -> pictures (N, 3, GRID * FINE, GRID * FINE) uint8."""
        patches = self.patches[tokens].unflatten(1, (GRID, GRID))  # (N, G, G, 3, F, F)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), 3, GRID * FINE, GRID * FINE)

    def read(self, pictures: Tensor) -> Tensor:
        """Pictures (N, 3, 64, 64) uint8 -> (N, 16), the tokens whose patches are nearest: those that `draw`
        was given."""
        patches = pictures.unfold(2, FINE, FINE).unfold(3, FINE, FINE)  # (N, 3, G, G, F, F)
        flat = patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2).float()
        return torch.cdist(flat, self.patches.flatten(1).float()).argmin(-1)


def object_of(tokens: Tensor) -> Tensor:
    """The object that each token shows, an index into OBJECTS, -1 for the room."""
    return torch.where(tokens < OBJECT_CODES * len(OBJECTS), tokens // OBJECT_CODES, -1)


@cache
def codebook() -> Codebook:
    """The one that comes along."""
    held = load_file(FILE)
    return Codebook(held["masks"], held["colours"], held["patches"])


def dominant(ids: Tensor, objects: int) -> tuple[Tensor, Tensor]:
    """Of ids (N, S, S): shares of patches (N, P, K) and where in the patch (N, P, K, COARSE^2)."""
    side = ids.shape[-1] // (GRID * COARSE)
    one = (ids[:, None] == torch.arange(1, objects + 1, device=ids.device)[:, None, None]).float()
    small = F.avg_pool2d(one, side)  # (N, K, G C, G C)
    cells = _cells(small)  # (N, P, K, C^2)
    return cells.mean(-1), cells


def _cells(small: Tensor) -> Tensor:
    """(N, C, GRID * COARSE, GRID * COARSE) -> (N, GRID^2, C, COARSE^2)."""
    cells = small.unflatten(3, (GRID, COARSE)).unflatten(2, (GRID, COARSE))  # (N, C, G, c, G, c)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(1, 2)


def coarse(images: Tensor) -> Tensor:
    """(N, 3, S, S) -> (N, P, 3 * COARSE^2)."""
    return _cells(F.avg_pool2d(images, images.shape[-1] // (GRID * COARSE))).flatten(2)
