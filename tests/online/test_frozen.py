"""Parts that require no gradient stay as they are, and the others are learnt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC
from sab_agents.kernels import forced_kernel
from tests.kernels.extension import needs_native


def frozen(parts: Iterable[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Freezes modules; returns their parameters with their values."""
    parameters = [parameter for part in parts for parameter in part.parameters()]
    return [(parameter.requires_grad_(False), parameter.detach().clone()) for parameter in parameters]


def assert_learnt(whole: Iterable[nn.Parameter], before: list[Tensor], kept: list[tuple[Tensor, Tensor]]) -> None:
    assert all(torch.equal(parameter, value) for parameter, value in kept)
    moved = [not torch.equal(parameter, value) for parameter, value in zip(whole, before, strict=True)]
    assert any(moved) == (len(kept) < len(moved))


@pytest.mark.each
@pytest.mark.parametrize("kernel", [pytest.param("native", marks=needs_native), "torch"])
@pytest.mark.parametrize("core", ["sab", "lstm_tbptt", "rtu", "gru", "mingru"])
@pytest.mark.parametrize("parts", [["core"], ["head"], ["encoder"], ["core", "encoder"], ["core", "head", "encoder"]])
def test_a_learner_trains_what_is_not_frozen(kernel: str, core: str, parts: list[str]) -> None:
    with forced_kernel(kernel):
        encoder = nn.Linear(3, 4)
        learner = OnlineLearner(
            4, 2, core=core, hidden_size=6, update_every=4, encoder=encoder, observation_shape=(3,), learning_rate=0.01
        )
        owners: dict[str, nn.Module] = {"core": learner.core, "head": learner.head, "encoder": encoder}
        whole = [parameter for owner in owners.values() for parameter in owner.parameters()]
        before, kept = [each.detach().clone() for each in whole], frozen(owners[part] for part in parts)
        for x in np.random.default_rng(0).standard_normal((40, 3)):
            learner.learn_one(x, int(x[0] > 0))
        assert learner.diagnose() is not None
        assert_learnt(whole, before, kept)


@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"])
@pytest.mark.parametrize("parts", [["actor_core"], ["actor_core", "critic_core"], ["mlp_extractor"], [""]])
def test_ppo_trains_what_is_not_frozen(policy: str, parts: list[str]) -> None:
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0}
    model = RecurrentPPO(policy, "CartPole-v1", policy_kwargs={"lstm_hidden_size": 8}, **settings)
    whole = list(model.policy.parameters())
    before, kept = [each.detach().clone() for each in whole], frozen(map(model.policy.get_submodule, parts))
    model.learn(64)
    assert_learnt(whole, before, kept)


@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"])
@pytest.mark.parametrize("parts", [["actor_core"], ["critic_core"], ["actor"], [""]])
def test_an_agent_trains_what_is_not_frozen(policy: str, parts: list[str]) -> None:
    agent = StreamAC(policy, "CartPole-v1", seed=0, policy_kwargs={"hidden_size": 8, "width": 8})
    whole = list(agent.policy.parameters())
    before, kept = [each.detach().clone() for each in whole], frozen(map(agent.policy.get_submodule, parts))
    agent.learn(40)
    assert_learnt(whole, before, kept)
