"""An update whose heads and loss go without a graph is that of a graph, and is made only where nobody could notice."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor, nn

from sab_agents import RecurrentPPO
from sab_agents.ppo.by_hand import HeadsByHand
from sab_agents.ppo.losses import Batch, Weights

USUAL = "MlpSabPolicy"


def agent(policy: str = USUAL, environment: str = "SAB/PassiveTMaze-v0", **settings: Any) -> RecurrentPPO:
    kwargs = {"lstm_hidden_size": 8, "net_arch": [8], **settings.pop("policy_kwargs", {})}
    env = gym.make_vec(environment, num_envs=3)
    sizes = {"n_steps": 24, "batch_size": 24, "n_epochs": 2, **settings}
    return RecurrentPPO(policy, env, policy_kwargs=kwargs, seed=0, device="cpu", **sizes)


def learnt(model: RecurrentPPO) -> list[Tensor]:
    model.learn(3 * 24 * 2)
    return [parameter.detach() for parameter in model.policy.parameters()]


@pytest.mark.parametrize("policy", [USUAL, "MlpLstmPolicy"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ent_coef": 0.1},
        {"clip_range_vf": 0.1, "normalize_advantage": False},
        {"batch_size": 48},
        {"policy_kwargs": {"net_arch": [8, 7], "activation_fn": nn.ReLU}},
        {"policy_kwargs": {"net_arch": []}},
    ],
    ids=str,
)
def test_it_is_that_of_a_graph(policy: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = agent(policy, **settings)
    assert HeadsByHand.of(ours.policy) is not None
    found = learnt(ours)
    monkeypatch.setattr(HeadsByHand, "of", lambda *_: None)
    for got, expected in zip(found, learnt(agent(policy, **settings)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def total_of_graph(policy: Any, actor: Tensor, critic: Tensor, batch: Batch, weights: Weights) -> Tensor:
    """The total of the losses as Schulman et al. 2017 and stable-baselines3 write it, by torch's own operations."""
    scale, extractor = 1 if policy.output_scale is None else policy.output_scale, policy.mlp_extractor
    actor, critic = ((output * scale).flatten(0, 1) for output in (actor, critic))
    found: Any = torch.distributions.Categorical(logits=policy.action_net(extractor.policy_net(actor)))
    values = policy.value_net(extractor.value_net(critic)).squeeze(1)
    ratio = (found.log_prob(batch.actions) - batch.log_prob).exp()
    clipped = ratio.clamp(1 - weights.clip_range, 1 + weights.clip_range)
    surrogate = torch.min(batch.advantages * ratio, batch.advantages * clipped).mean()
    if weights.clip_range_vf is not None:
        limit = weights.clip_range_vf
        values = batch.values + (values - batch.values).clamp(-limit, limit)
    error = nn.functional.mse_loss(values, batch.returns)
    total: Tensor = weights.vf_coef * error - surrogate - weights.ent_coef * found.entropy().mean()
    return total


@pytest.mark.parametrize("policy", [USUAL, "MlpLstmPolicy"])
@pytest.mark.parametrize("weights", [Weights(0.2, None, 0.0, 0.5), Weights(0.1, 0.3, 0.05, 0.7)], ids=str)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_gradients_are_those_of_autograd_in_float64(policy: str, weights: Weights, activation: type) -> None:
    T, b = 7, 5
    networks: Any = agent(policy, policy_kwargs={"net_arch": [8, 7], "activation_fn": activation}).policy.double()
    heads = HeadsByHand.of(networks)
    assert heads is not None
    torch.manual_seed(1)
    for parameter in networks.parameters():
        nn.init.normal_(parameter, std=0.7)
        parameter.grad = torch.zeros_like(parameter)
    D, k = networks.mlp_extractor.policy_net[0].in_features, networks.action_net.out_features
    actor, critic = (torch.randn(T, b, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    values, log_prob, advantages, returns = torch.randn(4, T * b, dtype=torch.float64).unbind()
    batch = Batch(torch.randint(k, (T * b,)), values, log_prob * 0.3 - 1.4, advantages, returns)
    behind = heads.behind_cores(batch, weights)
    of_outputs = behind.actor(actor.detach()), behind.critic(critic.detach())
    used = [*networks.mlp_extractor.parameters(), *networks.action_net.parameters(), *networks.value_net.parameters()]
    total = total_of_graph(networks, actor, critic, batch, weights)
    expected = torch.autograd.grad(total, [actor, critic, *used])
    torch.testing.assert_close(behind.losses().total, total.detach(), rtol=1e-9, atol=1e-9)
    for got, wanted in zip([*of_outputs, *(parameter.grad for parameter in used)], expected, strict=True):
        assert wanted.abs().max() > 1e-4
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_what_is_frozen_stays() -> None:
    model = agent()
    policy: Any = model.policy
    frozen = [policy.action_net.weight, policy.mlp_extractor.value_net[0].bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    before = [parameter.clone() for parameter in frozen]
    learnt(model)
    assert all(map(torch.equal, frozen, before))
    assert HeadsByHand.of(model.policy) is not None


def hooked(policy: Any) -> None:
    policy.action_net.register_forward_hook(lambda *_: None)


def replaced(policy: Any) -> None:
    evaluate = policy.evaluate_rows

    def noted(*arguments: Any) -> Any:
        return evaluate(*arguments)

    policy.evaluate_rows = noted


def watched(policy: Any) -> None:
    policy.value_net.weight.register_post_accumulate_grad_hook(lambda _: None)


@pytest.mark.parametrize("change", [hooked, replaced, watched])
def test_what_somebody_looks_at_goes_by_the_graph(change: Any) -> None:
    model = agent()
    change(model.policy)
    assert HeadsByHand.of(model.policy) is None
    learnt(model)


@pytest.mark.parametrize(
    "model",
    [
        lambda: agent(policy_kwargs={"enable_critic_lstm": False}),
        lambda: agent(policy_kwargs={"enable_critic_lstm": False, "shared_lstm": True}),
        lambda: agent(policy_kwargs={"activation_fn": nn.ELU}),
        lambda: agent(environment="Pendulum-v1"),
    ],
    ids=["no core of the critic's", "one core", "another activation", "continuous actions"],
)
def test_other_policies_go_by_the_graph(model: Any) -> None:
    assert HeadsByHand.of(model().policy) is None
