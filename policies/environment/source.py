"""What an environment is given to take place on: problems and an executor, a table, or a tree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from policies.environment.ground import Ground
from policies.environment.live import LiveGround, Scorer
from policies.environment.tabled import TableGround
from policies.observation import Observation
from policies.price import Price
from policies.table import Table, Tabular, as_table
from unroller.executor import Executor
from unroller.faults import PolicyError
from unroller.problem import Problem

Source = Iterable[Problem] | Table | Tabular | TableGround | LiveGround
"""Problems, which need an executor; or a table or a tree, which hold all that an executor would find out."""


def ground_of(
    given: Source,
    executor: Executor | None = None,
    *,
    scorer: Scorer | None = None,
    price: Price | None = None,
    observation: Observation | None = None,
    depth: int | None = None,
) -> Ground:
    """The ground of what was given; one that was made before is taken as it is, so that several environments
    can share what they know. Raises PolicyError for settings that it has already."""
    if observation is not None and not isinstance(observation, Observation):
        raise PolicyError(f"{observation!r:.80} is no policies.Observation: Observation(actions) makes one")
    if isinstance(given, (TableGround, LiveGround)):
        _settled(
            "a ground", executor=executor, scorer=scorer, price=price, observation=observation, depth=depth
        )
        if isinstance(given, LiveGround):
            given.users += 1
        return given
    if isinstance(given, (Table, Tabular)):
        _settled("a table", executor=executor, scorer=scorer, depth=depth)
        if isinstance(given, Table):
            return TableGround(as_table(given, observation or given.observation, price))
        # A tree that is not told what to show shows all that it keeps.
        return TableGround(cast(Any, given).table(observation, price=price or Price()))
    if price is not None and not isinstance(price, Price):
        raise PolicyError(
            f"a price of {price!r:.80}: give a policies.Price, as Price(model_calls=1, tokens=0.01)"
        )
    if not isinstance(executor, Executor):
        raise PolicyError("problems are unrolled by an executor: give one, executor=Executor(backend=…)")
    ground = LiveGround(
        given,
        executor,
        observation=observation,
        scorer="soft_choice" if scorer is None else scorer,
        price=price,
        depth=depth,
    )
    ground.users = 1  # whoever has it made stands on it as well
    return ground


def _settled(what: str, **settings: Any) -> None:
    """Raises PolicyError for what is given although it has it already."""
    name = next((name for name, value in settings.items() if value is not None), None)
    if name is not None:
        raise PolicyError(f"{what} has its {name} already: leave {name} out, or make {what} with it")
