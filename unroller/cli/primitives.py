"""`unroller primitives`: what is registered here, what it needs, and who provides that."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from unroller.cli.exits import Exit
from unroller.cli.terminal import line, one_line, print_json, safe, stdout, waiting
from unroller.cli.words import a
from unroller.cost import FREE

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

EXAMPLE = """[bold]Examples[/bold]
  unroller primitives                     [dim]everything that can be called, and who provides it[/dim]
  unroller primitives describe_motion     [dim]one of them: what it reads, its parameters, its presets[/dim]
  unroller primitives --use my_plugins    [dim]with what a module here defines[/dim]
  unroller primitives --json"""

NAMED = ("policies", "planners", "problems", "scorers", "probes", "commands")


@app.command(epilog=EXAMPLE)
def primitives(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show one in full.")] = None,
    use: Annotated[
        list[str] | None,
        typer.Option("--use", "--plugin", metavar="MODULE:OBJECT", help="Add what a module defines."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List what is registered: primitives and decoders, what they read, write and need."""
    from unroller.faults import UnknownName
    from unroller.registry import near

    with waiting("looking at what is installed …"):
        held = catalogue(use or [])
    if name is not None:
        rows = [row for row in (*held["primitives"], *held["decoders"]) if row["name"] == name]
        if not rows:
            if name in held["broken"]:
                _show_broken(stdout(), {name: held["broken"][name]})
                raise typer.Exit(Exit.MISSING)
            known = [row["name"] for row in (*held["primitives"], *held["decoders"])]
            raise UnknownName(f"no primitive or decoder is called {name!r}.{near(name, known)}")
        if as_json:
            print_json(rows if len(rows) > 1 else rows[0])
        else:
            for row in rows:
                _show_one(stdout(), row)
    elif as_json:
        print_json(held)
    else:
        _show_all(stdout(), held)


def catalogue(use: list[str]) -> dict[str, Any]:
    """What is registered, as plain data. Backends, primitives and decoders are imported for it; the
    others are named only."""
    from unroller.cli.used import used
    from unroller.registry import load_all, registered

    brought = used(use)
    backends, broken = load_all("backends")
    backends |= {str(backend.name): backend for backend in brought.backends}
    held: dict[str, Any] = {}
    for group, own in (("primitives", brought.primitives), ("decoders", brought.decoders)):
        found, failed = load_all(group)
        broken |= failed
        found |= {one.name: one for one in own}
        held[group] = [_described(one, backends) for one in found.values()]
    held["backends"] = [
        {
            "name": name,
            "provides": [c.__name__ for c in getattr(backend, "provides", ())],
            "lacks": None if getattr(backend, "provides", ()) else getattr(backend, "lacks", None),
            "extra": getattr(backend, "extra", None),
        }
        for name, backend in backends.items()
    ]
    for group in NAMED:
        mine = cast("dict[str, Any]", getattr(brought, group, {}))
        held[group] = [*registered(group), *(mine if group in ("policies", "planners", "problems") else ())]
    return held | {"broken": broken}


def _described(one: Any, backends: dict[str, Any]) -> dict[str, Any]:
    needs = {
        capability.__name__: [
            name for name, b in backends.items() if capability in getattr(b, "provides", ())
        ]
        for capability in one.needs
    }
    row: dict[str, Any] = {"name": one.name}
    if hasattr(one, "task"):
        row["task"] = one.task
    cost = one.cost(one.parameters()) if callable(one.cost) else one.cost
    return row | {
        "reads": [*one.fields, *(kind.__name__ for kind in one.kinds)],
        "writes": one.writes.__name__,
        "needs": needs,
        "available": all(needs.values()),
        "presets": {preset: dict(chosen) for preset, chosen in one.presets.items()},
        "parameters": one.parameters.model_json_schema().get("properties", {}),
        "cost": "nothing" if cost == FREE else str(cost),
        "stochastic": one.stochastic,
        "timeout": one.timeout,
        "version": one.version,
        "instructions": list(one.told),
        "about": " ".join((one.__doc__ or "").split()),
    }


# ------------------------------------------------------------------------------------------- to look at


def _show_all(console: Console, held: dict[str, Any]) -> None:
    for group in ("primitives", "decoders"):
        if held[group]:
            console.print(_table(group, held[group]))
            console.print()
    if held["backends"]:
        table = _plain_table("backends", "provides")
        for row in held["backends"]:
            nothing = f"nothing without {row['lacks']}" if row["lacks"] else "nothing"
            table.add_row(line(row["name"]), line(", ".join(row["provides"]) or nothing))
        console.print(table)
        console.print()
    for group in NAMED:
        if held[group]:
            console.print(Line.assemble((f"{group:<10}", "bold"), ", ".join(held[group])))
    if held["broken"]:
        console.print()
        _show_broken(console, held["broken"])


def _table(group: str, rows: list[dict[str, Any]]) -> Table:
    table = _plain_table(group, "reads", "writes", "needs", "provided by")
    for row in rows:
        name = line(row["name"])
        if row.get("task", row["name"]) != row["name"]:
            name.append(f" ({row['task']})", "dim")
        name.append("".join(f"\n  :{preset}" for preset in row["presets"]), "dim")
        needs = Line("\n".join(row["needs"]) or "—")
        table.add_row(name, line(_reads(row)), line(row["writes"]), needs, _providers(row))
    return table


def _reads(row: dict[str, Any]) -> str:
    """A decoder that reads everything says so in one word."""
    return "everything" if "Value" in row["reads"] else ", ".join(row["reads"])


def _providers(row: dict[str, Any]) -> Line:
    shown = Line()
    for i, (capability, names) in enumerate(row["needs"].items()):
        shown.append("\n" if i else "")
        if names:
            shown.append(", ".join(names), "green")
        else:
            shown.append(f"nobody: install {a(capability)}", "red")
    return shown


def _plain_table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    table.add_column(first, style="bold", no_wrap=True)
    for other in others:
        table.add_column(other, overflow="fold")
    return table


def _show_one(console: Console, row: dict[str, Any]) -> None:
    kind = f"decoder of {row['task']}" if "task" in row else "primitive"
    console.print(Line.assemble((row["name"], "bold"), (f"  {kind}, version {row['version']}", "dim")))
    if row["about"]:
        console.print(line(row["about"]))
    table = Table.grid(padding=(0, 2))
    table.add_row("reads", line(_reads(row)))
    table.add_row("writes", line(row["writes"]))
    for capability, names in row["needs"].items():
        table.add_row("needs", line(f"{capability}, from {', '.join(names) or 'nobody installed'}"))
    table.add_row("costs", line(row["cost"] if row["cost"] == "nothing" else f"at most {row['cost']}"))
    if row["instructions"]:
        table.add_row("tells", line(", ".join(row["instructions"])))
    for name, schema in row["parameters"].items():
        given = f" = {schema['default']}" if "default" in schema else " (required)"
        about = f"  {schema['description']}" if "description" in schema else ""
        table.add_row("parameter", line(one_line(f"{name}{given}{about}")))
    for preset, chosen in row["presets"].items():
        table.add_row("preset", line(f"{row['name']}:{preset} {chosen}"))
    console.print(table)


def _show_broken(console: Console, broken: dict[str, str]) -> None:
    for name, reason in broken.items():
        who = "" if repr(name) in reason else f"{safe(name)}: "  # most reasons name it themselves
        console.print(Line.assemble(("broken  ", "bold red"), (who, "bold"), one_line(reason)))
