"""Where asynchronous questions meet in batches: one thread answers all that wait, and those that come
meanwhile wait for the next batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

GATHER = 0.01
"""Seconds to wait for one more question, as long as more keep coming."""


class Waiting(Generic[Q, A]):
    """A question, and its answer or the error that stands for it once it `done`."""

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answer: A | None = None
        self.error: Exception | None = None
        self.done = False


class Meeting(Generic[Q, A]):
    """perform: answers many questions at once, in order; largest: how many at a time."""

    def __init__(self, perform: Callable[[Sequence[Q]], Sequence[A]], largest: int = 256) -> None:
        self._perform = perform
        self._largest = largest
        self._waiting: list[Waiting[Q, A]] = []
        self._turns: dict[Any, Any] = {}

    async def ask(self, question: Q) -> A:
        """The answer. Whoever comes first answers for all; who is cancelled is not waited for."""
        import anyio

        one: Waiting[Q, A] = Waiting(question)
        self._waiting.append(one)
        try:
            async with self._turn():
                while not one.done:
                    await self._gather()
                    batch, self._waiting = self._waiting[: self._largest], self._waiting[self._largest :]
                    await anyio.to_thread.run_sync(self._answer, batch)
        finally:
            if one in self._waiting:
                self._waiting.remove(one)
        if one.error is not None:
            raise one.error
        return one.answer  # pyright: ignore[reportReturnType]

    def _turn(self) -> Any:
        """The lock of the event loop that runs: a harness may start a new one for every evaluation."""
        import anyio
        from anyio.lowlevel import current_token

        loop = current_token()
        if loop not in self._turns:
            self._turns = {loop: anyio.Lock()}
        return self._turns[loop]

    async def _gather(self) -> None:
        import anyio

        count = 0
        while count < len(self._waiting) < self._largest:
            count = len(self._waiting)
            await anyio.sleep(GATHER)

    def _answer(self, batch: Sequence[Waiting[Q, A]]) -> None:
        try:
            answers = self._perform([one.question for one in batch])
            for one, answer in zip(batch, answers, strict=True):
                one.answer, one.done = answer, True
        except Exception as error:
            for one in batch:
                if not one.done:
                    one.error, one.done = error, True
