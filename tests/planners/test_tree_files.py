"""Tree files: the same bytes after any kill, and clear words for what is damaged, missing or another's; the
command that builds and shows them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from planners import tree
from planners.tree import TreeError, Within
from unroller import STOP, Executor, Problem, Text, policy
from unroller.faults import ContractError, ProblemError, UnknownName
from unroller.scorers import soft_choice

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys
from tree_toys import N, built, executor, problems


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_tree_has_the_same_bytes_whatever_was_computed_before(tmp_path):
    built(tmp_path / "a", chunk=5)
    ex = executor()
    list(ex.extend(policy=["hint", "dice"]).map(problems()))
    built(tmp_path / "b", ex=ex, chunk=5)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert set(files(tmp_path / "a")) == {
        "README.md",
        "tree.json",
        "states.parquet",
        "problems.parquet",
        "arrays.safetensors",
    }


def test_nothing_is_computed_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("TOYS_COMPUTED", str(tmp_path / "computed"))
    built(tmp_path / "t", probes=[])
    calls = Counter((tmp_path / "computed").read_text().splitlines())
    assert {count for call, count in calls.items() if not call.startswith("stumble")} == {1}
    monkeypatch.setenv("TOYS_COMPUTED", str(tmp_path / "again"))
    built(tmp_path / "t", probes=[])
    assert not (tmp_path / "again").exists(), "a complete tree is left as it is"


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import tree_toys as toys
from planners import tree
from unroller import Executor
ex = Executor(backend=[], primitives=toys.PARTS, decoders=[toys.quiz], policy=[])
problems = [toys.questions(i) for i in range(12)]
print("go", flush=True)
tree.build(ex, problems, sys.argv[2], actions=toys.ACTIONS, depth=2, draws=2, probes=toys.PROBES, chunk=2)
"""


def start(folder, slow):
    env = os.environ | {"TOYS_SLOW": str(slow), "TOYS_COMPUTED": str(folder) + ".computed"}
    command = [sys.executable, "-c", PROGRAM, str(Path(toys.__file__).parent), str(folder)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_a_build_that_is_killed_goes_on_and_ends_the_same(tmp_path):
    built(tmp_path / "unbroken", chunk=2)
    broken, kills, parts = tmp_path / "broken", 0, 0
    for _ in range(20):
        process = start(broken, slow=0.02)
        assert process.stdout.readline() == "go\n"
        deadline = time.monotonic() + 60
        done = parts
        while process.poll() is None and done == parts and time.monotonic() < deadline:
            time.sleep(0.02)
            done = len(list((broken / "parts").glob("*.part")))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
        if (broken / "tree.json").exists():
            break
        parts = len(list((broken / "parts").glob("*.part")))
        with pytest.raises(TreeError, match="not finished"):
            tree.load(broken)
    assert start(broken, slow=0).wait(60) == 0, "if the kill came after the last file, it tidies up"
    assert kills >= 3 and files(tmp_path / "unbroken") == files(broken)


def test_a_file_that_a_kill_cut_short_is_tidied_up(tmp_path):
    built(tmp_path / "unbroken")
    shutil.copytree(tmp_path / "unbroken", tmp_path / "t")
    (tmp_path / "t" / "tree.json").unlink()
    (tmp_path / "t" / ".states.parquet.2684").write_bytes(b"PAR1")
    shutil.copy(tmp_path / "t" / ".states.parquet.2684", tmp_path / "t" / ".building.json.17")
    manifest = json.loads((tmp_path / "unbroken" / "tree.json").read_text())
    (tmp_path / "t" / "building.json").write_text(json.dumps(manifest["recipe"]))
    built(tmp_path / "t")
    assert files(tmp_path / "t") == files(tmp_path / "unbroken")


def test_a_damaged_part_is_made_again(tmp_path):
    built(tmp_path / "a", chunk=4)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    process = start(tmp_path / "c", slow=0.01)
    process.stdout.readline()
    while not list((tmp_path / "c" / "parts").glob("*.part")):
        time.sleep(0.02)
    process.kill()
    process.communicate()
    part = next((tmp_path / "c" / "parts").glob("*.part"))
    part.write_bytes(part.read_bytes()[:-10])
    assert start(tmp_path / "c", slow=0).wait(60) == 0
    assert np.array_equal(tree.load(tmp_path / "c").score, tree.load(tmp_path / "a").score)


def test_a_folder_with_another_tree_is_left_alone(tmp_path):
    built(tmp_path / "t")
    with pytest.raises(TreeError, match=r"another tree \(it differs in draws\)"):
        built(tmp_path / "t", draws=3)
    with pytest.raises(TreeError, match="problems"):
        built(tmp_path / "t", n=11)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(TreeError, match="something else"):
        built(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(TreeError, match="something else"):
        built(tmp_path / "file")


def scoring(value):
    def mine(problem, output):
        return value

    return mine


def test_a_scorer_of_the_same_name_that_scores_otherwise_makes_another_tree(tmp_path):
    options = {"actions": ["hint"], "probes": [], "chunk": 4}

    def killed(what, done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built(tmp_path / "t", scorer=scoring(0.25), tell=killed, **options)
    with pytest.raises(TreeError, match=r"another tree \(it differs in scorer\)"):
        built(tmp_path / "t", scorer=scoring(0.75), **options)
    under_way = tmp_path / "t" / "building.json"
    held = json.loads(under_way.read_text())
    assert held.pop("scorer_version") and held.pop("hard_version") is None
    under_way.write_text(json.dumps(held))  # as trees of before say it
    assert (built(tmp_path / "t", scorer=scoring(0.25), **options).score == 0.25).all()


def test_a_folder_with_a_tree_of_other_actions_is_left_alone(tmp_path):
    built(tmp_path / "t")
    ex = Executor(backend=[], primitives=[toys.hint, toys.picture], decoders=[toys.quiz], policy=[])
    said = "another tree .it has the actions dice, stumble, .* name another folder"
    with pytest.raises(TreeError, match=said):
        built(tmp_path / "t", ex=ex, actions=None)


def spoilt(folder, name, change):
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("name", ["states.parquet", "problems.parquet", "arrays.safetensors"])
def test_what_is_missing_truncated_or_changed_is_said(tmp_path, name):
    built(tmp_path / "t", draws=1)
    spoilt(tmp_path / "t", name, lambda content: content[:-1])
    with pytest.raises(TreeError, match=f"{name} is truncated"):
        tree.load(tmp_path / "t")
    spoilt(tmp_path / "t", name, lambda content: content + b"?")
    with pytest.raises(TreeError, match="was changed"):
        tree.load(tmp_path / "t")
    (tmp_path / "t" / name).unlink()
    with pytest.raises(TreeError, match="is missing from the tree"):
        tree.load(tmp_path / "t")


def test_another_version_and_no_tree_at_all_are_said(tmp_path):
    built(tmp_path / "t", draws=1)
    spoilt(tmp_path / "t", "tree.json", lambda content: content.replace(b'"format": 1', b'"format": 7'))
    with pytest.raises(TreeError, match="format 7, and this unroller reads format 1"):
        tree.load(tmp_path / "t")
    spoilt(tmp_path / "t", "tree.json", lambda content: content[:50])
    with pytest.raises(TreeError, match="damaged"):
        tree.load(tmp_path / "t")
    with pytest.raises(TreeError, match="holds no tree"):
        tree.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"actions": ["hnt"]}, UnknownName, "hint"),
        ({"draws": 0}, TreeError, "1 or more"),
        ({"scorer": lambda x, y: float("nan")}, ContractError, "a number from 0 to 1"),
        ({"scorer": lambda x, y: 1 / 0}, ContractError, "ZeroDivisionError"),
        ({"parameters": {"dice": {"heads": 2}}}, ContractError, "do not fit"),
        ({"parameters": {"grey": {"shade": 2}}}, TreeError, "no action of the tree"),
        ({"probes": [toys.hint]}, TreeError, "no probe"),
        ({"n": 0}, TreeError, "no problems"),
    ],
)
def test_bad_input_is_refused_in_words(tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        built(tmp_path / "t", **options)


def test_actions_that_nobody_named_are_those_that_work_and_read_no_truth():
    from planners.tree.building import usable

    assert usable(executor(), problems()) == ["picture", "grey"]


def test_problems_without_truth_are_said(tmp_path):
    with pytest.raises(ProblemError, match=r"problem 1, draw 0.*truth"):
        blind = Problem(task="quiz", question="?", choices=toys.CHOICES, metadata={"number": 1})
        tree.build(executor(), [toys.questions(0), blind], tmp_path / "t", actions=[], scorer="soft_choice")


def test_parameters_of_an_action_are_those_of_the_tree(tmp_path):
    from pydantic import BaseModel

    from unroller import primitive

    class Loud(BaseModel):
        volume: int = 1

    @primitive(reads=(), writes=Text, parameters=Loud)
    def shout(view):
        return Text("b" * view.parameters.volume)

    ex = executor().extend(primitives=[shout])
    options = {"actions": ["shout"], "draws": 1, "probes": []}
    quiet = built(tmp_path / "q", ex=ex, **options)
    loud = built(tmp_path / "l", ex=ex, parameters={"shout": {"volume": 2}}, **options)
    assert quiet.score[0, 0, 1] == pytest.approx(0.1) and loud.score[0, 0, 1] == 0.6
    live = ex.extend(policy=Within(policy(lambda s: s.allowed[0] if s.allowed else STOP), loud))
    assert soft_choice(problems()[0], live.run(problems()[0]).output) == 0.6


# --------------------------------------------------------------------------------------- the command


@pytest.fixture
def unroller(capsys, tmp_path, monkeypatch):
    from unroller.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words], standalone_mode=False)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


TOYS = ["--use", toys.__file__, "--problem", "questions", "--task", "quiz", "--n", 8]


def test_the_command_builds_and_shows(unroller):
    code, out, err = unroller(
        "tree", *TOYS, "--action", "hint,dice", "--draws", 2, "--probe", "none", "--out", "t"
    )
    assert code == 0, err
    assert "hint → dice" in out and "best fixed" in out and "oracle, cross-fitted" in out
    code, out, _ = unroller(
        "tree", "show", "t", "--by", "level", "--cost", "model_calls+0.1*tokens", "--json"
    )
    document = json.loads(out)
    assert code == 0 and document["n"] == 8 and document["draws"] == 2 and len(document["schedules"]) == 5
    assert set(document["best_fixed_by_group"]["chosen"]) == {"0", "1"}
    hint = next(row for row in document["schedules"] if row["schedule"] == "hint")
    assert hint["cost"]["mean"] == pytest.approx(2.5) and hint["hard"] == 0.5
    assert "oracle over best fixed" in document["gains"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--problem", "questions"], 2, "--out DIR"),
        (["--out", "t"], 2, "--problem SET"),
        (["--problem", "unheard_of", "--out", "t"], 2, "unheard_of"),
        (["--problem", "questions", "--task", "quiz", "--action", "hnt", "--out", "t"], 2, "hint"),
        (
            ["--problem", "questions", "--task", "quiz", "--set", "hint", "--out", "t"],
            2,
            "ACTION.PARAMETER=VALUE",
        ),
        (["show", "nowhere"], 2, "holds no tree"),
    ],
)
def test_the_command_says_what_is_wrong(unroller, words, code, said):
    given = words if words[0] == "show" else ["--use", toys.__file__, "--n", 2, *words]
    ended, _, err = unroller("tree", *given)
    assert ended == code and said in err


def test_the_card_says_what_it_is_and_may_be_added_to(tmp_path):
    built(tmp_path / "t", draws=1, licence="cc-by-4.0")
    card = (tmp_path / "t" / "README.md").read_text()
    assert "license: cc-by-4.0" in card and "| draws | 1 |" in card and "hint → picture" in card
    (tmp_path / "t" / "README.md").write_text(card + "\nMade by us.\n")
    assert len(tree.load(tmp_path / "t")) == N
