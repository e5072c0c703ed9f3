"""Options that several commands declare alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from unroller.cli.options import names_of

ASKED, HOW, KEPT = "What is asked", "How it is unrolled", "What is kept and shown"

Judged = Annotated[
    Literal["score", "hard"],
    typer.Option("--score", help="Which of a tree's scores counts: its soft one, or right and wrong."),
]

Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        "-t",
        help="pose, depth, novel_view, spatial …",
        rich_help_panel=ASKED,
        autocompletion=names_of("decoders"),
    ),
]

ProblemOption = Annotated[
    list[str] | None,
    typer.Option(
        "--problem-option",
        metavar="NAME=VALUE",
        help="An option of the problem set; repeatable.",
        rich_help_panel=ASKED,
    ),
]

Backend = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        "-b",
        metavar="NAME|CAPABILITY=NAME:PATH|FILE.toml",
        help="Who provides the capabilities, in order of preference: names, or module:object; "
        "text=hf:PATH for one capability by one checkpoint; a TOML file. Default: every one installed.",
        rich_help_panel=HOW,
        autocompletion=names_of("backends"),
    ),
]

Use = Annotated[
    list[str] | None,
    typer.Option(
        "--use",
        "--plugin",
        metavar="MODULE:OBJECT",
        help="A primitive, decoder, policy, backend … of a module here; repeatable.",
        rich_help_panel=HOW,
    ),
]

Memo = Annotated[
    Path | None,
    typer.Option("--memo", metavar="PATH", help="Remember values there, across runs.", rich_help_panel=HOW),
]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel=KEPT)]
