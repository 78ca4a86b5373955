"""Recurrent actor-critic policies on stable-baselines3's: a core of any kind between features and heads.

Dimensions: n environments, T steps of a segment, b rows of a minibatch, P entries of a packed observation, F features,
D output size of a core.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, NoReturn, Self

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import get_device
from torch import Tensor, nn
from torch.optim import Adam

from sab_agents.checkpoint import archive
from sab_agents.checkpoint.settings import from_json, to_json
from sab_agents.checks import at_least, plain
from sab_agents.core.registry import CoreSpec
from sab_agents.core.state import State
from sab_agents.ppo.cores import (
    CoreSettings,
    draws_random_numbers,
    output_scale,
    state_from_arrays,
    state_to_arrays,
)
from sab_agents.ppo.evaluation import Evaluation, Replays, Rollout
from sab_agents.ppo.observations import Encoder, Packing, PastEncoder
from sab_agents.streaming import Stream
from sab_agents.vec_env.usable import check_observation

Array = npt.NDArray[Any]
Arrays = tuple[Array, ...]

KIND = "recurrent-policy"
"""What the archive of a policy is called."""
SPACES = ("observation_space", "action_space")
CORES = ("actor_core", "critic_core")


class Features(NamedTuple):
    """What actor and critic see of observations.

    Attributes:
        stored: (N, P) what is kept: packed observations, or the features themselves if they never change.
        actor: (N, F).
        critic: (N, F); the same tensor if actor and critic share an extractor.
    """

    stored: Tensor
    actor: Tensor
    critic: Tensor


class RecurrentActorCriticPolicy(ActorCriticPolicy):
    """Actor and critic with memory: features, a recurrent core each (or one for both), MLPs, heads.

    Args:
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these.
        action_space: Box, Discrete, MultiDiscrete or MultiBinary.
        lr_schedule: from the remaining progress to a learning rate.
        net_arch: the MLPs behind the cores; see stable-baselines3.
        lstm_hidden_size: H of a core.
        n_lstm_layers: layers of a core that has any.
        shared_lstm: one core for both.
        enable_critic_lstm: a core for the critic. Without it, and if none is shared, the critic sees the present alone.
        lstm_kwargs: settings of the core; the same as `core_kwargs`.
        core_kwargs: settings of the core and of its stream; see the policies, and `CoreSettings` for PPO's own.
        critic_gradient: with a shared core, let the critic's loss train it too. sb3-contrib does not.
        arguments: those of stable-baselines3's `ActorCriticPolicy`. The extractor's default is the policy's own.

    Raises:
        TypeError: a setting is of the wrong type, or the core does not know it.
        ValueError: a setting is out of range, or two contradict each other.

    Attributes:
        actor_core: the actor's core.
        critic_core: the critic's core; None if it has none of its own.
        actor_stream: the stream of the actor's core from which rollouts are collected; `predict` acts by its rules.
        critic_stream: that of the critic's core; None if it has none of its own.
        encodes: whether features can change, so that the past must be kept as it was observed.
        replays_observations: whether credit encodes observations from before a rollout once more.
    """

    spec: ClassVar[CoreSpec]
    """The registered core; each policy by name has one."""
    extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor
    output_scale: Tensor | None

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        *,
        lstm_hidden_size: int = 256,
        n_lstm_layers: int = 1,
        shared_lstm: bool = False,
        enable_critic_lstm: bool = True,
        lstm_kwargs: dict[str, Any] | None = None,
        core_kwargs: dict[str, Any] | None = None,
        critic_gradient: bool = False,
        **arguments: Any,
    ) -> None:
        name = type(self).__name__
        self.hidden_size = at_least(name, "lstm_hidden_size", lstm_hidden_size, 1)
        self.layers = at_least(name, "n_lstm_layers", n_lstm_layers, 1)
        _check_sharing(name, shared_lstm, enable_critic_lstm, arguments.get("share_features_extractor", True))
        self.shared_lstm, self.enable_critic_lstm = shared_lstm, enable_critic_lstm
        self.critic_gradient = critic_gradient
        self._core_kwargs = plain({**(lstm_kwargs or {}), **(core_kwargs or {})})
        self.core_settings = CoreSettings.of(name, self.spec, self.layers, self._core_kwargs)
        self._warned = False
        if arguments.get("optimizer_class", Adam) is Adam and arguments.get("optimizer_kwargs") is None:
            arguments["optimizer_kwargs"] = {"eps": 1e-5, "fused": True}  # stable-baselines3's, in one pass
        arguments.setdefault("features_extractor_class", self.extractor)
        super().__init__(observation_space, action_space, lr_schedule, net_arch, **arguments)

    def _build_mlp_extractor(self) -> None:
        """Builds what lies between features and heads: the base class's constructor calls it at the right moment."""
        features = int(self.features_dim)  # which may be numpy's
        self.actor_core = self.core_settings.build_core(features, self.hidden_size)
        self.critic_core = (
            self.core_settings.build_core(features, self.hidden_size) if self.enable_critic_lstm else None
        )
        width = self.actor_core.output_size
        self.register_buffer("output_scale", output_scale(self.actor_core), persistent=False)
        # A critic without memory needs as many outputs as the MLP behind the cores takes.
        self.critic = None if self.shared_lstm or self.enable_critic_lstm else nn.Linear(features, width)
        self.mlp_extractor = MlpExtractor(
            width, net_arch=self.net_arch, activation_fn=self.activation_fn, device=self.device
        )
        self.packing = Packing(self.observation_space, normalize_images=self.normalize_images)
        # In a list, so that the extractors' parameters are not counted twice.
        extractors = [self.pi_features_extractor, self.vf_features_extractor]
        self._encoders = [Encoder(self.packing, extractor) for extractor in extractors]
        self.encodes = not all(encoder.is_fixed for encoder in self._encoders)
        self.replays_observations = self.encodes and self.core_settings.replays_the_past
        self.make_streams(1)
        self._threaded = not (self.encodes or draws_random_numbers(self.actor_core))

    @property
    def encoders(self) -> tuple[Encoder, Encoder]:
        """The actor's and the critic's encoder of packed observations."""
        actor, critic = self._encoders
        return actor, critic

    def make_streams(self, rows: int) -> None:
        """Replaces the streams by new ones of `rows` environments.

        Their observations are `Features.stored` if `replays_observations`, and otherwise the features.
        """

        def stream(core: Any, encoder: Encoder) -> Stream:
            if not self.replays_observations:
                return self.core_settings.make_stream(core, rows)
            past, shape = PastEncoder(self.packing, encoder.extractor), (self.packing.size,)
            return self.core_settings.make_stream(core, rows, encoder=past, observation_shape=shape)

        actor, critic = self.encoders
        self.actor_stream = stream(self.actor_core, actor)
        self.critic_stream = None if self.critic_core is None else stream(self.critic_core, critic)

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams by "actor" and, if the critic has a core of its own, "critic"."""
        critic = {} if self.critic_stream is None else {"critic": self.critic_stream}
        return {"actor": self.actor_stream, **critic}

    def features_of(self, observations: Any) -> Features:
        """Returns what actor and critic see of observations, tensors (N, …) or a dict of them."""
        packed = self.packing.pack(observations)
        actor, critic = self.features_of_stored(packed)
        return Features(packed if self.encodes else actor, actor, critic)

    def features_of_stored(self, stored: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the actor's and the critic's features (N, F) of packed observations (N, P)."""
        actor_encoder, critic_encoder = self.encoders
        actor: Tensor = actor_encoder(stored)
        return actor, (actor if self.share_features_extractor or not self.encodes else critic_encoder(stored))

    def distribution_of(self, output: Tensor) -> Distribution:
        """Returns the distribution over actions, from outputs (N, D) of the actor's core."""
        kept, self.action_dist = self.action_dist, copy.copy(self.action_dist)
        try:
            return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(self._scaled(output)))
        finally:
            self.action_dist = kept  # which never holds a graph, so that the policy can be copied

    def values_of(self, output: Tensor) -> Tensor:
        """Returns the values (N,), from outputs (N, D) of the critic's core, or of the layer in place of a core."""
        latent = self.mlp_extractor.forward_critic(self._scaled(output) if self.critic is None else output)
        values: Tensor = self.value_net(latent)
        return values.squeeze(1)

    def _scaled(self, output: Tensor) -> Tensor:
        return output if self.output_scale is None else output * self.output_scale

    def evaluate_rows(self, rollout: Rollout, rows: Tensor, actions: Tensor) -> Evaluation:
        """Evaluates rows of a rollout with today's weights.

        Args:
            rollout: collected by this policy.
            rows: (b,) int64.
            actions: (T · b, …) taken.
        """
        stored = rollout.stored[:, rows]
        actor_features = critic_features = stored
        if self.encodes:
            flat = self.features_of_stored(stored.flatten(0, 1))
            actor_features, critic_features = (features.view(*stored.shape[:2], -1) for features in flat)
        replays = Replays(threaded=self._threaded)
        cores = [(rollout.actor, actor_features)]
        if rollout.critic is not None:
            cores.append((rollout.critic, critic_features))
        output, *rest = replays.outputs(cores, rows)
        if rest:
            critic_output = rest[0]
        elif self.critic is not None:
            critic_output = self.critic(replays.leaf_of(critic_features))
        else:
            critic_output = output if self.critic_gradient else output.detach()
        distribution = self.distribution_of(output.flatten(0, 1))
        values = self.values_of(critic_output.flatten(0, 1))
        return Evaluation(values, distribution.log_prob(actions), distribution.entropy(), replays.backward)

    def reset_noise(self, n_envs: int = 1) -> None:
        """Draws the noise of state-dependent exploration, without a graph: no gradient is taken of it."""
        with torch.no_grad():
            super().reset_noise(n_envs)

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
            TypeError: the observation is of another kind, such as the tuple that `reset` of an environment returns.
            ValueError: the observation does not fit the space, or the state not the observation.
        """
        if self.training:  # setting the mode of every module takes a tenth of a step
            self.set_training_mode(False)
        check_observation(f"{type(self).__name__}.predict", self.observation_space, observation)
        observations, vectorised = self.obs_to_tensor(observation)
        with torch.no_grad():
            features = self.features_of(observations)
            before = self._state_before(state, episode_start, features.actor.shape[0])
            output, after = self.actor_stream.act(features.actor, before)
            drawn = self.distribution_of(output).get_actions(deterministic=deterministic)
        actions = self.bounded(drawn.cpu().numpy().reshape(-1, *(self.action_space.shape or ())))
        return (actions if vectorised else actions[0]), state_to_arrays(after)

    def get_distribution(  # type: ignore[override]
        self, obs: Any, lstm_states: Arrays | None = None, episode_starts: Array | Tensor | None = None
    ) -> tuple[Distribution, Arrays]:
        """Returns the distribution over the actions of one step, and the state for the next call.

        Args:
            obs: (n, …) observations as tensors, or a dict of them; see `obs_to_tensor`.
            lstm_states: what the last call, or `predict`, returned; None at the start.
            episode_starts: (n,) bool, True where the observation is an episode's first.

        Raises:
            ValueError: the state does not fit the observations.
        """
        features = self.features_of(obs)
        starts = episode_starts.cpu().numpy() if isinstance(episode_starts, Tensor) else episode_starts
        output, after = self.actor_stream.act(
            features.actor, self._state_before(lstm_states, starts, features.actor.shape[0])
        )
        return self.distribution_of(output), state_to_arrays(after)

    def bounded(self, actions: Array) -> Array:
        """Returns actions (n, …) as the environment takes them: within the bounds of a Box."""
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.squash_output:
            unscaled: Array = self.unscale_action(actions)
            return unscaled
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def _state_before(self, arrays: Arrays | None, episode_start: Array | None, rows: int) -> State:
        """Returns the state before a step of `rows` rows, reset where an episode starts."""
        if arrays is None:
            initial: State = self.actor_stream.initial_state(rows)
            return initial
        if episode_start is None:
            self._warn()
        like = self.actor_stream.initial_state(1)
        state = state_from_arrays(arrays, like, self.device)
        remedy = "Pass the state that the last call returned, or None at the start."
        if state.batch_size != rows:
            raise ValueError(
                f"{type(self).__name__}.predict: state must have a row for each of the {rows} observations, but has "
                f"{state.batch_size}. {remedy}"
            )
        expected, received = _widths(like), _widths(state)
        if expected != received:
            raise ValueError(
                f"{type(self).__name__}.predict: state must have {expected} dimensions and entries in the last of "
                f"them, but has {received}. {remedy}"
            )
        if episode_start is None:
            return state
        starts = torch.as_tensor(np.broadcast_to(np.asarray(episode_start, dtype=bool), (rows,)).copy())
        return state.reset(starts)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "predict: got a state but no episode_start, so that the memory of one episode is kept in the next. "
                "Pass episode_start: what the last step of the environments returned as dones.",
                stacklevel=5,  # where the algorithm's predict was called
            )

    def save(self, path: archive.Target) -> None:
        """Writes settings and parameters, without the optimiser's state, to an archive that holds no code.

        Args:
            path: `.zip` is added to a name without suffix; or a file that is open for writing bytes.
        """
        arguments = self._get_constructor_parameters()
        made_anew = (*SPACES, "lr_schedule")
        settings = {
            "policy": type(self).__name__,
            "arguments": {name: to_json(value) for name, value in arguments.items() if name not in made_anew},
            **{name: to_json(arguments[name]) for name in SPACES},
        }
        archive.save(path, KIND, settings, self.state_dict())

    @classmethod
    def load(cls, path: archive.Target, device: torch.device | str = "auto", **changes: Any) -> Self:
        """Returns the policy that `save` wrote.

        Args:
            path: as for `save`.
            device: of the parameters.
            changes: arguments that a file without code could not hold, such as a class of your own.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or holds something else, or an argument must be passed again.
        """
        settings, tensors = archive.load(path, KIND)
        if settings["policy"] != cls.__name__:
            raise ValueError(
                f"{cls.__name__}.load: the file must hold a policy of this class, but holds a {settings['policy']}. "
                "Use its class's load."
            )
        saved = settings["arguments"]
        kept = {name: from_json(value, name, name) for name, value in saved.items() if name not in changes}
        known: dict[str, Any] = {name: from_json(settings[name], name) for name in SPACES}
        policy = cls(**known, lr_schedule=cls._dummy_schedule, **kept, **changes)
        policy.load_state_dict(tensors)
        return policy.to(get_device(device))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes over parameters; see `torch.nn.Module`. Names of earlier versions are translated."""
        known = self.state_dict().keys()
        current = {name if name in known else _current_name(name): value for name, value in state_dict.items()}
        return super().load_state_dict(current, strict, assign)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        arguments = {
            "lstm_hidden_size": self.hidden_size,
            "n_lstm_layers": self.layers,
            "shared_lstm": self.shared_lstm,
            "enable_critic_lstm": self.enable_critic_lstm,
            "core_kwargs": self._core_kwargs,
            "critic_gradient": self.critic_gradient,
            "share_features_extractor": self.share_features_extractor,
        }
        return {**super()._get_constructor_parameters(), **arguments}

    def forward(self, *_: Any, **__: Any) -> NoReturn:
        """Raises TypeError: a policy with memory acts by `predict`."""
        self._refuse("forward")

    def evaluate_actions(self, *_: Any, **__: Any) -> NoReturn:
        """Raises TypeError: a policy with memory evaluates whole rows of a rollout, by `evaluate_rows`."""
        self._refuse("evaluate_actions")

    def predict_values(self, *_: Any, **__: Any) -> NoReturn:
        """Raises TypeError: values are computed along a rollout, since the critic has a memory of its own."""
        self._refuse("predict_values")

    def _predict(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse("_predict")

    def _refuse(self, name: str) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__}.{name}: a policy with memory acts by predict(observation, state, episode_start). "
            "For probabilities call get_distribution(obs, state, episode_starts)."
        )


def _widths(state: State) -> list[tuple[int, int]]:
    """Of each floating-point tensor, its dimensions and the size of the last: a memory may grow along the others."""
    return [(part.dim(), part.shape[-1]) for part in state.tensors() if part.is_floating_point()]


def _current_name(name: str) -> str:
    """Returns today's name of a parameter that an earlier version saved, whose cores stood inside another module."""
    for core in CORES:
        name = name.replace(f"{core}.core.", f"{core}.", 1) if name.startswith(f"{core}.core.") else name
    return name


def _check_sharing(name: str, shared: bool, separate: bool, shared_extractor: bool) -> None:
    if shared and separate:
        raise ValueError(
            f"{name}: the critic must have a core of its own or the actor's, but shared_lstm and enable_critic_lstm "
            "are both True. Set one of them to False."
        )
    if shared and not shared_extractor:
        raise ValueError(
            f"{name}: a shared core needs shared features, but share_features_extractor is False. Set it to True."
        )
