"""Walks of a camera in words: where it goes from a photo, and where it then is.

    walk = parse_walk("go forward 1 m and turn left 30 degrees, then go right 0.5 m")
    walk.poses(17)                 # (17, 4, 4): the photo's own camera first, evenly along the way

walk      leg [", then" leg] ...
leg       part ["and" part], at once
part      "go" side number unit | "turn" side number "degrees"

Sides are those of whoever walks: after "turn left 90 degrees" forward is where left was.
"""

import difflib
import math
import random
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from . import camera
from .prompts.english import PromptError, tidied
from .scene import Scene
from .viewpoints import CLEARANCE, clearance

FARTHEST, WIDEST = 10.0, 360.0
"""Metres and degrees of a leg, at most."""
_DEGREES_A_METRE = 45.0  # so many degrees take as long as a metre
_TRIES, _STEPS = 48, 16
_SIDES: dict[str, tuple[int, int]] = {"forward": (0, 1), "back": (0, -1), "left": (-1, 0), "right": (1, 0)}
_UNITS: dict[str, float] = {"m": 1.0, "metres": 1.0, "cm": 0.01}
_RULES = (
    (r"[.!]+\s*$", ""),
    (r"\s+", " "),
    (r"^please ", ""),
    (r"\b(?:the camera |you )", ""),
    (r"(?<=[a-z°])\. ", "; "),
    (r"\bback up\b", "go back"),
    (r"\b(?:walk|move|step|strafe|goes|walks|moves|steps)\b", "go"),
    (r"\b(?:turns|rotate|rotates|pan|pans|look)\b", "turn"),
    (r"\b(?:straight )?(?:ahead|forwards|on|in)\b", "forward"),
    (r"\b(?:backward|backwards|out)\b", "back"),
    (r"\bto the (left|right)\b", r"\1"),
    (r"\b(?:by|for) (?=[\d.])", ""),
    (r"(\d)\s*(?:°|deg\b|degree\b)", r"\1 degrees"),
    (r"(\d)\s*(?:meters?|metre)\b", r"\1 metres"),
    (r"(\d)(?=[a-z])", r"\1 "),
    (r"\bgo ([\d.]+ \w+)(?= and\b| then\b|[,;]|$)", r"go forward \1"),
)
_SIDE, _FAR = r"(?P<side>[^\W\d]+)", r"(?P<number>\d+(?:\.\d+)?|\.\d+) (?P<unit>\w+)"
_PARTS = tuple(re.compile(rf"(?P<verb>go|turn) {how}") for how in (f"{_SIDE} {_FAR}", f"{_FAR} {_SIDE}"))
_FORMS = (
    'write for example "go forward 1 m", "turn left 30 degrees" or "go right 0.5 m and turn left 20 degrees,'
    ' then go back 1 m"'
)


@dataclass(frozen=True)
class Leg:
    """Metres to the right and ahead of where one looks when it begins, and degrees turned to the right, all
    at once and evenly. Raises ValueError for none of these, and for more than FARTHEST or WIDEST."""

    right: float = 0.0
    ahead: float = 0.0
    turn: float = 0.0

    def __post_init__(self) -> None:
        if not self.time > 0:
            raise ValueError("a leg of a walk goes somewhere, or turns")
        if math.hypot(self.right, self.ahead) > FARTHEST or abs(self.turn) > WIDEST:
            raise ValueError(f"a leg of a walk has at most {FARTHEST:g} m and {WIDEST:g} degrees")

    @property
    def time(self) -> float:
        """How long it takes, in metres."""
        return max(math.hypot(self.right, self.ahead), abs(self.turn) / _DEGREES_A_METRE)

    def __str__(self) -> str:
        said = [
            f"go {side} {abs(metres):g} m"
            for side, metres in (
                ("forward" if self.ahead > 0 else "back", self.ahead),
                ("right" if self.right > 0 else "left", self.right),
            )
            if metres
        ]
        if self.turn:
            said.append(f"turn {'right' if self.turn > 0 else 'left'} {abs(self.turn):g} degrees")
        return " and ".join(said)


@dataclass(frozen=True)
class Walk:
    """Legs, one after the other."""

    legs: tuple[Leg, ...]

    def __str__(self) -> str:
        return ", then ".join(map(str, self.legs))

    def poses(self, count: int) -> Tensor:
        """Where the camera is at `count` times, evenly from the first to the last: (count, 4, 4) float64, in
        the first one's own frame (OpenCV, metres). All look down by camera.PITCH; one alone is the first."""
        states = torch.tensor([self._state(k / max(count - 1, 1)) for k in range(count)], dtype=torch.float64)
        places = torch.cat([states[:, :2], torch.zeros(count, 1, dtype=torch.float64)], 1)
        down = torch.full((count,), camera.PITCH, dtype=torch.float64)
        cameras = camera.pose(places, math.pi / 2 - states[:, 2], down)
        return camera.relative(cameras[:1].expand(count, 4, 4), cameras)

    def _state(self, share: float) -> tuple[float, float, float]:
        """Metres to the right and ahead of the beginning, and radians turned to the right, once a share of
        the time is over."""
        left = share * sum(leg.time for leg in self.legs)
        x = y = turned = 0.0
        for leg in self.legs:
            done = min(left / leg.time, 1.0)
            x += done * (leg.right * math.cos(turned) + leg.ahead * math.sin(turned))
            y += done * (leg.ahead * math.cos(turned) - leg.right * math.sin(turned))
            turned += done * math.radians(leg.turn)
            left -= done * leg.time
        return x, y, turned


def parse_walk(prompt: str) -> Walk:
    """Raises PromptError, which says what is not understood, and what is."""
    text = tidied(prompt, "a walk", _RULES, _FORMS)
    legs = re.split(r"\s*[,;]?\s*(?:\band\s+)?\bthen\b\s*|\s*;\s*", text)
    if "" in legs:
        raise PromptError(f'"{text[:80]}" says nothing before or after "then": {_FORMS}')
    return Walk(tuple(_leg(leg) for leg in legs))


def _leg(text: str) -> Leg:
    moved: dict[str, float] = dict.fromkeys(("right", "ahead", "turn"), 0.0)
    for part in re.split(r"\s*(?:,|\band\b)\s*", text):
        for name, value in _part(part).items():
            if moved[name]:
                raise PromptError(f'"{text[:80]}" says twice how far: say one after the other with "then"')
            moved[name] = value
    try:
        return Leg(**moved)
    except ValueError as error:
        raise PromptError(f'"{text[:80]}": {error}; {_FORMS}') from None


def _part(text: str) -> dict[str, float]:
    """What one "go" or "turn" says."""
    read = next(filter(None, (form.fullmatch(text) for form in _PARTS)), None)
    if read is None:
        raise PromptError(f'"{text[:80]}" is not understood: {_FORMS}')
    side, unit, number = read["side"], read["unit"], float(read["number"])
    if read["verb"] == "turn":
        if side not in ("left", "right"):
            raise PromptError(f'"{text}": the camera turns left or right; {_FORMS}')
        if unit != "degrees":
            raise PromptError(f'"{text}": say in degrees how far it turns; {_FORMS}')
        return {"turn": number if side == "right" else -number}
    if side not in _SIDES:
        close = difflib.get_close_matches(side, _SIDES, n=1)
        hint = f": did you mean {close[0]}?" if close else "."
        raise PromptError(f'"{text}": it does not go "{side}"{hint} There are {", ".join(_SIDES)}.')
    if unit not in _UNITS:
        raise PromptError(f'"{text}": say in m or cm how far it goes; {_FORMS}')
    right, ahead = _SIDES[side]
    return {"right": right * number * _UNITS[unit]} if right else {"ahead": ahead * number * _UNITS[unit]}


@torch.no_grad()
def draw_walks(scene: Scene, c2w: Tensor, seeds: Tensor) -> list[Walk]:
    """A walk of one leg for each room, from its camera (B, 4, 4), that comes too near to nothing: 0.3 to
    1.2 m forward, up to 0.5 m to a side and 5 to 40 degrees round; where there is no room for one, only a
    turn."""
    lots = [random.Random(seed) for seed in seeds.tolist()]
    drawn = [[_drawn(some) for _ in range(_TRIES)] for some in lots]
    ways = torch.stack(
        [torch.stack([walk.poses(_STEPS) for walk in walks]) for walks in drawn]
    )  # (B, T, n, 4, 4)
    spots = (c2w[:, None, None].double() @ ways)[..., :2, 3].float()  # (B, T, n, 2)
    free = (
        clearance(scene, spots.flatten(1, 2)).unflatten(1, (_TRIES, _STEPS)).amin(-1) >= CLEARANCE
    )  # (B, T)
    return [
        next(
            (walk for walk, may in zip(walks, some, strict=True) if may),
            Walk((Leg(turn=walks[0].legs[0].turn),)),
        )
        for walks, some in zip(drawn, free.tolist(), strict=True)
    ]


def _drawn(lots: random.Random) -> Walk:
    turn = lots.choice((-1, 1)) * lots.randrange(5, 45, 5)
    return Walk((Leg(lots.randrange(-5, 6) / 10, lots.randrange(3, 13) / 10, turn),))
