"""`unroller policies train`: learn a policy on a tree, keep it, and say what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unroller.cli.options import names_of
from unroller.cli.shared import KEPT, AsJson, Judged

LEARNS, SEES = "How it learns", "What it sees and pays"

EXAMPLE = """[bold]Examples[/bold]
  unroller policies train --tree trees/rooms --trainer grpo --cost-weight 0.02 --out pi
  unroller policies train --tree trees/rooms --trainer lagrangian --mean-cost 2.5 --out pi
  unroller policies train --tree trees/rooms --probe answer_entropy --set learning_rate=0.003 --out pi
  unroller run --policy pi ...

A training that was interrupted goes on with the same command. Exit codes: unroller --help"""


def train(
    tree: Annotated[
        list[Path],
        typer.Option("--tree", metavar="DIR", help="A tree's folder; several make one policy for all."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="A folder for the policy, its curve and checkpoints.",
            rich_help_panel=KEPT,
        ),
    ] = None,
    trainer: Annotated[
        Literal["exact", "grpo", "ppo", "lagrangian", "clone"],
        typer.Option("--trainer", help="See docs/training.md.", rich_help_panel=LEARNS),
    ] = "exact",
    score: Judged = "score",
    cost_weight: Annotated[
        float,
        typer.Option(
            "--cost-weight", help="λ: the score that one unit of cost has to bring.", rich_help_panel=SEES
        ),
    ] = 0.0,
    mean_cost: Annotated[
        float | None,
        typer.Option("--mean-cost", help="The budget that lagrangian meets.", rich_help_panel=SEES),
    ] = None,
    price: Annotated[
        str,
        typer.Option(
            "--cost",
            metavar="WEIGHTS",
            help="What a cost is: model_calls, tokens, price, or a sum, as model_calls+0.01*tokens.",
            rich_help_panel=SEES,
        ),
    ] = "model_calls",
    probe: Annotated[
        list[str] | None,
        typer.Option(
            "--probe",
            help="What it sees beside the problem and its context, and pays for each time; repeatable, none"
            " for none. Default: every one that costs nothing.",
            rich_help_panel=SEES,
            autocompletion=names_of("probes"),
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Decisions to learn from.", rich_help_panel=LEARNS),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of the trainer, as learning_rate=0.003; repeatable.",
            rich_help_panel=LEARNS,
        ),
    ] = None,
    hidden: Annotated[
        str, typer.Option("--hidden", help="Units of the network's layers.", rich_help_panel=LEARNS)
    ] = "64,64",
    seed: Annotated[
        int, typer.Option("--seed", help="Of the weights and of what is drawn.", rich_help_panel=LEARNS)
    ] = 0,
    held_out: Annotated[
        float,
        typer.Option(
            "--held-out", help="The share of problems that it is evaluated on.", rich_help_panel=LEARNS
        ),
    ] = 0.2,
    split_seed: Annotated[
        int, typer.Option("--split-seed", help="Of that share.", rich_help_panel=LEARNS)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a policy on a tree, and evaluate it exactly on problems that were held out."""
    from planners.learning import check_settings, learn
    from planners.tree.complete import load
    from planners.tree.faults import TreeError
    from unroller.cli.exits import Exit
    from unroller.cli.options import split
    from unroller.cli.terminal import note, print_json, stdout, waiting, write_json

    if out is None:
        raise TreeError("say where the policy is kept: --out DIR")
    settings = check_settings(set_) | ({} if steps is None else {"steps": steps})
    probes = None if probe is None else [name for name in split(probe) if name != "none"]
    try:
        with waiting("reading the tree …"):
            found = [load(folder).judged(score) for folder in tree]
        with _telling(f"training {trainer} on {', '.join(map(str, tree))} …") as tell:
            learned = learn(
                found,
                trainer,
                cost_weight=cost_weight,
                mean_cost=mean_cost,
                seed=seed,
                settings=settings,
                probes=probes,
                hidden=_units(hidden),
                price=price,
                held_out=held_out,
                split_seed=split_seed,
                out=out,
                tell=tell,
            )
    except KeyboardInterrupt:
        note("interrupted", "stop")
        note(f"what was learned is in {out}: the same command goes on from there")
        raise typer.Exit(Exit.INTERRUPTED) from None
    document = learned.to_dict() | {"policy": str(out), "cost": price, "score": score}
    document["trees"] = [str(folder) for folder in tree]
    write_json(out / "held_out.json", document)
    if as_json:
        print_json(document | {"exit": 0})
    else:
        _show(stdout(), learned, price, out)


def _units(text: str) -> tuple[int, ...]:
    from planners.tree.faults import TreeError

    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise TreeError(f"--hidden {text!r}: write numbers of units, as 64,64") from None


@contextmanager
def _telling(what: str) -> Generator[Callable[[dict[str, float]], None]]:
    """Rows of the curve on stderr while somebody looks."""
    from unroller.cli.terminal import is_live, line, stderr, waiting

    console = stderr()
    if not is_live(console):
        with waiting(what):
            yield lambda row: None
        return
    with console.status(line(what)) as status:
        yield lambda row: status.update(
            line(f"{what} {row['steps']:,.0f} steps, score {row['score']:.3f}, cost {row['cost']:.2f}")
        )


def _show(console: Any, learned: Any, price: str, out: Path) -> None:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text as Line

    from unroller.cli.terminal import line, one_line

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column(Line("on problems held out"))
    for name in ("score", price, "value", "gain of the learned one"):
        grid.add_column(Line(name), justify="right")
    for row in learned.standings:
        shown = [str(part) for part in (row.score, row.cost, row.value)]
        grid.add_row(line(one_line(row.name, 60)), *shown, "" if row.gain is None else str(row.gain))
    console.print(grid)
    n, m = len(learned.held_out), len(learned.train)
    said = (
        f"{learned.trainer}: trained on {m:,} problems, evaluated exactly on {n:,} others; value is score −"
        f" {learned.cost_weight:g} · cost, with 95 % intervals over problems. In {out}: the policy,"
        " training/curve.csv, held_out.json"
    )
    console.print(line(said, "dim"), soft_wrap=True)
