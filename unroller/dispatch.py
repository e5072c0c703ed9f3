"""One batch of one action: run it, check what came back, and on the exception path retry, halve, isolate.

Nothing here knows about problems or policies. `perform` takes an action and views and answers one outcome
a view, a value or a `Failure`, and never raises: this is the seam where another engine (worker processes,
Ray actors) can be put.
"""

from __future__ import annotations

import inspect
import threading
import traceback
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol, cast

import msgspec
import numpy as np

from unroller.actions import Action
from unroller.arrays import Array, all_finite, is_array
from unroller.cost import Reading
from unroller.declare import View
from unroller.faults import CallTimeout, NotFinite, OutOfMemory, TransientError, WrongBatch, WrongType
from unroller.values import Value, array_fields

ATTEMPTS = 3
"""How often a call that fails transiently is tried."""

FIRST_WAIT, LONGEST_WAIT = 0.05, 5.0
"""Seconds between attempts: exponential, with jitter."""


class Failure(msgspec.Struct, frozen=True):
    """The outcome of a sample that failed."""

    error: Exception
    attempts: int = 1


class Engine(Protocol):
    """Puts batches somewhere: takes (action, views), returns one outcome a view."""

    def perform(self, action: Action, views: list[View]) -> list[Any]: ...


class InlineEngine:
    """Runs each batch where it stands."""

    def __init__(self) -> None:
        self.perform = perform


def perform(action: Action, views: list[View]) -> list[Any]:
    """One outcome a view: a checked value, or a Failure. Never raises an Exception."""
    if action.meters:
        return _metered(action, views)
    return _performed(action, views)


def _metered(action: Action, views: list[View]) -> list[Any]:
    """The same by backends that count what they read: every view gets its share."""
    before = [_reading(meter) for meter in action.meters]
    outcomes = _performed(action, views)
    share = Reading()
    for meter, then in zip(action.meters, before, strict=True):
        share += _reading(meter).since(then, len(views))
    for view in views:
        view.reading = share
    return outcomes


def _reading(backend: Any) -> Reading:
    try:
        return cast(Reading, backend.reading)
    except Exception:  # weights that cannot be loaded: the call itself will say so
        return Reading()


def _performed(action: Action, views: list[View]) -> list[Any]:
    try:
        outcomes = _attempt(action, views)
    except Exception as error:
        outcomes = _recover(action, views, error)
    try:
        return _checked(action, views, outcomes)
    except Exception:  # a value that breaks when it is looked at
        return [_checked_alone(action, view, one) for view, one in zip(views, outcomes, strict=True)]


def _checked(action: Action, views: list[View], outcomes: list[Any]) -> list[Any]:
    if not action.is_value:  # a probe's numbers are looked at one by one
        return _examined(action, views, outcomes)
    writes = action.writes
    for outcome in outcomes:
        if type(outcome) is not writes:
            return _finite(_examined(action, views, outcomes))
    return _finite(outcomes) if action.holds_arrays else outcomes


def _checked_alone(action: Action, view: View, outcome: Any) -> Any:
    try:
        return _checked(action, [view], [outcome])[0]
    except Exception as alone:
        return Failure(alone)


def _attempt(action: Action, views: list[View]) -> list[Any]:
    """Call the primitive. Raises what it raises, WrongBatch, or CallTimeout."""
    primitive = action.primitive
    timeout = primitive.timeout
    if timeout is None:
        outcomes: Any = primitive.run(views, action.providers)
        if primitive.is_async:
            outcomes = _awaited(outcomes)
    elif primitive.batched:
        outcomes = _in_time(action, views, timeout)
    else:
        outcomes = [_one_in_time(action, view, timeout, alone=len(views) == 1) for view in views]
    listed: list[Any] = outcomes  # pyright: ignore[reportUnknownVariableType]
    if type(listed) is not list:
        listed = _as_list(outcomes, primitive.name)
    if len(listed) != len(views):
        raise WrongBatch(f"{primitive.name} returned {len(listed)} values for {len(views)} samples")
    return listed


def _as_list(outcomes: Any, name: str) -> list[Any]:
    if isinstance(outcomes, (str, bytes, Value)) or not isinstance(outcomes, Sequence):
        raise WrongType(f"{name} is batched and must return a list, not {type(outcomes).__name__}")
    return list(cast("Sequence[Any]", outcomes))


def _one_in_time(action: Action, view: View, timeout: float, alone: bool) -> Any:
    try:
        return _in_time(action, [view], timeout)[0]
    except Exception as error:
        if alone:
            raise
        return error


def _in_time(action: Action, views: list[View], timeout: float) -> Any:
    """Run the primitive on a thread and give up on it after `timeout` seconds.

    Python cannot stop a thread: what hangs goes on hanging, as a daemon, and is never waited for again. It
    works on copies of the views, so that what it still charges is charged to nobody.
    """
    copies = [copy(view) for view in views]
    run, providers = action.primitive.run, action.providers
    outcomes = _on_thread(lambda: _awaited(run(copies, providers)), timeout, action.primitive.name)
    for view, worked_on in zip(views, copies, strict=True):
        view.charged = worked_on.charged
    return outcomes


def _on_thread(work: Callable[[], Any], timeout: float | None, name: str) -> Any:
    box: list[Any] = []

    def run() -> None:
        try:
            box.append((True, work()))
        except BaseException as error:  # handed to the waiting thread, which raises it
            box.append((False, error))

    thread = threading.Thread(target=run, name=f"unroller:{name}", daemon=True)
    thread.start()
    thread.join(timeout)
    if not box:
        raise CallTimeout(f"{name} took longer than its timeout of {timeout:g} s")
    ok, result = box[0]
    if ok:
        return result
    raise result


def _awaited(outcomes: Any) -> Any:
    """Results of `async def` primitives, which may come one a sample."""
    if inspect.iscoroutine(outcomes):
        return _run_coroutine(outcomes)
    several = cast("list[Any]", outcomes) if isinstance(outcomes, list) else []
    if any(map(inspect.iscoroutine, several)):
        return _run_coroutine(_gathered(several))
    return cast(Any, outcomes)


async def _gathered(outcomes: list[Any]) -> list[Any]:
    import asyncio

    async def settle(outcome: Any) -> Any:
        return await outcome if inspect.iscoroutine(outcome) else outcome

    return await asyncio.gather(*map(settle, outcomes), return_exceptions=True)


def _run_coroutine(coroutine: Any) -> Any:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # Inside a running loop (a notebook): a loop of our own, on a thread.
    return _on_thread(lambda: asyncio.run(coroutine), None, "async")


# ---------------------------------------------------------------------------------- the exception path


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, CallTimeout):
        return False
    return isinstance(error, (TransientError, ConnectionError, TimeoutError))


_NO_ROOM = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""What torch says on CUDA and MPS, on the CPU, and for cuDNN and cuBLAS."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help: MemoryError, torch's own out-of-memory error, or what it raises on
    other devices and for the libraries that it calls, which is known by its words alone."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_ROOM)


def _recover(
    action: Action, views: list[View], error: Exception, patience: list[int] | None = None
) -> list[Any]:
    """A whole batch failed. Transient: try again. Otherwise halve it, down to the samples at fault: this
    is what out-of-memory needs, and it finds one bad sample among 64 in a dozen calls.

    patience: how many more timeouts to sit out. It is enough to find two samples that hang among many that
    do not; if all of them hang, the rest is given up rather than waited for one by one.
    """
    if is_transient(error):
        return _retry(action, views, error)
    if len(views) == 1 and is_out_of_memory(error):
        return [Failure(_alone(error))]
    if len(views) == 1 or isinstance(error, (WrongBatch, WrongType)):
        return [Failure(error)] * len(views)
    for view in views:
        view.charged = None  # by an attempt that does not count
    if isinstance(error, CallTimeout) and patience is None:
        patience = [2 * len(views).bit_length()]
    middle = len(views) // 2
    if is_out_of_memory(error):
        action.max_batch = max(1, min(action.max_batch, middle))  # and remember it
        let_go(error)
    outcomes: list[Any] = []
    for half in (views[:middle], views[middle:]):
        if patience is not None and patience[0] <= 0:
            outcomes += [Failure(error)] * len(half)
            continue
        try:
            outcomes += _attempt(action, half)
        except Exception as again:
            if isinstance(again, CallTimeout) and patience is not None:
                patience[0] -= 1
            outcomes += _recover(action, half, again, patience)
    return outcomes


def let_go(error: BaseException) -> None:
    """Clear what the finished frames of an error hold: the tensors of a batch, for which there was no room,
    would leave half of it no more."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__


def _alone(error: Exception) -> OutOfMemory:
    """What is told of a sample that has no room though it is alone."""
    why = (str(error).splitlines() or [type(error).__name__])[0]
    return OutOfMemory(
        f"one sample alone does not fit into memory ({why:.200}): leave photos or contexts out, or choose a"
        " smaller model or dtype, or free what else is on its device"
    )


def _retry(action: Action, views: list[View], error: Exception) -> list[Any]:
    import tenacity  # costs an import only when something has gone wrong

    attempts = 1

    def again() -> list[Any]:
        nonlocal attempts
        attempts += 1
        for view in views:
            view.charged = None
        return _attempt(action, views)

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS - 1),
        wait=tenacity.wait_random_exponential(multiplier=2 * FIRST_WAIT, max=LONGEST_WAIT),
        retry=tenacity.retry_if_exception(is_transient),
        reraise=True,
    )
    _pause(FIRST_WAIT)
    try:
        return retrying(again)
    except Exception as last:
        if is_transient(last):
            return [Failure(last, attempts)] * len(views)
        return _recover(action, views, last)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _examined(action: Action, views: list[View], outcomes: list[Any]) -> list[Any]:
    """The outcomes with exceptions and wrong types turned into failures, and samples that failed
    transiently tried again."""
    primitive = action.primitive
    examined: list[Any] = []
    for view, outcome in zip(views, outcomes, strict=True):
        if isinstance(outcome, Exception) and is_transient(outcome):
            outcome = _retry(action, [view], outcome)[0]
        if isinstance(outcome, Failure):
            pass
        elif isinstance(outcome, Exception):
            outcome = Failure(_alone(outcome) if is_out_of_memory(outcome) else outcome)
        elif action.is_value:
            if not isinstance(outcome, action.writes):
                got, want = type(outcome).__name__, action.writes.__name__
                what = f"{primitive.name} declares that it writes {want} and returned {got}"
                outcome = Failure(WrongType(what))
        elif isinstance(outcome, (int, float, np.number)):
            outcome = float(cast(Any, outcome))
            if not np.isfinite(outcome):
                outcome = Failure(NotFinite(f"{primitive.name} measured {outcome}"))
        elif not is_array(outcome):
            got = type(outcome).__name__
            outcome = Failure(WrongType(f"the probe {primitive.name} returned {got}, not a number or array"))
        elif not all_finite([outcome])[0]:
            outcome = Failure(NotFinite(f"the probe {primitive.name} measured NaN or infinity"))
        examined.append(outcome)
    return examined


def _finite(outcomes: list[Any]) -> list[Any]:
    """The outcomes, those that hold NaN or infinity turned into failures: one look for the batch."""
    owners: list[int] = []
    arrays: list[Array] = []
    names: list[str] = []
    for i, value in enumerate(outcomes):
        if isinstance(value, Value):
            for name in array_fields(type(value)):
                array = getattr(value, name)
                if array is not None:
                    if not is_array(array):
                        what = f"{type(value).__name__}.{name} must be a numpy array or a torch tensor"
                        raise WrongType(f"{what}, not {type(array).__name__}")
                    owners.append(i)
                    arrays.append(array)
                    names.append(name)
    for i, name, finite in zip(owners, names, all_finite(arrays), strict=True):
        if not finite:
            what = f"{type(outcomes[i]).__name__}.{name}"
            if not isinstance(outcomes[i], Failure):
                outcomes = [*outcomes]
                outcomes[i] = Failure(NotFinite(f"{what} holds NaN or infinity"))
    return outcomes
