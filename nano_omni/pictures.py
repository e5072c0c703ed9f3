"""Pictures that prompts ask for, as tensors for the model: the prompt, the picture, and all that plans say.

held = pictures(split_seeds("val", 0, 256))     # drawn and rendered
for file, some in in_files(folder): ...         # drawn ahead by `python -m nano_omni.training.pictures`
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import plans
from .visual import codebook
from .vocabulary import TwoHot
from .world import prompts
from .world.camera import intrinsics
from .world.prompts import RELATIONS, Composition, Staged
from .world.render import Views, render, to_uint8

SIDE = 64
PLACES = 8  # along a side, of what is told of objects


@dataclass(frozen=True)
class Pictures:
    """N pictures (N, 3, SIDE, SIDE) uint8 and what they show.

    prompt (N, PROMPT_LENGTH) words; kinds, bearing (radians), distance (metres) and there (N, OBJECTS), in
    the order of the prompt and those of a group from left to right; middle (N, OBJECTS, 2), column and row in
    0..1; codes (N, 16) visual tokens; objects (N, PLACES, PLACES), the share of each place that is an
    object's.
    """

    pictures: Tensor
    prompt: Tensor
    kinds: Tensor
    bearing: Tensor
    distance: Tensor
    there: Tensor
    middle: Tensor
    codes: Tensor
    objects: Tensor

    def __len__(self) -> int:
        return len(self.prompt)

    def __getitem__(self, index) -> "Pictures":
        return Pictures(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def think(self) -> TwoHot:
        """What thinking truly says of them."""
        return plans.think(self.kinds, self.bearing, self.distance, self.there)

    def plan(self) -> TwoHot:
        """The same at length."""
        return plans.plan(self.kinds, self.bearing, self.distance, self.there, self.middle)

    @staticmethod
    def together(parts: Sequence["Pictures"]) -> "Pictures":
        return Pictures(
            **{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Pictures)}
        )

    def compositions(self) -> list[Composition]:
        return [plans.composition(words) for words in self.prompt.tolist()]


def varied(drawn: Sequence[Composition], seeds: Tensor, share: float) -> list[Composition]:
    """The same, a share of them with other relations: any group to any other, up to MOST_RELATIONS."""
    changed: list[Composition] = []
    for asked, seed in zip(drawn, seeds.tolist(), strict=True):
        lots = random.Random(seed)
        if lots.random() >= share or len(asked.groups) < 2:
            changed.append(asked)
            continue
        while True:
            count = lots.randint(1, min(plans.MOST_RELATIONS, len(asked.groups)))
            pairs = [lots.sample(range(len(asked.groups)), 2) for _ in range(count)]
            related = tuple(dict.fromkeys((a, lots.choice(RELATIONS), b) for a, b in pairs))
            try:
                changed.append(replace(asked, relations=related))
                break
            except ValueError:  # they contradict one another
                continue
    return changed


@torch.no_grad()
def pictures(
    seeds: Tensor, texture: str = "plain", other_relations: float = 0.0, compiled: bool = False
) -> Pictures:
    """One picture for each seed (N,) of which the room holds all that its prompt asks for: N or fewer."""
    drawn = varied(prompts.draw(seeds, plans.OBJECTS), seeds, other_relations)
    staged = prompts.stage(drawn, seeds, texture)
    words = torch.tensor([plans.prompt(one) for one in drawn])
    made, good = told(staged, words, shot(staged, compiled))
    return made[good]


def shot(staged: Staged, compiled: bool = False) -> Views:
    """Pictures of staged rooms, SIDE x SIDE."""
    return render(staged.scene, staged.c2w, intrinsics(SIDE, SIDE), SIDE, SIDE, compiled=compiled)


def told(staged: Staged, words: Tensor, seen: Views, grouped: bool = True) -> tuple[Pictures, Tensor]:
    """What is told of pictures of staged rooms that were asked for in words (N, n), and which of them show
    all of their objects (N,). grouped: objects stand in the order of the prompt, or else all of them from
    left to right."""
    images, ids = seen.images[:, 0].permute(0, 3, 1, 2), seen.ids[:, 0]
    scene, kinds = staged.scene, staged.kinds()
    bearing, distance = staged.seen()
    shown = F.one_hot(ids, kinds.shape[1] + 1)[..., 1:].float()  # (N, S, S, K)
    area = shown.sum((1, 2))  # (N, K)
    along = (torch.arange(SIDE) + 0.5) / SIDE
    columns, rows = (shown.sum(axis).transpose(1, 2) @ along / area.clamp(min=1) for axis in (1, 2))
    middle = torch.stack([columns, rows], dim=-1)  # (N, K, 2)
    good = staged.valid & ((area > 0) | ~scene.present).all(1)
    order = _reading_order(kinds if grouped else kinds * 0, bearing, scene.present)[:, : plans.OBJECTS]
    made = Pictures(
        pictures=to_uint8(images),
        prompt=words,
        kinds=kinds.gather(1, order),
        bearing=bearing.gather(1, order),
        distance=distance.gather(1, order),
        there=scene.present.gather(1, order),
        middle=middle.gather(1, order[..., None].expand(-1, -1, 2)),
        codes=codebook().tokens(images, ids, kinds),
        objects=F.avg_pool2d((ids > 0).float()[:, None], SIDE // PLACES)[:, 0],
    )
    return made, good


def _reading_order(kinds: Tensor, bearing: Tensor, there: Tensor) -> Tensor:
    """Groups in the order of the prompt, the objects of a group from left to right: (N, K) places."""
    group = F.pad((kinds[:, 1:] != kinds[:, :-1]).long().cumsum(1), (1, 0))
    return (10 * group + bearing).masked_fill(~there, torch.inf).argsort(1)


def save(file: Path, some: Pictures) -> None:
    """In little space: numbers as float16, words as int16."""
    save_tensors(file, {f.name: getattr(some, f.name) for f in fields(some)})


def save_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """See `save`."""
    narrow = {torch.int64: torch.int16, torch.float32: torch.float16}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    save_file({k: v.to(narrow.get(v.dtype, v.dtype)).contiguous() for k, v in tensors.items()}, part)
    part.rename(file)


def in_files(folder: Path) -> Iterator[tuple[Path, Pictures]]:
    """File by file. Raises FileNotFoundError where there is none."""
    for file, held in tensors_in_files(folder):
        yield file, Pictures(**held)


def tensors_in_files(folder: Path, task: str = "generation") -> Iterator[tuple[Path, dict[str, Tensor]]]:
    """`save_tensors` turned round, file by file. Raises FileNotFoundError where there is none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        how = "" if task == "generation" else f" --task {task}"
        raise FileNotFoundError(
            f"no pictures in {folder}: draw them with `python -m nano_omni.training.pictures{how} --out"
            f" {folder}`"
        )
    wide = {torch.int16: torch.int64, torch.float16: torch.float32}
    for file in files:
        yield file, {name: one.to(wide.get(one.dtype, one.dtype)) for name, one in load_file(file).items()}
