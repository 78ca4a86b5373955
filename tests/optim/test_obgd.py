"""ObGD against a calculation by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sab_agents.optim.obgd import ObGD


def optimiser(**settings: float) -> tuple[list[nn.Parameter], ObGD]:
    parameters = [nn.Parameter(torch.tensor([[1.0, 2.0]])), nn.Parameter(torch.tensor([-3.0]))]
    return parameters, ObGD(parameters, **settings)


def put_gradients(parameters: list[nn.Parameter], *gradients: list[float]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        parameter.grad += torch.tensor(gradient).view_as(parameter)


def test_a_small_gradient_takes_the_whole_learning_rate() -> None:
    parameters, obgd = optimiser(learning_rate=0.5, kappa=2.0)
    put_gradients(parameters, [0.1, -0.2], [0.3])
    # M = 0.5 · 2 · max(0.4, 1) · 0.6 = 0.6, at most 1.
    assert obgd.step(0.4) == pytest.approx(0.5)
    assert parameters[0].tolist()[0] == pytest.approx([1 + 0.5 * 0.4 * 0.1, 2 - 0.5 * 0.4 * 0.2])
    assert parameters[1].tolist() == pytest.approx([-3 + 0.5 * 0.4 * 0.3])


def test_a_large_trace_and_a_large_error_shorten_the_step() -> None:
    parameters, obgd = optimiser(learning_rate=1.0, kappa=3.0, gamma=0.9, trace_decay=0.5)
    put_gradients(parameters, [1.0, -2.0], [0.5])
    # M = 1 · 3 · max(|-4|, 1) · 3.5 = 42.
    assert obgd.step(-4.0) == pytest.approx(1 / 42)
    assert parameters[0].tolist()[0] == pytest.approx([1 - 4 / 42, 2 + 8 / 42])
    put_gradients(parameters, [0.0, 1.0], [0.0])
    # z = 0.45 · (1, -2, 0.5) + (0, 1, 0) = (0.45, 0.1, 0.225), so M = 3 · 1 · 0.775.
    assert obgd.step(0.5) == pytest.approx(1 / 2.325)
    assert parameters[1].tolist() == pytest.approx([-3 - 2 / 42 + 0.5 * 0.225 / 2.325])


def test_reset_empties_the_trace_after_the_step() -> None:
    parameters, obgd = optimiser()
    put_gradients(parameters, [1.0, 1.0], [1.0])
    obgd.step(1.0, reset=True)
    before = obgd.vector.clone()
    obgd.step(1.0)
    assert torch.equal(obgd.vector, before)


def test_backward_reaches_the_vector_through_a_module() -> None:
    layer = nn.Linear(3, 2)
    obgd = ObGD(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    assert obgd.gradient.tolist() == [1.0] * 8
    obgd.step(1.0)
    assert obgd.gradient.abs().sum() == 0
    assert torch.equal(obgd.vector[:6].view(2, 3), layer.weight)


@pytest.mark.parametrize("delta", [math.nan, math.inf])
def test_an_error_that_is_not_finite_is_refused_and_moves_nothing(delta: float) -> None:
    parameters, obgd = optimiser()
    put_gradients(parameters, [1.0, 1.0], [1.0])
    with pytest.raises(FloatingPointError, match="must be finite"):
        obgd.step(delta)
    assert parameters[0].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "setting", [{"learning_rate": 0.0}, {"kappa": -1.0}, {"gamma": 1.1}, {"trace_decay": math.nan}]
)
def test_a_setting_out_of_range_is_named(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be a number .* but is"):
        optimiser(**setting)


def test_no_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        ObGD([])
