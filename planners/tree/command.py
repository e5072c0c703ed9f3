"""`unroller tree`: build the complete tree of a problem set, and look at one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unroller.cli.exits import Exit
from unroller.cli.options import names_of
from unroller.cli.shared import ASKED, KEPT, AsJson, Backend, Judged, Memo, ProblemOption, Task, Use

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    help="Build the complete tree of a problem set, to learn and compare policies on with no model at hand.",
)

MEASURED = "What is measured"

EXAMPLE = """[bold]Examples[/bold]
  unroller tree --problem rooms --task spatial --problem-option hops=0 --n 200 --depth 2 \\
      --action camera_pose_estimate --action text_think --action latent_think --out trees/rooms
  unroller tree --problem SET --backend nano --action camera_pose_estimate --action text_think \\
      --set text_think.temperature=1 --draws 4 --out trees/sampled
  unroller tree show trees/rooms
  unroller tree show trees/rooms --by hops --json

A build that was interrupted goes on with the same command. Exit codes: unroller --help"""


@app.callback(invoke_without_command=True, epilog=EXAMPLE)
def tree(
    ctx: typer.Context,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            "--problem",
            metavar="SET",
            help="A registered problem set; repeatable.",
            rich_help_panel=ASKED,
            autocompletion=names_of("problems"),
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", "-n", min=1, help="How many problems of each set.", rich_help_panel=ASKED)
    ] = 100,
    seed: Annotated[
        int, typer.Option("--seed", help="The first problem's; the others' follow.", rich_help_panel=ASKED)
    ] = 0,
    task: Task = None,
    problem_option: ProblemOption = None,
    backend: Backend = None,
    action: Annotated[
        list[str] | None,
        typer.Option(
            "--action",
            "-a",
            help="An action, in the order of their declaration; repeatable. Default: every one that works on"
            " the first problems and reads no metadata.",
            rich_help_panel=MEASURED,
            autocompletion=names_of("primitives"),
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="ACTION.PARAMETER=VALUE",
            help="A parameter of an action, in place of its own; repeatable.",
            rich_help_panel=MEASURED,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=0, help="Calls at most. Default: all actions.", rich_help_panel=MEASURED),
    ] = None,
    orders: Annotated[
        Literal["sequences", "sets"],
        typer.Option(
            "--orders",
            help="Whether the order of calls makes another state. As sets, contexts are written in the order"
            " of the actions.",
            rich_help_panel=MEASURED,
        ),
    ] = "sequences",
    draws: Annotated[
        int,
        typer.Option(
            "--draws", min=1, help="How often what is stochastic is drawn.", rich_help_panel=MEASURED
        ),
    ] = 1,
    scorer: Annotated[
        str | None,
        typer.Option(
            "--scorer",
            help="How good an answer is, softly: a name or a module:object. Default: soft_choice, or the"
            " task's own.",
            rich_help_panel=MEASURED,
            autocompletion=names_of("scorers"),
        ),
    ] = None,
    hard: Annotated[
        str | None,
        typer.Option(
            "--hard",
            help="Whether it is right: a scorer. Default: choice.",
            rich_help_panel=MEASURED,
            autocompletion=names_of("scorers"),
        ),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe",
            help="What policies may ask for in every state; repeatable, none for none. Default: every"
            " registered one that can be measured.",
            rich_help_panel=MEASURED,
            autocompletion=names_of("probes"),
        ),
    ] = None,
    use: Use = None,
    memo: Memo = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The tree's folder.", rich_help_panel=KEPT),
    ] = None,
    licence: Annotated[
        str,
        typer.Option("--licence", "--license", help="Of the tree, for its card.", rich_help_panel=KEPT),
    ] = "unknown",
    chunk: Annotated[
        int,
        typer.Option(
            "--chunk",
            min=1,
            help="Problems that are worked on together, and again together after a kill.",
            rich_help_panel=KEPT,
        ),
    ] = 64,
    as_json: AsJson = False,
) -> None:
    """Build the complete tree of a problem set, to learn and compare policies on with no model at hand."""
    if ctx.invoked_subcommand is not None:
        return
    from planners.tree.building import build
    from planners.tree.faults import TreeError
    from planners.tree.files import need_pyarrow
    from unroller.cli.ablate import counting, problems_of
    from unroller.cli.options import split
    from unroller.cli.setup import Setup, brought_by, executor_of
    from unroller.cli.terminal import aside, note, print_json, waiting
    from unroller.faults import ProblemError

    need_pyarrow()
    sets = split(problem)
    if not sets:
        raise ProblemError("say whose tree is built: --problem SET, a registered problem set")
    if out is None:
        raise TreeError("say where the tree is kept: --out DIR")
    parameters = parameters_of(set_)
    setup = Setup(
        backends=split(backend),
        calls="",
        use=list(use or ()),
        memo=None if memo is None else str(memo),
    )
    seeds = range(seed, seed + n)
    try:
        with waiting("getting ready …"):
            brought = brought_by(setup)
        problems: list[Any] = []
        for name in sets:
            with counting(f"making {n} problems of {name} …") as tell:
                problems += problems_of(name, seeds, task, problem_option, brought.problems, tell)
        with waiting("getting ready …"):
            executor = executor_of(setup, brought, problems[0].task)
        described = [
            {"set": name, "first": seed, "n": n, "task": task, "options": list(problem_option or ())}
            for name in sets
        ]
        with counting(f"measuring the tree of {len(problems)} problems …") as tell, aside():
            build(
                executor,
                problems,
                out,
                actions=None if action is None else split(action),
                depth=depth,
                orders=orders,
                draws=draws,
                parameters=parameters,
                scorer=_named(scorer, "scorers"),
                hard=_named(hard, "scorers"),
                probes=probes_of(probe, brought.probes),
                sets=described,
                licence=licence,
                chunk=chunk,
                tell=tell,
            )
    except KeyboardInterrupt:
        note("interrupted", "stop")
        note(f"what was finished is in {out}: the same command goes on from there")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if len(problems) < 2:
        note(f"the tree is in {out}; of one problem there are no intervals to show")
        if as_json:
            print_json({"tree": str(out), "n": len(problems), "exit": 0})
        return
    _shown(out, None, "model_calls", "score", as_json)


@app.command(epilog=EXAMPLE)
def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The tree's folder.")],
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="KEY",
            help="What has a best schedule of its own: the metadata of the problems, as hops or truth.hops."
            " Default: the task.",
        ),
    ] = None,
    price: Annotated[
        str,
        typer.Option(
            "--cost",
            metavar="WEIGHTS",
            help="What a cost is: model_calls, tokens, price, or a sum, as model_calls+0.01*tokens.",
        ),
    ] = "model_calls",
    score: Judged = "score",
    as_json: AsJson = False,
) -> None:
    """Every schedule's score and cost, the best of them, the oracle, and what room is left for a policy."""
    _shown(folder, by, price, score, as_json)


def _shown(folder: Path, by: str | None, price: str, score: Judged, as_json: bool) -> None:
    from planners.tree.complete import load
    from planners.tree.showing import show_summary
    from planners.tree.summary import summary
    from unroller.cli.terminal import print_json, stdout, waiting

    with waiting("reading the tree …"):
        found = summary(load(folder).judged(score), by=by, price=price)
    if as_json:
        print_json(found.to_dict() | {"tree": str(folder), "exit": 0})
    else:
        show_summary(stdout(), found)


# ---------------------------------------------------------------------------------- what was typed


def parameters_of(texts: Iterable[str] | None) -> dict[str, dict[str, Any]]:
    """`--set text_think.temperature=1`, by action. Raises ProblemError."""
    import json

    from unroller.faults import ProblemError

    found: dict[str, dict[str, Any]] = {}
    for text in texts or ():
        place, equals, value = text.partition("=")
        action, dot, parameter = place.strip().rpartition(".")
        if not (equals and dot and action and parameter):
            raise ProblemError(f"--set {text!r}: write ACTION.PARAMETER=VALUE, as text_think.temperature=1")
        try:
            plain: Any = json.loads(value)
        except ValueError:
            plain = value
        found.setdefault(action, {})[parameter] = plain
    return found


def probes_of(names: list[str] | None, own: Iterable[Any]) -> list[Any] | None:
    """`--probe`, with those that `--use` brings; None for every one that can be measured."""
    from unroller.cli.options import split

    if names is None:
        return None
    brought: Mapping[str, Any] = {probe.name: probe for probe in own}
    return [brought.get(name, name) for name in split(names) if name != "none"]


def _named(name: str | None, group: str) -> Any:
    from unroller.cli.used import is_path, load_named

    return load_named(name) if name is not None and is_path(name, group) else name
