"""Janus as a backend: it rolls out the tokens of a picture, decodes them, and reads and writes text.

    Janus("/models/Janus-Pro-1B", device="cuda", dtype="bfloat16")

What is text is `HFVLM`'s, with the same weights, which are loaded once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from primitives.backends.checkpoints import Checkpoint, opened
from primitives.backends.hf_vlm import HFVLM
from unroller.arrays import to_numpy
from unroller.capabilities import (
    AnswerScorer,
    FeatureExtractor,
    Outcomes,
    Prompt,
    TextGenerator,
    VisualTokenizer,
)
from unroller.faults import InputError, MissingCapability, NotFinite, PluginError
from unroller.rendering import ImageSegment, TextSegment
from unroller.values import Image, VisualTokens

VARIABLE = "UNROLLER_JANUS"
WANTED = "a Janus model (transformers' JanusForConditionalGeneration, as in deepseek-community/Janus-Pro-1B)"
CODES = "vqmodel.quantize.embedding.weight"


class Janus(HFVLM):
    """`VisualTokenizer` by a `JanusForConditionalGeneration` checkpoint, and what `HFVLM` makes of it:
    `TextGenerator`, `AnswerScorer`, `FeatureExtractor`.

    path: the folder, or "org/model" of one that was downloaded (None: what UNROLLER_JANUS names). guidance:
    how far the roll-out moves from what it would be without the prompt: 1 is not at all; None: as the
    checkpoint says, or 5. looks: the roll-out reads the pictures of its prompt with the model's eyes, which
    no checkpoint was trained to do; otherwise it is told their words. The other settings are `HFVLM`'s.

    Tokens are of the checkpoint's own codebook, which `VisualTokens.codebook` names by its content; those of
    another one are not decoded. Raises MissingCapability, with what to do, for a folder without a whole
    checkpoint of that kind, PluginError for settings that are none.
    """

    name = "janus"
    lacks = f"a checkpoint's folder in {VARIABLE}"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        guidance: float | None = None,
        looks: bool = False,
        allow_pickle: bool = False,
        **settings: Any,
    ) -> None:
        if guidance is not None and not 1 <= guidance < math.inf:
            raise PluginError(f"guidance={guidance}: give 1 (none) or more")
        path = path if path is not None else os.environ.get(VARIABLE) or None
        super().__init__(path, allow_pickle=allow_pickle, **settings)
        self.path, self.provides = path, ()  # and not the folder that is HFVLM's
        self._guidance, self.looks = guidance, looks
        if path is not None:
            self.checkpoint  # noqa: B018 - a wrong folder is an error here
            self.provides = (VisualTokenizer, TextGenerator, AnswerScorer, FeatureExtractor)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What was found at `path`. Raises MissingCapability."""
        if self.path is None:
            raise MissingCapability(
                "the janus backend was given no checkpoint: name its folder, Janus('/models/…'), or set"
                f" {VARIABLE}"
            )
        return opened(
            self.path,
            wanted=WANTED,
            accepts=lambda kind: kind == "JanusForConditionalGeneration",
            allow_pickle=self.allow_pickle,
        )

    @cached_property
    def fingerprint(self) -> str:
        """Of the checkpoint's content and of the settings that change results."""
        if self.path is None:
            return "janus-none"
        return f"janus-1-{super().fingerprint}-{self._guidance}-{int(self.looks)}"

    @property
    def guidance(self) -> float:
        """As it was given, or as the checkpoint says."""
        if self._guidance is not None:
            return self._guidance
        said = getattr(self.reader.model.generation_config, "guidance_scale", None)
        return float(said) if said is not None and said >= 1 else 5.0

    @cached_property
    def codebook(self) -> str:
        """The name of the checkpoint's codebook: the same for the same codes, wherever they lie."""
        from xxhash import xxh3_64_hexdigest

        return f"janus-{xxh3_64_hexdigest(_codes(self.checkpoint, self.reader.model))}"

    # ------------------------------------------------------------------------------------ capabilities

    def roll_out_tokens(
        self, prompts: Sequence[Prompt], *, count: int, temperature: float, seeds: Sequence[int]
    ) -> Outcomes[VisualTokens]:
        """Tokens of a picture a prompt, row by row from its top left: at most `count`, and no more than fill
        it. Only those that fill it can be decoded."""
        if count < 1:
            raise PluginError(f"count={count}: give 1 or more")
        if not self.looks:
            prompts = [_in_words(prompt) for prompt in prompts]

        def work(readings: list[Any], of: list[int]) -> list[VisualTokens]:
            roller = self._roller
            some = min(count, roller.whole)
            rolled = roller.roll_out(readings, some, temperature, self.guidance, [seeds[i] for i in of])
            rows, rest = divmod(some, roller.side)
            grid = None if rest else (rows, roller.side)
            return [VisualTokens(ids, self.codebook, roller.codes, grid) for ids in rolled]

        return self._where_possible(prompts, lambda i: 1 + min(count, self._roller.whole), work)

    def decode_tokens(self, tokens: Sequence[VisualTokens]) -> Outcomes[Image]:
        """The pictures of whole roll-outs, in the one size that the checkpoint draws."""
        with self._lock:
            outcomes: list[Any] = [self._undecodable(one) for one in tokens]
            of = [i for i, wrong in enumerate(outcomes) if wrong is None]
            for start in range(0, len(of), self.max_batch):
                group = of[start : start + self.max_batch]
                for i, picture in zip(group, self._decoded([tokens[i] for i in group]), strict=True):
                    outcomes[i] = picture
            return outcomes

    def _undecodable(self, tokens: VisualTokens) -> InputError | None:
        roller = self._roller
        if tokens.codebook != self.codebook:
            return InputError(
                f"these visual tokens are of the codebook {tokens.codebook}, and this checkpoint decodes"
                f" {self.codebook}: decode them with the model that rolled them out"
            )
        count = int(tokens.ids.shape[0])
        if count != roller.whole:
            return InputError(
                f"{count} visual tokens are no whole picture, which has {roller.whole}: roll out with"
                f" count={roller.whole} or more"
            )
        ids = to_numpy(tokens.ids)
        if int(ids.min()) < 0 or int(ids.max()) >= roller.codes:
            return InputError(
                f"visual tokens of this codebook are 0 to {roller.codes - 1}, and these are not"
            )
        return None

    def _decoded(self, tokens: Sequence[VisualTokens]) -> list[Image | Exception]:
        import numpy as np
        import torch

        ids = torch.from_numpy(np.stack([to_numpy(one.ids).astype(np.int64) for one in tokens]))
        processor = self.reader.chat.processor.image_processor
        drawn = self._roller.decode(ids, processor.image_mean, processor.image_std)  # (B, H, W, 3)
        finite = drawn.flatten(1).isfinite().all(1).tolist()
        # Cut off, not rounded, as the checkpoint's own processor does it.
        pixels = (drawn.nan_to_num() * 255).clamp(0, 255).byte()
        wrong = NotFinite("Janus decoded tokens to NaN or infinity: pass dtype='bfloat16' or dtype='float32'")
        return [Image(one) if good else wrong for one, good in zip(pixels, finite, strict=True)]

    @cached_property
    def _roller(self) -> Any:
        chat = self.reader.chat  # says what is missing, torch included
        from primitives.backends.janus.rolling import Roller

        return Roller(chat.model, chat.tokenizer)


def _in_words(prompt: Prompt) -> Prompt:
    """The prompt with words in place of its pictures."""
    said = (TextSegment(s.words) if isinstance(s, ImageSegment) else s for s in prompt.segments)
    return msgspec.structs.replace(prompt, segments=tuple(said))


def _codes(found: Checkpoint, model: Any) -> bytes:
    """The codebook's vectors as they were saved, since a dtype to load them in rounds them."""
    import torch
    from safetensors import safe_open

    for file in found.weights:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as held:
                name = next((name for name in held.keys() if name.endswith(CODES)), None)  # noqa: SIM118
                if name is not None:
                    return held.get_tensor(name).contiguous().view(torch.uint8).numpy().tobytes()
    return model.model.vqmodel.quantize.embedding.weight.detach().float().cpu().numpy().tobytes()
