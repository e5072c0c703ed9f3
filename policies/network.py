"""A small network over a flat observation: how likely each choice is, and what the state is worth."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class PolicyNetwork(nn.Module):
    """A multilayer perceptron with two heads.

    size: of an observation; choices: actions and STOP; hidden: units of each hidden layer. The heads start
    small (orthogonal, gain 0.01 for choices and 1 for the value), so that an untrained policy is nearly
    uniform.
    """

    def __init__(self, size: int, choices: int, hidden: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((size, *hidden), hidden, strict=False):
            layers += [_orthogonal(nn.Linear(before, after), 2**0.5), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        last = hidden[-1] if hidden else size
        self.choice = _orthogonal(nn.Linear(last, choices), 0.01)
        self.value = _orthogonal(nn.Linear(last, 1), 1.0)

    def forward(self, observations: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (B, choices), −∞ where `allowed` (B, choices) is False, and values (B,) of
        observations (B, size). At least one choice a row must be allowed."""
        body = self.body(observations)
        logits = self.choice(body).masked_fill(~allowed, -torch.inf)
        return logits.log_softmax(-1), self.value(body).squeeze(-1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """(B,) entropy, in nats, of log-probabilities (B, choices), of which some may be −∞."""
    p = log_probabilities.exp()
    return -(p * log_probabilities.masked_fill(p == 0, 0.0)).sum(-1)


@contextmanager
def one_thread() -> Generator[None]:
    """Torch on one thread, and on as many as before afterwards: several add up, and orthogonalise, to other
    last digits, and in networks this small they are only in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
