"""`unroller check`: whether a plug-in keeps the contract, before anybody runs it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from unroller.cli.exits import Exit
from unroller.cli.terminal import line, print_json, stdout, waiting
from unroller.faults import UnknownName
from unroller.registry import GROUPS, load_path, near, registered

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
    from unroller.cli.used import here_on_path

    here_on_path()
    documents: list[dict[str, Any]] = []
    fine = True
    for target in targets:
        path = path_of(target)
        with waiting(f"checking {target} …"):
            findings = load_path("unroller.check:check_path")(path)
        fine = fine and bool(findings.ok)
        documents.append({"target": path, "ok": bool(findings.ok), "lines": list(findings.lines)})
        if not as_json:
            _show(path, documents[-1])
    if as_json:
        print_json(documents)
    if not fine:
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


def _show(path: str, found: dict[str, Any]) -> None:
    console = stdout()
    mark, style = ("✓", "green") if found["ok"] else ("✗", "bold red")
    console.print(line(f"{mark} {path}", style))
    for text in found["lines"]:
        console.print(line(f"    {text}"))
