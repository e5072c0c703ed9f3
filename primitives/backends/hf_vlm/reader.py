"""Reading with a memory: what was read once is continued, never read again.

A prompt is read up to its last token, which is kept for whoever wants to know what follows. Rows of a batch
have pasts of different lengths, padded on the left, and new tokens of different numbers, padded on the
right: so the tokens that count lie side by side, as masks of sliding windows need it. Keys and values are
kept for all tokens, in every layer, also where a layer looks at a window only.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primitives.backends.hf_vlm.cache import Layout
from primitives.backends.hf_vlm.chat import Chat, Reading
from primitives.backends.hf_vlm.memory import Memory, Piece, common
from unroller.capabilities import Prompt
from unroller.dispatch import is_out_of_memory
from unroller.rendering import ImageSegment, TextSegment

SHARED = 32
"""Tokens: when two prompts of a batch begin alike for longer than this, one waits for the other."""

PADDING, TOGETHER = 1.5, 16_384
"""Rows are read together as long as padding makes them no more than so many times longer, and in all no
longer than so many tokens: more at once is no faster, and takes room."""

TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-6}
"""How far any token's keys and values may be, of a prompt read in two parts, from those of one read in one,
as a share of their mean length; 0.1 with numbers of 16 bits."""


@dataclass(frozen=True, eq=False)
class Row:
    """New tokens (n,) of one sample after what its pieces hold; positions (n,) or (3, n)."""

    tokens: Tensor
    positions: Tensor
    pieces: list[Piece] = field(default_factory=list)
    past: int = 0
    pictures: dict[str, Tensor] = field(default_factory=dict)
    types: Tensor | None = None  # of the past, too

    def __len__(self) -> int:
        return len(self.tokens)


class Reader:
    """A model, its chat and what it has read.

    prefilled: tokens that went through the model, of prompts and of choices; reused: tokens of prompts that
    did not have to; written: tokens the model wrote. `remembers`: False where this model cannot go on from
    what it has read; then prompts are read whole. `joins`: whether what it is given of several prompts'
    pictures is that of each, one after the other, so that prompts with pictures can be read together.
    """

    def __init__(self, chat: Chat, max_bytes: int) -> None:
        self.chat = chat
        self.model = chat.model
        self.memory = Memory(max_bytes)
        self._arguments = set(inspect.signature(self.model.forward).parameters)
        self.prefilled = self.reused = self.written = 0
        self.remembers = True
        self.joins = chat.joins_pictures()
        self._layout: Layout | None = None
        self._check()
        self.prefilled = self.reused = 0

    # ------------------------------------------------------------------------------------------ reading

    @torch.no_grad()
    def read(self, readings: Sequence[Reading]) -> list[Row]:
        """Every prompt read but for its last token: rows of that one token (of all, without a memory)."""
        if not self.remembers:
            return [self._whole(reading) for reading in readings]
        rows: list[Row | None] = [None] * len(readings)
        waiting = list(range(len(readings)))
        while waiting:
            chosen: list[int] = []
            parts: list[Row] = []
            later: list[int] = []
            for i in waiting:
                keys = readings[i].keys[:-1]
                past, pieces = self.memory.find(keys)
                gain = max((common(keys, readings[j].keys[:-1]) for j in chosen), default=0) - past
                if gain > SHARED or (gain > 0 and past + gain == len(keys)):
                    later.append(i)
                    continue
                if past == len(keys):
                    rows[i] = self._last(readings[i], pieces)
                    self.reused += past
                else:
                    chosen.append(i)
                    parts.append(self._part(readings[i], past, pieces))
                    self.reused += parts[-1].past
            for i, part, piece in zip(chosen, parts, self._prefill(parts), strict=True):
                self.memory.keep(readings[i].keys[:-1], part.past, piece)
                rows[i] = self._last(readings[i], [*part.pieces, piece])
            waiting = later
        return [row for row in rows if row is not None]

    def _part(self, reading: Reading, past: int, pieces: list[Piece]) -> Row:
        """All but the last token of a reading, after `past` of them."""
        inside = [span for span in reading.spans or () if span[0] < past < span[1]]
        pictures = self.chat.pictures_from(reading, past) if not inside else None
        if pictures is None:
            past, pieces, pictures = 0, [], reading.pictures
        end = len(reading) - 1
        return Row(
            reading.tokens[past:end],
            reading.positions[..., past:end],
            pieces,
            past,
            pictures,
            reading.types[:end] if pictures and reading.types is not None else None,
        )

    def _last(self, reading: Reading, pieces: list[Piece]) -> Row:
        return Row(reading.tokens[-1:], reading.positions[..., -1:], pieces, len(reading) - 1)

    def _whole(self, reading: Reading) -> Row:
        return Row(reading.tokens, reading.positions, [], 0, reading.pictures, reading.types)

    def _prefill(self, rows: Sequence[Row]) -> list[Piece]:
        """What the model keeps of the new tokens of each row."""
        pieces: dict[int, Piece] = {}
        for group in _groups(rows, self.joins):
            some = [rows[i] for i in group]
            out = self.forward(some, logits=1)
            cache, longest = out.past_key_values, max(row.past for row in some)
            if self._layout is None:
                self._layout = Layout(cache, longest + max(map(len, some)))
            for b, (i, row) in enumerate(zip(group, some, strict=True)):
                pieces[i] = self._layout.apart(cache, b, longest, longest + len(row))
        return [pieces[i] for i in range(len(rows))]

    def forward(self, rows: Sequence[Row], logits: int = 0, hidden: bool = False) -> Any:
        """The model on B rows: new tokens (B, n), padded on the right, after pasts padded on the left.

        logits: for how many of the last columns (0: all); hidden: last hidden states and no logits. Several
        rows may have pictures where `joins`.
        """
        given: dict[str, Any] = {**self.arguments(rows), "use_cache": self.remembers}
        if self.remembers:
            given["past_key_values"] = self.past(rows)
        self.prefilled += sum(map(len, rows))
        if hidden:
            return self.model.base_model(**given)
        if logits and "logits_to_keep" in self._arguments:
            given["logits_to_keep"] = logits
        return self.model(**given)

    def arguments(self, rows: Sequence[Row], *, left: bool = False) -> dict[str, Any]:
        """B rows as the model takes them: input_ids (B, n), attention_mask (B, past + n), position_ids (B, n)
        or (3, B, n), and their pictures one after the other. left: new tokens are padded on the left, too, as
        for writing on."""
        count, past = max(map(len, rows)), max(row.past for row in rows)
        tokens = torch.full((len(rows), count), self.chat.padding)
        mask, types = (torch.zeros(len(rows), past + count, dtype=torch.long) for _ in range(2))
        positions = torch.zeros(*rows[0].positions.shape[:-1], len(rows), count, dtype=torch.long)
        for b, row in enumerate(rows):
            at = count - len(row) if left else 0
            end = at + len(row)
            tokens[b, at:end] = row.tokens
            positions[..., b, at:end] = row.positions
            mask[b, past - row.past : past] = 1
            mask[b, past + at : past + end] = 1
            if row.types is not None:
                types[b, past + end - len(row.types) : past + end] = row.types
        given = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions}
        pictures = [row.pictures for row in rows if row.pictures]
        for name in pictures[0] if pictures else ():
            whole = torch.cat([one[name] for one in pictures])
            given[name] = whole.to(self.model.dtype) if whole.is_floating_point() else whole
        if any(row.types is not None for row in rows):
            given.update(dict.fromkeys(self._arguments & {"token_type_ids", "mm_token_type_ids"}, types))
        return {name: one.to(self.model.device) for name, one in given.items()}

    def past(self, rows: Sequence[Row]) -> Any:
        """The cache of B rows' pasts."""
        if self._layout is None:
            from transformers import DynamicCache

            return DynamicCache()
        return self._layout.together([row.pieces for row in rows])

    # ----------------------------------------------------------------------------------------- checking

    def _check(self) -> None:
        """Read a short prompt with pictures in one go and in two parts: the same must be kept of it; and of
        its beginning where something else follows.

        Models differ in what a token sees (pictures, or whole prompts, that are looked at in both directions,
        windows, recurrent states) and transformers in how it passes masks along, so that this is tried, not
        looked up.
        """
        try:
            with torch.no_grad():
                why = self._differs()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        self.memory.forget()
        if why is not None:
            self.remembers = False
            warnings.warn(
                f"{self.chat.name} cannot go on from what it has read ({why}): every prompt is read whole;"
                " results are the same, and slower",
                stacklevel=3,
            )

    def _differs(self) -> str | None:
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

        for layer in DynamicCache(config=self.model.config).layers:
            if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
                return f"its layers keep a {type(layer).__name__}"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        shown = ImageSegment(noise, "photo 2"), ImageSegment(255 - noise, "photo 3")
        words = TextSegment("Where is the camera?"), TextSegment("Then it moved to the left.")
        reading = self.chat.read(Prompt((words[0], shown[0], words[1], shown[1]), "Think."), 0)
        (whole,) = self._prefill([self._part(reading, 0, [])])
        end, tried = len(reading) - 1, False
        for at in {end // 3, *(span[1] for span in reading.spans or ()), end - 2}:
            rest = self._part(reading, at, [[tensor[:, :, :at] for tensor in whole]])
            if rest.past != at:  # between pictures that cannot be told apart: there it reads all again
                continue
            tried = True
            (piece,) = self._prefill([rest])
            far = max(_distance(a[:, :, at:], b) for a, b in zip(whole, piece, strict=True))
            if not far <= TOLERANCE.get(self.model.dtype, 0.1):
                return f"in two parts it reads another thing than in one, by {far:.0%}"
        if not tried:
            return "where its pictures end cannot be told"
        shorter = self.chat.read(Prompt((words[0], shown[0], words[1])), 0)
        (other,) = self._prefill([self._part(shorter, 0, [])])
        same = common(reading.keys[:end], shorter.keys[:-1])
        far = max(_distance(a[:, :, :same], b[:, :, :same]) for a, b in zip(whole, other, strict=True))
        if same and not far <= TOLERANCE.get(self.model.dtype, 0.1):
            return f"what follows changes what it has read, by {far:.0%}"
        return None


def _distance(a: Tensor, b: Tensor) -> float:
    """The largest distance of a token's numbers (m, H, T, D) in any of m places, as a share of the mean
    length there: some tokens' values are next to nothing, and rounding is much of that."""
    apart, long = (x.float().transpose(1, 2).flatten(2).norm(dim=-1) for x in (a - b, a))  # (m, T)
    return float((apart.amax(1) / long.mean(1).clamp_min(1e-6)).max())


def _groups(rows: Sequence[Row], joins: bool) -> list[list[int]]:
    """Which rows to read together, by length: those with pictures among themselves, or else alone."""
    groups: list[list[int]] = []
    for shown in (True, False):
        of = [i for i, row in enumerate(rows) if bool(row.pictures) == shown]
        group: list[int] = []
        for i in sorted(of, key=lambda i: len(rows[i])):
            area = (len(group) + 1) * len(rows[i])
            together = sum(len(rows[j]) for j in (*group, i))
            if group and (area > PADDING * together or area > TOGETHER or (shown and not joins)):
                groups.append(group)
                group = []
            group = [*group, i]
        groups += [group] if group else []
    return groups
