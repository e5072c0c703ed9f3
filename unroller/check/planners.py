"""Checks of planners: they plan known calls, the same plan each time, and the plan can be carried out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from unroller.capabilities import Backend
from unroller.check.comparing import OTHER_SEEDS, global_seed
from unroller.check.findings import Findings
from unroller.check.toys import STEPS, task_problems, toy_decoders, toy_primitives
from unroller.declare import Primitive
from unroller.executor import Executor
from unroller.plan import Plan, Searcher
from unroller.problem import Problem


def check_planner(
    planner: Any,
    findings: Findings,
    *,
    problems: Iterable[Problem] | None,
    backends: Sequence[Backend],
    primitives: Sequence[Primitive] = (),
) -> None:
    """Every check of a planner."""
    if not (getattr(planner, "__doc__", None) or "").strip():
        findings.warn("declaration", "it has no docstring", "say in one sentence how it plans")
    tried_with = task_problems(problems)
    options: dict[str, Any] = {
        "backend": list(backends),
        "primitives": toy_primitives(primitives),
        "decoders": toy_decoders(tried_with),
        "budget": {"steps": STEPS},
    }
    executor = Executor(policy=(), **options)
    plans: list[Plan] = []
    for problem in tried_with:
        plan = _planned(planner, problem, executor, findings)
        if plan is None:
            return
        plans.append(plan)
    sizes = [len(plan.calls) for plan in plans]
    findings.passed("plan", f"plans of {min(sizes)} to {max(sizes)} calls, the same each time")
    with Executor(planner=planner, **options) as executor:
        faults = [fault for run in executor.map(tried_with) for fault in run.faults]
    serious = [fault for fault in faults if fault.phase in ("decide", "refused")]
    if serious:
        said = f"carried out, {serious[0].action} was refused: {serious[0].message}"
        findings.warn("running", said, "plan only what applies to the problem")
    findings.settle("running", "every plan can be carried out")


def _planned(planner: Any, problem: Problem, executor: Executor, findings: Findings) -> Plan | None:
    actions = executor.actions
    try:
        plans: list[Any] = []
        for seed in (1, *OTHER_SEEDS):
            with global_seed(seed):
                if isinstance(planner, Searcher):
                    plans += planner.search([problem], executor)
                else:
                    plans.append(planner.plan(problem, actions))
    except Exception as error:
        said = f"for the task {problem.task!r} it raised {type(error).__name__}: {error}"
        mend = "plan(problem, actions) returns a Plan for every problem; Plan() makes no call"
        findings.fail("plan", said, mend)
        return None
    plan, *others = plans
    if not all(isinstance(one, Plan) for one in plans):
        findings.fail("plan", f"it returned {type(plan).__name__}", "return an unroller.plan.Plan")
        return None
    unknown = [call.action for call in plan.calls if call.action not in actions]
    if unknown:
        said = f"it plans {unknown[0]!r}; the actions are: {', '.join(actions)}"
        mend = "plan from the actions it is handed, or pass primitives=[…]"
        findings.fail("plan", said, mend)
        return None
    if any(plan.calls != o.calls or set(plan.graph.edges) != set(o.graph.edges) for o in others):
        mend = "plan from the problem and the actions alone: a run that is resumed plans again"
        findings.fail("plan", "it laid out another plan the second time", mend)
        return None
    return plan
