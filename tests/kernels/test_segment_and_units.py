"""Kernels of LSTM segments and trace units: whichever computes them, and whatever is replaced between two calls."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sab_agents.core import build_core
from sab_agents.kernels import LSTMSegment, UnitsKernel, forced_kernel
from sab_agents.streaming import make_stream
from tests.kernels.extension import needs_native

INPUTS, H = 3, 5
KERNELS = [pytest.param("native", marks=needs_native), "torch"]
Weights = tuple[nn.Parameter, nn.Parameter, nn.Parameter, nn.Parameter]


def lstm(dtype: torch.dtype = torch.float32) -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(INPUTS, H, dtype=torch.float64).to(dtype)


def weights_of(module: nn.LSTM) -> Weights:
    return module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0, module.bias_hh_l0  # type: ignore[return-value]


def arguments(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (4, 1, INPUTS), (1, H), (1, H)
    x, h, c = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return x, h, c


def learned(segment: LSTMSegment, module: nn.LSTM, between: Callable[[], object] = lambda: None) -> list[Tensor]:
    """What a segment and a step beyond it return, and the gradients."""
    x, h, c = arguments(next(module.parameters()).dtype)
    found = [segment.run(weights_of(module), x, len(x), h, c), segment.cell()]
    found.append(segment.peek(weights_of(module), x[:1], found[0], None))
    found.append(segment.peeked_cell())
    between()
    segment.backward(weights_of(module), torch.ones_like(h))
    return found + [each.grad for each in module.parameters() if each.grad is not None]


def by_autograd() -> list[Tensor]:
    module, (x, h, c) = lstm(torch.float64), arguments(torch.float64)
    output, state = module(x, (h.unsqueeze(0), c.unsqueeze(0)))
    output[-1].sum().backward()
    _, beyond = module(x[:1], state)
    ends = [each[0] for each in (*state, *beyond)]
    return ends + [each.grad for each in module.parameters() if each.grad is not None]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_segment_is_that_of_torchs_lstm(kernel: str) -> None:
    with forced_kernel(kernel):
        found = learned(LSTMSegment(6), lstm())
    assert len(found) == 8
    for one, other in zip(found, by_autograd(), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_segment_is_learnt_from_after_its_gradients_were_replaced(kernel: str) -> None:
    with forced_kernel(kernel):
        module, other = lstm(), lstm()
        replaced = learned(LSTMSegment(6), module, between=lambda: module.zero_grad(set_to_none=True))
        untouched = learned(LSTMSegment(6), other)
    assert all(torch.equal(*pair) for pair in zip(replaced, untouched, strict=True))


def test_a_segment_follows_its_weights_and_the_forced_kernel() -> None:
    segment, module = LSTMSegment(6), lstm()
    learned(segment, module)
    module.load_state_dict({name: 2 * each for name, each in module.state_dict().items()}, assign=True)
    for parameter in module.parameters():
        parameter.requires_grad_()
    doubled = copy.deepcopy(module)
    for each in (module, doubled):
        each.zero_grad(set_to_none=True)
    with forced_kernel("torch"):
        expected = learned(LSTMSegment(6), doubled)
    for one, other in zip(learned(segment, module), expected, strict=True):
        torch.testing.assert_close(one, other)
    module.zero_grad()
    with forced_kernel("torch"):
        found = learned(segment, module)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    module.double().zero_grad(set_to_none=True)
    assert learned(segment, module)[0].dtype is torch.float64


def test_a_copied_segment_has_nothing_to_learn_from() -> None:
    segment, module = LSTMSegment(6), lstm()
    learned(segment, module)
    with pytest.raises(RuntimeError, match="no segment was run"):
        pickle.loads(pickle.dumps(segment)).backward(weights_of(module), torch.ones(1, H))


def unit_steps(kernel: UnitsKernel, parameters: tuple[nn.Parameter, ...]) -> list[Tensor]:
    nu, omega, weight = parameters
    dtype = nu.dtype
    x = torch.randn(3, 1, INPUTS, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    c, sensitivity = torch.zeros(1, H, 2, dtype=dtype), torch.zeros(1, H, 2 + INPUTS, dtype=dtype.to_complex())
    found: list[Tensor] = []
    for each in x:
        found += kernel.peek((nu, omega, weight), each, c)
        output, c, sensitivity = kernel.step((nu, omega, weight), each, c, sensitivity)
        found += [output, c, sensitivity.clone()]
        kernel.backward((nu, omega, weight), torch.ones_like(output), c, sensitivity)
    return found + [each.grad for each in parameters if each.grad is not None]


def unit_parameters(dtype: torch.dtype = torch.float32) -> tuple[nn.Parameter, ...]:
    torch.manual_seed(3)
    values = [torch.rand(shape, dtype=torch.float64).to(dtype) - 0.5 for shape in ((H,), (H,), (2, H, INPUTS))]
    return tuple(map(nn.Parameter, values))


@pytest.mark.parametrize("kernel", KERNELS)
def test_trace_units_are_those_of_float64(kernel: str) -> None:
    with forced_kernel(kernel):
        found = unit_steps(UnitsKernel(), unit_parameters())
    expected = unit_steps(UnitsKernel(), unit_parameters(torch.float64))
    assert len(found) == 18
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.to(other.dtype), other, rtol=1e-4, atol=1e-5)


def test_trace_units_follow_gradients_that_were_replaced_and_the_forced_kernel() -> None:
    kernel, parameters = UnitsKernel(), unit_parameters()
    unit_steps(kernel, parameters)
    for each in parameters:
        each.grad = None
    with forced_kernel("torch"):
        found, expected = unit_steps(kernel, parameters), unit_steps(UnitsKernel(), unit_parameters())
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_frozen_parameter_receives_no_gradient() -> None:
    parameters = unit_parameters()
    parameters[0].requires_grad_(False)
    unit_steps(UnitsKernel(), parameters)
    assert [each.grad is None for each in parameters] == [True, False, False]


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_episode_that_started_by_a_plain_step_counts_in_the_segment(kernel: str) -> None:
    observations = torch.randn(4, 1, INPUTS, generator=torch.Generator().manual_seed(4))
    start = torch.ones(1, dtype=torch.bool)
    outputs = []
    with forced_kernel(kernel):
        for carried in (True, False):
            torch.manual_seed(0)
            stream = make_stream(build_core("lstm_tbptt", INPUTS, H, bptt_steps=8))
            if carried:
                stream.step(observations[0])
            stream.step(observations[1], start)
            outputs.append(stream.step_and_replay(observations[2]))
    torch.testing.assert_close(*outputs)
