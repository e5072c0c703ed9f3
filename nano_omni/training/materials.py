"""What pictures are learned from, task by task: what was drawn ahead, and the latents of it, which are kept.

Pictures in files of a folder, as `python -m nano_omni.training.pictures` writes them. Latents are worked out
once for each autoencoder and stand beside the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from xxhash import xxh3_64_hexdigest

from .. import autoencoder
from ..depths import as_pictures
from ..edits import Edited
from ..latents import patches
from ..pairs import Pairs
from ..pictures import Pictures, tensors_in_files

FOLDERS = {"generation": "pictures", "editing": "edits", "depth": "pairs", "novel_view": "pairs"}
"""The kind of pictures that each task is learned from."""


@dataclass(frozen=True)
class Material:
    """N pictures to be drawn: some, what is told of them (`Pictures` or `Pairs`); clean (N, TOKENS, NUMBERS),
    their latents; objects (N, 8, 8), what counts more; and of those that are drawn from photos, photos
    (N, V, 3, S, S) uint8 and beside (N, TOKENS, NUMBERS), the latents of the first."""

    some: Any
    clean: Tensor
    objects: Tensor
    photos: Tensor | None = None
    beside: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, which: Tensor | slice) -> "Material":
        return Material(
            self.some[which],
            self.clean[which].float(),
            self.objects[which],
            None if self.photos is None else self.photos[which],
            None if self.beside is None else self.beside[which].float(),
        )


def of_pictures(some: Pictures) -> Material:
    return Material(some, _latents(some.pictures), some.objects)


def of_edits(some: Edited) -> Material:
    clean, beside = _latents(some.after.pictures), _latents(some.before)
    return Material(some.after, clean, some.after.objects, some.before[:, None], beside)


def of_pairs(task: str, some: Pairs) -> Material:
    """Of the task depth, or novel_view."""
    beside = _latents(some.photos[:, 0])
    if task == "depth":
        everywhere = torch.zeros_like(some.objects)
        return Material(some, _latents(as_pictures(some.depth)), everywhere, some.photos, beside)
    return Material(some, _latents(some.photos[:, 1]), some.objects, some.photos[:, :1], beside)


def prepared(folders: Mapping[str, Path]) -> dict[str, Material]:
    """Of each task what is in its folder. Raises FileNotFoundError where there is nothing."""
    held: dict[str, Material] = {}
    pairs: dict[Path, tuple[Pairs, dict[str, Tensor]]] = {}
    for task, folder in folders.items():
        if FOLDERS[task] == "pairs":
            if folder not in pairs:
                pairs[folder] = _pairs(folder, task)
            some, latents = pairs[folder]
            if task == "depth":
                zero = torch.zeros_like(some.objects)
                held[task] = Material(some, latents["depth"], zero, some.photos, latents["first"])
            else:
                held[task] = Material(
                    some, latents["second"], some.objects, some.photos[:, :1], latents["first"]
                )
        else:
            held[task] = _pictures(folder, task)
    return held


def _pictures(folder: Path, task: str) -> Material:
    parts: list[Pictures] = []
    before: list[Tensor] = []
    latents: list[dict[str, Tensor]] = []
    for file, tensors in tensors_in_files(folder, task):
        photos = tensors.pop("before", None)
        some = Pictures(**tensors)
        shown = {"latents": some.pictures} | ({} if photos is None else {"before": photos})
        latents.append(_kept(file, shown))
        parts.append(replace(some, pictures=some.pictures[:, :, :0, :0]))
        before += [] if photos is None else [photos]
    some, both = Pictures.together(parts), _together(latents)
    if not before:
        return Material(some, both["latents"], some.objects)
    return Material(some, both["latents"], some.objects, torch.cat(before)[:, None], both["before"])


def _pairs(folder: Path, task: str) -> tuple[Pairs, dict[str, Tensor]]:
    parts: list[dict[str, Tensor]] = []
    latents: list[dict[str, Tensor]] = []
    for file, tensors in tensors_in_files(folder, task):
        photos, depth = tensors["photos"], tensors["depth"]
        shown = {"first": photos[:, 0], "second": photos[:, 1], "depth": as_pictures(depth)}
        latents.append(_kept(file, shown))
        parts.append({**tensors, "depth": depth[:, :0, :0]})
    return Pairs.of(_together(parts)), _together(latents)


def _together(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _kept(file: Path, shown: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The latents of pictures by name, in half precision."""
    key = xxh3_64_hexdigest(autoencoder.FILE.read_bytes())[:8]
    kept = file.parent / f"latents-{key}" / file.name
    if kept.exists():
        return load_file(kept)
    found = {name: _latents(some).half().contiguous() for name, some in shown.items()}
    kept.parent.mkdir(exist_ok=True)
    part = kept.with_suffix(".part")
    save_file(found, part)
    part.rename(kept)
    return found


def _latents(pictures: Tensor) -> Tensor:
    return patches(autoencoder.autoencoder().encode(pictures))
