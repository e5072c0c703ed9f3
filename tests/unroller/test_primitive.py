"""What a call is handed: what it declared, and nothing else."""

import numpy as np
import pytest

from unroller import (
    CameraPose,
    Cost,
    Decoder,
    DepthMap,
    Executor,
    Probe,
    Problem,
    Text,
    Value,
    decoder,
    primitive,
    probe,
)
from unroller.declare import as_primitive
from unroller.faults import PluginError


@decoder(task="words", writes=Text)
def words(view):
    return Text(" ".join(text.text for text in view.all(Text)) or "nothing")


def problem(**fields):
    return Problem(task="words", question="Where?", **fields)


def ran(*primitives, calls=None, x=None, **options):
    """One run that calls these primitives one after the other."""
    calls = [p.name for p in primitives] if calls is None else calls
    ex = Executor(backend=[], primitives=primitives, decoders=[words], policy=calls, **options)
    return ex.run(x or problem())


def the_fault(function, **declared):
    declared = {"reads": ("question",), "writes": Text, "name": "reader"} | declared
    (fault,) = ran(primitive(**declared)(function)).faults
    return fault


# --------------------------------------------------------------------------------------- undeclared reads


@pytest.mark.parametrize("field", ["images", "choices", "metadata", "intrinsics", "task", "pose"])
def test_a_field_that_was_not_declared_cannot_be_read(field):
    fault = the_fault(lambda view: Text(str(getattr(view, field))))
    assert fault.kind == "UndeclaredRead"
    assert f'add "{field}" to its reads' in fault.message


@pytest.mark.parametrize("ask", ["latest", "all", "current"])
def test_a_type_that_was_not_declared_cannot_be_read(ask):
    fault = the_fault(lambda view: Text(str(getattr(view, ask)(CameraPose))), reads=(Text,))
    assert fault.kind == "UndeclaredRead"
    assert fault.message == ("reader read CameraPose of C without declaring it: add CameraPose to its reads")


def test_declaring_one_type_does_not_open_its_base():
    fault = the_fault(lambda view: Text(str(view.all(Value))), reads=(Text,))
    assert fault.kind == "UndeclaredRead"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("seed", "declare stochastic=True"),
        ("rng", "declare stochastic=True"),
        ("entries", "declare ordered=True"),
    ],
)
def test_the_seed_and_the_order_between_types_are_declared_with_a_switch(name, says):
    fault = the_fault(lambda view: Text(str(getattr(view, name))), reads=(Text, CameraPose), ordered=False)
    assert (fault.kind, says in fault.message) == ("UndeclaredRead", True), fault.message


def test_the_camera_of_a_photo_is_read_from_the_pictures_and_the_intrinsics():
    fault = the_fault(lambda view: Text(str(view.camera(0))), reads=("images",))
    assert fault.kind == "UndeclaredRead" and '"intrinsics"' in fault.message


def test_a_name_that_no_view_has_is_an_ordinary_attribute_error():
    fault = the_fault(lambda view: Text(view.qestion))
    assert (fault.kind, fault.message) == ("AttributeError", "a view has no 'qestion'")


# ---------------------------------------------------------------------------------------------- what it sees


def test_a_view_holds_what_was_declared_in_the_order_it_was_written():
    @primitive(reads=(), writes=CameraPose)
    def pose(view):
        return CameraPose((1, 0, 0), (0, 0, 0))

    @primitive(reads=(), writes=Text)
    def caption(view):
        return Text("a cone")

    seen = {}

    @primitive(reads=("question", Text, CameraPose), writes=Text)
    def reader(view):
        seen["entries"] = [e.action for e in view.entries]
        seen["segments"] = [s.text.split(">")[0] + ">" for s in view.segments()]
        seen["latest"] = view.latest(Text), view.latest(CameraPose).translation, view.question
        seen["current"] = view.current(CameraPose)
        return Text("read")

    run = ran(caption, pose, reader)
    assert not run.faults
    assert seen["entries"] == ["caption", "pose"]
    assert seen["segments"] == ["<think>", "<campose>"]
    assert seen["latest"] == (Text("a cone"), (1.0, 0.0, 0.0), "Where?")
    assert len(seen["current"]) == 1


def test_what_is_not_declared_does_not_make_the_memo_miss_and_what_is_does():
    calls = []

    @primitive(reads=("question",), writes=Text)
    def of_question(view):
        calls.append(view.question)
        return Text(view.question)

    ex = Executor(backend=[], primitives=[of_question], decoders=[words], policy=["of_question"])
    ex.run(problem(metadata={"a": 1}))
    ex.run(problem(metadata={"a": 2}, choices=("x", "y")))
    assert calls == ["Where?"]
    ex.run(Problem(task="words", question="Why?"))
    assert calls == ["Where?", "Why?"]


def test_the_order_between_types_matters_only_to_those_that_declare_it():
    def made(ordered):
        @primitive(reads=(), writes=CameraPose)
        def pose(view):
            return CameraPose((1, 0, 0), (0, 0, 0))

        @primitive(reads=(), writes=Text)
        def caption(view):
            return Text("a cone")

        @primitive(reads=(Text, CameraPose), writes=Text, ordered=ordered)
        def reader(view):
            return Text("read")

        parts = [pose, caption, reader]
        orders = [["pose", "caption", "reader"], ["caption", "pose", "reader"]]
        return [ran(*parts, calls=calls).entries[-1].id for calls in orders]

    a, b = made(ordered=True)
    assert a != b
    a, b = made(ordered=False)
    assert a == b


def test_the_same_call_has_the_same_seed_and_another_draw_another():
    from unroller import Call

    @primitive(reads=("question",), writes=Text, stochastic=True)
    def dice(view):
        return Text(f"{view.seed} {view.rng.integers(1 << 30)} {view.rng.integers(1 << 30)}")

    def thrown(draw, **fields):
        return ran(dice, calls=[Call("dice", draw=draw)], x=problem(**fields)).entries[0].value.text

    assert thrown(0) == thrown(0) != thrown(1)
    assert thrown(0, seed=1) != thrown(0, seed=2)
    seed, first, again = thrown(0).split()
    assert 0 <= int(seed) < 2**63 and first == again, "view.rng starts anew each time"


def test_a_call_is_charged_what_it_says_or_else_its_declared_bound():
    @primitive(reads=(), writes=Text, cost=Cost(model_calls=2, tokens=100))
    def bounded(view):
        return Text("all of it")

    @primitive(reads=(), writes=Text, cost=Cost(model_calls=2, tokens=100))
    def counted(view):
        view.charge(model_calls=1)
        view.charge(tokens=7, price=0.5)
        return Text("what it took")

    run = ran(bounded, counted)
    assert [e.cost for e in run.entries] == [Cost(2, 100), Cost(1, 7, 0.5)]
    assert run.cost == Cost(3, 107, 0.5)


@pytest.mark.parametrize("charge", [{"model_calls": -5}, {"tokens": -1}, {"price": float("nan")}])
def test_a_call_cannot_be_charged_less_than_nothing(charge):
    def generous(view):
        view.charge(**charge)
        return Text("here, have some budget")

    run = ran(primitive(reads=(), writes=Text, cost=Cost(1), name="generous")(generous))
    assert [f.kind for f in run.faults] == ["ContractError"]
    assert run.cost == Cost()


# ------------------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"reads": ("qestion",)}, "which is no field of a problem"),
        ({"reads": ("seed",)}, "which is no field of a problem"),
        ({"reads": (int,)}, "give field names and value types"),
        ({"writes": str}, "which is no Value type"),
        ({"writes": Text("an instance")}, "which is no Value type"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
        ({"timeout": 0}, "timeout above 0"),
        ({"timeout": float("nan")}, "timeout above 0"),
        ({"name": "Not Lower"}, "cannot name a primitive"),
        ({"name": "a-b"}, "cannot name a primitive"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_where_it_is_written(declared, says):
    with pytest.raises(PluginError, match=says):
        primitive(**{"name": "p", "reads": (), "writes": Text, **declared})(lambda view: Text(""))


def test_a_plain_function_stays_callable_as_a_test_would_call_it():
    class A:
        def latest(self, kind):
            return CameraPose((1, 0, 0), (0, 0, 0))

    @primitive(reads=(CameraPose,), writes=Text)
    def motion(view):
        """Says where the camera went."""
        return Text("right" if view.latest(CameraPose).translation[0] > 0 else "left")

    assert motion(A()) == Text("right")
    assert motion.__doc__ == "Says where the camera went." and motion.name == "motion"


def test_a_single_read_needs_no_tuple():
    p = primitive(reads=CameraPose, writes=Text, name="p")(lambda view: Text(""))
    assert p.kinds == (CameraPose,)
    q = primitive(reads="question", writes=Text, name="q")(lambda view: Text(""))
    assert q.fields == ("question",)


def test_the_version_changes_with_the_source_and_the_prompts_and_can_be_given():
    def a(view):
        return Text("a")

    def b(view):
        return Text("b")

    def version(function, **options):
        return primitive(reads=(), writes=Text, name="p", **options)(function).version

    assert version(a) == version(a) != version(b)
    assert version(a, prompts=("Think.",)) != version(a)
    assert version(a, version="7") == version(b, version="7") == "7"


def test_two_primitives_from_one_factory_do_not_share_a_memo():
    def shifted_by(offset):
        @primitive(reads=("metadata",), writes=Text)
        def shift(view):
            return Text(str(view.metadata["n"] + offset))

        return shift

    ex = Executor(backend=[], primitives=[shifted_by(1)], decoders=[words], policy=["shift"])
    x = problem(metadata={"n": 1})
    assert ex.run(x).output.text == "2"
    assert ex.extend(primitives=[shifted_by(10)]).run(x).output.text == "11"


def test_a_decoder_and_a_primitive_of_the_same_name_and_version_do_not_share_a_memo():
    @primitive(reads=("question",), writes=Text, name="caption", version="1")
    def inside(view):
        return Text("written into the context")

    @decoder(task="caption", reads=("question",), writes=Text, name="caption", version="1")
    def outside(view):
        return Text("the output")

    ex = Executor(backend=[], primitives=[inside], decoders=[outside], policy=["caption"])
    assert ex.run(Problem(task="caption", question="?")).output.text == "the output"


def test_a_decoder_and_a_probe_read_everything_unless_they_say_otherwise():
    @decoder(writes=Text)
    def my_task(view):
        return Text("")

    @probe()
    def sure(view):
        return 1.0

    assert isinstance(my_task, Decoder) and my_task.task == "my_task" and Value in my_task.kinds
    assert isinstance(sure, Probe) and "question" in sure.fields and "seed" not in sure.fields


def test_an_undecorated_function_is_no_primitive():
    def double(view):
        return view

    with pytest.raises(PluginError, match="double is no primitive: decorate it"):
        as_primitive(double)


# ------------------------------------------------------------------------- what a broken primitive returns


class Endless:
    @property
    def deeper(self):
        return self.deeper


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (lambda view: None, "WrongType"),
        (lambda view: "words", "WrongType"),
        (lambda view: CameraPose((1, 0, 0), (0, 0, 0)), "WrongType"),
        (lambda view: (yield), "WrongType"),
        (lambda view: [Text("a")], "WrongType"),
        (lambda view: 1 / 0, "ZeroDivisionError"),
        (lambda view: Text(3), "ValueCheckError"),
        (lambda view: exec("raise Exception()"), "Exception"),
        (lambda view: Endless().deeper, "RecursionError"),
    ],
)
def test_whatever_it_does_instead_of_returning_its_type_is_a_fault_on_record(returned, kind):
    run = ran(primitive(reads=(), writes=Text, name="broken")(returned))
    (fault,) = run.faults
    assert (fault.kind, fault.action, fault.step, fault.phase) == (kind, "broken", 0, "call")
    assert run.output == Text("nothing"), "the unrolling went on to its answer"


def test_a_message_of_any_length_is_cut():
    def verbose(view):
        raise ValueError("x" * 100_000)

    (fault,) = ran(primitive(reads=(), writes=Text)(verbose)).faults
    assert len(fault.message) < 2_100


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_a_fault(bad):
    def depth(view):
        values = np.ones((4, 4), np.float32)
        values[2, 1] = bad
        return DepthMap(values)

    (fault,) = ran(primitive(reads=(), writes=DepthMap)(depth)).faults
    assert fault.kind == "NotFinite" and "DepthMap.depth" in fault.message


class Weights(Value):
    w: np.ndarray


def test_not_finite_is_seen_in_a_plug_ins_own_type():
    broken = primitive(reads=(), writes=Weights, name="w")(lambda v: Weights(np.full(3, np.nan)))
    (fault,) = ran(broken).faults
    assert fault.kind == "NotFinite"


def test_not_finite_is_seen_where_only_a_base_type_was_declared():
    broken = primitive(reads=(), writes=Value, name="any_depth")(lambda v: DepthMap(np.full((2, 2), np.nan)))
    assert [f.kind for f in ran(broken).faults] == ["NotFinite"]


def test_a_subclass_of_the_declared_type_may_be_returned():
    class Note(Text):
        pass

    run = ran(primitive(reads=(), writes=Text, name="noted")(lambda v: Note("fine")))
    assert not run.faults and type(run.entries[0].value) is Note


# -------------------------------------------------------------------------------------------- async def


def test_async_primitives_run_side_by_side_and_fail_alone():
    import asyncio

    order = []

    @primitive(reads=("question",), writes=Text)
    async def slow_or_broken(view):
        order.append(f"{view.question} begins")
        await asyncio.sleep(0.01)
        order.append(f"{view.question} ends")
        if view.question == "b":
            raise ValueError("b is broken")
        return Text(view.question.upper())

    ex = Executor(backend=[], primitives=[slow_or_broken], decoders=[words], policy=["slow_or_broken"])
    a, b, c = ex.map([Problem(task="words", question=q) for q in "abc"])
    assert [r.output.text for r in (a, b, c)] == ["A", "nothing", "C"]
    assert [f.message for f in b.faults] == ["b is broken"]
    assert order[:3] == ["a begins", "b begins", "c begins"], "one batch, together"


def test_a_batched_async_primitive_is_awaited():
    @primitive(reads=("question",), writes=Text, batched=True)
    async def shout(views):
        return [Text(v.question.upper()) for v in views]

    assert ran(shout).output == Text("WHERE?")


def test_async_primitives_work_inside_a_running_loop_as_in_a_notebook():
    import asyncio

    @primitive(reads=("question",), writes=Text)
    async def shout(view):
        await asyncio.sleep(0)
        return Text(view.question.upper())

    async def cell():
        return ran(shout).output

    assert asyncio.run(cell()) == Text("WHERE?")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_batched_async_primitive_that_fails_inside_a_running_loop_says_why():
    import asyncio

    @primitive(reads=("question",), writes=Text, batched=True)
    async def broken(views):
        raise ValueError("the real reason")

    async def cell():
        return ran(broken).faults

    (fault,) = asyncio.run(cell())
    assert (fault.kind, fault.message) == ("ValueError", "the real reason")
