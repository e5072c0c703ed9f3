"""Prompts in words, as text encoders of image generators read them.

These have no chat template, no eyes for the pictures of a prompt, and windows of 77 to some hundred tokens,
beyond which the libraries cut with nothing but a line in a log. Here the whole prompt is put into words, what
is given first; and what is too long is refused, or shortened as the user chose, with what was left out
written down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from unroller.capabilities import Prompt
from unroller.faults import InputError
from unroller.rendering import ImageSegment, Segment, TextSegment

Window = Literal["refuse", "drop_oldest", "cut"]
"""What to do with a prompt that is longer than the pipeline reads: refuse it; leave whole contexts out, the
oldest first; or leave the end of the last contexts out, at a word's end."""

_POSE = re.compile(r"<campose>(.*?)</campose>", re.DOTALL)
_TAGGED = re.compile(r"<([a-z][a-z0-9_]*)>(.*)</\1>", re.DOTALL)


class Said(NamedTuple):
    """A prompt in words, and those that were left out of it."""

    words: str
    left_out: str = ""


class Reader:
    """The window of a pipeline: its text encoder's.

    Families with several encoders give all of them the same words. The widest counts, and CLIP only where it
    is alone: beside another one (in Flux and SD3) it weighs the whole, and reads its beginning, which is what
    the problem asks for.
    """

    def __init__(self, pipe: Any, sequence: int | None, window: Window) -> None:
        """sequence: of tokens that encoders other than CLIP read, where the pipeline says so."""
        self.window: Window = window
        self.limit: int | None = None
        self._tokenizer: Any = None
        special: set[str] = set()
        tokenizers = _tokenizers(pipe)
        alone = all(_is_clip(tokenizer) for tokenizer in tokenizers)
        for tokenizer in tokenizers:
            special.update(str(token) for token in tokenizer.all_special_tokens)
            special.update(str(one) for one in tokenizer.added_tokens_decoder.values() if one.special)
            limit = int(tokenizer.model_max_length)
            if sequence is not None and not _is_clip(tokenizer):
                limit = max(0, sequence - _framed(pipe, tokenizer))
            if _is_clip(tokenizer) and not alone:
                continue
            if limit <= 1 << 20 and (self.limit is None or limit > self.limit):
                self.limit, self._tokenizer = limit, tokenizer
        self._special = sorted((s for s in special if len(s.strip()) > 1), key=len, reverse=True)

    def read(self, prompt: Prompt) -> Said:
        """The prompt in words that fit. Raises InputError for one that is empty, or too long."""
        first = next((i for i, s in enumerate(prompt.segments) if isinstance(s, TextSegment)), None)
        until = len(prompt.segments) if first is None else first + 1
        given = [self._plain(prompt.system), *map(self._in_words, prompt.segments[:until])]
        contexts = [words for s in prompt.segments[until:] if (words := self._in_words(s))]
        told = self._plain(prompt.instruction)
        whole = _joined([*given, *contexts, told])
        pictured = all(isinstance(s, ImageSegment) for s in prompt.segments)
        if not whole or (pictured and not _joined([given[0], told])):
            raise InputError("this prompt is empty: say in words what to draw")
        if self._fits(whole):
            return Said(whole)
        if self.window == "drop_oldest":
            said = self._without_oldest(given, contexts, told)
        elif self.window == "cut":
            said = self._cut(given, contexts, told)
        else:
            raise InputError(
                f"this prompt has {self._count(whole)} tokens, and the pipeline reads {self.limit}: leave"
                " contexts out or shorten them, or let the backend shorten the prompt with"
                " window='drop_oldest' or window='cut'"
            )
        if said is None:
            raise InputError(
                f"what is asked for has {self._count(_joined([*given, told]))} tokens without any context,"
                f" and the pipeline reads {self.limit}: shorten it"
            )
        return said

    def _without_oldest(self, given: list[str], contexts: list[str], told: str) -> Said | None:
        for kept in range(1, len(contexts) + 1):
            words = _joined([*given, *contexts[kept:], told])
            if self._fits(words):
                return Said(words, _joined(contexts[:kept]))
        return None

    def _cut(self, given: list[str], contexts: list[str], told: str) -> Said | None:
        words = list(re.finditer(r"\S+", text := _joined(contexts)))
        if not self._fits(_joined([*given, told])):
            return None
        few, many = 0, len(words)  # so many fit, and so many do not
        while many - few > 1:
            middle = (few + many) // 2
            fits = self._fits(_joined([*given, text[: words[middle - 1].end()], told]))
            few, many = (middle, many) if fits else (few, middle)
        end = words[few - 1].end() if few else 0
        return Said(_joined([*given, text[:end], told]), text[end:].strip())

    def _fits(self, words: str) -> bool:
        return self.limit is None or self._count(words) <= self.limit

    def _count(self, words: str) -> int:
        return len(self._tokenizer(words, verbose=False)["input_ids"])

    def _in_words(self, segment: Segment) -> str:
        """A segment without its tag, which these models were not trained on; a pose keeps its name."""
        text = segment.text if isinstance(segment, TextSegment) else segment.words
        text = _POSE.sub(r"camera pose \1", text)
        if (found := _TAGGED.fullmatch(text)) is not None:
            text = found[2]
        return self._plain(text)

    def _plain(self, text: str) -> str:
        """Text as it was written, with no special token of the tokenizers in it: one that ends a prompt would
        hide all that follows."""
        text = text.replace("&lt;", "<").strip()
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def _tokenizers(pipe: Any) -> list[Any]:
    """Of the text encoders that are there."""
    found: list[Any] = []
    if (alone := getattr(pipe, "text_tokenizer", None)) is not None:  # of a model that reads by itself
        found.append(alone)
    for number in ("", "_2", "_3", "_4"):
        tokenizer = getattr(pipe, f"tokenizer{number}", None)
        if tokenizer is not None and getattr(pipe, f"text_encoder{number}", None) is not None:
            found.append(getattr(tokenizer, "tokenizer", tokenizer))  # some families hold a processor there
    return found


def _is_clip(tokenizer: Any) -> bool:
    return type(tokenizer).__name__.startswith("CLIP")


def _framed(pipe: Any, tokenizer: Any) -> int:
    """Tokens, at most, that a family puts around a prompt: a chat's turns, and what a system is told."""
    told = getattr(pipe, "system_message", None) or getattr(pipe, "system_prompt", None) or ""
    count = len(tokenizer(told, add_special_tokens=False)["input_ids"]) if isinstance(told, str) else 0
    if not getattr(tokenizer, "chat_template", None):
        return count + 8 * bool(count)  # with the mark where the prompt begins
    try:
        turn = tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], tokenize=False, add_generation_prompt=True
        )
        return count + len(tokenizer(turn, add_special_tokens=False)["input_ids"])
    except Exception:  # a template that wants another kind of content
        return count + 64


def _joined(parts: Sequence[str]) -> str:
    return "\n".join(part for part in parts if part)
