"""`unroller run`: from options to an answer, a run folder, and one JSON document."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from unroller import Problem
from unroller.journal import read_log

TOYS = Path(__file__).with_name("toys.py")
UNROLLER = Path(sys.executable).with_name("unroller")


def test_an_answer_goes_to_stdout_and_the_steps_to_stderr(toy):
    said = toy("run --task riddle --policy think_once", "-q", "what is it?", "--choices", "left,right")
    assert said.code == 0
    assert "left" in said.out and "70.0%" in said.out
    assert "thought about what is it?" in said.err
    assert re.search(r"1\s+think\s+Text\s+free", said.out)
    assert re.search(r"ψ\s+riddle\s+Answer\s+1 call", said.out)


def test_the_run_folder_holds_journal_report_and_data(toy):
    toy("run --task riddle --policy think_once -q why")
    (kept,) = Path("runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-riddle-[0-9a-f]{4}", kept.name)
    assert {"journal.log", "command.json", "report.html", "run.json"} <= {p.name for p in kept.iterdir()}
    (run,) = read_log(kept).runs
    assert run.ended and run.problem.question == "why"


def test_json_is_exactly_one_document(toy):
    said = toy("run --task riddle --json --policy think_once -q why --out kept")
    document = said.json
    assert said.code == document["exit"] == 0
    assert document["output"]["text"] == "42"
    assert document["cost"]["model_calls"] == 1
    assert Path(document["files"]["report"]).exists()
    assert [event["type"] for event in document["events"]] == ["decision", "entry", "decision", "output"]


def test_a_pose_is_shown_beside_the_truth(toy):
    said = toy("run --problem corridor:7 --calls", "")
    assert "<campose>1.000000 0.000000 0.000000 0.000000 0.100000 0.000000</campose>" in said.out
    assert "90 of 100 matches are inliers" in said.out
    assert re.search(r"truth, scaled\s+1\.000", said.out)  # the estimate has no length
    assert "rotation 0.00° · direction 0.00°" in said.out


def test_what_a_plug_in_prints_does_not_mix_with_the_result(toy):
    said = toy("run --task riddle --json -q why --calls talk")
    assert said.json["output"] is not None and "talking" in said.err


def test_a_pose_error_is_in_the_json(toy):
    said = toy("run --json --problem corridor:7 --calls", "")
    assert said.json["pose_error_degrees"] == {"rotation": pytest.approx(0), "direction": pytest.approx(0)}


def test_pictures_are_written(toy, picture):
    said = toy("run --task echo --calls", "", picture("a.png"), "--out", "kept")
    assert said.code == 0
    assert Problem(task="echo", images="kept/output/output.png").images[0].size == (24, 16)


def test_calls_run_in_order_side_by_side_and_as_draws(toy):
    said = toy("run --task riddle -q why --json --calls", "think,nap+nap#1")
    decisions = [e for e in said.json["events"] if e["type"] == "decision" and e["calls"]]
    assert [[c["action"], c["draw"]] for d in decisions for c in d["calls"]] == [
        ["think", 0],
        ["nap", 0],
        ["nap", 1],
    ]


def test_every_option_reaches_the_problem(toy, picture):
    toy(
        "run --task riddle --calls= --out kept --seed 5 --look left,up -q which? -p paint",
        *("--choice", "one, two", "--choice", "three", "--intrinsics", "9,9,4,4"),
        picture("a.png"),
    )
    problem = read_log("kept").runs[0].problem
    assert (problem.seed, problem.look, problem.prompt) == (5, ("left", "up"), "paint")
    assert problem.choices == ("one, two", "three")
    assert [camera.fx for camera in problem.intrinsics if camera] == [9]


def test_faults_are_told_in_plain_words_and_the_run_goes_on(toy):
    said = toy("run --task riddle -q why --policy brood")
    assert said.code == 0
    assert "step 2: stumble failed (InputError): the photos show [red]nothing[/red]" in said.out
    assert "the policy chose 'unheard_of'" in said.out


def test_a_policy_that_decides_nonsense_is_a_fault(toy):
    said = toy("run --task riddle -q why --policy nonsense")
    assert said.code == 0
    assert "the policy nonsense could not decide (PolicyError)" in said.out


def test_no_output_ends_with_1(toy):
    said = toy("run --task hopeless -q why --calls", "")
    assert said.code == 1
    assert "No output" in said.out
    assert "the decoder hopeless failed (InputError): nobody knows" in said.out


def test_strict_stops_at_the_first_fault_and_keeps_the_journal(toy):
    said = toy("run --task riddle -q why --strict --out kept --calls", "think,stumble")
    assert said.code == 1
    assert "error: stumble: InputError" in said.err
    assert "what was finished is kept; go on with: unroller runs resume kept" in said.err
    assert len([e for e in read_log("kept").runs[0].events if type(e).__name__ == "Entry"]) == 1


def test_the_budget_holds(toy):
    said = toy("run --task riddle -q why --json --budget steps=1,model_calls=1 --policy brood")
    assert sum(e["type"] == "decision" and bool(e["calls"]) for e in said.json["events"]) == 1


def test_a_memo_is_shared_by_runs(toy):
    first = toy("run --task riddle -q why --memo memo --json --policy think_once")
    again = toy("run --task riddle -q why --memo memo --json --policy think_once")
    assert first.json["spent"]["hits"] == 0
    assert again.json["spent"]["hits"] == 2
    assert again.json["cost"] == first.json["cost"]


def test_what_a_model_wrote_cannot_act_on_the_terminal(toy):
    said = toy("run --task riddle --policy think_once", "-q", "what [bold]is[/bold] it? \u202egnp.exe")
    assert "what [bold]is[/bold] it? \\u202egnp.exe" in said.err
    assert "\u202e" not in said.err + said.out


def test_what_would_take_minutes_is_not_measured_unasked(toy, monkeypatch):
    monkeypatch.setattr("unroller.cli.folder.PATIENCE", -1.0)
    command = "run --task riddle -q why --calls think --out"
    assert "2 decodings would take about" in toy(command, "one").err
    assert "decodings" not in toy(command, "two", "--contributions").err


def test_open_shows_the_report(toy, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    toy("run --task riddle -q why --open --out kept --calls", "")
    assert opened == [Path("kept/report.html").resolve().as_uri()]


def test_a_report_that_cannot_be_written_does_not_lose_the_answer(toy, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unroller.report.write_report", full)
    said = toy("run --task riddle -q why --out kept --calls", "")
    assert said.code == 0 and "42" in said.out
    assert "kept/report.html was not written" in said.err and "No space left" in said.err


def test_what_a_fault_said_is_said_once(toy):
    said = toy("run --task riddle -q why --calls stumble,stumble#1,stumble#2")
    for text in (said.out, said.err):
        assert text.count("the photos show") == 1
        assert text.count("as in step 1") == 2 or text.count("was not called") == 2


def test_lines_for_a_pipe_have_no_blanks_at_their_end_and_come_once_a_step(toy):
    said = toy("run --task riddle -q why --policy brood")
    faults = [line for line in said.out.splitlines() if line.startswith("fault ")]
    assert faults and all(line == line.rstrip() for line in faults)
    assert "think …" not in said.err and said.err.count("think wrote") == 2


def test_where_both_streams_go_to_one_file_faults_are_told_once(folder):
    command = [str(UNROLLER), "run", "--use", str(TOYS), "--task", "riddle", "-q", "why"]
    command += ["--calls", "stumble"]
    with open("log.txt", "w") as log:
        assert subprocess.run(command, stdout=log, stderr=log, check=False).returncode == 0
    assert Path("log.txt").read_text().count("the photos show") == 1


def test_more_seconds_than_the_budget_are_shown(toy):
    said = toy("run --task riddle -q why --budget seconds=0.5 --out kept --calls nap,nap#1")
    assert re.search(r"in all +1 call +(0\.[6-9]|[1-9]\.)\d? s of 0\.5 s", said.out)
    assert "s of 0.5 s" in toy("runs show kept").out
    assert " s of " not in toy("run --task riddle -q why --budget seconds=60 --calls think").out


def test_a_policy_a_planner_and_a_backend_by_path(unroller, folder):
    (folder / "my_paths.py").write_text(
        TOYS.read_text() + "class Steps:\n"
        "    name = 'steps'\n"
        "    def plan(self, problem, *_, **__):\n"
        "        from unroller import Plan\n"
        "        return Plan.chain('think')\n"
        "class Weak:\n"
        "    name, fingerprint, provides = 'weak', '1', ()\n"
    )
    asked = ["run", "--use", "my_paths:think", "--use", "my_paths:riddle", "--task", "riddle", "-q", "why"]
    for given in ("my_paths:think_once", "my_paths.py:think_once"):
        said = unroller(*asked, "--policy", given)
        assert said.code == 0 and re.search(r"1 +think ", said.out), said.err
    said = unroller(*asked, "--backend", "my_paths:Weak", "--calls", "think", "--json", "--out", "kept")
    assert said.code == 0 and said.json["run"]["backends"] == ["weak"]
    assert unroller(*asked, "--planner", "my_paths:think").code == 3
    assert unroller(*asked, "--policy", "my_paths:nothing").code == 3
    said = unroller(*asked, "--policy", "my_paths:Thinc")
    assert said.code == 3 and "my_paths:Thinc" in said.err


def test_a_path_in_a_folder_is_not_imported_unless_it_is_named_again(unroller, folder):
    (folder / "my_named.py").write_text(TOYS.read_text())
    asked = ["run", "--use", "my_named:think", "--use", "my_named:riddle", "--task", "riddle", "-q", "why"]
    assert unroller(*asked, "--policy", "my_named:think_once", "--out", "kept").code == 0
    said = unroller("runs", "explain", "kept", "--use", "my_named:think", "--use", "my_named:riddle")
    assert said.code == 2 and "--use my_named:think_once" in said.err
    again = ["--use", "my_named:think", "--use", "my_named:riddle", "--use", "my_named:think_once"]
    said = unroller("runs", "explain", "kept", *again)
    assert said.code == 0 and "step 1: think" in said.out


def test_a_problem_that_takes_long_to_make_is_announced(toy, monkeypatch):
    from unroller.cli import run

    monkeypatch.setattr(run, "PATIENCE", 0.25)
    assert "making the problem slow:3 …" in toy("run --problem slow:3 --calls=").err
    assert "making the problem" not in toy("run --problem corridor:3 --calls=").err


@pytest.mark.parametrize("given", ["1 2 3", "a b c d e f", "0 0 0 9 0 0", "nan 0 0 0 0 0"])
def test_a_pose_that_is_none_is_refused(toy, given):
    said = toy("run --task riddle -q why --calls=", "--pose", given)
    assert said.code == 2 and "--pose" in said.err


def test_a_pose_reaches_the_problem(toy):
    toy("run --task riddle -q why --calls= --out kept", "--pose", "-0.3 0 1e-1, 0 0.1 0")
    pose = read_log("kept").runs[0].problem.pose
    assert (pose.translation, pose.rotation, pose.scale) == ((-0.3, 0, 0.1), (0, 0.1, 0), "relative")


@pytest.mark.parametrize(("true", "told"), [("42", "42 (right)"), ("left", "42 (the truth is left)")])
def test_the_true_answer_is_told_where_it_is_known(toy, true, told):
    asked = f"run --problem corridor:7 --task riddle --problem-option answer={true}"
    assert told in toy(asked).out
    document = toy(asked + " --json").json
    assert document["true_answer"] == true and document["right"] is (true == "42")
