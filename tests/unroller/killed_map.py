"""The program that `test_kill_resume.py` kills: a map of 50 problems with the journal on.

    python killed_map.py JOURNAL COMPUTED RESULTS

Every real computation is noted in the file COMPUTED (one line, appended at once); the line "go" on standard
output says that the map begins; what came of it goes to RESULTS as JSON.
"""

import hashlib
import json
import os
import sys
import time

import numpy as np

from policies.random import RandomPolicy
from unroller import (
    STOP,
    Call,
    Cost,
    Decision,
    DepthMap,
    Executor,
    Problem,
    Text,
    decoder,
    primitive,
    probe,
)

COUNT = 50
computed = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def compute(view, name):
    """Note that this call is really made, and take a little while over it."""
    os.write(computed, f"{name} {view._id.hex()}\n".encode())
    time.sleep(0.001 + int.from_bytes(view._id[:2], "big") / 2**16 * 0.002)


@primitive(reads=("question", Text), writes=Text, max_batch=4, cost=Cost(tokens=10))
def think(view):
    compute(view, "think")
    view.charge(tokens=len(view.all(Text)) + 1)
    return Text(f"{view.question} after {len(view.all(Text))}")


@primitive(reads=("question",), writes=DepthMap, max_batch=4, cost=Cost(model_calls=1))
def depth(view):
    compute(view, "depth")
    return DepthMap(np.full((64, 64), float(view.question.split()[1]), np.float32))


@primitive(reads=("question",), writes=Text, stochastic=True, batched=True, max_batch=4)
def dice(views):
    for view in views:
        compute(view, "dice")
    return [Text(str(view.rng.integers(1 << 40)), kind="dice") for view in views]


def alone(problem):
    # Faults are not memoised, so each member of a group may make a call that failed for another.
    return "is not called in a group" if problem.metadata.get("group") else None


@primitive(reads=("question", DepthMap), writes=Text, stochastic=True, max_batch=4, applies=alone)
def flaky(view):
    compute(view, "flaky")
    if view.seed % 3 == 0:
        raise ValueError(f"{view.seed} will not do")
    return Text("it did", kind="flaky")


@probe(cost=Cost(price=0.01))
def how_many(view):
    compute(view, "how_many")
    return float(len(view.all(Text)))


@decoder(task="words", writes=Text, max_batch=4, cost=Cost(model_calls=1))
def words(view):
    compute(view, "words")
    depths = [float(d.depth.mean()) for d in view.all(DepthMap)]
    return Text(" | ".join([text.text for text in view.all(Text)] + [str(d) for d in depths]))


class SideBySide(RandomPolicy):
    """Random calls for problems of even number, random sets of calls for the others."""

    name = "side by side"
    probes = ("how_many",)

    def _draw(self, state):
        if int(state.problem.question.split()[1]) % 2 == 0:
            return super()._draw(state)
        rng = np.random.default_rng([int.from_bytes(state.problem.identity, "big"), state.step])
        if not state.allowed or rng.random() < 0.1 or (state.probe.how_many or 0) > 8:
            return STOP
        calls = [Call(str(name), draw=int(rng.integers(2))) for name in rng.choice(state.allowed, 3)]
        return Decision(tuple(calls), log_probability=-float(rng.random()))


def problems():
    """Two in ten are the same as the one before, as in a group of rollouts."""
    for n in range(COUNT):
        number = n - 1 if n % 10 in (4, 7) else n
        group = n % 10 in (3, 4, 6, 7)
        yield Problem(task="words", question=f"question {number}", seed=number, metadata={"group": group})


def told(value):
    if isinstance(value, DepthMap):
        return hashlib.sha256(np.ascontiguousarray(value.depth)).hexdigest()
    return value.text if isinstance(value, Text) else value


def account(run):
    """Everything about a run that must not depend on whether it was interrupted."""
    return {
        "output": told(run.output),
        "entries": [[e.id.hex(), e.action, told(e.value), e.step, str(e.cost), e.draw] for e in run.entries],
        "decisions": [[list(map(str, d.calls)), d.log_probability, d.step] for d in run.decisions],
        "faults": sorted([f.id.hex(), f.action, f.kind, f.message, f.step, f.phase] for f in run.faults),
        "measured": sorted([m.id.hex(), m.name, m.held, m.step] for m in run.measured),
        "cost": [run.cost.model_calls, run.cost.tokens, round(run.cost.price, 9)],
    }


def main():
    with Executor(
        backend=[],
        primitives=[think, depth, dice, flaky],
        decoders=[words],
        probes=[how_many],
        policy=SideBySide(stop=0.15),
        budget={"model_calls": 3, "tokens": 24, "steps": 12},
        journal=sys.argv[1],
        resume=True,
        window=12,
    ) as ex:
        print("go", flush=True)
        accounts = [account(run) for run in ex.map(problems())]
    with open(sys.argv[3], "w") as file:
        json.dump(accounts, file)


if __name__ == "__main__":
    main()
