"""Recurrent actor and critic of one stream: `MlpSabPolicy`, `MlpLstmPolicy` and `MlpRtuPolicy`.

Dimensions: B rows, O numbers in an observation, F numbers in a core's output, W width of the layer behind the core.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.online.distributions import Array, distribution_over
from sab_agents.online.learners import LSTMLearner, RecurrentLearner, Tensors
from sab_agents.online.normalise import ObservationNormaliser
from sab_agents.online.readout import Readout
from sab_agents.online.rtu import RTULearner
from sab_agents.online.sab_learner import SABLearner


@dataclass(frozen=True)
class Decision:
    """What was computed at one step: it waits for the step's temporal-difference error.

    Attributes:
        action: what was drawn, before any bounds.
        row: the numbers that describe the distribution that it was drawn from.
        value: of the critic.
    """

    action: Array
    row: Array
    value: float


class StreamPolicy(BasePolicy):
    """Actor and critic: a recurrent core each, or one for both, then a sparse layer with normalisation, and a head.

    Args:
        observation_space: any that `gymnasium.spaces.flatten` turns into one vector; no Dict or Tuple.
        action_space: Discrete or Box.
        shared_core: one core for both, which costs less, instead of one each, which is the published way. Then all
            parameters share one trace and one step size.
        hidden_size: of a core.
        width: W.
        sparsity: share of each unit's weights behind the core that start at zero.
        core_kwargs: the other settings of the core.

    Raises:
        TypeError: a space or a setting is of the wrong kind.
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        shared_core: bool = False,
        hidden_size: int = 64,
        width: int = 64,
        sparsity: float = 0.9,
        **core_kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space)
        if isinstance(observation_space, spaces.Dict | spaces.Tuple):
            raise TypeError(
                f"StreamAC: observations must be one array, but are of {observation_space}. "
                f"Wrap the environment in gymnasium.wrappers.FlattenObservation."
            )
        at_least("StreamAC", "width", width, 1)
        self.input_size = spaces.flatdim(observation_space)
        self.normaliser = ObservationNormaliser(self.input_size)
        self.actor_core = self.build_learner(self.input_size, hidden_size, **core_kwargs)
        self.critic_core = (
            self.actor_core if shared_core else self.build_learner(self.input_size, hidden_size, **core_kwargs)
        )
        self.distribution = distribution_over(action_space)
        self.actor = Readout(self.actor_core.output_size, width, self.distribution.size, sparsity)
        self.critic = Readout(self.critic_core.output_size, width, 1, sparsity)

    @abstractmethod
    def build_learner(self, input_size: int, hidden_size: int, **core_kwargs: Any) -> RecurrentLearner:
        """The policy's kind of core."""

    @property
    def shared_core(self) -> bool:
        """Whether actor and critic have one core."""
        return self.actor_core is self.critic_core

    def cores(self) -> dict[str, RecurrentLearner]:
        """The cores by name."""
        return {"actor": self.actor_core} | ({} if self.shared_core else {"critic": self.critic_core})

    def groups(self) -> list[list[nn.Parameter]]:
        """The parameters that share a trace: the actor's and the critic's, or all of them."""
        actor = [*self.actor_core.parameters(), *self.actor.parameters()]
        critic = list(self.critic.parameters())
        return [actor + critic] if self.shared_core else [actor, [*self.critic_core.parameters(), *critic]]

    def flattened(self, observations: Array) -> Array:
        """Observations (B, …) of the environment as rows (B, O)."""
        if isinstance(self.observation_space, spaces.Box):
            return observations.reshape(len(observations), -1)
        rows: list[Any] = [spaces.flatten(self.observation_space, observation) for observation in observations]
        return np.stack(rows)

    def decide(self, observation: Tensor, episode_start: bool, generator: np.random.Generator) -> Decision:
        """Takes the stream's next normalised observation (1, O) and draws an action."""
        output = self.actor_core.step(observation, episode_start)[0]
        row = self.actor.step(output).numpy(force=True)
        if not self.shared_core:
            output = self.critic_core.step(observation, episode_start)[0]
        value = self.critic.step(output).item()
        return Decision(self.distribution.choose(row[None], generator)[0], row, value)

    def bind(self) -> None:
        """Computes by compiled code from now on, if there is any; parameters and gradients must stay where they are."""
        for core in self.cores().values():
            core.bind()
        self.actor.bind()
        self.critic.bind()

    def value_of_next(self, observation: Tensor) -> float:
        """The critic's value of a normalised observation (1, O) that would follow in this episode."""
        return self.critic.peek(self.critic_core.peek(observation)[0]).item()

    def backward(self, decision: Decision, entropy_weight: float) -> None:
        """Adds the gradient of log π + `entropy_weight` · entropy + value to the parameters' `.grad`."""
        into_row = self.distribution.gradient(decision.row, decision.action, entropy_weight)
        weight = self.critic.second.weight
        into_actor = self.actor.backward(torch.as_tensor(into_row, dtype=weight.dtype, device=weight.device))
        into_critic = self.critic.backward(weight.new_ones(1))
        if self.shared_core:
            self.actor_core.backward((into_actor + into_critic).unsqueeze(0))
        else:
            self.actor_core.backward(into_actor.unsqueeze(0))
            self.critic_core.backward(into_critic.unsqueeze(0))

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
        generator: np.random.Generator | None = None,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Acts without learning, on one environment or on a batch.

        Args:
            observation: one observation of the environment, or B of them.
            state: what the last call returned; None at the start.
            episode_start: (B,) bool, True where the observation is an episode's first.
            deterministic: take the likeliest action instead of drawing one.
            generator: draws the actions; None makes a new one.

        Returns:
            The action, or B actions, within the space's bounds; and the state for the next call.

        Raises:
            ValueError: the observation does not fit the observation space, or the state not the observation.
        """
        observations, single = self._batch(observation)
        features = torch.from_numpy(self.normaliser.normalise(self.flattened(observations))).to(self.device)
        carried = self._carried(state, episode_start, len(observations))
        with torch.no_grad():
            output, carried = self.actor_core(features, carried)
            rows = self.actor(output).numpy(force=True)
        drawn = self.distribution.choose(rows, None if deterministic else generator or np.random.default_rng())
        actions = self.bounded(drawn)
        return (actions[0] if single else actions), tuple(tensor.numpy(force=True) for tensor in carried)

    def bounded(self, actions: Array) -> Array:
        """The actions, brought within the bounds of a Box space."""
        if isinstance(self.action_space, spaces.Box):
            return np.clip(actions, self.action_space.low, self.action_space.high)
        return actions

    def _batch(self, observation: Array | dict[str, Array]) -> tuple[Array, bool]:
        observations, shape = np.asarray(observation), self.observation_space.shape or ()
        if observations.shape == shape:
            return observations[None], True
        if observations.shape[1:] != shape or observations.ndim != len(shape) + 1:
            raise ValueError(
                f"StreamAC.predict: an observation must have shape {shape}, or a batch of them one more axis in front, "
                f"but has {observations.shape}."
            )
        return observations, False

    def _carried(self, state: tuple[Array, ...] | None, episode_start: Array | None, rows: int) -> Tensors:
        initial = self.actor_core.initial_state(rows)
        if state is None:
            return initial
        carried = tuple(torch.as_tensor(array, device=self.device) for array in state)
        received, expected = ([tuple(tensor.shape) for tensor in tensors] for tensors in (carried, initial))
        if received != expected:
            raise ValueError(
                f"StreamAC.predict: for {rows} observations the state must have shapes {expected}, "
                f"but has {received}. Pass the state that the last call returned, or None at the start."
            )
        if episode_start is None:
            return carried
        starts = torch.as_tensor(np.broadcast_to(episode_start, (rows,)).astype(bool), device=self.device)
        return tuple(
            torch.where(starts.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip(initial, carried, strict=True)
        )

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        raise NotImplementedError("A recurrent policy acts by predict(observation, state, episode_start).")


class MlpSabPolicy(StreamPolicy):
    """Sparse Attentive Backtracking with a bounded memory; the settings are those of `SABLearner`."""

    def build_learner(self, input_size: int, hidden_size: int, **core_kwargs: Any) -> RecurrentLearner:
        """A `SABLearner`."""
        return SABLearner(input_size, hidden_size, **core_kwargs)


class MlpLstmPolicy(StreamPolicy):
    """LSTM with truncated backpropagation through time; `bptt_steps` is the length of a segment."""

    def build_learner(self, input_size: int, hidden_size: int, bptt_steps: int = 8) -> RecurrentLearner:  # type: ignore[override]
        """An `LSTMLearner`."""
        return LSTMLearner(input_size, hidden_size, bptt_steps)


class MlpRtuPolicy(StreamPolicy):
    """Recurrent trace units with exact real-time recurrent learning; the settings are those of `RTULearner`."""

    def build_learner(self, input_size: int, hidden_size: int, **core_kwargs: Any) -> RecurrentLearner:
        """An `RTULearner`."""
        return RTULearner(input_size, hidden_size, **core_kwargs)
