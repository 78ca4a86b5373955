"""Acting, evaluating and predicting with the state passed from call to call: the methods of sb3-contrib's policies.

Dimensions: n environments, T steps, N = n · T observations, F features, D output size of a core.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from sab_agents.core.state import State
from sab_agents.ppo.cores import state_from, state_to_arrays, state_to_tensors
from sab_agents.streaming import Stream, in_own_modes
from sab_agents.vec_env.usable import check_observation

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]
States = Sequence[Array | Tensor]
"""A core's state as arrays or tensors whose second axis is the environment."""
_REMEDY = "Pass the state that the last call returned, or None at the start."


class RNNStates(NamedTuple):
    """The states of actor and critic, as sb3-contrib's class of that name.

    Each is a tuple of tensors whose second axis is the environment, as in the state that `predict` returns: an LSTM's
    are h and c, (layers, n, H).

    Attributes:
        pi: of the actor.
        vf: of the critic; the actor's if it has no core of its own.
    """

    pi: tuple[Tensor, ...]
    vf: tuple[Tensor, ...]


class Features(NamedTuple):
    """What actor and critic see of observations.

    Attributes:
        actor: (N, F).
        critic: (N, F); the same tensor if actor and critic share an extractor.
    """

    actor: Tensor
    critic: Tensor


class StatefulPolicy(ActorCriticPolicy):
    """What the users of a policy with memory call. The state is theirs: it goes in and comes out of every method.

    Attributes:
        actor_stream: by whose rules the actor steps.
        critic_stream: that of the critic's core; None if it has none of its own.
        critic: the layer in place of a core, for a critic without memory; else None.
        critic_gradient: with a shared core, whether the critic's loss trains it.
    """

    actor_stream: Stream
    critic_stream: Stream | None
    critic: nn.Linear | None
    critic_gradient: bool
    _warned = False

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._returned = _Returned()

    @abstractmethod
    def features_of(self, observations: Any) -> Features:
        """Returns what actor and critic see of observations, tensors (N, …) or a dict of them."""

    @abstractmethod
    def features_of_one(self, index: int, observations: Any) -> Tensor:
        """Returns the features (N, F) of the actor (0) or of the critic (1) alone."""

    @abstractmethod
    def distribution_of(self, output: Tensor) -> Distribution:
        """Returns the distribution over actions, from outputs (N, D) of the actor's core."""

    @abstractmethod
    def values_of(self, output: Tensor) -> Tensor:
        """Returns the values (N,), from outputs (N, D) of the critic's core, or of the layer in place of a core."""

    @property
    def device(self) -> torch.device:
        """Of the parameters; stable-baselines3 looks for the first of all of them, several times in each `predict`."""
        stream = vars(self).get("actor_stream")
        return super().device if stream is None else stream.core.like.device

    def obs_to_tensor(self, observation: Array | dict[str, Array]) -> tuple[Any, bool]:
        """Returns observations as tensors, and whether there were several, as stable-baselines3's does.

        Vectors of a Box are converted at once; to find out what kind of space it is takes several times as long.
        """
        space = self.observation_space
        if type(space) is spaces.Box and type(observation) is np.ndarray and len(space.shape) == 1:
            several = observation.ndim == 2
            if observation.shape[several:] == space.shape:
                rows = torch.from_numpy(np.array(observation if several else observation[None]))
                return rows.to(self.device), several
        return super().obs_to_tensor(observation)

    @in_own_modes
    def predict(
        self,
        observation: Array | dict[str, Array],
        state: Arrays | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, Arrays | None]:
        """Acts without learning, on one environment or on a batch.

        Args:
            observation: one observation of the environment, or n of them.
            state: what the last call returned; None at the start. The second axis of each array is the environment.
            episode_start: (n,) bool, True where the observation is an episode's first.
            deterministic: take the likeliest action instead of drawing one.

        Returns:
            The action, or n actions, within the space's bounds; and the state for the next call.

        Raises:
            TypeError: the observation is of another kind than the space.
            ValueError: the observation does not fit the space, or is the tuple that `reset` of an environment returns;
                or the state does not fit the observation.
        """
        if self.training:  # setting the mode of every module takes a tenth of a step
            self.set_training_mode(False)
        check_observation(f"{type(self).__name__}.predict", self.observation_space, observation)
        observations, vectorised = self.obs_to_tensor(observation)
        if state is not None and episode_start is None:
            self._warn()
        with torch.no_grad():
            if self._overrides_acting:
                drawn, tensors = self._predict(observations, state, episode_start, deterministic)
                after = tuple([part.numpy(force=True) for part in tensors])
            else:
                known = state if state is None else self._returned.state_of(state, self.actor_stream)
                drawn, ended = self._acted(observations, known, episode_start, deterministic)
                after = state_to_arrays(ended)
                self._returned.hold(after, ended)
        actions = self.bounded(drawn.numpy(force=True).reshape(-1, *(self.action_space.shape or ())))
        return (actions if vectorised else actions.squeeze(0)), after

    def bounded(self, actions: Array) -> Array:
        """Returns actions (n, …) as the environment takes them: within the bounds of a Box."""
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.squash_output:
            unscaled: Array = self.unscale_action(actions)
            return unscaled
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "predict: got a state but no episode_start, so that the memory of one episode is kept in the next. "
                "Pass episode_start: what the last step of the environments returned as dones.",
                stacklevel=5,  # where the algorithm's predict was called: `in_own_modes` stands between, too
            )

    def get_distribution(  # type: ignore[override]
        self, obs: Any, lstm_states: States | None = None, episode_starts: Array | Tensor | None = None
    ) -> tuple[Distribution, tuple[Tensor, ...]]:
        """Returns the distributions over actions, with gradient, and the actor's state after them.

        The observations are one step of n environments, or T steps of each, as sb3-contrib lays them out: all steps of
        the first environment, then those of the second.

        Args:
            obs: (n · T, …) observations as tensors, or a dict of them; see `obs_to_tensor`.
            lstm_states: of the actor: what the last call, or `predict`, returned; None at the start of n · T episodes.
            episode_starts: (n · T,) True where the observation is an episode's first; None for nowhere.

        Raises:
            TypeError: `lstm_states` holds the states of actor and critic.
            ValueError: the state does not fit the observations.
        """
        distribution, after = self._distribution_after(obs, lstm_states, episode_starts)
        return distribution, state_to_tensors(after)

    def _distribution_after(
        self, obs: Any, states: States | State | None, starts: Array | Tensor | None
    ) -> tuple[Distribution, State]:
        _check_states("get_distribution", states, both=False)
        output, after = self._unrolled(self.actor_stream, self.features_of_one(0, obs), states, starts)
        return self.distribution_of(output), after

    def predict_values(
        self, obs: Any, lstm_states: States | None = None, episode_starts: Array | Tensor | None = None
    ) -> Tensor:
        """Returns the values (n · T, 1), with gradient.

        Args:
            obs: as for `get_distribution`.
            lstm_states: of the critic, `RNNStates.vf`; None at the start.
            episode_starts: as for `get_distribution`.

        Raises:
            TypeError, ValueError: as `get_distribution`.
        """
        _check_states("predict_values", lstm_states, both=False)
        features = self.features_of_one(1, obs)
        if self.critic is not None:
            return self.values_of(self.critic(features)).unsqueeze(1)
        stream = self.actor_stream if self.critic_stream is None else self.critic_stream
        output = self._unrolled(stream, features, lstm_states, episode_starts)[0]
        return self._values(output)

    def forward(  # type: ignore[override]
        self,
        obs: Any,
        lstm_states: Any = None,
        episode_starts: Array | Tensor | None = None,
        deterministic: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, RNNStates]:
        """Draws actions.

        Args:
            obs: as for `get_distribution`.
            lstm_states: of actor and critic, `RNNStates`; None at the start.
            episode_starts: as for `get_distribution`.
            deterministic: take the likeliest actions.

        Returns:
            Actions (n · T, …) as they were drawn, see `bounded`; values (n · T, 1); log-probabilities (n · T,); and the
            states after them.

        Raises:
            TypeError: `lstm_states` is not `RNNStates`.
            ValueError: as `get_distribution`.
        """
        distribution, values, after = self._both("forward", obs, lstm_states, episode_starts)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape(-1, *(self.action_space.shape or ())), values, log_prob, after

    def evaluate_actions(
        self,
        obs: Any,
        actions: Tensor,
        lstm_states: Any = None,
        episode_starts: Array | Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Evaluates actions, with gradient through all T steps; a rollout is learnt from by `evaluate_rows`.

        Args:
            obs: as for `get_distribution`.
            actions: (n · T, …) in the numbers of the action space.
            lstm_states: of actor and critic, `RNNStates`; None at the start.
            episode_starts: as for `get_distribution`.

        Returns:
            Values (n · T, 1), log-probabilities and entropies (n · T,); None for an entropy without a formula.

        Raises:
            TypeError, ValueError: as `forward`.
        """
        distribution, values, _ = self._both("evaluate_actions", obs, lstm_states, episode_starts)
        if isinstance(self.action_space, spaces.MultiBinary):
            actions = actions.to(values.dtype)  # a buffer holds integers
        return values, distribution.log_prob(actions), distribution.entropy()

    def _predict(  # type: ignore[override]
        self,
        observation: Any,
        lstm_states: States | None = None,
        episode_starts: Array | Tensor | None = None,
        deterministic: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Draws actions as `predict` does, of observations as for `get_distribution`, and returns the actor's state."""
        distribution, after = self.get_distribution(observation, lstm_states, episode_starts)
        return distribution.get_actions(deterministic=deterministic), after

    def _acted(
        self, observation: Any, states: States | State | None, starts: Array | Tensor | None, deterministic: bool
    ) -> tuple[Tensor, State]:
        """Does what `_predict` does, and returns the state itself."""
        distribution, after = self._distribution_after(observation, states, starts)
        return distribution.get_actions(deterministic=deterministic), after

    @property
    def _overrides_acting(self) -> bool:
        """Whether a subclass acts by methods of its own."""
        own = type(self)
        return (
            own._predict is not StatefulPolicy._predict or own.get_distribution is not StatefulPolicy.get_distribution
        )

    def _both(
        self, name: str, obs: Any, states: Any, starts: Array | Tensor | None
    ) -> tuple[Distribution, Tensor, RNNStates]:
        """Returns the distributions, the values (N, 1) and the states after them."""
        _check_states(name, states, both=True)
        of_actor, of_critic = (None, None) if states is None else (states.pi, states.vf)
        features = self.features_of(obs)
        output, after = self._unrolled(self.actor_stream, features.actor, of_actor, starts)
        pi = vf = state_to_tensors(after)
        if self.critic is not None:
            values = self.values_of(self.critic(features.critic)).unsqueeze(1)
        elif self.critic_stream is None:
            values = self._values(output)
            vf = tuple(part.detach() for part in pi)
        else:
            of_values, after = self._unrolled(self.critic_stream, features.critic, of_critic, starts)
            values, vf = self._values(of_values), state_to_tensors(after)
        return self.distribution_of(output), values, RNNStates(pi, vf)

    def _values(self, output: Tensor) -> Tensor:
        """Returns the values (N, 1) of outputs of a core: the actor's is only learnt from if `critic_gradient`."""
        learns = self.critic_stream is not None or self.critic_gradient
        return self.values_of(output if learns else output.detach()).unsqueeze(1)

    def _unrolled(
        self, stream: Stream, features: Tensor, parts: States | State | None, starts: Array | Tensor | None
    ) -> tuple[Tensor, State]:
        """Returns the outputs (n · T, D) of a core for features (n · T, F), and the state after them."""
        N = len(features)
        if isinstance(parts, State):
            state = parts
        else:
            state = stream.initial_state(N) if parts is None else self._state_of(parts, _like(stream))
        n = state.batch_size
        if n == 0 or N % n:
            raise ValueError(
                f"{type(self).__name__}: state must have a row for each of the {N} observations, but has {n}. {_REMEDY}"
            )
        alone = n == N and not torch.is_grad_enabled()  # one step of each row
        acted: tuple[Tensor, State]
        if alone and isinstance(starts, np.ndarray) and starts.shape == (N,) and not starts.any():
            acted = stream.act(features, state)
            return acted
        if starts is None:
            start = torch.zeros(N, dtype=torch.bool, device=features.device)
        else:
            start = torch.as_tensor(starts, device=features.device).flatten().bool()
            if len(start) not in {1, N}:
                raise ValueError(
                    f"{type(self).__name__}: episode_start must have a flag for each of the {N} observations, but has "
                    f"{len(start)}."
                )
            start = start.expand(N)
        if alone:
            acted = stream.act(features, state.reset(start) if bool(start.any()) else state)
            return acted
        x = features.view(n, N // n, -1).transpose(0, 1)
        output, after = stream.unroll(x, state, start.view(n, -1).t())
        return output.transpose(0, 1).flatten(0, 1), after

    def _state_of(self, parts: States, like: State) -> State:
        """Returns the state of tensors or arrays that one of these methods returned."""
        try:
            state = state_from(parts, like, self.device)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None
        if not all(map(_of_width, state.tensors(), like.tensors())):
            raise ValueError(
                f"{type(self).__name__}: state must have {_widths(like)} dimensions and entries in the last of them, "
                f"but has {_widths(state)}. {_REMEDY}"
            )
        return state


class _Returned:
    """The state that `predict` returned last, whose arrays need neither checks nor conversion when they come back.

    Arrays and tensors share their memory, which stays the caller's. A copy holds nothing.
    """

    def __init__(self) -> None:
        self._held: tuple[Arrays, State] | None = None

    def __reduce__(self) -> tuple[type[_Returned], tuple[()]]:
        return _Returned, ()

    def hold(self, arrays: Arrays, state: State) -> None:
        """Remembers a state and the arrays that were made of it."""
        parts = state.tensors()
        as_converted = parts[0].is_cpu and all(map(Tensor.is_contiguous, parts))
        self._held = (arrays, state) if as_converted else None

    def state_of(self, arrays: States, stream: Stream) -> States | State:
        """Returns the state of which these very arrays were made; otherwise the arrays."""
        held = self._held
        if held is None or held[0] is not arrays:
            return arrays
        first, like = held[1].tensors()[0], stream.core.like
        return held[1] if first.dtype is like.dtype and like.is_cpu else arrays


def _like(stream: Stream) -> State:
    """Returns some state of a stream, in the dtype and on the device of its core."""
    state: State = stream.state
    first, like = state.tensors()[0], stream.core.like
    if first.dtype is like.dtype and first.device == like.device:
        return state
    initial: State = stream.initial_state(1)
    return initial


def _check_states(name: str, states: Any, *, both: bool) -> None:
    """Raises TypeError unless the states are those of actor and critic, or of one of them."""
    if states is not None and both != all(hasattr(states, part) for part in ("pi", "vf")):
        needed, remedy = (
            ("those of actor and critic", "Pass RNNStates(pi, vf) of sab_agents.ppo.stateful")
            if both
            else ("those of one core", "Pass states.pi or states.vf")
        )
        raise TypeError(f"{name}: lstm_states must be {needed}, but is a {type(states).__name__}. {remedy}.")


def _of_width(part: Tensor, like: Tensor) -> bool:
    """Whether a part of a state has the last axis that it should have, if it holds floating-point numbers."""
    real = like.is_floating_point()
    return part.is_floating_point() is real and (
        not real or (part.dim() == like.dim() and part.shape[-1] == like.shape[-1])
    )


def _widths(state: State) -> list[tuple[int, int]]:
    """Of each floating-point tensor, its dimensions and the size of the last: a memory may grow along the others."""
    return [(part.dim(), part.shape[-1]) for part in state.tensors() if part.is_floating_point()]
