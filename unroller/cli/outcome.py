"""What comes after a run: its result at once, then the report and the pictures, then where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unroller.cli.exits import Exit
from unroller.cli.folder import write_artefacts
from unroller.cli.result import pose_error, show_files, show_run
from unroller.cli.terminal import is_live, one_place, print_json, stderr, stdout, waiting
from unroller.run import Run
from unroller.showing import true_answer
from unroller.values import Answer

Files = list[tuple[str, Path]]


def show_and_write(run: Run, folder: Path, as_json: bool, contributions: bool | None = None) -> Files:
    """Print a run that has ended and write what people look at. Returns the files, by what they are."""
    console = stdout()
    if not as_json:
        # What was shown while it ran has told of the faults already, if it stands in the same place.
        watched = one_place() or (is_live(stderr()) and console.is_terminal)
        console.print()
        show_run(
            console,
            run.problem,
            run.events,
            faults=not watched,
            limit=run.executor.budget.seconds,
        )
        console.print()
    with waiting("writing the report …"):
        files = write_artefacts(run, folder, contributions=contributions)
    if as_json:
        print_json(document_of(run, folder, files))
    else:
        show_files(console, files)
    return files


def document_of(run: Run, folder: Path, files: Files) -> dict[str, Any]:
    """What `--json` prints of a run."""
    document = run.to_dict() | {
        "folder": str(folder),
        "files": {name: str(path) for name, path in files},
        "exit": int(Exit.FINE if run.output is not None else Exit.NO_OUTPUT),
    }
    error, true = pose_error(run.problem, run.output), true_answer(run.problem)
    if isinstance(run.output, Answer) and true is not None:
        document |= {"true_answer": true, "right": run.output.text == true}
    return document if error is None else document | {"pose_error_degrees": error}
