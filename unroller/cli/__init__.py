"""The command line: `unroller run`, `runs`, `primitives`, `check`, `doctor`, and what other rooms register.

Results go to stdout, everything said on the way to stderr, so `unroller run … > answer.txt` holds the
answer and `--json` prints exactly one document. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from unroller.cli.commands import Commands
from unroller.cli.exits import EPILOG

app = typer.Typer(
    name="unroller",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog="[bold]Try[/bold]\n"
    "  unroller run --task pose first.jpg second.jpg\n"
    "  unroller primitives\n"
    "  unroller doctor\n\n" + EPILOG,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        from unroller import __version__

        typer.echo(f"unroller {__version__}")
        raise typer.Exit


@app.callback()
def unroller(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Build context first, then answer: unroll multimodal reasoning, step by step, from the terminal."""


def main(arguments: list[str] | None = None, **options: Any) -> Any:
    """The entry point of the `unroller` script. Ends the process with one of the codes in `exits`."""
    return typer.main.get_command(app).main(arguments, prog_name="unroller", **options)
