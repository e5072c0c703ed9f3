"""The tree of a run, fed by hand."""

from __future__ import annotations

import time
from io import StringIO

from rich.console import Console

from unroller import Call, Cost, Decision, Entry, Problem, Text, progress
from unroller.cli import live
from unroller.cli.live import PlainLines, Unrolling
from unroller.events import Measured, Output
from unroller.faults import Fault


def shown(unrolling, width=90):
    console = Console(width=width, record=True, file=StringIO(), force_terminal=True)
    console.print(unrolling.tree())
    return console.export_text()


def until(happened, seconds=20.0):
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.005)


def test_side_by_side_calls_find_their_own_results():
    tree = Unrolling(Problem(task="riddle", question="why"), "toys · list")
    tree.hear(Decision((Call("guess"), Call("guess", None, 1))))
    tree.hear(Entry(b"1", "guess", Text("second"), draw=1, cost=Cost(1)))
    assert "1a ⠋ guess" in shown(tree) and "1b ✓ guess" in shown(tree)
    tree.hear(Entry(b"0", "guess", Text("first"), hit=True))
    assert "1a = guess     memo  free    first" in shown(tree)


def test_a_fault_says_why_beneath_its_call():
    tree = Unrolling(Problem(task="riddle"))
    tree.hear(Decision((Call("guess"),)))
    tree.hear(Fault("guess", "InputError", "too [dark]\x07", 0, attempts=3))
    assert "InputError after 3 attempts: too [dark]\\x07" in shown(tree)


def test_how_far_a_call_is_is_shown_until_it_comes_back():
    tree = Unrolling(Problem(task="riddle"))
    tree.hear(Decision())
    with progress.heard(tree.step):
        progress.tell(3, 16)
    assert "step 3 of 16" in shown(tree)
    progress.tell(4, 16)  # nobody listens any more
    assert "step 3 of 16" in shown(tree)
    tree.hear(Output(Entry(b"", "riddle", Text("42"))))
    assert "of 16" not in shown(tree)


def test_of_calls_side_by_side_nobody_knows_whose_steps_they_are():
    tree = Unrolling(Problem(task="riddle"))
    tree.hear(Decision((Call("guess"), Call("guess", None, 1))))
    tree.step(1, 2)
    assert "of 2" not in shown(tree)


def test_probes_and_the_output():
    tree = Unrolling(Problem(task="riddle"))
    tree.hear(Measured(b"", "answer_entropy", 0.25))
    tree.hear(Decision())
    tree.hear(Output(Entry(b"", "riddle", Text("42"))))
    assert "probe 0.25" in shown(tree) and "ψ ✓ riddle" in shown(tree)


def test_long_words_are_cut_at_the_edge():
    tree = Unrolling(Problem(task="riddle", question="why " * 100))
    tree.hear(Decision((Call("guess"),)))
    tree.hear(Entry(b"", "guess", Text("word " * 500)))
    assert all(len(line) <= 60 for line in shown(tree, 60).splitlines())


def logged(*events):
    lines = []
    log = PlainLines(lines.append)
    for event in events:
        log.hear(event)
    log.close()
    return lines


def test_plain_lines_tell_the_same_for_a_log_one_line_a_call():
    assert logged(Decision((Call("guess"),))) == []
    entry = Entry(b"", "guess", Text("a\nb"), seconds=0.25)
    assert logged(Decision((Call("guess"),)), entry) == ["step 1: guess wrote a b (free, 250 ms)"]
    refusal = Fault("guess", "NotAllowed", "too dear", 1, phase="refused")
    assert logged(refusal) == ["step 2: guess was not called: too dear"]
    assert logged(Output(None)) == []


def test_a_log_is_told_of_a_call_that_takes_long(monkeypatch):
    monkeypatch.setattr(live, "LONG", 0.01)
    lines = []
    log = PlainLines(lines.append)
    log.hear(Decision((Call("guess"), Call("guess", None, 1))))
    until(lambda: lines)
    log.hear(Entry(b"", "guess", Text("a"), seconds=0.2))
    assert lines == ["step 1: guess, guess#1 …", "step 1: guess wrote a (free, 200 ms)"]
    log.hear(Decision((), 1))
    until(lambda: len(lines) == 3)
    log.close()
    assert lines[-1] == "decode …"


def test_the_same_message_is_told_once():
    """Three calls that fail alike, and the decoder after them."""
    long = "these photos share too little; take them closer together"
    faults = [Fault("guess", "InputError", long, step) for step in (0, 1, 1)]
    last = Fault("riddle", "InputError", long, 2, phase="decode")
    lines = logged(*faults, last)
    assert [line.count(long) for line in lines] == [1, 0, 0, 0]
    assert lines[1].endswith("as in step 1") and lines[3].endswith("as in step 1")
    tree = Unrolling(Problem(task="riddle"))
    for fault in faults:
        tree.hear(fault)
    assert shown(tree, 200).count(long) == 1 and "as in step 1" in shown(tree, 200)
