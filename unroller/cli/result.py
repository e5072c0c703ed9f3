"""A finished run on paper: the output first, then what each step cost, what failed, and where the files are.

Works on a problem and its events, so a run that has just ended and one read from a journal look the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text as Line

from unroller.cli.picture_files import half_blocks, pictures_of
from unroller.cli.terminal import line, path_link
from unroller.cli.words import (
    Told,
    charged,
    fault_words,
    measured_words,
    output_of,
    took,
    total_cost,
    value_words,
)
from unroller.cost import Cost
from unroller.events import Event, Measured, Output
from unroller.faults import Fault
from unroller.problem import Problem
from unroller.values import Answer, CameraPose, Text, Value, pose_errors
from unroller.workspace import Entry


def show_run(
    console: Console,
    problem: Problem,
    events: Sequence[Event],
    steps: bool = True,
    faults: bool = True,
    limit: float | None = None,
) -> None:
    """Print the output; with `steps` the cost of each step, with `faults` what went wrong in words.

    limit: the budget's seconds, shown beside what was taken where that is more.
    """
    entry = output_of(events)
    if entry is None:
        ended = bool(events) and isinstance(events[-1], Output)
        words = "No output: decoding failed." if ended else "Not finished: it can be resumed."
        console.print(Line(words, "bold yellow"))
    else:
        show_output(console, problem, entry.value, [e for e in events if isinstance(e, Entry)])
    if steps:
        console.print()
        console.print(cost_table(events, limit))
    failed = [event for event in events if isinstance(event, Fault)]
    if failed and faults:
        console.print()
        told = Told()
        table = Table.grid(padding=(0, 2))
        for fault in failed:
            label, words = Line("fault", "bold yellow"), Line(fault_words(told(fault)))
            if console.is_terminal:  # what is too long goes on beneath itself
                table.add_row(label, words)
            else:
                console.print(Line.assemble(label, "  ", words), soft_wrap=True)
        if console.is_terminal:
            console.print(table)


def show_output(console: Console, problem: Problem, output: Value, context: Sequence[Entry]) -> None:
    """Print an output in the way that suits its type."""
    if isinstance(output, CameraPose):
        _show_pose(console, problem, output, context)
    elif isinstance(output, Answer):
        _show_answer(console, problem, output)
    elif isinstance(output, Text):
        console.print(line(output.text))
    else:
        console.print(Line(value_words(output), "bold"))
        _show_pictures(console, output)


# ------------------------------------------------------------------------------------------------ poses


def true_pose(problem: Problem) -> CameraPose | None:
    """The pose in `problem.metadata["truth"]["pose"]`, six numbers, where there is one."""
    truth = problem.metadata.get("truth")
    numbers = cast("dict[str, Any]", truth).get("pose") if isinstance(truth, dict) else None
    try:
        x, y, z, a, b, c = (float(v) for v in cast("Sequence[Any]", numbers))
        return CameraPose((x, y, z), (a, b, c))
    except (TypeError, ValueError):  # a ValueCheckError is one too
        return None


def pose_error(problem: Problem, output: Any) -> dict[str, float | None] | None:
    """Errors of an estimated pose in degrees where the truth is known: {"rotation", "direction"}.

    direction is None where the estimate says that none can be seen.
    """
    truth = true_pose(problem)
    if truth is None or not isinstance(output, CameraPose):
        return None
    rotation, direction = pose_errors(output, truth)
    unseen = output.scale == "none" or math.hypot(*truth.translation) == 0
    return {"rotation": rotation, "direction": None if unseen else direction}


def _show_pose(console: Console, problem: Problem, pose: CameraPose, context: Sequence[Entry]) -> None:
    sentence = _motion_in(context)
    if sentence is not None:
        console.print(line(sentence[:1].upper() + sentence[1:].rstrip(".") + ".", "bold"))
    scale = {"metric": "in metres", "unit": "up to scale", "none": "a pure rotation"}
    facts = [scale.get(pose.scale, "in an unknown unit")]
    if pose.inliers is not None and pose.matches is not None:
        facts.append(f"{pose.inliers} of {pose.matches} matches are inliers")
    elif pose.inliers is not None:
        facts.append(f"{pose.inliers} inliers")
    if pose.confidence is not None:
        facts.append(f"confidence {pose.confidence:.2f}")
    console.print(Line(pose.campose, "cyan"), soft_wrap=True)
    console.print(Line(" · ".join(facts), "dim"))
    if pose.note:
        console.print(line(pose.note, "yellow"))
    truth = true_pose(problem)
    if truth is not None:
        console.print()
        console.print(_beside(pose, truth))
        error = pose_error(problem, pose)
        assert error is not None
        direction = error["direction"]
        shown = "no direction to compare" if direction is None else f"direction {direction:.2f}°"
        console.print(Line(f"off by  rotation {error['rotation']:.2f}° · {shown}"))


def _beside(pose: CameraPose, truth: CameraPose) -> Table:
    """Estimate and truth, in rows. Translation in its unit, rotation in degrees about each axis."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    table.add_column("")
    for heading in ("right", "down", "forward", "turn x°", "turn y°", "turn z°"):
        table.add_column(heading, justify="right")
    length = math.hypot(*truth.translation)
    called, moved_by = "truth", truth.translation
    if pose.scale == "unit" and length > 0:  # two photos show a direction: compare that with a direction
        called, moved_by = "truth, scaled", tuple(v / length for v in truth.translation)
    for name, translation, each in (("estimate", pose.translation, pose), (called, moved_by, truth)):
        moved = [f"{v + 0.0:.3f}" for v in translation]
        turned = [f"{math.degrees(v) + 0.0:.2f}" for v in each.rotation]
        table.add_row(name, *moved, *turned)
    return table


def _motion_in(context: Sequence[Entry]) -> str | None:
    """The newest text of kind "motion" in the context."""
    for entry in reversed(context):
        if entry.kind is Text and entry.value.kind == "motion":
            return str(entry.value.text)
    return None


# ---------------------------------------------------------------------------------------- other outputs


def _show_answer(console: Console, problem: Problem, answer: Answer) -> None:
    from unroller.showing import true_answer

    true = true_answer(problem)
    told = "" if true is None else " (right)" if true == answer.text else f" (the truth is {true})"
    console.print(line(answer.text, "bold").append(told, "green" if true == answer.text else "yellow"))
    if answer.probabilities is None:
        return
    table = Table.grid(padding=(0, 2))
    for i, (choice, p) in enumerate(zip(answer.choices, answer.probabilities, strict=True)):
        style = "bold green" if i == answer.choice else ""
        bar = Line("█" * round(24 * p) or "▏", style or "dim")
        table.add_row(line(choice, style), Line(f"{p:6.1%}", style), bar)
    console.print(Padding(table, (0, 0, 0, 2)))


def _show_pictures(console: Console, output: Value) -> None:
    """Small pictures on a terminal that has the colours for it."""
    if not console.is_terminal or console.color_system != "truecolor":
        return
    pictures = list(pictures_of(output))
    if not pictures:
        return
    across = min(len(pictures), 3)
    columns = max(8, min(console.width // across - 1, (48, 36, 26)[across - 1]))
    table = Table.grid(padding=(0, 1))
    for i in range(0, len(pictures), across):
        row = pictures[i : i + across]
        table.add_row(*(half_blocks(pixels, columns) for _, pixels in row))
        if any(name for name, _ in row):
            table.add_row(*(line(name.removeprefix("-"), "dim") for name, _ in row))
    console.print(table)


# ------------------------------------------------------------------------------------------------ costs


def cost_table(events: Sequence[Event], limit: float | None = None) -> Table:
    """What each step was charged and how long it took. `limit`: see `show_run`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    table.add_column("step", justify="right")
    table.add_column("call", style="bold")
    table.add_column("wrote")
    table.add_column("charged", justify="right")
    table.add_column("took", justify="right")
    for event in events:
        if isinstance(event, Entry):
            table.add_row(str(event.step + 1), *_cells(event))
        elif isinstance(event, Measured):
            how = "memo" if event.hit else took(event.seconds)
            wrote = f"probe = {measured_words(event)}"
            table.add_row(str(event.step + 1), line(event.name), wrote, charged(event.cost), how)
        elif isinstance(event, Fault):
            what = Line("refused" if event.phase == "refused" else "failed", "yellow")
            step = "ψ" if event.phase == "decode" else str(event.step + 1)
            cost = "" if event.charged == (0, 0, 0.0) else charged(Cost(*event.charged))
            table.add_row(step, line(event.action), what, cost, took(event.seconds))
        elif isinstance(event, Output) and event.entry is not None:
            table.add_row("ψ", *_cells(event.entry))
    last = events[-1] if events else None
    seconds = ""
    if isinstance(last, Output):
        # Seconds are looked at between steps, and the decoder always runs: a run can take more.
        over = limit is not None and last.seconds > limit
        seconds = f"{last.seconds:.2g} s of {limit:g} s" if over else took(last.seconds)
    table.add_section()
    table.add_row("", "in all", "", charged(total_cost(events)), seconds, style="bold")
    return table


def _cells(entry: Entry) -> tuple[Any, ...]:
    how = Line("memo", "cyan") if entry.hit else took(entry.seconds)
    return line(entry.action), line(entry.kind.__name__), charged(entry.cost), how


def show_files(console: Console, files: Sequence[tuple[str, Path]]) -> None:
    """Where things are, one a line: `report   runs/…/report.html`."""
    width = max((len(name) for name, _ in files), default=0)
    for name, path in files:
        shown = Line.assemble((f"{name:<{width}}  ", "dim"), path_link(path))
        console.print(shown, soft_wrap=True)
