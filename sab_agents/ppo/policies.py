"""Recurrent actor-critic policies on stable-baselines3's: a core of any kind between features and heads.

Dimensions: n environments, T steps of a segment, b rows of a minibatch, P numbers in a packed observation, F features,
D numbers in a core's output.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, MlpExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn
from torch.optim import Adam

from sab_agents.checkpoint.archive import Target
from sab_agents.checks import at_least
from sab_agents.core.state import State
from sab_agents.ppo.evaluation import Evaluation, Rollout, Ways
from sab_agents.ppo.observations import Encoder, Packing
from sab_agents.ppo.policy_file import read_policy, write_policy
from sab_agents.ppo.rollout_cores import RolloutCore

Array = npt.NDArray[Any]


class Features(NamedTuple):
    """What actor and critic see of observations.

    Attributes:
        stored: (N, P) what is kept: packed observations, or the features themselves where the extractor learns nothing.
        actor: (N, F).
        critic: (N, F); the same tensor where actor and critic share an extractor.
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
        enable_critic_lstm: a core for the critic; without, and with none shared, the critic sees the present alone.
        lstm_kwargs: settings of the core; the same as `core_kwargs`.
        core_kwargs: settings of the core; see the policies.
        critic_gradient: with a shared core, let the critic's loss train it too. sb3-contrib does not.
        arguments: those of stable-baselines3's `ActorCriticPolicy`. The extractor's default is the policy's own.

    Raises:
        TypeError: a setting is of the wrong kind, or the core does not know it.
        ValueError: a setting is out of range, or two contradict each other.
    """

    extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor

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
        self._core_settings = {**(lstm_kwargs or {}), **(core_kwargs or {})}
        self._warned = False
        self._own_widths: list[tuple[int, int]] | None = None
        if arguments.get("optimizer_class", Adam) is Adam and arguments.get("optimizer_kwargs") is None:
            arguments["optimizer_kwargs"] = {"eps": 1e-5, "fused": True}  # stable-baselines3's, in one pass
        arguments.setdefault("features_extractor_class", self.extractor)
        super().__init__(observation_space, action_space, lr_schedule, net_arch, **arguments)

    @abstractmethod
    def build_core(self, input_size: int, **settings: Any) -> RolloutCore:
        """The policy's kind of core, with `hidden_size` and `layers`."""

    def only_one_layer(self) -> None:
        """Refuses more than one layer, for a core that has no layers.

        Raises:
            ValueError: there are more.
        """
        if self.layers > 1:
            raise ValueError(
                f"{type(self).__name__}: n_lstm_layers must be 1, since its core has no layers, but is {self.layers}."
            )

    def _build_mlp_extractor(self) -> None:
        """Builds what lies between features and heads: the base class's constructor calls it at the right moment."""
        features = int(self.features_dim)  # which may be numpy's
        self.actor_core = self.build_core(features, **self._core_settings)
        width = self.actor_core.output_size
        self.critic_core = self.build_core(features, **self._core_settings) if self.enable_critic_lstm else None
        # A critic without memory needs as many numbers as the MLP behind the cores takes.
        self.critic = None if self.shared_lstm or self.enable_critic_lstm else nn.Linear(features, width)
        self.mlp_extractor = MlpExtractor(
            width, net_arch=self.net_arch, activation_fn=self.activation_fn, device=self.device
        )
        self.packing = Packing(self.observation_space, normalize_images=self.normalize_images)
        # In a list, so that the extractors' parameters are not counted twice.
        extractors = [self.pi_features_extractor, self.vf_features_extractor]
        self._encoders = [Encoder(self.packing, extractor) for extractor in extractors]

    @property
    def encoders(self) -> tuple[Encoder, Encoder]:
        """The actor's and the critic's way from packed observations to features."""
        actor, critic = self._encoders
        return actor, critic

    @property
    def encodes(self) -> bool:
        """Whether features are learnt, so that the past must be kept as it was observed."""
        return any(encoder.learns for encoder in self.encoders)

    def features_of(self, observations: Any) -> Features:
        """What actor and critic see of observations, tensors (N, …) or a dict of such."""
        packed = self.packing.pack(observations)
        actor, critic = self.features_of_stored(packed)
        return Features(packed if self.encodes else actor, actor, critic)

    def features_of_stored(self, stored: Tensor) -> tuple[Tensor, Tensor]:
        """The actor's and the critic's features (N, F) of packed observations (N, P)."""
        actor, critic = self.encoders
        found: Tensor = actor(stored)
        return found, (found if self.share_features_extractor or not self.encodes else critic(stored))

    def acts_on(self, output: Tensor) -> Distribution:
        """The distribution over actions, from the actor core's outputs (N, D)."""
        return self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(self.actor_core.read_out(output)))

    def values_of(self, output: Tensor) -> Tensor:
        """The values (N,), from the critic's outputs (N, D)."""
        if self.critic is None:
            output = (self.critic_core or self.actor_core).read_out(output)
        found: Tensor = self.value_net(self.mlp_extractor.forward_critic(output))
        return found.squeeze(1)

    def evaluate_rows(self, rollout: Rollout, rows: Tensor, actions: Tensor) -> Evaluation:
        """Runs rows of a rollout again with today's weights.

        Args:
            rollout: collected by this policy.
            rows: (b,) int64.
            actions: (T · b, …) taken.
        """
        stored = rollout.stored[:, rows]
        actor_features = critic_features = stored
        if self.encodes:
            flat = self.features_of_stored(stored.flatten(0, 1))
            actor_features, critic_features = (found.view(*stored.shape[:2], -1) for found in flat)
        ways = Ways(threaded=not (self.encodes or self.actor_core.draws))
        cores = [(rollout.actor, actor_features)]
        if rollout.critic is not None:
            cores.append((rollout.critic, critic_features))
        output, *own = ways.through(cores, rows)
        if own:
            critic_output = own[0]
        elif self.critic is not None:
            critic_output = self.critic(ways.leaf_of(critic_features))
        else:
            critic_output = output if self.critic_gradient else output.detach()
        distribution = self.acts_on(output.flatten(0, 1))
        values = self.values_of(critic_output.flatten(0, 1))
        return Evaluation(values, distribution.log_prob(actions), distribution.entropy(), ways.backward)

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Acts without learning, on one environment or on a batch.

        Args:
            observation: one observation of the environment, or n of them.
            state: what the last call returned; None at the start. The second axis of each array is the environment.
            episode_start: (n,) bool, True where the observation is an episode's first.
            deterministic: take the likeliest action instead of drawing one.

        Returns:
            The action, or n actions, within the space's bounds; and the state for the next call.

        Raises:
            ValueError: the state does not fit the observation.
        """
        if self.training:  # setting the mode of every module takes a tenth of a step
            self.set_training_mode(False)
        observations, vectorised = self.obs_to_tensor(observation)
        with torch.no_grad():
            features = self.features_of(observations)
            carried = self._carried(state, episode_start, features.actor.shape[0])
            output, after = self.actor_core.act(features.actor, carried)
            drawn = self.acts_on(output).get_actions(deterministic=deterministic)
        actions = self.bounded(drawn.cpu().numpy().reshape(-1, *(self.action_space.shape or ())))
        return (actions if vectorised else actions[0]), self.actor_core.to_numpy(after)

    def bounded(self, actions: Array) -> Array:
        """Actions (n, …) as the environment takes them: within the bounds of a Box."""
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if self.squash_output:
            found: Array = self.unscale_action(actions)
            return found
        return np.clip(actions, self.action_space.low, self.action_space.high)

    def _carried(self, state: tuple[Array, ...] | None, episode_start: Array | None, rows: int) -> State:
        if state is None:
            return self.actor_core.initial_state(rows)
        if episode_start is None:
            self._warn()
        carried = self.actor_core.from_numpy(state, self.device)
        remedy = "Pass the state that the last call returned, or None at the start."
        if carried.batch_size != rows:
            raise ValueError(
                f"{type(self).__name__}.predict: state must have a row for each of the {rows} observations, but has "
                f"{carried.batch_size}. {remedy}"
            )
        if self._own_widths is None:
            self._own_widths = _widths(self.actor_core.initial_state(1))
        own, given = self._own_widths, _widths(carried)
        if own != given:
            raise ValueError(
                f"{type(self).__name__}.predict: state must have {own} dimensions and numbers in the last of them, but "
                f"has {given}. {remedy}"
            )
        if episode_start is None:
            return carried
        starts = torch.as_tensor(np.broadcast_to(np.asarray(episode_start, dtype=bool), (rows,)).copy())
        return carried.reset(starts)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "predict: got a state but no episode_start, so that the memory of one episode goes on into the next. "
                "Pass episode_start: what the last step of the environments returned as dones.",
                stacklevel=5,  # where the algorithm's predict was called
            )

    def save(self, path: Target) -> None:
        """Writes settings and parameters; the file holds no code. .zip is added to a path without suffix."""
        write_policy(path, self)

    @classmethod
    def load(cls, path: Target, device: torch.device | str = "auto", **settings: Any) -> Self:
        """The policy that `save` wrote.

        Args:
            path: as for `save`.
            device: of the parameters.
            settings: arguments that a file without code could not hold, such as a class of your own.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or holds something else, or a setting must be passed again.
        """
        return read_policy(cls, path, device, settings)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {
            "lstm_hidden_size": self.hidden_size,
            "n_lstm_layers": self.layers,
            "shared_lstm": self.shared_lstm,
            "enable_critic_lstm": self.enable_critic_lstm,
            "core_kwargs": self._core_settings,
            "critic_gradient": self.critic_gradient,
            "share_features_extractor": self.share_features_extractor,
        }
        return {**super()._get_constructor_parameters(), **own}

    def forward(self, *_: Any, **__: Any) -> Any:
        """Not how a policy with memory is used.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{type(self).__name__}: acts by predict(observation, state, episode_start).")


def _widths(state: State) -> list[tuple[int, int]]:
    """Of each tensor of floats, its dimensions and the size of the last: a memory may grow along the others."""
    return [(part.dim(), part.shape[-1]) for part in state.tensors() if part.is_floating_point()]


def _check_sharing(name: str, shared: bool, own: bool, shared_extractor: bool) -> None:
    if shared and own:
        raise ValueError(
            f"{name}: the critic must have a core of its own or the actor's, but shared_lstm and enable_critic_lstm "
            "are both True. Set one of them to False."
        )
    if shared and not shared_extractor:
        raise ValueError(
            f"{name}: a shared core needs shared features, but share_features_extractor is False. Set it to True."
        )
