"""Wrappers: the previous action and reward as part of the observation, and a mark on steps that only reset.

Dimensions: n copies, k numbers of a coded action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

if TYPE_CHECKING:
    Wrapper = gym.Wrapper[Any, Any, Any, Any]
    BatchWrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:  # older releases of Gymnasium take no type arguments at run time
    Wrapper, BatchWrapper = gym.Wrapper, VectorWrapper

ACTION_KEY, REWARD_KEY = "previous_action", "previous_reward"


class PreviousActionReward(Wrapper, RecordConstructorArgs):
    """Adds to each observation the action that led to it and the reward that came with it; zeros after a reset.

    A Dict observation gets two more keys, `previous_action` (k,) and `previous_reward` (1,), both float32. Any other is
    flattened, and observation, action and reward are one Box in this order. Discrete and MultiDiscrete become one-hot,
    MultiBinary and Box are flattened as they are.

    Args:
        env: with an observation space of the kinds above and an action space of the kinds above but Dict.

    Raises:
        TypeError: a space is of another kind.
        ValueError: a Dict observation has one of the two keys already.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._layout = Layout(env.observation_space, env.action_space)
        self.observation_space = self._layout.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode: previous action and reward are zero."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._layout.one(observation, np.zeros(self._layout.k, np.float32), 0.0), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes a step; the observation has this action and this reward in it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        coded = self._layout.actions(np.asarray(action)[None])[0]
        return self._layout.one(observation, coded, float(reward)), reward, terminated, truncated, info


class VectorPreviousActionReward(BatchWrapper):
    """`PreviousActionReward` for a vector environment: the same observations as with each copy wrapped by itself.

    Under each autoreset mode, the first observation of an episode has zeros, and the last one the action and reward
    that ended it: in the observation under next-step reset and without reset, in `info["final_obs"]` under same-step.

    Args:
        env: its metadata must name its `autoreset_mode`.

    Raises:
        TypeError, ValueError: as in `PreviousActionReward`, or the autoreset mode is not named.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._layout = Layout(env.single_observation_space, env.single_action_space)
        self.single_observation_space = self._layout.space
        self.observation_space = batch_space(self._layout.space, env.num_envs)
        self._mode = autoreset_mode(env)
        self._ended = np.zeros(env.num_envs, np.bool_)
        self._actions = np.zeros((env.num_envs, self._layout.k), np.float32)
        self._rewards = np.zeros(env.num_envs, np.float32)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets all copies, or those of `options["reset_mask"]`: their previous action and reward are zero."""
        chosen = reset_mask(options, self.num_envs)
        observations, infos = self.env.reset(seed=seed, options=options)
        self._begin(chosen)
        self._ended[chosen] = False
        return self._layout.many(observations, self._actions, self._rewards), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes a step in all copies; the observations have these actions and rewards in them."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        self._actions = self._layout.actions(np.asarray(actions))
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
    """Adds `info["valid"]` to every step: whether each copy really took the step, (n,) bool.

    Under next-step reset, the step after a copy's last one only resets it: its action is ignored, its reward is 0, and
    its observation is the first of a new episode. `valid` is False for exactly these, so that what was sampled for
    them can be left out of losses and statistics. Under the other modes every step is valid. `reset` adds nothing.

    Args:
        env: its metadata must name its `autoreset_mode`.

    Raises:
        ValueError: the autoreset mode is not named.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._next_step = autoreset_mode(env) == AutoresetMode.NEXT_STEP
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets all copies, or those of `options["reset_mask"]`: their next step is valid."""
        chosen = reset_mask(options, self.num_envs)
        result = self.env.reset(seed=seed, options=options)
        self._ended[chosen] = False
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes a step in all copies and marks those that only reset."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        infos = {**infos, "valid": ~self._ended, "_valid": np.ones(self.num_envs, np.bool_)}
        if self._next_step:
            self._ended = np.logical_or(terminations, truncations)
        return observations, rewards, terminations, truncations, infos


def autoreset_mode(env: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    """The autoreset mode that a vector environment names in its metadata.

    Raises:
        ValueError: it names none.
    """
    mode = env.metadata.get("autoreset_mode")
    if not isinstance(mode, AutoresetMode):
        raise ValueError(
            f"{env}: metadata['autoreset_mode'] must be a gymnasium.vector.AutoresetMode, but is {mode!r}. "
            "Set it to the mode that the environment keeps to."
        )
    return mode


def reset_mask(options: dict[str, Any] | None, n: int) -> Bools:
    """The copies that a reset with these options starts anew, (n,): all, unless options name a `reset_mask`."""
    if options is None or "reset_mask" not in options:
        return np.ones(n, np.bool_)
    return np.array(options["reset_mask"], np.bool_)


class Layout:
    """How observation, action and reward become one observation.

    Attributes:
        space: of one joined observation.
        k: numbers of a coded action.
    """

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        self._observation, self._action = observation_space, action_space
        low, high = _bounds(action_space, "action")
        self.k = len(low)
        action = spaces.Box(np.minimum(low, 0), np.maximum(high, 0), dtype=np.float32)
        reward = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.space: spaces.Space[Any]
        if isinstance(observation_space, spaces.Dict):
            if taken := {ACTION_KEY, REWARD_KEY} & set(observation_space.spaces):
                raise ValueError(
                    f"PreviousActionReward: a Dict observation must not have the keys {ACTION_KEY} and {REWARD_KEY} "
                    f"already, but has {', '.join(sorted(taken))}. Wrap the environment once."
                )
            self.space = spaces.Dict({**observation_space.spaces, ACTION_KEY: action, REWARD_KEY: reward})
        else:
            low, high = _bounds(observation_space, "observation")
            dtype = np.result_type(low.dtype, np.float32).type
            lowest = np.concatenate([low, action.low, reward.low], dtype=dtype)
            highest = np.concatenate([high, action.high, reward.high], dtype=dtype)
            self.space = spaces.Box(lowest, highest, dtype=dtype)

    def actions(self, actions: Array) -> npt.NDArray[np.float32]:
        """Codes the actions of n copies, (n, k)."""
        return _coded(self._action, actions).astype(np.float32)

    def many(self, observations: Any, actions: Array, rewards: Array) -> Any:
        """Joins the observations of n copies with coded actions (n, k) and rewards (n,)."""
        if isinstance(self.space, spaces.Dict):
            return {**observations, ACTION_KEY: actions.copy(), REWARD_KEY: rewards[:, None].astype(np.float32)}
        coded = _coded(self._observation, np.asarray(observations))
        return np.concatenate([coded, actions, rewards[:, None]], axis=1, dtype=self.space.dtype)

    def one(self, observation: Any, action: Array, reward: float) -> Any:
        """Joins one observation with a coded action (k,) and a reward."""
        rewards = np.array([reward], np.float32)
        if isinstance(self.space, spaces.Dict):
            return {**observation, ACTION_KEY: action.copy(), REWARD_KEY: rewards}
        return self.many(np.asarray(observation)[None], action[None], rewards)[0]


def _bounds(space: spaces.Space[Any], what: str) -> tuple[Array, Array]:
    """The lowest and the highest values of a coded element of the space."""
    if isinstance(space, spaces.Box):
        return space.low.ravel(), space.high.ravel()
    if isinstance(space, spaces.Discrete):
        width = int(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        width = int(space.nvec.sum())
    elif isinstance(space, spaces.MultiBinary):
        width = int(np.prod(space.shape))
    else:
        kinds = "Discrete, MultiDiscrete, MultiBinary or Box" + (", or Dict" if what == "observation" else "")
        raise TypeError(f"PreviousActionReward: the {what} space must be {kinds}, but is {space}. Flatten it first.")
    return np.zeros(width, np.float32), np.ones(width, np.float32)


def _coded(space: spaces.Space[Any], values: Array) -> Array:
    """Codes n elements of the space as rows of numbers."""
    coded: Array = values.reshape(len(values), -1)
    if isinstance(space, spaces.Discrete):
        coded = np.equal(coded, np.arange(space.start, space.start + space.n))
    elif isinstance(space, spaces.MultiDiscrete):
        sizes = space.nvec.ravel()
        places = np.concatenate([np.arange(size) for size in sizes]) + np.repeat(space.start.ravel(), sizes)
        coded = np.equal(np.repeat(coded, sizes, axis=1), places)
    return coded
