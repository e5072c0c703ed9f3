"""`unroller doctor`: whether this machine can run unroller, and the command that mends what cannot.

torch is looked at in a process of its own with a time limit: a driver that hangs does not hang the doctor.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from unroller.cli.exits import Exit
from unroller.cli.terminal import line, print_json, stdout, waiting
from unroller.registry import GROUPS, ROOMS, load_all, registered, shadowed

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

EXAMPLE = """[bold]Examples[/bold]
  unroller doctor
  unroller doctor --no-devices     [dim]do not start torch to look for a GPU[/dim]
  unroller doctor --json

Ends with 0 when everything needed is there, and with 1 when something is not."""

State = Literal["ok", "missing", "problem"]
"""missing: a part that nothing needs until it is used."""

LEAST_FREE = 1 << 30

_DEVICES = """
import json, torch
found = {"torch": torch.__version__, "cuda": [], "mps": False}
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        found["cuda"].append({"name": p.name, "memory": p.total_memory})
mps = getattr(torch.backends, "mps", None)
found["mps"] = bool(mps and mps.is_available())
print(json.dumps(found))
"""


class Check(msgspec.Struct):
    """One thing looked at. mend: the command, or the sentence, that puts it right."""

    about: str
    name: str
    state: State
    words: str
    mend: str = ""


@app.command(epilog=EXAMPLE)
def doctor(
    devices: Annotated[bool, typer.Option(help="Start torch to look for GPUs.")] = True,
    timeout: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="How long torch may take to start.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check this machine: versions, devices, optional parts, plug-ins, folders."""
    with waiting("looking around …"):
        checks = [*machine(), *libraries(), *plug_ins(), *folders()]
    if devices:
        with waiting("starting torch …"):
            checks += list(devices_found(timeout))
    problems = [check for check in checks if check.state == "problem"]
    if as_json:
        print_json({"ok": not problems, "checks": [msgspec.to_builtins(check) for check in checks]})
    else:
        show(stdout(), checks)
    if problems:
        raise typer.Exit(Exit.NO_OUTPUT)


# ---------------------------------------------------------------------------------------- what to look at


def machine() -> Iterator[Check]:
    """Python, the operating system, the terminal."""
    new_enough = sys.version_info >= (3, 11)
    yield Check(
        "machine",
        "python",
        "ok" if new_enough else "problem",
        f"{platform.python_version()} at {sys.executable}",
        "" if new_enough else "unroller needs Python 3.11 or newer",
    )
    yield Check("machine", "system", "ok", f"{platform.platform()}, {os.cpu_count()} cores")
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "")
    if encoding != "utf8":
        mend = "export PYTHONUTF8=1"
        yield Check("machine", "terminal", "missing", f"prints {encoding or '?'}, not UTF-8", mend)


def libraries() -> Iterator[Check]:
    """unroller and what it depends on; what is optional, extra by extra."""
    try:
        found = distribution("unroller")
    except PackageNotFoundError:
        yield Check(
            "libraries",
            "unroller",
            "problem",
            "is not installed, so nothing of it is registered",
            f"pip install -e {Path(__file__).resolve().parents[2]}",
        )
        return
    where = Path(__file__).resolve().parents[2]
    yield Check("libraries", "unroller", "ok", f"{found.version} at {where}")
    extras: dict[str, list[tuple[str, str | None]]] = {}
    for name, wanted, extra in requirements(found):
        have = _version(name)
        if extra == "all":  # the others together
            continue
        if extra is not None:
            extras.setdefault(extra, []).append((name, have))
        elif have is None:
            mend = f'pip install "{name}{wanted}"'
            yield Check("libraries", name, "problem", f"is not installed (needs {wanted})", mend)
        elif not _new_enough(have, wanted):
            mend = f'pip install --upgrade "{name}{wanted}"'
            yield Check("libraries", name, "problem", f"{have} is too old (needs {wanted})", mend)
        else:
            yield Check("libraries", name, "ok", have)
    for extra, parts in extras.items():
        absent = [name for name, have in parts if have is None]
        if not absent:
            words = ", ".join(f"{name} {have}" for name, have in parts)
            yield Check("optional", extra, "ok", words)
        else:
            mend = f'pip install "unroller[{extra}]"'
            yield Check("optional", extra, "missing", f"without {', '.join(absent)}", mend)


def requirements(found: Distribution) -> Iterator[tuple[str, str, str | None]]:
    """(library, versions wanted, extra or None) of everything a distribution asks for but itself."""
    for text in found.requires or ():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)", text)
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", text)
        if match is None or match[1].lower() == found.name.lower():
            continue
        yield match[1], match[2].strip(" ()"), extra[1] if extra else None


def plug_ins() -> Iterator[Check]:
    """Everything registered can be imported; no folder stands in for one of our rooms."""
    for group in GROUPS:
        if not registered(group):
            continue
        found, broken = load_all(group)
        if found:
            yield Check("plug-ins", group, "ok", ", ".join(found))
        for name, why in broken.items():
            point = registered(group)[name]
            package = point.dist.name if point.dist is not None else "its package"
            mend = f"repair or uninstall {package}; unroller check {name} says more"
            yield Check("plug-ins", f"{group}: {name}", "problem", why, mend)
    home = Path(__file__).resolve().parents[2]
    for room in ROOMS:
        if (sentence := shadowed(room)) is not None:
            yield Check("plug-ins", room, "problem", sentence, "rename the folder")
        here = next((p for p in (Path(room), Path(f"{room}.py")) if p.exists()), None)
        if here is not None and here.resolve().parent != home:
            words = f"{here.resolve()} would stand in for unroller's {room!r} in scripts run here"
            yield Check("plug-ins", room, "problem", words, f"rename {here}")


def folders() -> Iterator[Check]:
    """Where runs and temporary files go can be written, and has room."""
    for name, folder in (("runs", Path("runs")), ("temporary files", Path(tempfile.gettempdir()))):
        existing = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
            free = shutil.disk_usage(existing).free
        except OSError as error:
            mend = "start in another folder, or name one with --out"
            words = f"{existing} cannot be written: {error.strerror}"
            yield Check("folders", name, "problem", words, mend)
            continue
        state: State = "ok" if free >= LEAST_FREE else "problem"
        mend = "" if state == "ok" else "make room: journals and pictures need it"
        yield Check("folders", name, state, f"{folder.resolve()}, {_size(free)} free", mend)


def devices_found(timeout: float) -> Iterator[Check]:
    """What torch can compute on."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _DEVICES], capture_output=True, text=True, timeout=timeout, check=False
        )
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        words = f"did not start within {timeout:g} s"
        yield Check("devices", "torch", "problem", words, "try --timeout 300; a driver may hang")
        return
    except (OSError, ValueError, IndexError):
        words = "cannot be started in this Python"
        yield Check("devices", "torch", "problem", words, 'python -c "import torch" shows why')
        return
    for i, gpu in enumerate(found["cuda"]):
        yield Check("devices", f"cuda:{i}", "ok", f"{gpu['name']}, {_size(gpu['memory'])}")
    if found["mps"]:
        yield Check("devices", "mps", "ok", "Apple GPU")
    if not found["cuda"] and not found["mps"]:
        yield Check("devices", "cpu", "ok", f"torch {found['torch']} sees no GPU: models run on the CPU")
        if shutil.which("nvidia-smi"):
            words = "an NVIDIA driver is here, but this torch cannot use it"
            mend = "install a CUDA build: https://pytorch.org/get-started/locally"
            yield Check("devices", "cuda", "missing", words, mend)


# ------------------------------------------------------------------------------------------- to look at


def show(console: Console, checks: list[Check]) -> None:
    """The checks by what they are about, problems with what mends them."""
    marks = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "problem": ("✗", "bold red")}
    width = min(24, max(len(check.name) for check in checks))
    for about in dict.fromkeys(check.about for check in checks):
        console.print(Line(about, "bold"))
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(min_width=width, no_wrap=True)
        table.add_column(overflow="fold")
        for check in (check for check in checks if check.about == about):
            mark, style = marks[check.state]
            words = line(check.words, "" if check.state == "ok" else style)
            table.add_row(Line(f"  {mark}", style), line(check.name), words)
            if check.mend:
                table.add_row("", "", Line.assemble(("→ ", "cyan"), line(check.mend, "cyan")))
        console.print(table)
    count = sum(check.state == "problem" for check in checks)
    verdict = Line("Everything needed is there.", "green")
    if count:
        verdict = Line(f"{count} problem{'s' if count > 1 else ''}: see ✗ above.", "bold red")
    console.print()
    console.print(verdict)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _new_enough(have: str, wanted: str) -> bool:
    """Whether a version fits ">=2.6" and the like. What cannot be compared is taken to fit."""
    return all(_numbers(have) >= _numbers(low) for low in re.findall(r">=\s*([0-9.]+)", wanted))


def _numbers(text: str) -> tuple[int, ...]:
    """Of 2.13.0+cpu: (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def _size(count: float) -> str:
    return f"{count / (1 << 30):.0f} GB" if count >= (10 << 30) else f"{count / (1 << 30):.1f} GB"
