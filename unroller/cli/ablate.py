"""`unroller ablate`: what each part of the context is worth, measured on many problems."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unroller.cli.exits import Exit
from unroller.cli.options import names_of
from unroller.cli.shared import ASKED, KEPT, AsJson, Backend, Memo, ProblemOption, Task, Use

if TYPE_CHECKING:
    from unroller.ablation import Row
    from unroller.cli.setup import Setup
    from unroller.cli.used import Used
    from unroller.decide import Policy
    from unroller.executor import Executor
    from unroller.problem import Problem

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

EXAMPLE = """[bold]Examples[/bold]
  unroller ablate --problem rooms --task pose --n 40
  unroller ablate --task generation --n 200 --out ablation
  unroller ablate --problem SET --task spatial --column hops --out ablation
  unroller ablate --problem SET --row direct --row pose=camera_pose_estimate \\
      --row both=camera_pose_estimate,text_think --compare both,pose
  unroller ablate --problem SET --row direct --row think=text_think \\
      --row shuffled --row blank --row text_only
  unroller ablate --problem SET --row direct --row think=text_think --contributions think
  unroller ablate --problem SET --memo memo --json

[bold]Rows[/bold]
  direct               no context; gains are over the first row, whichever it is
  NAME=A,B+C           these calls in order, as --calls of unroller run takes them
  NAME=shuffled:A,B    the context that these calls wrote for another problem of the column
  NAME=blank:A,B       these calls on mid-grey pictures; blank alone: no context
  NAME=text_only:A     without pictures; text_only alone: no context
  NAME=policy:WHAT     what a policy chooses: a registered one, a saved one's folder, a module:object
  shuffled             alone: the calls of the last row before it that has any

The result goes to stdout, what is said on the way to stderr. Exit codes: unroller --help"""

MEASURED = "What is measured"

PATIENCE = 1.0
"""Seconds after which progress is shown."""


@app.command(epilog=EXAMPLE)
def ablate(
    problem: Annotated[
        str | None,
        typer.Option(
            "--problem",
            metavar="SET",
            help="A registered problem set. Default: the one that is for the --task.",
            rich_help_panel=ASKED,
            autocompletion=names_of("problems"),
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", "-n", min=1, help="How many problems of it.", rich_help_panel=ASKED)
    ] = 100,
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            help="The first problem's; the others' follow. Also seeds the intervals, and the shuffling.",
            rich_help_panel=ASKED,
        ),
    ] = 0,
    task: Task = None,
    problem_option: ProblemOption = None,
    backend: Backend = None,
    row: Annotated[
        list[str] | None,
        typer.Option(
            "--row",
            metavar="NAME=CALLS",
            help="A set of context; repeatable, see below. Default: the rows that the problem set proposes, "
            "or direct, each call of the policy alone, and all of them.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="Whose calls make the rows where no --row is given. Default: schedule, if the set "
            "proposes no rows.",
            rich_help_panel=MEASURED,
            autocompletion=names_of("policies"),
        ),
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            "--scorer",
            help="How good an output is: a name or a module:object. Default: the scorer called as the task, "
            "else choice.",
            rich_help_panel=MEASURED,
            autocompletion=names_of("scorers"),
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            metavar="KEY",
            help="The metadata of the problems to group them by, as hops or truth.hops.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="A,B",
            help="The gain of row A over row B; repeatable.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    contributions: Annotated[
        str | None,
        typer.Option(
            "--contributions",
            metavar="ROW",
            help="Measure what each call of this row contributes, by decoding again without it.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    faults: Annotated[
        Literal["wrong", "answer"],
        typer.Option(
            "--faults",
            help="How a problem counts in which a call failed: as wrong, or by its answer all the same.",
            rich_help_panel=MEASURED,
        ),
    ] = "wrong",
    use: Use = None,
    memo: Memo = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Write table.csv, table.json, scores.csv and plots there.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    plots: Annotated[
        bool, typer.Option("--plots/--no-plots", help="Draw plots into --out.", rich_help_panel=KEPT)
    ] = True,
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="The table as CSV on stdout.", rich_help_panel=KEPT)
    ] = False,
) -> None:
    """Measure what each part of the context is worth: rows of context sets, columns of problems."""
    from unroller.ablation import ablate as measure
    from unroller.ablation.plots import need_matplotlib
    from unroller.ablation.rows import possible_rows
    from unroller.cli.options import split
    from unroller.cli.problem_sets import proposed_by, set_of
    from unroller.cli.setup import Setup, brought_by
    from unroller.cli.terminal import aside, note, waiting
    from unroller.faults import ProblemError

    if as_json and as_csv:
        raise ProblemError("choose one of --json and --csv")
    if row and policy is not None:
        raise ProblemError("--policy makes the rows where no --row is given: leave out one of them")
    if out is not None and out.exists() and not out.is_dir():
        raise ProblemError(f"{out} is a file: name a folder with --out")
    if out is not None and plots:
        need_matplotlib()
    rows = rows_of(row)
    setup = Setup(
        backends=split(backend),
        policy=policy,
        calls=None if rows is None else "",
        use=list(use or ()),
        memo=None if memo is None else str(memo),
    )
    try:
        with waiting("getting ready …"):
            brought = brought_by(setup)
            problem = set_of(problem, task, brought.problems)
        with counting(f"making {n} problems …") as tell:
            problems = problems_of(
                problem, range(seed, seed + n), task, problem_option, brought.problems, tell
            )
        with waiting("getting ready …"):
            executor = _executor(setup, brought, problems)
            score = None if scorer is None else _scorer(scorer)
            proposed, usual = proposed_by(problem, brought.problems)
            proposed = None if rows or policy is not None else proposed
        with counting(f"measuring {n} problems …") as tell, aside():
            table = measure(
                executor,
                problems,
                rows if proposed is None else possible_rows(executor, proposed),
                scorer=score,
                column=column or usual,
                compare=[pair_of(text, rows if proposed is None else proposed) for text in compare or ()],
                contributions=contributions,
                faults=faults,
                seed=seed,
                tell=tell,
            )
    except KeyboardInterrupt:
        note("interrupted", "stop")
        kept = "nothing was kept: with --memo FOLDER the same command would go on from what was computed"
        note(kept if memo is None else f"what was computed is in {memo}: the same command goes on from there")
        raise typer.Exit(Exit.INTERRUPTED) from None
    _show(table, out, plots, as_json, as_csv)


def _executor(setup: Setup, brought: Used, problems: Sequence[Problem]) -> Executor:
    from unroller.cli.setup import executor_of

    return executor_of(setup, brought, problems[0].task, problems[0])


def _show(table: Any, out: Path | None, plots: bool, as_json: bool, as_csv: bool) -> None:
    """Write the files, then print the table: a disk that is full does not lose it."""
    from unroller.cli.ablation_table import show_table
    from unroller.cli.result import show_files
    from unroller.cli.terminal import note, print_json, stdout, waiting

    files: list[Path] = []
    trouble: OSError | None = None
    if out is not None:
        try:
            with waiting("writing the files …"):
                files = table.write(out, plots)
        except OSError as error:
            trouble = error
    measured = [table.cell(row) for row in table.rows if row not in table.missing]
    code = Exit.FINE if any(cell.failed < cell.n for cell in measured) else Exit.NO_OUTPUT
    code = Exit.DISK if trouble is not None else code
    if as_json:
        document = table.to_dict()
        print_json(document | {"files": {path.name: str(path) for path in files}, "exit": int(code)})
    elif as_csv:
        typer.echo(table.to_csv(), nl=False)
    else:
        console = stdout()
        show_table(console, table)
        if files:
            console.print()
            show_files(console, [(path.name, path) for path in files])
    if trouble is not None:
        note(f"{out} was not written: {trouble.strerror or trouble}", "error")
    if code is not Exit.FINE:
        raise typer.Exit(code)


# ---------------------------------------------------------------------------------- what was typed


SYNTAX = (
    "write NAME=CALLS, as pose=camera_pose_estimate or both=camera_pose_estimate,text_think; or direct,"
    " blank, text_only, shuffled; or NAME=shuffled:CALLS, or NAME=policy:WHAT"
)


def rows_of(texts: Sequence[str] | None) -> list[tuple[str, Row]] | None:
    """What `--row` says, in order; None where it is not given. Raises ProblemError."""
    from unroller.ablation import Row
    from unroller.decide import FixedList
    from unroller.faults import ProblemError

    rows: list[tuple[str, Row]] = []
    for text in texts or ():
        name, equals, calls = (part.strip() for part in text.partition("="))
        if not name or (equals and not calls):
            raise ProblemError(f"--row {text!r}: {SYNTAX}")
        row = _row(calls if equals else name, text)
        if row.kind == "shuffled" and not _calls(row):
            before = [r for _, r in rows if r.kind == "own" and _calls(r)]
            if not before:
                raise ProblemError(f"--row {text!r}: say whose context, as shuffled:text_think")
            row = Row(FixedList(_calls(before[-1])), "shuffled")
        rows.append((name, row))
    return rows or None


def _row(text: str, whole: str) -> Row:
    from unroller.ablation import Row
    from unroller.cli.options import calls_of
    from unroller.decide import FixedList
    from unroller.faults import ProblemError

    if text == "direct":
        return Row(FixedList((), "direct"))
    first, _, rest = text.partition(":")
    if first.strip() == "policy" and rest.strip():
        return Row(_chooser(rest.strip()))
    kinds: dict[str, Any] = {"shuffled": "shuffled", "blank": "blank", "text_only": "text_only"}
    kind = kinds.get(first.strip(), "own")
    try:
        return Row(calls_of(text if kind == "own" else rest), kind)
    except ProblemError:
        raise ProblemError(f"--row {whole!r}: {SYNTAX}") from None


def _chooser(what: str) -> Policy:
    """A policy by its name, its folder or its path. Raises UnknownName, PluginError, PolicyError."""
    from unroller.cli.used import is_path, load_named
    from unroller.decide import as_policy
    from unroller.registry import policy_named

    return as_policy(load_named(what) if is_path(what, "policies") else policy_named(what))


def _calls(row: Row) -> Sequence[Any]:
    return getattr(row.policy, "decisions", ())


def pair_of(text: str, rows: Mapping[str, Any] | Sequence[tuple[str, Row]] | None) -> tuple[str, str]:
    """`--compare A,B`, where the names of rows may hold commas themselves. Raises ProblemError."""
    from unroller.faults import ProblemError

    names = [*rows] if isinstance(rows, Mapping) else [name for name, _ in rows or ()]
    parts = text.split(",")
    pairs = [(",".join(parts[:i]).strip(), ",".join(parts[i:]).strip()) for i in range(1, len(parts))]
    if not pairs or not all(all(pair) for pair in pairs):
        raise ProblemError(f"--compare {text!r}: write two rows, as both,pose")
    return next((pair for pair in pairs if set(pair) <= set(names)), pairs[0])


def _scorer(name: str) -> Any:
    from unroller.cli.used import is_path, load_named

    return load_named(name) if is_path(name, "scorers") else name


# ------------------------------------------------------------------------------------ many problems

Tell = Callable[[str, int, int], None]


def problems_of(
    name: str,
    seeds: range,
    task: str | None,
    options: Iterable[str] | None,
    own: Mapping[str, Any],
    tell: Tell,
) -> list[Problem]:
    """The problems of a set, by its `many(seeds, …)` if it has one, else one by one.

    Raises UnknownName, ProblemError, PluginError.
    """
    from unroller.cli.options import made_with, problem_from_set
    from unroller.cli.terminal import aside
    from unroller.faults import PluginError, ProblemError
    from unroller.problem import Problem
    from unroller.registry import load

    if ":" in name:
        raise ProblemError(f"--problem {name!r}: name the set alone; --seed and --n say which problems of it")
    with aside():
        many = getattr(own[name] if name in own else load("problems", name), "many", None)
    if many is None:
        made: list[Any] = []
        for seed in seeds:
            made.append(problem_from_set(f"{name}:{seed}", task, options, own))
            tell(name, len(made), len(seeds))
        return made

    def make(**chosen: Any) -> list[Any]:
        return list(many(list(seeds), **chosen))

    with aside():
        made = made_with(task, options, name, make)
    if len(made) != len(seeds) or not all(isinstance(one, Problem) for one in made):
        kinds = ", ".join({type(one).__name__: None for one in made}) or "nothing"
        raise PluginError(f"{name}.many made {len(made)} of {kinds} for {len(seeds)} seeds: one Problem each")
    return made


def _nobody(name: str, done: int, total: int) -> None:
    """Tells nobody."""


@contextmanager
def counting(what: str) -> Generator[Tell]:
    """Progress on stderr of what takes longer than a second: a bar, or one line where nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from unroller.cli.terminal import is_live, later, line, one_line, stderr

    console = stderr()
    if not is_live(console):
        with later(PATIENCE, lambda: console.print(line(what), soft_wrap=True)):
            yield _nobody
        return
    words = TextColumn("{task.description}", markup=False)
    bar = Progress(
        words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    )
    began, task = perf_counter(), bar.add_task(what, total=None)

    def tell(name: str, done: int, total: int) -> None:
        if perf_counter() - began > PATIENCE:
            bar.start()
        bar.update(task, description=one_line(name, 40), completed=done, total=total)

    try:
        yield tell
    finally:
        bar.stop()
