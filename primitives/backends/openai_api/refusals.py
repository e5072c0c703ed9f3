"""What can go wrong between a prompt and its reply, and what to do about each: say it, send the prompt in
another way, or send it again.

Servers agree on status codes and on little else, so what a refusal is about is read from its words.
"""

from __future__ import annotations

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from unroller.faults import InputError, MissingCapability, NoAnswer, UnrollerError

Again = Literal["no", "otherwise", "attempts", "patience"]
"""Whether to send a prompt again: no; at once, without what the server does not take; as often as `attempts`
says, since the server may fail on this prompt alone; as long as `patience` says, since it is away or busy."""


class Refused(Exception):
    """One attempt that failed.

    error: what to say once it is given up; after: seconds that the server asks to wait; all: given up, it is
    given up for the prompts beside it too, which would fare no better, unless one was answered since;
    without: the setting not to send.
    """

    def __init__(
        self,
        error: UnrollerError,
        again: Again = "no",
        *,
        after: float | None = None,
        all: bool = False,
        without: str = "",
    ) -> None:
        super().__init__(str(error))
        self.error, self.again, self.after, self.all, self.without = error, again, after, all, without


OPTIONAL = ("top_logprobs", "logprobs", "max_tokens", "temperature", "seed")
"""Settings that a server or a model may not take."""

_NOT_TAKEN = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unexpected|unknown|not permitted|not allowed|extra_forbidden"
    r"|only the default|greater than|max allowed|less than or equal|at most",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum (model|input|sequence) length|max_model_len|too many tokens"
    r"|(prompt|input|request) (is |was )?too (long|large)|longer than|reduce the length",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"`?'?max_(completion_)?tokens'?`? is too large", re.IGNORECASE)


def refused(status: int, body: Any, headers: Any, sent: dict[str, Any], where: Where) -> Refused:
    """What a status code of 400 or more means. sent: the request; where: the server, for words."""
    about = where.redacted(_words(body))
    told = f"{where.url} answered {status}: {about}" if about else f"{where.url} answered {status}"
    if status == 401:
        mend = f"set {where.key_from} to a key that it accepts"
        said = f"{told}; {mend}" if where.key else f"no key was given, and {told}; {mend}"
        return Refused(MissingCapability(said), all=True)
    if status in (400, 403, 413, 422):
        return _about_the_prompt(status, body, about, told, sent, where)
    if status in (404, 405):
        return Refused(MissingCapability(where.no_such_model(told)), all=True)
    if status == 429 and "insufficient_quota" in str(body):
        return Refused(NoAnswer(f"{told}; the account behind {where.key_from} has nothing left"), all=True)
    if status == 402:
        return Refused(NoAnswer(f"{told}; the account behind {where.key_from} must be paid first"), all=True)
    if status in (429, 502, 503, 504, 529):
        return Refused(NoAnswer(told), "patience", after=asked_to_wait(headers), all=True)
    if status in (408, 409, 425) or status >= 500:
        said = f"{told}; the server failed on this prompt: look at its log"
        return Refused(NoAnswer(said), "attempts", after=asked_to_wait(headers))
    return Refused(InputError(told))


def _about_the_prompt(
    status: int, body: Any, about: str, told: str, sent: dict[str, Any], where: Where
) -> Refused:
    held = body.get("error", body) if isinstance(body, dict) else {}
    code = str(held.get("code", "")) if isinstance(held, dict) else ""
    if status == 413 or code == "context_length_exceeded" or _TOO_LONG.search(about) or _LIMIT.search(about):
        mend = "leave contexts or photos out, or lower max_tokens"
        return Refused(InputError(f"this prompt is too long for {where.model} ({told}): {mend}"))
    if _NOT_TAKEN.search(f"{code} {about}"):
        named = (str(held.get("param", "")) if isinstance(held, dict) else "", about)
        for words in named:
            for name in OPTIONAL:
                if name in sent and re.search(rf"\b{name}\b", words):
                    return Refused(InputError(told), "otherwise", without=name)
    if status == 403:
        said = f"{told}; the key in {where.key_from} may not do this"
        return Refused(MissingCapability(said))
    return Refused(InputError(f"the server refuses this prompt: {told}"))


class Where:
    """A server and a model, as they are named in words. The key is in none of them."""

    def __init__(self, url: str, model: str, key: str, key_from: str) -> None:
        self.url = re.sub(r"//[^/@]*@", "//", url).partition("?")[0]
        self.model, self.key, self.key_from = model, key, key_from
        self.models: list[str] | None = None  # those it has, once asked

    def redacted(self, words: str) -> str:
        """Bounded, on one line, without the key, which some servers repeat."""
        words = " ".join((words.replace(self.key, "…") if self.key else words).split())
        return words[:300] + " …" if len(words) > 300 else words

    def no_such_model(self, told: str) -> str:
        if self.models is None:
            return f"{told}; is the address right? It usually ends in /v1"
        listed = ", ".join(self.models[:20]) or "none that it lists"
        more = f" and {len(self.models) - 20} more" if len(self.models) > 20 else ""
        return f"{told}; no model {self.model!r} there. It has: {listed}{more}"


def _words(body: Any) -> str:
    """What a refusal says, without what it repeats of the request."""
    if isinstance(body, dict):
        held = body.get("error") or body
        if isinstance(held, dict):
            held = held.get("message", held.get("detail")) or ""
        if isinstance(held, list):  # by field, as FastAPI has it
            parts = [part for part in held if isinstance(part, dict)]
            return "; ".join(
                f"{'.'.join(map(str, part.get('loc', ())))}: {part.get('msg', '')}" for part in parts
            )
        return str(held)
    text = str(body or "")
    return "(a web page)" if text.lstrip().startswith("<") else text


def asked_to_wait(headers: Any) -> float | None:
    """Seconds, from Retry-After (seconds or a date) or retry-after-ms; None where it says nothing sane."""
    for name, seconds in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        told = headers.get(name)
        if told is None:
            continue
        try:
            wait = float(told) * seconds
        except ValueError:
            try:
                wait = parsedate_to_datetime(told).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if math.isfinite(wait):
            return max(0.0, wait)
    return None
