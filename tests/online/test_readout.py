"""Gradients that are written out, against automatic differentiation and torch's own distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from sab_agents.online.distributions import distribution_over
from sab_agents.online.readout import Readout


def test_the_readouts_gradient_is_that_of_its_layers() -> None:
    torch.manual_seed(0)
    readout = Readout(6, 9, 4, sparsity=0.5).double()
    for _ in range(2):  # the second adds to the first
        output = torch.randn(1, 6, dtype=torch.float64, requires_grad=True)
        cotangent = torch.randn(4, dtype=torch.float64)
        parameters = list(readout.parameters())
        numbers = readout(output)
        expected = torch.autograd.grad((numbers[0] * cotangent).sum(), [*parameters, output])
        before = [torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in parameters]
        torch.testing.assert_close(readout.step(output.detach()[0]), numbers[0].detach(), rtol=1e-12, atol=1e-12)
        into_output = readout.backward(cotangent)
        torch.testing.assert_close(into_output, expected[-1][0], rtol=1e-10, atol=1e-10)
        for parameter, old, gradient in zip(parameters, before, expected, strict=False):
            torch.testing.assert_close(parameter.grad, old + gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weight", [0.0, 0.3, -0.3])
@pytest.mark.parametrize("space", [spaces.Discrete(5), spaces.Box(-1, 1, (2, 2))], ids=["discrete", "continuous"])
def test_a_distributions_gradient_is_that_of_torchs_own(space: spaces.Space[Any], weight: float) -> None:
    family = distribution_over(space)
    row = np.random.default_rng(0).normal(0, 2, family.size)
    action = family.choose(row[None], np.random.default_rng(1))[0]
    numbers = torch.tensor(row, requires_grad=True)
    if isinstance(space, spaces.Discrete):
        distribution: Any = torch.distributions.Categorical(logits=numbers)
    else:
        mean, raw = numbers.chunk(2)
        distribution = torch.distributions.Normal(mean, torch.nn.functional.softplus(raw))
    chosen = torch.as_tensor(action.reshape(-1) if action.ndim else action)
    objective = distribution.log_prob(chosen).sum() + weight * distribution.entropy().sum()
    (expected,) = torch.autograd.grad(objective, numbers)
    np.testing.assert_allclose(family.gradient(row, action, weight), expected.numpy(), rtol=1e-9, atol=1e-12)


def test_actions_are_drawn_as_often_as_the_distribution_says() -> None:
    family, rng = distribution_over(spaces.Discrete(3)), np.random.default_rng(0)
    logits = np.tile(np.log([0.2, 0.7, 0.1]), (20_000, 1))
    np.testing.assert_allclose(np.bincount(family.choose(logits, rng)) / 20_000, [0.2, 0.7, 0.1], atol=0.02)
    family = distribution_over(spaces.Box(-1, 1, (1,)))
    drawn = family.choose(np.tile([3.0, np.log(np.expm1(0.5))], (20_000, 1)), rng)
    np.testing.assert_allclose([drawn.mean(), drawn.std()], [3, 0.5], atol=0.02)
