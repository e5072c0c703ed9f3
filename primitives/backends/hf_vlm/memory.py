"""What a model has read and keeps: a radix tree over tokens, whose nodes hold keys and values.

A sequence is numbers, one a token; the tokens of a picture are numbers of its digest, so that equal numbers
mean equal content. What two sequences begin with is kept once, however they go on. This is the prefix cache
of SGLang (RadixAttention, arXiv 2312.07104), without pages: a node holds the tensors of its own tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

Keys = npt.NDArray[np.int64]
Piece = list[Tensor]
"""Keys and values of some tokens: one tensor (m, H, T, D) for every shape (H, D) that layers have."""


class Node:
    """Tokens `keys` (T,) after those of its parent, and their piece."""

    def __init__(self, keys: Keys, piece: Piece, parent: Node | None) -> None:
        self.keys = keys
        self.piece = piece
        self.parent = parent
        self.children: dict[int, Node] = {}
        self.used = 0

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.piece)


class Memory:
    """At most max_bytes of keys and values; what was used longest ago goes first, ends before beginnings."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._root = Node(np.empty(0, np.int64), [], None)
        self._clock = 0

    def find(self, keys: Keys) -> tuple[int, list[Piece]]:
        """How many of the first tokens are kept, and their pieces in order."""
        pieces: list[Piece] = []
        found = 0
        for node, match in self._walk(keys):
            pieces.append(_part(node.piece, 0, match))
            found += match
        return found, pieces

    def keep(self, keys: Keys, start: int, piece: Piece) -> None:
        """Keep the piece of keys[start:], of a sequence whose first `start` tokens are kept."""
        walked = list(self._walk(keys))
        depth = sum(match for _, match in walked)
        node, match = walked[-1] if walked else (self._root, 0)
        if depth < start or depth == len(keys):  # its beginning is gone already, or it is there
            return
        if match < len(node.keys):
            self._split(node, match)
        own = [tensor.contiguous() for tensor in _part(piece, depth - start, len(keys) - start)]
        child = Node(keys[depth:].copy(), own, node)
        child.used = self._clock
        node.children[int(keys[depth])] = child
        self.bytes += child.bytes
        self._shrink()

    def forget(self) -> None:
        """Everything."""
        self._root.children.clear()
        self.bytes = 0

    def _walk(self, keys: Keys) -> Iterator[tuple[Node, int]]:
        """Nodes along a sequence, and how many of each one's tokens it shares."""
        self._clock += 1
        node, depth = self._root, 0
        while depth < len(keys):
            child = node.children.get(int(keys[depth]))
            if child is None:
                return
            match = common(child.keys, keys[depth:])
            child.used = self._clock
            yield child, match
            if match < len(child.keys):
                return
            node, depth = child, depth + match

    def _split(self, node: Node, at: int) -> None:
        """Make the tokens from `at` on a child, copied: a view would keep the whole in memory."""
        rest = Node(node.keys[at:], [t.clone() for t in _part(node.piece, at, len(node.keys))], node)
        rest.children, rest.used = node.children, node.used - 1
        for child in rest.children.values():
            child.parent = rest
        node.piece = [t.clone() for t in _part(node.piece, 0, at)]
        node.keys = node.keys[:at]
        node.children = {int(rest.keys[0]): rest}

    def _shrink(self) -> None:
        while self.bytes > self.max_bytes:
            leaf = min(self._leaves(), key=lambda node: node.used)
            assert leaf.parent is not None
            del leaf.parent.children[int(leaf.keys[0])]
            self.bytes -= leaf.bytes

    def _leaves(self) -> Iterator[Node]:
        waiting = list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            if node.children:
                waiting.extend(node.children.values())
            else:
                yield node


def common(a: Keys, b: Keys) -> int:
    """How many tokens two sequences begin with alike."""
    most = min(len(a), len(b))
    differ = a[:most] != b[:most]
    return int(differ.argmax()) if differ.any() else most


def length(pieces: Sequence[Piece]) -> int:
    return sum(piece[0].shape[2] for piece in pieces)


def _part(piece: Piece, start: int, end: int) -> Piece:
    return [tensor[:, :, start:end] for tensor in piece]
