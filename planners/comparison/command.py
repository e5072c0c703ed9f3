"""`unroller policies compare`: policies against baselines, fixed schedules and the oracle, on trees."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from unroller.cli.options import names_of
from unroller.cli.shared import KEPT, AsJson, Judged

PATIENCE = 5.0
"""Seconds after which it is said that something is being done."""

GROUND, WHO, HOW = "What on", "Who", "How"

EXAMPLE = """[bold]Examples[/bold]
  unroller policies compare trees/rooms --by form
  unroller policies compare trees/rooms --policy mine=pi/ --out comparison
  unroller policies compare trees/rooms --policy learned@0.02=runs/dear --policy learned@0.005=runs/cheap
  unroller policies compare trees/rooms --policy my_module:my_policy --cost model_calls+0.01*tokens
  unroller policies compare trees/new --fit-on trees/rooms

[bold]Policies[/bold]
  NAME=WHAT       compared under that name; the same name again is another seed of it
  NAME@0.02=WHAT  trained for λ = 0.02
  WHAT            a registered policy, a saved one's folder, a folder of such folders (one a seed), a
                  module:object, or calls in order: camera_pose_estimate,text_think

What is compared in any case: direct, all, random, until sure, confidence, ridge bandits, the best fixed
schedules and the oracle. Exit codes: unroller --help"""


def compare(
    trees: Annotated[list[Path], typer.Argument(metavar="TREE", help="Folders of trees.")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            metavar="[NAME[@λ]=]WHAT",
            help="A policy to compare; repeatable, see below.",
            rich_help_panel=WHO,
            autocompletion=names_of("policies"),
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="KEY",
            help="What has best schedules of its own: the metadata of the problems, as hops or truth.hops."
            " Default: the task.",
            rich_help_panel=GROUND,
        ),
    ] = None,
    fit_on: Annotated[
        list[Path] | None,
        typer.Option(
            "--fit-on",
            metavar="TREE",
            help="Fit on this tree, and compare on all of the others; repeatable.",
            rich_help_panel=GROUND,
        ),
    ] = None,
    held_out: Annotated[
        float,
        typer.Option("--held-out", help="The share of problems to compare on.", rich_help_panel=GROUND),
    ] = 0.2,
    together: Annotated[
        str | None,
        typer.Option(
            "--together",
            metavar="KEY",
            help="Problems of the same metadata come to the same side, as questions about one room should.",
            rich_help_panel=GROUND,
        ),
    ] = None,
    price: Annotated[
        str,
        typer.Option(
            "--cost",
            metavar="WEIGHTS",
            help="What a cost is: model_calls, tokens, price, or a sum, as model_calls+0.01*tokens.",
            rich_help_panel=HOW,
        ),
    ] = "model_calls",
    score: Judged = "score",
    cost_weight: Annotated[
        list[float] | None,
        typer.Option(
            "--cost-weight",
            metavar="λ",
            help="What a unit of cost has to bring in score; repeatable: the first is shown, the others make"
            " the front. Default: 0.02, then 0, 0.005, 0.01, 0.05 and 0.1.",
            rich_help_panel=HOW,
        ),
    ] = None,
    train: Annotated[
        list[str] | None,
        typer.Option(
            "--train",
            metavar="TRAINER[+PROBE]",
            help="Train a learned policy as well, on the problems that baselines are fitted on, for each λ:"
            " exact, grpo, ppo or clone. It sees the probes that are named, and pays for them; by default"
            " those that cost nothing. Repeatable.",
            rich_help_panel=WHO,
        ),
    ] = None,
    train_seeds: Annotated[
        int,
        typer.Option("--train-seeds", min=1, help="How many seeds are trained.", rich_help_panel=WHO),
    ] = 5,
    train_steps: Annotated[
        int | None,
        typer.Option("--train-steps", min=1, help="Decisions to learn from.", rich_help_panel=WHO),
    ] = None,
    train_set: Annotated[
        list[str] | None,
        typer.Option(
            "--train-set",
            metavar="NAME=VALUE",
            help="A setting of the trainers, as problems=64; repeatable.",
            rich_help_panel=WHO,
        ),
    ] = None,
    unique_calls: Annotated[
        float | None,
        typer.Option(
            "--unique-calls",
            help="The unique model calls that each fitted baseline may use. Default: all there are.",
            rich_help_panel=HOW,
        ),
    ] = None,
    logged: Annotated[
        str | None,
        typer.Option(
            "--logged",
            metavar="JOURNAL|POLICY",
            help="Estimate each policy from logged runs as well, by IPS, SNIPS and DR: the journal of runs on"
            " these problems, or a policy whose unrollings are drawn from the tree, as random.",
            rich_help_panel=HOW,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and the draws.", rich_help_panel=HOW)] = 0,
    resamples: Annotated[
        int, typer.Option("--resamples", min=1, help="Draws for the intervals.", rich_help_panel=HOW)
    ] = 10_000,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write tables and picture there.", rich_help_panel=KEPT),
    ] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", rich_help_panel=KEPT)] = True,
    as_json: AsJson = False,
) -> None:
    """Compare policies on trees: at equal mean cost, with intervals, beside baselines and the oracle."""
    from planners.comparison.comparing import WEIGHTS, compare
    from planners.comparison.showing import show_comparison
    from planners.tree.complete import load
    from planners.tree.faults import TreeError
    from unroller.cli.terminal import aside, path_link, print_json, stderr, stdout, waiting

    if out is not None and plots:
        from unroller.ablation.plots import need_matplotlib

        need_matplotlib()
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TreeError(f"--out {out} is no folder that can be written to ({error.strerror})") from None
    with waiting("reading …"):
        given = typed(policy or ())
        several, fitted = (
            [load(folder).judged(score) for folder in folders] for folders in (trees, fit_on or ())
        )
    with _telling() as tell, aside():
        found = compare(
            several,
            given,
            by=by,
            price=price,
            weights=cost_weight or WEIGHTS,
            share=held_out,
            seed=seed,
            together=together,
            fit_on=fitted,
            train=trainings(train or (), train_seeds, train_steps, train_set, out),
            unique_calls=float("inf") if unique_calls is None else unique_calls,
            logged=() if logged is None else _logged(several[0], logged, seed),
            resamples=resamples,
            tell=tell,
        )
    written = [] if out is None else found.write(out, plots)
    if as_json:
        document = found.to_dict() | {"trees": list(map(str, trees)), "files": list(map(str, written))}
        print_json(document | {"exit": 0})
        return
    show_comparison(stdout(), found)
    for path in written:
        stderr().print(path_link(path), soft_wrap=True)


@contextmanager
def _telling() -> Generator[Callable[[str], None]]:
    """Says on stderr what is being done, where somebody looks; else one line if it takes its time."""
    from unroller.cli.terminal import is_live, later, line, stderr

    console = stderr()
    if is_live(console):
        with console.status(line("comparing …", "dim"), spinner="dots") as status:
            yield lambda what: status.update(line(f"{what} …", "dim"))
    else:
        with later(PATIENCE, lambda: console.print(line("comparing …"), soft_wrap=True)):
            yield lambda what: None


def typed(texts: Sequence[str]) -> list[Any]:
    """`--policy NAME@λ=WHAT`, those of one name and λ together as seeds. Raises PolicyError."""
    from planners.comparison.entrants import entrant
    from unroller.faults import PolicyError

    named: dict[tuple[str | None, float | None, int], list[Any]] = {}
    for i, text in enumerate(texts):
        head, equals, what = ("", "", text) if Path(text).is_dir() else text.partition("=")
        name, at, number = head.partition("@") if equals else ("", "", "")
        try:
            weight = float(number) if at else None
        except ValueError:
            raise PolicyError(f"--policy {text!r}: {number!r} is no λ: write NAME@0.02=WHAT") from None
        if equals and not (name and what):
            raise PolicyError(f"--policy {text!r}: write NAME=WHAT, or WHAT alone")
        key = (name, weight, 0) if name else (None, None, i)
        named.setdefault(key, []).append(_thing(what if equals else text))
    return [
        entrant(name, several if len(several) > 1 else several[0], weight)
        for (name, weight, _), several in named.items()
    ]


def _thing(what: str) -> Any:
    """A registered policy, a folder, an object of a module, or a list of calls."""
    from unroller.cli.used import is_path, load_named
    from unroller.registry import registered

    if is_path(what, "policies") and not Path(what).is_dir():
        return load_named(what)
    one_call = what.partition(":")[0] in registered("primitives")
    if what in registered("policies") or Path(what).is_dir() or not (one_call or "," in what):
        return Path(what)
    return [name.strip() for name in what.split(",") if name.strip()]


def _logged(tree: Any, what: str, seed: int) -> Any:
    """Unrollings of a journal, or those that a policy draws. Raises TreeError, PolicyError, JournalError."""
    from planners.comparison.entrants import entrant
    from planners.comparison.logged import drawn, of_runs
    from unroller.journal import read_log

    if (Path(what) / "journal.log").is_file():
        return of_runs(tree, read_log(what).runs)
    return drawn(tree, entrant(None, _thing(what)).policies[0], seed=seed)


def trainings(
    texts: Sequence[str], seeds: int, steps: int | None, changed: Sequence[str] | None, out: Path | None
) -> list[Any]:
    """`--train exact+answer_entropy`. Raises TreeError, PolicyError."""
    from planners.comparison.training import TRAINERS, Training
    from planners.learning import check_settings, settings_of, trainer_of
    from planners.tree import TreeError

    changes = check_settings(changed, "--train-set") | ({} if steps is None else {"steps": steps})
    found: list[Training] = []
    for text in texts:
        trainer, *probes = (part.strip() for part in text.split("+"))
        if trainer not in TRAINERS:
            raise TreeError(
                f"--train {text!r}: take one of {', '.join(TRAINERS)}, as in exact+answer_entropy"
            )
        settings = settings_of(trainer_of(trainer), changes) if changes else None
        kept = None if out is None else out / "policies"
        named = tuple(probe for probe in probes if probe != "none")
        found.append(Training(trainer, seeds, named if probes else None, settings, kept))
    return found
