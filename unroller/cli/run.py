"""`unroller run`: one problem, from photos to an answer, watched while it unrolls."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from unroller.cli.exits import Exit
from unroller.cli.options import names_of
from unroller.cli.shared import ASKED, HOW, KEPT, AsJson, Backend, Memo, ProblemOption, Task, Use

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

EXAMPLE = """[bold]Examples[/bold]
  unroller run --task pose first.jpg second.jpg
  unroller run --task spatial a.png -q "Where is it?" --choices left,right
  unroller run --task depth a.png b.png --budget model_calls=4,seconds=30
  unroller run --task novel_view photo.jpg --look left,right --open
  unroller run --task novel_view a.png b.png --pose "0.3 0 0 0 0 0"
  unroller run --task pose a.png b.png --calls camera_pose_estimate
  unroller run --task generation -p "a red cone" --metadata width=512 --backend diffusers_image:PATH
  unroller run --task video photo.png -p "go forward 1 m and turn left 20 degrees" --backend nano
  unroller run --problem rooms:7 --backend classical
  unroller run --task pose a.png b.png --use my_plugins:motion --json

The result goes to stdout, what is said on the way to stderr. Exit codes: unroller --help"""

PATIENCE = 0.5
"""Seconds after which a log is told that the problem is still being made."""


@app.command(epilog=EXAMPLE)
def run(
    photos: Annotated[
        list[Path] | None, typer.Argument(metavar="PHOTOS", help="Picture files, in order.")
    ] = None,
    task: Task = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="A question.", rich_help_panel=ASKED)
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", "-p", help="What to draw, film or change.", rich_help_panel=ASKED),
    ] = None,
    choices: Annotated[
        str | None,
        typer.Option("--choices", help="Answers to choose from: a,b,c.", rich_help_panel=ASKED),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option("--choice", help="One answer, commas and all; repeatable.", rich_help_panel=ASKED),
    ] = None,
    look: Annotated[
        list[str] | None,
        typer.Option("--look", help="Directions to look in: left,right.", rich_help_panel=ASKED),
    ] = None,
    pose: Annotated[
        str | None,
        typer.Option(
            "--pose",
            metavar='"TX TY TZ RX RY RZ"',
            help="A camera to look from, in the first photo's frame: right, down, forward in the unit of the "
            "depth, then the axis-angle in radians.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    intrinsics: Annotated[
        list[str] | None,
        typer.Option(
            "--intrinsics",
            metavar="FX,FY,CX,CY",
            help="The camera in pixels; once, or once a photo. Else from EXIF.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata",
            metavar="NAME=VALUE",
            help="What the problem says beside: width, height and frames of what is made; repeatable.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Where stochastic primitives start.", rich_help_panel=ASKED),
    ] = 0,
    problem: Annotated[
        str | None,
        typer.Option(
            "--problem",
            metavar="SET:SEED",
            help="A problem from a registered set, in place of photos.",
            rich_help_panel=ASKED,
        ),
    ] = None,
    problem_option: ProblemOption = None,
    backend: Backend = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="What chooses the calls: a name (default: schedule), a saved one's folder, a module:object.",
            rich_help_panel=HOW,
            autocompletion=names_of("policies"),
        ),
    ] = None,
    planner: Annotated[
        str | None,
        typer.Option(
            "--planner",
            help="Lays out all calls first, in place of a policy: a name or a module:object.",
            rich_help_panel=HOW,
            autocompletion=names_of("planners"),
        ),
    ] = None,
    calls: Annotated[
        str | None,
        typer.Option(
            "--calls",
            metavar="A,B+C",
            help="These calls and no others; + runs side by side, a#1 is another draw of a.",
            rich_help_panel=HOW,
            autocompletion=names_of("primitives"),
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="LIMIT=N",
            help="model_calls, tokens, price, steps or seconds; repeatable.",
            rich_help_panel=HOW,
        ),
    ] = None,
    use: Use = None,
    memo: Memo = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first fault.", rich_help_panel=HOW)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Where to keep the run. Default: runs/<time>-<task>-<id>.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    as_json: AsJson = False,
    contributions: Annotated[
        bool | None,
        typer.Option(
            "--contributions/--no-contributions",
            help="Measure in the report what each entry contributed, by decoding again without it. "
            "Default: if that takes seconds and is not charged.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    open_report: Annotated[
        bool, typer.Option("--open", help="Open the report when done.", rich_help_panel=KEPT)
    ] = False,
) -> None:
    """Unroll one problem: build context step by step, then answer from all of it."""
    from unroller.cli.folder import new_folder
    from unroller.cli.options import budget_of, metadata_of, pose_of, split
    from unroller.cli.outcome import show_and_write
    from unroller.cli.setup import Setup, brought_by, executor_of
    from unroller.cli.terminal import waiting

    setup = Setup(
        backends=split(backend),
        policy=policy,
        planner=planner,
        calls=calls,
        budget=budget_of(budget),
        use=list(use or ()),
        memo=None if memo is None else str(memo),
        strict=strict,
    )
    with waiting("getting ready …"):
        brought = brought_by(setup)
    making = f"making the problem {problem} …" if problem is not None else "reading the photos …"
    with waiting(making, after=PATIENCE):
        fields = {
            "question": question,
            "prompt": prompt,
            "choices": [*split([choices] if choices else None), *(choice or ())],
            "look": tuple(split(look)),
            "pose": pose_of(pose),
            "intrinsics": intrinsics,
            "metadata": metadata_of(metadata),
            "seed": seed or None,
        }
        x = _problem(task, [str(photo) for photo in photos or ()], fields, problem, problem_option, brought)
    with waiting("getting ready …"):
        executor = executor_of(setup, brought, x.task, x)
    folder = new_folder(x.task, out)
    ended = _kept(executor, x, setup, folder)
    files = show_and_write(ended, folder, as_json, contributions)
    report = dict(files).get("report")
    if open_report and report is not None:
        webbrowser.open(report.resolve().as_uri())
    if ended.output is None:
        raise typer.Exit(Exit.NO_OUTPUT)


def _problem(
    task: str | None,
    photos: list[str],
    fields: dict[str, Any],
    from_set: str | None,
    options: list[str] | None,
    brought: Any,
) -> Any:
    from unroller.cli.options import intrinsics_of, known_tasks, problem_from_set, problem_of
    from unroller.faults import ProblemError

    fields = fields | {"intrinsics": intrinsics_of(fields["intrinsics"])}
    if from_set is None:
        if options:
            raise ProblemError("--problem-option goes with --problem SET:SEED")
        own = [decoder.task for decoder in brought.decoders]
        tasks = [] if task is not None else [*known_tasks(), *own]
        return problem_of(task, photos, fields, tasks)
    given = [name for name, value in fields.items() if value not in (None, [], (), {})]
    if photos or given:
        what = "photos" if photos else f"--{given[0]}"
        raise ProblemError(f"--problem brings its own pictures and question: leave out {what}")
    return problem_from_set(from_set, task, options, brought.problems)


def _kept(executor: Any, x: Any, setup: Any, folder: Path) -> Any:
    """Run it with its journal in `folder`."""
    from unroller.cli.folder import discard_if_empty
    from unroller.cli.perform import perform

    fresh = not folder.exists()
    try:
        with executor.extend(journal=folder) as journaled:
            setup.write(folder)
            return perform(journaled, x, setup, folder)
    finally:
        if fresh:
            discard_if_empty(folder)  # of a problem that was refused before its first call
