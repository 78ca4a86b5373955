"""skrl's recurrent PPO (`PPO_RNN`) as a peer to be timed, with models as its documentation writes them.

skrl knows no vector environment of stable-baselines3's kind, so its agent is called step by step, as its trainer does.
Actor and critic have an LSTM each. An episode that a time limit cut counts as terminated: skrl's returns would run on
into the next one. skrl 2.1 keeps the policy's state after a step in the place of that before it, so that its policy is
replayed from states that are one step late; that is left as it is.

Dimensions: T steps of a rollout, n environments, F features, H hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from skrl.agents.torch.ppo import PPO_CFG, PPO_RNN
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, Model
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from sab_agents.train.bench.peer_loop import PeerLoop


class _Recurrent(Model):  # type: ignore[misc]
    """Features, an LSTM and a linear layer; the LSTM is called from each end of an episode to the next."""

    def __init__(
        self, env: VecEnv, steps: int, hidden_size: int, extractor: type[BaseFeaturesExtractor], out: int
    ) -> None:
        super().__init__(observation_space=env.observation_space, action_space=env.action_space, device="cpu")
        self._steps, self._rows, self._hidden_size = steps, env.num_envs, hidden_size
        self.extractor = extractor(env.observation_space)
        self.lstm = nn.LSTM(int(self.extractor.features_dim), hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, out)

    def get_specification(self) -> dict[str, Any]:
        size = (1, self._rows, self._hidden_size)
        return {"rnn": {"sequence_length": self._steps, "sizes": [size, size]}}

    def compute(self, inputs: Mapping[str, Any], role: str = "") -> tuple[Tensor, dict[str, Any]]:  # noqa: ARG002
        shape = self.observation_space.shape
        seen = inputs["observations"].view(-1, *shape)
        features = self.extractor(preprocess_obs(seen, self.observation_space))
        state = tuple(inputs["rnn"])
        if not self.training:
            output, state = self.lstm(features.unsqueeze(1), state)
            return self.head(output.flatten(0, 1)), {"rnn": list(state)}
        features = features.view(-1, self._steps, features.shape[-1])
        h, c = (each.reshape(1, -1, self._steps, self._hidden_size)[:, :, 0].contiguous() for each in state)
        done = inputs["terminated"].view(-1, self._steps)
        ends = [*(done[:, :-1].any(dim=0).nonzero().flatten() + 1).tolist(), self._steps]
        outputs = []
        for first, end in zip([0, *ends[:-1]], ends, strict=True):
            output, (h, c) = self.lstm(features[:, first:end], (h, c))
            kept = (~done[:, end - 1]).view(1, -1, 1)
            h, c = h * kept, c * kept
            outputs.append(output)
        return self.head(torch.cat(outputs, dim=1).flatten(0, 1)), {"rnn": [h, c]}


class _Policy(CategoricalMixin, _Recurrent):  # type: ignore[misc]
    def __init__(self, *sizes: Any) -> None:
        _Recurrent.__init__(self, *sizes)
        CategoricalMixin.__init__(self)


class _Value(DeterministicMixin, _Recurrent):  # type: ignore[misc]
    def __init__(self, *sizes: Any) -> None:
        _Recurrent.__init__(self, *sizes)
        DeterministicMixin.__init__(self)


class SkrlLoop(PeerLoop):
    """An agent of skrl's; see `PeerLoop`."""

    def begin(self, hidden_size: int, extractor: type[BaseFeaturesExtractor]) -> None:
        """Makes the networks and begins the first episodes."""
        sizes = (self.env, self.n_steps, hidden_size, extractor)
        settings = self.settings
        space: Any = self.env.action_space
        self.models = {"policy": _Policy(*sizes, int(space.n)), "value": _Value(*sizes, 1)}
        configuration = PPO_CFG(
            rollouts=self.n_steps,
            learning_epochs=settings["n_epochs"],
            mini_batches=max(1, self.n_envs // max(1, settings["batch_size"] // self.n_steps)),
            discount_factor=settings["gamma"],
            gae_lambda=settings["gae_lambda"],
            learning_rate=settings["learning_rate"],
            grad_norm_clip=0.5,
            ratio_clip=0.2,
            value_clip=0.0,
            entropy_loss_scale=settings["ent_coef"],
            value_loss_scale=0.5,
        )
        configuration.experiment.write_interval = configuration.experiment.checkpoint_interval = 0
        self.agent = PPO_RNN(
            models=self.models,
            memory=RandomMemory(memory_size=self.n_steps, num_envs=self.n_envs, device="cpu"),
            observation_space=self.env.observation_space,
            action_space=space,
            device="cpu",
            cfg=configuration,
        )
        self.agent.init()
        self.agent.enable_training_mode(True)
        self.agent.enable_models_training_mode(False)
        self._observations = self._flat(self.env.reset())

    @property
    def parameters(self) -> int:
        """How many parameters it learns."""
        return sum(parameter.numel() for model in self.models.values() for parameter in model.parameters())

    @torch.no_grad()
    def collect(self) -> None:
        """Collects the next rollout."""
        when: dict[str, int] = {"timestep": 0, "timesteps": 0}
        never = torch.zeros(self.n_envs, 1, dtype=torch.bool)
        for _ in range(self.n_steps):
            actions, _ = self.agent.act(self._observations, None, **when)
            found, rewards, dones, infos = self.env.step(actions.squeeze(1).numpy())
            following = self._flat(found)
            self.agent.record_transition(
                observations=self._observations,
                states=None,
                actions=actions,
                rewards=torch.as_tensor(rewards, dtype=torch.float32).unsqueeze(1),
                next_observations=following,
                next_states=None,
                terminated=torch.as_tensor(dones).unsqueeze(1),
                truncated=never,
                infos=infos,
                **when,
            )
            self._observations = following
            self.keep_returns(infos)

    def learn(self, seed: int) -> None:  # noqa: ARG002 - skrl's minibatches are in order
        """Learns from the rollout."""
        self.agent.enable_models_training_mode(True)
        self.agent.update(timestep=0, timesteps=0)
        self.agent.enable_models_training_mode(False)

    def _flat(self, observations: Any) -> Tensor:
        """Observations (n, …) as skrl's memory keeps them, (n, all)."""
        return torch.as_tensor(observations, dtype=torch.float32).view(self.n_envs, -1)
