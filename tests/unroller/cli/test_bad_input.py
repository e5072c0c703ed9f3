"""What is wrong is said in one line, with the right exit code, and nothing is left behind."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest


def refused(said, code, *words):
    assert said.code == code, said.err
    (error,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in error
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


def a_png_header_of(width, height):
    """The bytes of a PNG that claims to be of this size and holds no pixels."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("empty.png", lambda good: b"", "empty (0 bytes)"),
        ("text.jpg", lambda good: b"hello", "not an image"),
        ("cut.png", lambda good: good[: len(good) // 2], "truncated"),
        ("huge.png", lambda good: a_png_header_of(30_000, 30_000), "scale it down"),
    ],
)
def test_a_picture_that_cannot_be_read(toy, picture, folder, name, make, words):
    (folder / name).write_bytes(make(picture("good.png").read_bytes()))
    refused(toy("run --task echo", name), 2, name, words)


def test_a_picture_that_is_not_there(toy):
    refused(toy("run --task echo nope.png"), 2, "nope.png: no such file")


def test_one_photo_where_two_are_needed(unroller, picture):
    refused(unroller("run", "--task", "pose", picture("a.png")), 2, "two photos")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--task ridle", ["no decoder for the task 'ridle'", "Did you mean 'riddle'?"]),
        ("--task riddle --policy think_onse", ["no policy is called", "Did you mean 'think_once'?"]),
        ("--task riddle --planner nobody", ["no planner is called 'nobody'"]),
        ("--task riddle --backend clasical", ["no backend is called", "'classical'"]),
        ("--task riddle --calls thinc", ["no action is called 'thinc'", "'think'"]),
        ("--task riddle --calls think#x", ["--calls"]),
        ("--task riddle --policy schedule --calls think", ["choose one of"]),
        ("--task riddle --budget model_cals=3", ["limits are model_calls"]),
        ("--task riddle --budget model_calls=-1", ["--budget"]),
        ("--task riddle --budget tokens=many", ["'many' is no number"]),
        ("--task riddle --budget seconds=nan", ["--budget"]),
        ("--task riddle --policy think_once --budget model_calls=0", ["does not cover the decoder"]),
        ("--task riddle --intrinsics 1,2,3", ["fx,fy,cx,cy"]),
        ("--task riddle --intrinsics 0,1,2,3", ["focal length"]),
        ("--task riddle --choices a,a", ["there twice"]),
        ("--task Riddle!", ["no task name"]),
        ("--task riddle --problem-option a=1", ["goes with --problem"]),
        ("--problem nowhere:1", ["no problem", "nowhere"]),
        ("--problem corridor:one", ["as rooms:7"]),
        ("--problem corridor:1 --problem-option colour=red", ["colour"]),
        ("--problem corridor:1 -q why", ["leave out --question"]),
        ("--seed 99999999999999999999999 --task riddle", ["64 bits"]),
        ("--task riddle --frobnicate", ["--frobnicate", "unroller run --help"]),
        ("", ["--task", "riddle"]),
    ],
)
def test_bad_options(toy, options, words):
    refused(toy(f"run {options}"), 2, *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--task spatial -q why --backend classical", ["AnswerScorer"]),
        ("--task riddle --use nowhere:thing", ["nowhere", "cannot be imported"]),
        ("--task riddle --use missing.py", ["no such file"]),
        ("--problem corridor:1 --problem-option broken=true", ["made a str"]),
    ],
)
def test_what_is_missing_or_broken_ends_with_3(toy, arguments, words):
    refused(toy(f"run {arguments}"), 3, *words)


def test_use_names_what_it_takes(unroller, folder):
    (folder / "odd.py").write_text("thing = 3\n")
    refused(unroller("run", "--task", "x", "--use", "odd.py:thing"), 3, "--use takes a primitive")
    refused(unroller("run", "--task", "x", "--use", "odd.py"), 3, "nothing that can be used")


def test_a_file_hidden_by_an_installed_module_is_explained(unroller, folder):
    (folder / "colorsys.py").write_text("from toys import think\n")
    said = unroller("run", "--task", "x", "--use", "colorsys:think")
    refused(said, 3, "hidden by the installed module", "rename it")


def test_a_folder_that_cannot_be_written_ends_with_4(toy, folder):
    (folder / "file").write_text("")
    command = "run --task riddle -q why --calls= --out"
    refused(toy(command, "file"), 4, "is a file")
    refused(toy(command, "file/below"), 4, "cannot write a journal")


def test_a_folder_that_is_taken_ends_with_4_and_says_how_to_go_on(toy):
    assert toy("run --task riddle -q why --calls= --out kept").code == 0
    said = toy("run --task riddle -q why --calls= --out kept")
    refused(said, 4, "already holds a run", "unroller runs resume kept")


def test_a_memo_that_cannot_be_opened_ends_with_4(toy, folder):
    (folder / "file").write_text("")
    refused(toy("run --task riddle -q why --memo file/memo"), 4, "memo")


def test_with_json_an_error_is_one_document_too(toy):
    said = toy("run --task ridle --json")
    assert said.json["error"] == "UnknownName"
    assert said.json["exit"] == said.code == 2
    assert toy("run --json --frobnicate").json["exit"] == 2


def test_something_unexpected_is_one_sentence(toy, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("at the core")

    monkeypatch.setattr("unroller.cli.setup.executor_of", broken)
    refused(toy("run --task riddle -q why"), 70, "ZeroDivisionError: at the core", "UNROLLER_DEBUG=1")


def test_a_traceback_can_be_asked_for(script, folder):
    import os

    said = script("run", "--task", "nobody", env=os.environ | {"UNROLLER_DEBUG": "1"})
    assert said.returncode == 2
    assert "Traceback" in said.stderr and "error: no decoder" in said.stderr
