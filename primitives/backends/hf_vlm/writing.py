"""Writing on from what was read: transformers' own generation, with noise that belongs to the sample."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, LogitsProcessor, LogitsProcessorList
from xxhash import xxh3_64_intdigest

from primitives.backends.hf_vlm.chat import Reading
from primitives.backends.hf_vlm.reader import Reader, Row


@dataclass(frozen=True)
class Written:
    """tokens, one that ends the reply included; their log-probability at temperature 1."""

    tokens: list[int]
    log_probability: float


class KeyedNoise(LogitsProcessor):
    """Gumbel noise keyed by (seed, position): the largest sum is a draw at this temperature.

    transformers draws a whole batch from one global generator, so that a sample would depend on its batch
    mates. What was chosen is scored on the way, since keeping every step's scores takes gigabytes. Draws
    repeat on one kind of device; CPU and GPU draw differently.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self.seeds = seeds
        self.temperature = temperature
        self.said: list[Tensor] = []  # log-probabilities (B,) of each step's tokens
        self._before: Tensor | None = None
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self._before is not None:
            self.said.append(self._before.gather(1, input_ids[:, -1:])[:, 0])
        self._before = scores.log_softmax(-1)  # (B, V)
        if self.temperature <= 0:
            return scores
        noise = torch.stack([self._gumbel(seed, scores) for seed in self.seeds])
        self._step += 1
        return scores / self.temperature + noise

    def _gumbel(self, seed: int, scores: Tensor) -> Tensor:
        key = xxh3_64_intdigest(f"{seed}.{self._step}".encode()) >> 1
        generator = torch.Generator(scores.device).manual_seed(key)
        drawn = torch.empty(scores.shape[1], device=scores.device).exponential_(generator=generator)
        return -drawn.clamp_min(1e-30).log()

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """Of the tokens (B, n) that came out, (B, n)."""
        if len(self.said) < tokens.shape[1] and self._before is not None:
            self.said.append(self._before.gather(1, tokens[:, -1:])[:, 0])
        return torch.stack(self.said[: tokens.shape[1]], 1)


@torch.no_grad()
def write(
    reader: Reader, readings: Sequence[Reading], max_tokens: int, temperature: float, seeds: Sequence[int]
) -> list[Written]:
    """A reply to each prompt, of at most max_tokens.

    temperature 0 takes the most probable token. Otherwise tokens are drawn from the whole distribution: a
    checkpoint's own top_p, top_k and the like are left out, its penalties and bans are not.
    """
    rows = reader.read(readings)
    if reader.remembers or reader.joins:
        return _write(reader, readings, rows, max_tokens, temperature, seeds)
    return [
        _write(reader, [reading], [row], max_tokens, temperature, [seed])[0]
        for reading, row, seed in zip(readings, rows, seeds, strict=True)
    ]


def _write(
    reader: Reader,
    readings: Sequence[Reading],
    rows: Sequence[Row],
    max_tokens: int,
    temperature: float,
    seeds: Sequence[int],
) -> list[Written]:
    model, ends = reader.model, reader.chat.ends
    whole = rows
    if reader.remembers:  # generate() is given whole prompts and cuts off what the cache holds
        whole = [Row(reading.tokens, reading.positions) for reading in readings]
    given = reader.arguments(whole, left=True)
    if reader.remembers:
        given["past_key_values"] = reader.past(rows)
    noise = KeyedNoise(seeds, temperature)
    out = _generate(
        model,
        **given,
        generation_config=_settings(model, max_tokens, ends, reader.chat.padding),
        logits_processor=LogitsProcessorList([noise]),
    )
    tokens = out[:, given["input_ids"].shape[1] :]  # (B, n)
    said = noise.log_probabilities(tokens).tolist()
    reader.prefilled += sum(map(len, rows))
    written: list[Written] = []
    for row, p in zip(tokens.tolist(), said, strict=True):
        end = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        reader.written += end
        written.append(Written(row[:end], sum(p[:end])))
    return written


def _generate(model: Any, **given: Any) -> Tensor:
    """The model's own generation; of Janus, whose own leaves out the noise when it writes text, transformers'
    for all."""
    if model.config.model_type == "janus":
        return GenerationMixin.generate(model, **given)  # pyright: ignore[reportAttributeAccessIssue]
    return model.generate(**given)


def _settings(model: Any, max_tokens: int, ends: tuple[int, ...], pad: int) -> Any:
    settings = copy.deepcopy(model.generation_config)
    settings.do_sample, settings.num_beams = False, 1
    settings.temperature = settings.top_p = settings.top_k = settings.min_p = settings.typical_p = None
    settings.max_length, settings.max_new_tokens = None, max_tokens
    settings.eos_token_id, settings.pad_token_id = list(ends) or None, pad
    settings.return_dict_in_generate = False
    settings.guidance_scale = 1.0  # none: what a checkpoint of Janus says there is for pictures
    return settings
