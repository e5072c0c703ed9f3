"""Saving and opening policies: JSON and safetensors, whole or a clear error, safe where actions vanished."""

import json
import os
import pickle

import numpy as np
import pytest

from policies.bandit import RidgeBandit
from policies.confidence import ConfidencePolicy
from policies.learned import LearnedPolicy
from policies.observation import ProblemFeatures
from policies.random import RandomPolicy
from policies.saved import SavedPolicyError, digests_of, load_policy
from policies.schedules import AllPrimitives, DirectPolicy, SchedulePolicy
from unroller import Executor, Problem, Text, decoder, primitive
from unroller.faults import UnknownName, UnrollerError

ARMS = [[], ["look"], ["look", "think"]]


def fitted(**settings):
    features = ProblemFeatures(words=4)
    x = np.random.default_rng(0).normal(size=(30, features.size))
    return RidgeBandit(ARMS, features=features, **settings).fit(x, x[:, :3], np.ones((30, 3)))


def every_kind():
    return [
        DirectPolicy(),
        AllPrimitives(without=["oracle_*", "think_long"]),
        RandomPolicy(0.5, seed=7),
        SchedulePolicy({"spatial": [["look", "think"], []]}, name="mine"),
        ConfidencePolicy(0.2, cost_weight=0.1, gains={"look": [0.1, 0.4]}, edges=[0.5], order=["look"]),
        fitted(cost_weight=0.05, exploring="thompson", seed=3),
        LearnedPolicy(["look", "think"], hidden=(8,), mode="sample", seed=5),
    ]


@pytest.fixture(params=every_kind(), ids=lambda policy: policy.kind)
def policy(request):
    return request.param


def says(name):
    return primitive(reads=("question",), writes=Text, name=name)(lambda view: Text(name))


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text(" ".join(t.text for t in view.all(Text)) or "nothing")


def executor(policy, *names):
    return Executor(backend=[], primitives=[says(n) for n in names], decoders=[words], policy=policy)


def test_what_is_saved_comes_back_and_decides_the_same(policy, tmp_path):
    folder = policy.save(tmp_path / "pi")
    opened = load_policy(folder)
    assert type(opened) is type(policy) and opened._settings() == policy._settings()
    if "answer_entropy" not in policy.probes:
        problems = [Problem(task="words", question=f"question {n}") for n in range(5)]
        for one, other in zip(
            executor(policy, "look", "think").map(problems),
            executor(opened, "look", "think").map(problems),
            strict=True,
        ):
            assert one.decisions == other.decisions


def test_nothing_in_the_folder_is_a_pickle(policy, tmp_path):
    for file in policy.save(tmp_path).iterdir():
        assert file.suffix in (".json", ".safetensors")
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError)):
            pickle.loads(file.read_bytes())


def test_a_folder_takes_the_place_of_a_name(tmp_path):
    SchedulePolicy({"words": [["look"]]}).save(tmp_path / "pi")
    run = executor(str(tmp_path / "pi"), "look").run(Problem(task="words", question="?"))
    assert run.output == Text("look")
    assert executor(tmp_path / "pi", "look").policy_name == "schedule"


def test_saving_again_leaves_one_file_of_arrays(tmp_path):
    first, second = LearnedPolicy(["look"], hidden=(4,)), LearnedPolicy(["look"], hidden=(4,), seed=1)
    first.save(tmp_path)
    second.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    (name,) = {f.name for f in tmp_path.glob("*.safetensors")}
    assert json.loads((tmp_path / "policy.json").read_text())["arrays"] == name


def without_its_arrays(folder):
    next(folder.glob("*.safetensors")).unlink()


def cut_arrays(folder):
    file = next(folder.glob("*.safetensors"))
    os.truncate(file, file.stat().st_size // 2)


def cut_json(folder):
    os.truncate(folder / "policy.json", 40)


def changed(folder, **fields):
    file = folder / "policy.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (without_its_arrays, "copy the whole folder"),
        (cut_arrays, "damaged or was cut short"),
        (cut_json, "damaged or was cut short"),
        (lambda f: (f / "policy.json").unlink(), "holds no saved policy"),
        (lambda f: (f / "policy.json").write_bytes(b"\x80\x04\x95"), "damaged or was cut short"),
        (lambda f: changed(f, format=99), "has the format 99"),
        (lambda f: changed(f, kind="ridge"), "of the kind 'ridge', not 'learned'"),
        (lambda f: changed(f, settings={}), "cannot be opened as a policy of the kind 'learned'"),
        (lambda f: changed(f, arrays="../../etc/passwd"), "copy the whole folder"),
        (lambda f: changed(f, arrays=""), "weights do not fit"),
        (lambda f: changed(f, actions={"rm": ""}), "changed after it was saved"),
    ],
)
def test_what_is_damaged_is_refused_with_what_to_do(tmp_path, harm, said):
    harm(LearnedPolicy(["look", "think"], hidden=(4,)).save(tmp_path))
    with pytest.raises(SavedPolicyError, match=said):
        LearnedPolicy.load(tmp_path)


def test_weights_that_diverged_are_refused(tmp_path):
    policy = LearnedPolicy(["look"], hidden=(4,))
    policy.network.value.bias.data.fill_(float("nan"))
    policy.save(tmp_path)
    with pytest.raises(SavedPolicyError, match="training diverged"):
        LearnedPolicy.load(tmp_path)


def test_a_kind_that_is_not_installed_is_named(tmp_path):
    DirectPolicy().save(tmp_path)
    changed(tmp_path, kind="somebody_elses")
    with pytest.raises(UnknownName, match="somebody_elses"):
        load_policy(tmp_path)


def test_an_action_that_vanished_is_never_chosen(tmp_path):
    policy = LearnedPolicy(["gone", "look"], hidden=(4,))
    policy.network.choice.bias.data[:] = policy.network.choice.bias.new_tensor([9.0, 1.0, 0.0])
    LearnedPolicy.load(policy.save(tmp_path)).save(tmp_path)
    run = executor(LearnedPolicy.load(tmp_path), "look", "another").run(Problem(task="words", question="?"))
    assert run.output == Text("look") and not run.faults


def test_where_every_action_vanished_it_says_so_once_and_decodes_directly(tmp_path):
    for policy in (LearnedPolicy(["gone"], hidden=(4,)), RidgeBandit([["gone"], ["gone", "lost"]])):
        with pytest.warns(UserWarning, match="none of the actions that the policy"):
            ex = executor(policy, "look")
        run = ex.run(Problem(task="words", question="?"))
        assert run.output == Text("nothing") and not run.faults


def test_strict_loading_compares_with_the_actions_there_are(tmp_path):
    ex = executor([], "look", "think")
    LearnedPolicy(ex.actions, hidden=(4,)).save(tmp_path)
    assert LearnedPolicy.load(tmp_path, actions=ex.actions, strict=True).digests == digests_of(ex.actions)
    with pytest.raises(SavedPolicyError, match="vanished: think; new: walk"):
        LearnedPolicy.load(tmp_path, actions=executor([], "look", "walk").actions, strict=True)
    changed_look = primitive(reads=("question",), writes=Text, name="look")(lambda view: Text("other"))
    other = Executor(backend=[], primitives=[changed_look, says("think")], decoders=[words], policy=[])
    with pytest.raises(SavedPolicyError, match="changed: look"):
        LearnedPolicy.load(tmp_path, actions=other.actions, strict=True)


def test_every_error_is_one_that_unroller_raises_on_purpose(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "file"):
        with pytest.raises(UnrollerError):
            load_policy(path)
    with pytest.raises(SavedPolicyError, match="cannot be saved"):
        DirectPolicy().save(tmp_path / "file" / "pi")
    with pytest.raises(UnrollerError, match="not fitted"):
        RidgeBandit(ARMS).save(tmp_path / "pi")


@pytest.mark.parametrize(
    "settings",
    [{"hidden": [10**9, 10**9]}, {"hidden": "abc"}, {"mode": "wild"}, {"observation": 3}, {"more": 1}],
)
def test_settings_that_somebody_wrote_by_hand_are_refused_before_they_cost_anything(tmp_path, settings):
    folder = LearnedPolicy(["look"], hidden=(4,)).save(tmp_path)
    held = json.loads((folder / "policy.json").read_text())
    changed(folder, settings=held["settings"] | settings)
    with pytest.raises(SavedPolicyError, match="cannot be opened as a policy of the kind 'learned'"):
        LearnedPolicy.load(folder)


def test_a_schedule_that_is_no_list_of_lists_is_refused(tmp_path):
    folder = SchedulePolicy({"spatial": [["look"]]}).save(tmp_path)
    changed(folder, settings={"schedules": {"spatial": ["look"]}, "name": "mine"})
    with pytest.raises(SavedPolicyError):
        SchedulePolicy.load(folder)
