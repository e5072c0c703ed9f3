"""What was read, a node a segment, and how chains of nodes are worked on together as one batch.

Chains of different lengths share a batch: the shorter ones begin later (filled up on the left, where nobody
looks), what is read next may end earlier. Who is how long changes no result but by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .model import NanoOmni, Past, causal_mask

BATCH_BYTES = (
    96 << 20
)  # of keys and values that are continued at a time: more is worked on in several batches
SPREAD, SLACK = 1.25, 8  # no chain of a batch is longer than so many times the shortest, and so many tokens


@dataclass(frozen=True, eq=False)
class Look:
    """What a model sees of V photos before it is asked: shown (V, C), the highest probability of each class
    of patch (0: the room, then vocabulary.OBJECTS) in any patch of each; feature (V, d), mean of its patch
    features."""

    shown: Tensor
    feature: Tensor

    @property
    def seen(self) -> Tensor:
        """(C,), in any photo."""
        return self.shown.amax(0)


@dataclass(frozen=True, eq=False)
class Node:
    """A segment that was read, after those of `parent`: kept (layers, 2, H, T, D) keys and values."""

    key: bytes
    parent: Node | None
    kept: Tensor
    position: int  # of the word that comes next
    look: Look | None  # None: no photos

    @property
    def chain(self) -> list[Node]:
        """From the photos on."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    @property
    def length(self) -> int:
        """Tokens that were read up to here."""
        return sum(node.kept.shape[3] for node in self.chain)


class Batch:
    """Chains that are continued as one batch. `past`: keys and values, per layer (B, H, S, D), of all that
    was read so far; what `read` is given comes after it."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        chains = [node.chain for node in nodes]
        lengths = [sum(link.kept.shape[3] for link in chain) for chain in chains]
        like = nodes[0].kept
        self.behind = max(lengths)
        whole = like.new_empty(len(nodes), *like.shape[:3], self.behind, like.shape[4])
        for sample, chain, length in zip(whole, chains, lengths, strict=True):
            begin = self.behind - length
            sample[..., :begin, :] = 0.0
            for link in chain:
                end = begin + link.kept.shape[3]
                sample[..., begin:end, :] = link.kept
                begin = end
        self.past: Past = tuple((layer[:, 0], layer[:, 1]) for layer in whole.unbind(1))
        self.position: int | Tensor = nodes[0].position
        self.begins: Tensor | None = None  # (B, 1, 1, 1), where samples differ
        if len(set(lengths)) > 1 or len({node.position for node in nodes}) > 1:
            self.position = torch.tensor([n.position for n in nodes], device=like.device)[:, None, None]
            begins = [self.behind - length for length in lengths]
            self.begins = torch.tensor(begins, device=like.device)[:, None, None, None]

    def run(
        self, model: NanoOmni, embedded: Tensor, already: int = 0, generation: Tensor | None = None
    ) -> Tensor:
        """Hidden states (B, n, d) of embeddings (B, n, d), each after all before it; they belong to the past
        from now on. already: how many words were read since the nodes. generation (n,): as in
        `NanoOmni.run`, of a picture whose tokens share a position and see each other."""
        count, behind = embedded.shape[1], self.past[0][0].shape[2]
        place = torch.arange(count, device=embedded.device)
        mask = None
        if generation is not None:
            place = torch.zeros_like(place)
        elif count > 1:
            mask = causal_mask(behind, count, embedded.device)
        if self.begins is not None:
            there = torch.arange(behind + count, device=embedded.device) >= self.begins  # (B, 1, 1, S + n)
            mask = there.expand(-1, -1, count, -1) if mask is None else there & mask
        own = embedded.to(self.past[0][0].dtype)
        x, self.past = model.run(own, place + self.position + already, mask, self.past, generation)
        return x

    def added(self, counts: Sequence[int]) -> list[Tensor]:
        """Keys and values of the first words of each sample that were read since the nodes, a tensor
        (layers, 2, H, count, D) a sample."""
        return apart(tuple((k[:, :, self.behind :], v[:, :, self.behind :]) for k, v in self.past), counts)


def apart(past: Past, counts: Sequence[int]) -> list[Tensor]:
    """A batch's keys and values up to where each sample ends, a tensor (layers, 2, H, count, D) a sample."""
    whole = torch.stack([torch.stack([k, v], 1) for k, v in past], 1)  # (B, layers, 2, H, S, D)
    return [sample[..., :count, :].clone() for sample, count in zip(whole, counts, strict=True)]


def batches(things: Sequence[tuple[Node, int]]) -> Iterator[list[int]]:
    """Which of (node, number of words to come) are worked on together: those of about one length."""
    sizes = [(count, node.length) for node, count in things]
    batch: list[int] = []
    fewest = shortest = longest = 0
    for i in sorted(range(len(things)), key=sizes.__getitem__):
        count, length = sizes[i]
        tokens = (len(batch) + 1) * (max(longest, length) + count)
        if batch and (
            count > SPREAD * fewest + SLACK
            or max(longest, length) > SPREAD * min(shortest, length) + SLACK
            or tokens * things[i][0].kept[..., :1, :].nbytes > BATCH_BYTES
        ):
            yield batch
            batch = []
        if not batch:
            fewest, shortest, longest = count, length, length
        shortest, longest = min(shortest, length), max(longest, length)
        batch.append(i)
    if batch:
        yield batch
