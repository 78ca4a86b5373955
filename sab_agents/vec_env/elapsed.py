"""The elapsed fraction of an episode in the observations of a stable-baselines3 VecEnv."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sab_agents.vec_env.usable import check_vec_env


class VecElapsedTime(VecEnvWrapper):
    """Adds to each observation the elapsed fraction of the horizon: 0 in an episode's first, 1 when time runs out.

    If an episode's end depends on the time, a critic that cannot observe the time is surprised by each end, and passes
    its surprise back to all earlier actions (Pardo et al. 2018, "Time Limits in Reinforcement Learning"). This is
    Gymnasium's `TimeAwareObservation` with a normalised time, for all copies at once.

    Args:
        venv: with observations in one flat Box.
        horizon: steps of the longest episode.

    Raises:
        TypeError: the environment or its observations are of another kind.
    """

    def __init__(self, venv: VecEnv, horizon: int) -> None:
        check_vec_env("VecElapsedTime", venv)
        space = venv.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise TypeError(
                f"VecElapsedTime: observations must be one flat Box, but are of {space}. Flatten them first."
            )
        self._dtype = np.result_type(space.dtype, np.float32).type
        low, high = (np.append(bound, end).astype(self._dtype) for bound, end in ((space.low, 0), (space.high, 1)))
        super().__init__(venv, observation_space=spaces.Box(low, high, dtype=self._dtype))
        self.horizon = horizon
        self._steps = np.zeros(self.num_envs, np.int64)

    def reset(self) -> VecEnvObs:
        """Resets all copies: no time has elapsed."""
        self._steps[:] = 0
        return self._with_fraction(self.venv.reset(), self._steps)

    def step_wait(self) -> VecEnvStepReturn:
        """Takes the step; `info["terminal_observation"]` has its fraction, too."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._steps += 1
        infos = list(infos)
        for i in np.flatnonzero(dones).tolist():
            last = self._with_fraction(infos[i]["terminal_observation"][None], self._steps[i : i + 1])[0]
            infos[i] = {**infos[i], "terminal_observation": last}
        self._steps[dones] = 0
        return self._with_fraction(observations, self._steps), rewards, dones, infos

    def _with_fraction(self, observations: Any, steps: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        return np.concatenate([observations, (steps / self.horizon)[:, None]], axis=1, dtype=self._dtype)
