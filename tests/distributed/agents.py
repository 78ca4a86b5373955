"""Agents whose actions and minibatches do not depend on how their environments are split over ranks, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sab_agents import RecurrentPPO, VectorToVecEnv
from sab_agents.ppo.buffers import RowBuffer
from sab_agents.ppo.kinds import POLICIES

ENVS, STEPS, SEED = 8, 16, 3
Parameters = dict[str, Tensor]


class Doubled(BaseFeaturesExtractor):
    """Observations in float64."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, int(np.prod(space.shape)))

    def forward(self, observations: Tensor) -> Tensor:
        return observations.flatten(1).double()


class DoubleBuffer(RowBuffer):
    """Estimates in float64."""

    def reset(self) -> None:
        super().reset()
        for name in ("rewards", "values", "log_probs", "advantages", "returns"):
            setattr(self, name, getattr(self, name).astype(np.float64))


class ByRow:
    """Lets a policy draw the actions of each environment from a generator of its own."""

    first = 0
    generators: list[np.random.Generator] | None = None

    def distribution_of(self, output: Tensor) -> Distribution:
        distribution: Any = super().distribution_of(output)  # type: ignore[misc]
        distribution.get_actions = lambda deterministic=False: self.drawn(distribution.distribution.probs)  # noqa: ARG005
        found: Distribution = distribution
        return found

    def drawn(self, probabilities: Tensor) -> Tensor:
        if self.generators is None:
            numbers = range(self.first, self.first + len(probabilities))
            self.generators = [np.random.default_rng([SEED, number]) for number in numbers]
        uniform = torch.tensor([generator.random() for generator in self.generators])
        return (probabilities.cumsum(1) < uniform.unsqueeze(1)).sum(1).clamp(max=probabilities.shape[1] - 1)


class AsTwo(RecurrentPPO):
    """One process whose minibatches are those of two ranks side by side."""

    def minibatches(self, rows: int) -> list[Tensor]:
        if not hasattr(self, "generators"):
            self.generators = [np.random.RandomState(SEED), np.random.RandomState(SEED + ENVS)]
        local = np.arange(rows).reshape(-1, 2, ENVS)  # segments, ranks, environments
        orders = [generator.permutation(rows // 2) for generator in self.generators]
        parts = [torch.from_numpy(local[:, rank].ravel()[order]) for rank, order in enumerate(orders)]
        split = [torch.split(part, self.rows_of_minibatch // 2) for part in parts]
        return [torch.cat(pair) for pair in zip(*split, strict=True)]


def agent(kind: str, rank: int | None, settings: Mapping[str, Any], *, normalise: bool = False) -> RecurrentPPO:
    """Returns an agent of one of two ranks, or of one process with the environments of both."""
    copies = 2 * ENVS if rank is None else ENVS
    env: Any = VectorToVecEnv(gym.make_vec("SAB/PassiveTMaze-v0", num_envs=copies, corridor_length=4))
    policy: Any = POLICIES[f"Mlp{kind}Policy"]
    own = type("OwnPolicy", (ByRow, policy), {"first": ENVS * (rank or 0)})
    model = (AsTwo if rank is None else RecurrentPPO)(
        own,
        VecNormalize(env) if normalise else env,
        n_steps=STEPS,
        seed=SEED,
        device="cpu",
        policy_kwargs={"lstm_hidden_size": 8, "features_extractor_class": Doubled, "net_arch": [8]},
        **{"n_epochs": 2, "learning_rate": 3e-3, "ent_coef": 0.01, **settings},
    )
    if rank is None:
        model.rows_of_minibatch *= 2
    model.rollout_buffer = DoubleBuffer(
        STEPS, model.observation_space, model.action_space, "cpu", model.gae_lambda, model.gamma, copies
    )
    return model


def learnt(model: RecurrentPPO, rollouts: int) -> Parameters:
    """Returns the parameters after some rollouts, and how far they have gone."""
    model.learn(2 * ENVS * STEPS * rollouts)
    return {
        **{name: value.detach().clone() for name, value in model.policy.state_dict().items()},
        "steps": torch.tensor([float(model.num_timesteps), float(model._n_updates)]),
    }
