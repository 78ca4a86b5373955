"""The agents that `sab-agents bench agents` times: stable-baselines3-contrib's, the same repaired, and ours."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sab_agents import RecurrentPPO
from sab_agents.train.errors import UserError
from sab_agents.vec_env.make import make_vec_env

STOCK, REPAIRED, LSTM, SAB = "sb3-contrib", "sb3-contrib, repaired", "MlpLstmPolicy", "MlpSabPolicy"
SIDES = (STOCK, REPAIRED, LSTM, SAB)
"""Every side, in the order in which they take turns."""


@dataclass(frozen=True)
class Sizes:
    """The work of every side.

    Attributes:
        corridor_length: of `SAB/PassiveTMaze-v0`, whose episodes are one step longer.
        envs: environments.
        n_steps: of a rollout in each environment.
        batch_size: steps of a minibatch.
        n_epochs: passes over a rollout.
        hidden_size: of the actor's and the critic's LSTM.
    """

    corridor_length: int
    envs: int = 8
    n_steps: int = 128
    batch_size: int = 128
    n_epochs: int = 10
    hidden_size: int = 256

    @property
    def rollouts(self) -> int:
        """How many rollouts see a whole episode, about, so that starts of episodes are neither rare nor frequent."""
        return max(1, round((self.corridor_length + 1) / self.n_steps))

    def env(self) -> VecEnv:
        """Returns the environments."""
        return make_vec_env("SAB/PassiveTMaze-v0", self.envs, {"corridor_length": self.corridor_length})


class Agent:
    """An agent whose rollouts and updates can be run one by one.

    Args:
        model: of stable-baselines3's kind.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        _, self._callback = model._setup_learn(1, None)
        self._callback.on_training_start(locals(), globals())
        self._weights = deepcopy(model.policy.state_dict())

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(parameter.numel() for parameter in self.model.policy.parameters())

    def collect(self) -> None:
        """Collects the next rollout."""
        model = self.model
        assert model.collect_rollouts(model.env, self._callback, model.rollout_buffer, model.n_steps)

    def learn(self, seed: int) -> None:
        """Learns from the rollout; the seed is of the minibatches."""
        np.random.seed(seed)
        self.model.train()

    def put_back(self) -> None:
        """Takes back the weights of the start, so that the next round has the same work."""
        self.model.policy.load_state_dict(self._weights)


def contrib() -> Any:
    """The package `sb3_contrib`.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module("sb3_contrib")
    except ImportError as error:
        raise UserError(
            "bench agents: compares with sb3-contrib, which is not installed. Run: pip install 'sab-agents[peers]'."
        ) from error


def build(side: str, sizes: Sizes, seed: int = 0) -> Agent:
    """One of `SIDES`.

    Raises:
        UserError: it is sb3-contrib's, which is not installed.
    """
    network: dict[str, Any] = {"lstm_hidden_size": sizes.hidden_size}
    maker: Any = RecurrentPPO
    policy: Any = side
    if side in {STOCK, REPAIRED}:
        maker = contrib().RecurrentPPO
        stock = maker.policy_aliases["MlpLstmPolicy"]
        policy = stock if side == STOCK else repaired(stock)
    elif side == SAB:
        network["core_kwargs"] = {"attention_size": 32, "top_k": 4, "capacity": 64}
    settings = {"n_steps": sizes.n_steps, "batch_size": sizes.batch_size, "n_epochs": sizes.n_epochs}
    return Agent(maker(policy, sizes.env(), policy_kwargs=network, seed=seed, device="cpu", **settings))


def repaired(policy: type[Any]) -> type[Any]:
    """sb3-contrib's policy with one call of `nn.LSTM` for each minibatch, whatever starts in it.

    Its minibatches are cut at episode starts into sequences, so that a start is always a sequence's first step; yet the
    stock policy goes step by step where there is any. While it acts, a sequence is a single step.
    """
    return type(f"Repaired{policy.__name__}", (policy,), {"_process_sequence": staticmethod(_in_one_call)})


def _in_one_call(features: Any, states: Any, starts: Any, lstm: Any) -> tuple[Any, Any]:
    sequences = states[0].shape[1]
    goes_on = (1 - starts.view(sequences, -1)[:, 0]).view(1, -1, 1)
    x = features.view(sequences, -1, lstm.input_size).transpose(0, 1)
    output, after = lstm(x, tuple(goes_on * state for state in states))
    return output.transpose(0, 1).flatten(0, 1), after
