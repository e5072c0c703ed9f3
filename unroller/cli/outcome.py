"""What comes after a run: its result at once, then the report and the pictures, then where they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unroller.cli.exits import Exit
from unroller.cli.folder import write_artefacts
from unroller.cli.result import pose_error, show_files, show_run
from unroller.cli.terminal import is_live, print_json, stderr, stdout, waiting
from unroller.run import Run

Files = list[tuple[str, Path]]


def show_and_write(runs: Sequence[Run], folder: Path, as_json: bool, several: bool = False) -> Files:
    """Print runs that have ended and write what people look at. Returns all files, by what they are.

    With `several` the files carry the run's number, and the JSON document is a list.
    """
    documents: list[dict[str, Any]] = []
    everything: Files = []
    # The live tree, where there was one, has told of the faults already.
    console, watched = stdout(), is_live(stderr())
    for run in runs:
        if not as_json:
            console.print()
            show_run(console, run.problem, run.events, faults=not (watched and console.is_terminal))
            console.print()
        with waiting("writing the report: measuring what each entry contributed …"):
            files = write_artefacts(run, folder, f"-{run.number}" if several else "")
        everything += files
        if as_json:
            documents.append(document_of(run, folder, files))
        else:
            show_files(console, files)
    if as_json:
        print_json(documents if several else documents[0])
    return everything


def document_of(run: Run, folder: Path, files: Files) -> dict[str, Any]:
    """What `--json` prints of a run."""
    document = run.to_dict() | {
        "folder": str(folder),
        "files": {name: str(path) for name, path in files},
        "exit": int(Exit.FINE if run.output is not None else Exit.NO_OUTPUT),
    }
    error = pose_error(run.problem, run.output)
    return document if error is None else document | {"pose_error_degrees": error}
