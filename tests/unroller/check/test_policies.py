"""What `check` says of policies and planners."""

import itertools
import math
import random

import numpy as np
import pytest

from unroller import STOP, Call, Decision, FixedList, Text, policy, primitive, probe
from unroller.check import check
from unroller.plan import Plan


def expect(findings, level, subject, *words):
    lines = [f for f in findings if (f.level, f.subject) == (level, subject)]
    assert lines, str(findings)
    text = " ".join(f"{line.found} → {line.mend}" for line in lines)
    for word in words:
        assert word in text, text


@primitive(reads=("question",), writes=Text)
def look(view):
    """Look."""
    return Text("seen")


@primitive(reads=("question",), writes=Text)
def think(view):
    """Think."""
    return Text("thought")


@probe(reads=("question",))
def length(view):
    """How long the question is."""
    return float(len(view.question or ""))


# ----------------------------------------------------------------------------------------------- good


@policy
def first_allowed(state):
    """The first action that is allowed, twice."""
    return state.allowed[0] if state.allowed and state.step < 2 else STOP


@policy(probes=("length",))
def by_length(state):
    """Think about long questions."""
    return "think" if state.probe.length > 40 and "think" in state.allowed and not state.step else STOP


class Dice:
    """Throws dice that the problem and the step have seeded."""

    name = "dice"

    def decide(self, states):
        return [self._one(state) for state in states]

    def _one(self, state):
        if not state.allowed:
            return Decision(log_probability=0.0)
        rng = np.random.default_rng([state.problem.seed, state.step])
        if rng.random() < 0.3:
            return Decision(log_probability=math.log(0.3))
        chosen = state.allowed[rng.integers(len(state.allowed))]
        return Decision((Call(chosen),), math.log(0.7 / len(state.allowed)))


@pytest.mark.parametrize(
    "good", [first_allowed, by_length, Dice, Dice()], ids=["first_allowed", "by_length", "class", "object"]
)
def test_good_ones_pass(good):
    findings = check(good, primitives=[look, think], probes=[length])
    assert findings.ok and not findings.warnings, str(findings)


def test_a_list_of_calls():
    assert check(["look", "think"], primitives=[look, think]).ok
    assert check(FixedList([("look", "think")]), primitives=[look, think]).ok


# ------------------------------------------------------------------------------------------------ bad


def test_no_docstring_and_no_name():
    nameless = policy(lambda state: STOP)
    expect(check(nameless), "warn", "declaration", "no docstring", "called <lambda>")


def test_wrong_number_of_decisions():
    class One:
        """Decides once for everybody."""

        name = "one"

        def decide(self, states):
            return [STOP, STOP, STOP]

    expect(check(One), "fail", "decisions", "3 decisions for", "one decision for each state")


def test_no_decision():
    @policy
    def shrug(state):
        """Do not decide."""

    expect(check(shrug), "fail", "decisions", "decided None", "answer with STOP")


def test_error_where_nothing_is_allowed():
    @policy
    def greedy(state):
        """Always the first."""
        return state.allowed[0] if state.step < 3 else STOP

    expect(check(greedy, primitives=[look]), "fail", "masks", "IndexError", "if not state.allowed")


def test_error_on_some_states():
    @policy
    def third(state):
        """The third entry's action again."""
        return state.workspace[2].action

    expect(check(third), "fail", "decisions", "at step 0", "IndexError", "return STOP where it does not")


def test_choice_that_is_masked():
    @policy
    def stubborn(state):
        """Look, whatever happened."""
        return "look" if state.step < 2 else STOP

    found = check(stubborn, primitives=[look])
    assert found.ok
    expect(found, "warn", "masks", "decided look where nothing is allowed", "return STOP")


def test_choice_that_is_masked_while_others_are_not():
    @policy
    def stubborn(state):
        """Look, whatever happened, if anything can be done at all."""
        return "look" if state.step < 2 and state.allowed else STOP

    expect(check(stubborn, primitives=[look]), "warn", "masks", "chose look although", "state.allowed")


def test_action_that_does_not_exist():
    @policy
    def typo(state):
        """Look, misspelt."""
        return "lokk" if not state.step else STOP

    expect(check(typo, primitives=[look]), "fail", "actions", "'lokk'", "look", "primitives=[…]")


def test_never_stops():
    @policy
    def tireless(state):
        """Go on and on."""
        return "look"

    expect(check(tireless, primitives=[look]), "warn", "stopping", "within 64 steps", "return STOP")


def test_global_random_numbers():
    @policy
    def dice(state):
        """Throw dice."""
        return random.choice(state.allowed) if state.allowed and random.random() < 0.7 else STOP

    found = check(dice, primitives=[look, think])
    expect(found, "fail", "same states", "global random generator", "default_rng([state.problem.seed")


def test_memory():
    class Turns:
        """Looks on every second question."""

        name = "turns"

        def __init__(self):
            self.turn = itertools.count()

        def decide(self, states):
            return ["look" if next(self.turn) % 2 and s.step < 3 and s.allowed else STOP for s in states]

    found = check(Turns, primitives=[look])
    expect(found, "fail", "same states", "otherwise the second time", "keep nothing between calls")


def test_batch_mates():
    class Majority:
        """Looks if it is asked about many."""

        name = "majority"

        def decide(self, states):
            return ["look" if len(states) > 1 and s.step < 3 and s.allowed else STOP for s in states]

    expect(check(Majority, primitives=[look]), "fail", "batch", "decided differently", "by itself")


def test_likelihood():
    class Sure:
        """More than sure."""

        name = "sure"

        def decide(self, states):
            return [Decision(log_probability=0.7) for _ in states]

    expect(check(Sure), "fail", "likelihood", "0.7", "not above 0")


def test_probe_that_is_not_declared():
    @policy
    def curious(state):
        """Look at long questions."""
        return "look" if state.probe.length > 40 and state.allowed else STOP

    expect(check(curious), "fail", "decisions", "state.probe.length", "probes=")


def test_probe_that_does_not_exist():
    @policy(probes=("lenght",))
    def typo(state):
        """Look at long questions."""
        return "look" if state.probe.lenght > 40 and state.step < 2 and state.allowed else STOP

    found = check(typo, primitives=[look], probes=[length])
    expect(found, "fail", "probes", "'lenght', which is not registered", "there are:", "length")


def test_probes_as_one_word_are_one_probe():
    @policy(probes="length")
    def one_word(state):
        """Stop."""
        return STOP

    assert check(one_word, probes=[length]).ok


# -------------------------------------------------------------------------------------------- planners


class Both:
    """Looks and thinks side by side."""

    name = "both"

    def plan(self, problem, actions):
        return Plan(["look", "think"])


def test_a_good_planner():
    findings = check(Both, primitives=[look, think])
    assert findings.ok and not findings.warnings, str(findings)


def test_plan_of_unknown_calls():
    class Typo(Both):
        """Looks, misspelt."""

        def plan(self, problem, actions):
            return Plan(["lokk"])

    expect(check(Typo, primitives=[look]), "fail", "plan", "'lokk'", "primitives=[…]")


def test_a_list_in_place_of_a_plan():
    class Listed(Both):
        """Lists its calls."""

        def plan(self, problem, actions):
            return ["look"]

    expect(check(Listed, primitives=[look]), "fail", "plan", "returned list", "unroller.plan.Plan")


def test_plan_that_changes():
    class Moody(Both):
        """Plans as the mood takes it."""

        def plan(self, problem, actions):
            return Plan.chain(random.sample(["look", "think"], 2))

    found = check(Moody(), primitives=[look, think])
    expect(found, "fail", "plan", "another plan the second time", "plans again")


def test_planner_that_raises():
    class Picky(Both):
        """Plans for one task only."""

        def plan(self, problem, actions):
            return {"nothing": Plan()}[problem.task]

    expect(check(Picky), "fail", "plan", "KeyError", "Plan() makes no call")
