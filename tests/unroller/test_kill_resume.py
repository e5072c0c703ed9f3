"""Killed at any point, a run resumes, repeats no finished call, and ends as if nothing had happened."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from unroller import Entry
from unroller.events import Measured, Output
from unroller.faults import Fault
from unroller.journal import read_log

PROGRAM = Path(__file__).with_name("killed_map.py")
KILLS = 20


def start(folder):
    command = [sys.executable, PROGRAM, folder / "journal", folder / "computed", folder / "results.json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def results(folder):
    return json.loads((folder / "results.json").read_text())


def computed(folder):
    """The ids of all calls that were really made, in order, of all processes so far."""
    path = folder / "computed"
    return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []


def finished(folder):
    """The ids of all calls that the journal holds; every value can be read."""
    ids = set()
    if not (folder / "journal" / "journal.log").exists():
        return ids
    for run in read_log(folder / "journal").runs:
        for event in run.events:
            if isinstance(event, Output):
                event = event.entry
            if isinstance(event, Entry):
                assert event.value is not None
            if isinstance(event, (Entry, Measured, Fault)) and event.id:
                ids.add(event.id.hex())
    return ids


def kill_somewhere(process, folder, chance, most):
    """Kill the process in the middle of one of the next `most` calls of its map, or sometimes before the map
    begins; False if it has ended by itself."""
    if chance.random() < 0.15:
        time.sleep(chance.uniform(0.0, 0.5))
    elif process.stdout.readline() == "go\n":
        last = len(computed(folder)) + chance.randrange(most)
        while len(computed(folder)) < last and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 0.005))
    if process.poll() is not None:
        return False
    process.kill()
    process.communicate()
    return True


def test_a_map_that_is_killed_twenty_times_repeats_no_finished_call_and_ends_the_same(tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    for folder in (unbroken, broken):
        folder.mkdir()
    finish(start(unbroken))
    an_eighth = len(computed(unbroken)) // 8
    chance = random.Random(1)
    kills, progress, alive = 0, 0, True
    while alive and kills < KILLS:
        known, made = finished(broken), len(computed(broken))
        process = start(broken)
        alive = kill_somewhere(process, broken, chance, an_eighth)
        kills += alive
        again = known & set(computed(broken)[made:])
        assert not again, f"{len(again)} finished calls were made again after {kills} kills"
        progress += len(finished(broken)) > len(known)
    finish(process if not alive else start(broken))
    assert kills >= 8 and progress >= 5, f"{kills} kills, {progress} of them in the middle, show nothing"
    assert results(broken) == results(unbroken)
    once, all_told = Counter(computed(unbroken)), Counter(computed(broken))
    assert set(all_told) == set(once) and set(once.values()) == {1}
    lost = all_told.total() - once.total()
    assert lost <= 4 * kills, "a kill loses no more than the batch that was under way"


def test_the_program_that_is_killed_does_everything_that_can_be_lost(tmp_path):
    finish(start(tmp_path))
    runs = results(tmp_path)
    assert len(runs) == 50
    actions = Counter(entry[1] for run in runs for entry in run["entries"])
    assert min(actions[name] for name in ("think", "depth", "dice", "flaky")) >= 10
    assert sum(len(run["faults"]) for run in runs) >= 10 and any(run["measured"] for run in runs)
    kinds = Counter(fault[5] for run in runs for fault in run["faults"])
    assert kinds["call"] and kinds["refused"]
    assert any(len(calls) > 1 for run in runs for calls, *_ in run["decisions"]), "side by side"
    assert list((tmp_path / "journal" / "blobs").iterdir())
    made = Counter(computed(tmp_path))
    finish(start(tmp_path))
    assert results(tmp_path) == runs and Counter(computed(tmp_path)) == made, "resumed, it calls nothing"
