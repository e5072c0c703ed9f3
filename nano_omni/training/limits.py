"""Thresholds and deviations of a verifier, from validation renders."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..verifier import Limits, Verifier
from ..world.prompts import MOST, Found, judge
from ..world.prompts.chances import Maybe
from ..world.scene import SHAPES
from .spoiling import spoil
from .verifying import BATCH, shown

_BEARING, _DISTANCE = 0.08, 0.2  # radians and log metres within which a candidate is taken for an object


def set_limits(judge_: Verifier, count: int = 3000) -> Limits:
    """From validation renders, half of them spoiled: how its certainties are to be read, how far off
    its bearings and distances are, and the threshold that gets most pictures wholly right. Every fourth
    batch is in plain paint, with up to six objects."""
    plain = Verifier(judge_.detector, judge_.outline)
    kinds = [{}, {}, {}, {"texture": "plain", "most": MOST}]
    right = [shown("val", at, BATCH, **kinds[k % 4]) for k, at in enumerate(range(0, count, BATCH))]
    pictures = torch.cat([some.pictures for some in right])
    found = [one for some in right for one in some.found]
    generator = torch.Generator().manual_seed(0)
    rough = (spoil(pictures.float() / 255, generator) * 255).round().to(torch.uint8)
    candidates = plain.maybe(rough)
    matched = [_matched(some, true) for some, true in zip(candidates, found, strict=True)]
    pairs = [(one, true) for some in matched for one, true in some]
    logits = torch.logit(torch.tensor([one.there for one, _ in pairs]).clamp(1e-6, 1 - 1e-6))
    there = torch.tensor([float(true is not None) for _, true in pairs])
    slope, offset = _fit(logits, there)
    near = [(one, true) for one, true in pairs if true is not None]
    bearing = _deviation([one.bearing - true.bearing for one, true in near])
    distance = _deviation([math.log(one.distance / true.distance) for one, true in near])
    limits = Limits(0.5, slope, offset, bearing, distance, _sharpness(near))
    judges = Verifier(judge_.detector, judge_.outline, limits)
    asked = [c for some in right for c in some.compositions]
    seen = judges.maybe(pictures)

    def passed(least: float) -> int:
        kept = ([one.found for one in some if one.there >= least] for some in seen)
        return sum(judge(c, one).success for c, one in zip(asked, kept, strict=True))

    counted = {k / 20: passed(k / 20) for k in range(2, 19)}
    most = max(counted.values())
    best = [least for least, n in counted.items() if n == most]
    return replace(judges.limits, least=best[len(best) // 2])


def _matched(candidates: Sequence[Maybe], true: Sequence[Found]) -> list[tuple[Maybe, Found | None]]:
    """Each candidate with the object it stands for, the most probable ones first; an object has one."""
    left = list(true)
    pairs: list[tuple[Maybe, Found | None]] = []
    for one in candidates:

        def away(other: Found, one: Maybe = one) -> float:
            far = abs(math.log(one.distance / max(other.distance, 1e-3))) / _DISTANCE
            return max(abs(one.bearing - other.bearing) / _BEARING, far)

        nearest = min(left, key=away, default=None)
        if nearest is not None and away(nearest) > 1:
            nearest = None
        if nearest is not None:
            left.remove(nearest)
        pairs.append((one, nearest))
    return pairs


def _fit(logits: Tensor, there: Tensor) -> tuple[float, float]:
    """Slope and offset of the logistic regression of `there` on logits (Platt, 1999)."""
    numbers = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = torch.optim.LBFGS([numbers], max_iter=50)

    def step() -> float:
        optimizer.zero_grad()
        wrong = torch.nn.functional.binary_cross_entropy_with_logits(numbers[0] * logits + numbers[1], there)
        wrong.backward()
        return wrong.item()

    optimizer.step(step)
    slope, offset = numbers.tolist()
    return slope, offset


def _sharpness(pairs: Sequence[tuple[Maybe, Found]]) -> float:
    """What logits of shapes are to be multiplied with, so that they are probabilities of the true ones."""
    kinds = torch.tensor([one.kinds for one, _ in pairs]).view(len(pairs), -1, len(SHAPES))
    logits = kinds.sum(1).clamp(min=1e-9).log()
    true = torch.tensor([other.kind % len(SHAPES) for _, other in pairs])
    tried = [k / 20 for k in range(4, 41)]
    return min(tried, key=lambda k: torch.nn.functional.cross_entropy(k * logits, true).item())


def _deviation(errors: Sequence[float]) -> float:
    """Of a normal distribution with these quartiles: a few that are far off do not count."""
    return max(1e-3, torch.tensor(errors).abs().median().item() / 0.6745)
