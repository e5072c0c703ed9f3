"""Language models that call primitives as tools, and are trained by what comes of it: see docs/agents.md.

`Bench` holds an executor, problems and a reward; a `Rollout` is one problem, unrolled by an agent. They know
no trainer: `policies.agents.trl` stands between them and TRL, `examples/verl_agent_loop.py` them and verl.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policies.agents.rollout import Bench, Outcome, Rollout, flat_groups
    from policies.agents.tools import Tool, blocks, tools_of

_HOMES = {
    "rollout": ("Bench", "Outcome", "Rollout", "flat_groups"),
    "tools": ("Tool", "blocks", "tools_of"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"policies.agents has no {name!r}")
    found = globals()[name] = getattr(import_module(f"policies.agents.{home}"), name)
    return found


__all__ = ["Bench", "Outcome", "Rollout", "Tool", "blocks", "flat_groups", "tools_of"]
