"""StreamAC: an actor-critic that learns from each step once, as it happens, with stable-baselines3's interface.

Source: Elsayed, Vasan & Mahmood 2024, "Streaming Deep Reinforcement Learning Finally Works", algorithm 6 (AC(λ)).
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sab_agents.checkpoint import archive
from sab_agents.checkpoint.archive import CONTEXTS, all_or_nothing, left_out, on_device, under, within
from sab_agents.checkpoint.settings import from_json, to_json
from sab_agents.checks import above_zero, at_least, did_you_mean, plain
from sab_agents.core.recipes import DEFAULT, former_settings
from sab_agents.core.registry import core_spec
from sab_agents.online.distributions import Array
from sab_agents.online.former_files import agent_state
from sab_agents.online.normalise import RewardScaler
from sab_agents.online.policies import POLICY_ALIASES, Decision, StreamPolicy
from sab_agents.optim.obgd import ObGD
from sab_agents.streaming import in_own_modes, open_figures, without_contexts
from sab_agents.vec_env.copying import copyable
from sab_agents.vec_env.layers import single_wrapped
from sab_agents.vec_env.make import as_vec_env
from sab_agents.vec_env.usable import FOR_STREAMS

KIND = "stream-ac"
NORMALISER = "policy.normaliser"
"""Under which name `get_parameters` has the statistics that normalise observations."""
# The constructor's arguments that a file holds and that are attributes of the agent under the same name.
_ARGUMENTS = (
    *("learning_rate", "gamma", "trace_decay", "ent_coef", "kappa_policy", "kappa_value"),
    *("policy_kwargs", "tensorboard_log", "verbose", "seed"),
)
_COUNTS = ("num_timesteps", "_episode_num", "_n_updates")


class StreamAC(BaseAlgorithm):
    """Streaming actor-critic with eligibility traces: one environment, one pass, no replay, no target network.

    At each step the temporal-difference error δ = r + γ V(o') - V(o) moves all parameters along their traces by ObGD;
    the gradient of log π(a) + sign(δ) · `ent_coef` · entropy and of V(o) is added to the traces. V(o') is 0 if the
    episode terminated and the critic's value if it was truncated. Observations are normalised and rewards scaled by
    running statistics. How gradient reaches the past depends on the core: with `SAB` through its memory (`SABStream`),
    with trace units exactly (`RealTimeStream`), with an LSTM back to the segment's start (`TruncatedStream`).

    Args:
        policy: the policy of a registered core that can run through an endless stream, such as "MlpSabPolicy",
            "MlpLstmPolicy" or "MlpRtuPolicy".
        env: an environment or its id; a VecEnv, or a Gymnasium vector environment, of one; None only for loading.
        learning_rate: α, a bound on ObGD's step size.
        gamma: γ, the discount.
        trace_decay: λ of the traces.
        ent_coef: weight of the policy's entropy.
        kappa_policy: ObGD's κ of the actor, and of all parameters if actor and critic share a core.
        kappa_value: ObGD's κ of the critic.
        policy_kwargs: settings of the policy, the core and its stream; see `StreamPolicy`.
        stats_window_size: episodes over which the logged return is averaged.
        tensorboard_log: folder of TensorBoard's events; None writes none.
        verbose: 0 is silent, 1 prints the log.
        seed: of parameters, actions and environment; None draws one.
        device: of the parameters. For one stream a CPU is the fastest.

    Raises:
        TypeError: a setting is of the wrong kind, `env` is no environment, or a space is not supported.
        ValueError: a setting is out of range, or there is more than one environment.

    Examples:
        >>> from sab_agents import StreamAC
        >>> agent = StreamAC("MlpSabPolicy", "SAB/MemoryChain-v0", seed=0)
        >>> agent.learn(20).num_timesteps
        20

    Source: Elsayed et al. 2024, "Streaming Deep Reinforcement Learning Finally Works", whose defaults these are.
    """

    policy_aliases: ClassVar[Mapping[str, type[BasePolicy]]] = POLICY_ALIASES  # type: ignore[assignment]
    policy: StreamPolicy

    def __init__(
        self,
        policy: str,
        env: Any,
        learning_rate: float = 1.0,
        gamma: float = 0.99,
        trace_decay: float = 0.8,
        ent_coef: float = 0.01,
        kappa_policy: float = 3.0,
        kappa_value: float = 2.0,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        _check_policy(policy, self.policy_aliases)
        learning_rate, gamma, trace_decay, ent_coef = plain((learning_rate, gamma, trace_decay, ent_coef))
        _check_learning_rate(learning_rate)
        if not 0 <= ent_coef < float("inf"):
            raise ValueError(f"StreamAC: ent_coef must be a number of at least 0, but is {ent_coef!r}.")
        if env is not None or _init_setup_model:  # loading sets the spaces up later
            env = _single(env, "StreamAC")
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs=plain(policy_kwargs),
            stats_window_size=plain(stats_window_size),
            tensorboard_log=tensorboard_log,
            verbose=plain(verbose),
            device=device,
            seed=plain(seed),
        )
        self.policy_name = policy
        self.gamma, self.trace_decay, self.ent_coef = gamma, trace_decay, ent_coef
        self.kappa_policy, self.kappa_value = plain(kappa_policy), plain(kappa_value)
        # The current observation, normalised (1, O): None until an episode has been started.
        self.observation: Tensor | None = None
        self._open = _OpenStep()
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self.set_random_seed(self.seed)
        seeds = np.random.SeedSequence(self.seed).spawn(2)
        self.generator, self.predict_generator = (np.random.default_rng(seed) for seed in seeds)
        built = self.policy_class(self.observation_space, self.action_space, **self.policy_kwargs).to(self.device)
        assert isinstance(built, StreamPolicy)
        self.policy = built
        self.reward_scaler = RewardScaler(self.gamma)
        groups = self.policy.groups()
        kappas = [self.kappa_policy, self.kappa_value][: len(groups)]
        settings: dict[str, Any] = {"gamma": self.gamma, "trace_decay": self.trace_decay}
        settings["learning_rate"] = self.learning_rate
        self.optimisers = [ObGD(group, kappa=kappa, **settings) for group, kappa in zip(groups, kappas, strict=True)]

    @in_own_modes
    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 100,
        tb_log_name: str = "StreamAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learns from `total_timesteps` steps of the environment.

        If the environment raises, or returns what is not finite, the step has not happened: a call with
        `reset_num_timesteps=False` tries the same action again, and continues as if there had been no error.

        Args:
            total_timesteps: steps to take.
            callback: called after each step, when it has been learnt from.
            log_interval: episodes between two logs; None logs nothing.
            tb_log_name: name of the run in TensorBoard.
            reset_num_timesteps: count from 0 and start a new episode; False continues the present one.
            progress_bar: show one.

        Returns:
            The agent.

        Raises:
            TypeError: `log_interval` is not an integer.
            ValueError: `log_interval` is below 1, or there is no environment.
        """
        if self.env is None:
            raise ValueError("StreamAC.learn: needs an environment, but has none. Use set_env, or load(path, env=env).")
        if log_interval is not None:
            log_interval = at_least("StreamAC.learn", "log_interval", log_interval, 1)
        before = self._last_obs
        total_timesteps, callbacks = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        if self._last_obs is not before or self.observation is None:
            self._begin_stream()
        callbacks.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            found = self._learn_one()
            callbacks.update_locals(found)
            if not callbacks.on_step():
                break
            if found["dones"][0] and log_interval is not None and self._episode_num % log_interval == 0:
                self.dump_logs()
        callbacks.on_training_end()
        return self

    def _begin_stream(self) -> None:
        """Starts from an environment that was reset outside of `_learn_one`: the traces are cleared."""
        assert isinstance(self._last_obs, np.ndarray)
        self.observation = self._normalised(self._last_obs)
        for optimiser in self.optimisers:
            optimiser.trace.zero_()
        self._open.decision = None

    def _learn_one(self) -> dict[str, Any]:
        """Takes one step and learns from it; returns what callbacks of stable-baselines3 look for."""
        assert self.env is not None
        assert self.observation is not None
        assert self._last_episode_starts is not None
        self.observation = self._as_learnt(self.observation)
        decision = self._open.decision
        if decision is None:
            decision = self.policy.decide(self.observation, bool(self._last_episode_starts[0]), self.generator)
            self._open.decision = decision
        clipped_actions = self.policy.bounded(decision.action)[None]
        observations, rewards, dones, infos = self.env.step(clipped_actions)
        assert isinstance(observations, np.ndarray)
        done, terminated = bool(dones[0]), bool(dones[0]) and not infos[0].get("TimeLimit.truncated", False)
        last = infos[0]["terminal_observation"][None] if done else observations
        following, upcoming, reward = self._counted(last, observations, float(rewards[0]), done)
        value_of_next = 0.0 if terminated else self.policy.value_of_next(following)
        # From here on the step has happened, even if it cannot be learnt from.
        self._open.decision, self.observation = None, upcoming
        self._last_obs, self._last_episode_starts = observations, dones
        self.num_timesteps += 1
        self._episode_num += done
        self._update_info_buffer(infos, dones)
        self._update(decision, reward, value_of_next, done)
        return {
            "env": self.env,
            "actions": decision.action[None],
            "clipped_actions": clipped_actions,
            "new_obs": observations,
            "rewards": rewards,
            "dones": dones,
            "infos": infos,
        }

    def _counted(self, last: Array, observations: Array, reward: float, done: bool) -> tuple[Tensor, Tensor, float]:
        """Adds what a step brought to the statistics: all of it, or nothing if a part of it is refused.

        Args:
            last: the observation (1, …) that followed the action, an episode's last one included.
            observations: the one (1, …) to act on next.
            reward: as it came.
            done: whether an episode has ended, so that these differ.

        Returns:
            Both observations normalised (1, O), and the scaled reward.
        """
        before = self.policy.normaliser.statistics
        try:
            following = self._normalised(last)
            upcoming = self._normalised(observations) if done else following
            return following, upcoming, self.reward_scaler.update(reward, done)
        except BaseException:
            self.policy.normaliser.statistics = before
            raise

    def _update(self, decision: Decision, reward: float, value_of_next: float, done: bool) -> None:
        """Takes one step of ObGD along the traces, for the decision that the reward followed."""
        delta = reward + self.gamma * value_of_next - decision.value
        self.policy.backward(decision, self.ent_coef * ((delta > 0) - (delta < 0)))
        refused: list[FloatingPointError] = []
        for optimiser in self.optimisers:
            try:
                optimiser.step(delta, reset=done)
            except FloatingPointError as error:
                refused.append(error)
        if refused:
            raise refused[0]
        self._n_updates += 1

    def _normalised(self, observations: Array) -> Tensor:
        """Adds the environment's one observation (1, …) to the statistics and returns it normalised, (1, O)."""
        row = torch.from_numpy(self.policy.normaliser.update(self.policy.flattened(observations)[0])[None])
        return self._as_learnt(row)

    def _as_learnt(self, observation: Tensor) -> Tensor:
        """Returns an observation in the dtype and on the device of the parameters."""
        like = self.policy.like
        if observation.dtype is like.dtype and observation.device == like.device:
            return observation
        return observation.to(like)

    def dump_logs(self) -> None:
        """Writes the log: mean return and length of the last episodes, what the actor's memory does, speed and time."""
        assert self.ep_info_buffer is not None
        elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        if self.ep_success_buffer:
            self.logger.record("rollout/success_rate", safe_mean(self.ep_success_buffer))
        for name, value in open_figures(self.policy.actor_stream).items():
            self.logger.record(f"memory/{name}", value, exclude=("stdout", "log"))
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Acts without learning; see `StreamPolicy.predict`. Draws from a random stream apart from that of `learn`."""
        return self.policy.predict(observation, state, episode_start, deterministic, self.predict_generator)

    def state_dict(self, *, contexts: bool = True) -> dict[str, Any]:
        """Returns everything that learning changes: tensors, and values that JSON can hold, by name.

        Args:
            contexts: keep what credit replays; without it memories are read, and not credited until written again.
        """
        state = {
            **under("policy", self.policy.state_dict()),
            **under("normaliser", self.policy.normaliser.state_dict()),
            **under("reward_scaler", self.reward_scaler.state_dict()),
            **under("count", {name: getattr(self, name) for name in _COUNTS}),
            "generators": [each.bit_generator.state for each in (self.generator, self.predict_generator)],
            "episodes": [{name: float(info[name]) for name in ("r", "l", "t")} for info in self.ep_info_buffer or ()],
            "successes": [float(success) for success in self.ep_success_buffer or ()],
        }
        for name, stream in self.policy.streams().items():
            carried = stream.state_dict()
            state |= under(f"stream.{name}", carried if contexts else without_contexts(carried))
        for index, optimiser in enumerate(self.optimisers):
            state |= under(f"optimiser.{index}", optimiser.state_dict())
        if self.observation is not None and self._last_obs is not None:
            assert isinstance(self._last_obs, np.ndarray)
            assert self._last_episode_starts is not None
            state["observation"] = self.observation
            state["last_observation"] = torch.from_numpy(self._last_obs)
            state["episode_start"] = bool(self._last_episode_starts[0])
        return state

    @in_own_modes
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes bit-exactly from what `state_dict` of an agent with the same arguments and spaces returned.

        Raises:
            ValueError: it is of another agent. Nothing has changed.
        """
        with all_or_nothing(self, self._load):
            self._load(state_dict)

    def _load(self, state_dict: dict[str, Any]) -> None:
        self.policy.load_state_dict(within("policy", state_dict))
        self.policy.normaliser.load_state_dict(within("normaliser", state_dict))
        self.reward_scaler.load_state_dict(within("reward_scaler", state_dict))
        for name in _COUNTS:
            setattr(self, name, state_dict[f"count.{name}"])
        for generator, state in zip((self.generator, self.predict_generator), state_dict["generators"], strict=True):
            generator.bit_generator.state = state
        self.ep_info_buffer = deque(state_dict["episodes"], maxlen=self._stats_window_size)
        self.ep_success_buffer = deque(state_dict["successes"], maxlen=self._stats_window_size)
        for name, stream in self.policy.streams().items():
            stream.load_state_dict(on_device(within(f"stream.{name}", state_dict), self.device))
        for index, optimiser in enumerate(self.optimisers):
            optimiser.load_state_dict(within(f"optimiser.{index}", state_dict))
        if "observation" in state_dict:
            self.observation = state_dict["observation"].to(self.device)
            self._last_obs = state_dict["last_observation"].numpy()
            self._last_episode_starts = np.array([state_dict["episode_start"]])

    def save(  # type: ignore[override]
        self, path: str | Path, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Writes a file from which `load` and `learn` resume bit-exactly, given the environment, which is the caller's.

        Args:
            path: .zip is added to a name without suffix. The file holds safetensors and JSON, and no code.
            exclude: names of arguments to leave out; `load` takes the defaults in their place. "contexts" leaves out
                the observations from which a memory with slots is credited, much of the file where these are large.
                After `load` that memory is read as before, and credited again as its slots are written again.
            include: names to keep although they are in `exclude`.

        Raises:
            TypeError: a setting or a space cannot be written as JSON.
            ValueError: `exclude` names the policy, or `include` what a file does not hold.
        """
        arguments = {
            "policy": self.policy_name,
            "stats_window_size": self._stats_window_size,
            **{name: getattr(self, name) for name in _ARGUMENTS},
        }
        known = {*arguments, CONTEXTS}
        absent = left_out("StreamAC", known, f"what a file holds, {', '.join(sorted(known))}", exclude, include)
        if "policy" in absent:
            raise ValueError("StreamAC.save: exclude must not name the policy, without which there is nothing to load.")
        arguments = {name: value for name, value in arguments.items() if name not in absent}
        built = {
            "arguments": arguments,
            "recipe": DEFAULT,
            "observation_space": to_json(self.observation_space),
            "action_space": to_json(self.action_space),
            "frozen": archive.frozen(self.policy.named_parameters()),
        }
        archive.save(path, KIND, built, self.state_dict(contexts=CONTEXTS not in absent))

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | Path,
        env: Any = None,
        device: torch.device | str = "cpu",
        force_reset: bool = True,
        **changes: Any,
    ) -> Self:
        """Returns the agent that `save` wrote.

        Args:
            path: as for `save`.
            env: to continue learning in; None to act only, or to use `set_env` later.
            device: of the parameters.
            force_reset: `learn` starts a new episode. False resumes in the middle of the episode that was saved, for
                a VecEnv that stands where the saved one stood; call `learn(…, reset_num_timesteps=False)` then.
            changes: arguments of `StreamAC` that are to differ from the saved ones, such as tensorboard_log.

        Raises:
            FileNotFoundError: there is no such file.
            TypeError: `env` is no environment.
            ValueError: the file is damaged or not ours, or `env` has other spaces or more than one copy.
        """
        settings, state = archive.load(path, KIND)
        arguments = settings["arguments"] | {"device": device}
        kind: Any = cls.policy_aliases[arguments["policy"]]
        of_policy = arguments.get("policy_kwargs") or {}
        arguments["policy_kwargs"] = former_settings(settings, core_spec(kind.core).settings, of_policy)
        arguments |= changes
        agent = cls(**arguments, env=None, _init_setup_model=False)
        agent.observation_space = from_json(settings["observation_space"], "observation_space")
        agent.action_space = from_json(settings["action_space"], "action_space")
        agent.n_envs = 1
        agent._setup_model()
        if "counts" in settings:
            state = agent_state(settings, state, agent.policy.streams())
        archive.freeze(agent.policy.named_parameters(), settings.get("frozen", ()))
        agent.load_state_dict(state)
        if env is not None:
            agent.set_env(env, force_reset=force_reset)
        return agent

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """Returns the parameters, and the statistics that normalise observations, by the objects' names."""
        return {**super().get_parameters(), NORMALISER: self.policy.normaliser.state_dict()}

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Takes over the parameters of a file that `save` wrote, or of a dict as `get_parameters` returns it.

        Args:
            load_path_or_dict: the path, or the dict. The statistics that normalise observations are taken, too, where
                it has them, since without them the parameters mean something else.
            exact_match: all parameters must be there.
            device: accepted for stable-baselines3's sake; parameters stay on the agent's device.

        Raises:
            RuntimeError: parameters are missing, or have other shapes.
            ValueError: an object's name is unknown or missing, or the file is not ours.
        """
        if isinstance(load_path_or_dict, dict):
            parameters = dict(load_path_or_dict)
            statistics = parameters.pop(NORMALISER, None)
            super().set_parameters(parameters, exact_match, device)
            if statistics is not None:
                self.policy.normaliser.load_state_dict(statistics)
            return
        _, state = archive.load(load_path_or_dict, KIND)
        parameters = {"policy": within("policy", state)}
        super().set_parameters(parameters, exact_match, device)
        self.policy.normaliser.load_state_dict(within("normaliser", state))

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return copyable(BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper))

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """Learns in another environment of the same spaces; `force_reset` as for `load`."""
        super().set_env(_single(env, "StreamAC.set_env"), force_reset)
        if force_reset:
            self.observation = None


class _OpenStep:
    """A decision whose action the environment has not answered yet, which is so after an error alone.

    A copy has none: it decides again.
    """

    def __init__(self) -> None:
        self.decision: Decision | None = None

    def __reduce__(self) -> tuple[type[_OpenStep], tuple[()]]:
        return _OpenStep, ()


def _check_policy(policy: object, known: Mapping[str, type[BasePolicy]]) -> None:
    if not isinstance(policy, str) or policy not in known:
        remedy = did_you_mean(policy, known) if isinstance(policy, str) else "Pass its name."
        raise ValueError(f"StreamAC: policy must be one of {', '.join(known)}, but is {policy!r}. {remedy}")


def _check_learning_rate(learning_rate: object) -> None:
    if callable(learning_rate) or isinstance(learning_rate, str):
        raise TypeError(
            f"StreamAC: learning_rate must be a number, but is {learning_rate!r}. It bounds steps whose size ObGD "
            "chooses, and follows no schedule. Pass a number, such as learning_rate=1.0."
        )
    above_zero("StreamAC", "learning_rate", learning_rate)


def _single(env: Any, owner: str) -> Any:
    """Returns an environment as stable-baselines3 takes it, after checking that there is one of it."""
    count = env.num_envs if isinstance(env, VecEnv | VectorEnv) else 1
    if count == 1:
        return as_vec_env(env, owner, FOR_STREAMS)
    remedy = "a VecEnv of one, or a plain one" if isinstance(env, VecEnv) else f"env = {single_wrapped(env, copies=1)}"
    raise ValueError(f"{owner}: learns from one environment, but got {count}. Use {remedy}.")
