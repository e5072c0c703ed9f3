"""A policy that a trainer has learned: a small network over `Observation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import msgspec
import numpy as np
from xxhash import xxh3_64_intdigest

from policies.observation import Observation
from policies.saved import Actions, Saveable, digests_of, shipped, warn_if_none
from policies.schedules import CERTAIN_STOP
from unroller.decide import Call, Decided, Decision, State, as_decision
from unroller.faults import PolicyError

if TYPE_CHECKING:
    from policies.network import PolicyNetwork

Mode = Literal["greedy", "sample"]


class Choices(NamedTuple):
    """What was chosen for a batch: index (B,), of an action or `observation.stop`; log_probability (B,) of
    it; value (B,): what the network expects of the state."""

    index: np.ndarray
    log_probability: np.ndarray
    value: np.ndarray


class LearnedPolicy(Saveable):
    """Chooses by a network over the observation of a state; STOP is the last choice.

    actions: those it may choose: an executor's (`executor.actions`), a tree's, or names. observation: its
    settings (by default `Observation(actions)`). hidden: units of the layers. mode: "greedy" takes the
    likeliest choice, with log-probability 0; "sample" draws, and says the network's exact log-probability. A
    draw is a function of the problem, its seed, the step and `seed`, so that a run can be resumed. seed also
    initialises the weights.

    Only what is allowed is chosen, so an action that has vanished never is; where nothing is allowed, or none
    of its actions exists, it stops and the problem is decoded. `LearnedPolicy()` is the one that comes with
    the project. For trainers: `network`, `observation`, `choose`. Raises PolicyError.
    """

    name = kind = "learned"

    def __init__(
        self,
        actions: Actions | None = None,
        *,
        observation: Observation | None = None,
        hidden: Sequence[int] = (64, 64),
        mode: Mode = "greedy",
        seed: int = 0,
    ) -> None:
        if actions is None and observation is None:
            vars(self).update(vars(shipped(type(self))))
            return
        digests = digests_of(
            observation.actions if actions is None and observation is not None else actions or ()
        )
        self.observation = observation or Observation(tuple(digests))
        if tuple(digests) != self.observation.actions:
            raise PolicyError(
                "the observation was made for other actions than the policy: give only one of them"
            )
        if not digests:
            raise PolicyError("a learned policy chooses from at least one action")
        if mode not in get_args(Mode):
            raise PolicyError(f"{mode!r} is no mode: {', '.join(get_args(Mode))}")
        if any(not isinstance(n, int) or n < 1 for n in hidden):
            raise PolicyError(f"hidden layers have 1 or more units each, not {tuple(hidden)}")
        self.digests = digests
        self.hidden = tuple(hidden)
        self.mode: Mode = mode
        self.seed = int(seed) % 2**63  # what torch, and JSON, can hold
        self._network: PolicyNetwork | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions that it chooses from, in the order of its choices."""
        return self.observation.actions

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes that its observation is made of."""
        return tuple(name for name, _ in self.observation.problem.probes)

    @property
    def network(self) -> PolicyNetwork:
        """The network, made when it is first asked for: importing torch takes a second."""
        if self._network is None:
            import torch

            from policies.network import PolicyNetwork, one_thread

            with torch.random.fork_rng(devices=[]), one_thread():
                torch.manual_seed(self.seed)
                self._network = PolicyNetwork(self.observation.size, len(self.actions) + 1, self.hidden)
        return self._network

    def log_probabilities(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities (B, choices), −∞ where the mask says no, and values (B,), of observations (B,
        size).

        Raises PolicyError for observations of another size or with NaN, and for weights that have diverged.
        """
        import torch

        given = np.require(observations, np.float32, "W")  # torch shares what it is given
        if given.ndim != 2 or given.shape[1] != self.observation.size:
            raise PolicyError(
                f"observations have the shape {given.shape}, and this policy reads (B,"
                f" {self.observation.size}):"
                " they were made by another version, or for other actions"
            )
        if not np.isfinite(given).all():
            raise PolicyError("an observation holds NaN or infinity: see which probe or environment wrote it")
        device = self.network.value.weight.device
        allowed = torch.from_numpy(self.observation.allowed(given)).to(device)
        with torch.no_grad():
            p, value = self.network(torch.from_numpy(given).to(device), allowed)
        if not (torch.isfinite(value).all() and torch.isfinite(p[:, self.observation.stop]).all()):
            raise PolicyError(
                "the network's output is not finite: its training diverged; load an earlier one"
            )
        return p.double().cpu().numpy(), value.cpu().numpy()

    def choose(self, observations: np.ndarray, drawn: np.ndarray | None = None) -> Choices:
        """Choices for observations (B, size): the likeliest ones, or, given numbers of [0, 1), drawn (B,)."""
        p, value = self.log_probabilities(observations)
        rows = np.arange(len(p))
        if drawn is None:
            return Choices(p.argmax(1), np.zeros(len(p)), value)
        summed = np.exp(p).cumsum(1)
        index = (summed <= drawn[:, None] * summed[:, -1:]).sum(1)
        index = np.minimum(index, p.shape[1] - 1)
        return Choices(index, p[rows, index], value)

    # ------------------------------------------------------------------------------------------ deciding

    def bound_to(self, actions: Mapping[str, Any]) -> LearnedPolicy:
        """Itself, with a warning where none of its actions exists."""
        warn_if_none(self.name, self.actions, actions)
        return self

    def decide(self, states: Sequence[State]) -> list[Decided]:
        if not states:
            return []
        drawn = None if self.mode == "greedy" else np.array([self._drawn(state) for state in states])
        choices = self.choose(self.observation.of(states), drawn)
        return [
            self._decision(int(index), float(p))
            for index, p in zip(choices.index, choices.log_probability, strict=True)
        ]

    def distribution(self, states: Sequence[State]) -> list[list[Decision]]:
        """For each state all that it might decide, with log-probabilities: one decision if it is greedy."""
        if self.mode == "greedy":
            return [[as_decision(one)] for one in self.decide(states)]
        p, _ = self.log_probabilities(self.observation.of(states))
        return [[self._decision(int(k), row[k]) for k in np.isfinite(row).nonzero()[0]] for row in p]

    def _decision(self, index: int, log_probability: float) -> Decision:
        log_probability = min(log_probability, 0.0)
        if index == self.observation.stop:
            return CERTAIN_STOP if log_probability == 0 else Decision(log_probability=log_probability)
        return Decision((Call(self.actions[index]),), log_probability)

    def _drawn(self, state: State) -> float:
        key = state.problem.identity + state.step.to_bytes(8, "big")
        return (xxh3_64_intdigest(key, self.seed % 2**64) >> 11) / 2**53

    # -------------------------------------------------------------------------------------------- saving

    def _settings(self) -> dict[str, Any]:
        return {
            "observation": msgspec.to_builtins(self.observation),
            "observation_digest": self.observation.digest,
            "hidden": list(self.hidden),
            "mode": self.mode,
            "seed": self.seed,
        }

    def _arrays(self) -> Mapping[str, np.ndarray]:
        held = self.network.state_dict()
        return {name: tensor.detach().cpu().float().numpy() for name, tensor in held.items()}

    @classmethod
    def _made(cls, settings: dict[str, Any], arrays: dict[str, np.ndarray], digests: dict[str, str]) -> Self:
        import torch

        from policies.network import PolicyNetwork

        settings = dict(settings)
        observation = msgspec.convert(settings.pop("observation"), Observation)
        if settings.pop("observation_digest") != observation.digest:
            raise PolicyError("its observation means another thing in this version: train again")
        made = cls(observation=observation, **settings)
        with torch.device("meta"):  # shapes alone: what a file claims costs no memory
            wanted = PolicyNetwork(observation.size, len(observation.actions) + 1, made.hidden).state_dict()
        if {n: array.shape for n, array in arrays.items()} != {n: tuple(t.shape) for n, t in wanted.items()}:
            raise PolicyError("its weights do not fit its observation and layers")
        made.network.load_state_dict({n: torch.from_numpy(array.copy()) for n, array in arrays.items()})
        return made
