"""A model behind a server that speaks OpenAI's chat protocol, as a backend.

    OpenAIServer("http://localhost:8000/v1", "Qwen/Qwen3-VL-8B-Instruct")

Nothing is sent, and the client is not imported, before it is asked for something.
"""

from __future__ import annotations

import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from primitives.backends.openai_api.asking import Batch, Line
from primitives.backends.openai_api.messages import Pictures, messages_of
from primitives.backends.openai_api.refusals import Where
from primitives.backends.openai_api.replies import Reply
from primitives.backends.openai_api.scoring import by_letter, by_words, lettered
from unroller.capabilities import AnswerScorer, Generation, Outcomes, Prompt, Scores, TextGenerator
from unroller.cost import Cost, Reading
from unroller.faults import MissingCapability, PluginError, UnrollerError

T = TypeVar("T")
Answers = Literal["auto", "letters", "written", "none"]

ASK_AGAIN = 10.0
"""Seconds after which a server that could not be asked what it provides is asked again."""

NO_ADDRESS = "a server's address in UNROLLER_OPENAI_BASE_URL"
NO_MODEL = "a model's name in UNROLLER_OPENAI_MODEL"
NO_PROBABILITIES = (
    "log-probabilities of its server's: score by another backend, or let the model write its answer, with"
    " UNROLLER_OPENAI_ANSWERS=written or OpenAIServer(…, answers='written')"
)


class _OfInstance:
    """An attribute that the class has a plain value for, and an instance looks up."""

    def __init__(self, of_class: Any, looked_up: Callable[[Any], Any]) -> None:
        self.of_class, self.looked_up = of_class, looked_up

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self.of_class if instance is None else self.looked_up(instance)


class OpenAIServer:
    """`TextGenerator`, and `AnswerScorer` where the server gives log-probabilities, by vLLM, SGLang,
    `transformers serve` or a hosted model.

    base_url: "http://localhost:8000/v1"; model: as the server calls it. api_key, or key_from: the environment
    variable that holds it. prices: dollars for a million tokens, of prompts and written. answers: "letters",
    probabilities of the choices by the letter that a reply begins with (see `scoring`); "written", 1 for
    the choice that a reply names; "none", it scores nothing; "auto", letters if the server gives
    log-probabilities, which it is asked once, by a request for one token. concurrency: requests at a time.
    timeout: seconds for a whole answer. attempts: how often a prompt is sent that the server fails on;
    patience: seconds that a server may be away or busy (refused or dropped connections; 429, 502, 503, 504,
    for as long as it asks to be left alone). extra: more settings for every request, such as
    {"chat_template_kwargs": {"enable_thinking": False}}. jpeg_quality: of pictures; None: PNG, lossless.
    longest_prompt, tokens: reserved of a budget in dollars for each call. answer_tokens: of a written answer.
    revision: your word for the weights behind the name, which the fingerprint cannot see change.

    What is None is taken from UNROLLER_OPENAI_BASE_URL, _MODEL, _PRICES ("2.50,10"), _ANSWERS and _EXTRA
    (JSON). The key is in no fingerprint, message or record. Raises PluginError for settings that are none.
    """

    name = "openai"

    def __init__(
        self,
        base_url: str | None = None,
        model: str | None = None,
        *,
        api_key: str | None = None,
        key_from: str = "OPENAI_API_KEY",
        prices: tuple[float, float] | None = None,
        answers: Answers | None = None,
        concurrency: int = 16,
        timeout: float = 300.0,
        attempts: int = 3,
        patience: float = 120.0,
        extra: Mapping[str, Any] | None = None,
        jpeg_quality: int | None = None,
        longest_prompt: int = 16_384,
        answer_tokens: int = 64,
        max_batch: int = 64,
        revision: str = "",
    ) -> None:
        self.base_url = base_url or os.environ.get("UNROLLER_OPENAI_BASE_URL") or ""
        self.model = model or os.environ.get("UNROLLER_OPENAI_MODEL") or ""
        self.answers = answers or os.environ.get("UNROLLER_OPENAI_ANSWERS") or "auto"
        self.prices = prices if prices is not None else _prices_from(os.environ.get("UNROLLER_OPENAI_PRICES"))
        self.extra = (
            dict(extra) if extra is not None else _extra_from(os.environ.get("UNROLLER_OPENAI_EXTRA"))
        )
        self.attempts, self.patience = attempts, patience
        self.longest_prompt, self.answer_tokens = longest_prompt, answer_tokens
        self.max_batch, self.revision = max_batch, revision
        self.jpeg_quality = jpeg_quality
        self.reading = Reading()
        self._timeout, self._concurrency = timeout, concurrency
        self._key = (api_key or os.environ.get(key_from) or "").strip()
        self._key_from = key_from
        self._pictures = Pictures(jpeg_quality)
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._looked: tuple[float, tuple[type[Any], ...], Any] | None = None
        self._check()

    def _check(self) -> None:
        if self.base_url and not _is_address(self.base_url):
            raise PluginError(f"{self.base_url!r} is no address: write http://host:port/v1, or https://…")
        if not (self._key.isascii() and self._key.isprintable()):
            raise PluginError(f"the key in {self._key_from} holds characters that no key has: copy it again")
        if self.answers not in get_args(Answers):
            raise PluginError(f"answers={self.answers!r}: write one of {', '.join(get_args(Answers))}")
        if any(not price >= 0 or price == float("inf") for price in self.prices) or len(self.prices) != 2:
            raise PluginError(f"prices={self.prices}: give two amounts, dollars for a million tokens each")
        counts = (self._concurrency, self.attempts, self.longest_prompt, self.answer_tokens, self.max_batch)
        if min(counts) < 1:
            raise PluginError(
                "concurrency, attempts, longest_prompt, answer_tokens and max_batch must be at least 1"
            )
        if not self._timeout > 0 or not self.patience >= 0:
            raise PluginError("timeout must be above 0 seconds, and patience at least 0")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise PluginError(f"jpeg_quality={self.jpeg_quality}: give 1 to 100, or None for PNG")
        ours = {"model", "messages", "stream", "n"} & set(self.extra)
        if ours:
            raise PluginError(f"extra holds {', '.join(sorted(ours))}, which this backend sets itself")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PluginError(f"extra must be plain data, as JSON has it: {error}") from None

    @cached_property
    def fingerprint(self) -> str:
        """Of the address, the model's name and the settings that change results. What the server loads under
        that name, nobody here can see: see `revision`."""
        if not (self.base_url and self.model):
            return "openai-none"
        from xxhash import xxh3_64_hexdigest

        settings = json.dumps(
            [
                self._where.url.rstrip("/"),
                self.model,
                self.answers,
                self.answer_tokens,
                self.jpeg_quality,
                self.extra,
                self.revision,
            ],
            sort_keys=True,
        )
        return f"openai-1-{xxh3_64_hexdigest(settings.encode())}"

    @cached_property
    def _where(self) -> Where:
        return Where(self.base_url, self.model, self._key, self._key_from)

    @cached_property
    def _line(self) -> Line:
        for given, lacked in ((self.base_url, NO_ADDRESS), (self.model, NO_MODEL)):
            if not given:
                raise MissingCapability(f"the openai backend was not told whom to ask: it lacks {lacked}")
        return Line(self._where, self.base_url, self._timeout, self._concurrency, self.extra)

    # ------------------------------------------------------------------------------- what it provides

    def _found(self) -> tuple[tuple[type[Any], ...], Any]:
        """What is provided, and what is lacking for the rest, in words."""
        for given, lacked in ((self.base_url, NO_ADDRESS), (self.model, NO_MODEL)):
            if not given:
                return (), lacked
        if self.answers == "none":
            return (TextGenerator,), {AnswerScorer: "a way to score answers: it was made with answers='none'"}
        if self.answers != "auto":
            return (AnswerScorer, TextGenerator), ""
        with self._lock:
            if self._looked is None or (not self._looked[1] and time.monotonic() > self._looked[0]):
                found, lacks = self._look()
                self._looked = time.monotonic() + ASK_AGAIN, found, lacks
            return self._looked[1:]

    def _look(self) -> tuple[tuple[type[Any], ...], Any]:
        """Ask the server for one token with its log-probability."""
        messages = [{"role": "user", "content": "Say yes."}]
        how = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": 20}
        try:
            once = Batch(attempts=1, patience=0)
            (reply,) = self._line.together(lambda i, batch: self._line.ask(batch, messages, **how), 1, once)
        except UnrollerError as error:
            reply = error
        if isinstance(reply, UnrollerError):
            return (), f"an answer of its server's ({reply})"
        if isinstance(reply, Exception):
            raise reply
        if reply.tokens and reply.tokens[0].top_logprobs:
            return (AnswerScorer, TextGenerator), ""
        return (TextGenerator,), {AnswerScorer: NO_PROBABILITIES}

    # The class provides nothing, whatever is in the environment: those who ask it only list names.
    provides = _OfInstance((), lambda self: self._found()[0])
    lacks = _OfInstance(f"{NO_ADDRESS} and {NO_MODEL}", lambda self: self._found()[1])

    # ----------------------------------------------------------------------------------- capabilities

    def generate_text(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seeds: Sequence[int]
    ) -> Outcomes[Generation]:
        """Replies, without what a model reasons unseen. log_probability is as the server tells it; None
        where it does not. The seed is sent in 31 bits; whether a server's samples
        repeat with it, and do not depend on their batch mates, is up to the server."""

        def work(i: int, batch: Batch) -> Generation:
            reply = self._line.ask(
                batch,
                messages_of(prompts[i], self._pictures),
                max_tokens=max_tokens,
                temperature=temperature,
                seed=seeds[i] & 0x7FFFFFFF,
                logprobs=True,
            )
            tokens, price = self._counted(reply, max_tokens)
            return Generation(reply.text(max_tokens), tokens, reply.log_probability, price)

        return self._asked(work, len(prompts))

    def score_answers(
        self, prompts: Sequence[Prompt], choices: Sequence[tuple[str, ...]]
    ) -> Outcomes[Sequence[float]]:
        """Probabilities by letter or by what is written, see the class and `scoring`."""

        def work(i: int, batch: Batch) -> Scores:
            written = self.answers == "written"
            asked_for = lettered(choices[i]) if not written else ""
            how: dict[str, Any] = {"max_tokens": self.answer_tokens, "temperature": 0.0, "seed": 0}
            if not written:
                how |= {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
            reply = self._line.ask(batch, messages_of(prompts[i], self._pictures, asked_for), **how)
            _, price = self._counted(reply, how["max_tokens"])
            if written:
                scores = Scores(by_words(reply.text(self.answer_tokens), choices[i]))
            else:
                scores = Scores(by_letter(reply, len(choices[i])))
            scores.price = price
            return scores

        return self._asked(work, len(prompts))

    def price_bound(self, cost: Cost) -> float:
        """The most dollars for a call of this bound, if its prompt has at most `longest_prompt` tokens. (The
        budget holds for longer ones too: their value is then dropped.)"""
        read, written = self.prices
        tokens = cost.tokens or cost.model_calls * self.answer_tokens
        return (cost.model_calls * self.longest_prompt * read + tokens * written) / 1e6

    def _asked(self, work: Callable[[int, Batch], T], count: int) -> list[T | Exception]:
        outcomes = self._line.together(work, count, Batch(self.attempts, self.patience))
        self._tell()
        return outcomes

    def _counted(self, reply: Reply, at_most: int) -> tuple[int, float]:
        """Tokens written, and dollars by the price list: for all of the prompt, whatever part of it a server
        had read before, so that the charge is the same each time."""
        tokens, usage = reply.written(at_most), reply.usage
        with self._lock:
            self.reading += Reading(usage.read - usage.cached, usage.cached, tokens)
        return tokens, (usage.read * self.prices[0] + tokens * self.prices[1]) / 1e6

    def _tell(self) -> None:
        """Say once what the server does not take, where that changes what it writes."""
        meant = {
            "temperature": "it writes at a temperature of its own",
            "seed": "what it writes at temperatures above 0 cannot be had again",
        }
        for name in sorted((self._line.not_taken & set(meant)) - self._told):
            self._told.add(name)
            warnings.warn(f"{self.model} takes no {name}: {meant[name]}", stacklevel=4)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or a host that is none
        return False


def _prices_from(words: str | None) -> tuple[float, float]:
    if not words:
        return 0.0, 0.0
    try:
        read, written = map(float, words.split(","))
    except ValueError:
        raise PluginError(
            f"UNROLLER_OPENAI_PRICES={words!r}: write two amounts, dollars for a million tokens of prompts"
            ' and of what is written: "2.50,10"'
        ) from None
    return read, written


def _extra_from(words: str | None) -> dict[str, Any]:
    try:
        held = json.loads(words) if words else {}
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise PluginError(f"UNROLLER_OPENAI_EXTRA={words!r} is no JSON object of settings")
    return held
