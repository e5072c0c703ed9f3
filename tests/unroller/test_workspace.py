"""The workspace C_t: append-only, shared, with a chain for every set of types that is read."""

import itertools

import numpy as np
import pytest

from unroller import CameraPose, DepthMap, Entry, Text, Value, Workspace
from unroller.rendering import in_words

_ids = itertools.count(1)


def entry(value, action="made"):
    return Entry(next(_ids).to_bytes(16, "big"), action, value)


def context(*values):
    workspace = Workspace()
    for value in values:
        workspace = workspace.compose(entry(value))
    return workspace


def pose(x, source=0, target=1):
    return CameraPose((x, 0, 0), (0, 0, 0), source=source, target=target)


def depth(value, photo=0):
    return DepthMap(np.full((2, 2), float(value)), photo=photo)


def test_composing_leaves_the_workspace_as_it_was_and_shares_it():
    before = context(Text("a"))
    after = before.compose(entry(Text("b")))
    assert [e.value.text for e in before] == ["a"] and [e.value.text for e in after] == ["a", "b"]
    assert after.parent is before and after[0] is before[0] and len(after) == 2
    left, right = after.compose(entry(Text("l"))), after.compose(entry(Text("r")))
    assert left.parent is right.parent, "forking is a reference"


def test_the_newest_value_of_a_type_is_its_latest_and_all_are_kept():
    workspace = context(Text("a"), pose(1), Text("b"), pose(2))
    assert workspace.latest(Text) == Text("b")
    assert workspace.latest(DepthMap) is None
    assert workspace.all(Text) == [Text("a"), Text("b")]
    assert workspace.all(CameraPose) == [pose(1), pose(2)]


def test_of_values_that_replace_one_another_only_the_newest_of_each_slot_stands():
    workspace = context(pose(1), pose(2, 1, 0), pose(3), Text("a"), Text("a"))
    assert workspace.current(CameraPose) == [pose(2, 1, 0), pose(3)]
    assert workspace.current(Text) == [Text("a"), Text("a")], "text is appended, never replaced"
    assert len(workspace.all(CameraPose)) == 3, "history stays"
    two_photos = context(depth(1, 0), depth(2, 1), depth(3, 0))
    assert [d.photo for d in two_photos.current(DepthMap)] == [1, 0]


def test_asking_for_a_base_type_finds_its_subclasses_in_written_order():
    class Note(Text):
        pass

    workspace = context(Text("a"), Note("b"), pose(1))
    assert [type(v) for v in workspace.all(Text)] == [Text, Note]
    assert workspace.all(Note) == [Note("b")]
    assert len(workspace.all(Value)) == 3


def test_a_chains_digest_depends_on_its_entries_and_their_order_and_on_no_others():
    a, b, p = entry(Text("a")), entry(Text("b")), entry(pose(1))
    root = Workspace()
    ab = root.compose(a).compose(b)
    ba = root.compose(b).compose(a)
    apb = root.compose(a).compose(p).compose(b)
    digest = {name: w.chain((Text,)).digest for name, w in {"ab": ab, "ba": ba, "apb": apb}.items()}
    assert digest["ab"] == digest["apb"] != digest["ba"]
    assert ab.chain((Text, CameraPose)).digest != apb.chain((Text, CameraPose)).digest
    assert root.chain((Text,)).digest != ab.at(1).chain((Text,)).digest


def test_the_order_in_which_chains_are_asked_for_does_not_change_them():
    entries = [entry(Text("a")), entry(pose(1)), entry(Text("b")), entry(depth(1))]
    kinds = [(Text,), (CameraPose,), (Text, CameraPose), (Value,), (DepthMap,)]

    def build():
        workspace = Workspace()
        for e in entries:
            workspace = workspace.compose(e)
        return workspace

    eager = Workspace()
    for e in entries:
        eager = eager.compose(e)
        for k in kinds:
            eager.chain(k)
    for order in itertools.permutations(kinds):
        lazy = build()
        assert [lazy.chain(k).digest for k in order] == [eager.chain(k).digest for k in order]
        assert [lazy.chain(k).length for k in kinds] == [2, 1, 3, 4, 1]


def test_the_workspace_as_it_was_can_be_had_back():
    workspace = context(Text("a"), Text("b"), Text("c"))
    assert [e.value.text for e in workspace.at(2)] == ["a", "b"]
    assert workspace.at(3) is workspace and len(workspace.at(0)) == 0
    for size in (-1, 4):
        with pytest.raises(IndexError, match="0 to 3 entries"):
            workspace.at(size)


def test_context_is_rendered_in_the_order_it_was_written():
    workspace = context(Text("first"), pose(1), Text("then", kind="caption"))
    assert in_words(workspace.segments()) == (
        "<think>first</think>\n"
        "<campose>1.000000 0.000000 0.000000 0.000000 0.000000 0.000000</campose>\n"
        "<caption>then</caption>"
    )


def test_a_longer_context_only_adds_to_the_end_of_a_shorter_one():
    workspace = context(Text("a"), pose(1), Text("b"))
    whole = in_words(workspace.segments())
    assert all(whole.startswith(in_words(workspace.at(n).segments())) for n in range(4))


def test_a_very_long_context_is_built_read_and_dropped_without_recursion():
    workspace = Workspace()
    shared = Text("x")
    for i in range(50_000):
        workspace = workspace.compose(Entry(i.to_bytes(16, "big"), "say", shared))
    assert workspace.chain((Text,)).length == 50_000
    longer = workspace.compose(entry(Text("end")))
    assert longer.latest(Text) == Text("end") and longer.chain((Text,)).older is workspace.chain((Text,))
    del workspace, longer


def test_a_workspace_shows_what_was_called():
    assert repr(Workspace().compose(entry(Text("a"), "think"))) == "Workspace(think)"
