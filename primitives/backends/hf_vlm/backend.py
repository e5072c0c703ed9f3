"""A vision-language model of transformers as a backend.

It writes text, says how probable answers are and gives its hidden states, for prompts of words and pictures
in any order, and remembers what it has read. Nothing heavy is imported, and nothing is loaded, before the
first call.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from primitives.backends.checkpoints import Checkpoint
from primitives.backends.hf_vlm.loading import Settings, fingerprint, found_at, load
from unroller.arrays import Array
from unroller.capabilities import (
    AnswerScorer,
    FeatureExtractor,
    Generation,
    Outcomes,
    Prompt,
    TextGenerator,
)
from unroller.cost import Reading
from unroller.dispatch import is_out_of_memory
from unroller.faults import InputError, PluginError
from unroller.values import Latents

T = TypeVar("T")
Window = Literal["refuse", "drop_oldest_views"]
CAPABILITIES: tuple[type[Any], ...] = (AnswerScorer, FeatureExtractor, TextGenerator)


class HFVLM:
    """`TextGenerator`, `AnswerScorer` and `FeatureExtractor` by one `AutoModelForImageTextToText` checkpoint.

    path: a folder that save_pretrained wrote, or "org/model" of one that was downloaded (None: what the
    environment's UNROLLER_HF_CHECKPOINT names). device: "auto" (a GPU if there is one), "cpu", "cuda",
    "cuda:1", "mps", or "balanced" (over all GPUs, by accelerate). dtype: "auto" (as saved), "bfloat16",
    "float16", "float32". attn: "sdpa", "eager", "flash_attention_2"; None: transformers' choice.
    quantization: "4bit", "8bit", or a quantization config. compile: with torch.compile, which takes minutes
    at first, while lengths grow, and has not been measured to pay off. max_bytes: of keys and values that
    are kept of what was read. max_batch: samples, and choices of samples, that go through the model at once.
    window: prompts longer than the model's window are refused, or lose synthesised views, the oldest first,
    whose words stay; how many stands in `run.spent.reading`. allow_pickle: open weights that are pickles,
    which can run code.

    Code that comes with a checkpoint is never run. Raises MissingCapability at the first call where the
    model cannot be had, each time with what to do.
    """

    name = "hf"
    # The class provides nothing and a model does: one that was made without a checkpoint, as the executor
    # does with everything that is registered, must not be chosen.
    provides: tuple[type[Any], ...] = ()
    lacks = "a checkpoint's folder in UNROLLER_HF_CHECKPOINT"

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        attn: str | None = None,
        quantization: Any = None,
        compile: bool = False,
        max_bytes: int = 4 << 30,
        max_batch: int = 16,
        window: Window = "refuse",
        allow_pickle: bool = False,
    ) -> None:
        if window not in get_args(Window):
            raise PluginError(f"no window policy is called {window!r}: write {' or '.join(get_args(Window))}")
        if max_bytes < 0 or max_batch < 1:
            raise PluginError("max_bytes must be at least 0 and max_batch at least 1")
        self.path = path if path is not None else os.environ.get("UNROLLER_HF_CHECKPOINT") or None
        self.settings = Settings(device, dtype, attn, quantization, compile)
        self.allow_pickle = allow_pickle
        self.max_bytes = max_bytes
        self.max_batch = max_batch
        self.window: Window = window
        self._lock = threading.RLock()  # a model computes one thing at a time, and its memory is one
        if self.path is not None:
            self.provides = CAPABILITIES

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """What was found at `path`, looked at and not loaded. Raises MissingCapability."""
        return found_at(self.path, self.allow_pickle)

    @cached_property
    def fingerprint(self) -> str:
        """Of the checkpoint's content and of the settings that change results. Of large files it reads a
        block of every tensor: quick for 15 GB, and blind to a change between those blocks."""
        if self.path is None:
            return "hf-none"
        how = self.settings
        settings = (how.device, how.dtype, how.attn, str(how.quantization), self.window)
        return f"hf-1-{fingerprint(self.checkpoint, settings)}"

    @property
    def reader(self) -> Any:
        """What reads and remembers; its `prefilled`, `reused` and `written` count tokens."""
        with self._lock:
            return self._reader

    def load(self) -> None:
        """Now, and not at the first call. Raises MissingCapability."""
        _ = self.reader

    @property
    def reading(self) -> Reading:
        """Tokens read, found again and written so far."""
        if "_reader" not in self.__dict__:
            return Reading()
        held = self._reader
        return Reading(held.prefilled, held.reused, held.written, held.chat.left_out)

    @cached_property
    def _reader(self) -> Any:
        loaded = load(self.checkpoint, self.settings)  # says what is missing, torch included
        from primitives.backends.hf_vlm.chat import Chat
        from primitives.backends.hf_vlm.reader import Reader

        return Reader(Chat(loaded, self.window), self.max_bytes)

    # ----------------------------------------------------------------------------------- capabilities

    def generate_text(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Outcomes[Generation]:
        """Replies, without special tokens; log_probability is of all tokens written, at temperature 1."""

        def work(readings: list[Any], of: list[int]) -> list[Generation]:
            from primitives.backends.hf_vlm.writing import write

            own = [seeds[i] for i in of]
            return [
                Generation(self.reader.chat.decode(one.tokens), len(one.tokens), one.log_probability)
                for one in write(self.reader, readings, max_tokens, temperature, own)
            ]

        return self._where_possible(prompts, lambda i: max_tokens, work)

    def score_answers(
        self, prompts: Sequence[Prompt], choices: Sequence[tuple[str, ...]]
    ) -> Outcomes[Sequence[float]]:
        """P(the model writes exactly this choice and ends its reply), normalised over the choices. It is a
        sum of log-probabilities: longer choices are not made up for their length."""

        def room(i: int) -> int:
            if not choices[i]:
                raise InputError("there are no choices to score")
            tokenizer = self.reader.chat.tokenizer
            return max(len(tokenizer(f" {c}", add_special_tokens=False)["input_ids"]) for c in choices[i]) + 1

        def work(readings: list[Any], of: list[int]) -> list[list[float]]:
            from primitives.backends.hf_vlm.scoring import score

            chat = self.reader.chat
            tokens = [
                [chat.answer_tokens(reading, choice) for choice in choices[i]]
                for reading, i in zip(readings, of, strict=True)
            ]
            return score(self.reader, readings, tokens, self.max_batch)

        return self._where_possible(prompts, room, work)

    def hidden_states(self, prompts: Sequence[Prompt]) -> Outcomes[Latents]:
        """The last layer's states (T, D) of all tokens of the prompt as it is rendered, template included.
        Needs every token, so what was read before is read again."""

        def work(readings: list[Any], of: list[int]) -> list[Latents]:
            from primitives.backends.hf_vlm.features import hidden_states

            space = f"hf/{self.checkpoint.folder.name}"
            return [Latents(hidden, space) for hidden in hidden_states(self.reader, readings)]

        return self._where_possible(prompts, lambda i: 0, work)

    def pooled_features(self, prompts: Sequence[Prompt]) -> Outcomes[Array]:
        """The last layer's state (D,) float32 of the last token, which has seen all others."""

        def work(readings: list[Any], of: list[int]) -> list[Array]:
            from primitives.backends.hf_vlm.features import last_states

            return list(last_states(self.reader, readings))

        return self._where_possible(prompts, lambda i: 0, work)

    # ---------------------------------------------------------------------------------------- batches

    def _where_possible(
        self,
        prompts: Sequence[Prompt],
        room: Callable[[int], int],
        work: Callable[[list[Any], list[int]], Sequence[T]],
    ) -> list[T | Exception]:
        """`work` on the prompts that can be read, with `room` for what follows; for the others, why not."""
        with self._lock:
            chat = self.reader.chat
            outcomes: list[Any] = [None] * len(prompts)
            readings: list[Any] = []
            where: list[int] = []
            for i, prompt in enumerate(prompts):
                try:
                    readings.append(chat.read(prompt, room(i)))
                    where.append(i)
                except InputError as error:
                    outcomes[i] = error
            if readings:
                for i, outcome in zip(where, self._with_memory(work, readings, where), strict=True):
                    outcomes[i] = outcome
            return outcomes

    def _with_memory(self, work: Callable[..., Sequence[T]], readings: list[Any], where: list[int]) -> Any:
        try:
            return work(readings, where)
        except Exception as error:
            if is_out_of_memory(error):
                self.reader.memory.forget()  # or half the batch would find no more room than the whole
            raise
