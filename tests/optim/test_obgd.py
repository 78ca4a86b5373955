"""ObGD against a calculation by hand."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sab_agents.kernels import forced_kernel
from sab_agents.kernels.native_backend import extension
from sab_agents.optim.obgd import ObGD
from tests.kernels.extension import needs_native


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
    assert obgd.gradient.tolist() == [0.0] * 3  # nor is it added once more
    assert obgd.trace.tolist() == [1.0] * 3


@pytest.mark.parametrize("way", ["torch", pytest.param("native", marks=needs_native)])
def test_a_gradient_that_is_not_finite_is_not_kept(way: str) -> None:
    with forced_kernel(way):
        parameters, obgd = optimiser()
        put_gradients(parameters, [1.0, math.inf], [1.0])
        with pytest.raises(FloatingPointError, match="must be finite"):
            obgd.step(1.0)
        assert obgd.vector.tolist() == [1.0, 2.0, -3.0]
        put_gradients(parameters, [1.0, 1.0], [1.0])
        assert obgd.step(1.0) > 0
        assert obgd.trace.tolist() == [1.0] * 3


@pytest.mark.parametrize(
    "setting", [{"learning_rate": 0.0}, {"kappa": -1.0}, {"gamma": 1.1}, {"trace_decay": math.nan}]
)
def test_a_setting_out_of_range_is_named(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be a number .* but is"):
        optimiser(**setting)


def test_no_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one parameter"):
        ObGD([])


def drive(module: nn.Module, obgd: ObGD, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        module(torch.randn(2, 3, generator=generator)).sum().backward()
        obgd.step(0.5)


REPLACED: dict[str, Callable[[nn.Module, ObGD], tuple[nn.Module, ObGD]]] = {
    "deepcopy": lambda module, obgd: copy.deepcopy((module, obgd)),
    "pickle": lambda module, obgd: pickle.loads(pickle.dumps((module, obgd))),
    "assigned": lambda module, obgd: (_assigned(module), obgd),
    "data": lambda module, obgd: (_with_data(module), obgd),
    "gradients": lambda module, obgd: (_without_gradients(module), obgd),
}


def _assigned(module: nn.Module) -> nn.Module:
    module.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, assign=True)
    return module


def _without_gradients(module: nn.Module) -> nn.Module:
    module.zero_grad(set_to_none=True)
    return module


def _with_data(module: nn.Module) -> nn.Module:
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(module.parameters()), module.parameters())
    return module


@pytest.mark.parametrize("kernel", ["native", "torch"])
@pytest.mark.parametrize("replaced", REPLACED)
def test_parameters_that_were_copied_or_replaced_go_on_bit_exactly(replaced: str, kernel: str) -> None:
    if kernel == "native" and extension.native is None:
        pytest.skip("the native kernel was not built: no C++ compiler")
    with forced_kernel(kernel):
        torch.manual_seed(0)
        module: nn.Module = nn.Linear(3, 2)
        other = copy.deepcopy(module)
        pair, untouched = (module, ObGD([module])), (other, ObGD([other]))
        drive(*pair)
        drive(*untouched)
        pair = REPLACED[replaced](*pair)
        drive(*pair)
        drive(*untouched)
        assert torch.equal(pair[1].trace, untouched[1].trace)
        for mine, theirs in zip(pair[0].parameters(), untouched[0].parameters(), strict=True):
            assert torch.equal(mine, theirs)
            assert mine.untyped_storage().data_ptr() == pair[1].vector.untyped_storage().data_ptr()


def test_a_gradient_that_waits_when_parameters_are_copied_is_not_lost() -> None:
    module = nn.Linear(3, 2)
    obgd = ObGD([module])
    module(torch.ones(1, 3)).sum().backward()
    nn.utils.vector_to_parameters(torch.zeros(8), module.parameters())
    assert obgd.step(1.0) > 0
    assert torch.all(obgd.trace == 1)


def test_a_converted_module_is_moved_in_its_new_dtype() -> None:
    module = nn.Linear(3, 2)
    obgd = ObGD([module])
    drive(module, obgd)
    module.double()
    module(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    obgd.step(1.0)
    assert obgd.vector.dtype == obgd.trace.dtype == torch.float64
    assert torch.equal(obgd.vector[:6].view(2, 3), module.weight)


def test_a_saved_trace_is_loaded() -> None:
    modules = nn.Linear(3, 2), nn.Linear(3, 2)
    one, other = (ObGD([module]) for module in modules)
    drive(modules[0], one)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.trace, other.trace)
    one.trace.zero_()
    assert other.trace.abs().sum() > 0
