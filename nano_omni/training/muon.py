"""Muon (Jordan et al., 2024): momentum, orthogonalised, for weight matrices; AdamW for the rest."""

import functools

import torch
from torch import Tensor, nn


def newton_schulz(stack: Tensor, narrow: bool = False) -> Tensor:
    """Matrices (N, rows, cols) towards the nearest semi-orthogonal ones: five quintic steps, in bfloat16 on
    GPUs or if it is asked for."""
    x = stack.bfloat16() if stack.is_cuda or narrow else stack
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.mT if tall else x


@functools.cache
def _compiled():
    return torch.compile(newton_schulz, dynamic=False)


class Muon(torch.optim.Optimizer):
    """For parameters of two dimensions or more (convolutions count as rows of flat kernels)."""

    def __init__(
        self,
        params,
        lr: float = 0.02,
        momentum: float = 0.95,
        compiled: bool = False,
        narrow: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self.narrow = narrow
        self.orthogonalise = _compiled() if compiled else newton_schulz

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:  # a step that this group has no part in
                continue
            grads = [p.grad for p in params]
            for p in params:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            kept = [self.state[p]["momentum"] for p in params]
            torch._foreach_lerp_(kept, grads, 1 - group["momentum"])  # pyright: ignore[reportPrivateImportUsage]
            updates = torch._foreach_lerp(grads, kept, group["momentum"])  # Nesterov  # pyright: ignore[reportPrivateImportUsage]
            shapes: dict[tuple[int, int], list[int]] = {}
            for k, update in enumerate(updates):
                shapes.setdefault((update.shape[0], update[0].numel()), []).append(k)
            for (rows, cols), members in shapes.items():
                stack = torch.stack([updates[k].flatten(1) for k in members])
                stack = self.orthogonalise(stack, self.narrow).to(stack.dtype)
                scale = -group["lr"] * max(1.0, rows / cols) ** 0.5
                chosen = [params[k] for k in members]
                changes = [c.view_as(p) for c, p in zip(stack.unbind(), chosen, strict=True)]
                torch._foreach_add_(chosen, changes, alpha=scale)  # pyright: ignore[reportPrivateImportUsage]


def split_parameters(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """(matrices for Muon, the rest for AdamW), by name. Embedding, heads and first convolution: the rest."""
    matrices, rest = {}, {}
    for name, p in model.named_parameters():
        inner = name.startswith(("blocks.", "stem.", "ends.places.")) and name != "stem.halve.0.weight"
        (matrices if p.dim() >= 2 and inner else rest)[name] = p
    return matrices, rest
