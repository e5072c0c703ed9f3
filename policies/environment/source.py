"""What an environment is given to take place on: problems and an executor, or what was made of them before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from policies.environment.ground import Ground
from policies.environment.live import LiveGround, Scorer
from policies.observation import Observation
from policies.price import Price
from unroller.executor import Executor
from unroller.faults import PolicyError
from unroller.problem import Problem


def ground_of(
    given: Iterable[Problem] | Ground | Any,
    executor: Executor | None,
    *,
    scorer: Scorer | None,
    price: Price | None,
    observation: Observation | None,
    depth: int | None,
) -> Ground:
    """The ground of what was given. Raises PolicyError for settings that it has already."""
    if executor is None:
        raise PolicyError("problems are unrolled by an executor: give one, executor=Executor(backend=…)")
    return LiveGround(
        given,
        executor,
        observation=observation,
        scorer="soft_choice" if scorer is None else scorer,
        price=price,
        depth=depth,
    )
