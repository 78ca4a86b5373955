"""What a peer's agent has in common with others: it is seeded, wraps its environment and keeps the latest returns.

Dimensions: T steps of a rollout, n environments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv

RECENT = 100  # returns that are kept


class PeerLoop(ABC):
    """An agent whose rollouts and updates can be run one by one.

    Args:
        env: with a discrete action space.
        settings: of PPO by stable-baselines3's names.
        hidden_size: of each core.
        extractor: of features.
        seed: of everything.

    Attributes:
        returns: of the recent episodes.
    """

    def __init__(
        self,
        env: VecEnv,
        settings: Mapping[str, Any],
        hidden_size: int,
        extractor: type[BaseFeaturesExtractor] = FlattenExtractor,
        seed: int = 0,
    ) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)
        env.seed(seed)
        self.env = BaseAlgorithm._wrap_env(env, verbose=0)
        self.settings = settings
        self.n_envs, self.n_steps = env.num_envs, int(settings["n_steps"])
        self.returns: deque[float] = deque(maxlen=RECENT)
        self.begin(hidden_size, extractor)

    @abstractmethod
    def begin(self, hidden_size: int, extractor: type[BaseFeaturesExtractor]) -> None:
        """Makes the networks and begins the first episodes."""

    def keep_returns(self, infos: Iterable[Mapping[str, Any]]) -> None:
        """Keeps the returns of the episodes that ended."""
        self.returns.extend(info["episode"]["r"] for info in infos if "episode" in info)

    @property
    def steps_of_a_rollout(self) -> int:
        """T · n."""
        return self.n_steps * self.n_envs
