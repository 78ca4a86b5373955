"""The previous action and reward in the observations of a stable-baselines3 VecEnv.

Dimensions: n copies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sab_agents.envs.wrappers import Layout
from sab_agents.vec_env.usable import check_vec_env


class VecPreviousActionReward(VecEnvWrapper):
    """`PreviousActionReward` for a VecEnv: the observations are those of copies that are wrapped one by one.

    The first observation of an episode has zeros; `info["terminal_observation"]` has the action and reward that ended
    the episode.

    Args:
        venv: whose spaces `PreviousActionReward` supports.

    Raises:
        TypeError: it is not a VecEnv.
        TypeError, ValueError: as in `PreviousActionReward`.
    """

    def __init__(self, venv: VecEnv) -> None:
        check_vec_env("VecPreviousActionReward", venv)
        self._layout = Layout(venv.observation_space, venv.action_space)
        super().__init__(venv, observation_space=self._layout.space)
        self._actions: npt.NDArray[Any] = np.zeros(0)

    def reset(self) -> VecEnvObs:
        """Resets all copies: their previous action and reward are zero."""
        nothing = np.zeros((self.num_envs, self._layout.k), np.float32), np.zeros(self.num_envs, np.float32)
        start: VecEnvObs = self._layout.many(self.venv.reset(), *nothing)
        return start

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Passes the actions on, and stores a copy for `step_wait`."""
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Takes the step, and adds its actions and rewards to the observations."""
        observations, rewards, dones, infos = self.venv.step_wait()
        actions, seen = self._layout.actions(self._actions), np.array(rewards, np.float32)
        infos = list(infos)
        for i in np.flatnonzero(dones).tolist():
            last = self._layout.one(infos[i]["terminal_observation"], actions[i], float(seen[i]))
            infos[i] = {**infos[i], "terminal_observation": last}
        actions[dones], seen[dones] = 0, 0
        return self._layout.many(observations, actions, seen), rewards, dones, infos
