"""The journal: what was finished is in it, whatever happens, and a run goes on from it."""

import os
import struct
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from xxhash import xxh32_intdigest

from unroller import (
    STOP,
    Answer,
    Call,
    CameraPose,
    Cost,
    Decision,
    DepthMap,
    Executor,
    Image,
    Intrinsics,
    Latents,
    NovelViews,
    PointMap,
    Problem,
    Text,
    Value,
    Video,
    VisualTokens,
    decoder,
    policy,
    primitive,
    probe,
)
from unroller.faults import Fault, JournalError, UnrollerError
from unroller.journal import Journal, read_log
from unroller.workspace import Entry


@decoder(task="words", writes=Text)
def words(view):
    return Text(" ".join(text.text for text in view.all(Text)) or "nothing")


def problem(question="a", **fields):
    return Problem(task="words", question=question, **fields)


def counted(name="think", fails=False, **options):
    """A primitive, and the list of what it was called with."""
    calls = []

    def function(view):
        calls.append(view.question)
        if fails:
            raise ValueError("broken")
        return Text(f"{name} {view.question} {view.seed if options.get('stochastic') else ''}".strip())

    options = {"reads": ("question", Text), "writes": Text, "name": name} | options
    return primitive(**options)(function), calls


def executor(folder, *primitives, policy=("think",), resume=False, **options):
    return Executor(
        backend=[],
        primitives=primitives,
        decoders=options.pop("decoders", [words]),
        policy=list(policy) if isinstance(policy, tuple) else policy,
        journal=folder,
        resume=resume,
        **options,
    )


def shown(run):
    """A run, so that it can be compared with another."""
    entries = [(e.id, e.action, e.value, e.step, e.cost, e.draw) for e in run.entries]
    faults = [(f.action, f.kind, f.message, f.step, f.phase) for f in run.faults]
    measured = [(m.name, m.held, m.step) for m in run.measured]
    decided = [(d.calls, d.log_probability, d.step) for d in run.decisions]
    return run.output, entries, decided, faults, measured, run.cost


def run_then_resume(folder, *primitives, x=None, **options):
    with executor(folder, *primitives, **options) as ex:
        first = ex.run(x or problem())
    with executor(folder, *primitives, resume=True, **options) as ex:
        second = ex.run(x or problem())
    return first, second


# --------------------------------------------------------------------------------------------- round trip


class Tack(Value):
    degrees: float
    weights: np.ndarray | None = None


def every_value():
    f32 = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    rgb = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
    return [
        Text("où? </think><campose>", kind="caption"),
        Answer("left", ("left", "right"), 0, (0.75, 0.25)),
        CameraPose((0.6, 0.8, 0), (0, 0.1, 0), "unit", 0, 1, 30, 40, 0.5, "assumed"),
        CameraPose(np.array([1.0, 2, 3]), np.zeros(3)),
        Image(rgb, rgb[..., 0] > 7, "a.png", 500.0),
        Image(rgb[:2, :2]),
        NovelViews(np.stack([rgb, rgb]), ("left", "right"), poses=[((0, 0, 0), (0, 1, 0))] * 2),
        Video(np.stack([rgb] * 3), 12.5),
        DepthMap(f32, f32 > 0.5, "baseline", 1),
        DepthMap(f32.astype(np.float16)),
        DepthMap(f32.T),
        PointMap(np.dstack([f32] * 3), f32 + 1),
        VisualTokens(np.arange(600), "vq", 1024, (20, 30)),
        VisualTokens(np.arange(4, dtype=np.uint16), "vq", 1024),
        Latents(f32, "tiny"),
        Tack(30.0),
        Tack(30.0, np.ones((2, 0))),
    ]


def torch_values():
    torch = pytest.importorskip("torch")
    ramp = torch.linspace(0, 1, 4096).reshape(64, 64)
    return [
        DepthMap(ramp),
        DepthMap(ramp[:4, :4]),
        DepthMap(ramp.bfloat16()),
        DepthMap(ramp[:4, :4].bfloat16()),
        Latents(ramp.half().t(), "tiny"),
        Latents(ramp.to(torch.float8_e4m3fn), "tiny"),
        Latents(ramp.clone().requires_grad_(), "tiny"),
        VisualTokens(torch.arange(300), "vq", 1024),
        Image(torch.zeros(64, 64, 3, dtype=torch.uint8), torch.ones(64, 64, dtype=torch.bool)),
    ]


@pytest.mark.parametrize("values", [every_value, torch_values])
def test_every_type_of_value_comes_back_from_the_journal_as_it_was(tmp_path, values):
    values = values()

    @primitive(reads=("metadata",), writes=Value, max_batch=1)
    def giver(view):
        return values[view.metadata["n"]]

    xs = [problem(metadata={"n": n}) for n in range(len(values))]
    with executor(tmp_path, giver, policy=("giver",)) as ex:
        assert not any(r.faults for r in ex.map(xs))
    log = read_log(tmp_path)
    back = [run.events[1].value for run in log.runs]
    for value, again in zip(values, back, strict=True):
        assert type(again) is type(value)
        if "float8" in str(getattr(value, "hidden", np.zeros(1)).dtype):
            assert again.hidden.float().equal(value.hidden.float())
        else:
            assert again == value, value


def test_a_problem_comes_back_with_its_identity(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    given = [
        problem(),
        problem(choices=["a", "b"], metadata={"t": (1, 2), "n": {"x": None}}, seed=7),
        problem(images=[Image(pixels, source="a.png", focal_px=400.0), pixels[:2, :2]], look=("left",)),
        problem(images=[pixels, pixels], intrinsics=[None, np.diag([500.0, 500, 1])]),
        problem(images=[pixels], intrinsics=Intrinsics.default(50, 40)),
        problem(pose=CameraPose((1, 0, 0), (0, 0, 0)), prompt="draw"),
    ]
    with executor(tmp_path, policy=()) as ex:
        list(ex.map(given))
    back = [run.problem for run in read_log(tmp_path).runs]
    assert [x.identity for x in back] == [x.identity for x in given]
    assert back[2].images[0] == given[2].images[0] and back[1].choices == ("a", "b")


def test_an_array_of_12_mib_is_written_once_and_takes_hardly_more_than_its_bytes(tmp_path):
    array = np.random.default_rng(0).random((3, 1024, 1024), np.float32).reshape(3072, 1024)

    @primitive(reads=("question",), writes=DepthMap)
    def depth(view):
        return DepthMap(array)

    @primitive(reads=("question",), writes=DepthMap)
    def the_same(view):
        return DepthMap(array.copy())

    with executor(tmp_path, depth, the_same, policy=("depth", "the_same")) as ex:
        list(ex.map([problem("a"), problem("b")]))
    written = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert array.nbytes <= written <= 1.1 * array.nbytes
    assert len(list((tmp_path / "blobs").iterdir())) == 1


def test_nothing_is_read_from_disk_before_it_is_asked_for(tmp_path):
    def depth(view):
        return DepthMap(np.ones((64, 64), np.float32))

    p = primitive(reads=("question",), writes=DepthMap)(depth)
    run_then_resume(tmp_path, p, policy=("depth",))
    (blob,) = (tmp_path / "blobs").iterdir()
    blob.unlink()
    with executor(tmp_path, p, policy=("depth",), resume=True) as ex:
        run = ex.run(problem())
    assert run.output == Text("nothing") and run.entries[0].kind is DepthMap
    with pytest.raises(JournalError, match="missing or damaged"):
        _ = run.entries[0].value


# ------------------------------------------------------------------------------------------------- resume


def test_a_run_that_had_ended_comes_back_as_it_was_and_nothing_is_called(tmp_path):
    think, calls = counted()
    first, second = run_then_resume(tmp_path, think)
    assert calls == ["a"] and shown(first) == shown(second)
    assert second.spent.computed == 0 and second.number == first.number == 0
    assert [type(e) for e in first.events] == [type(e) for e in second.events]


def test_resuming_again_and_again_adds_nothing_but_sessions(tmp_path):
    think, _ = counted(stochastic=True)
    for n in range(4):
        with executor(tmp_path, think, policy=[("think", "think")], resume=n > 0) as ex:
            run = ex.run(problem())
            events = [type(e) for e in run.events]
    log = read_log(tmp_path)
    assert len(log.sessions) == 4 and len(log.runs) == 1
    assert [type(e) for e in log.runs[0].events] == events


def test_resume_with_nothing_to_resume_begins(tmp_path):
    think, calls = counted()
    with executor(tmp_path / "new" / "folder", think, resume=True) as ex:
        assert ex.run(problem()).output == Text("think a")
    assert calls == ["a"]


def test_what_code_that_has_changed_computes_anew_is_journaled_too(tmp_path):
    calls = []

    def version(number):
        def function(view):
            calls.append(number)
            return Text(number)

        return primitive(reads=("question",), writes=Text, name="think", version=number)(function)

    for n, number in enumerate(["1", "2", "2", "2"]):
        with executor(tmp_path, version(number), resume=n > 0) as ex:
            assert ex.run(problem()).output == Text(number)
    assert calls == ["1", "2"]
    (run,) = read_log(tmp_path).runs
    assert run.ended and run.events[-1].entry.value == Text("2")


def test_the_executor_resumes_all_runs_of_a_folder(tmp_path):
    think, calls = counted()
    with executor(tmp_path, think) as ex:
        firsts = list(ex.map([problem(q) for q in "abc"]))
    runs = executor(None, think).resume(tmp_path)
    assert [shown(r) for r in runs] == [shown(r) for r in firsts] and calls == list("abc")


def test_new_problems_can_join_a_resumed_journal(tmp_path):
    think, calls = counted()
    with executor(tmp_path, think) as ex:
        list(ex.map([problem("a"), problem("b")]))
    with executor(tmp_path, think, resume=True) as ex:
        runs = list(ex.map([problem(q) for q in "cba"]))
    assert calls == ["a", "b", "c"] and [r.number for r in runs] == [2, 1, 0]
    assert len(read_log(tmp_path).runs) == 3


def test_a_group_of_the_same_problem_is_resumed_member_by_member(tmp_path):
    think, calls = counted(stochastic=True)

    class Members:
        def decide(self, states):
            return [Call("think", draw=i) if s.step == 0 else STOP for i, s in enumerate(states)]

    with executor(tmp_path, think, policy=Members()) as ex:
        firsts = list(ex.map([problem()] * 4))

    class Never:
        def decide(self, states):
            raise AssertionError("decisions are replayed, not asked for again")

    with executor(tmp_path, think, policy=Never(), resume=True) as ex:
        seconds = list(ex.map([problem()] * 4))
    assert len(calls) == 4 and [shown(r) for r in firsts] == [shown(r) for r in seconds]


def test_a_fault_is_on_record_and_not_repeated(tmp_path):
    broken, calls = counted("broken", fails=True)
    think, _ = counted()
    first, second = run_then_resume(tmp_path, broken, think, policy=("broken", "broken", "think"))
    assert calls == ["a"] and shown(first) == shown(second)
    assert [f.phase for f in second.faults] == ["call", "refused"]


def test_a_decoder_that_failed_is_not_called_again(tmp_path):
    calls = []

    @decoder(task="words", writes=Text)
    def words(view):
        calls.append(1)
        raise ValueError("no words")

    first, second = run_then_resume(tmp_path, policy=(), decoders=[words])
    assert len(calls) == 1 and second.output is None and shown(first) == shown(second)


def test_probes_and_log_probabilities_are_on_record(tmp_path):
    asked = []

    @probe()
    def how_many(view):
        asked.append(1)
        return float(len(view.all(Text)))

    @policy(probes=("how_many",))
    def two(state):
        return Decision((Call("think", draw=state.step),), -0.5) if state.probe.how_many < 2 else STOP

    think, _ = counted(stochastic=True)
    first, second = run_then_resume(tmp_path, think, policy=two, probes=[how_many])
    assert len(asked) == 3 and shown(first) == shown(second)


def test_what_was_charged_is_still_charged_after_a_resume(tmp_path):
    calls = []

    @primitive(reads=("question",), writes=Text, cost=Cost(tokens=50), stochastic=True)
    def think(view):
        calls.append(1)
        view.charge(tokens=30)
        return Text("t")

    stops = [2]

    def greedy(state):
        if len(calls) == stops[0] and state.step == stops[0]:
            raise KeyboardInterrupt
        return Call("think", draw=state.step) if state.left.tokens >= 50 else STOP

    with (
        executor(tmp_path, think, policy=greedy, budget={"tokens": 140}) as ex,
        pytest.raises(KeyboardInterrupt),
    ):
        ex.run(problem())
    stops[0] = None
    with executor(tmp_path, think, policy=greedy, budget={"tokens": 140}, resume=True) as ex:
        run = ex.run(problem())
    assert len(calls) == 4 and run.cost == Cost(tokens=120), "two before, two after, a fifth does not fit"


def test_seconds_go_on_from_where_they_were(tmp_path):
    @primitive(reads=("question",), writes=Text, stochastic=True)
    def sleepy(view):
        time.sleep(0.15)
        return Text("z")

    stop = [True]

    def on(state):
        if stop[0] and state.step == 2:
            raise KeyboardInterrupt
        return Call("sleepy", draw=state.step)

    options = {"policy": on, "budget": {"seconds": 0.6}}
    with executor(tmp_path, sleepy, **options) as ex, pytest.raises(KeyboardInterrupt):
        ex.run(problem())
    stop[0] = False
    with executor(tmp_path, sleepy, resume=True, **options) as ex:
        run = ex.run(problem())
    assert 2 <= len(run.entries) <= 4


def test_a_fork_is_resumed_from_where_it_forked(tmp_path):
    think, calls = counted(stochastic=True, cost=Cost(1))
    with executor(tmp_path, think, policy=("think", Call("think", draw=1))) as ex:
        run = ex.run(problem())
        fork = ex.run(run.at(1))
    made = len(calls)
    starts = [recorded.start for recorded in read_log(tmp_path).runs]
    with executor(tmp_path, think, policy=("think",), resume=True) as ex:
        again = list(ex.map(starts))
    assert [shown(r) for r in again] == [shown(run), shown(fork)] and len(calls) == made
    assert fork.cost == Cost(model_calls=3)


def test_forks_come_back_when_all_runs_of_a_folder_are_resumed(tmp_path):
    think, _ = counted(stochastic=True)
    with executor(tmp_path, think, policy=("think", Call("think", draw=1))) as ex:
        run = ex.run(problem())
        fork = ex.run(run.at(1))
    again = executor(None, think).resume(tmp_path)
    assert [shown(r) for r in again] == [shown(run), shown(fork)]


def test_of_several_draws_side_by_side_those_that_went_well_survive_a_resume(tmp_path):
    calls = []

    @primitive(reads=("question",), writes=Text, stochastic=True)
    def flaky(view):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("the first draw")
        return Text(str(view.seed))

    draws = [tuple(Call("flaky", draw=n) for n in range(4))]
    first, second = run_then_resume(tmp_path, flaky, policy=draws)
    assert len(first.entries) == 3 and shown(first) == shown(second)


def test_a_call_that_overran_the_budget_is_still_charged_after_a_resume(tmp_path):
    @primitive(reads=("question",), writes=Text, cost=Cost(tokens=10))
    def greedy(view):
        view.charge(tokens=1000)
        return Text("g")

    first, second = run_then_resume(tmp_path, greedy, policy=("greedy",), budget={"tokens": 100})
    assert first.cost == Cost(tokens=100) and shown(first) == shown(second)


def test_a_policy_that_raised_is_still_on_record_after_a_resume(tmp_path):
    think, _ = counted()

    def lost(state):
        return "think" if state.step == 0 else [][1]

    first, second = run_then_resume(tmp_path, think, policy=lost)
    assert [f.kind for f in first.faults] == ["IndexError"] and shown(first) == shown(second)


def test_an_action_keeps_its_name_where_another_preset_made_the_same_call(tmp_path):
    from pydantic import BaseModel

    class Size(BaseModel):
        size: int = 1

    @primitive(reads=("question",), writes=Text, parameters=Size, presets={"small": {"size": 1}})
    def think(view):
        return Text("t")

    first, second = run_then_resume(tmp_path, think, policy=[("think", "think:small")])
    assert [e.action for e in first.entries] == ["think", "think:small"]
    assert [e.action for e in second.entries] == ["think", "think:small"]


@pytest.mark.parametrize("wrong", ["a str for a call", "a tensor for a probability"])
def test_a_decision_of_the_wrong_parts_does_not_spoil_the_journal(tmp_path, wrong):
    torch = pytest.importorskip("torch")
    think, _ = counted()
    decision = (
        Decision(("think",)) if wrong.startswith("a str") else Decision((Call("think"),), torch.tensor(-0.5))
    )
    with executor(tmp_path, think, policy=lambda s: STOP if s.step else decision) as ex:
        ex.run(problem())
    assert read_log(tmp_path).runs[0].ended


# ------------------------------------------------------------------------------------- torn and damaged


def a_journal(folder, count=4):
    think, calls = counted()
    with executor(folder, think) as ex:
        list(ex.map([problem(str(n)) for n in range(count)]))
    return think, calls


def frames(path):
    """Where each record begins, and where the file ends."""
    data = path.read_bytes()
    at, found = len(b"unroller journal 1\n"), []
    while at < len(data):
        found.append(at)
        at += 8 + struct.unpack_from("<I", data, at)[0]
    return [*found, at]


def test_a_record_torn_anywhere_is_dropped_and_the_rest_is_resumed(tmp_path):
    a_journal(tmp_path / "whole", 1)
    whole = (tmp_path / "whole" / "journal.log").read_bytes()
    starts = frames(tmp_path / "whole" / "journal.log")
    for cut in range(len(whole)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal.log").write_bytes(whole[:cut])
        log = read_log(folder)
        assert log.good_bytes + log.torn_bytes == cut
        assert log.good_bytes in (*starts, 0)
        if cut % 29 == 0 or cut in starts:
            think, calls = counted()
            with executor(folder, think, resume=True) as ex:
                assert ex.run(problem("0")).output == Text("think 0")
            assert len(calls) <= 1 and read_log(folder).torn_bytes == 0
            assert [r.ended for r in read_log(folder).runs] == [True]


def test_a_tail_of_zeros_left_by_a_power_cut_is_dropped(tmp_path):
    think, calls = a_journal(tmp_path)
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(bytes(4096))
    assert read_log(tmp_path).torn_bytes == 4096
    with executor(tmp_path, think, resume=True) as ex:
        list(ex.map([problem(str(n)) for n in range(4)]))
    assert len(calls) == 4


@pytest.mark.parametrize("where", ["length", "checksum", "payload"])
def test_damage_in_the_middle_is_an_error_that_says_where_and_what_to_do(tmp_path, where):
    a_journal(tmp_path)
    path = tmp_path / "journal.log"
    at = frames(path)[3]
    data = bytearray(path.read_bytes())
    data[at + {"length": 2, "checksum": 5, "payload": 12}[where]] ^= 0xFF
    path.write_bytes(data)
    for read in (lambda: read_log(tmp_path), lambda: Journal(tmp_path, resume=True)):
        with pytest.raises(JournalError, match=f"damaged record at byte {at}.*truncate -s {at}"):
            read()
    assert path.read_bytes() == data, "nothing is cut off by itself"
    os.truncate(path, at)
    assert read_log(tmp_path).torn_bytes == 0, "the advice works"


def test_a_flipped_bit_anywhere_never_goes_unnoticed_or_raises_anything_untyped(tmp_path):
    a_journal(tmp_path, 2)
    path = tmp_path / "journal.log"
    whole = path.read_bytes()
    events = sum(len(r.events) for r in read_log(tmp_path).runs)
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            log = read_log(tmp_path)
        except JournalError:
            continue
        assert log.torn_bytes > 0 and sum(len(r.events) for r in log.runs) < events


def test_a_folder_without_a_journal_and_a_file_that_is_none_say_so(tmp_path):
    with pytest.raises(JournalError, match="holds no journal"):
        read_log(tmp_path)
    (tmp_path / "journal.log").write_text("Dear diary")
    with pytest.raises(JournalError, match="is no journal of this version"):
        read_log(tmp_path)
    with pytest.raises(JournalError, match="is no journal of this version"):
        Journal(tmp_path)
    assert (tmp_path / "journal.log").read_text() == "Dear diary"


def test_a_value_of_a_type_that_nobody_knows_can_be_listed_but_not_gone_on_with(tmp_path):
    a_journal(tmp_path, 1)
    path = tmp_path / "journal.log"

    class Passing(Value):
        n: int

    giver = primitive(reads=(), writes=Passing, name="giver")(lambda view: Passing(1))
    with executor(tmp_path / "other", giver, policy=("giver",)) as ex:
        ex.run(problem())
    path = tmp_path / "other" / "journal.log"
    data, out = path.read_bytes(), b"unroller journal 1\n"
    starts = frames(path)
    for start, end in pairwise(starts):
        payload = data[start + 8 : end].replace(b"Passing", b"Missing")
        out += struct.pack("<II", len(payload), xxh32_intdigest(payload)) + payload
    path.write_bytes(out)
    (recorded,) = read_log(tmp_path / "other").runs
    (entry,) = [event for event in recorded.events if isinstance(event, Entry)]
    assert entry.value.words() == "a Missing, whose type is not registered here"
    with pytest.raises(JournalError, match="a Missing, whose type is not registered here: import the module"):
        Journal(tmp_path / "other", resume=True)


def test_of_two_types_with_one_name_the_one_with_the_same_fields_comes_back(tmp_path):
    def of(unit):
        namespace = {"__annotations__": {unit: float}, "__module__": f"plug_in_{unit}"}
        return type(Value)("Turning", (Value,), namespace)

    degrees, radians = of("degrees"), of("radians")
    giver = primitive(reads=(), writes=degrees, name="giver")(lambda view: degrees(12.0))
    run_then_resume(tmp_path, giver, policy=("giver",))
    ((entry,),) = [[e for e in r.events if isinstance(e, Entry)] for r in read_log(tmp_path).runs]
    assert type(entry.value) is degrees and type(entry.value) is not radians


@pytest.mark.timeout(20)
@pytest.mark.parametrize("tail", ["zeros", "begins of records", "lengths that overlap"])
@pytest.mark.timeout(30)  # looking for a record at every byte would take hours
def test_a_long_tail_that_is_no_record_is_seen_through(tmp_path, tail):
    a_journal(tmp_path, 1)
    record = struct.pack("<II", 200_000, 1) + b"\x92\x00\x81"
    made = {"zeros": bytes(6 << 20), "begins of records": b"\x92" * (2 << 20)}.get(tail, record * 45_000)
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(made)
    with suppress(JournalError):
        assert read_log(tmp_path).torn_bytes == len(made)


# -------------------------------------------------------------------------------- made up by somebody else


def made_up(folder, *records):
    folder.mkdir(exist_ok=True)
    payloads = [msgspec.msgpack.encode((0, record)) for record in records]
    frames = [struct.pack("<II", len(p), xxh32_intdigest(p)) + p for p in payloads]
    (folder / "journal.log").write_bytes(b"unroller journal 1\n" + b"".join(frames))


@pytest.mark.parametrize(
    "fields",
    [
        *[5, [1], {1: "t"}, {}, {"task": "t", "images": 5}, {"task": "t", "self": 1}, {"task": "T T"}],
        *[{"task": "t", "images": [{"type": "Text", "text": "a"}]}, {"task": "t", "pose": {"type": "Text"}}],
        {"task": "t", "images": [{"type": "Image", "pixels": "/etc/hostname"}]},
        {"task": "t", "images": [{"type": "Image", "pixels": None}]},
    ],
    ids=repr,
)
def test_a_problem_that_is_none_is_a_damaged_record(tmp_path, fields):
    made_up(tmp_path, {"type": "begun", "problem": fields})
    with pytest.raises(JournalError, match="damaged"):
        _ = read_log(tmp_path).runs[0].problem


def test_a_journal_opens_no_picture_files(tmp_path, monkeypatch):
    monkeypatch.setattr("unroller.images.open_image", lambda path: pytest.fail(f"opened {path}"))
    for n, fields in enumerate([{"images": ["/a/b.jpg"]}, {"images": "/a/b.jpg"}, {"pose": "/a/b"}]):
        made_up(tmp_path / str(n), {"type": "begun", "problem": {"task": "t"} | fields})
        with pytest.raises(JournalError, match="damaged record"):
            read_log(tmp_path / str(n))


@pytest.mark.parametrize(
    "packed",
    [
        *[["numpy", "float33", [1], b"1234"], ["numpy", "O", [1], b"12345678"]],
        ["numpy", "uint8", [5], b"1"],
        *[["numpy", "uint8", [-1], b"1"], ["numpy", "uint8", "a", b"1"], ["numpy", 5, [1], b"1"], 5, []],
        ["numpy", "uint8", [1], "../../etc/passwd"],
    ],
    ids=repr,
)
def test_a_damaged_array_is_a_journal_error(tmp_path, packed):
    array = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(packed))
    measured = {"type": "measured", "id": b"", "name": "p", "value": array}
    made_up(tmp_path, {"type": "begun", "problem": {"task": "t"}}, measured)
    with pytest.raises(JournalError):
        read_log(tmp_path)


def test_looking_at_runs_reads_no_pictures_and_neither_does_resuming(tmp_path):
    x = problem(images=[np.zeros((40, 40, 3), np.uint8)])
    think, calls = counted()
    with executor(tmp_path, think) as ex:
        ex.run(x)
    for blob in (tmp_path / "blobs").iterdir():
        blob.unlink()
    (recorded,) = read_log(tmp_path).runs
    assert recorded.identity == x.identity and recorded.ended and recorded.asked == problem()
    assert recorded.pictures == 1
    with executor(tmp_path, think, resume=True) as ex:
        assert ex.run(x).output == Text("think a")
    assert calls == ["a"]
    with pytest.raises(JournalError, match="missing or damaged"):
        _ = recorded.problem


# ------------------------------------------------------------------------------- what cannot be journaled


class Anything(Value):
    thing: object


def given(folder, thing, again=False):
    calls = []

    @primitive(reads=("question",), writes=Anything, version="1")
    def giver(view):
        calls.append(view.question)
        return Anything(thing if view.question == "odd" else 1)

    think, _ = counted(reads=("question", Anything))
    with executor(folder, giver, think, policy=("giver", "think"), resume=again) as ex:
        runs = list(ex.map([problem("odd"), problem("even")]))
    return runs, calls


def first_thing(folder):
    return next(e for e in read_log(folder).runs[0].events if isinstance(e, Entry)).value.thing


OBJECTS = np.array([object()])
ODD = [object(), 2**70, OBJECTS, OBJECTS.repeat(1000), np.zeros(2, "f4,f4"), 1j, {(1,): {1j}}]


@pytest.mark.parametrize("thing", ODD, ids=lambda thing: repr(thing)[:20])
def test_what_cannot_be_journaled_ends_nobodys_run_and_is_computed_again_on_a_resume(tmp_path, thing):
    with pytest.warns(UserWarning, match="giver: what it gave cannot be journaled as it is") as warned:
        first, _ = given(tmp_path, thing)
    assert len(warned) == 1 and not any(run.faults for run in first)
    held = [e.value for run in read_log(tmp_path).runs for e in run.events if isinstance(e, Entry)]
    assert any("Anything, which could not be journaled" in value.words() for value in held)
    second, calls = given(tmp_path, thing, again=True)
    assert calls == ["odd"] and [run.output for run in second] == [run.output for run in first]
    assert [type(e) for run in second for e in run.events] == [type(e) for run in first for e in run.events]


@pytest.mark.parametrize("side", [3, 3000])
@pytest.mark.parametrize(
    "dtype",
    [
        *["complex64", "complex128", "longdouble", "datetime64[s]", "timedelta64[ns]", "U3"],
        *[">f4", ">c16", ">M8[s]"],
    ],
)
def test_arrays_of_every_plain_type_come_back(tmp_path, dtype, side):
    array = np.arange(side).astype("int64" if "64[" in dtype or "M8" in dtype else "uint8").astype(dtype)
    given(tmp_path, array)
    back = first_thing(tmp_path)
    assert back.dtype == array.dtype and np.array_equal(back, array)


def test_a_conjugated_tensor_comes_back(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.arange(300).to(torch.complex128).mul(1 + 2j).conj()
    given(tmp_path, tensor)
    back = first_thing(tmp_path)
    assert back.equal(tensor.resolve_conj())


def test_half_a_character_is_spelled_out(tmp_path):
    with pytest.warns(UserWarning, match="surrogates not allowed"):
        given(tmp_path, {"a\udc80": ["b\udc81"]})
    back = first_thing(tmp_path)
    assert back == {"a\\udc80": ["b\\udc81"]}


def test_half_a_character_in_an_error_or_a_file_name_ends_nobodys_run(tmp_path):
    @primitive(reads=("question",), writes=Text)
    def think(view):
        raise ValueError("a\udc80")

    x = problem(images=[Image(np.zeros((4, 4, 3), np.uint8), source="a\udc80.png")])
    with pytest.warns(UserWarning, match="surrogates"), executor(tmp_path, think) as ex:
        ex.run(x)
    (run,) = read_log(tmp_path).runs
    assert run.problem.identity == x.identity and run.ended
    assert [e.message for e in run.events if isinstance(e, Fault)] == ["a\\udc80"]


def test_a_fork_from_what_could_not_be_journaled_is_left_out_of_a_resume(tmp_path):
    giver = primitive(reads=(), writes=Anything, name="giver")(lambda view: Anything(1j))
    options = {"policy": ("giver",)}
    with executor(tmp_path, giver, **options) as ex:
        with pytest.warns(UserWarning, match="giver: what it gave cannot be journaled"):
            run = ex.run(problem())
        with pytest.warns(UserWarning, match="a problem: what it gave cannot be journaled"):
            ex.run(run.at(1))
    with pytest.warns(UserWarning, match="run 1 forked from a context with a Anything"):
        runs = executor(None, giver, policy=("giver",)).resume(tmp_path)
    assert [run.number for run in runs] == [0]


# --------------------------------------------------------------------------------------- who may write it


def test_a_journal_that_exists_is_not_written_over(tmp_path):
    think, _ = a_journal(tmp_path)
    before = (tmp_path / "journal.log").read_bytes()
    with pytest.raises(JournalError, match="already holds a journal of 4 runs: pass resume=True"):
        executor(tmp_path, think)
    assert (tmp_path / "journal.log").read_bytes() == before


def test_a_second_writer_is_refused_until_the_first_closes(tmp_path):
    think, _ = counted()
    first = executor(tmp_path, think)
    with pytest.raises(JournalError, match=r"another executor of this process holds it: close\(\) it first"):
        executor(tmp_path, think, resume=True)
    code = f"from unroller.journal import Journal; Journal({str(tmp_path)!r}, resume=True)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is being written by another process" in other.stderr
    first.close()
    executor(tmp_path, think, resume=True).close()


def test_a_path_that_no_system_could_have_is_a_clear_error():
    with pytest.raises(JournalError, match="null byte"):
        Journal("a\0b")
    with pytest.raises(JournalError, match="null byte"):
        read_log("a\0b")


def test_a_closed_journal_takes_no_more(tmp_path):
    think, _ = counted()
    ex = executor(tmp_path, think)
    ex.run(problem())
    ex.close()
    ex.close()
    with pytest.raises(JournalError, match="is closed"):
        ex.run(problem("b"))
    assert len(read_log(tmp_path).runs) == 1


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    think, _ = counted()
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/unroller"):
        with pytest.raises(JournalError, match="cannot write a journal in"):
            executor(folder, think)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "drive",
    ["run", "map"],
)
def test_a_file_in_the_way_of_the_blobs_is_a_clear_error_and_no_endless_loop(tmp_path, drive):
    (tmp_path / "blobs").write_text("in the way")
    x = problem(images=[np.zeros((40, 40, 3), np.uint8)])
    with executor(tmp_path, policy=()) as ex, pytest.raises(JournalError, match="cannot be written"):
        ex.run(x) if drive == "run" else list(ex.map([x]))


def test_durability_is_one_of_three_words(tmp_path):
    for durability in ("step", "run", "exit"):
        think, _ = counted()
        with executor(tmp_path / durability, think, durability=durability) as ex:
            ex.run(problem())
        assert read_log(tmp_path / durability).runs[0].ended
    with pytest.raises(JournalError, match="'step', 'run' or 'exit'"):
        Journal(tmp_path, durability="always")


def test_a_call_is_in_the_journal_before_the_next_decision(tmp_path):
    think, _ = counted(stochastic=True)
    entries = []

    def watch(state):
        events = read_log(tmp_path).runs[0].events
        entries.append(sum(type(e).__name__ == "Entry" for e in events))
        return Call("think", draw=state.step) if state.step < 3 else STOP

    with executor(tmp_path, think, policy=watch) as ex:
        ex.run(problem())
    assert entries == [0, 1, 2, 3]


def test_a_strict_run_that_fails_keeps_what_was_finished(tmp_path):
    def function(view):
        if view.question == "b":
            raise ValueError("b is bad")
        return Text(view.question)

    p = primitive(reads=("question",), writes=Text, name="think")(function)
    ex = executor(tmp_path, p, strict=True)
    with pytest.raises(UnrollerError):
        list(ex.map([problem("a"), problem("b")]))
    # The process ends here, without closing the journal.
    assert any(type(e).__name__ == "Entry" for r in read_log(tmp_path).runs for e in r.events)


# ---------------------------------------------------------------------------------------------- full disk


FULL = """
    import resource, sys
    import numpy as np
    from unroller import Executor, Problem, Text, DepthMap, decoder, primitive
    from unroller.faults import JournalError

    folder, limit, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    @primitive(reads=("question",), writes=Text, version="1", max_batch=1)
    def think(view):
        print("computed", view.question, flush=True)
        return Text("x" * 500 + view.question)

    @primitive(reads=("question",), writes=DepthMap, version="1", max_batch=1)
    def depth(view):
        return DepthMap(np.full((100, 100), float(view.question), np.float32))

    words = decoder(task="words", writes=Text, version="1", name="words")(lambda view: Text("done"))
    calls = ["think", "depth"] if limit > 10_000 else ["think"]
    try:
        with Executor(backend=[], primitives=[think, depth], decoders=[words], policy=calls,
                      journal=folder, resume=resume, window=2) as ex:
            for run in ex.map(Problem(task="words", question=str(n)) for n in range(20)):
                print("ended", run.problem.question, flush=True)
    except JournalError as error:
        print("JournalError", error)
"""


@pytest.mark.parametrize("limit", [6_000, 30_000], ids=["the log is full", "a blob does not fit"])
def test_a_full_disk_is_a_clear_error_and_what_was_finished_is_kept(tmp_path, limit):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(FULL))

    def go(limit, resume):
        command = [sys.executable, script, tmp_path / "journal", str(limit), resume]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert not done.stderr, done.stderr
        return [line.split(maxsplit=2) for line in done.stdout.splitlines()]

    first = go(limit, "new")
    assert first[-1][0] == "JournalError" and "make room and resume it" in first[-1][2]
    ended = [line[1] for line in first if line[0] == "ended"]
    log = read_log(tmp_path / "journal")
    assert log.torn_bytes == 0 and [r.problem.question for r in log.runs if r.ended] == ended
    finished = {r.problem.question for r in log.runs for e in r.events if type(e).__name__ == "Entry"}
    assert 0 < len(finished) < 20
    second = go(0, "resume")
    computed = {line[1] for line in second if line[0] == "computed"}
    assert not computed & finished and sum(line[0] == "ended" for line in second) == 20


def test_a_device_that_is_full_is_a_clear_error(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    journal = Journal(tmp_path)
    os.dup2(os.open("/dev/full", os.O_RDWR), journal._file)
    ex = executor(None, policy=())
    ex._setup.recorder = journal
    with pytest.raises(JournalError, match="No space left on device"):
        ex.run(problem())
