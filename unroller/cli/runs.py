"""`unroller runs`: what was run, from its journals: list, show, explain, report, resume.

What `--use` names is imported before a journal is read, so that its value types are known.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from unroller.cli.exits import Exit

if TYPE_CHECKING:
    from unroller.cli.setup import Setup
    from unroller.cli.used import Used
    from unroller.executor import Executor
    from unroller.journal import Log, RecordedRun
    from unroller.run import Run

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="List, show, explain, report and resume runs, from their journals.",
    epilog="[bold]Examples[/bold]\n"
    "  unroller runs list\n"
    "  unroller runs show                [dim]the newest[/dim]\n"
    "  unroller runs explain 3f2a        [dim]by a part of its folder's name[/dim]\n"
    "  unroller runs resume runs/20260726-161502-pose-3f2a",
)

FOLDER = typer.Argument(metavar="[FOLDER]", help="A run folder, or a part of its name. Default: the newest.")
UNFINISHED = typer.Argument(
    metavar="[FOLDER]", help="A run folder, or a part of its name. Default: the newest that has not ended."
)
ROOT = typer.Option("--root", metavar="FOLDER", help="Where runs are kept.")
NUMBER = typer.Option("--run", min=0, help="Which run, where the journal holds several.")
JSON = typer.Option("--json", help="One JSON document on stdout.")
USE = typer.Option(
    "--use", "--plugin", metavar="MODULE:OBJECT", help="What the run was started with; repeatable."
)
MEASURE = typer.Option(
    "--contributions/--no-contributions",
    help="Measure in the report what each entry contributed. Default: if that is quick.",
)


@app.command("list", epilog="[bold]Example[/bold]\n  unroller runs list --root experiments/runs")
def list_runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[ROOT]", help="Where runs are kept. Default: runs.")
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", metavar="FOLDER", help="The same.")] = None,
    use: Annotated[list[str] | None, USE] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """List the runs in a folder: when, what was asked, how it ended, what it cost."""
    from unroller.cli.folder import ROOT as USUAL
    from unroller.cli.folder import journals
    from unroller.cli.run_rows import damaged, rows_of, table_of
    from unroller.cli.terminal import note, print_json, stdout, waiting
    from unroller.cli.used import used
    from unroller.faults import ProblemError
    from unroller.journal import read_log

    if folder is not None and root is not None and folder != root:
        raise ProblemError(f"name one folder: {folder} or --root {root}")
    place = folder or root or USUAL
    used(use or ())
    rows: list[dict[str, Any]] = []
    with waiting("reading journals …"):
        for each in journals(place):
            try:
                rows += rows_of(each, read_log(each))
            except Exception as error:  # whatever is wrong with one, the others are listed
                rows.append(damaged(each, error))
    if as_json:
        print_json(rows)
    elif not rows:
        note(f"there are no runs in {place}; unroller run makes one")
    else:
        console = stdout()
        console.print(table_of(rows, console.width))


@app.command(epilog="[bold]Example[/bold]\n  unroller runs show runs/20260726-161502-pose-3f2a")
def show(
    folder: Annotated[str | None, FOLDER] = None,
    number: Annotated[int | None, NUMBER] = None,
    root: Annotated[Path, ROOT] = Path("runs"),
    use: Annotated[list[str] | None, USE] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Show a run: its output, what each step cost, its faults. Nothing is computed again."""
    from unroller.cli.result import show_files, show_run
    from unroller.cli.run_rows import plain_events, row_of, rows_of, table_of
    from unroller.cli.terminal import line, print_json, stdout
    from unroller.cli.used import used
    from unroller.cli.words import title

    used(use or ())
    place, log = _log(folder, root)
    chosen = _chosen(log, number)
    _say_what_is_unread(place, log, chosen)
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
        show_run(console, problem, recorded.events, limit=_seconds_allowed(log))
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
    from unroller.cli.terminal import line, note, print_json, stdout, waiting

    log, executor = _opened(folder, root, use)
    told: list[dict[str, Any]] = []
    for recorded in _chosen(log, number):
        measure = contributions
        if measure and _unread([recorded]):
            note("contributions are not measured: the decoder could not read every entry")
            measure = False
        with waiting("decoding without each entry …"):
            text = as_run(recorded, executor).explain(measure)
        told.append({"run": recorded.number, "text": text})
    if as_json:
        print_json(told)
        return
    for one in told:
        stdout().print(line(one["text"]))


@app.command(epilog="[bold]Example[/bold]\n  unroller runs report 3f2a --contributions")
def report(
    folder: Annotated[str | None, FOLDER] = None,
    number: Annotated[int | None, NUMBER] = None,
    root: Annotated[Path, ROOT] = Path("runs"),
    use: Annotated[list[str] | None, USE] = None,
    contributions: Annotated[bool | None, MEASURE] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Write the report, run.json and the pictures of a run again, from its journal."""
    from unroller.cli.folder import write_artefacts
    from unroller.cli.outcome import document_of
    from unroller.cli.recorded import as_run
    from unroller.cli.result import show_files
    from unroller.cli.terminal import print_json, stdout, waiting
    from unroller.faults import JournalError

    log, executor = _opened(folder, root, use)
    place = log.folder
    chosen = [recorded for recorded in _chosen(log, number) if recorded.ended]
    if not chosen:
        raise JournalError(f"{place}: the run has not ended: go on with it: unroller runs resume {place}")
    documents: list[dict[str, Any]] = []
    files: list[tuple[str, Path]] = []
    with waiting("writing the report …"):
        for recorded in chosen:
            run = as_run(recorded, executor)
            measure = False if _unread([recorded]) else contributions
            suffix = f"-{recorded.number}" if len(log.runs) > 1 else ""
            written = write_artefacts(run, place, suffix, measure)
            documents.append(document_of(run, place, written))
            files += [pair for pair in written if pair not in files]
    if as_json:
        print_json(documents)
    else:
        show_files(stdout(), files)


@app.command(epilog="[bold]Example[/bold]\n  unroller runs resume runs/20260726-161502-pose-3f2a")
def resume(
    folder: Annotated[str | None, UNFINISHED] = None,
    root: Annotated[Path, ROOT] = Path("runs"),
    use: Annotated[list[str] | None, USE] = None,
    contributions: Annotated[bool | None, MEASURE] = None,
    as_json: Annotated[bool, JSON] = False,
) -> None:
    """Go on with a run that was cut short. No call that was finished is made again."""
    from unroller.cli.outcome import show_and_write
    from unroller.cli.perform import perform, perform_all
    from unroller.faults import JournalError

    brought = _brought(use)
    found = folder if folder is not None else _newest_unfinished(root)
    if found is None:
        _nothing_to_resume(root, f"every run in {root} has ended", "unroller runs list", as_json)
        return
    place, log = _log(str(found), root)
    if not log.runs:
        raise JournalError(f"{place}: the journal holds no run to go on with")
    if all(recorded.ended for recorded in log.runs):
        what = "the run has ended" if len(log.runs) == 1 else f"all {len(log.runs)} runs have ended"
        _nothing_to_resume(place, f"{place}: {what}", f"unroller runs show {place}", as_json)
        return
    executor, setup = _executor(place, log, use, brought)
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


def _newest_unfinished(root: Path) -> Path | None:
    """The folder in `root` whose journal was written last and holds a run that has not ended. None if every
    run has. Raises JournalError where there are no runs."""
    from unroller.cli.folder import find, journals
    from unroller.faults import UnrollerError
    from unroller.journal import read_log

    find(None, root)
    for place in reversed(journals(root)):
        try:
            if any(not recorded.ended for recorded in read_log(place).runs):
                return place
        except UnrollerError:  # a damaged one can be named, and says then what is wrong
            continue
    return None


def _nothing_to_resume(place: Path, why: str, instead: str, as_json: bool) -> None:
    from unroller.cli.terminal import note, print_json

    message = f"nothing to resume: {why}; {instead} shows it"
    if as_json:
        print_json({"folder": str(place), "resumed": 0, "message": message, "exit": int(Exit.FINE)})
    note(message)


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


def _brought(use: list[str] | None) -> Used:
    from unroller.backends import says_more
    from unroller.cli.terminal import waiting
    from unroller.cli.used import used

    with waiting("getting ready …"):  # words of backends are named to be allowed again, and bring nothing
        return used(path for path in use or () if not says_more(path))


def _opened(folder: str | None, root: Path, use: list[str] | None) -> tuple[Log, Executor]:
    """A journal, and the executor that it was written with."""
    brought = _brought(use)
    place, log = _log(folder, root)
    return log, _executor(place, log, use, brought)[0]


def _executor(place: Path, log: Log, use: list[str] | None, brought: Used) -> tuple[Executor, Setup]:
    """The executor that the folder's last session had, and its setup. What `--use` named then, or a path
    given as policy, planner or backend, is not imported again unless it is named again."""
    from unroller.cli.setup import executor_of, read_setup
    from unroller.cli.terminal import note, waiting
    from unroller.faults import UnknownName

    setup = read_setup(place, log.sessions[-1].setup if log.sessions else None)
    named = use or []
    if strange := [path for path in setup.paths if path not in named]:
        again = " ".join(f"--use {path}" for path in dict.fromkeys([*setup.use, *setup.paths]))
        raise UnknownName(f"this run was started with {', '.join(strange)}: name it again with {again}")
    if missing := [path for path in setup.use if path not in named]:
        again = " ".join(f"--use {path}" for path in missing)
        note(f"this run was started with {again}: name it again if something is not found")
    setup.use = list(named)
    with waiting("getting ready …"):
        executor = executor_of(setup, brought)
    _say_what_is_told_otherwise(log, executor)
    return executor, setup


def _say_what_is_told_otherwise(log: Log, executor: Executor) -> None:
    """A line for each primitive that no longer tells a model what it told when this was recorded."""
    from unroller.cli.terminal import note

    then: dict[str, Any] = log.sessions[-1].setup.get("instructions", {}) if log.sessions else {}
    for name, now in executor.told.items():
        old = [label for label in then.get(name, now) if label not in now]
        new = [label for label in now if label not in then.get(name, now)] or now
        if old:
            note(
                f"this run was recorded when {name} told a model {', '.join(old)}; here it is"
                f" {', '.join(new)}, and what is computed anew is told that"
            )


def _unread(runs: list[RecordedRun]) -> list[str]:
    """The names of value types in these runs that are not known here."""
    from unroller.cli.words import output_of
    from unroller.codec import Unread
    from unroller.workspace import Entry

    found: dict[str, None] = {}
    for run in runs:
        entries = [*run.workspace, *(event for event in run.events if isinstance(event, Entry))]
        output = output_of(run.events)
        for entry in entries if output is None else [*entries, output]:
            if entry.kind is Unread and not entry.value.why:
                found[entry.value.name] = None
    return list(found)


def _say_what_is_unread(place: Path, log: Log, runs: list[RecordedRun]) -> None:
    from unroller.cli.setup import read_setup
    from unroller.cli.terminal import note

    if unknown := _unread(runs):
        started = read_setup(place, log.sessions[-1].setup if log.sessions else None).use
        again = " ".join(f"--use {path}" for path in started) or "--use MODULE"
        note(f"{', '.join(unknown)}: this value type is not known here: name its module again, with {again}")


def _seconds_allowed(log: Log) -> float | None:
    budget: Any = log.sessions[-1].setup.get("budget") if log.sessions else None
    seconds: Any = cast("dict[str, Any]", budget).get("seconds") if isinstance(budget, dict) else None
    return seconds if isinstance(seconds, (int, float)) else None


def _settings(log: Log) -> str:
    held = log.sessions[-1].setup if log.sessions else {}
    backends = ", ".join(map(str, held.get("backends", []))) or "no backend"
    return f"{backends} · {held.get('policy', '?')}"
