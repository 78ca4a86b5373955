"""Recurrent actor and critic of one stream: a policy for each registered core, such as `MlpSabPolicy`.

Dimensions: B rows, O features of an observation, F features of a core's output, W width of the layer behind the core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import maybe_transpose
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core import CORES, Core, CoreSpec, State, build_core
from sab_agents.online.distributions import Array, distribution_over
from sab_agents.online.normalise import ObservationNormaliser
from sab_agents.online.readout import Readout
from sab_agents.online.settings import chosen_settings, endless_cores
from sab_agents.streaming import Stream, in_own_modes, make_stream
from sab_agents.vec_env.usable import check_observation


class Decision(NamedTuple):
    """What was computed at one step, until its temporal-difference error is known.

    Attributes:
        action: as it was drawn, without the bounds of its space.
        row: (D,) parameters of the distribution that it was drawn from.
        value: of the critic.
    """

    action: Array
    row: Array
    value: float


class StreamPolicy(BasePolicy):
    """Actor and critic: a recurrent core each, or one for both, then a sparse layer with normalisation, and a head.

    Each core runs through a stream of its own. Subclasses name the core.

    Args:
        observation_space: any that `gymnasium.spaces.flatten` turns into one vector; no Dict or Tuple.
        action_space: Discrete or Box.
        shared_core: one core for both, which costs less, instead of one each, which is the published way. Then all
            parameters share one trace and one step size.
        hidden_size: of a core.
        width: W.
        sparsity: fraction of each unit's weights behind the core that start at zero.
        settings: of the core and of its stream; see `sab_agents.online.settings` for the defaults.

    Attributes:
        actor_core: of the actor.
        critic_core: of the critic; the actor's with `shared_core`.
        actor_stream: through the actor's core.
        critic_stream: through the critic's core; the actor's with `shared_core`.

    Raises:
        TypeError: a space or a setting is of the wrong kind, or the core has no such setting.
        ValueError: a setting is out of range.
    """

    core: ClassVar[str]

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        shared_core: bool = False,
        hidden_size: int = 64,
        width: int = 64,
        sparsity: float = 0.9,
        **settings: Any,
    ) -> None:
        super().__init__(observation_space, action_space)
        if isinstance(observation_space, spaces.Dict | spaces.Tuple):
            raise TypeError(
                f"StreamAC: observations must be one array, but are of {observation_space}. "
                f"Wrap the environment in gymnasium.wrappers.FlattenObservation."
            )
        width = at_least("StreamAC", "width", width, 1)
        self.input_size = spaces.flatdim(observation_space)
        self.normaliser = ObservationNormaliser(self.input_size)
        of_core, of_stream = chosen_settings("StreamAC", CORES[self.core], settings)
        if of_stream.get("eviction") == "least_useful":
            raise ValueError(
                'StreamAC: eviction must not go by usefulness, which is that for a loss, but is "least_useful". Its '
                'gradients are those of estimates, before their error is known. Use "least_used".'
            )
        self.actor_core = self._built(hidden_size, of_core)
        self.critic_core = self.actor_core if shared_core else self._built(hidden_size, of_core)
        self.actor_stream = make_stream(self.actor_core, **of_stream)
        self.critic_stream = self.actor_stream if shared_core else make_stream(self.critic_core, **of_stream)
        self.distribution = distribution_over(action_space)
        self.actor = Readout(self.actor_core.output_size, width, self.distribution.size, sparsity)
        self.critic = Readout(self.critic_core.output_size, width, 1, sparsity)
        self._start = torch.ones(1, dtype=torch.bool)
        self._of_value = torch.ones(1)  # the gradient of the value with respect to itself
        self._carries: tuple[type[State], list[tuple[int, ...]]] | None = None  # kind and shapes (…) of acting's state

    def _built(self, hidden_size: int, settings: dict[str, Any]) -> Core[Any]:
        return build_core(self.core, self.input_size, hidden_size, **settings)

    @property
    def shared_core(self) -> bool:
        """Whether actor and critic have one core."""
        return self.actor_core is self.critic_core

    def streams(self) -> dict[str, Stream]:
        """Returns the streams by name."""
        return {"actor": self.actor_stream} | ({} if self.shared_core else {"critic": self.critic_stream})

    def groups(self) -> list[list[nn.Module]]:
        """Returns the modules whose parameters share a trace: the actor's and the critic's, or all of them."""
        if self.shared_core:
            return [[self.actor_core, self.actor, self.critic]]
        return [[self.actor_core, self.actor], [self.critic_core, self.critic]]

    def flattened(self, observations: Array) -> Array:
        """Returns observations (B, …) of the environment as rows (B, O)."""
        if isinstance(self.observation_space, spaces.Box):
            return observations.reshape(len(observations), -1)
        rows: list[Any] = [spaces.flatten(self.observation_space, observation) for observation in observations]
        return np.stack(rows)

    def decide(self, observation: Tensor, episode_start: bool, generator: np.random.Generator) -> Decision:
        """Takes the stream's next normalised observation (1, O) and draws an action."""
        start = self._start if episode_start else None
        actor, critic = self._readouts()
        output = self.actor_stream.step_and_replay(observation, start)
        row = actor.step(output).numpy(force=True)
        if self.critic_stream is not self.actor_stream:
            output = self.critic_stream.step_and_replay(observation, start)
        value = critic.step(output).item()
        return Decision(self.distribution.choose_one(row, generator), row, value)

    def value_of_next(self, observation: Tensor) -> float:
        """Returns the critic's value of a normalised observation (1, O) that would follow in this episode."""
        return self._readouts()[1].peek(self.critic_stream.peek(observation).output).item()

    def backward(self, decision: Decision, entropy_weight: float) -> None:
        """Adds the gradient of log π + `entropy_weight` · entropy + value to the parameters' `.grad`."""
        actor, critic = self._readouts()
        into_row = self.distribution.gradient(decision.row, decision.action, entropy_weight)
        like = critic.like
        into_actor = actor.backward(torch.from_numpy(into_row).to(like))
        if self._of_value.dtype is not like.dtype or self._of_value.device != like.device:
            self._of_value = like.new_ones(1)
        into_critic = critic.backward(self._of_value)
        if self.critic_stream is self.actor_stream:
            self.actor_stream.backward(into_actor + into_critic)
        else:
            self.actor_stream.backward(into_actor)
            self.critic_stream.backward(into_critic)

    @property
    def like(self) -> Tensor:
        """A parameter, for the dtype and device of all."""
        return self._readouts()[1].like

    def _readouts(self) -> tuple[Readout, Readout]:
        modules: Any = self._modules  # `__getattr__` would take as long as a layer
        return modules["actor"], modules["critic"]

    @in_own_modes
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
            state: what the last call returned, arrays with the row as the first axis; None at the start.
            episode_start: (B,) bool, True where the observation is an episode's first.
            deterministic: return the likeliest action instead of drawing one.
            generator: draws the actions; None uses a new one.

        Returns:
            The action, or B actions, within the space's bounds; and the state for the next call.

        Raises:
            TypeError: the observation is of another kind, such as the tuple that `reset` of an environment returns.
            ValueError: the observation does not fit the observation space, or the state not the observation.
        """
        observations, single = self._batch(observation)
        features = torch.from_numpy(self.normaliser.normalise(self.flattened(observations))).to(self.critic.like)
        carried = self._carried(state, episode_start, len(observations))
        with torch.no_grad():
            output, carried = self.actor_stream.act(features, carried)
            rows = self.actor(output).numpy(force=True)
        drawn = self.distribution.choose(rows, None if deterministic else generator or np.random.default_rng())
        actions = self.bounded(drawn)
        return (actions[0] if single else actions), carried.to_numpy()

    def bounded(self, actions: Array) -> Array:
        """Returns the actions, clipped to the bounds of a Box space."""
        if isinstance(self.action_space, spaces.Box):
            return np.clip(actions, self.action_space.low, self.action_space.high)
        return actions

    def _batch(self, observation: Array | dict[str, Array]) -> tuple[Array, bool]:
        check_observation("StreamAC.predict", self.observation_space, observation)
        observations, shape = np.asarray(observation), self.observation_space.shape or ()
        if observations.shape == shape:
            return observations[None], True
        if observations.shape[1:] != shape:  # perhaps images as the environment has them, with their channels last
            observations = maybe_transpose(observations, self.observation_space)
            if observations.shape == shape:
                return observations[None], True
        if observations.shape[1:] != shape or observations.ndim != len(shape) + 1:
            raise ValueError(
                f"StreamAC.predict: an observation must have shape {shape}, or a batch of them one more axis in front, "
                f"but has {observations.shape}."
            )
        return observations, False

    def _carried(self, state: tuple[Array, ...] | None, episode_start: Array | None, rows: int) -> State:
        if state is None or self._carries is None:
            initial: State = self.actor_stream.initial_state(rows)
            self._carries = type(initial), [tuple(tensor.shape[1:]) for tensor in initial.tensors()]
        if state is None:
            return initial
        kind, shapes = self._carries
        received = [np.shape(array) for array in state]
        expected = [(rows, *shape) for shape in shapes]
        if received != expected:
            raise ValueError(
                f"StreamAC.predict: for {rows} observations the state must have shapes {expected}, "
                f"but has {received}. Pass the state that the last call returned, or None at the start."
            )
        carried = kind.from_numpy(state, self.like.device)
        if episode_start is None or (np.shape(episode_start) == (rows,) and not np.any(episode_start)):
            return carried
        return carried.reset(torch.from_numpy(np.broadcast_to(episode_start, (rows,)).astype(bool)))

    def save(self, path: Any) -> NoReturn:
        """Raises TypeError: an agent's file holds its policy and the statistics that normalise observations."""
        raise TypeError(
            f"{type(self).__name__}.save: a policy is saved with its agent, by StreamAC.save({path!r}); "
            "StreamAC.load(path).policy is that policy."
        )

    @classmethod
    def load(cls, path: Any, device: torch.device | str = "auto") -> NoReturn:  # noqa: ARG003
        """Raises TypeError; see `save`."""
        raise TypeError(f"{cls.__name__}.load: use StreamAC.load({path!r}).policy, of a file that StreamAC.save wrote.")

    def forward(self, *_: Any, **__: Any) -> NoReturn:
        """Raises TypeError: a policy with memory acts by `predict`, and learns by `decide` and `backward`."""
        raise TypeError(
            f"{type(self).__name__}: a policy with memory acts by predict(observation, state, episode_start)."
        )

    def _predict(self, observation: Any, deterministic: bool = False) -> NoReturn:  # noqa: ARG002
        self.forward()


@cache
def policy_for(spec: CoreSpec) -> type[StreamPolicy]:
    """Returns the class of policies with a core, named after `spec.policy`."""
    about = {"core": spec.name, "__module__": __name__, "__doc__": f"Actor and critic with {spec.summary}."}
    return type(_name_of(spec), (StreamPolicy,), about)


class PolicyAliases(Mapping[str, type[BasePolicy]]):
    """The policy of every registered core that has one and can run through an endless stream, by its name."""

    def __getitem__(self, name: str) -> type[StreamPolicy]:
        for spec in endless_cores():
            if spec.policy and _name_of(spec) == name:
                return policy_for(spec)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (_name_of(spec) for spec in endless_cores() if spec.policy)

    def __len__(self) -> int:
        return sum(1 for _ in self)


POLICY_ALIASES = PolicyAliases()


def _name_of(spec: CoreSpec) -> str:
    return f"Mlp{spec.policy}Policy"


def __getattr__(name: str) -> type[StreamPolicy]:
    """Returns the policies as attributes of this module, where `pickle` looks classes up."""
    if name in POLICY_ALIASES:
        return POLICY_ALIASES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
