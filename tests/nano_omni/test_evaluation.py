"""What is measured on rooms nobody trained on, and how it is drawn against training steps."""

import csv
import json

import pytest
import torch

from nano_omni import captions, visual
from nano_omni.branches import ROWS
from nano_omni.config import CONFIGS
from nano_omni.data import rooms, split_seeds
from nano_omni.evaluation import evaluate, judge, table
from nano_omni.heldout import collect
from nano_omni.model import NanoOmni
from nano_omni.training import controls, curves, emergence
from nano_omni.vocabulary import CODE_0, OBJECT_CODES, nearest

TINY = CONFIGS["tiny"]


@pytest.fixture(scope="module")
def held():
    return rooms(split_seeds("test", 0, 64), TINY)


def test_a_model_that_knows_nothing_is_at_chance_in_every_row():
    torch.manual_seed(0)
    scores = evaluate(
        NanoOmni(config=TINY).eval(), 16, torch.device("cpu"), (2, "compare"), draw=128, say=lambda line: None
    )
    assert scores["rows"].keys() == set(ROWS) and scores["forms"] == ["2", "compare"]
    for row in ROWS:  # a fresh head says nothing: the first choice always
        assert scores["rows"][row]["2"]["accuracy"] == 25
        assert scores["rows"][row]["compare"]["accuracy"] == 50
    assert scores["rows"]["views + thinking"]["2"]["over thinking"][0] == 0
    assert scores["baselines"]["majority"] == {"2": 25, "compare": 50}
    assert "compare" in table(scores) and "2 hops" in table(scores)


def test_the_truth_is_right_in_all_that_is_judged(held):
    asked = held.asked[3]
    written = {
        "thinking": nearest(asked.think),
        "caption": nearest(held.caption),
        "views": held.views[:, :2].flatten(1),
        "pose": nearest(held.posing),
    }
    found = judge(written, held, 3)
    assert set(found.values()) == {100.0}
    known = {"pose: direction", "caption: objects told", "views: objects, recall", "thinking: turn"}
    assert known <= found.keys()


def test_objects_that_are_left_out_or_made_up_are_counted(held):
    caption = nearest(held.caption)
    caption[:, 1:7] = captions.NONE  # the first object is not told
    found = judge({"caption": caption}, held, 3)
    assert found["caption: told that are there"] == 100 > found["caption: objects told"] > 50
    drawn = held.views[:, :2].flatten(1).clone()
    drawn[:, 4:20] = CODE_0 + OBJECT_CODES * 3 + torch.arange(16) % OBJECT_CODES  # nothing but one object
    found = judge({"views": drawn}, held, 3)
    assert found["views: objects, recall"] < 80 and found["views: objects, precision"] < 80
    assert len(visual.OBJECTS) == 32


def test_controls_answer_the_same_questions_each_in_rows_of_its_own():
    torch.manual_seed(0)
    fresh = NanoOmni(config=TINY).eval()
    test = collect(TINY, "test", 4, torch.device("cpu"), (2, "compare"), draw=64)
    found = controls.compare(controls.answer(dict.fromkeys(controls.ASKED, fresh), test))
    assert set(found) == {
        *("full: direct", "full: pose", "full: thinking", "full: pose + thinking", "direct: direct"),
        *("pause: direct", "pause: pause"),
    }
    for row, cells in found.items():
        assert cells["2"]["accuracy"] == 25, "a fresh head says the first choice always"
        assert (row == "full: pose + thinking") == ("unrolled over it" not in cells["2"])
    head, *lines = controls.text(found, ["2", "compare"]).splitlines()
    assert head.split() == ["2", "hops", "compare"] and len(lines) == len(found)
    assert len(set(map(len, (head, *lines[:3])))) == 1, "columns end alike"


def test_what_is_held_out_of_a_training_is_asked_beside_its_parts():
    for name, held in emergence.HELD_OUT.items():
        assert not emergence.trained(name) & set(held), "an answer after these is trained"
        assert {"direct", "pose", "thinking"} <= emergence.trained(name)
    assert "pose + thinking" in emergence.trained("full")
    assert "caption + thinking" in emergence.asked_of("full")
    assert emergence.is_part("caption + thinking", "pose + caption + thinking")
    assert not emergence.is_part("thinking + pose", "pose + caption + thinking"), "the order counts"
    torch.manual_seed(0)
    fresh = NanoOmni(config=TINY).eval()
    test = collect(TINY, "test", 4, torch.device("cpu"), (2, "compare"), draw=64)
    rows = {name: emergence.asked_of(name) for name in emergence.HELD_OUT}
    found = emergence.compare(controls.answer(dict.fromkeys(rows, fresh), test, rows))
    for name, held in emergence.HELD_OUT.items():
        for row, cells in found[name].items():
            assert cells["2"]["accuracy"] == 25, "a fresh head says the first choice always"
            assert ("gain" in cells["2"]) == (row in held)
    assert found["apart"]["pose + thinking"]["2"]["gain"].keys() == {"direct", "pose", "thinking"}
    lines = emergence.text(found, ["2", "compare"]).splitlines()
    assert len(lines) == sum(len(of) + 1 for of in found.values()) and "(+0.0 [+0.0, +0.0])" in lines[-1]


def test_controls_need_the_run_that_they_are_compared_with(tmp_path, capsys):
    for runs, said in ((["direct=x"], "the run `full`"), (["full=x", "best=y"], "best: runs are named")):
        with pytest.raises(SystemExit):
            controls.main([*(f"--run={run}" for run in runs), "--out", str(tmp_path / "o")])
        assert said in capsys.readouterr().err


def test_gain_is_drawn_against_steps_and_kept_as_data(tmp_path):
    for seed, better in ((0, 0.0), (1, 0.1)):
        folder = tmp_path / f"full{seed}"
        folder.mkdir()
        lines = []
        for step in (0, 100):
            row = {"step": step} | {
                f"{name}.{hops}": 0.25 + step / 400 * (name != "direct") + better
                for name in ("direct", "pose + thinking")
                for hops in (1, 2, 3, 4)
            }
            lines.append(json.dumps(row))
        (folder / "checks.jsonl").write_text("\n".join(lines))
    runs = [f"full={tmp_path / f'full{seed}'}" for seed in (0, 1)]
    out = tmp_path / "gain.png"
    curves.main([*(part for run in runs for part in ("--run", run)), "--out", str(out)])
    assert out.read_bytes().startswith(b"\x89PNG")
    with open(out.with_suffix(".csv")) as file:
        rows = list(csv.DictReader(file))
    assert [(r["row"], r["step"], r["mean"], r["runs"]) for r in rows] == [
        ("direct", "0", "30.0", "2"),
        ("direct", "100", "30.0", "2"),
        ("pose + thinking", "0", "30.0", "2"),
        ("pose + thinking", "100", "55.0", "2"),
    ]
    longer = curves.gather([("full", tmp_path / "full0"), ("again", tmp_path / "full1")])
    assert [row[1] for row in longer if "trained on" in row[0]] == [100, 200] * 2
    with pytest.raises(SystemExit):
        curves.main(["--run", "oak=here", "--out", str(out)])
    with pytest.raises(ValueError, match="no row 'pause'"):
        curves.read(tmp_path / "full0", "pause")
