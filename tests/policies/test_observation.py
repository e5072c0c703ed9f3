"""The vector that learned policies see: named fields, the same from states and arrays, no clock in it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.embedding import of_value, of_words, squashed
from policies.layout import Layout
from policies.observation import Observation, ProblemFeatures
from unroller import CameraPose, DepthMap, Executor, Problem, Text, decoder, primitive, probe
from unroller.check.samples import example
from unroller.cost import Cost
from unroller.faults import PolicyError
from unroller.registry import load_all
from unroller.values import Value


def says(name, **declared):
    declared = {"reads": ("question", Text), "writes": Text} | declared
    return primitive(name=name, **declared)(lambda view: Text(f"{name} says so"))


@primitive(reads=(), writes=Text)
def broken(view):
    """Fails."""
    raise ZeroDivisionError


@decoder(task="words", writes=Text, reads=(Text,))
def words(view):
    return Text("done")


@probe(name="colour", reads=("question",))
def colour(view):
    return float("red" in view.question)


class Recording:
    """Calls what it is told to and keeps the states that it saw."""

    def __init__(self, *names, probes=()):
        self.names, self.probes, self.states = names, probes, []

    def decide(self, states):
        self.states += states
        return [self.names[s.step] if s.step < len(self.names) else () for s in states]


def states(*names, question="where is the red cone?", probes=(), **options):
    policy = Recording(*names, probes=tuple(p.name for p in probes))
    ex = Executor(
        backend=[],
        primitives=[says("look"), says("think"), broken],
        decoders=[words],
        policy=policy,
        probes=probes,
        **options,
    )
    ex.run(Problem(task="words", question=question))
    return policy.states


ACTIONS = ("look", "think", "broken", "vanished")


def test_every_field_is_named_and_described_and_lies_after_the_one_before():
    seen = Observation(ACTIONS)
    fields = seen.layout.fields
    assert fields[0].start == 0 and fields[-1].stop == seen.size
    assert all(a.stop == b.start for a, b in pairwise(fields))
    lines = seen.describe().splitlines()
    assert len(lines) == len(fields)
    for field, line in zip(fields, lines, strict=True):
        assert field.name in line and field.meaning in line


def test_an_observation_says_what_was_done_what_failed_and_what_is_allowed():
    seen = Observation(ACTIONS)
    *_, last = states("look", "broken", "think")
    part = {name: array[0] for name, array in seen.layout.parts(seen.of([last])).items()}
    assert part["called"].tolist() == [1, 1, 1, 0] and part["failed"].tolist() == [0, 0, 1, 0]
    assert [ACTIONS[row.argmax()] if row.any() else None for row in part["history"]] == [
        "think",
        "broken",
        "look",
        None,
        None,
        None,
    ]
    assert part["step"] == pytest.approx(3 / 4)
    assert part["counts"][0] == pytest.approx(2 / 3) and not part["counts"][1:].any()
    mean = (of_words("look says so", 16) + of_words("think says so", 16)) / 2
    np.testing.assert_allclose(part["embeddings"][0], mean, atol=1e-6)
    assert part["mask"].tolist() == [0, 0, 0, 0, 1], "each is called once; STOP is always allowed"
    again = Observation(ACTIONS, once=False)
    assert again.layout.part(again.of([last]), "mask").tolist() == [[1, 1, 0, 0, 1]], "failed ones are not"


def test_the_mask_is_found_in_the_observation_and_always_allows_to_stop():
    seen = Observation(ACTIONS)
    first, *_ = states("look")
    assert seen.allowed(seen.of([first])).tolist() == [[True, True, True, False, True]]
    assert seen.allowed(np.zeros((2, seen.size), np.float32)).tolist() == [[False] * 4 + [True]] * 2


def test_what_is_left_of_a_budget_is_seen_but_for_seconds():
    seen = Observation(ACTIONS)
    (state, *_) = states(budget={"model_calls": 3, "steps": 4, "seconds": 1e-3 + 60})
    left = seen.layout.part(seen.of([state]), "left")[0]
    assert left.tolist() == pytest.approx([3 / 4, 1.0, 1.0, 4 / 5])


def test_a_probe_is_part_of_it_with_a_mark_whether_it_was_measured():
    with_probe = Observation(ACTIONS, problem=ProblemFeatures(probes=(("colour", 1),)))
    (red, *_), (blue, *_) = states(probes=[colour]), states(probes=[colour], question="blue?")
    assert with_probe.layout.part(with_probe.of([red, blue]), "probe.colour").tolist() == [[1, 1], [0, 1]]

    dear = probe(name="colour", reads=("question",), cost=Cost(model_calls=9))(lambda view: 1.0)
    (poor, *_) = states(probes=[dear], budget={"model_calls": 1})
    assert with_probe.layout.part(with_probe.of([poor]), "probe.colour").tolist() == [[0, 0]]
    wrong = Observation(ACTIONS, problem=ProblemFeatures(probes=(("colour", 64),)))
    with pytest.raises(PolicyError, match="measured 1 numbers, and the policy was made for 64"):
        wrong.of([red])
    with pytest.raises(PolicyError, match="the probe colour is listed twice"):
        ProblemFeatures(probes=(("colour", 1), ("colour", 1)))


def test_arrays_by_name_pack_to_the_same_vector_as_states():
    seen = Observation(ACTIONS)
    several = states("look", "think") + states("think", question="another")
    whole = seen.of(several)
    np.testing.assert_array_equal(seen.pack(**seen.layout.parts(whole)), whole)
    one = {name: array[0] for name, array in seen.layout.parts(whole[:1]).items()}
    np.testing.assert_array_equal(seen.pack(3, **one), np.repeat(whole[:1], 3, 0))
    for name, part in (("counts", np.zeros((2, 1))), ("nothing", np.zeros(1))):
        with pytest.raises(PolicyError, match=name):
            seen.pack(**{name: part})


def test_the_part_that_says_what_is_asked_comes_first_and_can_be_computed_alone():
    seen = Observation(ACTIONS)
    x = Problem(task="depth", images=np.zeros((8, 8, 3), np.uint8))
    alone = seen.problem.problem(x)
    (state, *_) = states()
    assert np.array_equal(seen.of([state])[0, : len(alone)], seen.problem.problem(state.problem))
    assert seen.layout["counts"].start == len(alone)
    assert alone[seen.problem.tasks.index("depth")] == 1
    assert seen.problem.problem(state.problem)[len(seen.problem.tasks)] == 1, "a task of a plug-in's"


def test_equal_settings_have_equal_digests_and_others_do_not():
    digests = {
        Observation(("a", "b")).digest,
        Observation(("a", "b")).digest,
        Observation(("b", "a")).digest,
        Observation(("a", "b"), history=2).digest,
        Observation(("a", "b"), problem=ProblemFeatures(words=3)).digest,
    }
    assert len(digests) == 4


@pytest.mark.parametrize("wrong", [{"version": 2}, {"actions": ("a", "a")}, {"embedding": 0}, {"history": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(PolicyError):
        Observation(**{"actions": ("a",)} | wrong)


# ----------------------------------------------------------------------------------------- embeddings


def test_every_value_type_becomes_a_few_finite_numbers():
    for name, kind in load_all("values")[0].items():
        numbers = of_value(example(kind), 16)
        assert numbers.shape == (16,) and np.isfinite(numbers).all(), name
        assert isinstance(example(kind), Value)


def test_a_pose_keeps_its_numbers_and_a_depth_map_its_moments():
    pose = of_value(CameraPose((1.0, -3.0, 0.0), (0.0, 0.5, 0.0)), 16)
    assert pose[:6].tolist() == pytest.approx([0.5, -0.75, 0, 0, 1 / 3, 0])
    flat = of_value(DepthMap(np.full((300, 300), 3.0, np.float32)), 16)
    assert flat[1:5].tolist() == pytest.approx([0.75, 0.0, 0.75, 0.75])


def test_a_tensor_is_embedded_like_an_array():
    import torch

    depth = np.random.default_rng(0).uniform(1, 4, (70, 90)).astype(np.float32)
    np.testing.assert_allclose(of_value(DepthMap(torch.from_numpy(depth)), 16), of_value(DepthMap(depth), 16))


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(1, 64))
def test_any_words_have_an_embedding_of_length_at_most_their_root(text, size):
    numbers = of_words(text, size)
    assert numbers.shape == (size,) and np.isfinite(numbers).all()
    assert (
        np.array_equal(numbers, of_words(text.upper().lower(), size)) or text.lower() != text.upper().lower()
    )


def test_an_amount_without_limit_is_one():
    assert (squashed(0), squashed(1), squashed(float("inf"))) == (0, 0.5, 1)


def test_a_layout_packs_what_it_is_given_and_leaves_the_rest_at_nothing():
    layout = Layout([("a", (2,), "two"), ("b", (1, 2), "more")])
    assert layout.pack({"b": [[[1, 2]], [[3, 4]]]}).tolist() == [[0, 0, 1, 2], [0, 0, 3, 4]]
    assert layout.pack({}).tolist() == [[0, 0, 0, 0]] and layout.pack({}, 0).shape == (0, 4)


def test_a_models_features_of_the_problem_are_measured_once_a_run():
    from policies.probes import problem_features
    from unroller.check import StandIn

    seen = Observation(ACTIONS, problem=ProblemFeatures(probes=(("problem_features", 8),)))
    policy = Recording("look", "think", probes=("problem_features",))
    ex = Executor(
        backend=StandIn(), primitives=[says("look"), says("think")], decoders=[words], policy=policy
    )
    run = ex.run(Problem(task="words", question="where?"))
    assert [m.name for m in run.measured] == [problem_features.name] and run.cost.model_calls == 1
    found = seen.layout.part(seen.of(policy.states), "probe.problem_features")  # (steps, 9)
    assert np.array_equal(found[0], found[2]) and found[0, -1] == 1 and found[0, :-1].any()
