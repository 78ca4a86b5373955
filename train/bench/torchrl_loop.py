"""TorchRL's recurrent PPO as a peer to be timed, put together of its parts as in its tutorial of recurrent policies.

`LSTMModule`, `ProbabilisticActor`, its advantages and `ClipPPOLoss`. TorchRL's collectors know no vector environment of
stable-baselines3's kind, so that its modules are called step by step. Actor and critic have an LSTM each. An episode
that a time limit cut counts as terminated.

Dimensions: T steps of a rollout, n environments, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torch import Tensor, nn
from torch.distributions import Categorical
from torchrl.modules import LSTMModule, ProbabilisticActor, set_recurrent_mode
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value.functional import vec_generalized_advantage_estimate

from sab_agents.train.bench.peer_loop import PeerLoop

ROLES = ("actor", "critic")
SAMPLED = ("observation", "is_init", "action", "action_log_prob", "state_value")
"""What a step of a rollout keeps, beside the states that it began with."""


class _Features(nn.Module):
    """An extractor of stable-baselines3's, over any leading dimensions."""

    def __init__(self, env: VecEnv, extractor: type[BaseFeaturesExtractor]) -> None:
        super().__init__()
        self._space = env.observation_space
        self.extractor = extractor(self._space)

    def forward(self, observation: Tensor) -> Tensor:
        leading = observation.dim() - len(self._space.shape or ())
        flat = preprocess_obs(observation.flatten(0, leading - 1), self._space)
        features: Tensor = self.extractor(flat)
        return features.reshape(*observation.shape[:leading], -1)


def _network(
    role: str, env: VecEnv, extractor: type[BaseFeaturesExtractor], hidden_size: int, out: int, name: str
) -> TensorDictSequential:
    """Features, an LSTM and a linear layer."""
    features = _Features(env, extractor)
    states = [f"{role}_h", f"{role}_c"]
    lstm = LSTMModule(
        input_size=int(features.extractor.features_dim),
        hidden_size=hidden_size,
        in_keys=[f"{role}_features", *states],
        out_keys=[f"{role}_output", *(("next", state) for state in states)],
    )
    return TensorDictSequential(
        TensorDictModule(features, ["observation"], [f"{role}_features"]),
        lstm,
        TensorDictModule(nn.Linear(hidden_size, out), [f"{role}_output"], [name]),
    )


class TorchRLLoop(PeerLoop):
    """An agent of TorchRL's parts; see `PeerLoop`."""

    def begin(self, hidden_size: int, extractor: type[BaseFeaturesExtractor]) -> None:
        """Makes the networks and begins the first episodes."""
        settings = self.settings
        actions = int(self.env.action_space.n)  # type: ignore[attr-defined]
        self.actor = ProbabilisticActor(
            _network("actor", self.env, extractor, hidden_size, actions, "logits"),
            in_keys=["logits"],
            distribution_class=Categorical,
            return_log_prob=True,
            default_interaction_type="random",
        )
        self.critic = _network("critic", self.env, extractor, hidden_size, 1, "state_value")
        self.loss = ClipPPOLoss(
            self.actor,
            self.critic,
            clip_epsilon=0.2,
            entropy_coeff=settings["ent_coef"],
            critic_coeff=0.5,
            loss_critic_type="l2",
            normalize_advantage=True,
        )
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=settings["learning_rate"], eps=1e-5)
        self._states = [f"{role}_{part}" for role in ROLES for part in ("h", "c")]
        zeros = {state: torch.zeros(self.n_envs, 1, hidden_size) for state in self._states}
        self._now = TensorDict(zeros, [self.n_envs])
        self._now["observation"] = torch.as_tensor(self.env.reset())
        self._now["is_init"] = torch.ones(self.n_envs, 1, dtype=torch.bool)

    @property
    def parameters(self) -> int:
        """How many parameters it learns."""
        return sum(parameter.numel() for parameter in self.loss.parameters())

    @torch.no_grad()
    def collect(self) -> None:
        """Collects the next rollout."""
        steps, rewards, ends = [], [], []
        for _ in range(self.n_steps):
            now = self.critic(self.actor(self._now))
            found, reward, done, infos = self.env.step(now["action"].numpy())
            steps.append(now.select(*SAMPLED, *self._states))
            rewards.append(torch.as_tensor(reward, dtype=torch.float32))
            ends.append(torch.as_tensor(done))
            self._now = now["next"].select(*self._states)
            for state in self._states:  # as TorchRL's primer of an environment does
                self._now[state][done] = 0
            self._now["observation"] = torch.as_tensor(found)
            self._now["is_init"] = ends[-1].unsqueeze(1)
            self.keep_returns(infos)
        rollout: Any = torch.stack(steps, dim=1)  # (n, T)
        received, ended = (torch.stack(each, dim=1).unsqueeze(2) for each in (rewards, ends))
        value = rollout["state_value"]
        following = torch.cat([value[:, 1:], self.critic(self._now.copy())["state_value"].unsqueeze(1)], dim=1)
        rollout["advantage"], rollout["value_target"] = vec_generalized_advantage_estimate(
            self.settings["gamma"], self.settings["gae_lambda"], value, following, received, ended, ended
        )
        self.rollout = rollout

    def learn(self, seed: int) -> None:
        """Learns from the rollout, in minibatches of whole rows."""
        order = torch.Generator().manual_seed(seed)
        rows = max(1, self.settings["batch_size"] // self.n_steps)
        for _ in range(self.settings["n_epochs"]):
            for chosen in torch.randperm(self.n_envs, generator=order).split(rows):  # type: ignore[no-untyped-call]
                with set_recurrent_mode(True):
                    losses = self.loss(self.rollout[chosen])
                self.optimizer.zero_grad()
                (losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]).backward()
                torch.nn.utils.clip_grad_norm_(self.loss.parameters(), 0.5)
                self.optimizer.step()
