"""`unroller policies`: what is done with selection policies beside running them."""

from __future__ import annotations

import typer

from planners.train_command import EXAMPLE as TRAINING
from planners.train_command import train

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="Train selection policies, on trees.",
)


@app.callback()
def policies() -> None:
    """Train selection policies, on trees."""


app.command(epilog=TRAINING)(train)
