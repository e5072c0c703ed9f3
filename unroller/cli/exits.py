"""Exit codes, and which error ends with which.

A script that calls `unroller` can tell a run without an answer from a bad picture, and a bad picture from a
full disk. The table below is what `unroller --help` prints.
"""

from __future__ import annotations

from enum import IntEnum

from unroller.faults import (
    CallFailed,
    ContractError,
    JournalError,
    MemoError,
    MissingCapability,
    PlanError,
    PluginError,
    PolicyError,
    UnrollerError,
)


class Exit(IntEnum):
    """What the process ends with."""

    FINE = 0
    NO_OUTPUT = 1
    USAGE = 2
    MISSING = 3
    DISK = 4
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANING = {
    Exit.FINE: "fine",
    Exit.NO_OUTPUT: "the run ended without an output (its faults say why); doctor found a problem",
    Exit.USAGE: "bad usage or bad input: an option, a name, a picture, a budget",
    Exit.MISSING: "a capability, a backend or a plug-in is missing or broken; check found a broken contract",
    Exit.DISK: "journal or disk trouble: what was finished before is kept",
    Exit.BUG: "something unexpected; UNROLLER_DEBUG=1 shows the traceback",
    Exit.INTERRUPTED: "interrupted: the journal is kept, and how to resume is printed",
}

EPILOG = "[bold]Exit codes[/bold]\n" + "\n".join(
    f"  {code.value:>3}  {meaning}" for code, meaning in MEANING.items()
)


def code_of(error: BaseException) -> Exit:
    """The exit code for an error that reached the command line."""
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return Exit.BROKEN_PIPE
    if isinstance(error, CallFailed):
        return Exit.NO_OUTPUT
    if isinstance(error, (MissingCapability, PluginError, PolicyError, PlanError, ContractError)):
        return Exit.MISSING
    if isinstance(error, (JournalError, MemoError)):
        return Exit.DISK
    if isinstance(error, UnrollerError):
        return Exit.USAGE
    return Exit.DISK if isinstance(error, OSError) else Exit.BUG
