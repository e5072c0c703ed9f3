"""What can go wrong, as types.

Two kinds of thing live here. *Errors* are exceptions: bad input, a missing capability, a broken plug-in.
Each message says what is wrong and what to do about it. A `Fault` is the *record* of a call that failed
while unrolling: it is kept in the run, the call is masked for that problem, and the unrolling goes on.
"""

from __future__ import annotations

import msgspec


class UnrollerError(Exception):
    """Base of every error that unroller raises on purpose: catch this to catch them all."""


class ProblemError(UnrollerError, ValueError):
    """The problem x is not usable: a missing picture, an empty question, singular intrinsics."""


class ImageError(ProblemError):
    """A picture cannot be read: not an image, truncated, empty, or too large to decode safely."""


class ValueCheckError(UnrollerError, ValueError):
    """A value's metadata is wrong: shape, dtype, or a number out of its range."""


class UnknownName(UnrollerError, LookupError):
    """No such primitive, policy, backend … registered; the message lists near and known names."""


class PluginError(UnrollerError):
    """A registered plug-in cannot be imported, or is not what its entry point says it is."""


class MissingCapability(UnrollerError):
    """No chosen backend provides a capability that is needed; the message names who could."""


class BudgetError(UnrollerError, ValueError):
    """A budget is malformed, or too small for the decoder that every run ends with."""


class PolicyError(UnrollerError):
    """A policy raised, or decided something that is not a decision."""


class PlanError(UnrollerError, ValueError):
    """A plan is not a directed acyclic graph of known calls."""


class JournalError(UnrollerError, OSError):
    """The journal cannot be written or read; what was finished before stays in it."""


class MemoError(UnrollerError, OSError):
    """The memo on disk cannot be opened."""


class TransientError(UnrollerError):
    """For backends to raise: trying again may help (rate limits, dropped connections)."""


class NoAnswer(UnrollerError):
    """For backends that ask elsewhere to raise: no usable answer came, and they have asked again themselves
    as far as that helps (after a TransientError the engine would)."""


class InputError(UnrollerError):
    """For primitives and backends to raise: these inputs cannot be worked with, and trying again
    will not help (photos without overlap, a blank picture). Other samples of the batch are fine."""


class ContractError(UnrollerError):
    """A plug-in broke its own declaration. See the subclasses."""


class UndeclaredRead(ContractError):
    """A primitive read a field or value type that it did not declare in `reads`.

    Not an AttributeError: `getattr(view, "question", "")` must not hide it."""


class WrongType(ContractError, TypeError):
    """A primitive returned something other than the type it declares in `writes`."""


class WrongBatch(ContractError):
    """A batched primitive returned another number of values than it was given samples."""


class NotFinite(ContractError, ValueError):
    """A value holds NaN or infinity."""


class OutOfMemory(UnrollerError, MemoryError):
    """One sample alone does not fit into the memory that is left; larger batches were halved before."""


class CallTimeout(UnrollerError, TimeoutError):
    """A call outlasted the `timeout` that its primitive declares."""


class BudgetOverrun(UnrollerError):
    """A call charged more than was left of the budget; its value is dropped, the limit holds."""


class NotAllowed(UnrollerError):
    """A policy chose a call that is masked, not applicable, or not affordable: it was not made."""


class CallFailed(UnrollerError):
    """Raised in place of recording a fault when the executor is strict."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.action}: {fault.kind}: {fault.message}")
        self.fault = fault


class Fault(msgspec.Struct, frozen=True, tag="fault", gc=False):
    """The record of a call that failed.

    action: the call's name; kind: the error's class name; message: its text, bounded;
    step: the decision it belonged to; attempts: how often it was tried; id: the provenance id
    the value would have had; seconds: wall-clock time lost; phase: what was being done.
    """

    action: str
    kind: str
    message: str
    step: int
    id: bytes = b""
    attempts: int = 1
    seconds: float = 0.0
    phase: str = "call"  # "call" | "decode" | "decide" | "probe" | "refused"
    charged: tuple[int, int, float] = (0, 0, 0.0)  # calls, tokens, price, of a call that overran the budget


MESSAGE_LIMIT = 2_000


def fault_of(
    error: BaseException,
    *,
    action: str,
    step: int,
    id: bytes = b"",
    attempts: int = 1,
    seconds: float = 0.0,
    phase: str = "call",
    charged: tuple[int, int, float] = (0, 0, 0.0),
) -> Fault:
    """The record of `error`, its message cut to a bounded length."""
    try:
        message = str(error) or type(error).__name__
    except Exception:  # a plug-in's own exception may break when it is shown
        message = type(error).__name__
    message = message.encode("utf-8", "backslashreplace").decode()  # half surrogates cannot be written down
    if len(message) > MESSAGE_LIMIT:
        message = message[:MESSAGE_LIMIT] + " …"
    return Fault(action, type(error).__name__, message, step, id, attempts, seconds, phase, charged)
