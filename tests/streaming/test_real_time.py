"""Real-time recurrent learning gives the gradient of backpropagation through the whole past."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents.core import RTU, RealTimeCore
from sab_agents.kernels import forced_kernel
from sab_agents.streaming import RealTimeStream, RealTimeWindow, make_stream
from tests.kernels.extension import needs_native

INPUTS, N, ROWS = 3, 5, 3
WINDOWS = (4, 1, 6, 3, 7)
STEPS = sum(WINDOWS)


def trace_units(dtype: torch.dtype = torch.float64) -> RTU:
    torch.manual_seed(0)
    return RTU(INPUTS, N, min_radius=0.5, dtype=dtype)


def observations(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Observations (T, B, I), and episode starts (T, B) in the middle of windows, at their edges, and never."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(STEPS, ROWS, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
    start = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    for t, row in ((2, 0), (5, 0), (8, 1), (12, 1), (13, 1)):
        start[t, row] = True
    return x, start


def gradients(core: nn.Module) -> list[Tensor]:
    found = [parameter.grad.clone() for parameter in core.parameters() if parameter.grad is not None]
    core.zero_grad()
    return found


def whole(core: RealTimeCore[Any], x: Tensor, start: Tensor, first: int, weights: Tensor) -> list[Tensor]:
    """The gradient of the loss of steps from `first` on by backpropagation from the stream's very first step."""
    outputs = core(x[: first + len(weights)], None, start[: first + len(weights)])[0]
    (outputs[first:] * weights).sum().backward()
    return gradients(core)


@pytest.mark.parametrize("closes", [False, True], ids=["open", "closed"])
def test_a_window_learns_what_backpropagation_through_the_whole_past_does(closes: bool) -> None:
    core, (x, start) = trace_units(), observations()
    stream = RealTimeStream(core, ROWS)
    first = 0
    for length in WINDOWS:
        for t in range(first, first + length):
            stream.step(x[t], start[t])
        weights = torch.cos(torch.arange(length * ROWS * 2 * N, dtype=torch.float64)).view(length, ROWS, 2 * N)
        if closes:
            closed = stream.close()
            for rows in (torch.tensor([2]), torch.tensor([1, 0])):
                closed.replay(rows).backward(weights[:, rows])
                closed.credit()
        else:
            stream.replay().backward(weights)
            stream.credit()
            stream.advance()
        found = gradients(core)
        for mine, expected in zip(found, whole(core, x, start, first, weights), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)
        first += length


def test_without_credit_the_past_is_left_out() -> None:
    core, (x, start) = trace_units(), observations()
    stream = RealTimeStream(core, ROWS)
    for t in range(4):
        stream.step(x[t], start[t])
    stream.advance()
    stream.step(x[4], start[4])
    weights = torch.ones(1, ROWS, 2 * N, dtype=torch.float64)
    stream.replay().backward(weights)
    truncated, exact = gradients(core), whole(core, x, start, 4, weights)
    assert max(float((one - other).abs().max()) for one, other in zip(truncated, exact, strict=True)) > 1e-3


def test_joined_windows_learn_what_each_of_them_learns() -> None:
    core, (x, start) = trace_units(), observations()
    stream = RealTimeStream(core, ROWS)
    windows = []
    for first in (0, 5, 10):
        for t in range(first, first + 5):
            stream.step(x[t], start[t])
        windows.append(stream.close())
    weights = torch.sin(torch.arange(5 * ROWS * 2 * N, dtype=torch.float64)).view(5, ROWS, 2 * N)
    for window in windows:
        window.replay(torch.arange(ROWS)).backward(weights)
        window.credit()
    expected = gradients(core)
    joined = RealTimeWindow.joined(windows)
    joined.replay(torch.arange(3 * ROWS)).backward(weights.repeat(1, 3, 1))
    joined.credit()
    for mine, theirs in zip(gradients(core), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [1, ROWS])
def test_each_step_alone_is_credited_to_the_whole_past(rows: int) -> None:
    core, (x, start) = trace_units(), observations()
    x, start = x[:, :rows], start[:, :rows]
    stream = RealTimeStream(core, rows)
    for t in range(STEPS):
        output = stream.step_and_replay(x[t], start[t])
        torch.testing.assert_close(output, core(x[: t + 1], None, start[: t + 1])[0][t].detach())
        weights = torch.cos(torch.arange(rows * 2 * N, dtype=torch.float64) + t).view(1, rows, 2 * N)
        stream.backward(weights[0])
        for mine, expected in zip(gradients(core), whole(core, x, start, t, weights), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


def test_single_steps_and_windows_can_follow_each_other() -> None:
    core, (x, start) = trace_units(), observations()
    stream = RealTimeStream(core, ROWS)
    for t in range(6):
        (stream.step if t % 3 else stream.step_and_replay)(x[t], start[t])
    stream.step_and_replay(x[6], start[6])
    weights = torch.ones(1, ROWS, 2 * N, dtype=torch.float64)
    stream.backward(weights[0])
    for mine, expected in zip(gradients(core), whole(core, x, start, 6, weights), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@needs_native
def test_the_native_kernel_steps_and_credits_as_torch_does() -> None:
    x, start = observations(torch.float32)
    found = []
    for kernel in ("native", "torch"):
        core = trace_units(torch.float32)
        with forced_kernel(kernel):
            stream = RealTimeStream(core)
            for t in range(STEPS):
                stream.step_and_replay(x[t, :1], start[t, :1])
            ahead = stream.peek(x[0, :1]).output
            stream.backward(torch.ones(1, 2 * N))
        found.append([ahead, *gradients(core)])
    for native, plain in zip(*found, strict=True):
        torch.testing.assert_close(native, plain, rtol=1e-4, atol=1e-5)


@needs_native
@pytest.mark.parametrize("pickles", [False, True], ids=["deepcopy", "pickle"])
def test_a_copy_steps_and_learns_apart_from_its_original(pickles: bool) -> None:
    x, start = observations(torch.float32)
    stream = RealTimeStream(trace_units(torch.float32))
    for t in range(8):
        stream.step_and_replay(x[t, :1], start[t, :1])
    other = pickle.loads(pickle.dumps(stream)) if pickles else copy.deepcopy(stream)
    before = [each.clone() for each in (*stream.state_dict().values(), *stream.core.parameters())]
    for each in (other, stream):
        each.core.zero_grad()
    outputs = []
    for each in (other, stream):
        outputs.append([each.step_and_replay(x[t, :1], start[t, :1]) for t in range(8, 14)])
        each.backward(torch.ones(1, 2 * N))
        if each is other:
            now = [*stream.state_dict().values(), *stream.core.parameters()]
            assert all(torch.equal(*pair) for pair in zip(before, now, strict=True))
            assert all(parameter.grad is None for parameter in stream.core.parameters())
    assert all(torch.equal(*pair) for pair in zip(*outputs, strict=True))
    for mine, theirs in zip(gradients(other.core), gradients(stream.core), strict=True):
        assert torch.equal(mine, theirs)


def test_a_replaced_gradient_is_noticed() -> None:
    x, _ = observations(torch.float32)
    core = trace_units(torch.float32)
    stream = RealTimeStream(core)
    stream.step_and_replay(x[0, :1])  # on which ω has no influence
    for t in range(1, 4):
        stream.step_and_replay(x[t, :1])
        stream.backward(torch.ones(1, 2 * N))
        assert all(bool(gradient.any()) for gradient in gradients(core))
        for parameter in core.parameters():
            parameter.grad = torch.zeros_like(parameter)


def test_a_saved_stream_resumes_bit_exactly() -> None:
    core, (x, start) = trace_units(), observations()
    stream, other = (make_stream(core, ROWS) for _ in range(2))
    for t in range(6):
        (stream.step if t > 3 else stream.step_and_replay)(x[t], start[t])
    other.load_state_dict(stream.state_dict())
    for each in (stream, other):
        each.step(x[6], start[6])
        each.replay().backward(torch.ones(3, ROWS, 2 * N, dtype=torch.float64))
        each.credit()
        each.advance()
    for name, value in stream.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_an_encoder_is_credited_inside_the_window() -> None:
    core, (x, start) = trace_units(), observations()
    encoder = nn.Linear(INPUTS, INPUTS, dtype=torch.float64)
    stream = RealTimeStream(core, ROWS, encoder=encoder)
    for t in range(8):
        stream.step(x[t], start[t])
        if t == 4:
            stream.advance()
    weights = torch.ones(3, ROWS, 2 * N, dtype=torch.float64)
    stream.replay().backward(weights)
    stream.credit()
    found, credited = gradients(core), gradients(encoder)
    with torch.no_grad():
        seen = encoder(x)
    for mine, expected in zip(found, whole(core, seen, start, 5, weights), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)
    state = core(seen[:5], None, start[:5])[1].detach()
    (core(encoder(x[5:8]), state, start[5:8])[0] * weights).sum().backward()
    for mine, expected in zip(credited, gradients(encoder), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)
