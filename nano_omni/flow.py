"""Flow matching: from noise to latents along straight lines. No model in here.

t runs from 1, noise, to 0, the picture: x_t = (1 - t) x_0 + t noise, and a model learns the velocity
v = noise - x_0. Times are drawn as the sigmoid of a normal number and shifted towards noise,
s t / (1 + (s - 1) t), in training and in sampling alike. Steps are those of diffusers' Euler scheduler.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def shifted(t: Tensor, shift: float) -> Tensor:
    """Times in 0..1 moved towards 1 (shift above 1) or 0."""
    return shift * t / (1 + (shift - 1) * t)


def draw_times(count: int, shift: float, generator: torch.Generator | None = None) -> Tensor:
    """Times to train at: (count,) in 0..1."""
    device = None if generator is None else generator.device
    return shifted(torch.randn(count, generator=generator, device=device).sigmoid(), shift)


def noised(clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Of latents (B, ...) at times (B,): x_t and the velocity to be learned."""
    t = t.view(-1, *[1] * (clean.dim() - 1))
    return (1 - t) * clean + t * noise, noise - clean


@dataclass(frozen=True)
class Guidance:
    """How strongly a condition is followed: 1 as it was learned, above it more, see `guided`.

    text, image: scales; least: of the renormalisation, the least that a velocity may be shortened to (1: it
    keeps its length); begin, end: guidance is used at times in (begin, end]. Raises ValueError for scales
    below 0, or for times outside 0..1.
    """

    text: float = 5.0
    image: float = 1.0
    least: float = 0.0
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        for name in ("text", "image"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"guidance on {name} must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.least <= 1 or not 0 <= self.begin <= self.end <= 1:
            raise ValueError("least, begin and end of a guidance lie in 0..1, begin before end")


def guided(
    velocity: Tensor, without_text: Tensor | None, without_image: Tensor | None, guidance: Guidance, t: float
) -> Tensor:
    """The velocity (B, ...) to follow, of those with all conditions, without the text, and without pictures.

    The text's is scaled first, the pictures' on top of it; then each sample's velocity is shortened to the
    length that it had with all conditions. Raises ValueError where a scale other than 1 lacks the velocity
    that it needs: guidance is never left out in silence.
    """
    if not guidance.begin < t <= guidance.end:
        return velocity
    followed = velocity
    if guidance.text != 1:
        if without_text is None:
            raise ValueError(f"guidance on text ({guidance.text:g}) needs the velocity without the text")
        followed = without_text + guidance.text * (velocity - without_text)
    if guidance.image != 1:
        if without_image is None:
            raise ValueError(
                f"guidance on pictures ({guidance.image:g}) needs the velocity without them: where none is"
                " given, set it to 1"
            )
        followed = without_image + guidance.image * (followed - without_image)
    if followed is velocity:
        return velocity
    length, before = (v.flatten(1).norm(dim=1) for v in (followed, velocity))
    share = (before / length.clamp(min=1e-8)).clamp(guidance.least, 1.0)
    return followed * share.view(-1, *[1] * (velocity.dim() - 1))


def sample(
    velocity: Callable[[Tensor, float], Tensor],
    noise: Tensor,
    steps: int,
    shift: float,
    seen: Callable[[int, Tensor], Any] | None = None,
) -> Tensor:
    """Latents (B, ...) from noise, in `steps` steps; velocity(x_t, t) is the model's. `seen` is shown the
    number of each step that was taken, and what the picture would be. Raises ValueError for no steps."""
    if steps < 1:
        raise ValueError(f"sampling takes 1 step or more, not {steps}")
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    scheduler: Any = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
    x = noise
    for k in range(steps):
        t = float(scheduler.sigmas[k])
        v = velocity(x, t)
        if seen is not None:
            seen(k + 1, x - t * v)
        x = scheduler.step(v, scheduler.timesteps[k], x, return_dict=False)[0]
    return x
