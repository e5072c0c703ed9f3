"""`unroller ablate`: from options to a table, files and one document."""

from __future__ import annotations

import ast
import csv
import io
import re
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from policies import SchedulePolicy
from unroller import registry

TOYS = Path(__file__).with_name("ablation_toys.py")


@pytest.fixture(autouse=True)
def scorers(monkeypatch):
    """Our scorers by name, as pyproject.toml registers them: an installation may be older than it."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    declared = project["project"]["entry-points"]["unroller.scorers"]
    points = {name: EntryPoint(name, path, "unroller.scorers") for name, path in declared.items()}
    real = registry.registered
    monkeypatch.setattr(registry, "registered", lambda group: points if group == "scorers" else real(group))


@pytest.fixture
def ablate(unroller):
    """`unroller ablate` on twelve of the toys' questions."""

    def call(words="", *more, problem="questions", n=12):
        given = ["ablate", "--use", TOYS, "--problem", problem, "--n", n]
        return unroller(*given, *words.split(), *more)

    return call


def cell(document, row, column="all"):
    return next(c for c in document["cells"] if (c["row"], c["column"]) == (row, column))


def test_rows_by_columns_on_stdout(ablate):
    said = ablate("--row direct --row think=hint --row both=hint,mumble --column hops")
    assert said.code == 0, said.err
    assert re.search(r"hops 1 +hops 2 +hops 3 +all", said.out) and re.search(r"n 4 +n 4 +n 4 +n 12", said.out)
    assert re.search(r"direct .*50\.0", said.out) and re.search(r"think .*83\.3", said.out)
    assert re.search(r"83\.3  \+33\.3", said.out) and re.search(r"\[[+-]\d+\.\d, \+\d+\.\d\]", said.out)
    assert "gains over direct with 95 % paired bootstrap intervals" in said.out
    assert "hinting" in said.err and "hinting" not in said.out


def test_the_default_rows_are_those_of_the_policy(ablate):
    document = ablate("--policy hint_then_mumble --json").json
    assert document["rows"] == ["direct", "hint", "mumble", "hint + mumble"]
    alone = ablate("--json").json  # a task without a schedule
    assert alone["rows"] == ["direct"]


def test_json_is_exactly_one_document(ablate):
    said = ablate("--row direct --row hint=hint --json --seed 8")
    assert said.code == said.json["exit"] == 0
    assert cell(said.json, "hint")["gain"]["mean"] == pytest.approx(
        cell(said.json, "hint")["score"]["mean"] - 0.5
    )
    assert cell(said.json, "hint")["tokens"] == 5
    assert 0 < said.json["computed"] <= 36 == said.json["computed"] + said.json["found"]
    assert said.json["problems"] == 12 and said.json["seed"] == 8


def test_csv_is_the_table_and_nothing_else(ablate):
    said = ablate("--row direct --row hint=hint --csv --column hops")
    lines = list(csv.DictReader(io.StringIO(said.out)))
    assert [(x["row"], x["column"]) for x in lines][:5] == [
        *(("direct", c) for c in ("1", "2", "3", "all")),
        ("hint", "1"),
    ]


def test_controls_by_a_word_or_for_calls_of_their_own(ablate):
    rows = "--row direct --row think=hint --row shuffled --row own=shuffled:hint,mumble"
    rows += " --row blank --row sightless=blank:hint --row text_only --row blind=text_only:hint"
    document = ablate(f"{rows} --json", n=20).json
    assert document["rows"] == [
        "direct", "think", "shuffled", "own", "blank", "sightless", "text_only", "blind",
    ]  # fmt: skip
    calls = {row: cell(document, row)["model_calls"] for row in document["rows"]}
    assert calls == dict(zip(document["rows"], (1, 2, 2, 2, 1, 2, 1, 2), strict=True))
    assert cell(document, "shuffled")["score"]["mean"] < cell(document, "think")["score"]["mean"]
    assert cell(document, "sightless")["gain"] == cell(document, "think")["gain"]


def test_a_row_may_be_what_a_policy_chooses(ablate, tmp_path):
    SchedulePolicy({"quiz": [["hint"]]}, "hinting").save(tmp_path / "pi")
    rows = f"--row direct --row hint=hint --row saved=policy:{tmp_path / 'pi'} --row named=policy:direct"
    document = ablate(f"{rows} --row both=policy:{TOYS}:hint_then_mumble --json").json
    calls = {row: cell(document, row)["model_calls"] for row in document["rows"]}
    assert calls == {"direct": 1, "hint": 2, "saved": 2, "named": 1, "both": 2}
    assert cell(document, "saved")["gain"] == cell(document, "hint")["gain"]
    said = ablate("--row it=policy:nobody")
    assert said.code == 2 and "no policy is called 'nobody'" in said.err


def test_calls_without_a_name_are_called_what_they_are(ablate):
    document = ablate("--row direct --row hint,mumble --row hint#1 --compare hint,mumble,direct --json").json
    assert document["rows"] == ["direct", "hint,mumble", "hint#1"]
    assert [(g["row"], g["over"]) for g in document["compared"]] == [("hint,mumble", "direct")]


def test_files_and_plots_are_written(ablate):
    said = ablate("--row direct --row hint=hint --column hops --out kept")
    assert said.code == 0
    names = {path.name for path in Path("kept").iterdir()}
    assert {"table.csv", "table.json", "scores.csv", "accuracy.png", "gain.svg"} <= names
    assert "kept/accuracy.png" in said.out
    said = ablate("--row direct --out bare --no-plots --json")
    assert set(said.json["files"]) == {"table.csv", "table.json", "scores.csv"}


def test_pairs_contributions_and_faults_are_shown(ablate):
    said = ablate("--row direct --row t=hint,stumble --row hint=hint --compare hint,t --contributions t")
    assert said.code == 0
    assert re.search(r"hint over t +\+83\.3", said.out), "a failed call is a wrong answer"
    assert (
        "t: stumble failed 12 times: InputError: nothing [red]to see" in said.out and "\x1b" not in said.out
    )
    assert re.search(r"hint +12 +\+33\.3 +\+33\.3", said.out)
    said = ablate("--row direct --row t=hint,stumble --faults answer --json")
    assert (cell(said.json, "t")["failed"], cell(said.json, "t")["score"]["mean"]) == (
        12,
        pytest.approx(10 / 12),
    )


def test_a_scorer_by_path_and_by_name(ablate):
    document = ablate("--row direct --json --scorer", f"{TOYS}:half").json
    assert cell(document, "direct")["score"]["mean"] == 0.5 and document["scorer"] == "half"
    document = ablate("--row direct --json --scorer soft_choice").json
    assert cell(document, "direct")["score"]["mean"] == pytest.approx(0.5)


def test_a_set_that_offers_many_is_asked_once(ablate):
    said = ablate(
        "--seed 5 --row direct --json --problem-option levels=2 --column hops", problem="batches", n=4
    )
    assert said.code == 0, said.err
    assert ast.literal_eval(Path("asked.txt").read_text()) == ([5, 6, 7, 8], {"levels": 2})
    assert said.json["columns"] == ["1", "2", "all"]


def test_a_second_run_with_a_memo_repeats_nothing(ablate):
    words = "--row direct --row hint=hint --row shuffled --memo kept --json"
    first, second = ablate(words), ablate(words)
    assert first.json["computed"] > 0 and second.json["computed"] == 0
    assert second.json["cells"][0]["score"] == first.json["cells"][0]["score"]
    assert "hinting" not in second.err


def test_ctrl_c_ends_cleanly_and_the_memo_goes_on(ablate):
    words = "--row direct --row calls=interrupted --memo kept --json --out files"
    Path("interrupt").touch()
    said = ablate(words)
    assert said.code == 130 and said.out == ""
    assert "interrupted" in said.err and "the same command goes on from there" in said.err
    assert not Path("files").exists()
    Path("interrupt").unlink()
    said = ablate(words)
    fresh = ablate(words.replace("kept", "another"))
    assert 0 < said.json["computed"] < fresh.json["computed"], "what was finished before was kept"


def test_progress_is_told_after_a_second(ablate, monkeypatch):
    from unroller.cli import ablate as module

    monkeypatch.setattr(module, "PATIENCE", 0.0)
    said = ablate("--row direct", n=300)
    assert "measuring 300 problems …" in said.err
    monkeypatch.setattr(module, "PATIENCE", 60.0)
    assert ablate("--row direct").err == ""


def test_help_has_examples(unroller):
    said = unroller("ablate", "--help")
    assert said.code == 0
    assert (
        "Examples" in said.out and "unroller ablate --problem" in said.out and "NAME=shuffled:A,B" in said.out
    )
    assert re.search(r"│ ablate ", unroller("--help").out)


def test_nothing_but_failures_ends_with_1(ablate):
    said = ablate("--row stumble")
    assert said.code == 1 and re.search(r"stumble +0\.0", said.out)


def test_a_disk_that_cannot_be_written_does_not_lose_the_table(ablate):
    Path("taken").mkdir()
    (Path("taken") / "table.csv").mkdir()
    said = ablate("--row direct --out taken")
    assert said.code == 4 and "taken was not written" in said.err and re.search(r"direct +50\.0", said.out)


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("--row =hint", 2, ["--row '=hint'", "write NAME=CALLS"]),
        ("--row hint=", 2, ["--row 'hint='", "write NAME=CALLS"]),
        ("--row a=hint+", 2, ["--row 'a=hint+'", "write NAME=CALLS"]),
        ("--row a=hint#x", 2, ["write NAME=CALLS"]),
        ("--row a=hnt", 2, ["no action is called 'hnt'", "Did you mean 'hint'"]),
        ("--row shufled:hint", 2, ["no action is called 'shufled:hint'"]),
        ("--row direct --row direct", 2, ["two rows are called 'direct'"]),
        ("--row a=hint --row a=mumble", 2, ["two rows are called 'a'"]),
        ("--row direct --row shuffled", 2, ["say whose context"]),
        ("--row direct --compare direct", 2, ["--compare 'direct'", "write two rows"]),
        ("--row direct --compare direct,b", 2, ["no row is called 'b'"]),
        ("--row direct --contributions b", 2, ["no row is called 'b'"]),
        ("--row direct --scorer chioce", 2, ["no scorer is called 'chioce'", "Did you mean 'choice'"]),
        ("--row direct --scorer nowhere:at_all", 3, ["nowhere"]),
        ("--row direct --scorer pose", 3, ["scores camera poses", "this output is a Answer"]),
        ("--row direct --column hopes", 2, ["no metadata 'hopes'", "'hops'"]),
        ("--row direct --policy hint_then_mumble", 2, ["leave out one of them"]),
        ("--row direct --json --csv", 2, ["choose one of"]),
        ("--row direct --faults ignore", 2, ["--faults"]),
        ("--row direct --task quizz", 2, ["no decoder for the task 'quizz'", "'quiz'"]),
        ("--row direct --backend clasical", 2, ["no backend is called"]),
        ("--row direct --problem-option levels", 2, ["write it as name=value"]),
        ("--row direct --problem-option colour=red", 2, ["colour"]),
        ("--row direct --n 0", 2, ["--n"]),
    ],
)
def test_what_is_refused(ablate, words, code, told):
    said = ablate(words)
    assert said.code == code, said.err
    (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert all(word in error for word in told), error


@pytest.mark.parametrize(
    ("problem", "code", "told"),
    [
        ("nowhere", 2, "no problem is called 'nowhere'"),
        ("questions:3", 2, "name the set alone"),
        ("short", 3, "short.many made 11 of Problem for 12 seeds"),
        ("untrue", 2, 'metadata["truth"]["answer"]'),
    ],
)
def test_problem_sets_that_are_none(ablate, problem, code, told):
    said = ablate("--row direct", problem=problem)
    assert said.code == code and told in said.err


def test_a_scorer_that_gives_no_number(ablate):
    said = ablate("--row direct --json --scorer", f"{TOYS}:nothing")
    assert said.code == 3 and "the scorer nothing gave nan for problem 0 in the row 'direct'" in said.err
    assert said.json["error"] == "ContractError"


def test_no_problem_set_is_bad_usage(unroller):
    said = unroller("ablate", "--n", "3")
    assert said.code == 2 and "--problem" in said.err


def test_plots_without_matplotlib_are_refused_before_anything_is_measured(ablate, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = ablate("--row hint --out kept")
    assert said.code == 3 and "pip install 'unroller[plots]'" in said.err
    assert "hinting" not in said.err and not Path("kept").exists()
    assert ablate("--row hint --out kept --no-plots").code == 0


def test_a_folder_that_is_a_file(ablate):
    Path("kept").write_text("mine")
    said = ablate("--row direct --out kept")
    assert said.code == 2 and "kept is a file" in said.err and Path("kept").read_text() == "mine"
