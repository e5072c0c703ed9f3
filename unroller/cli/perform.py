"""Run a problem under somebody's eyes, with a journal, and survive an interruption of it."""

from __future__ import annotations

from pathlib import Path

import typer

from unroller.cli.exits import Exit
from unroller.cli.live import watching
from unroller.cli.setup import Setup
from unroller.cli.terminal import note
from unroller.executor import Executor
from unroller.problem import Problem
from unroller.run import Run


def perform(executor: Executor, problem: Problem, setup: Setup, folder: Path | None) -> Run:
    """Unroll and show it. Ends the process with 130 on Ctrl-C, after saying how to go on."""
    names = ", ".join(str(backend.name) for backend in executor.backends) or "no backend"
    run: Run | None = None
    try:
        with watching(problem, f"{names} · {executor.policy_name}") as hear:
            for event in executor.stream(problem):
                if isinstance(event, Run):
                    run = event
                else:
                    hear(event)
    except KeyboardInterrupt:
        executor.close()
        note("interrupted", "stop")
        if folder is not None:
            note(f"what was finished is kept; go on with: {resume_command(folder, setup)}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    assert run is not None  # a stream ends with its Run
    return run


def resume_command(folder: Path, setup: Setup) -> str:
    """The command line that goes on with an interrupted run."""
    use = "".join(f" --use {path}" for path in setup.use)
    return f"unroller runs resume {folder}{use}"
