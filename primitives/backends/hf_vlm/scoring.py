"""How probable each choice is as the whole reply."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from primitives.backends.hf_vlm.chat import Reading
from primitives.backends.hf_vlm.reader import Reader, Row
from unroller.dispatch import is_out_of_memory


@torch.no_grad()
def score(
    reader: Reader, readings: Sequence[Reading], choices: Sequence[Sequence[list[int]]], most: int
) -> list[list[float]]:
    """Probabilities that sum to 1 among each prompt's choices.

    A choice's score is the log-probability that the model writes exactly that and then ends its reply: the
    sum over its tokens, and over the tokens that end a reply. So a choice that another begins with ("left",
    "left of it") is not preferred for being shorter; there is no other correction for length. `choices` as
    tokens; at most `most` rows go through the model together.
    """
    ends = reader.chat.ends
    rows: list[Row] = []
    asked: list[tuple[int, list[int]]] = []
    for i, (read, offered) in enumerate(zip(reader.read(readings), choices, strict=True)):
        for said in offered:
            rows.append(_followed(read, said, readings[i].after))
            asked.append((i, said))
    together = most if reader.remembers or reader.joins else 1
    scores: list[list[float]] = [[] for _ in readings]
    at = 0
    while at < len(rows):
        some = rows[at : at + together]
        try:
            logits = reader.forward(some).logits
        except Exception as error:
            if len(some) == 1 or not is_out_of_memory(error):
                raise
            together = len(some) // 2  # the engine can halve samples, not their choices
            continue
        for b, (i, said) in enumerate(asked[at : at + together]):
            end = len(some[b])
            part = logits[b, end - len(said) - 1 : end].float().log_softmax(-1)  # (n + 1, V)
            scores[i].append(float(_said(part, said) + _ended(part, ends)))
        at += len(some)
    return [torch.tensor(s, dtype=torch.float64).softmax(0).tolist() for s in scores]


def _followed(row: Row, said: list[int], kind: int) -> Row:
    """A row and the tokens that follow it, of this type."""
    more = torch.arange(1, len(said) + 1)
    last = row.positions[..., -1:]
    pictures = dict(row.pictures)
    if (seen := pictures.get("cross_attention_mask")) is not None:  # (1, T, ...): which pictures a token sees
        pictures["cross_attention_mask"] = torch.cat([seen, seen[:, -1:].expand(-1, len(said), -1, -1)], 1)
    return Row(
        torch.cat([row.tokens, torch.tensor(said, dtype=torch.long)]),
        torch.cat([row.positions, last + more], -1),
        row.pieces,
        row.past,
        pictures,
        None if row.types is None else torch.cat([row.types, row.types.new_full((len(said),), kind)]),
    )


def _said(part: Tensor, said: list[int]) -> Tensor:
    if not said:
        return part.new_zeros(())
    return part[:-1].gather(1, torch.tensor(said, device=part.device)[:, None]).sum()


def _ended(part: Tensor, ends: tuple[int, ...]) -> Tensor:
    return part[-1, list(ends)].logsumexp(0) if ends else part.new_zeros(())
