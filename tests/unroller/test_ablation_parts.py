"""Scores that have several sides: each is a column, over the problems that have it."""

from __future__ import annotations

import csv
import io
import math

import pytest

from unroller import Answer, Cost, Executor, Problem, Text, decoder, primitive
from unroller.ablation import ablate
from unroller.ablation.rows import possible_rows
from unroller.capabilities import TextGenerator
from unroller.faults import ContractError, InputError, ProblemError

PROBLEMS = [
    Problem(task="quiz", question="a or b?", metadata={"number": i, "hops": i % 2 + 1, "column": i % 3})
    for i in range(12)
]


@primitive(reads=("metadata",), writes=Text)
def fails_at_five(view):
    if view.metadata["number"] == 5:
        raise InputError("not five")
    return Text("well said")


@primitive(reads=("metadata",), writes=Text, needs=TextGenerator)
def needs_a_writer(view, writer):
    raise AssertionError("nobody writes here")


@decoder(task="quiz", reads=("question", Text), writes=Answer, cost=Cost(model_calls=1))
def quiz(view):
    return Answer("well" if view.all(Text) else "badly")


def sides(problem, output):
    """Everything by the answer; `odd` only of odd problems."""
    well = None if output is None else float(output.text == "well")
    odd = well if problem.metadata["number"] % 2 else None
    if output is None and problem.metadata["number"] % 2:
        odd = 0.0
    return {"score": 0.5 + 0.5 * (well or 0.0), "plain": well or 0.0, "odd": odd}


sides.parts = ("plain", "odd")
sides.about = "Measured by hand"

ROWS = {"direct": [], "told": ["fails_at_five"]}


def executor():
    return Executor(backend=[], primitives=[fails_at_five, needs_a_writer], decoders=[quiz], policy=[])


def test_each_part_of_a_score_is_a_column_over_the_problems_that_have_it():
    table = ablate(executor(), PROBLEMS, ROWS, scorer=sides, compare=[("told", "direct")])
    assert table.columns == ["0", "1", "2", "all", "plain", "odd"] and table.about == "Measured by hand"
    assert [table.cell("told", c).n for c in table.columns] == [4, 4, 4, 12, 12, 6]
    assert table.cell("direct").score.mean == 0.5 and table.cell("direct", "plain").score.mean == 0
    told = table.cell("told", "odd")
    assert told.score.mean == pytest.approx(5 / 6) and told.failed == 1, "what failed counts as nothing"
    assert table.cell("told", "plain").score.mean == pytest.approx(11 / 12)
    assert told.gain == table.gain("told", column="odd") and told.gain.mean == pytest.approx(5 / 6)
    assert {(pair.column, pair.n) for pair in table.compared} >= {("plain", 12), ("odd", 6)}
    assert "plain" in str(table) and "plain" in table.to_csv()


def test_parts_are_written_one_line_a_problem_and_row(tmp_path):
    table = ablate(executor(), PROBLEMS, ROWS, scorer=sides)
    names = [path.name for path in table.write(tmp_path, plots=False)]
    assert names == ["table.csv", "table.json", "scores.csv", "parts.csv"]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "parts.csv").read_text())))
    assert len(lines) == 24 and lines[1] == {
        "problem": "1", "column": "1", "row": "direct", "plain": "0.0", "odd": "0.0",
    }  # fmt: skip
    assert lines[0]["odd"] == "", "problem 0 has no such side"


def test_parts_are_drawn_as_bars(tmp_path):
    pytest.importorskip("matplotlib")
    names = [path.name for path in ablate(executor(), PROBLEMS, ROWS, scorer=sides).write(tmp_path)]
    assert names[4:] == ["accuracy.png", "accuracy.svg", "parts.png", "parts.svg", "gain.png", "gain.svg"]


def scorer(parts=("plain",), **given):
    def marked(problem, output):
        return {name: value(problem, output) if callable(value) else value for name, value in given.items()}

    marked.parts = parts
    return marked


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        (scorer(score=1, other=1), ContractError, "its names are 'score' and plain"),
        (scorer(score=1), ContractError, "its names are"),
        (scorer(score=2, plain=1), ContractError, "a score is a number from 0 to 1"),
        (scorer(score=1, plain=math.inf), ContractError, "give a finite number"),
        (scorer(score=1, plain="much"), ContractError, "give a finite number"),
        (scorer(("0",), score=1, **{"0": 1}), ProblemError, "both called '0'"),
        (
            scorer(score=1, plain=lambda _, out: 1.0 if out.text == "well" else None),
            ContractError,
            "must not depend on the output",
        ),
    ],
)
def test_a_scorer_that_breaks_its_word_says_whose_fault_it_is(wrong, error, words):
    with pytest.raises(error, match=words):
        ablate(executor(), PROBLEMS[:5], ROWS, scorer=wrong)


def test_a_scorer_that_says_it_has_parts_and_gives_a_number_is_told_so():
    def bare(problem, output):
        return 0.5

    bare.parts = ("plain",)
    with pytest.raises(ContractError, match="give a mapping of 'score' and plain"):
        ablate(executor(), PROBLEMS, ROWS, scorer=bare)


def test_a_part_that_no_problem_has_is_no_column():
    table = ablate(executor(), PROBLEMS, ROWS, scorer=scorer(("plain", "rare"), score=1, plain=1, rare=None))
    assert table.columns[-2:] == ["all", "plain"]


def test_the_usual_scorer_is_the_one_called_as_the_task():
    with pytest.raises(ProblemError, match="no truth"):  # there is no scorer `quiz`: choice
        ablate(executor(), PROBLEMS, ROWS)
    from unroller.ablation.scoring import usual_scorer

    assert usual_scorer([Problem(task="pose", images=[])]) == "pose"
    assert usual_scorer([Problem(task="pose", images=[]), PROBLEMS[0]]) == "choice"


def test_proposed_rows_that_nobody_can_carry_out_say_so():
    rows = possible_rows(executor(), {"direct": [], "told": ["fails_at_five"], "wrote": ["needs_a_writer"]})
    table = ablate(executor(), PROBLEMS, rows, scorer=sides)
    assert list(table.missing) == ["wrote"] and "TextGenerator" in table.missing["wrote"]
    assert possible_rows(executor(), {"x": ["nobody"]})["x"].missing == "no action is called 'nobody'"
