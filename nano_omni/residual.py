"""The block of convolutions that every small network for pictures here is made of."""

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """x (N, width, H, W) + what two convolutions of the same width make of it; at first nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(self.norm(x))))
