"""`unroller runs`: what was run, from its journals: list, show, explain, resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unroller.cli.exits import Exit

if TYPE_CHECKING:
    from unroller.journal import Log, RecordedRun
    from unroller.run import Run

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="List, show, explain and resume runs, from their journals.",
    epilog="[bold]Examples[/bold]\n"
    "  unroller runs list\n"
    "  unroller runs show                [dim]the newest[/dim]\n"
    "  unroller runs explain 3f2a        [dim]by a part of its folder's name[/dim]\n"
    "  unroller runs resume runs/20260726-161502-pose-3f2a",
)

FOLDER = typer.Argument(metavar="[FOLDER]", help="A run folder, or a part of its name. Default: the newest.")
ROOT = typer.Option("--root", metavar="FOLDER", help="Where runs are kept.")
NUMBER = typer.Option("--run", min=0, help="Which run, where the journal holds several.")
JSON = typer.Option("--json", help="One JSON document on stdout.")
USE = typer.Option(
    "--use", "--plugin", metavar="MODULE:OBJECT", help="What the run was started with; repeatable."
)


@app.command("list", epilog="[bold]Example[/bold]\n  unroller runs list --root experiments/runs")
def list_runs(
    root: Annotated[Path, typer.Argument(metavar="[ROOT]", help="Where runs are kept.")] = Path("runs"),
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List the runs in a folder: when, what was asked, how it ended, what it cost."""
    from unroller.cli.folder import journals
    from unroller.cli.run_rows import rows_of, table_of
    from unroller.cli.terminal import note, print_json, stdout, waiting
    from unroller.faults import JournalError
    from unroller.journal import read_log

    rows: list[dict[str, Any]] = []
    with waiting("reading journals …"):
        for folder in journals(root):
            try:
                rows += rows_of(folder, read_log(folder))
            except JournalError as error:
                rows.append({"folder": str(folder), "state": "damaged", "why": str(error)})
    if as_json:
        print_json(rows)
    elif not rows:
        note(f"there are no runs in {root}; unroller run makes one")
    else:
        console = stdout()
        console.print(table_of(rows, console.width))


@app.command(epilog="[bold]Example[/bold]\n  unroller runs show runs/20260726-161502-pose-3f2a")
def show(
    folder: Annotated[str | None, FOLDER] = None,
    number: Annotated[int | None, NUMBER] = None,
    root: Annotated[Path, ROOT] = Path("runs"),
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show a run: its output, what each step cost, its faults. Nothing is computed again."""
    from unroller.cli.result import show_files, show_run
    from unroller.cli.run_rows import plain_events, row_of, rows_of, table_of
    from unroller.cli.terminal import line, print_json, stdout
    from unroller.cli.words import title

    place, log = _log(folder, root)
    chosen = _chosen(log, number)
    if as_json:
        print_json([row_of(place, log, run) | {"events": plain_events(run)} for run in chosen])
        return
    console = stdout()
    if len(chosen) > 1:
        console.print(table_of(rows_of(place, log), console.width))
        console.print(line(f"one of them: unroller runs show {place} --run N", "dim"))
        return
    for recorded in chosen:
        problem = recorded.problem
        console.print(line(f"{title(problem)}   {_settings(log)}", "dim"))
        console.print()
        show_run(console, problem, recorded.events)
    console.print()
    held = (("report", "report.html"), ("output", "output"), ("data", "run.json"), ("journal", "journal.log"))
    show_files(console, [(what, place / name) for what, name in held if (place / name).exists()])


@app.command(epilog="[bold]Example[/bold]\n  unroller runs explain --no-contributions")
def explain(
    folder: Annotated[str | None, FOLDER] = None,
    number: Annotated[int | None, NUMBER] = None,
    root: Annotated[Path, ROOT] = Path("runs"),
    use: Annotated[list[str] | None, USE] = None,
    contributions: Annotated[
        bool, typer.Option(help="Measure what each entry contributed: decodes again without it.")
    ] = True,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Explain a run in plain words: what was done, why not, and what each entry contributed."""
    from unroller.cli.recorded import as_run
    from unroller.cli.terminal import line, print_json, stdout, waiting

    place, log = _log(folder, root)
    executor, _ = _executor(place, log, use)
    told: list[dict[str, Any]] = []
    for recorded in _chosen(log, number):
        with waiting("decoding without each entry …"):
            text = as_run(recorded, executor).explain(contributions)
        told.append({"run": recorded.number, "text": text})
    if as_json:
        print_json(told)
        return
    for one in told:
        stdout().print(line(one["text"]))


@app.command(epilog="[bold]Example[/bold]\n  unroller runs resume runs/20260726-161502-pose-3f2a")
def resume(
    folder: Annotated[str | None, FOLDER] = None,
    root: Annotated[Path, ROOT] = Path("runs"),
    use: Annotated[list[str] | None, USE] = None,
    contributions: Annotated[
        bool | None,
        typer.Option(
            "--contributions/--no-contributions",
            help="Measure in the report what each entry contributed. Default: if that is quick.",
        ),
    ] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Go on with a run that was cut short. No call that was finished is made again."""
    from unroller.cli.outcome import show_and_write
    from unroller.cli.perform import perform, perform_all
    from unroller.faults import JournalError

    place, log = _log(folder, root)
    if not log.runs:
        raise JournalError(f"{place}: the journal holds no run to go on with")
    executor, setup = _executor(place, log, use)
    with executor.extend(journal=place, resume=True) as journaled:
        if len(log.runs) == 1:
            ended = [perform(journaled, log.runs[0].start, setup, place)]
        else:
            problems = [recorded.start for recorded in log.runs]
            ended = perform_all(journaled, problems, setup, place)
    if len(ended) == 1:
        show_and_write(ended[0], place, as_json, contributions)
    else:
        _show_several(place, log, ended, as_json)
    if any(run.output is None for run in ended):
        raise typer.Exit(Exit.NO_OUTPUT)


def _show_several(place: Path, before: Log, ended: list[Run], as_json: bool) -> None:
    """All runs of one journal; files are written for those that had not ended before."""
    from unroller.cli.folder import write_artefacts
    from unroller.cli.outcome import document_of
    from unroller.cli.run_rows import rows_of, table_of
    from unroller.cli.terminal import print_json, stdout, waiting
    from unroller.journal import read_log

    documents: list[dict[str, Any]] = []
    with waiting("writing reports …"):
        for recorded, run in zip(before.runs, ended, strict=True):
            files = [] if recorded.ended else write_artefacts(run, place, f"-{recorded.number}")
            documents.append(document_of(run, place, files))
    if as_json:
        print_json(documents)
        return
    console = stdout()
    console.print(table_of(rows_of(place, read_log(place)), console.width))


# ---------------------------------------------------------------------------------------------- journals


def _log(folder: str | None, root: Path) -> tuple[Path, Log]:
    from unroller.cli.folder import find
    from unroller.cli.terminal import note
    from unroller.journal import read_log

    place = find(folder, root)
    log = read_log(place)
    if log.torn_bytes:
        note(f"{place}: the last {log.torn_bytes} bytes were torn by a kill and are left out")
    return place, log


def _chosen(log: Log, number: int | None) -> list[RecordedRun]:
    from unroller.faults import JournalError

    chosen = [run for run in log.runs if number is None or run.number == number]
    if not chosen:
        held = ", ".join(str(run.number) for run in log.runs) or "none"
        raise JournalError(f"{log.folder} holds no such run; it holds: {held}")
    return chosen


def _executor(place: Path, log: Log, use: list[str] | None) -> Any:
    """The executor that the folder's last session had, and its setup. What `--use` named then is not
    imported again unless it is named again."""
    from unroller.cli.setup import brought_by, executor_of, read_setup
    from unroller.cli.terminal import note, waiting

    session = log.sessions[-1].setup if log.sessions else None
    setup = read_setup(place, session)
    missing = [path for path in setup.use if path not in (use or [])]
    if missing:
        again = " ".join(f"--use {path}" for path in missing)
        note(f"this run was started with {again}: name it again if something is not found")
    setup.use = list(use or ())
    with waiting("getting ready …"):
        return executor_of(setup, brought_by(setup)), setup


def _settings(log: Log) -> str:
    held = log.sessions[-1].setup if log.sessions else {}
    backends = ", ".join(map(str, held.get("backends", []))) or "no backend"
    return f"{backends} · {held.get('policy', '?')}"
