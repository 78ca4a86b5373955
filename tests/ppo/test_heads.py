"""The networks behind the cores and the loss: values and gradients are those that torch's own graph gives."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional

from sab_agents.kernels import forced_kernel
from sab_agents.kernels.native_backend.extension import native
from sab_agents.ppo import heads
from sab_agents.ppo.distributions import CategoricalFrom
from sab_agents.ppo.heads import layers_of, through
from sab_agents.ppo.losses import Batch, Weights, normalised, ppo_losses

KERNELS = [
    "torch",
    pytest.param("native", marks=pytest.mark.skipif(native is None, reason="the native kernel was not built")),
]


def network(activation: type[nn.Module], sizes: tuple[int, ...] = (5, 7, 3, 2)) -> list[nn.Module]:
    torch.manual_seed(0)
    *hidden, last = (nn.Linear(width, following) for width, following in pairwise(sizes))
    return [nn.Sequential(*(module for linear in hidden for module in (linear, activation()))), last]


def learnt(modules: list[nn.Module], x: Tensor, compute: Any) -> list[Tensor]:
    """The outputs, and the gradients of x and of all parameters from a random loss."""
    x = x.clone().requires_grad_()
    parameters = [parameter for module in modules for parameter in module.parameters()]
    y = compute(modules, x)
    torch.manual_seed(1)
    return [y.detach(), *torch.autograd.grad((y * torch.randn_like(y)).sum(), [x, *parameters])]


def one_by_one(modules: list[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("rows", [1, 9, 130])
def test_layers_together_are_layers_one_by_one(kernel: str, activation: type[nn.Module], rows: int) -> None:
    modules, x = network(activation, (37, 64, 33, 1)), torch.randn(rows, 37)
    assert layers_of(modules) is not None
    with forced_kernel(kernel):
        found = learnt(modules, x, through)
    for got, expected in zip(found, learnt(modules, x, one_by_one), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_in_float64_they_are_the_same() -> None:
    modules = [module.double() for module in network(nn.Tanh)]
    x = torch.randn(4, 5, dtype=torch.float64)
    for got, expected in zip(learnt(modules, x, through), learnt(modules, x, one_by_one), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_frozen_gets_no_gradient(kernel: str) -> None:
    modules = network(nn.Tanh)
    first: Any = modules[0]
    first[0].requires_grad_(False)
    with forced_kernel(kernel):
        through(modules, torch.randn(4, 5)).sum().backward()  # type: ignore[no-untyped-call]
    assert first[0].weight.grad is None
    assert first[2].weight.grad is not None


@pytest.mark.parametrize(
    "modules",
    [
        [nn.Linear(5, 2, bias=False)],
        [nn.Linear(5, 2), nn.Dropout()],
        [nn.Tanh(), nn.Linear(5, 2)],
        [nn.Linear(5, 2), nn.Tanh(), nn.Tanh()],
        [nn.Sequential()],
    ],
    ids=str,
)
def test_other_modules_are_called(modules: list[nn.Module]) -> None:
    assert layers_of(modules) is None
    x = torch.randn(3, 5)
    torch.manual_seed(0)
    got = through(modules, x)
    torch.manual_seed(0)
    assert torch.equal(got, one_by_one(modules, x))


def test_hooks_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads._Through, "apply", lambda *_: pytest.fail("passed over a hook"))
    modules, called = network(nn.Tanh), []
    modules[1].register_forward_hook(lambda *_: called.append(True))
    through(modules, torch.randn(3, 5))
    assert called


@pytest.mark.parametrize("start", [0, 3])
def test_a_categorical_is_torchs(start: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4, requires_grad=True)
    actions = torch.tensor([0, 1, 2, 3, 3, 0])
    ours = CategoricalFrom(4, start).proba_distribution(logits)
    torchs: Any = Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(actions + start), torchs.log_prob(actions))
    torch.testing.assert_close(ours.entropy(), torchs.entropy())
    torch.testing.assert_close(ours.distribution.probs, torchs.probs)
    assert torch.equal(ours.mode(), torchs.mode + start)
    torch.manual_seed(1)
    drawn = ours.sample()
    torch.manual_seed(1)
    assert torch.equal(drawn, torchs.sample() + start)


def test_an_action_without_probability_has_no_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0, -float("inf")]])
    torch.testing.assert_close(CategoricalFrom(3, 0).proba_distribution(logits).entropy(), torch.tensor([2.0]).log())


def reference(
    values: Tensor, log_prob: Tensor, entropy: Tensor | None, batch: Batch, weights: Weights, normalize: bool
) -> Tensor:
    """The total of stable-baselines3's losses, by a graph."""
    advantages = batch.advantages
    if normalize:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = (log_prob - batch.log_prob).exp()
    clipped = ratio.clamp(1 - weights.clip_range, 1 + weights.clip_range)
    policy = -torch.min(advantages * ratio, advantages * clipped).mean()
    if weights.clip_range_vf is not None:
        values = batch.values + (values - batch.values).clamp(-weights.clip_range_vf, weights.clip_range_vf)
    negative_entropy = (log_prob if entropy is None else -entropy).mean()
    return policy + weights.ent_coef * negative_entropy + weights.vf_coef * functional.mse_loss(batch.returns, values)


@pytest.mark.parametrize("clip_range_vf", [None, 0.3])
@pytest.mark.parametrize("with_entropy", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("ent_coef", [0.0, 0.1])
def test_the_gradient_of_the_loss_is_that_of_a_graph(
    clip_range_vf: float | None, with_entropy: bool, normalize: bool, ent_coef: float
) -> None:
    torch.manual_seed(0)
    recorded = [torch.randn(40, dtype=torch.float64) for _ in range(4)]
    recorded[2][:3] = 0  # advantages
    batch = Batch(torch.zeros(40), *recorded)
    weights = Weights(0.2, clip_range_vf, ent_coef, 0.5)
    log_prob = (batch.log_prob + 0.3 * torch.randn(40)).requires_grad_()
    values = (batch.values + 0.4 * torch.randn(40)).requires_grad_()
    entropy = torch.rand(40, dtype=torch.float64).requires_grad_() if with_entropy else None
    inputs = [values, log_prob, *([] if entropy is None else [entropy])]
    mine = batch._replace(advantages=normalised(batch.advantages)) if normalize else batch
    losses = ppo_losses(values, log_prob, entropy, mine, weights)
    expected = reference(values, log_prob, entropy, batch, weights, normalize)
    torch.testing.assert_close(losses.total, expected)
    ours = torch.autograd.grad(3 * losses.total, inputs, allow_unused=True, materialize_grads=True)
    graphs = torch.autograd.grad(3 * expected, inputs, allow_unused=True, materialize_grads=True)
    for got, wanted in zip(ours, graphs, strict=True):
        torch.testing.assert_close(got, wanted)
    ratio = (log_prob - batch.log_prob).exp()
    torch.testing.assert_close(losses.approx_kl, (ratio - 1 - ratio.log()).mean().detach())
    torch.testing.assert_close(losses.clip_fraction, ((ratio - 1).abs() > 0.2).double().mean())
