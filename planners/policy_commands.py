"""`unroller policies`: what is done with selection policies beside running them."""

from __future__ import annotations

import typer

from planners.comparison.command import EXAMPLE, compare

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="Compare selection policies, on trees.",
)


@app.callback()
def policies() -> None:
    """Compare selection policies, on trees."""


app.command(epilog=EXAMPLE)(compare)
