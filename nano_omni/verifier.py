"""Looks at pictures and says what is in them: a small detector of its own, apart from the model it judges.

It finds where objects are and of what colour; of what shape each is, it tells from a closer look.

    judge = verifier()                          # the one that comes along
    judge.look(pictures)                        # (N, 3, 64, 64) uint8 -> what each shows
    judge.verdicts(pictures, compositions)      # which atoms of its prompt each picture meets, and extras
    judge.chances(pictures, compositions)       # the same, as probabilities

It has seen true renders alone, and spoiled ones: it shares no weight with the model and never saw a picture
that the model drew. `verifier.json` holds how often it is right on renders it has not seen.
`python -m nano_omni.training.verifier` trains it anew and measures it.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .closer import Outline, cut_out
from .residual import Residual
from .world.camera import PITCH
from .world.prompts import Composition, Found, Verdict, judge
from .world.prompts.chances import Maybe, chances
from .world.scene import COLOURS, SHAPES

FILE = Path(__file__).with_name("verifier.safetensors")
SIDE = 64  # pixels of a picture
CELL = 2  # pixels a side in which there may be one centre
CELLS = SIDE // CELL
LEAST = 0.02  # probability from which on something is a candidate
MOST = 16  # candidates of a picture
BEARING, DISTANCE = 1 / 32, 1 / 8  # what one unit of the network's output is: radians, log metres
_WIDTHS = (24, 48, 96)
_CHUNK = 256  # pictures at a time


@dataclass(frozen=True)
class Maps:
    """What the detector says of each cell (N, ..., CELLS, CELLS): the logit that the middle of an object is
    here, (N, C, C); of what colour and shape, logits (N, 8, C, C) and (N, 4, C, C); bearing in radians and
    log of the distance in metres, (N, C, C)."""

    middle: Tensor
    colour: Tensor
    shape: Tensor
    bearing: Tensor
    log_distance: Tensor


class Detector(nn.Module):
    """A small U-net: pictures (N, 3, SIDE, SIDE) in 0..1 -> Maps."""

    place: Tensor
    ahead: Tensor

    def __init__(self) -> None:
        super().__init__()
        a, b, c = _WIDTHS
        self.enter = nn.Conv2d(5, a, 4, stride=2, padding=1)
        self.fine = Residual(a)
        self.halve = nn.Conv2d(a, b, 4, stride=2, padding=1)
        self.middle = Residual(b)
        self.quarter = nn.Conv2d(b, c, 4, stride=2, padding=1)
        self.coarse = nn.Sequential(Residual(c), Residual(c))
        self.up = nn.Conv2d(c, 4 * b, 1)
        self.middle_again = Residual(b)
        self.up_again = nn.Conv2d(b, 4 * a, 1)
        self.fine_again = Residual(a)
        self.leave = nn.Conv2d(a, 3 + len(COLOURS) + len(SHAPES), 1)
        nn.init.constant_(self.leave.bias[0], -5.0)  # pyright: ignore[reportOptionalSubscript]
        line = torch.linspace(-1, 1, SIDE)
        self.register_buffer(
            "place", torch.stack(torch.meshgrid(line, line, indexing="xy")), persistent=False
        )
        self.register_buffer("ahead", cell_bearings(), persistent=False)

    def forward(self, pictures: Tensor) -> Maps:
        where = self.place.to(pictures).expand(len(pictures), -1, -1, -1)
        fine = self.fine(self.enter(torch.cat([pictures * 2 - 1, where], dim=1)))  # (N, a, 32, 32)
        middle = self.middle(self.halve(fine))  # (N, b, 16, 16)
        coarse = self.coarse(self.quarter(middle))  # (N, c, 8, 8)
        middle = self.middle_again(middle + F.pixel_shuffle(self.up(coarse), 2))
        fine = self.fine_again(fine + F.pixel_shuffle(self.up_again(middle), 2))
        out = self.leave(fine)  # (N, 15, 32, 32)
        colours = 3 + len(COLOURS)
        return Maps(
            middle=out[:, 0],
            colour=out[:, 3:colours],
            shape=out[:, colours:],
            bearing=self.ahead.to(out) + BEARING * out[:, 1],
            log_distance=DISTANCE * out[:, 2] + math.log(2.4),
        )


def cell_bearings() -> Tensor:
    """Bearings of the middles of cells in the level frame of an upright camera: (CELLS, CELLS) radians."""
    line = (torch.arange(CELLS) + 0.5) * CELL / (SIDE / 2) - 1  # a field of view of 90 degrees
    right, down = torch.meshgrid(line, line, indexing="xy")
    return torch.atan2(right, math.cos(PITCH) - math.sin(PITCH) * down)


@dataclass(frozen=True)
class Limits:
    """What was measured on validation renders. least: the probability from which on an object is there;
    slope, offset: of the logit of that probability; bearing, distance: deviations of what is measured, in
    radians and in log metres; shape: what the closer look's logits are multiplied with."""

    least: float = 0.5
    slope: float = 1.0
    offset: float = 0.0
    bearing: float = 0.01
    distance: float = 0.02
    shape: float = 1.0


class Verifier:
    """A detector, its closer look, and limits. Pictures are uint8 (N, 3, 64, 64) tensors, on any device."""

    def __init__(self, detector: Detector, outline: Outline | None = None, limits: Limits = Limits()) -> None:
        self.detector = detector.eval()
        self.outline = None if outline is None else outline.eval()
        for net in (self.detector, self.outline):
            if net is not None:
                net.to(memory_format=torch.channels_last)  # a quarter faster  # pyright: ignore[reportCallIssue]
        self.limits = limits

    def look(self, pictures: Tensor) -> list[list[Found]]:
        """What is in each picture. Raises ValueError for pictures of another size or type."""
        return [self._found(some) for some in self.maybe(pictures)]

    def verdicts(self, pictures: Tensor, compositions: Sequence[Composition]) -> list[Verdict]:
        """Which atoms of its composition each picture meets, and how many objects it shows besides."""
        return [judge(c, self._found(some)) for c, some in self._each(pictures, compositions)]

    def chances(self, pictures: Tensor, compositions: Sequence[Composition]) -> list[tuple[float, ...]]:
        """The probability of each atom of its composition, for each picture."""
        return [chances(c, some, self._blur) for c, some in self._each(pictures, compositions)]

    def judged(
        self, pictures: Tensor, compositions: Sequence[Composition]
    ) -> list[tuple[Verdict, tuple[float, ...]]]:
        """Verdicts and chances, with one look."""
        return [
            (judge(c, self._found(some)), chances(c, some, self._blur))
            for c, some in self._each(pictures, compositions)
        ]

    @torch.no_grad()
    def maybe(self, pictures: Tensor) -> list[list[Maybe]]:
        """Everything that could be an object, the most probable first."""
        if pictures.dtype != torch.uint8 or pictures.dim() != 4 or pictures.shape[1:] != (3, SIDE, SIDE):
            raise ValueError(
                f"pictures must be uint8 (N, 3, {SIDE}, {SIDE}), not {pictures.dtype} {tuple(pictures.shape)}"
            )
        device = next(self.detector.parameters()).device
        found: list[list[Maybe]] = []
        for some in pictures.split(_CHUNK):
            floats = some.to(device).float() / 255
            found += self.read(self.detector(floats), floats)
        return found

    def read(self, maps: Maps, pictures: Tensor | None = None) -> list[list[Maybe]]:
        """What the maps of pictures say is where: peaks, at most MOST a picture, the most probable first.
        pictures (N, 3, SIDE, SIDE) in 0..1, for the closer look; without it shapes are those of the maps."""
        logit = maps.middle  # (N, C, C)
        peak = logit == F.max_pool2d(logit[:, None], 3, stride=1, padding=1)[:, 0]
        there = torch.sigmoid(self.limits.slope * logit + self.limits.offset)
        best, cells = (there * peak).flatten(1).topk(MOST)  # (N, MOST)
        colour, shape = (
            m.flatten(2).mT.gather(1, cells[..., None].expand(-1, -1, m.shape[1])).softmax(-1)
            for m in (maps.colour, maps.shape)
        )
        bearing, distance = (m.flatten(1).gather(1, cells) for m in (maps.bearing, maps.log_distance.exp()))
        if pictures is not None and self.outline is not None:
            which, place = (best >= LEAST).nonzero(as_tuple=True)
            if len(which):
                cut = cut_out(pictures, which, bearing[which, place], distance[which, place])
                said = (self.outline(cut) + self.outline(cut.flip(-1))) / 2  # as it is, and in a mirror
                shape[which, place] = (self.limits.shape * said).softmax(-1)
        kinds = (colour[..., :, None] * shape[..., None, :]).flatten(2)  # (N, MOST, 32)
        columns = (best, kinds, bearing, distance)
        return [
            [Maybe(*one) for one in zip(*values, strict=True) if one[0] >= LEAST]
            for values in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def _each(
        self, pictures: Tensor, compositions: Sequence[Composition]
    ) -> Iterator[tuple[Composition, list[Maybe]]]:
        if len(pictures) != len(compositions):
            raise ValueError(f"{len(pictures)} pictures and {len(compositions)} compositions")
        return zip(compositions, self.maybe(pictures), strict=True)

    def _found(self, some: Sequence[Maybe]) -> list[Found]:
        return [one.found for one in some if one.there >= self.limits.least]

    @property
    def _blur(self) -> tuple[float, float]:
        return self.limits.bearing, self.limits.distance

    def save(self, path: Path) -> None:
        """Weights as bfloat16, and the limits."""
        parts = {"detector": self.detector, "outline": self.outline}
        weights = {
            f"{part}.{name}": value.bfloat16().contiguous()
            for part, net in parts.items()
            if net is not None
            for name, value in net.state_dict().items()
        }
        save_file(weights | {"limits": torch.tensor(list(vars(self.limits).values()))}, path)


def load(path: Path) -> Verifier:
    """Raises FileNotFoundError where there is none, ValueError where it is damaged or of another version."""
    mend = "restore it, or train it with `python -m nano_omni.training.verifier`"
    if not path.is_file():
        raise FileNotFoundError(f"the verifier's weights are not there (no {path}): {mend}")
    try:
        return _read(load_file(path))
    except (SafetensorError, OSError, RuntimeError, LookupError, TypeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path} cannot be read as a verifier ({why:.300}): {mend}") from error


def _read(held: dict[str, Tensor]) -> Verifier:
    """From weights as `Verifier.save` writes them."""
    limits = Limits(*held.pop("limits").tolist())
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in held.items():
        part, _, own = name.partition(".")
        parts.setdefault(part, {})[own] = value
    detector, outline = Detector(), Outline() if "outline" in parts else None
    detector.load_state_dict(parts["detector"])
    if outline is not None:
        outline.load_state_dict(parts["outline"])
    return Verifier(detector, outline, limits)


@cache
def verifier() -> Verifier:
    """The one that comes along, on the CPU."""
    return load(FILE)


def measured() -> dict:
    """What was measured of the one that comes along: see `training.verifying.measure`."""
    return json.loads(FILE.with_suffix(".json").read_text())
