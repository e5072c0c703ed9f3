"""One batch that goes wrong: retried, halved, isolated, timed out; and what is on record afterwards."""

import threading
import time
import weakref

import numpy as np
import pytest

from unroller import Cost, DepthMap, Executor, Problem, Text, Value, decoder, primitive
from unroller.arrays import Array
from unroller.faults import InputError, TransientError


@decoder(task="words", writes=Text)
def words(view):
    return Text(" ".join(text.text for text in view.all(Text)) or "nothing")


def problems(count):
    return [Problem(task="words", metadata={"n": i}) for i in range(count)]


def number(view):
    return view.metadata["n"]


def runs_of(p, count=1, **options):
    ex = Executor(backend=[], primitives=[p], decoders=[words], policy=[p.name], **options)
    return list(ex.map(problems(count)))


def a_primitive(function, **options):
    options = {"reads": ("metadata",), "writes": Text, "name": "p"} | options
    return primitive(**options)(function)


def values(views):
    return [Text(str(number(v))) for v in views]


def kinds(runs):
    """Of each run, the kinds of its faults."""
    return [[f.kind for f in r.faults] for r in runs]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Attempts follow at once."""
    from unroller import dispatch

    monkeypatch.setattr(dispatch, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(dispatch, "LONGEST_WAIT", 0.002)


# -------------------------------------------------------------------------------------------------- retry


@pytest.mark.parametrize("error", [TransientError, ConnectionResetError, TimeoutError])
@pytest.mark.parametrize("batched", [False, True])
def test_a_transient_error_is_tried_again_and_forgotten_when_it_goes_well(error, batched):
    attempts = []

    def function(views):
        attempts.append(1)
        if len(attempts) < 3:
            raise error("busy")
        return values(views) if batched else Text("0")

    (run,) = runs_of(a_primitive(function, batched=batched))
    assert len(attempts) == 3 and run.output == Text("0") and not run.faults


def test_a_transient_error_that_stays_is_a_fault_with_the_number_of_attempts():
    attempts = []

    def function(view):
        attempts.append(1)
        raise TransientError("still busy")

    (run,) = runs_of(a_primitive(function))
    assert len(attempts) == 3
    assert [(f.kind, f.attempts, f.message) for f in run.faults] == [("TransientError", 3, "still busy")]


def test_an_error_that_is_not_transient_is_not_tried_again():
    attempts = []

    def function(view):
        attempts.append(1)
        raise InputError("these photos have no overlap")

    (run,) = runs_of(a_primitive(function))
    assert len(attempts) == 1 and run.faults[0].attempts == 1


def test_only_the_sample_that_failed_transiently_is_tried_again():
    calls = []

    def function(view):
        calls.append(number(view))
        if number(view) == 2 and calls.count(2) == 1:
            raise ConnectionError("dropped")
        return Text(str(number(view)))

    runs = runs_of(a_primitive(function), 5)
    assert sorted(calls) == [0, 1, 2, 2, 3, 4] and kinds(runs) == [[]] * 5


def test_a_transient_error_that_turns_into_another_is_that_one():
    attempts = []

    def function(view):
        attempts.append(1)
        raise TransientError("busy") if len(attempts) == 1 else ValueError("broken after all")

    (run,) = runs_of(a_primitive(function))
    assert kinds([run]) == [["ValueError"]]


def test_what_failed_attempts_charged_is_not_added_up():
    attempts = []

    def function(view):
        attempts.append(1)
        view.charge(tokens=10)
        if len(attempts) == 1:
            raise TransientError("busy")
        return Text("done")

    (run,) = runs_of(a_primitive(function, cost=Cost(tokens=100)))
    assert run.cost == Cost(tokens=10)


# ------------------------------------------------------------------------------------------------ isolate


def test_one_bad_sample_among_64_is_found_and_the_others_are_kept():
    calls = []

    def function(views):
        calls.append(len(views))
        if any(number(v) == 37 for v in views):
            raise ValueError("37 is bad")
        return values(views)

    runs = runs_of(a_primitive(function, batched=True), 64)
    assert [i for i, r in enumerate(runs) if r.faults] == [37]
    assert len(calls) <= 13, "halving, not one by one"
    assert calls[0] == 64 and runs[0].output == Text("0")


def test_several_bad_samples_are_each_found():
    bad = {0, 5, 6, 31}

    def function(views):
        if bad & {number(v) for v in views}:
            raise ValueError("bad")
        return values(views)

    runs = runs_of(a_primitive(function, batched=True), 32)
    assert {i for i, r in enumerate(runs) if r.faults} == bad


def test_an_exception_in_place_of_a_value_is_that_samples_alone():
    calls = []

    def function(views):
        calls.append(len(views))
        return [InputError("odd") if number(v) % 2 else Text("even") for v in views]

    runs = runs_of(a_primitive(function, batched=True), 4)
    assert calls == [4]
    assert kinds(runs) == [[], ["InputError"], [], ["InputError"]]


def test_a_plain_function_that_raises_for_one_sample_does_not_cost_its_mates_what_they_have():
    calls = []

    def function(view):
        calls.append(number(view))
        return Text(str(1 // number(view)))

    runs = runs_of(a_primitive(function), 5)
    assert calls == [0, 1, 2, 3, 4] and kinds(runs) == [["ZeroDivisionError"], [], [], [], []]


def test_out_of_memory_halves_the_batch_and_remembers_it():
    sizes = []

    def function(views):
        sizes.append(len(views))
        if len(views) > 10:
            raise MemoryError
        return values(views)

    ex = Executor(
        backend=[],
        primitives=[a_primitive(function, batched=True)],
        decoders=[words],
        policy=["p"],
        memo=None,
    )
    assert kinds(ex.map(problems(64))) == [[]] * 64
    sizes.clear()
    assert kinds(ex.map(problems(64))) == [[]] * 64
    assert max(sizes) <= 16, "the next batches are smaller from the start"


def really_out_of_memory(torch):
    torch.empty(10**15)


def out_of_memory_on_a_gpu(torch):
    raise torch.OutOfMemoryError("CUDA out of memory")


def out_of_memory_in_a_library(torch):
    raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


@pytest.mark.parametrize(
    "exhausted", [really_out_of_memory, out_of_memory_on_a_gpu, out_of_memory_in_a_library]
)
def test_torch_running_out_of_memory_halves_the_batch_too(exhausted):
    torch = pytest.importorskip("torch")
    sizes = []

    def function(views):
        sizes.append(len(views))
        if len(views) > 4:
            exhausted(torch)
        return values(views)

    assert kinds(runs_of(a_primitive(function, batched=True), 16)) == [[]] * 16
    assert sizes == [16, 8, 4, 4, 8, 4, 4]


def test_what_a_batch_that_did_not_fit_held_is_let_go_before_its_halves_are_tried():
    held = []

    class Activations:
        """What a model's layers made before there was no more room."""

    def function(views):
        assert not any(ref() is not None for ref in held)
        activations = Activations()
        held.append(weakref.ref(activations))
        if len(views) > 2:
            raise MemoryError
        return values(views)

    assert kinds(runs_of(a_primitive(function, batched=True), 8)) == [[]] * 8
    assert len(held) == 7


def test_one_sample_that_does_not_fit_in_memory_is_a_fault():
    def function(views):
        if any(number(v) == 3 for v in views):
            raise MemoryError("too large")
        return values(views)

    runs = runs_of(a_primitive(function, batched=True), 8)
    assert kinds(runs) == [[], [], [], ["OutOfMemory"], [], [], [], []]
    assert "one sample alone does not fit into memory (too large): leave" in runs[3].faults[0].message


# ------------------------------------------------------------------------------------------------ timeout


def test_a_primitive_that_hangs_is_given_up_on():
    def function(view):
        if number(view) == 1:
            time.sleep(30)
        return Text(str(number(view)))

    runs = runs_of(a_primitive(function, timeout=0.5), 3)
    assert kinds(runs) == [[], ["CallTimeout"], []]
    assert "took longer than its timeout of 0.5 s" in runs[1].faults[0].message
    assert runs[1].output == Text("nothing")


def test_a_batched_primitive_that_hangs_on_one_sample_keeps_the_others():
    def function(views):
        if any(number(v) == 2 for v in views):
            time.sleep(30)
        return values(views)

    runs = runs_of(a_primitive(function, batched=True, timeout=0.5), 4)
    assert kinds(runs) == [[], [], ["CallTimeout"], []]


def test_an_async_primitive_that_hangs_is_given_up_on():
    import asyncio

    async def function(view):
        await asyncio.sleep(30)
        return Text("never")

    assert kinds(runs_of(a_primitive(function, timeout=0.05))) == [["CallTimeout"]]


def test_a_timeout_does_not_change_what_goes_well_or_badly():
    def function(view):
        if number(view) == 1:
            raise InputError("no overlap")
        return Text("fine")

    runs = runs_of(a_primitive(function, timeout=5), 2)
    assert kinds(runs) == [[], ["InputError"]] and runs[0].output == Text("fine")


def test_an_attempt_that_was_given_up_on_charges_nothing_when_it_comes_to_its_end_after_all():
    halved, late = threading.Event(), threading.Event()

    def function(views):
        if len(views) == 1:
            halved.set()
        assert (late if len(views) == 1 else halved).wait(20)  # the batch ends while its halves are made
        for view in views:
            view.charge(tokens=10)
        if len(views) == 2:
            late.set()
        return values(views)

    runs = runs_of(a_primitive(function, batched=True, timeout=0.5, cost=Cost(tokens=100)), 2)
    assert late.is_set()
    assert [r.cost for r in runs] == [Cost(tokens=10)] * 2


def test_what_hangs_does_not_keep_the_program_alive():
    def function(view):
        time.sleep(30)

    runs_of(a_primitive(function, timeout=0.02))
    hanging = [t for t in threading.enumerate() if t.name == "unroller:p"]
    assert hanging and all(t.daemon for t in hanging)


# ----------------------------------------------------------------------------------------- broken promises


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (lambda views: values(views)[: len(views) // 2], "WrongBatch"),
        (lambda views: [*values(views), Text("one more")], "WrongBatch"),
        (lambda views: [], "WrongBatch"),
        (lambda views: None, "WrongType"),
        (lambda views: "0123", "WrongType"),
        (lambda views: Text("one for all"), "WrongType"),
        (lambda views: {v: Text("a") for v in range(4)}, "WrongType"),
        (lambda views: (Text("a") for _ in views), "WrongType"),
        (lambda views: np.zeros(len(views)), "WrongType"),
        (lambda views: [None] * len(views), "WrongType"),
        (lambda views: [DepthMap(np.ones((2, 2)))] * len(views), "WrongType"),
    ],
    ids=[
        *["half a batch", "one too many", "nothing", "None", "a str", "a value", "a dict"],
        *["a generator", "an array", "Nones", "another type"],
    ],
)
def test_a_batched_primitive_that_breaks_its_promise_is_a_fault_of_every_sample(returned, kind):
    runs = runs_of(a_primitive(returned, batched=True), 4)
    assert kinds(runs) == [[kind]] * 4
    assert all(r.output == Text("nothing") for r in runs)


def test_a_tuple_is_as_good_as_a_list():
    runs = runs_of(a_primitive(lambda views: tuple(values(views)), batched=True), 3)
    assert [r.output.text for r in runs] == ["0", "1", "2"]


def test_the_one_value_of_a_batch_that_is_not_finite_is_found_in_numpy_and_in_torch():
    torch = pytest.importorskip("torch")

    def depth(n):
        array = np.full((8, 8), 1.0 + n, np.float32)
        array[3, 3] = np.nan if n == 2 else np.inf if n == 5 else 1.0
        return DepthMap(array if n < 4 else torch.from_numpy(array).to(torch.bfloat16))

    runs = runs_of(
        a_primitive(lambda views: [depth(number(v)) for v in views], batched=True, writes=DepthMap), 8
    )
    assert [i for i, r in enumerate(runs) if r.faults] == [2, 5]
    assert all(f.kind == "NotFinite" for r in runs for f in r.faults)
    assert "DepthMap.depth holds NaN or infinity" in runs[5].faults[0].message


def test_a_value_that_was_not_finite_is_not_remembered():
    results = iter([np.nan, 1.0])
    p = a_primitive(lambda view: DepthMap(np.full((2, 2), next(results))), writes=DepthMap)
    ex = Executor(backend=[], primitives=[p], decoders=[words], policy=["p"])
    assert ex.run(problems(1)[0]).faults and not ex.run(problems(1)[0]).faults


# ------------------------------------------------------------------------------------------- what passes


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("options", [{}, {"batched": True}, {"timeout": 5}])
def test_a_user_who_interrupts_is_obeyed(error, options):
    def function(view):
        raise error

    with pytest.raises(error):
        runs_of(a_primitive(function, **options), 3)


def test_an_interrupted_map_can_be_run_again():
    interrupted = []

    def function(view):
        if number(view) == 2 and not interrupted:
            interrupted.append(1)
            raise KeyboardInterrupt
        return Text(str(number(view)))

    ex = Executor(backend=[], primitives=[a_primitive(function)], decoders=[words], policy=["p"])
    with pytest.raises(KeyboardInterrupt):
        list(ex.map(problems(4)))
    assert [r.output.text for r in ex.map(problems(4))] == ["0", "1", "2", "3"]


def test_another_engine_can_be_put_in_place():
    from unroller.dispatch import perform

    class Counting:
        def __init__(self):
            self.batches = []

        def perform(self, action, views):
            self.batches.append((action.name, len(views)))
            return perform(action, views)

    engine = Counting()
    runs = runs_of(a_primitive(lambda v: Text("x")), 5, engine=engine)
    assert engine.batches == [("p", 5), ("words", 5)] and len(runs) == 5


# -------------------------------------------------------------------- plug-ins that break when looked at


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Held(Value, frozen=True, eq=False):
    a: Array


def test_whatever_a_primitive_gives_or_raises_is_one_recorded_fault():
    class NoRepr:
        def __repr__(self):
            raise RuntimeError("no repr")

    def raises(error):
        def function(view):
            raise error

        return function

    broken = {
        "a list for an array": (Held, lambda view: Held([1.0])),
        "a scalar for an array": (Held, lambda view: Held(np.float64(3))),
        "no words": (Text, raises(Unspeakable())),
        "half a surrogate": (Text, raises(ValueError("\ud800 half"))),
        "no repr": (Text, lambda view: NoRepr()),
    }
    for writes, function in broken.values():
        p = primitive(reads=(), writes=writes, name="p")(function)
        words = decoder(task="words", writes=Text, name="words")(lambda view: Text("done"))
        run = Executor(backend=[], primitives=[p], decoders=[words], policy=["p"]).run(Problem(task="words"))
        assert len(run.faults) == 1 and run.output == Text("done")


@pytest.mark.parametrize("charge", [{"tokens": 7 / 2}, {"tokens": "many"}, {"price": float("inf")}])
def test_a_charge_that_is_no_amount_is_a_fault(charge):
    @primitive(reads=(), writes=Text)
    def p(view):
        view.charge(**charge)
        return Text("")

    words = decoder(task="words", writes=Text, name="words")(lambda view: Text("done"))
    run = Executor(backend=[], primitives=[p], decoders=[words], policy=["p"]).run(Problem(task="words"))
    assert [fault.kind for fault in run.faults] == ["ContractError"]


def test_what_a_call_cost_before_it_failed_is_charged():
    @primitive(reads=(), writes=Text, cost=Cost(tokens=10))
    def p(view):
        view.charge(tokens=7)
        raise ValueError("after all")

    words = decoder(task="words", writes=Text, name="words")(lambda view: Text("done"))
    ex = Executor(backend=[], primitives=[p], decoders=[words], policy=["p"], budget={"tokens": 10})
    assert ex.run(Problem(task="words")).cost == Cost(tokens=7)
