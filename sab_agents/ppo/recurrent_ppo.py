"""RecurrentPPO: proximal policy optimisation for policies with memory, with sb3-contrib's interface.

Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; as in stable-baselines3 and sb3-contrib.
Dimensions: n environments, T steps of a segment, R rows of a rollout, b rows of a minibatch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule, explained_variance, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sab_agents.checks import above_zero, all_finite, at_least, fraction, is_number, plain, zero_or_above
from sab_agents.distributed import Ranks
from sab_agents.optim.adam import Steps, steps_of
from sab_agents.optim.flat import FlatGradient, Follower
from sab_agents.ppo.buffers import DictRowBuffer, RowBuffer
from sab_agents.ppo.by_hand import HeadsByHand
from sab_agents.ppo.collector import Collector, bootstrapped
from sab_agents.ppo.evaluation import Rollout
from sab_agents.ppo.kinds import POLICIES
from sab_agents.ppo.losses import Batch, Losses, Minibatches, Moments, Weights, minibatches, ppo_losses, segment_steps
from sab_agents.ppo.memory_report import MemoryReport
from sab_agents.ppo.normalisers import Normalisers
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.saving import SavedAlgorithm
from sab_agents.ppo.stateful import RNNStates
from sab_agents.streaming import Credit, in_own_modes
from sab_agents.vec_env.make import as_vec_env
from sab_agents.vec_env.usable import FOR_PPO

Array = npt.NDArray[Any]

UNUSED = ("forward", "evaluate_actions", "predict_values")
"""Methods of a policy for its users: learning goes by rows, in ways that need no state from outside."""

CLASSES = ("activation_fn", "features_extractor_class", "optimizer_class")
"""Entries of `policy_kwargs` that are classes, or functions that make what they would."""


class RecurrentPPO(SavedAlgorithm):
    """PPO for recurrent policies, a drop-in replacement for sb3-contrib's.

    Learns from whole rows: a minibatch is `batch_size` steps of some environments, cut into segments of equal length
    if `batch_size` is smaller than `n_steps`; nothing is padded, and episodes may start anywhere in a row. With a
    SAB policy gradient also reaches steps of earlier segments and rollouts that the memory still holds.

    For that, each slot of a SAB keeps what wrote it: in each environment and core up to 8 · (top_k + 1) hidden states,
    45 KB a slot with the defaults. Where the features extractor learns, as with images, it also keeps up to 8
    observations, as the environment gave them and once for actor and critic: 226 KB a slot for four frames of 84 × 84
    bytes. 8 is `rerun_steps`. `save(…, exclude=["contexts"])` leaves all of it out of a file.

    Under `torchrun`, or wherever `torch.distributed` is initialised, the constructor joins the other processes, and all
    learn one policy: each collects from environments of its own, and each gradient is the mean of all. `n_envs` and
    `batch_size` are those of one process, as in CleanRL, and all must have the same; `num_timesteps` and
    `total_timesteps` count the steps of all. `seed` becomes seed + rank · n_envs, so that two processes of 8
    environments run those that one of 16 would. Rank 0 logs and prints. See docs/guides/scaling.md.

    Args:
        policy: "MlpSabPolicy", "CnnSabPolicy", "MultiInputSabPolicy", or the same three with `Lstm`, `AttentionLstm`,
            `Transformer` or any other registered core in place of `Sab` (`policy_aliases` has them all); or a class
            derived from one of them.
        env: an environment or its id, a VecEnv, or a Gymnasium vector environment.
        learning_rate: a number of at least 0, or a function of the remaining progress (from 1 to 0).
        n_steps: steps of a rollout in each environment.
        batch_size: steps of a minibatch; all of a rollout's if it has fewer.
        n_epochs: passes over a rollout.
        gamma: discount, from 0 to 1.
        gae_lambda: λ of the generalised advantage estimator, from 0 to 1.
        clip_range: ε of the surrogate; a number above 0 or a function as above.
        clip_range_vf: greatest change of a value, as `clip_range`; None for any.
        normalize_advantage: whether advantages are normalised in each minibatch.
        ent_coef: weight of the policy's entropy, at least 0.
        vf_coef: weight of the value loss, at least 0.
        max_grad_norm: greatest norm of the gradient, above 0; infinity for any.
        use_sde: generalised state-dependent exploration.
        sde_sample_freq: steps between two draws of its noise; −1 draws at a rollout's start only.
        target_kl: stop an update once the policy has moved by more than 1.5 times this; None never.
        stats_window_size: episodes over which logged returns are averaged.
        tensorboard_log: folder of TensorBoard's events; None writes none.
        policy_kwargs: settings of the policy; see `RecurrentActorCriticPolicy`.
        verbose: 0 is silent, 1 prints the log.
        seed: of everything; None sets no seed.
        device: "auto" takes a GPU if available.
        observe_previous: add the previous action and reward to every observation, by `VecPreviousActionReward`.

    Raises:
        TypeError: a setting is of the wrong type, or `env` is no environment, or has spaces that cannot be used.
        ValueError: a setting is out of range, or the policy or the id is unknown.

    Attributes:
        ranks: the processes that learn together; `ranks.main` is true in the one that logs.

    Examples:
        >>> import gymnasium as gym
        >>> from sab_agents import RecurrentPPO
        >>> env = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=4, corridor_length=5)
        >>> model = RecurrentPPO("MlpSabPolicy", env, n_steps=16, policy_kwargs={"lstm_hidden_size": 16})
        >>> model.learn(64).num_timesteps
        64

    Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms". All defaults are sb3-contrib's.
    """

    policy_aliases: ClassVar[Mapping[str, type[BasePolicy]]] = POLICIES
    policy: RecurrentActorCriticPolicy

    def __init__(
        self,
        policy: str | type[RecurrentActorCriticPolicy],
        env: Any,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 128,
        batch_size: int | None = 128,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        observe_previous: bool = False,
    ) -> None:
        name = type(self).__name__
        _check_policy(name, policy, self.policy_aliases)
        self.n_epochs = at_least(name, "n_epochs", n_epochs, 1)
        self.batch_size = None if batch_size is None else at_least(name, "batch_size", batch_size, 1)
        self.ranks = Ranks.join(device)
        self._normalisers = Normalisers(self.ranks, None)
        if env is not None or _init_setup_model:  # loading sets the spaces up later
            env = as_vec_env(env, name, FOR_PPO, observe_previous=observe_previous)
        _check_settings(
            name,
            shares={"gamma": gamma, "gae_lambda": gae_lambda},
            weights={"learning_rate": learning_rate, "ent_coef": ent_coef, "vf_coef": vf_coef},
            limits={"clip_range": clip_range, "clip_range_vf": clip_range_vf, "target_kl": target_kl},
            max_grad_norm=max_grad_norm,
            normalize_advantage=plain(normalize_advantage),
            policy_kwargs=policy_kwargs,
        )
        super().__init__(
            policy,
            env,
            learning_rate=plain(learning_rate),
            n_steps=at_least(name, "n_steps", n_steps, 1),
            gamma=plain(gamma),
            gae_lambda=plain(gae_lambda),
            ent_coef=plain(ent_coef),
            vf_coef=plain(vf_coef),
            max_grad_norm=plain(max_grad_norm),
            use_sde=use_sde,
            sde_sample_freq=at_least(name, "sde_sample_freq", sde_sample_freq, -1),
            stats_window_size=plain(stats_window_size),
            tensorboard_log=tensorboard_log,
            policy_kwargs=plain(policy_kwargs),
            verbose=plain(verbose) if self.ranks.main else 0,
            seed=plain(seed),
            device=device,
            _init_setup_model=False,
            supported_action_spaces=FOR_PPO.actions,
        )
        self.observe_previous = observe_previous
        self.clip_range, self.clip_range_vf = plain(clip_range), plain(clip_range_vf)
        self.normalize_advantage, self.target_kl = plain(normalize_advantage), plain(target_kl)
        self.skipped_updates = 0
        if _init_setup_model:
            self._setup_model()
        if self.verbose >= 1 and env is not None and self.n_envs == 1:
            print("One copy of the environment. PPO learns more reliably from 8 or 16: gym.make_vec makes them.")

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        buffer = DictRowBuffer if isinstance(self.observation_space, spaces.Dict) else RowBuffer
        self.rollout_buffer_class = buffer
        self.rollout_buffer = buffer(
            self.n_steps,
            self.observation_space,  # type: ignore[arg-type]
            self.action_space,
            device=self.device,
            gamma=self.gamma,
            gae_lambda=self.gae_lambda,
            n_envs=self.n_envs,
        )
        built = self.policy_class(
            self.observation_space, self.action_space, self.lr_schedule, use_sde=self.use_sde, **self.policy_kwargs
        )
        assert isinstance(built, RecurrentActorCriticPolicy)
        self.policy = built.to(self.device)
        self._follower = Follower([self.policy])
        self.collector = Collector(self.policy, self.n_envs)
        whole = self.n_steps * self.n_envs
        batch_size = whole if self.batch_size is None else min(self.batch_size, whole)
        self.segment_steps = segment_steps(self.n_steps, batch_size, self.n_envs)
        self.rows_of_minibatch = batch_size // self.segment_steps
        self.clip_range = FloatSchedule(self.clip_range)
        if self.clip_range_vf is not None:
            self.clip_range_vf = FloatSchedule(self.clip_range_vf)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seeds this process, and its environments with the seeds after those of the ranks before."""
        super().set_random_seed(None if seed is None else self.seed_of_rank(seed))

    def set_logger(self, logger: Logger) -> None:
        """Logs to this logger; ranks other than 0 log nothing."""
        super().set_logger(logger if self.ranks.main else Logger(None, []))

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fills the buffer with the policy's steps; returns False if a callback ends the training.

        Several ranks stay in step: all complete the rollout, and end after it if a callback of one of them says so.
        """
        finished = True
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        self.collector.begin()
        callback.on_rollout_start()  # before anything is drawn, so that what it saves resumes bit-exactly
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        for step in range(n_rollout_steps):
            if self.use_sde and self.sde_sample_freq > 0 and step % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            assert self._last_obs is not None
            obs_tensor = obs_as_tensor(self._last_obs, self.device)
            episode_starts = torch.as_tensor(self._last_episode_starts, dtype=torch.bool, device=self.device)
            acted = self.collector.step(obs_tensor, episode_starts)
            actions = acted.actions.cpu().numpy()
            clipped_actions = self.policy.bounded(actions)
            seen, first = self._last_obs, self._last_episode_starts
            new_obs, rewards, dones, infos = env.step(clipped_actions)
            self._check_rewards(rewards)
            self.collector.take()
            # Before the callback, so that what it saves is where the environments are.
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            self.num_timesteps += env.num_envs * self.ranks.size
            # The names that callbacks of stable-baselines3 and sb3-contrib look for.
            callback.update_locals(
                {
                    **locals(),
                    "n_steps": step,
                    "episode_starts": episode_starts.float(),
                    "values": acted.values.unsqueeze(1),
                    "log_probs": acted.log_prob,
                    "lstm_states": self.collector.states,
                }
            )
            if not callback.on_step():
                if self.ranks.alone:
                    return False
                finished = False
            self._update_info_buffer(infos, dones)
            rewards = bootstrapped(rewards, new_obs, infos, self.gamma, self._value_of)
            if isinstance(self.action_space, spaces.Discrete):
                actions = actions.reshape(-1, 1)
            rollout_buffer.add(
                seen,  # type: ignore[arg-type]
                actions,
                rewards,
                first,  # type: ignore[arg-type]
                acted.values,
                acted.log_prob,
            )
            if (step + 1) % self.segment_steps == 0:
                self.collector.end_segment()
        starts = torch.as_tensor(dones, dtype=torch.bool, device=self.device)
        last_values = self.collector.values_of_next(obs_as_tensor(new_obs, self.device), starts)  # type: ignore[arg-type]
        rollout_buffer.compute_returns_and_advantage(last_values=last_values, dones=dones)
        callback.update_locals({"values": last_values.unsqueeze(1), "episode_starts": starts.float()})
        callback.on_rollout_end()
        self._normalisers.merge()
        return not self.ranks.any(not finished)

    def _check_rewards(self, rewards: Array) -> None:
        """Raises ValueError if one is not finite: no update of the rollout that holds it would be."""
        if not all_finite(rewards):
            wrong = ", ".join(
                f"{rewards[copy]} in environment {copy}" for copy in np.flatnonzero(~np.isfinite(rewards))
            )
            raise ValueError(
                f"RecurrentPPO.learn: rewards must be finite, but there is {wrong}. Clean it in the environment first, "
                "and make a new VecNormalize if one has seen it."
            )

    @property
    def _last_lstm_states(self) -> RNNStates:
        """The states after the last step, by sb3-contrib's name."""
        return self.collector.states

    def _value_of(self, observations: Any) -> Array:
        """Returns the values (n,) of observations that continue the episodes."""
        no_start = torch.zeros(self.n_envs, dtype=torch.bool, device=self.device)
        return self.collector.values_of_next(obs_as_tensor(observations, self.device), no_start).cpu().numpy()

    def train(self) -> None:
        """Learns from the rollout in the buffer, `n_epochs` times."""
        self.policy.set_training_mode(True)
        self._follower.follow(self.policy.optimizer)
        self._update_learning_rate(self.policy.optimizer)
        progress = self._current_progress_remaining
        weights = Weights(
            self.clip_range(progress),
            None if self.clip_range_vf is None else self.clip_range_vf(progress),
            self.ent_coef,
            self.vf_coef,
        )
        rollout = self.collector.rollout()
        batch = Batch.of(self.rollout_buffer, self.n_steps // self.segment_steps)
        gradient = FlatGradient(list(self.policy.parameters()), figures=len(Losses._fields))
        kept = Minibatches(batch, normalize=self.normalize_advantage)
        gradient.begin()
        heads = HeadsByHand.of(self.policy)
        optimizer = steps_of(self.policy.optimizer)
        recorded: dict[str, list[Tensor]] = defaultdict(list)
        report = MemoryReport.of(rollout.actor)
        if report is not None:
            rollout = rollout._replace(pass_on=report.pass_on)
        for epoch in range(self.n_epochs):
            order = [rows.to(self.device) for rows in self.minibatches(batch.values.shape[1])]
            for rows, moments in zip(order, self._moments(batch, order), strict=True):
                mini = kept.of(rows, moments)
                if self.use_sde:
                    self.policy.reset_noise(len(mini.values))
                if heads is None:
                    gradient.begin()
                    losses, credit = self._by_graph(rollout, rows, mini, weights)
                else:
                    gradient.clear()
                    behind = heads.behind_cores(mini, weights)
                    credit = self.policy.learn_rows(rollout, rows, [behind.actor, behind.critic])
                    losses = behind.losses()
                means = Losses(*gradient.average(self.ranks, [value.detach() for value in losses]))
                for name, value in means._asdict().items():
                    recorded[name].append(value)
                if self._moved_too_far(float(means.approx_kl), epoch):
                    break
                self._descend(gradient, optimizer)
                if report is not None:
                    report.add(credit)
            else:
                self._n_updates += 1
                continue
            break
        self._log({name: float(torch.stack(values).mean()) for name, values in recorded.items()}, weights)
        if report is not None:
            report.log(self.logger, self.num_timesteps // (self.n_steps * self.n_envs * self.ranks.size))

    def _by_graph(self, rollout: Rollout, rows: Tensor, batch: Batch, weights: Weights) -> tuple[Losses, Credit | None]:
        evaluation = self.policy.evaluate_rows(rollout, rows, batch.actions)
        losses = ppo_losses(evaluation.values, evaluation.log_prob, evaluation.entropy, batch, weights)
        losses.total.backward()  # type: ignore[no-untyped-call]
        return losses, evaluation.backward()

    def minibatches(self, rows: int) -> list[Tensor]:
        """Returns the rows of each minibatch of an epoch, in random order; a subclass can choose another.

        Args:
            rows: of the rollout: those of the first segment of all environments, of the second, ….
        """
        return minibatches(rows, self.rows_of_minibatch)

    def _moments(self, batch: Batch, order: list[Tensor]) -> Sequence[Moments | None]:
        """Returns those of the advantages in each minibatch of all ranks, in one exchange for an epoch."""
        if self.ranks.alone or not self.normalize_advantage:
            return [None] * len(order)
        return self.ranks.moments([batch.advantages[:, rows] for rows in order])

    def _moved_too_far(self, approx_kl: float, epoch: int) -> bool:
        if self.target_kl is None or approx_kl <= 1.5 * self.target_kl:
            return False
        if self.verbose >= 1:
            print(f"Stopping early in epoch {epoch}: the approximate KL is {approx_kl:.3f}")
        return True

    def _descend(self, gradient: FlatGradient, optimizer: Steps) -> None:
        """Takes a step of the optimiser, unless the gradient is not finite, which a chain of reads can make it."""
        if math.isfinite(gradient.clip(self.max_grad_norm)):
            optimizer.step()
        else:
            self.skipped_updates += 1

    def _log(self, means: dict[str, float], weights: Weights) -> None:
        explained = explained_variance(self.rollout_buffer.values.flatten(), self.rollout_buffer.returns.flatten())
        self.logger.record("train/entropy_loss", means["entropy"])
        self.logger.record("train/policy_gradient_loss", means["policy"])
        self.logger.record("train/value_loss", means["value"])
        self.logger.record("train/approx_kl", means["approx_kl"])
        self.logger.record("train/clip_fraction", means["clip_fraction"])
        self.logger.record("train/loss", means["total"])
        self.logger.record("train/explained_variance", explained)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", weights.clip_range)
        if weights.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", weights.clip_range_vf)
        if self.skipped_updates:
            self.logger.record("train/skipped_updates", self.skipped_updates)

    @in_own_modes
    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "RecurrentPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learns from at least `total_timesteps` steps of all environments together; see stable-baselines3.

        All ranks begin with the parameters, buffers and statistics of `VecNormalize` of rank 0.

        Args:
            total_timesteps: steps of all environments together, rounded up to whole rollouts.
            callback: called after each step of the environments.
            log_interval: rollouts between two logs; None logs nothing.
            tb_log_name: name of the run in TensorBoard.
            reset_num_timesteps: count from 0 and start new episodes; False continues the present ones.
            progress_bar: show one.

        Returns:
            The agent.

        Raises:
            RankLost: another rank has died.
            TypeError: `log_interval` is not an integer.
            ValueError: `log_interval` is below 1, there is no environment, a reward or an observation is not finite, or
                the ranks differ in the sizes of what they learn from, or in how far they have come.
        """
        if log_interval is not None:
            log_interval = at_least("RecurrentPPO.learn", "log_interval", log_interval, 1)
        if self.env is None:
            raise ValueError(
                "RecurrentPPO.learn: needs an environment, but has none. Use set_env, or load(path, env=env)."
            )
        self._join_in()
        return super().learn(
            total_timesteps,
            callback,
            log_interval,  # type: ignore[arg-type]  # None is no log there, too
            tb_log_name,
            reset_num_timesteps,
            progress_bar and self.ranks.main,
        )

    def _join_in(self) -> None:
        """Begins where rank 0 begins."""
        self._normalisers = Normalisers(self.ranks, self.get_vec_normalize_env())
        if self.ranks.alone:
            return
        names = ("n_envs", "n_steps", "n_epochs", "rows_of_minibatch", "target_kl", "num_timesteps")
        shapes = [tuple(parameter.shape) for parameter in self.policy.parameters()]
        settings = {name: getattr(self, name) for name in names} | {"shapes of parameters": shapes}
        self.ranks.require_same(type(self).__name__, settings)
        self.ranks.share([*self.policy.parameters(), *self.policy.buffers()])
        self._normalisers.share()
        if not self.ranks.main:
            self.set_logger(Logger(None, []))

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Learns in another environment of the same spaces and number of copies; see stable-baselines3."""
        name = type(self).__name__
        super().set_env(as_vec_env(env, name, FOR_PPO, observe_previous=self.observe_previous), force_reset)


def _check_settings(
    name: str,
    *,
    shares: Mapping[str, Any],
    weights: Mapping[str, Any],
    limits: Mapping[str, Any],
    max_grad_norm: Any,
    normalize_advantage: Any,
    policy_kwargs: Any,
) -> None:
    """Checks the numbers among the settings; functions of the progress are the caller's, and None is no limit."""
    for setting, value in shares.items():
        fraction(name, setting, value)
    for setting, value in weights.items():
        if not (setting == "learning_rate" and callable(value)):
            zero_or_above(name, setting, value)
    for setting, value in limits.items():
        if not (callable(value) or (value is None and setting != "clip_range")):
            above_zero(name, setting, value)
    if not is_number(max_grad_norm) or not max_grad_norm > 0:
        raise ValueError(
            f"{name}: max_grad_norm must be a number above 0, but is {max_grad_norm!r}. Pass math.inf for no limit."
        )
    if not isinstance(normalize_advantage, bool):
        raise TypeError(f"{name}: normalize_advantage must be True or False, but is {normalize_advantage!r}.")
    if policy_kwargs is not None and not isinstance(policy_kwargs, Mapping):
        raise TypeError(f"{name}: policy_kwargs must be a dict, but is {policy_kwargs!r}.")
    for setting, value in (policy_kwargs or {}).items():
        if setting in CLASSES and not callable(value):
            raise TypeError(f"{name}: policy_kwargs: {setting} must be a class, but is {value!r}.")


def _check_policy(name: str, policy: Any, known: Mapping[str, type[BasePolicy]]) -> None:
    if isinstance(policy, str):
        if policy not in known:
            raise ValueError(f"{name}: policy must be one of {', '.join(known)}, but is {policy!r}.")
    elif not (isinstance(policy, type) and issubclass(policy, RecurrentActorCriticPolicy)):
        raise TypeError(
            f"{name}: policy must be a name, or a class derived from a policy of this library, but is {policy!r}."
        )
    elif replaced := [
        each for each in UNUSED if getattr(policy, each) is not getattr(RecurrentActorCriticPolicy, each)
    ]:
        raise TypeError(
            f"{name}: {policy.__name__} overrides {', '.join(replaced)}, which learning does not call. Override "
            "extract_features, distribution_of, values_of or evaluate_rows."
        )
