"""`unroller policies`: what is done with selection policies beside running them."""

from __future__ import annotations

import typer

from planners.comparison.command import EXAMPLE as COMPARING
from planners.comparison.command import compare
from planners.train_command import EXAMPLE as TRAINING
from planners.train_command import train

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    no_args_is_help=True,
    help="Train and compare selection policies, on trees.",
)


@app.callback()
def policies() -> None:
    """Train and compare selection policies, on trees."""


app.command(epilog=TRAINING)(train)
app.command(epilog=COMPARING)(compare)
