"""Help, lazy commands, doctor, primitives, check, and what only a real process shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from unroller.cli import commands
from unroller.cli.exits import MEANING

TOYS = Path(__file__).with_name("toys.py")
UNROLLER = Path(sys.executable).with_name("unroller")


def test_version(script):
    said = script("--version")
    assert (said.returncode, said.stderr) == (0, "")
    assert re.fullmatch(r"unroller \d+\.\d+\.\d+\n", said.stdout)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from unroller.cli import main; main(['--help'], standalone_mode=False);"
        "print([m for m in ('torch', 'cv2', 'transformers', 'diffusers') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_help_lists_the_commands_and_the_exit_codes(unroller):
    said = unroller("--help")
    assert said.code == 0
    for command in ("run", "runs", "primitives", "check", "doctor"):
        assert re.search(rf"│ {command} ", said.out)
    for code in MEANING:
        assert re.search(rf"^ +{code.value} ", said.out, re.M)


@pytest.mark.parametrize(
    "command",
    ["run", "ablate", "primitives", "check", "doctor", "runs"]
    + [f"runs {c}" for c in ("list", "show", "explain", "report", "resume")],
)
def test_every_help_has_an_example(unroller, command):
    said = unroller(*command.split(), "--help")
    assert said.code == 0
    assert "Example" in said.out and f"unroller {command}" in said.out


def test_an_unknown_command_is_met_with_the_nearest(unroller):
    said = unroller("rnu")
    assert said.code == 2 and "Did you mean 'run'?" in said.err


def test_python_dash_m(folder):
    command = [sys.executable, "-m", "unroller", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("unroller ")


def test_help_and_docs_agree_on_the_exit_codes():
    docs = (Path(__file__).parents[3] / "docs" / "command_line.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", docs, re.M))
    assert list(rows) == [str(code.value) for code in MEANING]
    by_check = [[code for code, words in rows.items() if "check" in words]]
    by_check += [[str(int(code)) for code, words in MEANING.items() if "check" in words]]
    assert by_check == [["3"], ["3"]]


def test_a_shell_can_complete_names(script):
    words = "unroller run --task no"
    asked = {"_UNROLLER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
    assert script(env=os.environ | asked).stdout.split() == ["novel_view"]


# ----------------------------------------------------------------------------- commands of other rooms


@pytest.fixture
def rooms(folder, monkeypatch):
    """Commands that another package registered: a function, a typer.Typer, one that is broken."""
    (folder / "room_commands.py").write_text(
        '"""Commands."""\n'
        "import typer\n"
        "def greet(name: str, loud: bool = False) -> None:\n"
        '    """Greet somebody [politely].\n\n    At length."""\n'
        "    print('HELLO' if loud else 'hello', name)\n"
        "many = typer.Typer(help='Several things.')\n"
        "@many.command()\n"
        "def one() -> None: print('one')\n"
        "@many.command()\n"
        "def two() -> None: print('two')\n"
    )
    (folder / "room_broken.py").write_text('"""Broken."""\nraise RuntimeError("no license")\n')
    monkeypatch.syspath_prepend(str(folder))
    paths = {"greet": "room_commands:greet", "many": "room_commands:many", "bad": "room_broken:bad"}
    points = {n: EntryPoint(n, p, "unroller.commands") for n, p in paths.items()}
    monkeypatch.setattr(commands, "registered", lambda group: points if group == "commands" else {})
    monkeypatch.setattr("unroller.registry.registered", lambda group: points)
    yield
    sys.modules.pop("room_commands", None)
    from unroller.registry import load

    load.cache_clear()


def test_commands_of_rooms_are_listed_without_importing_them(unroller, rooms):
    said = unroller("--help")
    assert said.code == 0
    assert "Greet somebody [politely]." in said.out and "Several things." in said.out
    assert "bad" in said.out
    assert "room_commands" not in sys.modules


def test_commands_of_rooms_run(unroller, rooms):
    assert unroller("greet", "Ada", "--loud").out == "HELLO Ada\n"
    assert unroller("many", "two").out == "two\n"


def test_a_broken_command_ends_with_3(unroller, rooms):
    said = unroller("bad")
    assert said.code == 3 and "RuntimeError: no license" in said.err


# -------------------------------------------------------------------------- primitives, check, doctor


def test_primitives_says_what_is_needed_and_who_provides_it(toy):
    held = toy("primitives --json").json
    rows = {row["name"]: row for row in held["primitives"]}
    assert rows["think"]["reads"] == ["question"] and rows["think"]["writes"] == "Text"
    assert rows["camera_pose_estimate"]["needs"] == {"PoseEstimator": ["classical", "nano"]}
    assert "think_once" in held["policies"] and "corridor" in held["problems"]
    said = toy("primitives")
    assert re.search(r"camera_pose_estimate.*PoseEstimator\s+classical", said.out)


def test_one_primitive_in_full(toy):
    said = toy("primitives think")
    assert "Thinks about the question." in said.out
    assert toy("primitives thin").code == 2


def test_a_broken_plug_in_is_shown_with_its_reason(unroller, monkeypatch):
    from unroller import registry

    points = {"wreck": EntryPoint("wreck", "no_such_package:wreck", "unroller.primitives")}
    real = registry.registered
    for place in ("unroller.registry", "unroller.cli.doctor"):
        patched = lambda group: points if group == "primitives" else real(group)  # noqa: E731
        monkeypatch.setattr(f"{place}.registered", patched)
    said = unroller("primitives")
    assert said.code == 0 and "no_such_package" in said.out
    assert said.out.count("wreck") == 2  # in "the plug-in 'wreck' …", and in its path
    assert unroller("primitives", "wreck").code == 3
    said = unroller("doctor", "--no-devices", "--json")
    assert said.code == 1
    assert [c["name"] for c in said.json["checks"] if c["state"] == "problem"] == ["primitives: wreck"]


def test_doctor_finds_this_machine_well(unroller):
    said = unroller("doctor", "--no-devices", "--json")
    assert said.code == 0, said.out
    names = {check["name"] for check in said.json["checks"]}
    assert {"python", "unroller", "torch", "runs", "primitives"} <= names
    assert "Everything needed is there." in unroller("doctor", "--no-devices").out


def test_doctor_names_a_folder_that_would_shadow_ours(unroller, folder):
    (folder / "policies").mkdir()
    said = unroller("doctor", "--no-devices")
    assert said.code == 1 and "rename policies" in said.out


def test_doctor_does_not_wait_for_a_driver_that_hangs(unroller, monkeypatch):
    monkeypatch.setattr("unroller.cli.doctor._DEVICES", "import time; time.sleep(60)")
    said = unroller("doctor", "--timeout", "1", "--json")
    assert said.code == 1
    assert "did not start within 1 s" in said.out


def test_check_a_registered_name_and_a_path(unroller, folder):
    (folder / "mine.py").write_text(
        "from unroller import Text, primitive\n"
        "@primitive(reads=('question',), writes=Text)\n"
        "def wrong(view):\n    return 3\n"
    )
    said = unroller("check", "describe_motion", "mine:wrong")
    assert said.code == 3
    assert "✓ primitives.pose:describe_motion" in said.out and "✗ mine:wrong" in said.out
    fine, wrong = unroller("check", "describe_motion", "mine:wrong", "--json").json
    assert fine["ok"] and not wrong["ok"]
    assert unroller("check", "describe_motion").code == 0
    assert fine["of"] == "primitive describe_motion" and fine["target"] == "primitives.pose:describe_motion"
    assert {"level", "subject", "found", "mend"} <= wrong["lines"][0].keys()
    assert unroller("check", "describe_motio").code == 2
    for module in ("mine", "mine.py", "unroller.check"):
        said = unroller("check", module)
        assert said.code == 2 and "write package.module:object" in said.err
    assert unroller("check", "mine.py:wrong").code == 3


def test_check_with_what_a_module_brings(unroller):
    said = unroller("check", "think", "brood", "riddle", "--use", TOYS, "--json")
    assert [one["of"] for one in said.json] == ["primitive think", "policy brood", "decoder riddle"]
    assert unroller("check", "depth_estimate", "--backend", "clasical").code == 3
    assert unroller("check", "depth_estimate", "--backend", "classical").code == 0


# -------------------------------------------------------------------------------- terminals and pipes


def test_a_broken_pipe_is_silent():
    command = f"{UNROLLER} --help | true; {UNROLLER} primitives --json | head -c 1"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert said.stderr == ""


def test_a_terminal_without_unicode_is_no_reason_to_fail(script):
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    said = script("run", "--use", TOYS, "--task", "riddle", "-q", "why°", "--calls=", "--json", env=env)
    assert said.returncode == 0 and '"why\\u00b0"' in said.stdout


def test_on_a_terminal_the_tree_grows_and_pieces_are_coloured(folder):
    """A real pseudo-terminal: spinner while a call runs, marks when it has ended."""
    ours, theirs = pytest.importorskip("pty").openpty()
    command = [str(UNROLLER), "run", "--use", "my_toys:nap", "--use", "my_toys:riddle"]
    command += ["--task", "riddle", "-q", "why", "--calls", "nap"]
    (folder / "my_toys.py").write_text(TOYS.read_text())  # found in the current folder
    env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert process.wait(20) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search("1 [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] nap", text)
    assert re.search(r"├── 1 ✓ nap\s+(\d+ ms|\d\.\d s)  free +slept", text)
    assert re.search(r"└── ψ ✓ riddle\s+.*1 call  42", text)
    assert b"\x1b[" in seen
