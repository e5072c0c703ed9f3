"""Ablations: what each part of the context is worth.

    table = ablate(executor, problems, scorer="choice", column="hops", rows={
        "direct": [],
        "+ pose": ["camera_pose_estimate"],
        "pose + thinking": ["camera_pose_estimate", "text_think"],
        "shuffled": shuffled("camera_pose_estimate", "text_think"),
        "blank": blank(),
    })
    print(table)
    table.write("ablation/")

A row is a set of context: calls in order, or any policy. Every row goes over the same problems, through one
memo, so that what rows share is computed once, and each is compared with the first row problem by problem.

`rows` says what a row is, `measuring` runs it, `bootstrap` has the intervals, `tabulating` makes the `table`,
`plots` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unroller.ablation.bootstrap import Estimate, paired_gain
from unroller.ablation.measuring import Faults, Tell
from unroller.ablation.rows import Row, blank, default_rows, shuffled, text_only
from unroller.ablation.shares import Share, Shares
from unroller.ablation.table import Cell, Gain, Table

if TYPE_CHECKING:
    from unroller.executor import Executor
    from unroller.problem import Problem

__all__ = [
    "Cell",
    "Estimate",
    "Gain",
    "Row",
    "Share",
    "Shares",
    "Table",
    "ablate",
    "blank",
    "default_rows",
    "paired_gain",
    "shuffled",
    "text_only",
]


def ablate(
    executor: Executor,
    problems: Iterable[Problem],
    rows: Mapping[str, Any] | Sequence[Any] | None = None,
    *,
    scorer: Callable[[Problem, Any], Any] | str | None = None,
    column: Callable[[Problem], Any] | str | None = None,
    compare: Sequence[tuple[str, str]] = (),
    contributions: str | None = None,
    faults: Faults = "wrong",
    seed: int = 0,
    resamples: int = 10_000,
    tell: Tell | None = None,
) -> Table:
    """Measure every row on the same problems. Returns a Table: n, mean score, the gain over the first row
    with its 95 % paired bootstrap interval, charged cost and seconds, for each column and for all.

    rows: by name, each a list of calls, a policy, or what `shuffled`, `blank` and `text_only` make; or a
    list of (name, row). None: no context, each call of the executor's policy alone, and all of them (see
    `default_rows`). scorer: (problem, output) -> a number from 0 to 1, or the name of a registered one; one
    with `parts` gives a mapping (see `scoring`), and each part is a column after "all". None: the one that is
    registered under the name of the task, else "choice". column: what to group problems by, a function of
    the problem or a key of its metadata ("truth.hops" for one within another); None takes metadata["column"]
    if every problem has it. compare: pairs of rows (a, b): the gain of a over b. contributions: a row whose
    entries' leave-one-out and Shapley values are averaged by action, which decodes each problem up to 64
    times. faults: a problem in which a call failed counts as "wrong", or by its "answer" all the same; one
    without an output scores 0 either way, and the cell's `failed` counts both. seed, resamples: of the
    bootstrap; the seed also chooses whose context shuffled rows get. tell: called with (row, done, total) as
    problems are done.

    Raises ProblemError (no problems, a name twice, no truth, no such metadata), UnknownName,
    MissingCapability, PolicyError, and ContractError for a scorer that raises or gives no number in 0..1.
    """
    from unroller.ablation.columns import columns_of
    from unroller.ablation.measuring import measure
    from unroller.ablation.rows import named_rows
    from unroller.ablation.scoring import scorer_of, usual_scorer
    from unroller.ablation.table import check_pairs
    from unroller.ablation.tabulating import tabulate
    from unroller.faults import ProblemError

    several = tuple(problems)
    if not several:
        raise ProblemError("there are no problems: give at least one to measure rows on")
    if resamples < 1:
        raise ProblemError(f"{resamples} resamples make no interval: give 1 or more")
    score = scorer_of(usual_scorer(several) if scorer is None else scorer)
    columns = columns_of(several, column)
    named = named_rows(default_rows(executor, several[0]) if rows is None else rows)
    check_pairs(compare, contributions, named)
    measured = measure(executor, several, named, score, columns.labels, seed, faults, contributions, tell)
    return tabulate(
        measured,
        columns,
        compare,
        seed=seed,
        resamples=resamples,
        scorer=score.name,
        about=score.about,
    )
