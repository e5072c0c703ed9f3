"""`unroller …` in this process, in a folder of its own: fast, and with real journals."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from unroller.cli import main

TOYS = Path(__file__).with_name("toys.py")
UNROLLER = Path(sys.executable).with_name("unroller")


@dataclass
class Said:
    """What a command ended with and printed."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder: empty, and nobody's colours or width."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "UNROLLER_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def unroller(capsys):
    """Call the command line in this process: `unroller("run", "--task", "pose", "a.png")`."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments], standalone_mode=False)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def toy(unroller):
    """The same, with the toys in use."""

    def call(command, *arguments):
        words = command.split()
        leading = list(takewhile(lambda word: not word.startswith("-"), words))
        return unroller(*leading, "--use", TOYS, *words[len(leading) :], *arguments)

    return call


@pytest.fixture
def script():
    """Call the installed script as a shell does, for what only a process of its own shows."""

    def call(*arguments, **options):
        command = [str(UNROLLER), *map(str, arguments)]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, **options)

    return call


@pytest.fixture
def picture(folder):
    """Write a small picture of noise: `picture("a.png", seed=1)`."""

    def make(name, seed=0, size=(24, 16)):
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Pillow.fromarray(pixels).save(folder / name)
        return folder / name

    return make
