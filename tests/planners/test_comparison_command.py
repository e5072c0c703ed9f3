"""`unroller policies compare` as a user types it."""

import json
import sys
from pathlib import Path

import pytest

from planners import tree
from planners.tree import Within
from policies import RandomPolicy, RidgeBandit, SchedulePolicy

sys.path.append(str(Path(__file__).parent))
import tree_toys as toys
from tree_toys import built, executor

QUICK = ("--resamples", 200, "--no-plots", "--held-out", 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tree of twenty questions, and beside it saved policies and a module with one."""
    place = tmp_path_factory.mktemp("compare")
    held = built(place / "tree", n=20, actions=["hint", "dice"], probes=[toys.answer_entropy])
    SchedulePolicy({"quiz": [["hint"]]}, "hinting").save(place / "pi")
    for seed in range(2):
        bandit = RidgeBandit([[], ["hint"]], seed=seed)
        x = [bandit.features.problem(problem) for problem in held.problems]
        bandit.fit(x, held.score[:, 0, :2], held.cost[:, 0, :2, 0]).save(place / "seeds" / str(seed))
    (place / "mine.py").write_text(
        "from unroller import STOP, policy\n\n"
        "@policy\ndef even(state):\n"
        "    return STOP if state.step or state.problem.metadata['number'] % 2 else 'hint'\n"
    )
    return place


@pytest.fixture
def unroller(capsys, folder, monkeypatch):
    from unroller.cli import main

    monkeypatch.chdir(folder)

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words], standalone_mode=False)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


def test_it_is_listed_and_shows_how(unroller):
    code, out, _ = unroller("policies", "compare", "--help")
    assert code == 0 and "NAME@0.02=WHAT" in out and "--fit-on" in out
    code, out, _ = unroller("--help")
    assert code == 0 and "policies" in out


def test_tables_on_the_terminal(unroller):
    words = ("--by", "level", "--policy", "mine=mine.py:even", "--policy", "pi", "--logged", "random")
    code, out, err = unroller("policies", "compare", "tree", *words, *QUICK)
    assert code == 0, err
    for said in (
        "on 10 problems that were held out",
        "gain over fixed schedules at the same mean cost",
        "value = score - 0.02 × cost",
        "gap closed",
        "best fixed by level",
        "IPS",
        "oracle, cross-fitted",
        "20 logged unrollings",
    ):
        assert said in out, said
    assert "mine" in out and "pi" in out


def test_as_data_with_seeds_and_prices(unroller, folder):
    words = ("--policy", "it@0.05=seeds", "--policy", "hint,dice", "--policy", "it@0=seeds/0")
    weights = ("--cost-weight", 0.05, "--cost-weight", 0)
    kept = ("--json", "--out", "out", *QUICK)
    code, out, err = unroller("policies", "compare", "tree", *words, *weights, *kept)
    assert code == 0, err
    document = json.loads(out)
    of = {(row["name"], row["weight"]): row for row in document["rows"]}
    assert of["it", 0.05]["seeds"] == 2 and of["it", 0.0]["seeds"] == 1
    assert of["hint → dice", None]["cost"]["mean"] == 3
    assert document["weights"] == [0.05, 0.0] and document["n"] == 10
    assert {Path(path).name for path in document["files"]} == {
        "comparison.json",
        "comparison.csv",
        "problems.csv",
    }
    assert json.loads((folder / "out/comparison.json").read_text())["rows"] == document["rows"]


def test_a_folder_may_have_any_name_and_a_schedule_one_call(unroller, folder):
    import shutil

    shutil.copytree(folder / "pi", folder / "lr=0.1" / "pi", dirs_exist_ok=True)
    words = ("--policy", "lr=0.1/pi", "--policy", "one=camera_pose_estimate")
    code, out, err = unroller("policies", "compare", "tree", *QUICK, *words)
    assert code == 0 and "one" in out, err


def test_right_and_wrong_may_be_what_counts(unroller):
    def said(*words):
        code, out, err = unroller("policies", "compare", "tree", "--json", *words, *QUICK)
        assert code == 0, err
        return json.loads(out)

    soft, hard = said(), said("--score", "hard")
    assert (soft["scorer"], hard["scorer"]) == ("soft_choice", "choice")
    of = {row["name"]: row for row in hard["rows"]}
    assert all(row["score"] == row["hard"] for row in hard["rows"])
    assert of["direct"]["hard"] == next(row["hard"] for row in soft["rows"] if row["name"] == "direct")


def test_estimates_from_a_journal_of_live_runs(unroller, folder):
    behaviour = Within(RandomPolicy(0.4), tree.load(folder / "tree"))
    with executor().extend(policy=behaviour, journal=folder / "log") as live:
        assert len(list(live.map([toys.questions(i) for i in range(20)]))) == 20
    words = ("--policy", "hint,dice", "--logged", "log", "--json", *QUICK)
    code, out, err = unroller("policies", "compare", "tree", *words)
    assert code == 0, err
    of = {one["policy"]: one for one in json.loads(out)["logged"]}
    assert of["hint → dice"]["n"] == 10 and of["direct"]["dr"]["mean"] is not None


def test_a_picture_too(unroller, folder):
    code, _, err = unroller("policies", "compare", "tree", "--out", "drawn", "--resamples", 50)
    assert code == 0, err
    assert (folder / "drawn/front.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 2, "holds no tree"),
        (["tree", "--by", "colour"], 2, "no metadata 'colour'"),
        (["tree", "--cost-weight", "-1"], 2, "0 or more"),
        (["tree", "--cost", "beer"], 2, "is no cost"),
        (["tree", "--held-out", "1.5"], 2, "between 0 and 1"),
        (["tree", "--policy", "it@much=pi"], 3, "'much' is no λ"),
        (["tree", "--policy", "=pi"], 3, "NAME=WHAT"),
        (["tree", "--policy", "no_such"], 2, "no_such"),
        (["tree", "--policy", "tree"], 2, "without a policy.json"),
        (["tree", "--policy", "nothing_here:it"], 3, "nothing_here"),
        (["tree", "--out", "mine.py"], 2, "--out mine.py is no folder"),
        (["tree", "--fit-on", "tree"], 2, "in those to fit on"),
        (["tree", "--logged", "direct"], 3, "how probable"),
        (["tree", "--train", "exact", "--train-set", "speed=1"], 3, "no setting 'speed'"),
        (["tree", "--train", "exact", "--train-set", "problems"], 2, "--train-set 'problems': write NAME"),
        (["tree", "--train", "exact", "--train-set", "problems=0"], 3, "problems is 0"),
        (["tree", "--unique-calls", "2"], 0, ""),
        ([], 2, "TREE"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(unroller, words, code, said):
    ended, out, err = unroller("policies", "compare", *(QUICK if words else ()), *words)
    assert ended == code and said in err, (ended, err)
    if not code:
        assert "2 unique model calls do not pay for one problem" in out


def test_a_tree_of_another_version_is_refused(unroller, folder, tmp_path):
    held = tree.synthetic(4, out=tmp_path / "newer")
    assert len(held) == 4
    card = tmp_path / "newer" / "tree.json"
    written = json.loads(card.read_text())
    written["recipe"]["format"] = 99
    card.write_text(json.dumps(written))
    code, _, err = unroller("policies", "compare", tmp_path / "newer")
    assert code == 2 and "99" in err


def test_settings_reach_the_trainers():
    from planners.comparison.command import trainings
    from policies.training.exact import Exact

    (one,) = trainings(["exact+none"], 2, 500, ["problems=64", "entropy=0.05"], None)
    assert one.settings == Exact(steps=500, problems=64, entropy=0.05)
    assert (one.trainer, one.seeds, one.probes) == ("exact", 2, ())
    assert trainings(["exact"], 1, None, None, None)[0].settings is None
