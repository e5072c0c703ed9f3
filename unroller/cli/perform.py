"""Run problems under somebody's eyes, with a journal, and survive an interruption of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from unroller.cli.exits import Exit
from unroller.cli.live import watching
from unroller.cli.setup import Setup
from unroller.cli.terminal import aside, is_live, note, stderr
from unroller.executor import Executor
from unroller.faults import CallFailed, JournalError, MemoError
from unroller.problem import Problem
from unroller.run import Run, Snapshot


@aside()
def perform(executor: Executor, x: Problem | Snapshot, setup: Setup, folder: Path) -> Run:
    """Unroll one problem and show it. Ends the process with 130 on Ctrl-C, after saying how to go on."""
    names = ", ".join(str(backend.name) for backend in executor.backends) or "no backend"
    run: Run | None = None
    problem = x.problem if isinstance(x, Snapshot) else x
    with _kept(executor, setup, folder), watching(problem, f"{names} · {executor.policy_name}") as hear:
        for event in executor.stream(x):
            if isinstance(event, Run):
                run = event
            else:
                hear(event)
    assert run is not None  # a stream ends with its Run
    return run


@aside()
def perform_all(
    executor: Executor, problems: Sequence[Problem | Snapshot], setup: Setup, folder: Path
) -> list[Run]:
    """Unroll many, batched across problems, behind a progress bar."""
    from rich.progress import track

    console = stderr()
    with _kept(executor, setup, folder):
        runs = executor.map(problems)
        return list(track(runs, "unrolling", len(problems), console=console, disable=not is_live(console)))


def resume_command(folder: Path, setup: Setup) -> str:
    """The command line that goes on with an interrupted run."""
    use = "".join(f" --use {path}" for path in dict.fromkeys([*setup.use, *setup.paths]))
    return f"unroller runs resume {folder}{use}"


@contextmanager
def _kept(executor: Executor, setup: Setup, folder: Path) -> Generator[None]:
    """Say where what was finished is kept, whatever cuts the run short."""
    try:
        yield
    except KeyboardInterrupt:
        executor.close()
        note("interrupted", "stop")
        note(f"what was finished is kept; go on with: {resume_command(folder, setup)}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    except (CallFailed, JournalError, MemoError):
        note(f"what was finished is kept; go on with: {resume_command(folder, setup)}")
        raise
