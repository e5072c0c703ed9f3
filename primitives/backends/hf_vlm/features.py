"""What a model makes of a prompt before it says anything: hidden states, and one vector as a probe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from primitives.backends.hf_vlm.chat import Reading
from primitives.backends.hf_vlm.reader import Reader, Row


@torch.no_grad()
def hidden_states(reader: Reader, readings: Sequence[Reading]) -> list[Tensor]:
    """(T, D) each: the last layer's, after its norm."""
    rows = [Row(r.tokens, r.positions, [], 0, r.pictures, r.types) for r in readings]
    return [reader.forward([row], hidden=True).last_hidden_state[0] for row in rows]


@torch.no_grad()
def last_states(reader: Reader, readings: Sequence[Reading]) -> list[Tensor]:
    """(D,) float32 each: the state of the last token. What was read before is not read again."""
    rows = reader.read(readings)
    groups = [rows] if reader.remembers or reader.joins else [[row] for row in rows]
    found: list[Tensor] = []
    for group in groups:
        states = reader.forward(group, hidden=True).last_hidden_state  # (B, n, D)
        found += [states[b, len(row) - 1].float() for b, row in enumerate(group)]
    return found
