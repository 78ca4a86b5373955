"""The losses of PPO have the gradients of a graph, with every kernel."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from sab_agents.kernels import Layer, categorical_loss, gradients_of_layers, value_loss, values_of_layers
from tests.kernels.extension import needs_native

KERNELS = ["torch", pytest.param("native", marks=needs_native)]
N, K, FIRST = 200, 5, 3


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
def test_the_surrogate_of_categorical_distributions(
    kernel: str, entropy_weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAB_KERNEL", kernel)
    torch.manual_seed(0)
    logits = torch.randn(N, K, requires_grad=True)
    actions, advantages = torch.randint(K, (N,)), torch.randn(N)
    distribution: Any = Categorical(logits=logits)
    log_prob, entropy = distribution.log_prob(actions), distribution.entropy()
    before = log_prob.detach() + 0.3 * torch.randn(N)
    ratio = (log_prob - before).exp()
    surrogate = -torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
    (surrogate - entropy_weight * entropy.mean()).backward()
    settings: Any = {"first": FIRST, "clip_range": 0.2, "entropy_weight": entropy_weight}
    figures, gradient = categorical_loss(logits.detach(), actions + FIRST, before, advantages, **settings)
    kl, clipped = (ratio - 1 - ratio.log()).mean(), ((ratio - 1).abs() > 0.2).float().mean()
    assert 0.1 < clipped < 0.9
    close(figures, torch.stack([surrogate, -entropy.mean(), kl, clipped]).detach())
    assert logits.grad is not None
    close(gradient, logits.grad)


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_impossible_action_has_no_share_of_the_entropy(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", kernel)
    logits, zeros = torch.tensor([[0.0, -inf, 0.0]]), torch.zeros(1)
    settings: Any = {"first": 0, "clip_range": 0.2, "entropy_weight": 1.0}
    figures, gradient = categorical_loss(logits, torch.tensor([2]), zeros, zeros, **settings)
    close(figures[1], -torch.tensor(2.0).log())
    close(gradient, torch.zeros(1, 3))


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_action_out_of_range_is_an_error(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", kernel)
    ones = torch.ones(2)
    settings: Any = {"first": FIRST, "clip_range": 0.2, "entropy_weight": 0.0}
    for action in (FIRST - 1, FIRST + K):
        with pytest.raises((ValueError, RuntimeError)):
            categorical_loss(torch.zeros(2, K), torch.tensor([FIRST, action]), ones, ones, **settings)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("limit", [None, 0.2])
def test_the_error_of_values(kernel: str, limit: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", kernel)
    torch.manual_seed(0)
    values = torch.randn(N, requires_grad=True)
    before, returns = values.detach() + 0.3 * torch.randn(N), torch.randn(N)
    clipped = values if limit is None else before + (values - before).clamp(-limit, limit)
    error = nn.functional.mse_loss(clipped, returns)
    torch.autograd.backward(0.7 * error)
    figure, gradient = value_loss(values.detach(), before, returns, limit=limit, weight=0.7)
    close(figure, error.detach())
    assert values.grad is not None
    close(gradient, values.grad)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("last", [None, "tanh", "relu"])
def test_gradients_of_layers_are_added_to_what_is_there(
    kernel: str, last: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAB_KERNEL", kernel)
    torch.manual_seed(0)
    x, gradient = torch.randn(30, 20, requires_grad=True), torch.randn(30, 7)
    parameters = [torch.randn(*shape, requires_grad=True) for shape in ((9, 20), (9,), (7, 9), (7,))]
    layers = [Layer(parameters[0], parameters[1], "tanh"), Layer(parameters[2], parameters[3], last)]
    y = torch.tanh(x @ parameters[0].t() + parameters[1]) @ parameters[2].t() + parameters[3]
    y = y if last is None else getattr(torch, last)(y)
    expected = torch.autograd.grad(y, [x, *parameters], gradient)
    with torch.no_grad():
        values = values_of_layers(layers, x)
        torch.testing.assert_close(values[-1], y)
        given = gradient.clone()
        new = gradients_of_layers(layers, values, given, [True] * 5)
        into = [torch.ones_like(parameter) for parameter in parameters]
        added = gradients_of_layers(layers, values, given, [False, True, True, False, True], into)
    assert torch.equal(given, gradient)
    for found, sought in zip(new, expected, strict=True):
        torch.testing.assert_close(found, sought)
    assert [each is None for each in added] == [True, False, False, True, False]
    assert torch.equal(into[2], torch.ones_like(into[2]))
    for place in (0, 1, 3):
        torch.testing.assert_close(into[place], 1 + expected[1 + place])
