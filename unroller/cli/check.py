"""`unroller check`: whether a plug-in keeps the contract, before anybody runs it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from unroller.cli.exits import Exit
from unroller.cli.terminal import line, one_line, print_json, safe, stdout, waiting
from unroller.faults import UnknownName
from unroller.registry import GROUPS, near, registered

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

EXAMPLE = """[bold]Examples[/bold]
  unroller check my_plugins:motion            [dim]an object of a module in this folder[/dim]
  unroller check camera_pose_estimate         [dim]anything that is registered, by its name[/dim]

Ends with 0 when every target keeps its contract, and with 3 when one does not."""


@app.command(epilog=EXAMPLE)
def check(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="TARGET...", help="package.module:object, or a registered name."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check that a primitive, decoder, policy or backend keeps its contract."""
    from unroller.check import check_path
    from unroller.cli.used import here_on_path

    here_on_path()
    documents: list[dict[str, Any]] = []
    for target in targets:
        path = path_of(target)
        with waiting(f"checking {target} …"):
            findings = check_path(path)
        found = [msgspec.to_builtins(finding) for finding in findings.lines]
        documents.append({"target": path, "ok": findings.ok, "findings": found})
        if not as_json:
            _show(stdout(), documents[-1])
    if as_json:
        print_json(documents)
    if not all(document["ok"] for document in documents):
        raise typer.Exit(Exit.MISSING)


def path_of(target: str) -> str:
    """The module:object of a target, which may be a registered name. Raises UnknownName."""
    if ":" in target:
        return target
    for group in GROUPS:
        point = registered(group).get(target)
        if point is not None:
            return point.value
    groups = ("primitives", "decoders", "policies", "backends")
    known = [name for group in groups for name in registered(group)]
    raise UnknownName(f"nothing is registered as {target!r}.{near(target, known)}")


def _show(console: Console, document: dict[str, Any]) -> None:
    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}
    mark, style = marks["ok" if document["ok"] else "fail"]
    console.print(Line.assemble((f"{mark} ", style), (safe(document["target"]), "bold")))
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in document["findings"]:
        mark, style = marks[finding["level"]]
        found = line(one_line(finding["found"], 600), "" if finding["level"] == "ok" else style)
        table.add_row(Line(f"  {mark}", style), line(finding["subject"], "dim"), found)
        if finding["mend"]:
            table.add_row("", "", line(f"→ {one_line(finding['mend'], 600)}", "cyan"))
    console.print(table)
