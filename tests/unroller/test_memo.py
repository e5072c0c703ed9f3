"""Memos: in memory within bounds, on disk for several processes, and never wrong when damaged."""

import sqlite3

import numpy as np
import pytest

from unroller import Answer, Cost, DepthMap, Executor, Image, Problem, Text, Value, decoder, primitive
from unroller.faults import MemoError
from unroller.memo import DiskMemo, MemoryMemo, as_memo


def key(n):
    return n.to_bytes(16, "big")


def depth(value=1.0, side=32):
    return DepthMap(np.full((side, side), value, np.float32))


def put_all(memo, values):
    for n, value in values.items():
        memo.put(key(n), value, Cost())


@decoder(task="words", writes=Text)
def words(view):
    return Text("words")


# ---------------------------------------------------------------------------------------------- in memory


def test_what_was_put_is_got_with_its_cost():
    memo = MemoryMemo()
    memo.put(key(1), Text("a"), Cost(1))
    assert memo.get(key(1)) == (Text("a"), Cost(1)) and memo.get(key(2)) is None and len(memo) == 1


def test_a_full_memo_lets_go_of_what_was_made_first():
    memo = MemoryMemo(max_items=3)
    for n in range(5):
        memo.put(key(n), Text(str(n)), Cost())
    assert [memo.get(key(n)) is not None for n in range(5)] == [False, False, True, True, True]


def test_arrays_are_bounded_by_their_bytes():
    image = Image(np.zeros((10, 10, 3), np.uint8))
    memo = MemoryMemo(max_bytes=1000)
    for n in range(10):
        memo.put(key(n), image, Cost())
        assert memo.bytes <= 1000
    assert len(memo) == 3 and memo.bytes == 900
    memo.put(key(99), Image(np.zeros((100, 100, 3), np.uint8)), Cost())
    assert len(memo) == 1 and memo.get(key(99)), "one that is larger than all of it is held alone"


def test_putting_the_same_again_is_not_counted_twice():
    memo = MemoryMemo()
    for _ in range(5):
        memo.put(key(1), depth(), Cost())
    assert memo.bytes == 32 * 32 * 4


def test_vectors_that_probes_measured_are_counted_too():
    memo = MemoryMemo(max_bytes=1000)
    for n in range(10):
        memo.put(key(n), np.zeros(50), Cost())
    assert memo.bytes <= 1000


def test_an_evicted_value_is_computed_again():
    calls = []

    @primitive(reads=("question",), writes=Text)
    def think(view):
        calls.append(view.question)
        return Text("t")

    ex = Executor(
        backend=[], primitives=[think], decoders=[words], policy=["think"], memo=MemoryMemo(max_items=2)
    )
    for q in "aba":
        ex.run(Problem(task="words", question=q))
    assert calls == ["a", "b", "a"]


# ------------------------------------------------------------------------------------------------ on disk


class Azimuth(Value):
    degrees: float


@pytest.mark.parametrize("value", [Text("a"), depth(), depth(side=4), Azimuth(30.0), 0.25, np.arange(3.0)])
def test_a_value_comes_back_from_disk_as_it_was(tmp_path, value):
    DiskMemo(tmp_path).put(key(1), value, Cost(1, 2, 0.5))
    back, cost = DiskMemo(tmp_path).get(key(1))
    assert type(back) is type(value) and np.all(back == value) and cost == Cost(1, 2, 0.5)


def test_torch_tensors_come_back_as_torch_tensors_bfloat16_included(tmp_path):
    torch = pytest.importorskip("torch")
    value = DepthMap(torch.full((64, 64), 1.5, dtype=torch.bfloat16))
    DiskMemo(tmp_path).put(key(1), value, Cost())
    assert DiskMemo(tmp_path).get(key(1))[0] == value


def test_a_damaged_record_is_a_miss_and_is_made_good(tmp_path):
    memo = DiskMemo(tmp_path)
    for n in range(3):
        memo.put(key(n), Text(str(n)), Cost())
    memo.close()
    with sqlite3.connect(tmp_path / "memo.sqlite") as sql:
        sql.execute("UPDATE memo SET record = ? WHERE id = ?", (b"\xc1 no msgpack", key(0)))
        sql.execute("UPDATE memo SET record = substr(record, 1, 3) WHERE id = ?", (key(1),))
    sql.close()
    memo = DiskMemo(tmp_path)
    assert memo.get(key(0)) is None and memo.get(key(1)) is None and memo.get(key(2))
    memo.put(key(0), Text("again"), Cost())
    assert DiskMemo(tmp_path).get(key(0))[0] == Text("again")


@pytest.mark.parametrize("damage", ["cut short", "one byte changed", "gone"])
def test_a_damaged_array_is_a_miss_and_is_made_good(tmp_path, damage):
    DiskMemo(tmp_path).put(key(1), depth(), Cost())
    (blob,) = (tmp_path / "blobs").iterdir()
    whole = blob.read_bytes()
    if damage == "gone":
        blob.unlink()
    else:
        blob.write_bytes(whole[:200] if damage == "cut short" else whole[:-1] + b"\x99")
    memo = DiskMemo(tmp_path)
    assert memo.get(key(1)) is None
    memo.put(key(1), depth(), Cost())
    assert blob.read_bytes() == whole
    assert DiskMemo(tmp_path).get(key(1))[0] == depth()


def test_equal_arrays_are_kept_once(tmp_path):
    memo = DiskMemo(tmp_path)
    for n in range(10):
        memo.put(key(n), depth(), Cost())
    assert len(list((tmp_path / "blobs").iterdir())) == 1


def test_a_value_whose_type_nobody_knows_any_more_is_a_miss(tmp_path):
    class Passing(Value):
        n: int

    DiskMemo(tmp_path).put(key(1), Passing(3), Cost())
    memo = DiskMemo(tmp_path)
    memo._sql.execute("UPDATE memo SET record = replace(record, ?, ?)", (b"Passing", b"Missing"))
    assert memo.get(key(1)) is None


def test_a_file_in_the_way_of_the_folder_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "below", "/proc/unroller"):
        with pytest.raises(MemoError, match="cannot be opened"):
            DiskMemo(place)


def test_a_path_that_no_system_could_have_is_a_clear_error():
    with pytest.raises(MemoError, match="cannot be opened: .*null byte"):
        DiskMemo("a\0b")


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "memo.sqlite").write_bytes(b"these are no tables" * 100)
    with pytest.raises(MemoError, match="cannot be opened"):
        DiskMemo(tmp_path)


def test_a_value_that_is_no_plain_data_is_kept_in_memory_with_one_warning(tmp_path):
    class Odd(Value):
        thing: object

    memo = DiskMemo(tmp_path)
    with pytest.warns(UserWarning, match="a Odd cannot be kept on disk") as warned:
        put_all(memo, {1: Odd(object()), 2: Odd(2**70)})
    assert len(warned) == 1 and memo.get(key(2)) and len(memo) == 0
    memo.put(key(3), Text("a"), Cost())
    assert len(memo) == 1


def test_a_flipped_bit_anywhere_in_a_record_is_a_miss(tmp_path):
    first = DiskMemo(tmp_path)
    first.put(key(1), Answer("left", ("left", "right"), 0, (0.75, 0.25)), Cost(1, 2, 0.5))
    first.put(key(2), np.arange(3.0), Cost())
    for id in (key(1), key(2)):
        ((whole,),) = first._sql.execute("SELECT record FROM memo WHERE id = ?", (id,)).fetchall()
        for at in range(8 * len(whole)):
            flipped = bytearray(whole)
            flipped[at // 8] ^= 1 << at % 8
            first._sql.execute("UPDATE memo SET record = ? WHERE id = ?", (bytes(flipped), id))
            first.memory = MemoryMemo()
            assert first.get(id) is None


@pytest.mark.parametrize("record", [None, 5, "text", b"", 0.5])
def test_a_record_of_another_kind_is_a_miss(tmp_path, record):
    memo = DiskMemo(tmp_path)
    memo._sql.execute("INSERT INTO memo VALUES (?, ?)", (key(1), record))
    assert memo.get(key(1)) is None


@pytest.mark.parametrize("full", ["the tables", "the arrays"])
def test_a_full_disk_ends_no_run_and_is_warned_of_once(tmp_path, full):
    memo = DiskMemo(tmp_path)
    if full == "the tables":
        memo._sql.execute("PRAGMA max_page_count = 1")
    else:
        (tmp_path / "blobs").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot be written.*in memory only") as warned:
        put_all(memo, {n: Text("x" * 100_000) if full == "the tables" else depth(n) for n in range(3)})
    assert len(warned) == 1 and all(memo.get(key(n)) for n in range(3))


def test_two_memos_on_one_folder_see_each_others_values(tmp_path):
    one, two = DiskMemo(tmp_path), DiskMemo(tmp_path)
    one.put(key(1), Text("one"), Cost())
    two.put(key(2), depth(), Cost())
    assert two.get(key(1))[0] == Text("one") and one.get(key(2))[0] == depth()
    assert len(one) == len(two) == 2


def test_a_memo_is_named_by_a_word_a_folder_or_itself(tmp_path):
    held = MemoryMemo()
    assert isinstance(as_memo("memory"), MemoryMemo) and as_memo(None) is None and as_memo(held) is held
    assert isinstance(as_memo(tmp_path), DiskMemo) and isinstance(as_memo(str(tmp_path)), DiskMemo)
