"""A run in plain words, and as plain data."""

import json

import numpy as np
import pytest

from unroller import (
    STOP,
    Answer,
    Call,
    CameraPose,
    Cost,
    DepthMap,
    Executor,
    Problem,
    Text,
    decoder,
    policy,
    primitive,
    probe,
)


@primitive(
    reads=("question",), writes=Text, cost=Cost(model_calls=1, tokens=12, price=0.001), stochastic=True
)
def think(view):
    return Text("a long thought " * 30)


@primitive(reads=("images",), writes=DepthMap)
def depth(view):
    return DepthMap(np.ones((4, 5), np.float32))


@primitive(reads=("images",), writes=CameraPose)
def pose(view):
    return CameraPose(np.array([1.0, 0, 0]), np.zeros(3), inliers=np.int64(7), confidence=np.float32(0.5))


@primitive(reads=(), writes=Text)
def broken(view):
    raise ValueError("it </script> broke")


@probe()
def sure(view):
    return 0.25


@probe(writes=np.ndarray)
def features(view):
    return np.arange(3.0)


@decoder(task="words", writes=Answer)
def words(view):
    p = np.array([0.75, 0.25])
    return Answer("left", view.choices, np.argmax(p), p)


@policy(probes=("sure", "features"))
def everything(state):
    steps = [("think", Call("think", draw=1)), "depth", "pose", "broken", "broken", "thnik", STOP]
    return steps[state.step]


@pytest.fixture
def run():
    ex = Executor(
        backend=[],
        primitives=[think, depth, pose, broken],
        decoders=[words],
        probes=[sure, features],
        policy=everything,
    )
    photo = np.zeros((8, 8, 3), np.uint8)
    return ex.run(Problem(task="words", question="Where?", choices=["left", "right"], images=[photo]))


def test_an_explanation_says_what_was_asked_done_refused_charged_and_answered(run):
    text = run.explain()
    for expected in (
        "Task words. Policy everything.",
        "Asked: Where?",
        "step 1: think, think#1",
        "think wrote a long thought",
        "depth wrote a depth map of photo 1, in units of: metre",
        "probe sure = 0.25",
        "probe features = an array of (3,)",
        "broken failed (ValueError): it </script> broke",
        "broken was refused: it failed earlier on this problem",
        "thnik",
        "then: decode",
        "Output: left (75%)",
        "Charged 2 calls, 24 tokens, $0.0020",
        "Contribution of each entry",
    ):
        assert expected in text, expected
    assert max(map(len, text.splitlines())) < 300, "long words are cut"


def test_an_explanation_without_contributions_decodes_nothing_more(run):
    assert "Contribution" not in run.explain(contributions=False)


def test_a_run_without_output_is_explained_too():
    failing = decoder(task="words", writes=Text, name="w")(lambda view: 1 / 0)
    run = Executor(backend=[], primitives=[], decoders=[failing], policy=[]).run(Problem(task="words"))
    assert "No output: decoding failed." in run.explain()
    assert json.loads(json.dumps(run.to_dict()))["output"] is None


def test_a_run_as_plain_data_goes_through_json_and_back(run):
    written = json.dumps(run.to_dict(), allow_nan=False)
    assert json.dumps(json.loads(written)) == written


def test_a_run_as_plain_data_tells_the_whole_story(run):
    data = run.to_dict()
    kinds = [event["type"] for event in data["events"]]
    assert kinds.count("entry") == 4 and kinds.count("fault") == 3 and kinds[-1] == "output"
    assert kinds.count("decision") == 7 and kinds.count("measured") == 14
    assert (data["task"], data["question"], data["choices"]) == ("words", "Where?", ["left", "right"])
    assert data["output"]["choice"] == 0 and data["output"]["probabilities"] == [0.75, 0.25]
    assert data["words"] == "left (75%)" and data["cost"]["tokens"] == 24
    assert data["run"]["policy"] == "everything" and len(bytes.fromhex(data["problem"])) == 16
    entries = {e["action"]: e for e in data["events"] if e["type"] == "entry"}
    assert entries["depth"]["value"]["depth"] == {"shape": [4, 5], "dtype": "float32"}
    assert entries["pose"]["value"]["inliers"] == 7 and entries["pose"]["value"]["confidence"] == 0.5
    assert len(bytes.fromhex(entries["think"]["id"])) == 16
    (fault, *_) = [e for e in data["events"] if e["type"] == "fault"]
    assert fault["message"] == "it </script> broke" and fault["step"] == 3
