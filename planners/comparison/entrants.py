"""Who is compared: policies by name, folder or object, one or several seeds of each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from planners.comparison.fitting import Fitted, fit_bandit, fit_confidence, of_problems
from planners.comparison.ground import Ground
from planners.comparison.standings import Kind
from planners.comparison.until_sure import fit_until_sure
from planners.tree.split import Split
from unroller.decide import Call, Decision, FixedList, as_policy
from unroller.faults import PolicyError, UnrollerError
from unroller.registry import POLICY_FILE, policy_named

LEARNED = "held_out.json"
"""Where `unroller policies train` notes what a policy was trained for."""

RESERVED = ("best fixed", "oracle")
"""How the names of what policies are held against begin."""


class Entrant(msgspec.Struct, frozen=True):
    """A policy to compare. policies: one a seed it was trained with; weight: the λ it was made for, if for
    one; calls: the unique model calls that it was fitted with, on `fitted` problems, None where nobody
    knows. One whose λ can be set, by a method `at(λ)`, and that is given no weight, is compared at each.
    splits: of which problems those were held out that it was not trained on, as far as that was noted."""

    name: str
    policies: tuple[Any, ...]
    weight: float | None = None
    kind: Kind = "policy"
    calls: float | None = None
    fitted: int = 0
    splits: tuple[Split, ...] = ()

    @property
    def priced(self) -> bool:
        """Whether it can be asked for at any λ."""
        return self.weight is None and all(map(_has_price, self.policies))

    def at(self, weight: float) -> Entrant:
        """The same at a λ."""
        policies = tuple(policy.at(weight) for policy in self.policies)
        return msgspec.structs.replace(self, policies=policies, weight=weight)


Given = Mapping[str, Any] | Iterable[Any]
"""Policies by name, or a list of them and of Entrants. Of a name: a policy, a saved one's folder, a list of
calls, or a list of policies that differ in their training seed."""


def entrants_of(given: Given | None) -> list[Entrant]:
    """What was given, as entrants. Raises PolicyError for a name that is there twice at one λ."""
    if given is None:
        return []
    if isinstance(given, (str, Path)) or hasattr(given, "decide"):
        raise PolicyError("give policies as a list, or by name, also where it is one: [policy]")
    found: list[Entrant] = []
    if isinstance(given, Mapping):
        named = cast("Mapping[Any, Any]", given)
        found = [entrant(str(name), one) for name, one in named.items()]
    else:
        found = [one if isinstance(one, Entrant) else entrant(None, one) for one in given]
    seen: set[str] = set()
    for one in found:
        if titled(one.name, one.weight) in seen:
            raise PolicyError(f"the name {one.name!r} is there twice: give each policy a name of its own")
        if one.name.startswith(RESERVED):
            raise PolicyError(f"{one.name!r} is what a reference is called: give the policy another name")
        if not one.policies:
            raise PolicyError(f"{one.name} is an empty list: give at least one policy")
        seen.add(titled(one.name, one.weight))
    return found


def titled(name: str, weight: float | None) -> str:
    """A name with its λ, if it has one."""
    return name if weight is None else f"{name} λ={weight:g}"


def entrant(name: str | None, given: Any, weight: float | None = None) -> Entrant:
    """One policy with its name, or what it calls itself; of a folder, the folder's name. weight: the λ it was
    made for, if that is not noted beside it. Raises PolicyError, SavedPolicyError, UnknownName."""
    parts = [one for part in _seeds(given) for one in _folders(part)]
    several = [as_policy(policy_named(one) if isinstance(one, (str, Path)) else one) for one in parts]
    named = name or (Path(given).name if isinstance(given, (str, Path)) else _name_of(several[0]))
    calls = 0.0 if all(_needs_nothing(one) for one in several) else None
    weight = _trained_for(parts) if weight is None else weight
    return Entrant(named, tuple(several), weight, calls=calls, splits=_splits(parts))


def _trained_for(parts: Sequence[Any]) -> float | None:
    """The λ that `unroller policies train` noted beside each of these policies, if it is one."""
    noted: set[Any] = set()
    for held in map(_noted, parts):
        try:
            noted.add(None if held["trainer"] == "lagrangian" else float(held["cost_weight"]))
        except (ValueError, LookupError, TypeError):
            noted.add(None)
    return noted.pop() if len(noted) == 1 else None


def _splits(parts: Sequence[Any]) -> tuple[Split, ...]:
    """What it noted of the problems that it held out."""
    found: list[Split] = []
    for held in map(_noted, parts):
        with contextlib.suppress(msgspec.ValidationError, LookupError, TypeError):
            found.append(msgspec.convert(held["split"], Split))
    return tuple(found)


def _noted(part: Any) -> Any:
    try:
        return json.loads((Path(part) / LEARNED).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None


def _seeds(given: Any) -> Sequence[Any]:
    """A list of policies is several seeds of one; a list of calls is one policy."""
    if isinstance(given, (list, tuple)):
        listed = cast("Sequence[Any]", given)
        calls = all(
            isinstance(one, (Call, Decision)) or (isinstance(one, str) and not _is_folder(one))
            for one in listed
        )
        return [given] if calls else listed
    return [given]


def _folders(given: Any) -> list[Any]:
    """Of a folder of policies' folders those; of anything else itself."""
    if isinstance(given, (str, Path)) and _is_folder(given):
        inside = sorted(path.parent for path in Path(given).glob(f"*/{POLICY_FILE}"))
        if inside and not (Path(given) / POLICY_FILE).is_file():
            return list(inside)
    return [given]


def _is_folder(path: str | Path) -> bool:
    return Path(path).is_dir()


def _name_of(policy: Any) -> str:
    name = getattr(policy, "name", type(policy).__name__)
    if isinstance(policy, FixedList) and name == "list":
        return " → ".join(str(call) for made in policy.decisions for call in made.calls) or "direct"
    return str(name)


def _has_price(policy: Any) -> bool:
    return callable(getattr(policy, "at", None)) and getattr(policy, "gains", ()) is not None


def _needs_nothing(policy: Any) -> bool:
    """Whether nothing was fitted for it."""
    kind = getattr(policy, "kind", None)
    if kind == "confidence":
        return policy.gains is None
    return isinstance(policy, FixedList) or kind in ("direct", "schedule", "all", "random")


def baselines(
    ground: Ground, calls: float = float("inf"), seed: int = 0
) -> tuple[list[Entrant], dict[str, str]]:
    """Those that every comparison has, and for those that could not be made the reason.

    calls: the unique model calls that each may be fitted with."""
    from policies.random import RandomPolicy
    from policies.schedules import AllPrimitives, DirectPolicy

    found = [
        entrant("direct", DirectPolicy()),
        entrant("all", AllPrimitives()),
        entrant("random", RandomPolicy()),
    ]
    missing: dict[str, str] = {}
    recipes = {
        "until sure": lambda: fit_until_sure(ground, calls=calls, seed=seed),
        "confidence": lambda: fit_confidence(ground, calls=calls, seed=seed),
        "ridge": lambda: fit_bandit(ground, calls=calls, seed=seed),
        "ridge, features": lambda: fit_bandit(ground, features=True, calls=calls, seed=seed),
        "ridge, every schedule": lambda: fit_bandit(ground, ground.schedules, calls=calls, seed=seed),
        "ridge, every schedule, features": lambda: fit_bandit(
            ground, ground.schedules, features=True, calls=calls, seed=seed
        ),
    }
    for name, fit in recipes.items():
        if name.endswith("features") and not of_problems(ground):
            continue
        kind: Kind = "bandit" if name.startswith("ridge") else "policy"
        try:
            made: Fitted = fit()
        except UnrollerError as error:
            missing[name] = str(error)
            continue
        found.append(Entrant(name, (made.policy,), None, kind, made.calls, made.n))
    return found, missing
