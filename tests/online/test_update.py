"""What StreamAC learns from three steps, against the published algorithm written out parameter by parameter."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sab_agents import StreamAC
from sab_agents.core import Core, State
from sab_agents.online.policies import StreamPolicy
from tests.online.conftest import Clock, Register

GAMMA, DECAY, ENTROPY, KAPPA_POLICY, KAPPA_VALUE = 0.9, 0.7, 0.05, 3.0, 2.0


@dataclass(frozen=True)
class Nothing(State):
    """Of a core without memory: a tensor of no features for each row."""

    empty: Tensor


class Memoryless(Core[Nothing]):
    """Outputs the observation: actor and critic are functions of it alone. Its parameter has no effect."""

    state_class = Nothing

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, input_size)
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def initial_state(self, batch_size: int) -> Nothing:
        return Nothing(torch.zeros(batch_size, 0))

    def _run(self, x: Tensor, state: Nothing, episode_start: Tensor | None) -> tuple[Tensor, Nothing]:  # noqa: ARG002
        return x + 0 * self.unused, state


@pytest.fixture(autouse=True)
def _memoryless(registered: Register) -> None:
    registered("memoryless", Memoryless, policy="Memoryless")


def memoryless_agent(env: Any, **settings: Any) -> StreamAC:
    return StreamAC("MlpMemorylessPolicy", env, **settings)


def normalised(history: list[Any]) -> Tensor:
    """The last observation by the statistics of all."""
    seen = np.array(history, dtype=np.float64)
    variance = seen.var(axis=0, ddof=1) if len(seen) > 1 else np.ones(seen.shape[1])
    return torch.tensor((seen[-1] - seen.mean(axis=0)) / np.sqrt(variance + 1e-8), dtype=torch.float32)[None]


def objective(policy: StreamPolicy, observation: Tensor, action: Any, continuous: bool) -> tuple[Tensor, Tensor]:
    """The logarithm of the action's probability, and the entropy, by torch's own distributions."""
    row = policy.actor(observation)
    if continuous:
        mean, raw = row[0].chunk(2)
        distribution: Any = torch.distributions.Normal(mean, torch.nn.functional.softplus(raw))
    else:
        distribution = torch.distributions.Categorical(logits=row)
    return distribution.log_prob(torch.as_tensor(action)).sum(), distribution.entropy().sum()


def published(
    policy: StreamPolicy, actions: list[Any], learning_rate: float, truncates: bool, continuous: bool
) -> StreamPolicy:
    """Runs the algorithm over `Clock(length=3)`, with the actions that were taken."""
    policy = copy.deepcopy(policy)
    actor, critic = list(policy.actor.parameters()), list(policy.critic.parameters())
    groups = [(actor + critic, KAPPA_POLICY)] if policy.shared_core else [(actor, KAPPA_POLICY), (critic, KAPPA_VALUE)]
    traces = {parameter: torch.zeros_like(parameter) for parameter in actor + critic}
    env = Clock(length=3, truncates=truncates, continuous=continuous)
    history, sums = [env.observation()], [0.0]
    observation = normalised(history)
    for index, action in enumerate(actions):
        bounded = np.clip(action, -1, 1) if continuous else action
        following, reward, terminated, truncated, _ = env.step(bounded)
        done = terminated or truncated
        history.append(following)
        sums.append(reward if done else GAMMA * sums[-1] + reward)
        scaled = reward / math.sqrt((np.var(sums[1:], ddof=1) if index else 1) + 1e-8)
        after = normalised(history)
        value = policy.critic(observation).squeeze()
        bootstrap = 0.0 if terminated else float(policy.critic(after).detach())
        delta = scaled + GAMMA * bootstrap - float(value.detach())
        log_probability, entropy = objective(policy, observation, action, continuous)
        gain = log_probability + ENTROPY * math.copysign(1, delta) * entropy + value
        gradients = torch.autograd.grad(gain, actor + critic)
        for parameter, gradient in zip(actor + critic, gradients, strict=True):
            traces[parameter] = GAMMA * DECAY * traces[parameter] + gradient
        for group, kappa in groups:
            bound = (
                learning_rate
                * kappa
                * max(abs(delta), 1)
                * sum(float(traces[parameter].abs().sum()) for parameter in group)
            )
            for parameter in group:
                parameter.data += min(learning_rate, learning_rate / bound) * delta * traces[parameter]
                traces[parameter] *= not done
        observation = after
        if done:
            history.append(following)  # Clock continues from its state
            observation = normalised(history)
    return policy


@pytest.mark.parametrize("learning_rate", [1.0, 0.01])
@pytest.mark.parametrize("shared_core", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("truncates", [False, True], ids=["terminated", "truncated"])
@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
def test_the_update_is_the_published_one(
    learning_rate: float, shared_core: bool, truncates: bool, continuous: bool
) -> None:
    env = Clock(length=3, truncates=truncates, continuous=continuous)
    settings: dict[str, Any] = {
        "gamma": GAMMA,
        "trace_decay": DECAY,
        "ent_coef": ENTROPY,
        "seed": 3,
        "learning_rate": learning_rate,
    }
    kwargs = {"width": 4, "sparsity": 0.0, "shared_core": shared_core}
    agent = memoryless_agent(env, policy_kwargs=kwargs, **settings)
    before = copy.deepcopy(agent.policy)
    actions = recorded(agent)
    agent.learn(5)
    expected = published(before, actions, learning_rate, truncates, continuous)
    for (name, mine), theirs in zip(agent.policy.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_truncation_and_termination_teach_different_things() -> None:
    learned = []
    for truncates in (False, True):
        env = Clock(length=3, truncates=truncates)
        agent = memoryless_agent(env, learning_rate=1e-3, seed=3)  # so short that δ decides
        learned.append(agent.learn(3).policy.critic.second.weight.clone())
    assert not torch.equal(*learned)


def recorded(agent: StreamAC) -> list[Any]:
    """The actions that the agent will draw, before any bounds."""
    actions: list[Any] = []
    decide = agent.policy.decide

    def decide_and_record(*arguments: Any) -> Any:
        decision = decide(*arguments)
        actions.append(decision.action)
        return decision

    agent.policy.decide = decide_and_record  # type: ignore[method-assign,assignment]
    return actions
