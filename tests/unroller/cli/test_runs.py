"""`unroller runs`: journals, listed, shown, explained and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unroller import Executor, Problem
from unroller.cli.used import used
from unroller.journal import read_log
from unroller.workspace import Entry

TOYS = Path(__file__).with_name("toys.py")
UNROLLER = Path(sys.executable).with_name("unroller")


@pytest.fixture
def kept(toy):
    """A run that has ended, in runs/first."""
    toy("run --task riddle --policy think_once -q why --out runs/first")
    return Path("runs/first")


def test_list(unroller, toy, kept):
    toy("run --task hopeless -q how --calls= --out runs/second")
    said = unroller("runs", "list")
    assert said.code == 0
    first, second = said.out.splitlines()[-2:]
    assert "first" in first and "riddle: why" in first and "done" in first and "42" in first
    assert "second" in second and "1 fault " in second and "no output" in second
    assert [row["state"] for row in unroller("runs", "list", "--json").json] == ["done", "no output"]


def test_list_of_nothing(unroller):
    said = unroller("runs", "list")
    assert said.code == 0 and "there are no runs" in said.err
    assert unroller("runs", "list", "--json").json == []


def test_a_damaged_journal_does_not_hide_the_others(unroller, kept):
    Path("runs/bad").mkdir()
    Path("runs/bad/journal.log").write_bytes(b"something else entirely")
    assert {row["state"] for row in unroller("runs", "list", "--json").json} == {"done", "damaged"}
    said = unroller("runs", "show", "bad")
    assert said.code == 4 and "no journal of this version" in said.err


def test_show_by_path_by_name_by_part_and_by_default(unroller, kept):
    shown = [unroller("runs", "show", *which) for which in (["runs/first"], ["first"], ["irs"], [])]
    assert all(said.code == 0 and "42" in said.out and "think" in said.out for said in shown)
    assert "runs/first/report.html" in shown[0].out


def test_show_as_json(unroller, kept):
    (document,) = unroller("runs", "show", "--json").json
    assert document["state"] == "done"
    assert [event["type"] for event in document["events"]] == ["decision", "entry", "decision", "output"]


def test_show_needs_no_plug_in(unroller, kept):
    """A journal is data: it is shown where the primitives of the run are not installed."""
    assert "thought about why" in unroller("runs", "show", "--json").out


def test_a_run_that_is_not_there(unroller):
    said = unroller("runs", "show", "nowhere")
    assert said.code == 4 and "nowhere" in said.err
    assert "there are no runs" in unroller("runs", "show").err


def test_explain(toy, kept):
    said = toy("runs explain first")
    assert said.code == 0
    assert "step 1: think" in said.out and "Output: 42" in said.out and "Contribution" in said.out
    assert "Contribution" not in toy("runs explain first --no-contributions").out


def test_explain_writes_nothing_to_the_journal(toy, kept):
    before = (kept / "journal.log").read_bytes()
    toy("runs explain first")
    assert (kept / "journal.log").read_bytes() == before


def test_an_ended_run_is_not_resumed_and_nothing_is_written(toy, unroller, kept):
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    for command in ("first", ""):
        said = unroller("runs", "resume", *command.split())
        assert said.code == 0 and "nothing to resume" in said.err and said.out == ""
    assert "unroller runs show runs/first" in toy("runs resume first").err
    assert toy("runs resume first --json").json["exit"] == 0
    assert {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()} == before


def test_resume_takes_the_newest_that_has_not_ended(toy, kept):
    said = toy("run --task riddle -q why --strict --out runs/second --calls stumble")
    assert said.code == 1
    toy("run --task riddle -q why --calls= --out runs/third")
    assert "runs resume runs/second" in toy("runs resume").err
    assert "there are no runs" in toy("runs resume --root elsewhere").err


def test_a_report_is_written_again_from_the_journal(toy, kept):
    written = (kept / "run.json").read_text()
    journal = (kept / "journal.log").read_bytes()
    (kept / "report.html").unlink()
    (kept / "run.json").unlink()
    said = toy("runs report first")
    assert said.code == 0 and "runs/first/report.html" in said.out
    assert (kept / "report.html").exists() and (kept / "journal.log").read_bytes() == journal
    first, again = json.loads(written), json.loads((kept / "run.json").read_text())
    assert (again["events"], again["seconds"]) == (first["events"], first["seconds"])


def test_list_takes_its_folder_either_way(unroller, kept):
    for given in (["runs"], ["--root", "runs"], ["--root=runs", "runs"]):
        assert "first" in unroller("runs", "list", *given).out
    assert unroller("runs", "list", "elsewhere", "--root", "runs").code == 2


def test_a_journal_with_a_value_type_of_a_module(script, folder):
    """Read in processes of their own: in one that has imported the module, its type is known."""
    (folder / "smells.py").write_text(
        "from unroller import Answer, Value, decoder, primitive\n"
        "class Smell(Value, frozen=True, eq=False):\n"
        "    nose: str\n"
        "    def words(self): return f'it smells of {self.nose}'\n"
        "@primitive(reads=('question',), writes=Smell)\n"
        "def sniff(view): return Smell('smoke')\n"
        "@decoder(task='smelling', reads=(Smell,), writes=Answer)\n"
        "def smelling(view): return Answer(view.current(Smell)[-1].nose)\n"
    )
    asked = "run --use smells --task smelling -q what --calls sniff --out runs/one"
    assert script(*asked.split()).returncode == 0
    for command in ("show --json", "list", "show"):
        said = script("runs", *command.split(), "--use", "smells")
        assert said.returncode == 0 and "smo" in said.stdout, said.stderr
    assert script("runs", "explain", "--use", "smells").stdout.count("it smells of smoke") == 1
    assert '"nose": "smoke"' in script("runs", "show", "--json", "--use", "smells:Smell").stdout
    said = script("runs", "show")
    assert said.returncode == 0 and "Smell: this value type is not known here" in said.stderr
    assert "--use smells" in said.stderr
    said = script("runs", "list")
    assert said.returncode == 0 and "smoke" in said.stdout


def test_list_shows_a_journal_that_breaks_the_reader(unroller, kept, monkeypatch):
    def broken(_):
        raise ZeroDivisionError("at the core")

    monkeypatch.setattr("unroller.journal.read_log", broken)
    (row,) = unroller("runs", "list", "--json").json
    assert row["state"] == "damaged" and "at the core" in row["why"]


def test_a_journal_of_several_runs(toy, unroller):
    """What a script wrote with `executor.map`: each run can be shown, and all are resumed together."""
    toys = used([str(TOYS)])
    problems = [Problem(task="riddle", question=f"number {i}?") for i in range(3)]
    with Executor(primitives=toys.primitives, decoders=toys.decoders, policy=["think"], journal="kept") as ex:
        list(ex.map(problems))
    said = unroller("runs", "show", "kept")
    assert said.out.count("riddle: number") == 3 and "--run N" in said.out
    assert "thought about number 1?" in unroller("runs", "show", "kept", "--run", "1", "--json").out
    assert unroller("runs", "show", "kept", "--run", "7").code == 4
    assert "all 3 runs have ended" in toy("runs resume kept").err
    said = toy("runs report kept --json")
    assert said.code == 0 and len(said.json) == 3
    assert Path("kept/report-2.html").exists()
    journal = Path("kept/journal.log")
    journal.write_bytes(journal.read_bytes()[:-3])  # killed before the end of the last
    said = toy("runs resume kept")
    assert said.code == 0 and said.out.count("done") == 3
    assert "all 3 runs have ended" in toy("runs resume kept").err


def test_resume_does_not_import_what_a_folder_names(unroller, toy):
    """A folder somebody sent must not choose what code runs."""
    toy("run --task riddle --policy brood --strict -q why --out runs/first")
    said = unroller("runs", "resume", "first")
    assert said.code == 2
    assert f"was started with --use {TOYS}" in said.err and "brood" in said.err


def test_interrupt_and_resume(script, folder):
    """Ctrl-C keeps what was finished; resuming makes only the calls that were not."""
    command = [str(UNROLLER), "run", "--use", str(TOYS), "--task", "riddle", "-q", "why"]
    command += ["--calls", "nap,nap#1,nap#2,nap#3", "--out", "kept"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _until(lambda: Path("kept/journal.log").exists() and len(_entries("kept")) >= 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err and out == ""
    assert f"unroller runs resume kept --use {TOYS}" in err

    finished = _entries("kept")
    assert 1 <= len(finished) < 4
    said = script("runs", "resume", "kept", "--use", TOYS)
    assert said.returncode == 0 and "42" in said.stdout
    after = _entries("kept")
    assert len(after) == 4 and after[: len(finished)] == finished
    assert Path("kept/report.html").exists()


def _entries(folder):
    runs = read_log(folder).runs
    return [(e.id, e.started) for run in runs for e in run.events if isinstance(e, Entry)]


def _until(happened, seconds=20.0):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
