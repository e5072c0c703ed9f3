"""What a language model's reply says to call: every kind of reply, and nonsense."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.replies import named

NAMES = ["text_think", "depth_estimate", "novel_view_synthesis", "novel_view_synthesis:sides", "look"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        # the name, as one would write it
        ("text_think", ["text_think"]),
        ("  `Text_Think`. ", ["text_think"]),
        ("text think", ["text_think"]),
        ("text-think", ["text_think"]),
        ("**depth_estimate**", ["depth_estimate"]),
        ("1. depth_estimate", ["depth_estimate"]),
        ("Action: look", ["look"]),
        ("novel_view_synthesis:sides", ["novel_view_synthesis:sides"]),
        ("STOP", ["STOP"]),
        ("stop.", ["STOP"]),
        ("Answer", ["STOP"]),
        # tool calls
        ('{"name": "text_think", "arguments": {"max_tokens": 9}}', ["text_think"]),
        ('<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>', ["look"]),
        ('{"function": {"name": "look"}}', ["look"]),
        ('{"tool_calls": [{"function": {"name": "look"}}]}', ["look"]),
        ('```json\n{"tool": "depth_estimate"}\n``` and {"tool": "look"}', ["depth_estimate", "look"]),
        ('{"name": "stop"}', ["STOP"]),
        ('{"name": "text_thinkk"}', ["text_think"]),
        ('{"name": "rm -rf"}', []),
        ('{"name": 7}', []),
        ('{"name": "text_think"', ["text_think"]),
        # thoughts do not count
        ("<think>I could depth_estimate.</think>\nlook", ["look"]),
        ("I could depth_estimate.</think> text_think", ["text_think"]),
        ("<think>text_think, no, depth_estimate", []),
        # several, and prose
        ("text_think\nlook", ["text_think", "look"]),
        ("text_think, depth_estimate", ["text_think", "depth_estimate"]),
        ("First depth_estimate and then text_think, then depth_estimate.", ["depth_estimate", "text_think"]),
        ("I would look closely.", []),
        ('I would "look" closely.', ["look"]),
        ("There is enough: STOP.", ["STOP"]),
        ("I cannot stop here.", []),
        # near
        ("text_thnik", ["text_think"]),
        ("depthestimate", ["depth_estimate"]),
        ("I choose depth_estimation now", ["depth_estimate"]),
        ("loook", []),
        # nothing
        ("", []),
        ("   \n", []),
        ("red cone left", []),
        ("{" * 5000, []),
        ('{"a":' * 3000, []),
        ("`" * 20_000, []),
        ("\x00\ud800", []),
    ],
)
def test_what_a_reply_names(reply, expected):
    assert named(reply, NAMES) == expected


@settings(deadline=None)
@given(st.text(max_size=300), st.text(max_size=40))
def test_nonsense_names_only_what_there_is_and_each_once(before, after):
    for reply in (before, f"{before}text_think{after}", f'{before}{{"name": {json.dumps(after)}}}'):
        found = named(reply, NAMES)
        assert set(found) <= {*NAMES, "STOP"} and len(set(found)) == len(found)


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.text(alphabet=" \t\n`'\".", max_size=6), st.booleans())
def test_a_name_alone_is_always_understood(name, around, loud):
    assert named(f"{around}{name.upper() if loud else name}{around[::-1]}", NAMES) == [name]


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda held: (
            st.lists(held, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "tool", "function", "x"]), held, max_size=3)
        ),
    )
)
def test_any_json_is_survived(held):
    assert set(named(json.dumps(held), NAMES)) <= {*NAMES, "STOP"}


def test_an_action_that_bears_the_name_of_a_word_for_stopping_is_the_action():
    assert named("decode", ["decode"]) == ["decode"] and named("STOP", ["decode"]) == ["STOP"]
