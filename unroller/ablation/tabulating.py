"""From a measurement to its table: means, gains and their intervals, column by column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unroller.ablation.bootstrap import RESAMPLES, Array, Estimate, difference, estimate, resampled_means
from unroller.ablation.columns import Columns
from unroller.ablation.measuring import Measured, Measurement
from unroller.ablation.table import Cell, Failing, Gain, Table
from unroller.faults import ContractError, ProblemError


def tabulate(
    measurement: Measurement,
    columns: Columns,
    compare: Sequence[tuple[str, str]] = (),
    *,
    scorer: str,
    about: str = "",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Table:
    """The table of a measurement: every row's draws of problems are the same within a column. Raises
    ProblemError where a column and a part of the score have one name, ContractError for a scorer whose parts
    depend on the output."""
    rows = [row for row in measurement.rows if row.missing is None]
    first = measurement.rows[0].name
    at = {row.name: i for i, row in enumerate(rows)}
    notes = list(measurement.notes)
    if first not in at:
        notes.append(f"there are no gains: the first row, {first}, was not measured")
    notes += [
        f"{a} and {b} were not compared: not both were measured"
        for a, b in compare
        if a not in at or b not in at
    ]
    compared: list[Gain] = []
    cells: dict[str, list[Cell]] = {row.name: [] for row in rows}
    parts = _parts(rows, scorer, columns)
    every = columns.members | parts
    for column, members in every.items():
        if not rows:
            break
        scores = np.stack([row.parts.get(column, row.score)[members] for row in rows])  # (R, n)
        means = resampled_means(scores, resamples, seed)  # (resamples, R)
        for i, row in enumerate(rows):
            over = at.get(first)
            gain = None if over is None or row.name == first else difference(scores, means, i, over)
            cells[row.name].append(_cell(row, column, members, estimate(scores[i], means[:, i]), gain))
        compared += [
            Gain(a, b, column, len(members), difference(scores, means, at[a], at[b]))
            for a, b in compare
            if a in at and b in at
        ]
    return Table(
        rows=[row.name for row in measurement.rows],
        columns=list(every),
        by=columns.name,
        scorer=scorer,
        problems=len(columns.labels),
        seed=seed,
        resamples=resamples,
        backends=measurement.backends,
        fingerprints=measurement.fingerprints,
        cells=[cell for of in cells.values() for cell in of],
        compared=compared,
        missing={row.name: row.missing for row in measurement.rows if row.missing is not None},
        failing=[Failing(row.name, fault, count) for row in rows for fault, count in row.faults],
        shares=measurement.shares,
        notes=notes,
        computed=measurement.computed,
        found=measurement.found,
        seconds=measurement.seconds,
        scores={row.name: row.score for row in rows},
        column_of=columns.labels,
        numeric=columns.numeric,
        about=about,
        parts={part: {row.name: row.parts[part] for row in rows} for part in parts},
    )


def _cell(row: Measured, column: str, members: Array, score: Estimate, gain: Estimate | None) -> Cell:
    calls, tokens, price = (float(mean) for mean in row.cost[members].mean(axis=0))
    seconds = row.seconds[members]
    known = seconds[~np.isnan(seconds)]
    return Cell(
        row.name,
        column,
        len(members),
        int(row.failed[members].sum()),
        score,
        gain,
        calls,
        tokens,
        price,
        float(known.mean()) if known.size else None,
    )


def _parts(rows: Sequence[Measured], scorer: str, columns: Columns) -> dict[str, Array]:
    """Of each part the problems that have it; parts that none has are left out."""
    found: dict[str, Array] = {}
    for part in rows[0].parts if rows else ():
        if part in columns.members:
            raise ProblemError(f"a column of problems and a part of the score are both called {part!r}")
        there = np.stack([~np.isnan(row.parts[part]) for row in rows])  # (R, n)
        if not (there == there[0]).all():
            i = int((there != there[0]).any(axis=0).argmax())
            raise ContractError(
                f"the scorer {scorer} gave {part!r} of problem {i} in some rows and not in others: whether a"
                " problem has a part must not depend on the output"
            )
        if there.any():
            found[part] = np.flatnonzero(there[0])
    return found
