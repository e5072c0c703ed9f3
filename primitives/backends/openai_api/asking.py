"""Asking a server: many prompts at once up to a limit, each sent again where that helps.

Who retries: this module, and nobody else. The client library's retries are off, and what is given up here is
raised as an error that the engine does not retry: it would ask for one sample after the other, and does not
know how long the server asked to be left alone. A wait that the server asks for holds up every prompt.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from primitives.backends.checkpoints import imported
from primitives.backends.openai_api.refusals import Refused, Where, refused
from primitives.backends.openai_api.replies import Reply, reply_of
from unroller.faults import MissingCapability, NoAnswer, UnrollerError

T = TypeVar("T")

FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
"""Seconds between attempts where the server asks for none: doubled each time, with jitter."""

LONGEST_CONNECT = 10.0
"""Seconds until a connection must stand."""

LARGEST = 64 << 20
"""Bytes of an answer: what is longer is not read."""

BROKEN = {"ConnectError", "ConnectTimeout", "ReadError", "WriteError", "CloseError", "PoolTimeout"}
BROKEN |= {"RemoteProtocolError", "ProxyError"}
"""What the client's own library calls a connection that could not be made, or broke."""

TOP = (20, 5)
"""How many of the most probable tokens to ask for: what most servers give, and what older ones do."""


class Batch:
    """Prompts that were handed over together. answered: when one last was, on the monotonic clock; over: why
    none of those that are left will be."""

    def __init__(self, attempts: int, patience: float) -> None:
        self.attempts, self.patience = attempts, patience
        self.answered = 0.0
        self.over: Exception | None = None
        self.stopped = threading.Event()

    def end(self, why: Exception) -> None:
        self.over = self.over or why
        self.stopped.set()


class Tries:
    """How often one prompt was sent in vain, and since when the server has been away or busy."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.failed = 0
        self.since: float | None = None

    def pause(self, why: Refused) -> float | None:
        """Seconds to wait before it is sent again; None: give it up."""
        if why.again == "patience":
            now = time.monotonic()
            self.since = self.since or now
            gone = now - self.since
            pause = FIRST_WAIT + min(LONGEST_WAIT, gone) * random.uniform(0.5, 1.0)
            pause = pause if why.after is None else why.after
            return pause if gone + pause <= self.batch.patience else None
        self.since = None
        self.failed += 1
        if why.again != "attempts" or self.failed >= self.batch.attempts:
            return None
        pause = FIRST_WAIT * 2 ** min(self.failed - 1, 10) * random.uniform(0.5, 1.0)
        return min(pause, LONGEST_WAIT) if why.after is None else min(why.after, self.batch.patience)

    def given_up(self, why: Refused) -> UnrollerError:
        """The error to raise, with how often or how long it was tried."""
        error = why.error
        if why.again == "attempts" and self.failed > 1:
            return type(error)(f"{error} (sent {self.failed} times)")
        if why.again == "patience" and why.after is not None:
            return type(error)(f"{error} (it asks to be left alone for {why.after:.0f} s: raise `patience`)")
        gone = 0.0 if self.since is None else time.monotonic() - self.since
        if why.again == "patience" and gone >= 1:
            return type(error)(f"{error} (tried for {gone:.0f} s)")
        return error


class Line:
    """The line to one model on one server. timeout: seconds for a whole answer; extra: settings that are
    sent along."""

    def __init__(self, where: Where, base_url: str, timeout: float, concurrency: int, extra: Any) -> None:
        self.where, self.base_url = where, base_url
        self.timeout, self.concurrency, self.extra = timeout, concurrency, extra
        self.not_taken: set[str] = set()  # settings that the server, or this model, turned out not to take
        self._top = TOP[0]
        self._lock = threading.Lock()
        self._closed_until = 0.0  # on the monotonic clock: the server asked to be left alone

    @cached_property
    def _openai(self) -> Any:
        return imported("openai", "unroller[openai]")

    @cached_property
    def _client(self) -> Any:
        key = self.where.key or "none"  # servers of one's own ask for none, the client does
        timeout = self._openai.Timeout(self.timeout, connect=min(self.timeout, LONGEST_CONNECT))
        return self._openai.OpenAI(base_url=self.base_url, api_key=key, max_retries=0, timeout=timeout)

    # ------------------------------------------------------------------------------------------ batches

    def together(self, work: Callable[[int, Batch], T], count: int, batch: Batch) -> list[T | Exception]:
        """work(i, batch) for i in 0 .. count - 1, `concurrency` at a time: a result or an exception each.

        Raises MissingCapability where the client is not installed. Threads are daemons, so that an interrupt
        need not wait for a server.
        """
        with self._lock:
            _ = self._client  # what is missing is said once, not in every sample's place
        outcomes: list[Any] = [None] * count
        left = iter(range(count))

        def worker() -> None:
            while True:
                with self._lock:
                    i = next(left, None)
                if i is None:
                    return
                try:
                    outcomes[i] = work(i, batch)
                except Exception as error:
                    outcomes[i] = error

        size = min(self.concurrency, count)
        threads = [threading.Thread(target=worker, name="unroller:openai", daemon=True) for _ in range(size)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as interrupt:
            batch.end(NoAnswer(f"given up: {type(interrupt).__name__}"))
            raise
        return outcomes

    # ------------------------------------------------------------------------------------------- asking

    def ask(self, batch: Batch, messages: list[dict[str, Any]], **wanted: Any) -> Reply:
        """The reply to one prompt, asked for again as long as that helps.

        wanted: max_tokens, temperature, seed, logprobs, top_logprobs; what the server does not take is left
        out. Raises InputError for what is wrong with this prompt, MissingCapability for what is wrong with
        the address, the key or the model, NoAnswer for the rest.
        """
        tries = Tries(batch)
        while True:
            if batch.over is not None:
                raise batch.over
            self._wait_until(self._closed_until, batch)
            sent = self._sendable(wanted)
            try:
                reply = self._asked({"model": self.where.model, "messages": messages, **sent})
                batch.answered = time.monotonic()
                return reply
            except Refused as attempt:
                why = attempt
            if why.again == "otherwise":
                self._leave_out(why.without, sent)
                continue
            pause = tries.pause(why)
            if pause is None:
                error = tries.given_up(why)
                if why.all and (tries.since is None or batch.answered < tries.since):
                    batch.end(error)
                raise error
            then = time.monotonic() + pause
            if why.after is None:
                self._wait_until(then, batch)
            else:
                with self._lock:
                    self._closed_until = max(self._closed_until, then)

    def _wait_until(self, then: float, batch: Batch) -> None:
        """Wait, with a little more at random so that not all knock at once."""
        wait = then - time.monotonic()
        if wait > 0:
            batch.stopped.wait(wait + random.uniform(0.0, min(1.0, 0.25 * wait)))

    # ---------------------------------------------------------------------------------- what is sent

    def _sendable(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """The settings that the server takes, by the names it takes them under."""
        sent = dict(wanted)
        if "max_tokens" in self.not_taken:
            sent["max_completion_tokens"] = sent.pop("max_tokens")
        if "top_logprobs" in sent:
            sent["top_logprobs"] = self._top
        if "logprobs" in self.not_taken:
            sent.pop("top_logprobs", None)
        return {name: value for name, value in sent.items() if name not in self.not_taken}

    def _leave_out(self, name: str, sent: dict[str, Any]) -> None:
        """Remember that the server does not take a setting as it was sent."""
        with self._lock:
            if name == "top_logprobs" and sent[name] == TOP[0]:
                self._top = TOP[-1]
            elif name == "top_logprobs":
                self.not_taken |= {"logprobs"}
            else:
                self.not_taken |= {name}

    def _asked(self, body: dict[str, Any]) -> Reply:
        """One attempt. Raises Refused."""
        openai = self._openai
        ends = time.monotonic() + self.timeout
        late = f"{self.where.url} did not answer in full within {self.timeout:g} s: raise `timeout`"
        try:
            with self._client.chat.completions.with_streaming_response.create(
                **body, extra_body=self.extra or None
            ) as response:
                content = bytearray()
                for some in response.iter_bytes():
                    content += some
                    if time.monotonic() > ends:
                        raise Refused(NoAnswer(late), "attempts")
                    if len(content) > LARGEST:
                        raise Refused(NoAnswer(f"{self.where.url} answered more than {LARGEST:,} bytes"))
        except openai.APIStatusError as error:
            raise self._refused(error, body) from None
        except (Refused, UnrollerError):
            raise
        except Exception as error:
            raise self._unreached(error, late) from None
        if content.lstrip()[:1] == b"<":
            said = f"{self.where.url} answers with a web page: is the address right? It usually ends in /v1"
            raise Refused(MissingCapability(said), all=True)
        try:
            reply = reply_of(bytes(content))
            _ = reply.first
        except NoAnswer as error:
            said = NoAnswer(self.where.redacted(str(error)))
            raise Refused(said, "attempts") from None
        return reply

    def _refused(self, error: Any, body: dict[str, Any]) -> Refused:
        if error.status_code == 404 and self.where.models is None:
            self.where.models = self._models()
        held = error.body if isinstance(error.body, (dict, str)) else _json(error.response)
        return refused(error.status_code, held, error.response.headers, body, self.where)

    def _models(self) -> list[str] | None:
        """The models that the server lists; None where it does not."""
        try:
            listed = self._client.with_options(timeout=10.0).models.list()
            return [str(model.id) for model in listed.data]
        except Exception:  # it was asked for a better message, no more
            return None

    def _unreached(self, error: Exception, late: str) -> Refused:
        """No answer at all, or half of one. What the client raises is told by its causes."""
        causes: list[BaseException] = [error]
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and len(causes) < 8:
            causes.append(cause)
        kinds = {type(one).__name__ for one in causes}
        why = self.where.redacted(str(causes[-1]) or str(error)) or type(error).__name__
        if kinds & {"APITimeoutError", "ReadTimeout", "WriteTimeout"} and "ConnectTimeout" not in kinds:
            return Refused(NoAnswer(late), "attempts")
        if "DecodingError" in kinds:
            return Refused(NoAnswer(f"{self.where.url} answered what cannot be read ({why})"), "attempts")
        if kinds & BROKEN and "CERTIFICATE" not in why:
            said = f"{self.where.url} cannot be reached ({why}): start the server, or mend the address"
            return Refused(NoAnswer(said), "patience", all=True)
        said = f"{self.where.url} cannot be asked ({why}): mend the address, the key or the certificate"
        return Refused(MissingCapability(said), all=True)


def _json(response: Any) -> Any:
    try:
        return response.json()
    except Exception:  # not JSON, or not read
        return ""
