"""Instructions as files: their names, their versions, and where a run names them."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from xxhash import xxh3_64_hexdigest

import primitives.prompts
from primitives.prompts import instruction
from primitives.thinking import PICTURE, oracle_from, text_think
from primitives.written import written_answer
from unroller import Executor, Problem
from unroller.check.standin import StandIn
from unroller.cli import main
from unroller.declare import Primitive
from unroller.faults import UnknownName
from unroller.instructions import Instruction, read_instruction, versions

FOLDER = Path(primitives.prompts.__file__).parent

TEXTS = {
    "answer@1": "1a6bab9114db1c25",
    "camera_motion@1": "27d209566d3705ec",
    "depth_caption@1": "e267299c7c805106",
    "detailed_caption@1": "8f30961ca6f20b4e",
    "novel_view@1": "d7ca1dbf2c425e2a",
    "picture_tokens@1": "9f1741a6e129b662",
    "reply@1": "306e94a0b8122ee8",
    "think@1": "51475c2c039d595c",
    "think_long@1": "b8f2096207eb2f6c",
    "think_picture@1": "1ffddf66018909a3",
    "think_picture_long@1": "120386d3a964ae63",
    "visual_tokens@1": "7866af88342071af",
}
"""Every version that was ever used, and the digest of its text: runs are recorded with these names."""


def test_a_text_that_changed_has_another_version():
    found = {
        f"{name}@{version}": xxh3_64_hexdigest(file.read_bytes())
        for name, files in versions(FOLDER).items()
        for version, file in files.items()
    }
    assert found == TEXTS, (
        "a recorded text was changed or removed: put it back, save the new one as NAME.v2.md (or whatever"
        " comes next), and add its digest here"
    )
    assert len(found) == len(list(FOLDER.glob("*.md"))), "a file is not called NAME.v1.md"


def test_the_newest_version_is_told_and_older_ones_can_be_read(tmp_path):
    for version, text in ((1, "Think."), (2, "Think twice."), (10, "Think\nten times.\n")):
        (tmp_path / f"think.v{version}.md").write_text(text)
    newest = read_instruction(tmp_path, "think")
    assert newest == "Think\nten times." and newest.label == "think@10"
    assert read_instruction(tmp_path, "think", 2) == "Think twice."
    for name, version in (("think", 3), ("thnk", None), ("../think", None)):
        with pytest.raises(UnknownName, match="there are think@1, think@2, think@10"):
            read_instruction(tmp_path, name, version)


def test_a_version_with_the_same_text_is_another_primitive_version():
    def told(*prompts):
        return Primitive(
            text_think.function, name="think", reads=(), writes=text_think.writes, prompts=prompts
        )

    one, two, changed = (told(Instruction(*of)) for of in (("T", "t", 1), ("T", "t", 2), ("U", "t", 1)))
    assert len({one.version, two.version, changed.version, told("T").version}) == 4
    assert told(Instruction("T", "t", 1)).version == one.version
    assert one.told == ("t@1",) and told("T").told == ()
    assert copy.deepcopy(one.prompts[0]).label == "t@1"
    assert json.dumps(one.prompts[0]) == '"T"' and type(str(one.prompts[0])) is str


def test_what_a_model_is_told_is_what_the_paper_asks_for():
    assert "100 tokens" in instruction("think") and "250 tokens" in instruction("think_long")
    assert "layout" in instruction("think_long")
    for word in ("ordering", "occlusion", "support"):
        assert word in instruction("depth_caption").lower()


@pytest.fixture(scope="module")
def run():
    photos = np.zeros((2, 24, 32, 3), np.uint8)
    x = Problem.spatial(*photos, question="Where is it?", choices=["left", "right"])
    return Executor(backend=StandIn(), policy=["text_think", "depth_caption"]).run(x)


def test_a_run_names_what_a_model_was_told(run, tmp_path):
    said = {"text_think": ["think@1"], "depth_caption": ["depth_caption@1"], "spatial": ["answer@1"]}
    assert (
        "Instructions: text_think think@1; depth_caption depth_caption@1; spatial answer@1." in run.explain()
    )
    assert run.to_dict()["instructions"] == said
    assert run.to_dict()["run"]["instructions"]["text_think_long"] == ["think_long@1", "think_picture_long@1"]
    assert "think@1, depth_caption@1, answer@1" in run.report(tmp_path / "run.html").read_text()


def test_where_a_picture_is_asked_for_the_run_names_what_is_told_then():
    x = Problem.generation("a red cone")
    run = Executor(backend=StandIn(), policy=["text_think", "visual_token_rollout"]).run(x)
    told = {"text_think": ["think_picture@1"], "visual_token_rollout": ["picture_tokens@1"]}
    assert run.to_dict()["instructions"] == told


def test_a_run_that_is_opened_when_a_text_has_changed_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ["--problem", "rooms:3", "--backend", "nano", "--calls", "text_think", "--out", "kept"]
    assert main(["run", "--task", "spatial", *asked], standalone_mode=False) == 0
    assert main(["runs", "explain", "kept"], standalone_mode=False) == 0
    assert "was recorded when" not in capsys.readouterr().err
    monkeypatch.setattr(text_think, "prompts", (*text_think.prompts, Instruction("Think.", "other")))
    assert main(["runs", "explain", "kept"], standalone_mode=False) == 0
    assert "was recorded when" not in capsys.readouterr().err, "what was told then is told still"
    monkeypatch.setattr(text_think, "prompts", (Instruction("Think twice.", "think", 2), PICTURE))
    assert main(["runs", "explain", "kept"], standalone_mode=False) == 0
    said = capsys.readouterr().err
    assert "recorded when text_think told a model think@1; here it is think@2" in " ".join(said.split())


def test_an_answer_in_words_and_an_oracle_name_theirs():
    assert written_answer("spatial").told == ("reply@1",)
    assert oracle_from(StandIn()).told == ("think@1",)
