"""Small environments and agents for the tests of RecurrentPPO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sab_agents import RecurrentPPO, SABState
from sab_agents.core import CORES
from sab_agents.streaming import SABStream

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-1, 1, (3,), np.float32),
    "matrix": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    "discrete": spaces.Discrete(4),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
    "dict": spaces.Dict({"near": spaces.Box(-1, 1, (2,)), "far": spaces.Discrete(3)}),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1, 2, (2,), np.float32),
}
KINDS = [spec.policy for spec in CORES.values() if spec.policy]
"""The part of a policy's name that stands for its core, for every registered core that has policies."""
PREFIX = {"image": "Cnn", "dict": "MultiInput"}
SMALL: dict[str, Any] = {"lstm_hidden_size": 8, "net_arch": [8]}


class Noise(gym.Env[Any, Any]):
    """Random observations; ends after `length` steps, truncated in every `cut`-th episode and else terminated.

    The reward is the number of the step times the sum of the action.
    """

    def __init__(self, observation: str = "box", action: str = "discrete", length: int = 5, cut: int = 2) -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observation], ACTIONS[action]
        self.length, self.cut = length, cut
        self.taken = self.episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.taken, self.episode = 0, self.episode + 1
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.taken += 1
        ended, cuts = self.taken == self.length, self.episode % self.cut == 0
        return self._observation(), self.taken * float(np.sum(action)), ended and not cuts, ended and cuts, {}

    def _observation(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(1 << 30)))
        return self.observation_space.sample()


def agent(
    kind: str = "Sab",
    observation: str = "box",
    action: str = "discrete",
    lengths: Sequence[int] = (5, 6, 7),
    **settings: Any,
) -> RecurrentPPO:
    """An agent in copies of `Noise` whose episodes last `lengths` steps."""
    makers: list[Callable[[], gym.Env[Any, Any]]] = [partial(Noise, observation, action, each) for each in lengths]
    kwargs = {**SMALL, **settings.pop("policy_kwargs", {})}
    if observation == "image":
        kwargs["features_extractor_kwargs"] = {"features_dim": 8}
    policy = f"{PREFIX.get(observation, 'Mlp')}{kind}Policy"
    defaults = {"n_steps": 8, "batch_size": 8, "n_epochs": 2, "seed": 0, "device": "cpu"}
    return RecurrentPPO(policy, DummyVecEnv(makers), policy_kwargs=kwargs, **{**defaults, **settings})


def collect(model: RecurrentPPO, rollouts: int = 1) -> None:
    """Collects rollouts without learning from them; the last one stays in the buffer."""
    _, callback = model._setup_learn(1, None, reset_num_timesteps=model._last_obs is None)
    callback.on_training_start(locals(), globals())
    for _ in range(rollouts):
        assert model.env is not None
        assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


def memory_of(model: RecurrentPPO) -> SABState:
    """Returns what the actor of a SAB policy remembers of its environments."""
    stream = model.policy.actor_stream
    assert isinstance(stream, SABStream)
    return stream.state
