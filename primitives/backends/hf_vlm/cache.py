"""Between transformers' caches and the pieces that are kept: taking apart, putting together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from primitives.backends.hf_vlm.memory import Piece, length


class Layout:
    """Which layers hold keys and values, and in which tensor of a piece each of them is.

    Made from a cache that a model has filled with B samples of `tokens` tokens. Raises ValueError for a
    cache that holds anything else (recurrent states, a window only, pictures aside).
    """

    def __init__(self, cache: Any, tokens: int) -> None:
        self.count = len(cache.layers)
        self.places: list[tuple[int, int, int]] = []  # (layer, 0: keys 1: values, tensor of the piece)
        shapes: dict[tuple[int, ...], int] = {}
        for i, layer in enumerate(cache.layers):
            if not getattr(layer, "is_initialized", False):  # it shares another layer's
                continue
            for which, tensor in enumerate((layer.keys, layer.values)):
                if tensor.ndim != 4 or tensor.shape[2] != tokens:
                    raise ValueError(f"layer {i} keeps {tuple(tensor.shape)} of {tokens} tokens")
                shape = (tensor.shape[1], tensor.shape[3])
                self.places.append((i, which, shapes.setdefault(shape, len(shapes))))
        self.tensors = len(shapes)

    def apart(self, cache: Any, sample: int, start: int, end: int) -> Piece:
        """Tokens start:end of one sample of a cache, copied."""
        parts: list[list[Any]] = [[] for _ in range(self.tensors)]
        for i, which, tensor in self.places:
            layer = cache.layers[i]
            parts[tensor].append((layer.values if which else layer.keys)[sample, :, start:end])
        return [torch.stack(part) for part in parts]  # (m, H, T, D)

    def together(self, chains: Sequence[Sequence[Piece]]) -> Any:
        """A cache of B samples, each what its pieces hold, padded with zeros on the left."""
        cache = DynamicCache()
        longest = max(map(length, chains))
        if longest == 0:
            return cache
        first = next(chain[0] for chain in chains if chain)
        filled: list[Any] = []
        for k in range(self.tensors):
            m, heads, _, size = first[k].shape
            whole = first[k].new_zeros(m, len(chains), heads, longest, size)
            for b, chain in enumerate(chains):
                at = longest - length(chain)
                for piece in chain:
                    whole[:, b, :, at : at + piece[k].shape[2]] = piece[k]
                    at += piece[k].shape[2]
            filled.append(whole.unbind(0))
        taken = [0] * self.tensors
        pairs: dict[int, list[Any]] = {}
        for i, _, tensor in self.places:
            pairs.setdefault(i, []).append(filled[tensor][taken[tensor]])
            taken[tensor] += 1
        for i, (keys, values) in pairs.items():
            cache.update(keys, values, i)
        return cache
