"""What a model writes for itself: visual tokens and hidden states."""

from __future__ import annotations

from unroller.arrays import Array
from unroller.rendering import Segment, TokenSegment, escape
from unroller.values.base import Value
from unroller.values.checks import as_tuple, check_array, need


class VisualTokens(Value, frozen=True, eq=False):
    """Discrete visual tokens that a model rolled out: ids (N,) integers in 0..codebook_size-1 of the
    named codebook; grid: optionally (rows, columns) that they fill."""

    ids: Array
    codebook: str
    codebook_size: int
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_array("VisualTokens.ids", self.ids, (None,), "int")
        need(self.codebook_size > 0, f"codebook_size {self.codebook_size} is not above 0")
        if self.grid is not None:
            as_tuple(self, "grid", int)
            n = int(self.ids.shape[0])
            need(self.grid[0] * self.grid[1] == n, f"a grid of {self.grid} does not hold {n} tokens")

    def words(self) -> str:
        return f"{self.ids.shape[0]} visual tokens of {self.codebook}"

    def render(self) -> tuple[Segment, ...]:
        return (TokenSegment(self.ids, self.codebook, escape(self.words())),)


class Latents(Value, frozen=True, eq=False):
    """The hidden representation: hidden (N, D) floating point, states of the model named by `space`."""

    hidden: Array
    space: str

    def __post_init__(self) -> None:
        check_array("Latents.hidden", self.hidden, (None, None), "float")

    def words(self) -> str:
        return f"{self.hidden.shape[0]} hidden states of {self.space}"

    def render(self) -> tuple[Segment, ...]:
        return (TokenSegment(self.hidden, self.space, escape(self.words())),)
