"""TRL: language models trained with `GRPOTrainer(environment_factory=...)` to call primitives.

    bench = Bench(executor, problems, cost_weight=0.02)
    trainer = GRPOTrainer(
        model=..., args=GRPOConfig(...), train_dataset=dataset(bench), environment_factory=environment(bench)
    )

What TRL asks of an environment: `reset(**row)`, called with a row of the dataset, whose result is put behind
the last user message; `get_reward()`; and every other public method is a tool, described by its type hints
and its Google docstring. So this is a class of its own, made for a bench, with a method for each primitive.
There is no mask: what cannot be called raises, which TRL shows the model as an error and counts. There is no
end but that no tool is called. TRL leaves what tools return out of the loss, reads it in the forward pass,
and logs the share of groups without variance (`frac_reward_zero_std`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from policies.agents.rollout import Bench, Rollout
from policies.agents.tools import ANSWER, CHOICE, PRESET, Tool, blocks
from unroller.faults import NotAllowed, PolicyError, ProblemError, UnrollerError
from unroller.rendering import escape

if TYPE_CHECKING:
    from datasets import Dataset

COLUMN = "problem"
"""Of the dataset: the problem's number."""


class Environment:
    """One rollout at a time; a subclass made by `environment` has the tools. rollout: the one under way, or
    the last."""

    _bench: ClassVar[Bench]
    _images: ClassVar[bool]
    _under_way: ClassVar[list[Rollout]]

    rollout: Rollout | None = None

    def reset(self, **row: Any) -> Any:
        if COLUMN not in row:
            raise ProblemError(
                f"the dataset has no column {COLUMN!r}, a problem's number: make it with `dataset(bench)`"
            )
        if self.rollout in self._under_way:  # nobody will ask what it was worth
            self._under_way.remove(self.rollout)
        self.rollout = self._bench.open(row[COLUMN])
        self._under_way.append(self.rollout)
        return blocks(self.rollout.opening(), self._images)

    def get_reward(self) -> float:
        """TRL asks for all rewards once all rollouts have ended: the first to be asked settles every one."""
        rollout = self._here()
        if rollout.outcome is None:
            self._bench.settle(self._under_way if rollout in self._under_way else [rollout])
            self._under_way.clear()
        return rollout.reward

    def _here(self) -> Rollout:
        if self.rollout is None:
            raise PolicyError("nothing is under way: reset the environment with a row of the dataset first")
        return self.rollout

    def _call(self, name: str, preset: str | None = None) -> str | list[dict[str, Any]]:
        try:
            return blocks(self._here().call(name, preset), self._images)
        except UnrollerError as error:  # TRL shows it to the model, in which it must forge no turn
            raise NotAllowed(escape(str(error))) from error

    def _answer(self, choice: str) -> str:
        try:
            self._here().answer(choice)
        except UnrollerError as error:
            raise NotAllowed(escape(str(error))) from error
        return "Answered."


def environment(bench: Bench, *, images: bool = False, name: str = "UnrollEnvironment") -> type[Environment]:
    """A class for `environment_factory`: its instances work at this bench.

    images: photos and pictures that were made are shown as pictures, for models that see; else in words.
    name: of the class, by which TRL logs its rewards, where several are trained on in one run.
    """
    members: dict[str, Any] = {tool.name: _method(tool) for tool in bench.tools}
    members |= {"_bench": bench, "_images": images, "_under_way": [], "__module__": __name__}
    return type(name, (Environment,), members)


def dataset(bench: Bench, numbers: Sequence[int] | None = None) -> Dataset:
    """A row for each problem of the bench, or for these: the instruction as the system's message, an empty
    user message that the environment fills, and the problem's number."""
    from datasets import Dataset

    chosen = range(len(bench.problems)) if numbers is None else numbers
    prompt = [{"role": "system", "content": bench.told}, {"role": "user", "content": ""}]
    return Dataset.from_list([{"prompt": prompt, COLUMN: int(number)} for number in chosen])


def _method(tool: Tool) -> Callable[..., Any]:
    """A method whose name, type hints and docstring say what the tool is."""
    hints: dict[str, Any] = {}
    told = [tool.told, ""]

    def answer(self: Environment, choice: str) -> Any:
        return self._answer(choice)

    def set_up(self: Environment, preset: str = "default") -> Any:
        return self._call(tool.name, preset)

    def plain(self: Environment) -> Any:
        return self._call(tool.name)

    if tool.name == ANSWER:
        method: Any = answer
        hints["choice"] = str
        told += ["Args:", f"    choice: {CHOICE}", ""]
    elif tool.presets:
        method = set_up
        hints["preset"] = Literal[("default", *tool.presets)]
        told += ["Args:", f"    preset: {PRESET}", ""]
    else:
        method = plain
    method.__name__ = tool.name
    method.__qualname__ = f"Environment.{tool.name}"
    method.__annotations__ = {**hints, "return": str}
    method.__doc__ = "\n".join([*told, "Returns:", "    What it wrote."])
    return method
