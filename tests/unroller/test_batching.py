"""Calls from different problems meet in one batch; nothing declared the same is computed twice."""

import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest

from unroller import STOP, Call, Cost, Executor, Problem, Text, decoder, policy, primitive, probe
from unroller.memo import DiskMemo


@decoder(task="words", writes=Text, reads=("question", Text))
def words(view):
    return Text(" ".join(text.text for text in view.all(Text)) or "nothing")


def problems(count, **fields):
    return [Problem(task="words", question=f"question {i}", **fields) for i in range(count)]


def batched(name="think", reads=("question",), **options):
    """A batched primitive, and the list of the sizes of the batches it was called with."""
    sizes = []

    def function(views):
        sizes.append(len(views))
        return [Text(name) for _ in views]

    p = primitive(reads=reads, writes=Text, name=name, batched=True, **options)(function)
    return p, sizes


def executor(*primitives, policy, **options):
    return Executor(backend=[], primitives=primitives, decoders=[words], policy=policy, **options)


# ------------------------------------------------------------------------------------------- in one batch


def test_calls_of_one_primitive_from_different_problems_are_one_batch():
    think, sizes = batched()
    list(executor(think, policy=["think"]).map(problems(20)))
    assert sizes == [20]


def test_calls_from_different_steps_meet_too():
    think, sizes = batched(reads=("question", Text))

    @policy
    def unequal(state):
        return "think" if state.step < 1 + int(state.problem.question[-1]) % 2 else STOP

    list(executor(think, policy=unequal, window=4).map(problems(8)))
    assert sum(sizes) == 8 + 4 and max(sizes) == 4 and len(sizes) < 6


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
def test_no_batch_is_larger_than_the_primitive_says(limit):
    think, sizes = batched(max_batch=limit)
    list(executor(think, policy=["think"]).map(problems(20)))
    assert sum(sizes) == 20 and max(sizes) == min(limit, 20)
    assert len(sizes) == -(-20 // limit)


def test_no_batch_is_larger_than_the_backend_says():
    class Small:
        name, fingerprint, max_batch, provides = "small", "small-1", 5, (int,)

    sizes = []

    @primitive(reads=("question",), writes=Text, needs=int, batched=True)
    def think(views, small):
        assert small.name == "small"
        sizes.append(len(views))
        return [Text("t") for _ in views]

    runs = list(
        Executor(backend=Small(), primitives=[think], decoders=[words], policy=["think"]).map(problems(12))
    )
    assert sizes == [5, 5, 2] and runs[0].cost == Cost(model_calls=1), "one call a sample"


def test_a_backend_whose_batches_hold_nothing_is_refused():
    from unroller.faults import PluginError

    class Nothing:
        name, fingerprint, max_batch, provides = "nothing", "nothing-1", 0, (int,)

    p = primitive(reads=(), writes=Text, needs=int, name="p")(lambda v, b: Text("t"))
    with pytest.raises(PluginError, match="max_batch"):
        Executor(backend=Nothing(), primitives=[p], decoders=[words], policy=["p"]).run(problems(1)[0])


def test_presets_and_parameters_are_batched_apart():
    from pydantic import BaseModel

    class Size(BaseModel):
        size: int = 1

    seen = []

    @primitive(reads=("question",), writes=Text, parameters=Size, presets={"big": {"size": 9}}, batched=True)
    def think(views):
        seen.append({v.parameters.size for v in views})
        return [Text(str(v.parameters.size)) for v in views]

    @policy
    def by_number(state):
        n = int(state.problem.question.split()[1])
        return STOP if state.step else ["think", "think:big", Call("think", {"size": 5})][n % 3]

    runs = list(executor(think, policy=by_number).map(problems(9)))
    assert sorted(map(tuple, seen)) == [(1,), (5,), (9,)]
    assert [r.output.text for r in runs] == ["1", "9", "5"] * 3


def test_an_entry_says_how_many_shared_its_batch():
    think, _ = batched()
    runs = list(executor(think, policy=["think"]).map(problems(7)))
    assert {r.entries[0].batch for r in runs} == {7}


# ------------------------------------------------------------------------------------------- nobody waits


def test_a_slow_problem_holds_up_nobody():
    taken = []

    @primitive(reads=("metadata",), writes=Text)
    def slow(view):
        taken.append(view.metadata)
        return Text("slow")

    think, _ = batched()

    @policy
    def chosen(state):
        if state.problem.question == "question 0":
            return Call("slow", draw=state.step) if state.step < 20 else STOP
        return "think" if state.step == 0 else STOP

    runs = executor(think, slow, policy=chosen).map(problems(30), ordered=False)
    ended = [(run.problem.question, len(taken)) for run in runs]
    assert ended[-1] == ("question 0", 20)
    assert ended[-2][1] < 5, "the others ended while it was at its first steps"


def test_the_fullest_queue_goes_first():
    order = []

    def listed(name):
        def function(views):
            order.append((name, len(views)))
            return [Text(name) for _ in views]

        return primitive(reads=("question",), writes=Text, name=name, batched=True, max_batch=8)(function)

    @policy
    def mostly_b(state):
        return STOP if state.step else ("a" if int(state.problem.question.split()[1]) < 3 else "b")

    list(executor(listed("a"), listed("b"), policy=mostly_b).map(problems(11)))
    assert order == [("b", 8), ("a", 3)]


# ------------------------------------------------------------------------------ nothing is computed twice


def counted(stochastic=False, reads=("question",)):
    calls = Counter()

    @primitive(reads=reads, writes=Text, stochastic=stochastic)
    def think(view):
        calls[view.question] += 1
        return Text(str(view.seed) if stochastic else view.question)

    return think, calls


def test_a_group_of_the_same_problem_makes_one_call_of_a_deterministic_primitive():
    think, calls = counted()
    x = problems(1)[0]
    runs = list(executor(think, policy=["think"]).map([x] * 8))
    assert calls == {"question 0": 1}
    assert len({r.entries[0].id for r in runs}) == 1
    assert sum(r.spent.computed for r in runs) == 2 and sum(r.spent.hits for r in runs) == 14


def test_a_group_of_n_draws_makes_n_calls():
    think, calls = counted(stochastic=True)

    class Group:
        """Each member of a group of rollouts takes the next draw."""

        def decide(self, states):
            return [Call("think", draw=i) if s.step == 0 else STOP for i, s in enumerate(states)]

    runs = list(executor(think, policy=Group()).map(problems(1) * 8))
    assert calls == {"question 0": 8}
    assert len({r.entries[0].value.text for r in runs}) == 8


def test_side_by_side_duplicates_are_computed_once():
    think, calls = counted()
    run = executor(think, policy=[("think", "think")]).run(problems(1)[0])
    assert calls == {"question 0": 1} and [e.hit for e in run.entries] == [False, True]


def test_the_same_call_at_a_later_step_is_remembered_unless_it_reads_what_changed():
    blind, calls = counted()
    executor(blind, policy=["think"] * 3).run(problems(1)[0])
    assert calls == {"question 0": 1}
    seeing, calls = counted(reads=("question", Text))
    executor(seeing, policy=["think"] * 3).run(problems(1)[0])
    assert calls == {"question 0": 3}


def test_prefixes_that_are_shared_are_computed_once_across_runs():
    think, calls = counted()
    more, sizes = batched("more", reads=(Text,))
    ex = executor(think, more, policy=["think"])
    x = problems(1)[0]
    ex.run(x)
    ex.extend(policy=["think", "more"]).run(x)
    ex.extend(policy=["think", "more", "more"]).run(x)
    assert calls == {"question 0": 1} and sizes == [1, 1]


def test_without_a_memo_everything_is_computed():
    think, calls = counted()
    list(executor(think, policy=["think"], memo=None).map(problems(1) * 4))
    assert calls == {"question 0": 4}


def test_a_failure_in_flight_is_everyones_who_waited_and_is_not_remembered():
    calls = []

    @primitive(reads=("question",), writes=Text)
    def fails_first(view):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("the first time")
        return Text("well")

    ex = executor(fails_first, policy=["fails_first"])
    runs = list(ex.map(problems(1) * 3))
    assert len(calls) == 1 and all(r.faults for r in runs)
    assert ex.run(problems(1)[0]).output == Text("well"), "faults are not memoised"


def test_probes_and_decoders_are_remembered_like_any_call():
    calls = Counter()

    @probe(reads=("question", Text))
    def sure(view):
        calls["probe"] += 1
        return 1.0

    @decoder(task="words", writes=Text)
    def counted_words(view):
        calls["decoder"] += 1
        return Text("w")

    ex = Executor(
        backend=[],
        primitives=[],
        decoders=[counted_words],
        probes=[sure],
        policy=policy(probes=("sure",))(lambda state: STOP),
    )
    list(ex.map(problems(1) * 5))
    assert calls == {"probe": 1, "decoder": 1}


SCRIPT = """
    import sys
    from unroller import Executor, Problem, Text, DepthMap, decoder, primitive
    import numpy as np

    @primitive(reads=("question",), writes=DepthMap, version="1")
    def depth(view):
        print("computed depth")
        return DepthMap(np.full((64, 64), 2.0, np.float32))

    @decoder(task="words", writes=Text, version="1")
    def words(view):
        print("computed words")
        return Text(str(float(view.latest(DepthMap).depth.mean())))

    ex = Executor(backend=[], primitives=[depth], decoders=[words], policy=["depth"], memo=sys.argv[1])
    run = ex.run(Problem(task="words", question="?"))
    print(run.output.text, run.spent.hits)
"""


def test_a_memo_on_disk_is_shared_by_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def go():
        command = [sys.executable, script, tmp_path / "memo"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]

    assert go() == ["computed depth", "computed words", "2.0 0"]
    assert go() == ["2.0 2"]


def test_a_memo_on_disk_is_shared_by_executors(tmp_path):
    think, calls = counted()
    for _ in range(3):
        ex = executor(think, policy=["think"], memo=DiskMemo(tmp_path / "memo"))
        list(ex.map(problems(4)))
        ex.memo.close()
    assert calls == {f"question {i}": 1 for i in range(4)}


# ------------------------------------------------------------------- results do not depend on batch mates


def test_random_streams_do_not_depend_on_batch_mates_or_their_order():
    @primitive(reads=("question",), writes=Text, stochastic=True, batched=True)
    def dice(views):
        return [Text(str(v.rng.integers(1 << 40))) for v in views]

    def thrown(xs, **options):
        runs = executor(dice, policy=["dice"], **options).map(xs)
        return {r.problem.question: r.output.text for r in runs}

    xs = problems(12)
    together = thrown(xs)
    assert together == thrown(xs[::-1]) == thrown(xs, window=1) == thrown(xs, window=5)
    assert together == {x.question: thrown([x])[x.question] for x in xs}
    assert len(set(together.values())) == 12


def test_a_problems_seed_changes_stochastic_values_and_leaves_the_others():
    think, calls = counted()
    dice, thrown = counted(stochastic=True)
    dice = primitive(reads=("question",), writes=Text, stochastic=True, name="dice")(dice.function)
    ex = executor(think, dice, policy=["think", "dice"])
    runs = [ex.run(Problem(task="words", question="q", seed=s)) for s in range(4)]
    assert calls == {"q": 1} and thrown == {"q": 4}
    assert len({r.entries[1].value.text for r in runs}) == 4


def test_values_are_the_same_in_a_batch_and_alone():
    @primitive(reads=("metadata",), writes=Text, batched=True)
    def norm(views):
        stacked = np.array([v.metadata["x"] for v in views])
        return [Text(f"{n:.6f}") for n in np.linalg.norm(stacked, axis=1)]

    xs = [Problem(task="words", metadata={"x": [i, i + 1, 2 * i]}) for i in range(10)]
    ex = executor(norm, policy=["norm"], memo=None)
    assert [r.output for r in ex.map(xs)] == [ex.run(x).output for x in xs]


def test_a_rare_call_is_not_passed_over_for_ever():
    common = primitive(reads=("question",), writes=Text, name="common")(lambda view: Text("c"))
    rare = primitive(reads=("question",), writes=Text, name="rare")(lambda view: Text("r"))
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Problem(task="words", question=str(taken))

    def by_turns(state):
        return STOP if state.step else "rare" if state.problem.question == "1" else "common"

    ex = Executor(backend=[], primitives=[common, rare], decoders=[words], policy=by_turns, memo=None)
    assert next(ex.map(endless())).output == Text("r")
    assert taken < 20_000


def test_amap_goes_on_when_a_whole_window_ends_at_once():
    import asyncio

    p = primitive(reads=("question",), writes=Text, name="p")(lambda view: Text("p"))
    ex = Executor(backend=[], primitives=[p], decoders=[words], policy=["p"], window=8)
    many = [Problem(task="words", question=str(n)) for n in range(50)]
    list(ex.map(many))  # now all of it is in the memo

    async def again():
        return [run async for run in ex.amap(many)]

    assert len(asyncio.run(again())) == 50
