"""A run as it happens: a tree that grows on a terminal, plain lines anywhere else.

with watching(problem, "classical · schedule") as hear:
    for event in executor.stream(problem):
        hear(event)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock, Timer
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.text import Text as Line
from rich.tree import Tree

from unroller import progress
from unroller.cli.terminal import is_live, line, stderr
from unroller.cli.words import (
    Told,
    charged,
    fault_reason,
    fault_words,
    measured_words,
    title,
    took,
    value_words,
)
from unroller.decide import Decision
from unroller.events import Event, Measured, Output
from unroller.faults import Fault
from unroller.problem import Problem
from unroller.workspace import Entry

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

LONG = 1.0
"""Seconds after which a log is told of a call that has not come back."""


class _Row:
    """One call in the tree: waiting, then made, found or failed."""

    def __init__(self, label: str, action: str, draw: int = 0, what: str = "") -> None:
        self.label = label
        self.action = action
        self.draw = draw
        self.what = what
        self.began = monotonic()
        self.entry: Entry | None = None
        self.fault: Fault | None = None
        self.measured: Measured | None = None
        self.steps: tuple[int, int] | None = None

    @property
    def open(self) -> bool:
        return self.entry is None and self.fault is None and self.measured is None


class Unrolling:
    """What has been heard of one run so far, as a rich tree."""

    def __init__(self, problem: Problem, subtitle: str = "") -> None:
        self.heading = title(problem)
        self.subtitle = subtitle
        self.task = problem.task
        self.rows: list[_Row] = []
        self.ended = False
        self._told = Told()

    def hear(self, event: Event) -> None:
        """Take in what happened."""
        if isinstance(event, Decision):
            self._decided(event)
        elif isinstance(event, Entry):
            row = self._waiting(event.action, event.draw) or self._row(event.step, event.action)
            row.entry = event
        elif isinstance(event, Measured):
            row = self._row(event.step, event.name)
            row.measured = event
        elif isinstance(event, Fault):
            row = self._waiting(event.action, 0) or self._row(event.step, event.action)
            row.fault = self._told(event)
        else:
            self._output(event)

    def step(self, done: int, of: int) -> None:
        """Take in how far the call is that has not come back, if there is only one."""
        waiting = [row for row in self.rows if row.open]
        if len(waiting) == 1:
            waiting[0].steps = done, of

    def _decided(self, decision: Decision) -> None:
        if not decision.calls:
            self.rows.append(_Row("ψ", self.task, what="decode"))
        for i, call in enumerate(decision.calls):
            label = f"{decision.step + 1}{chr(97 + i % 26) if len(decision.calls) > 1 else ''}"
            self.rows.append(_Row(label, call.action, call.draw, str(call)))

    def _output(self, output: Output) -> None:
        self.ended = True
        if output.entry is not None:
            row = next((r for r in reversed(self.rows) if r.what == "decode" and r.open), None)
            row = row or self._row(None, output.entry.action)
            row.entry = output.entry

    def _waiting(self, action: str, draw: int) -> _Row | None:
        """The call that this event answers: by name and draw, by name, or by the call's own words."""
        waiting = [row for row in self.rows if row.open]
        exact = [row for row in waiting if row.action == action and row.draw == draw]
        near = [row for row in waiting if action in (row.action, row.what)]
        return next(iter(exact or near), None)

    def _row(self, step: int | None, action: str) -> _Row:
        row = _Row("ψ" if step is None else f"{step + 1}", action)
        self.rows.append(row)
        return row

    # ------------------------------------------------------------------------------------- to look at

    def tree(self) -> Tree:
        """The tree as of now; spinners turn with the clock."""
        heading = Line.assemble((self.heading, "bold"), (f"   {self.subtitle}", "dim"))
        heading.no_wrap, heading.overflow = True, "ellipsis"
        tree = Tree(heading, guide_style="dim")
        names = max((len(row.action) for row in self.rows), default=0)
        labels = max((len(row.label) for row in self.rows), default=1)
        costs = max((len(charged(row.entry.cost)) for row in self.rows if row.entry), default=0)
        for row in self.rows:
            branch = tree.add(_shown(row, labels, min(names, 32), costs, self.ended))
            if row.fault is not None:
                branch.add(line(fault_reason(row.fault), "yellow"))
        return tree


def _shown(row: _Row, labels: int, names: int, costs: int, ended: bool) -> Line:
    label, name = row.label.ljust(labels), row.action.ljust(names)
    if row.entry is not None:
        mark, style = ("=", "cyan") if row.entry.hit else ("✓", "green")
        how = "memo" if row.entry.hit else took(row.entry.seconds)
        rest = [
            (f"{how:>7}  ", "dim"),
            (f"{charged(row.entry.cost):<{costs}}  ", "magenta"),
            (value_words(row.entry.value), ""),
        ]
    elif row.measured is not None:
        mark, style = "?", "blue"
        how = "memo" if row.measured.hit else took(row.measured.seconds)
        rest = [(f"{how:>7}  ", "dim"), (f"probe {measured_words(row.measured)}", "blue")]
    elif row.fault is not None:
        refused = row.fault.phase == "refused"
        mark, style = ("–", "yellow") if refused else ("✗", "bold yellow")
        rest = [(f"{took(row.fault.seconds):>7}", "dim")] if not refused else [("refused", "yellow")]
    elif ended:
        mark, style, rest = "·", "dim", []
    else:
        passed = monotonic() - row.began
        mark, style = _FRAMES[int(passed * 12) % len(_FRAMES)], "cyan"
        rest = [(f"{passed:5.1f} s  ", "dim")] if passed >= 1 else []
        if row.steps is not None:
            rest.append(("step {} of {}".format(*row.steps), "cyan"))
    shown = Line(no_wrap=True, overflow="ellipsis")
    shown.append(f"{label} ", "dim").append(f"{mark} ", style).append(f"{name}  ", "bold")
    for text, how_shown in rest:
        shown.append(text, how_shown)
    return shown


class PlainLines:
    """Events as lines for a log: no colours, nothing redrawn, one line a call when it has come back.

    A call that takes longer than LONG is announced (`step 1: depth_estimate …`), from a thread of its own.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._told = Told()
        self._begun: Timer | None = None
        self._lock = Lock()

    def hear(self, event: Event) -> None:
        """Write what happened."""
        self.close()
        if isinstance(event, Decision):
            self._begun = Timer(LONG, self._announce, [event])
            self._begun.daemon = True
            self._begun.start()
        elif isinstance(event, Fault):
            self._write(fault_words(self._told(event)))
        elif (words := _plain(event)) is not None:
            self._write(words)

    def close(self) -> None:
        """What was under way has come back, or was cut short: announce it no more."""
        with self._lock:
            if self._begun is not None:
                self._begun.cancel()
            self._begun = None

    def _announce(self, decision: Decision) -> None:
        called = ", ".join(str(call) for call in decision.calls)
        with self._lock:
            if self._begun is not None:
                self._write(f"step {decision.step + 1}: {called} …" if called else "decode …")


def _plain(event: Entry | Measured | Output) -> str | None:
    if isinstance(event, Entry):
        how = "from the memo" if event.hit else took(event.seconds)
        words = value_words(event.value)
        return f"step {event.step + 1}: {event.action} wrote {words} ({charged(event.cost)}, {how})"
    if isinstance(event, Measured):
        return f"step {event.step + 1}: probe {event.name} = {measured_words(event)}"
    return None if event.entry is None else f"output: {value_words(event.entry.value)}"


@contextmanager
def watching(
    problem: Problem, subtitle: str = "", console: Console | None = None
) -> Generator[Callable[[Event], None]]:
    """Show a run while it runs. Gives a function to tell events to."""
    console = console or stderr()
    if not is_live(console):
        lines = PlainLines(lambda words: console.print(line(words), soft_wrap=True))
        try:
            yield lines.hear
        finally:
            lines.close()
        return
    unrolling = Unrolling(problem, subtitle)
    with (
        progress.heard(unrolling.step),
        Live(
            get_renderable=unrolling.tree, console=console, refresh_per_second=12, vertical_overflow="visible"
        ),
    ):
        yield unrolling.hear
