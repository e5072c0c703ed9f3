"""What each entry of the context contributed to the output."""

import itertools
import math

import pytest

from unroller import Answer, Call, CameraPose, Executor, Problem, Text, decoder, primitive
from unroller.contribution import EXACT_UP_TO
from unroller.faults import UnrollerError


def says(name):
    return primitive(reads=("question",), writes=Text, name=name)(lambda view: Text(name))


@primitive(reads=(), writes=CameraPose)
def pose(view):
    return CameraPose((1, 0, 0), (0, 0, 0))


def yes_with(probability):
    """A decoder whose belief in "yes" is a function of the words in the context; it ignores poses."""

    @decoder(task="yes_or_no", reads=("question", Text), writes=Answer)
    def answer(view):
        p = probability({text.text for text in view.all(Text)})
        return Answer("yes" if p >= 0.5 else "no", ("yes", "no"), int(p < 0.5), (p, 1 - p))

    return answer


def ran(calls, probability, **options):
    parts = [*map(says, "abcdefg"), pose]
    ex = Executor(
        backend=[], primitives=parts, decoders=[yes_with(probability)], policy=list(calls), **options
    )
    return ex.run(Problem(task="yes_or_no", question="?"))


def yes(problem, answer):
    return answer.probabilities[0]


def test_the_shapley_values_add_up_to_what_the_whole_context_is_worth():
    weights = {"a": 0.3, "b": 0.1, "c": 0.05}
    shares = ran("abc", lambda s: 0.2 + sum(weights[w] for w in s)).contributions(yes)
    assert (shares.full, shares.empty) == pytest.approx((0.65, 0.2))
    assert sum(row.shapley for row in shares.rows) == pytest.approx(shares.full - shares.empty)
    assert [row.shapley for row in shares.rows] == pytest.approx([0.3, 0.1, 0.05])
    assert [row.leave_one_out for row in shares.rows] == pytest.approx([0.3, 0.1, 0.05])
    assert [row.action for row in shares.rows] == ["a", "b", "c"]
    assert shares.note == "score of the output"


def test_the_shapley_values_are_the_mean_over_every_order_in_which_entries_could_be_added():
    def worth(s):
        return 0.1 + 0.5 * ({"a", "b"} <= s) + 0.2 * ("c" in s) - 0.15 * ({"b", "c", "d"} <= s)

    shares = ran("abcd", worth).contributions(yes)
    expected = dict.fromkeys("abcd", 0.0)
    for order in itertools.permutations("abcd"):
        for i, name in enumerate(order):
            gain = worth(set(order[: i + 1])) - worth(set(order[:i]))
            expected[name] += gain / math.factorial(4)
    assert {row.action: row.shapley for row in shares.rows} == pytest.approx(expected)


def test_an_entry_that_the_output_does_not_depend_on_contributed_nothing():
    shares = ran(["a", "pose", "b"], lambda s: 0.9 if "a" in s else 0.3).contributions()
    by_action = {row.action: row for row in shares.rows}
    assert by_action["pose"].leave_one_out == by_action["pose"].shapley == 0
    assert by_action["b"].leave_one_out == by_action["b"].shapley == 0
    assert by_action["a"].leave_one_out == pytest.approx(0.6)
    assert (shares.full, shares.empty) == pytest.approx((1.0, 0.4))
    assert shares.note == "agreement with the output of the full context"


def test_of_two_entries_that_say_the_same_each_has_half_and_neither_is_missed():
    shares = ran("ab", lambda s: 0.9 if s else 0.1).contributions(yes)
    assert [row.leave_one_out for row in shares.rows] == pytest.approx([0, 0])
    assert [row.shapley for row in shares.rows] == pytest.approx([0.4, 0.4])


def test_beyond_six_entries_only_leave_one_out_is_measured():
    calls = []

    def counting(s):
        calls.append(s)
        return 0.1 + 0.1 * len(s)

    shares = ran("abcdefg", counting).contributions(yes)
    assert EXACT_UP_TO == 6 and len(calls) == 1 + 7 + 1
    assert all(row.shapley is None for row in shares.rows)
    assert [row.leave_one_out for row in shares.rows] == pytest.approx([0.1] * 7)


def test_contributions_are_batched_and_remembered():
    calls = []

    def counting(s):
        calls.append(frozenset(s))
        return 0.1 + 0.1 * len(s)

    run = ran("abc", counting)
    first = run.contributions()
    assert len(calls) == 8 and len(set(calls)) == 8, "the whole context had been decoded already"
    assert run.contributions() == first and len(calls) == 8


def test_a_context_of_nothing_has_no_contributions():
    shares = ran("", lambda s: 0.7).contributions(yes)
    assert shares.rows == [] and shares.full == shares.empty == pytest.approx(0.7)


def test_entries_of_the_same_action_are_told_apart_by_their_place():
    shares = ran(["a", Call("a", draw=1)], lambda s: 0.1 + 0.5 * len(s)).contributions(yes)
    assert [(row.entry_index, row.action) for row in shares.rows] == [(0, "a"), (1, "a")]


def test_a_context_without_which_there_is_no_answer_at_all_contributed_everything():
    def needs_a(s):
        if "a" not in s:
            raise ValueError("nothing to go by")
        return 0.8

    shares = ran("ab", needs_a).contributions()
    assert (shares.full, shares.empty) == (1.0, 0.0)
    assert [row.shapley for row in shares.rows] == pytest.approx([1, 0])


def test_measuring_does_not_count_against_the_budget_and_does_not_raise_where_strict():
    def needs_a(s):
        if "a" not in s:
            raise ValueError("nothing to go by")
        return 0.8

    run = ran("ab", needs_a, budget={"steps": 2}, strict=True)
    assert [row.shapley for row in run.contributions().rows] == pytest.approx([1, 0])


def test_a_run_without_output_has_no_contributions():
    run = ran("a", lambda s: 1 / 0)
    with pytest.raises(UnrollerError, match="has no output"):
        run.contributions()
