"""Rolling out the tokens of a picture, and decoding them, by a Janus model (Chen et al., "Janus-Pro: Unified
Multimodal Understanding and Generation with Data and Model Scaling", 2025).

Each step runs the language model on the prompt and on one in which everything but its frame is blanked, and
moves away from the second: classifier-free guidance on the scores of a head of its own. Departs from
transformers' generation in that noise belongs to the sample, that rows which are padded count positions from
their first word, and that it stops where no more tokens are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from primitives.backends.hf_vlm.chat import Reading
from primitives.backends.hf_vlm.writing import KeyedNoise
from unroller.faults import MissingCapability


class Roller:
    """A Janus model, its frame of a picture's tokens, and its codebook.

    side: tokens of a whole picture in each direction; codes: how many there are to choose from.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model
        self.side = int(model.model.vqmodel.quantize.quant_state_dims[0])
        self.codes = int(model.model.vqmodel.config.num_embeddings)
        config = model.generation_config
        begins = getattr(tokenizer, "boi_token_id", None)
        if begins is None:
            begins = (getattr(config, "generation_kwargs", None) or {}).get("boi_token_id")
        blank = tokenizer.pad_token_id if config.pad_token_id is None else config.pad_token_id
        if begins is None or blank is None:
            raise MissingCapability(
                "this Janus checkpoint does not say which token begins a picture, or which blanks a prompt"
                " (boi_token and pad_token in tokenizer_config.json): download it again"
            )
        self.begins, self.blank = int(begins), int(blank)
        self.starts = tokenizer.bos_token_id if config.bos_token_id is None else config.bos_token_id

    @property
    def whole(self) -> int:
        """Tokens of a whole picture."""
        return self.side * self.side

    @torch.no_grad()
    def roll_out(
        self,
        readings: Sequence[Reading],
        count: int,
        temperature: float,
        guidance: float,
        seeds: Sequence[int],
    ) -> Tensor:
        """Tokens (B, count) of a picture a prompt. guidance 1: the prompt alone."""
        model = self.model
        guided = guidance != 1.0
        embedded, mask = self._prompts(readings, guided)  # (B or 2 B, T, D), (…, T)
        cache = DynamicCache(config=model.config.get_text_config())
        positions = (mask.cumsum(-1) - 1).clamp_min(0)
        noise = KeyedNoise(seeds, temperature)
        rolled = torch.zeros((len(readings), 0), dtype=torch.long, device=model.device)
        for _ in range(count):
            out = model.model.language_model(
                inputs_embeds=embedded,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            scores = model.model.generation_head(out.last_hidden_state[:, -1]).float()  # (…, V)
            if guided:
                asked, blank = scores.chunk(2)
                scores = blank + (asked - blank) * guidance
            chosen = noise(rolled, scores).argmax(-1, keepdim=True)  # (B, 1)
            rolled = torch.cat([rolled, chosen], 1)
            embedded = model.prepare_embeddings_for_image_generation(chosen.repeat(1 + guided, 1))
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            positions = positions[:, -1:] + 1
        return rolled

    def _prompts(self, readings: Sequence[Reading], guided: bool) -> tuple[Tensor, Tensor]:
        """The prompts as the language model takes them, padded on the left, and where they are; after them,
        where they are `guided`, the same with everything blanked but their first token and the one that
        begins a picture."""
        rows = [torch.cat([r.tokens, r.tokens.new_tensor([self.begins])]) for r in readings]
        longest = max(map(len, rows))
        tokens = torch.stack([pad(r, (longest - len(r), 0), value=self.blank) for r in rows])
        mask = torch.stack([torch.arange(longest) >= longest - len(row) for row in rows]).long()
        tokens, mask = tokens.to(self.model.device), mask.to(self.model.device)
        embed = self.model.get_input_embeddings()
        embedded = embed(tokens)  # (B, T, D)
        for i, reading in enumerate(readings):
            if reading.images:
                embedded[i][tokens[i] == self.model.config.image_token_id] = self._seen(reading)
        if not guided:
            return embedded, mask
        frame = tokens == self.begins
        if self.starts is not None:
            frame |= tokens == self.starts
        blanked = embed(tokens.where(frame, self.blank))
        return torch.cat([embedded, blanked]), mask.repeat(2, 1)

    def _seen(self, reading: Reading) -> Tensor:
        """What the model makes of a prompt's pictures, (tokens, D)."""
        pixels = reading.pictures["pixel_values"].to(self.model.device, self.model.dtype)
        seen = self.model.model.get_image_features(pixels, return_dict=True).pooler_output
        return seen.flatten(0, 1)

    @torch.no_grad()
    def decode(self, ids: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
        """Pictures (B, H, W, 3) float, 0 to 1, of tokens (B, whole)."""
        drawn = self.model.decode_image_tokens(ids.to(self.model.device)).float()
        return drawn * drawn.new_tensor(list(std)) + drawn.new_tensor(list(mean))
