"""Recurrent actor-critic policies on stable-baselines3's: a core of any kind between features and heads.

Dimensions: n environments, T steps of a segment, b rows of a minibatch, N observations, F features, D output size of a
core.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    MlpExtractor,
    NatureCNN,
)
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import get_device
from torch import Tensor, nn
from torch.optim import Adam

from sab_agents.checkpoint import archive
from sab_agents.checkpoint.settings import from_json, to_json
from sab_agents.checks import at_least, did_you_mean, plain
from sab_agents.core.base import Core
from sab_agents.core.recipes import DEFAULT
from sab_agents.core.registry import CoreSpec
from sab_agents.ppo.cores import CoreSettings, draws_random_numbers, former_core_kwargs, output_scale
from sab_agents.ppo.distributions import CategoricalFrom, in_numbers_of
from sab_agents.ppo.evaluation import Evaluation, Replays, Rollout
from sab_agents.ppo.heads import through
from sab_agents.ppo.observations import Frames, PastEncoder, for_extractor, is_fixed
from sab_agents.ppo.stateful import Features, StatefulPolicy
from sab_agents.streaming import ClosedWindow, Credit, Stream

KIND = "recurrent-policy"
"""What the archive of a policy is called."""
SPACES = ("observation_space", "action_space")
CORES = ("actor_core", "critic_core")


class RecurrentActorCriticPolicy(StatefulPolicy):
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
        frames: the observations that are kept.
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
        _check_names(name, arguments)
        self.hidden_size = at_least(name, "lstm_hidden_size", lstm_hidden_size, 1)
        self.layers = at_least(name, "n_lstm_layers", n_lstm_layers, 1)
        _check_sharing(name, shared_lstm, enable_critic_lstm, arguments.get("share_features_extractor", True))
        self.shared_lstm, self.enable_critic_lstm = shared_lstm, enable_critic_lstm
        self.critic_gradient = critic_gradient
        self._core_kwargs = plain({**(lstm_kwargs or {}), **(core_kwargs or {})})
        self.core_settings = CoreSettings.of(name, self.spec, self.layers, self._core_kwargs)
        if arguments.get("optimizer_class", Adam) is Adam and arguments.get("optimizer_kwargs") is None:
            arguments["optimizer_kwargs"] = {"eps": 1e-5, "fused": True}  # stable-baselines3's, in one pass
        if arguments.setdefault("features_extractor_class", self.extractor) is self.extractor:
            _check_extractor(name, self.extractor, observation_space, arguments)
        super().__init__(observation_space, action_space, lr_schedule, net_arch, **arguments)

    def _build_mlp_extractor(self) -> None:
        """Builds what lies between features and heads: the base class's constructor calls it at the right moment."""
        self.action_dist = in_numbers_of(self.action_space, self.action_dist)
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
        extractors = (self.pi_features_extractor, self.vf_features_extractor)
        self.encodes = self.overrides_features or not all(map(is_fixed, extractors))
        self.replays_observations = self.encodes and self.core_settings.replays_the_past
        self.make_streams(1)
        self._threaded = not (self.encodes or draws_random_numbers(self.actor_core))

    @property
    def overrides_features(self) -> bool:
        """Whether a subclass, or the user of this object, has replaced `extract_features`."""
        method = getattr(self.extract_features, "__func__", None)
        return method is not RecurrentActorCriticPolicy.extract_features

    def make_streams(self, rows: int) -> None:
        """Replaces the streams by new ones of `rows` environments.

        Their observations are numbers of `frames` if `replays_observations`, and otherwise the features.
        """
        self.frames = Frames()

        def stream(core: Any, index: int) -> Stream:
            if not self.replays_observations:
                return self.core_settings.make_stream(core, rows)
            past = PastEncoder(self.frames, partial(self.features_of_one, index), self._encoding_modules)
            return self.core_settings.make_stream(core, rows, encoder=past, observation_shape=(1,))

        self.actor_stream = stream(self.actor_core, 0)
        self.critic_stream = None if self.critic_core is None else stream(self.critic_core, 1)

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams by "actor" and, if the critic has a core of its own, "critic"."""
        critic = {} if self.critic_stream is None else {"critic": self.critic_stream}
        return {"actor": self.actor_stream, **critic}

    @property
    def lstm_actor(self) -> Core[Any]:
        """The actor's core, by sb3-contrib's name: an `LSTM` in the policies of that name, another core in others."""
        return self.actor_core

    @property
    def lstm_critic(self) -> Core[Any] | None:
        """The critic's core, by sb3-contrib's name; None if it has none of its own."""
        return self.critic_core

    @property
    def lstm_hidden_state_shape(self) -> tuple[int, int, int]:
        """The shape of an LSTM's h and c for one environment; other cores carry more, and begin with None."""
        return self.layers, 1, self.hidden_size

    @property
    def lstm_output_dim(self) -> int:
        """D, what the networks behind the core take."""
        return int(self.actor_core.output_size)

    @property
    def lstm_kwargs(self) -> dict[str, Any]:
        """The settings of the core, `lstm_kwargs` and `core_kwargs` together."""
        return dict(self._core_kwargs)

    def extract_features(  # type: ignore[override]
        self, obs: Any, features_extractor: BaseFeaturesExtractor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Preprocesses observations and returns their features.

        A subclass may override it: it is called at every step and in every replay, in training mode while the present
        rollout is learnt from, and in evaluation mode otherwise.

        Args:
            obs: (N, …) observations as tensors, or a dict of them; see `obs_to_tensor`.
            features_extractor: of a policy whose actor and critic share one; None is its own.

        Returns:
            (N, F) features; of the actor and of the critic, if they do not share an extractor.
        """
        if features_extractor is None and self._are_features(obs):
            unchanged: Tensor = obs
            return unchanged
        numbered = for_extractor(self.observation_space, obs)
        features: Tensor | tuple[Tensor, Tensor] = super().extract_features(numbered, features_extractor)
        return features

    def _are_features(self, obs: Any) -> bool:
        """Whether observations are vectors, which preprocessing and a flattening extractor return as they are."""
        extractor: Any = self._modules.get("features_extractor")
        return (
            type(extractor) is FlattenExtractor
            and not (extractor._forward_hooks or extractor._forward_pre_hooks)
            and bool(self.share_features_extractor)
            and type(self.observation_space) is spaces.Box
            and isinstance(obs, Tensor)
            and obs.dim() == 2
            and obs.dtype is torch.float32
            and obs.is_contiguous()
        )

    def features_of(self, observations: Any) -> Features:
        """Returns what actor and critic see of observations, tensors (N, …) or a dict of them."""
        features = self.extract_features(observations)
        return Features(features, features) if isinstance(features, Tensor) else Features(*features)

    def features_of_one(self, index: int, observations: Any) -> Tensor:
        """Returns the features of the actor (0) or of the critic (1) alone."""
        if self.share_features_extractor or self.overrides_features:
            return self.features_of(observations)[index]
        extractor = (self.pi_features_extractor, self.vf_features_extractor)[index]
        numbered = for_extractor(self.observation_space, observations)
        features: Tensor = super(ActorCriticPolicy, self).extract_features(numbered, extractor)
        return features

    def _encoding_modules(self) -> list[nn.Module]:
        """Returns the modules that have a part in features."""
        extractors = [*self.pi_features_extractor.modules(), *self.vf_features_extractor.modules()]
        return list(self.modules()) if self.overrides_features else extractors

    def distribution_of(self, output: Tensor) -> Distribution:
        """Returns the distribution over actions, from outputs (N, D) of the actor's core."""
        latent, kept = self._latent(self._scaled(output)), self.action_dist
        if isinstance(kept, CategoricalFrom):
            return self._get_action_dist_from_latent(latent)
        self.action_dist = copy.copy(kept)
        try:
            return self._get_action_dist_from_latent(latent)
        finally:
            self.action_dist = kept  # which never holds a graph, so that the policy can be copied

    def values_of(self, output: Tensor) -> Tensor:
        """Returns the values (N,), from outputs (N, D) of the critic's core, or of the layer in place of a core."""
        output = self._scaled(output) if self.critic is None else output
        extractor = self.mlp_extractor
        if type(extractor) is MlpExtractor:
            values = through([extractor.value_net, self.value_net], output)
        else:
            values = self.value_net(extractor.forward_critic(output))
        return values.squeeze(1)

    def _latent(self, output: Tensor) -> Tensor:
        """Returns what the head of the actor sees, from scaled outputs (N, D)."""
        extractor = self.mlp_extractor
        if type(extractor) is MlpExtractor:
            return through([extractor.policy_net], output)
        return extractor.forward_actor(output)

    def _scaled(self, output: Tensor) -> Tensor:
        return output if self.output_scale is None else output * self.output_scale

    def evaluate_rows(self, rollout: Rollout, rows: Tensor, actions: Tensor) -> Evaluation:
        """Evaluates rows of a rollout with today's weights.

        Args:
            rollout: collected by this policy.
            rows: (b,) int64.
            actions: (T · b, …) taken.
        """
        replays = Replays(threaded=self._threaded, pass_on=rollout.pass_on)
        cores, critic_features = self._cores_with_inputs(rollout, rows)
        output, *rest = replays.outputs(cores, rows)
        if rest:
            critic_output = rest[0]
        elif self.critic is not None:
            assert critic_features is not None
            critic_output = self.critic(replays.leaf_of(critic_features))
        else:
            critic_output = output if self.critic_gradient else output.detach()
        distribution = self.distribution_of(output.flatten(0, 1))
        values = self.values_of(critic_output.flatten(0, 1))
        return Evaluation(values, distribution.log_prob(actions), distribution.entropy(), replays.backward)

    def learn_rows(self, rollout: Rollout, rows: Tensor, heads: Sequence[Callable[[Tensor], Tensor]]) -> Credit:
        """Adds the gradients of cores and extractors in rows (b,) of a rollout; see `Replays.learn`.

        Args:
            rollout: collected by this policy.
            rows: (b,) int64.
            heads: behind the actor's core and, if it has its own, the critic's.
        """
        replays = Replays(threaded=self._threaded, pass_on=rollout.pass_on)
        return replays.learn(self._cores_with_inputs(rollout, rows)[0], rows, heads)

    def _cores_with_inputs(
        self, rollout: Rollout, rows: Tensor
    ) -> tuple[list[tuple[ClosedWindow, Tensor | None]], Tensor | None]:
        """Returns the cores' segments, each with the inputs (T, b, I) of rows, and the critic's features.

        None stands for inputs that the segments observed, and know from epoch to epoch.
        """
        actor: Tensor | None = None
        critic: Tensor | None = None
        if self.encodes or rollout.critic is None:
            actor = critic = rollout.stored[:, rows]
            if self.encodes:
                leading = actor.shape[:2]
                flat = self.features_of(self.frames.get(actor.flatten()))
                actor, critic = (features.view(*leading, -1) for features in flat)
        cores = [(rollout.actor, actor)]
        if rollout.critic is not None:
            cores.append((rollout.critic, critic))
        return cores, critic

    def reset_noise(self, n_envs: int = 1) -> None:
        """Draws the noise of state-dependent exploration, without a graph: no gradient is taken of it."""
        with torch.no_grad():
            super().reset_noise(n_envs)

    def save(self, path: archive.Target) -> None:
        """Writes settings and parameters, without the optimiser's state, to an archive that holds no code.

        Args:
            path: `.zip` is added to a name without suffix; or a file that is open for writing bytes.
        """
        arguments = self._get_constructor_parameters()
        made_anew = (*SPACES, "lr_schedule")
        settings = {
            "policy": type(self).__name__,
            "recipe": DEFAULT,
            "arguments": {name: to_json(value) for name, value in arguments.items() if name not in made_anew},
            **{name: to_json(arguments[name]) for name in SPACES},
        }
        archive.save(path, KIND, settings, self.distinct_parameters())

    def distinct_parameters(self) -> dict[str, Tensor]:
        """Returns parameters and buffers by one name each: a shared extractor stands under three in `state_dict`."""
        names: dict[int, str] = {}
        for name, value in self.state_dict(keep_vars=True).items():
            names.setdefault(id(value), name)
        state = self.state_dict()
        return {name: state[name] for name in names.values()}

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
        if "recipe" not in settings and "core_kwargs" in kept:
            kept["core_kwargs"] = former_core_kwargs(cls.spec, kept["core_kwargs"])
        known: dict[str, Any] = {name: from_json(settings[name], name) for name in SPACES}
        policy = cls(**known, lr_schedule=cls._dummy_schedule, **kept, **changes)
        policy.load_state_dict(tensors)
        return policy.to(get_device(device))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes over parameters; see `torch.nn.Module`.

        Names of earlier versions are translated, and of a shared module one name is enough.
        """
        known = self.state_dict(keep_vars=True)
        current = {name if name in known else _current_name(name): value for name, value in state_dict.items()}
        given = {id(known[name]): value for name, value in current.items() if name in known}
        current |= {
            name: given[id(value)] for name, value in known.items() if name not in current and id(value) in given
        }
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


def _current_name(name: str) -> str:
    """Returns today's name of a parameter that an earlier version saved, whose cores stood inside another module."""
    for core in CORES:
        name = name.replace(f"{core}.core.", f"{core}.", 1) if name.startswith(f"{core}.core.") else name
    return name


SMALLEST = 36
"""Pixels along each side of an image that stable-baselines3's `NatureCNN` takes."""


class NoImageError(TypeError, AssertionError):
    """Observations are no images; stable-baselines3 raises an AssertionError for that."""


def _check_extractor(
    name: str, extractor: type[BaseFeaturesExtractor], space: spaces.Space[Any], arguments: dict[str, Any]
) -> None:
    """Raises TypeError or ValueError if a policy's own extractor does not take the observations."""
    if isinstance(space, spaces.Dict) and extractor is not CombinedExtractor:
        raise TypeError(
            f"{name}: observations are a dict with {', '.join(space)}, which {extractor.__name__} does not take. Use "
            "the MultiInput policy with the same core, or choose an entry with gymnasium.wrappers.TransformObservation."
        )
    if not isinstance(space, spaces.Dict) and extractor is CombinedExtractor:
        raise TypeError(f"{name}: observations must be a dict, but are of {space}. Use the Mlp or Cnn policy.")
    if extractor is not NatureCNN:
        return
    # Without a division by 255 the extractor does not look at dtype and bounds, as in stable-baselines3.
    scaled = arguments.get("normalize_images", True) is False
    normalized = scaled or bool((arguments.get("features_extractor_kwargs") or {}).get("normalized_image", False))
    if not is_image_space(space, check_channels=False, normalized_image=normalized):
        raise NoImageError(
            f"{name}: observations must be images, uint8 from 0 to 255 of three axes, but are of {space}. Use the Mlp "
            "policy with the same core, or, for images that are scaled already, normalize_images=False in "
            "policy_kwargs."
        )
    sides = sorted(space.shape or ())[1:]
    if min(sides) < SMALLEST:
        raise ValueError(
            f"{name}: images must have at least {SMALLEST} pixels along each side, but have shape {space.shape}. Use "
            "the Mlp policy with the same core, or pass a features_extractor_class for small images in policy_kwargs."
        )


def _check_names(name: str, arguments: Mapping[str, Any]) -> None:
    own, inherited = (inspect.signature(each).parameters for each in (RecurrentActorCriticPolicy, ActorCriticPolicy))
    valid = [each for each in {**own, **inherited} if each not in (*SPACES, "lr_schedule", "arguments")]
    for each in arguments:
        if each not in valid:
            raise TypeError(f"{name}: unknown setting {each!r} in policy_kwargs. {did_you_mean(each, valid)}")


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
