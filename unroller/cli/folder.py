"""The folder of a run: the journal while it runs, and what people look at when it has ended.

runs/20260726-161502-pose-3f2a/
    journal.log, blobs/     every call that was finished (written by the engine)
    command.json            what it was started with
    report.html, run.json   the run, to read and to process
    output/                 pictures of the output and of the context
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from unroller.cli.picture_files import write_pictures
from unroller.cli.terminal import aside, note, one_line, write_json
from unroller.cli.words import took
from unroller.contribution import EXACT_UP_TO
from unroller.faults import JournalError
from unroller.run import Run

ROOT = Path("runs")

PATIENCE = 10.0
"""Seconds that a report may take unasked."""


def new_folder(task: str, out: Path | None, root: Path = ROOT) -> Path:
    """Where a run will be kept; nothing is made yet. Raises JournalError when `out` is taken."""
    if out is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return root / f"{stamp}-{task}-{secrets.token_hex(2)}"
    if out.exists() and not out.is_dir():
        raise JournalError(f"{out} is a file: name a folder with --out")
    if (out / "journal.log").exists():
        raise JournalError(
            f"{out} already holds a run: name another folder, or go on with it: unroller runs resume {out}"
        )
    return out


def newest(root: Path) -> Path | None:
    """The folder in `root` whose journal was written last, or None."""
    found = journals(root)
    return found[-1] if found else None


def journals(root: Path) -> list[Path]:
    """The folders in `root` that hold a journal, the oldest first; `root` itself if it does."""
    if (root / "journal.log").is_file():
        return [root]
    if not root.is_dir():
        return []
    held = [p for p in root.iterdir() if (p / "journal.log").is_file()]
    return sorted(held, key=lambda p: ((p / "journal.log").stat().st_mtime, p.name))


def find(name: str | None, root: Path) -> Path:
    """A run folder by path, by name in `root`, or by a part of its name; without a name the newest.

    Raises JournalError.
    """
    if name is None:
        last = newest(root)
        if last is None:
            raise JournalError(f"there are no runs in {root}: unroller run makes one")
        return last
    for place in (Path(name), root / name):
        if (place / "journal.log").is_file():
            return place
    matching = [p for p in journals(root) if name in p.name]
    if len(matching) == 1:
        return matching[0]
    if matching:
        several = ", ".join(p.name for p in matching[:5])
        raise JournalError(f"{name!r} fits several runs in {root}: {several}")
    raise JournalError(f"{name}: no run is kept there (no journal.log), nor in {root}")


def discard_if_empty(folder: Path) -> None:
    """Take away a folder whose run never began: nothing was finished, so nothing is lost."""
    from unroller.journal import read_log

    try:
        if read_log(folder).runs:
            return
        (folder / "command.json").unlink(missing_ok=True)
        (folder / "journal.log").unlink()
        folder.rmdir()
    except (JournalError, OSError):
        pass  # it stays: somebody else's files are in it, or it cannot be written


@aside()
def write_artefacts(
    run: Run, folder: Path, suffix: str = "", contributions: bool | None = None
) -> list[tuple[str, Path]]:
    """Report, run.json and pictures of a run that has ended: (what, where).

    contributions: whether the report measures what each entry contributed; None: if that is quick and
    costs nothing (see `too_dear`). The run itself is safe in the journal, so what cannot be written is
    said, and left out.
    """
    written: list[tuple[str, Path]] = []

    def attempt(what: str, path: Path, write: Callable[[], Any]) -> bool:
        try:
            return write() is not None
        except KeyboardInterrupt:
            note(f"{path} was left out; unroller runs report {folder} --no-contributions writes it")
            return False
        except Exception as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            note(f"{path} was not written: {type(error).__name__}: {one_line(reason)}")
            return False

    report = folder / f"report{suffix}.html"
    if contributions is None and (why := too_dear(run)) is not None:
        note(f"the report leaves out what each entry contributed: {why}; --contributions measures it")
        contributions = False
    measure = contributions is not False
    if attempt("report", report, lambda: run.report(report, contributions=measure)):
        written.append(("report", report))
    pictures = folder / f"output{suffix}"
    files: list[Path] = []
    attempt("pictures", pictures, lambda: files.extend(_pictures(run, pictures)))
    if files:
        written.append(("output", pictures))
    data = folder / f"run{suffix}.json"
    if attempt("data", data, lambda: write_json(data, run.to_dict()) or data):
        written.append(("data", data))
    written.append(("journal", folder / "journal.log"))
    return written


def too_dear(run: Run) -> str | None:
    """Why the contributions should not be measured unasked, or None: it decodes again from up to 64
    subsets of the context, which can take minutes with a large model and money with a remote one."""
    entry, count = run.output_entry, len(run.entries)
    if entry is None or not count:
        return None
    decodings = 2**count if count <= EXACT_UP_TO else count + 2
    if entry.cost.price > 0:
        return f"{decodings} decodings would be charged"
    seconds = decodings * entry.seconds
    return f"{decodings} decodings would take about {took(seconds)}" if seconds > PATIENCE else None


def _pictures(run: Run, folder: Path) -> list[Path]:
    """Pictures of the output as `output…`, of the context as `01-<action>…` in the order written."""
    written: list[Path] = []
    for i, entry in enumerate(run.entries, 1):
        stem = f"{i:02}-{entry.action.replace(':', '-')}"
        written += write_pictures(entry.value, folder, stem)
    if run.output is not None:
        written += write_pictures(run.output, folder, "output")
    return written
