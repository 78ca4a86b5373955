"""Wrappers: the previous action and reward as part of the observation, and a mark on steps that only reset.

Dimensions: n copies, k values of an encoded action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from sab_agents.envs.arrays import Array, Bools, Floats32

if TYPE_CHECKING:
    Wrapper = gym.Wrapper[Any, Any, Any, Any]
    BatchWrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:  # in older releases of Gymnasium, these classes cannot be subscripted at run time
    Wrapper, BatchWrapper = gym.Wrapper, VectorWrapper

ACTION_KEY, REWARD_KEY = "previous_action", "previous_reward"


class PreviousActionReward(Wrapper, RecordConstructorArgs):
    """Adds the previous action and reward to each observation; both are zeros after a reset.

    A Dict observation gets two more keys, `previous_action` (k,) and `previous_reward` (1,), both float32. Any other
    observation is flattened and concatenated with action and reward, in this order, to one Box. Discrete and
    MultiDiscrete are one-hot encoded; MultiBinary and Box are only flattened.

    Args:
        env: environment whose observation space is a Dict, Discrete, MultiDiscrete, MultiBinary or Box, and whose
            action space is one of these except Dict.

    Raises:
        TypeError: the environment or a space is of another kind.
        ValueError: a Dict observation already has one of the two keys.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        _check_kind("PreviousActionReward", env, gym.Env, "a single environment")
        super().__init__(env)
        self._layout = Layout(env.observation_space, env.action_space)
        self.observation_space = self._layout.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode, with zeros as the previous action and reward."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._layout.one(observation, np.zeros(self._layout.k, np.float32), 0.0), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step. The observation includes this action and its reward."""
        encoded = self._layout.actions(np.asarray(action)[None])[0]  # before a wrapper inside writes into it
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._layout.one(observation, encoded, float(reward)), reward, terminated, truncated, info


class VectorPreviousActionReward(BatchWrapper):
    """`PreviousActionReward` for a vector environment: the same observations as if each copy were wrapped alone.

    In each autoreset mode, the first observation of an episode has zeros, and the last one has the action and reward
    that ended it. The last one is in `info["final_obs"]` in the same-step mode, else it is the observation itself.

    Args:
        env: vector environment whose metadata has the key `autoreset_mode`.

    Raises:
        TypeError, ValueError: as in `PreviousActionReward`, or the metadata lacks the autoreset mode.
    """

    honours_reset_mask = True  # for `VectorToVecEnv`

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        _check_kind("VectorPreviousActionReward", env, VectorEnv, "a vector environment")
        super().__init__(env)
        self._layout = Layout(env.single_observation_space, env.single_action_space)
        self.single_observation_space = self._layout.space
        self.observation_space = batch_space(self._layout.space, env.num_envs)
        self._mode = autoreset_mode(env)
        self._ended = np.zeros(env.num_envs, np.bool_)
        self._actions = np.zeros((env.num_envs, self._layout.k), np.float32)
        self._rewards = np.zeros(env.num_envs, np.float32)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets all copies, or those of `options["reset_mask"]`, with zeros as the previous action and reward."""
        mask = reset_mask(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._begin(mask)
        self._ended[mask] = False
        return self._layout.many(observations, self._actions, self._rewards), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes a step in all copies. The observations include these actions and their rewards."""
        taken = self._layout.actions(np.asarray(actions))  # before a wrapper inside writes into them
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        _check_infos("VectorPreviousActionReward", infos)
        self._actions = taken
        self._rewards = np.array(rewards, np.float32)
        ended = np.logical_or(terminations, truncations)
        if self._mode == AutoresetMode.SAME_STEP:
            if ended.any():
                infos = {**infos, "final_obs": self._final(infos["final_obs"], ended)}
            self._begin(ended)
        elif self._mode == AutoresetMode.NEXT_STEP:
            self._begin(self._ended)
        self._ended = ended
        joined = self._layout.many(observations, self._actions, self._rewards)
        return joined, rewards, terminations, truncations, infos

    def _begin(self, copies: Bools) -> None:
        self._actions[copies] = 0
        self._rewards[copies] = 0

    def _final(self, observations: Array, ended: Bools) -> Array:
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(ended):
            final[i] = self._layout.one(observations[i], self._actions[i], float(self._rewards[i]))
        return final


class MarkResetSteps(BatchWrapper):
    """Adds `info["valid"]` to every step: whether each copy took the step, (n,) bool.

    In the next-step mode, the step after the end of an episode only resets the copy: its action is ignored, its reward
    is 0, and its observation is the first of a new episode. `valid` is False for exactly these steps, so that they can
    be excluded from losses and statistics. In the other modes all steps are valid. `reset` adds nothing.

    Args:
        env: vector environment whose metadata has the key `autoreset_mode`.

    Raises:
        ValueError: the metadata lacks the autoreset mode.
    """

    honours_reset_mask = True  # for `VectorToVecEnv`

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._next_step = autoreset_mode(env) == AutoresetMode.NEXT_STEP
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets all copies, or those of `options["reset_mask"]`, whose next step is then valid."""
        mask = reset_mask(options, self.num_envs)
        result = self.env.reset(seed=seed, options=options)
        self._ended[mask] = False
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes a step in all copies and marks the copies that it only reset."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        _check_infos("MarkResetSteps", infos)
        infos = {**infos, "valid": ~self._ended, "_valid": np.ones(self.num_envs, np.bool_)}
        if self._next_step:
            self._ended = np.logical_or(terminations, truncations)
        return observations, rewards, terminations, truncations, infos


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """Returns the autoreset mode in the metadata of a vector environment.

    Raises:
        ValueError: the metadata lacks the autoreset mode.
    """
    mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise ValueError(
            f"{env}: metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, but is {mode!r}. "
            "Set it to the mode that the environment implements."
        )
    return mode


def reset_mask(options: dict[str, Any] | None, n: int) -> Bools:
    """Returns the copies that `reset` with these options resets, (n,) bool: all, unless there is a `reset_mask`."""
    if options is None or "reset_mask" not in options:
        return np.ones(n, np.bool_)
    return np.array(options["reset_mask"], np.bool_)


def _check_kind(owner: str, env: Any, kind: type, expected: str) -> None:
    if not isinstance(env, kind):
        raise TypeError(
            f"{owner}: env must be {expected}, but is {env!r}. Pass a single environment to PreviousActionReward, a "
            "vector environment to VectorPreviousActionReward, and a VecEnv of stable-baselines3 to "
            "sab_agents.vec_env.previous.VecPreviousActionReward."
        )


def _check_infos(owner: str, infos: Any) -> None:
    if not isinstance(infos, dict):
        raise TypeError(
            f"{owner}: infos must be a dict, but are a {type(infos).__name__}. Wrap in DictInfoToList last."
        )


class Layout:
    """Joins observation, previous action and previous reward to one observation.

    Args:
        observation_space: observation space of one copy.
        action_space: action space of one copy.

    Attributes:
        space: space of one joined observation.
        k: number of values of an encoded action.

    Raises:
        TypeError: a space is of a kind that `PreviousActionReward` does not support.
        ValueError: a Dict observation already has one of the two keys.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self._observation, self._action = observation_space, action_space
        low, high = _bounds(action_space, "action")
        self.k = len(low)
        action = spaces.Box(np.minimum(low, 0), np.maximum(high, 0), dtype=np.float32)
        reward = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.space: spaces.Space[Any]
        if isinstance(observation_space, spaces.Dict):
            if duplicates := {ACTION_KEY, REWARD_KEY} & set(observation_space.spaces):
                raise ValueError(
                    f"PreviousActionReward: a Dict observation must not have the keys {ACTION_KEY} and {REWARD_KEY} "
                    f"already, but has {', '.join(sorted(duplicates))}. Wrap the environment once."
                )
            self.space = spaces.Dict({**observation_space.spaces, ACTION_KEY: action, REWARD_KEY: reward})
        else:
            low, high = _bounds(observation_space, "observation")
            dtype = np.result_type(low.dtype, np.float32).type
            lowest = np.concatenate([low, action.low, reward.low], dtype=dtype)
            highest = np.concatenate([high, action.high, reward.high], dtype=dtype)
            self.space = spaces.Box(lowest, highest, dtype=dtype)

    def actions(self, actions: Array) -> Floats32:
        """Encodes the actions of n copies, (n, k)."""
        return _encoded(self._action, actions).astype(np.float32)

    def many(self, observations: Any, actions: Array, rewards: Array) -> Any:
        """Joins the observations of n copies with encoded actions (n, k) and rewards (n,)."""
        if isinstance(self.space, spaces.Dict):
            return {**observations, ACTION_KEY: actions.copy(), REWARD_KEY: rewards[:, None].astype(np.float32)}
        encoded = _encoded(self._observation, np.asarray(observations))
        return np.concatenate([encoded, actions, rewards[:, None]], axis=1, dtype=self.space.dtype)

    def one(self, observation: Any, action: Array, reward: float) -> Any:
        """Joins one observation with an encoded action (k,) and a reward."""
        rewards = np.array([reward], np.float32)
        if isinstance(self.space, spaces.Dict):
            return {**observation, ACTION_KEY: action.copy(), REWARD_KEY: rewards}
        return self.many(np.asarray(observation)[None], action[None], rewards)[0]


def _bounds(space: spaces.Space[Any], role: str) -> tuple[Array, Array]:
    """Returns the lowest and the highest values of an encoded element of the space."""
    if isinstance(space, spaces.Box):
        return space.low.ravel(), space.high.ravel()
    if isinstance(space, spaces.Discrete):
        width = int(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        width = int(space.nvec.sum())
    elif isinstance(space, spaces.MultiBinary):
        width = int(np.prod(space.shape))
    else:
        kinds = "Discrete, MultiDiscrete, MultiBinary or Box" + (", or Dict" if role == "observation" else "")
        raise TypeError(f"PreviousActionReward: the {role} space must be {kinds}, but is {space}. Flatten it first.")
    return np.zeros(width, np.float32), np.ones(width, np.float32)


def _encoded(space: spaces.Space[Any], values: Array) -> Array:
    """Encodes n elements of the space as rows, (n, values of an encoded element)."""
    encoded: Array = values.reshape(len(values), -1)
    if isinstance(space, spaces.Discrete):
        encoded = np.equal(encoded, np.arange(space.start, space.start + space.n))
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = space.nvec.ravel()
        places = np.concatenate([np.arange(size) for size in sizes]) + np.repeat(space.start.ravel(), sizes)
        encoded = np.equal(np.repeat(encoded, sizes, axis=1), places)
    return encoded
