"""Recurrent PPO as one plain loop, in the way of CleanRL's published `ppo_atari_lstm`: a peer to be timed.

CleanRL is a collection of scripts and no package. This is a loop of our own with the same design: one LSTM for actor
and critic, which is called for one step at a time while it learns, too, and whose state is emptied where an episode
ends; minibatches are whole rollouts of some environments; values are clipped like the policy; what is cut by a time
limit is not bootstrapped.

Dimensions: T steps of a rollout, n environments, m of a minibatch, F features, H hidden size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn
from torch.distributions import Categorical

from sab_agents.train.bench.peer_loop import PeerLoop

State = tuple[Tensor, Tensor]


class Network(nn.Module):
    """Features, an LSTM, and a linear layer each for the actions' logits and for the value.

    Args:
        env: whose spaces it is for.
        extractor: of features.
        hidden_size: H.
    """

    def __init__(self, env: VecEnv, extractor: type[BaseFeaturesExtractor], hidden_size: int) -> None:
        super().__init__()
        space: Any = env.action_space
        self.observation_space = env.observation_space
        self.extractor = extractor(self.observation_space)
        self.lstm = nn.LSTM(int(self.extractor.features_dim), hidden_size)
        for name, parameter in self.lstm.named_parameters():
            if "bias" in name:
                nn.init.constant_(parameter, 0)
            else:
                nn.init.orthogonal_(parameter, 1.0)
        self.actor, self.critic = nn.Linear(hidden_size, int(space.n)), nn.Linear(hidden_size, 1)
        for head, gain in ((self.actor, 0.01), (self.critic, 1.0)):
            nn.init.orthogonal_(head.weight, gain)
            nn.init.constant_(head.bias, 0)

    def forward(self, observations: Tensor, start: Tensor, state: State) -> tuple[Categorical, Tensor, State]:
        """Returns distributions and values (T · n,) of observations (T · n, …), and the state after them.

        Args:
            observations: step by step.
            start: (T, n) 1 where an episode begins, and else 0.
            state: h and c (1, n, H) before the first step.
        """
        features = self.extractor(preprocess_obs(observations, self.observation_space))
        outputs = []
        for x, starts in zip(features.view(*start.shape, -1), start, strict=True):
            kept = (1 - starts).view(1, -1, 1)
            output, state = self.lstm(x.unsqueeze(0), (kept * state[0], kept * state[1]))
            outputs.append(output)
        hidden = torch.cat(outputs).flatten(0, 1)
        return Categorical(logits=self.actor(hidden)), self.critic(hidden).squeeze(1), state


class CleanLoop(PeerLoop):
    """An agent of CleanRL's way; see `PeerLoop`."""

    def begin(self, hidden_size: int, extractor: type[BaseFeaturesExtractor]) -> None:
        """Makes the networks and begins the first episodes."""
        self.network = Network(self.env, extractor, hidden_size)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.settings["learning_rate"], eps=1e-5)
        self._observations: Any = self.env.reset()
        self._start = torch.ones(self.n_envs)
        zeros = torch.zeros(1, self.n_envs, hidden_size)
        self._state: State = (zeros, zeros.clone())

    @property
    def parameters(self) -> int:
        """How many parameters it learns."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @torch.no_grad()
    def collect(self) -> None:
        """Collects the next rollout."""
        gamma, smoothing = self.settings["gamma"], self.settings["gae_lambda"]
        self._first_state = self._state
        steps: list[list[Tensor]] = []
        for _ in range(self.n_steps):
            observations = torch.as_tensor(self._observations)
            distribution, values, self._state = self.network(observations, self._start.unsqueeze(0), self._state)
            actions = distribution.sample()
            self._observations, rewards, dones, infos = self.env.step(actions.numpy())
            steps.append(
                [observations, self._start, actions, distribution.log_prob(actions), values, torch.as_tensor(rewards)]
            )
            self._start = torch.as_tensor(dones, dtype=torch.float32)
            self.keep_returns(infos)
        stacked = [torch.stack(each) for each in zip(*steps, strict=True)]
        self._seen, self._starts, self._actions, self._log_probs, self._values, earned = stacked
        observations = torch.as_tensor(self._observations)
        following = self.network(observations, self._start.unsqueeze(0), self._state)[1]
        continues, advantage = 1 - self._start, torch.zeros(self.n_envs)
        self._advantages = torch.zeros(self.n_steps, self.n_envs)
        for t in reversed(range(self.n_steps)):
            delta = earned[t] + gamma * following * continues - self._values[t]
            advantage = delta + gamma * smoothing * continues * advantage
            self._advantages[t] = advantage
            following, continues = self._values[t], 1 - self._starts[t]

    def learn(self, seed: int) -> None:
        """Learns from the rollout; the seed is of the minibatches."""
        generator = np.random.default_rng(seed)
        size = max(1, self.settings["batch_size"] // self.n_steps)
        for _ in range(self.settings["n_epochs"]):
            order = torch.from_numpy(generator.permutation(self.n_envs))
            for rows in torch.split(order, size):
                self._descend(rows)

    def _descend(self, rows: Tensor) -> None:
        """Takes a step of the optimiser for rollouts of some environments (m,)."""
        settings, clip = self.settings, 0.2
        seen, actions, log_probs, values, advantages = (
            each[:, rows].flatten(0, 1)
            for each in (self._seen, self._actions, self._log_probs, self._values, self._advantages)
        )
        state = (self._first_state[0][:, rows], self._first_state[1][:, rows])
        distribution, predicted, _ = self.network(seen, self._starts[:, rows], state)
        returns = advantages + values
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = (distribution.log_prob(actions) - log_probs).exp()
        surrogate = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)).mean()
        clipped = values + (predicted - values).clamp(-clip, clip)
        error = 0.5 * torch.max((predicted - returns) ** 2, (clipped - returns) ** 2).mean()
        loss = surrogate - settings["ent_coef"] * distribution.entropy().mean() + 0.5 * error
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self.optimizer.step()
