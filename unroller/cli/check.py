"""`unroller check`: whether a plug-in keeps the contract, before anybody runs it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from unroller.backends import backends_of, says_more
from unroller.cli.exits import Exit
from unroller.cli.options import names_of, problem_from_set, split
from unroller.cli.terminal import aside, line, one_line, print_json, safe, stdout, waiting
from unroller.cli.used import Used, file_as_module
from unroller.faults import UnknownName
from unroller.problem import Problem
from unroller.registry import GROUPS, near, registered

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

EXAMPLE = """[bold]Examples[/bold]
  unroller check my_plugins:motion            [dim]an object of a module in this folder[/dim]
  unroller check my_plugins.py:motion         [dim]the same, as a file[/dim]
  unroller check camera_pose_estimate         [dim]anything that is registered, by its name[/dim]
  unroller check depth -b classical           [dim]with a real backend in place of a stand-in[/dim]
  unroller check depth=hf:/models/depth       [dim]a backend with a checkpoint[/dim]
  unroller check nano -t spatial --problem rooms:1 --problem rooms:2
                                              [dim]with problems it was made for[/dim]

Ends with 0 when every target keeps its contract, and with 3 when one does not."""


@app.command(epilog=EXAMPLE)
def check(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="TARGET...", help="package.module:object, or a registered name."),
    ],
    use: Annotated[
        list[str] | None,
        typer.Option(
            "--use",
            "--plugin",
            metavar="MODULE:OBJECT",
            help="What a target counts on and nobody registered; targets may be named in it. Repeatable.",
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            "-b",
            help="Who provides capabilities, as for `unroller run`. Default: a stand-in.",
            autocompletion=names_of("backends"),
        ),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            "--problem",
            metavar="SET:SEED",
            help="To try it with, from a registered set, in place of made-up ones; repeatable.",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="The task of those problems.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check that a primitive, decoder, policy or backend keeps its contract."""
    from unroller.check import StandIn
    from unroller.cli.setup import backends_named
    from unroller.cli.used import here_on_path, used

    here_on_path()
    brought = used(use or ())
    backends: list[Any] | None = backends_named(split(backend), brought) if backend else None
    if backends is None and brought.backends:
        backends = [StandIn(), *brought.backends]
    tried = [problem_from_set(one, task, None, brought.problems) for one in problem or ()]
    documents: list[dict[str, Any]] = []
    for target in targets:
        with waiting(f"checking {target} …"):
            found = _checked(target, brought, backends, tried)
        documents.append(found)
        if not as_json:
            _show(stdout(), found)
    if as_json:
        print_json(documents)
    if not all(document["ok"] for document in documents):
        raise typer.Exit(Exit.MISSING)


@aside()
def _checked(
    target: str, brought: Used, backends: list[Any] | None, problems: list[Problem]
) -> dict[str, Any]:
    """The findings about a target as plain data. Raises UnknownName, PluginError."""
    from unroller.check import check, check_path

    options: dict[str, Any] = {
        "backends": backends,
        "problems": problems or None,
        "primitives": brought.primitives,
        "probes": brought.probes,
    }
    mine = brought_as(brought)
    if says_more(target):
        return {"target": target} | check(backends_of([target])[0], **options).to_dict()
    if target in mine:
        return {"target": target} | check(mine[target], **options).to_dict()
    path = path_of(target, mine)
    return {"target": path} | check_path(path, **options).to_dict()


def brought_as(brought: Used) -> dict[str, Any]:
    """What `--use` brought, by the names that a target may be called by."""
    named = {one.name: one for one in (*brought.primitives, *brought.decoders, *brought.probes)}
    named |= {str(one.name): one for one in brought.backends}
    named |= {kind.__name__: kind for kind in brought.values}
    return named | brought.policies | brought.planners


def path_of(target: str, mine: Iterable[str] = ()) -> str:
    """The module:object of a target, which may be a registered name. Raises UnknownName."""
    if ":" in target:
        return file_as_module(target)
    for group in GROUPS:
        point = registered(group).get(target)
        if point is not None:
            return point.value
    if _is_module(target):
        raise UnknownName(f"{target!r} is a module: write package.module:object, as {target}:my_primitive")
    groups = ("primitives", "decoders", "policies", "backends")
    known = [*mine, *(name for group in groups for name in registered(group))]
    raise UnknownName(
        f"nothing is registered as {target!r}: write package.module:object.{near(target, known)}"
    )


def _is_module(target: str) -> bool:
    if target.endswith(".py"):
        return True
    try:
        return find_spec(target) is not None
    except (ImportError, ValueError, AttributeError):
        return "." in target


def _show(console: Console, document: dict[str, Any]) -> None:
    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}
    mark, style = marks["ok" if document["ok"] else "fail"]
    console.print(Line.assemble((f"{mark} ", style), (safe(document["target"]), "bold")))
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in document["lines"]:
        mark, style = marks[finding["level"]]
        found = line(one_line(finding["found"], 600), "" if finding["level"] == "ok" else style)
        table.add_row(Line(f"  {mark}", style), line(finding["subject"], "dim"), found)
        if finding["mend"]:
            table.add_row("", "", line(f"→ {one_line(finding['mend'], 600)}", "cyan"))
    console.print(table)
