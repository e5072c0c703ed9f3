"""Words: what was thought, and what was answered."""

from __future__ import annotations

import math
import re

from unroller.faults import ValueCheckError
from unroller.rendering import Segment, TextSegment, escape
from unroller.values.base import Value
from unroller.values.checks import as_tuple, need

_KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RESERVED = frozenset({"campose"})
_KINDS = {"think"}  # those already checked


class Text(Value, frozen=True, eq=False, gc=False):
    """Words written into the context.

    kind: what they are, and the tag they render in (`<think>…</think>`): "think", "caption",
    "depth_caption", "motion", "plan", or any lower-case word but "campose".
    """

    text: str
    kind: str = "think"

    def __post_init__(self) -> None:
        if type(self.text) is not str:
            raise ValueCheckError(f"Text holds a str, not {type(self.text).__name__}")
        if not self.text.isascii():
            _check_unicode(self.text)
        if self.kind not in _KINDS:
            ok = bool(_KIND.fullmatch(self.kind)) and self.kind not in _RESERVED
            need(ok, f"{self.kind!r} cannot be a Text kind: use a lower-case word; campose is reserved")
            _KINDS.add(self.kind)

    def words(self) -> str:
        return self.text

    def render(self) -> tuple[Segment, ...]:
        return (TextSegment(f"<{self.kind}>{escape(self.text)}</{self.kind}>"),)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a decoder that cut a character in two
        raise ValueCheckError(f"text that is no Unicode cannot be kept or sent: {error}") from None


class Answer(Value, frozen=True, eq=False, gc=False):
    """The answer to a question.

    text: the answer; choice: its index among `choices`, if there were any; probabilities: one a choice,
    summing to 1 within 1e-3.
    """

    text: str
    choices: tuple[str, ...] = ()
    choice: int | None = None
    probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        as_tuple(self, "choices", str)
        if self.probabilities is not None:
            as_tuple(self, "probabilities", float)
        if self.choice is not None:
            need(0 <= self.choice < len(self.choices), f"choice {self.choice} of {len(self.choices)}")
        p = self.probabilities
        if p is not None:
            need(len(p) == len(self.choices), f"{len(p)} probabilities for {len(self.choices)} choices")
            good = all(0.0 <= q <= 1.0 for q in p) and abs(sum(p) - 1.0) < 1e-3
            need(good, f"probabilities must lie in 0..1 and sum to 1: {p}")

    @property
    def entropy(self) -> float | None:
        """Entropy of the choices in nats, or None where no probabilities are known."""
        if self.probabilities is None:
            return None
        return -sum(p * math.log(p) for p in self.probabilities if p > 0)

    def words(self) -> str:
        if self.probabilities is None or self.choice is None:
            return self.text
        return f"{self.text} ({self.probabilities[self.choice]:.0%})"

    def difference(self, other: Value) -> float:
        """Total variation distance of the probabilities where both know them, else 0 or 1."""
        if isinstance(other, Answer) and self.choices == other.choices:
            p, q = self.probabilities, other.probabilities
            if p is not None and q is not None:
                return 0.5 * sum(abs(a - b) for a, b in zip(p, q, strict=True))
        return 0.0 if isinstance(other, Answer) and self.text == other.text else 1.0
