"""What a server answers: of the protocol's many fields those that are used. The text is read strictly; counts
and log-probabilities that are not as the protocol has them are as good as none.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import msgspec

from unroller.faults import InputError, NoAnswer

T = TypeVar("T")


class Likely(msgspec.Struct):
    """A token that might have been written, and its log-probability."""

    token: str
    logprob: float = -math.inf


class Token(Likely):
    """A token that was written, and the most probable in its place."""

    top_logprobs: list[Likely] | None = None


class Tokens(msgspec.Struct):
    content: list[Token] | None = None


class Message(msgspec.Struct):
    content: Any = None
    refusal: Any = None


class Choice(msgspec.Struct):
    message: Message
    finish_reason: Any = None
    logprobs: Any = None


class FromCache(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Tokens: of the prompt, pictures included; written, hidden reasoning included; of the prompt those that
    the server found as it had read them before."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: FromCache | None = None

    @property
    def read(self) -> int:
        return max(0, self.prompt_tokens or 0)

    @property
    def cached(self) -> int:
        told = self.prompt_tokens_details
        return min(self.read, max(0, (told and told.cached_tokens) or 0))


class Reply(msgspec.Struct):
    choices: list[Choice] | None = None
    counts: Any = msgspec.field(name="usage", default=None)
    error: Any = None

    @property
    def usage(self) -> Usage:
        return _as(Usage, self.counts) or Usage()

    @property
    def first(self) -> Choice:
        """Raises NoAnswer where there is none."""
        if not self.choices:
            raise NoAnswer(f"the server answered without any choice{_because(self.error)}: look at its log")
        return self.choices[0]

    @property
    def tokens(self) -> list[Token]:
        """What was written with log-probabilities; empty where the server gives none."""
        told = _as(Tokens, self.first.logprobs)
        return (told.content if told else None) or []

    @property
    def log_probability(self) -> float | None:
        """Of all that was written, where the server says."""
        total = sum(token.logprob for token in self.tokens)
        return total if self.tokens and math.isfinite(total) else None

    def written(self, at_most: int) -> int:
        """Tokens that were written; `at_most`, what was asked for, where the server does not say."""
        told = self.usage.completion_tokens
        if told is not None and told >= 0:
            return told
        return len(self.tokens) or at_most

    def text(self, at_most: int) -> str:
        """Raises InputError where the model would not write, or wrote nothing but hidden reasoning."""
        choice = self.first
        text, why = choice.message.content, choice.finish_reason
        if isinstance(text, list):  # some servers answer in parts
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        if isinstance(text, str) and text.strip():
            return text.strip()
        if choice.message.refusal:
            raise InputError(f"the model refused: {choice.message.refusal!s:.200}")
        if why == "content_filter":
            raise InputError("the server's content filter held back what the model wrote: change the prompt")
        if why == "length":
            raise InputError(
                f"the model wrote {at_most} tokens and no text that is shown: it may reason unseen; raise"
                " max_tokens, or turn its reasoning off by `extra`"
            )
        raise NoAnswer(f"the model wrote nothing (finish_reason {why!r}): ask it something else")


def reply_of(content: bytes) -> Reply:
    """A reply from its JSON. Raises NoAnswer where it is none."""
    try:
        return msgspec.json.decode(content, type=Reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        start = content[:60].decode("utf-8", "replace")
        raise NoAnswer(f"the server's answer is no chat completion ({error}; it begins {start!r})") from None


def _as(kind: type[T], held: Any) -> T | None:
    try:
        return None if held is None else msgspec.convert(held, kind)
    except msgspec.ValidationError:
        return None


def _because(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message", error)
    return f" ({error!s:.200})" if error else ""
