"""Unrolling as an environment, for whatever trainer reads gymnasium: see docs/environment.md.

The names below are imported when they are first used; they need gymnasium, `pip install 'unroller[rl]'`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policies.environment.live import choosable
    from policies.environment.rllib import ForRLlib
    from policies.environment.single import UnrollEnv
    from policies.environment.stable_baselines import UnrollVecEnv
    from policies.environment.taken_over import as_policy
    from policies.environment.vector import UnrollVectorEnv

_HOMES = {
    "ForRLlib": "rllib",
    "UnrollEnv": "single",
    "UnrollVecEnv": "stable_baselines",
    "UnrollVectorEnv": "vector",
    "as_policy": "taken_over",
    "choosable": "live",
}
_PACKAGES = ("gymnasium", "stable_baselines3")


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"policies.environment has no {name!r}")
    try:
        module = import_module(f"policies.environment.{home}")
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        from unroller.faults import MissingCapability

        raise MissingCapability(
            f"{name} needs {error.name}, which is not installed: pip install 'unroller[rl]'"
        ) from None
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = ["ForRLlib", "UnrollEnv", "UnrollVecEnv", "UnrollVectorEnv", "as_policy", "choosable"]
