"""A closed window gives the numbers and the gradient of the open one, for any of its rows and at any later time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import SAB
from sab_agents.kernels import forced_kernel
from sab_agents.streaming import SABStream, SABWindow
from tests.kernels.extension import needs_native

OBSERVED, T, ROWS = 3, 5, 4
SETTINGS: dict[str, Any] = {
    "input_size": OBSERVED,
    "hidden_size": 6,
    "top_k": 2,
    "bptt_steps": 3,
    "capacity": 8,
    "attention": "dot",
    "attention_size": 4,
}


class Network:
    """A network, and streams through it that all see the same."""

    def __init__(self, dtype: torch.dtype, *, encodes: bool) -> None:
        torch.manual_seed(0)
        self.dtype, self.sab = dtype, SAB(**SETTINGS, dtype=dtype)
        for parameter in self.sab.parameters():
            nn.init.uniform_(parameter, -0.8, 0.8)
        self.encoder = nn.Sequential(nn.Linear(OBSERVED, OBSERVED, dtype=dtype), nn.Tanh()) if encodes else None
        self.observation = torch.randn(8 * T, ROWS, OBSERVED, dtype=dtype)
        self.start = torch.rand(8 * T, ROWS) < 0.06
        self.weights = torch.randn(T, ROWS, 2 * self.sab.hidden_size, dtype=dtype)

    def stream(self) -> SABStream:
        return SABStream(
            self.sab,
            ROWS,
            encoder=self.encoder,
            observation_shape=(OBSERVED,),
            credit_depth=None,
            write="every",
            eviction="oldest",
        )

    def parameters(self) -> list[nn.Parameter]:
        return [*self.sab.parameters(), *([] if self.encoder is None else self.encoder.parameters())]

    def gradient(self) -> list[Tensor]:
        found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.parameters()]
        for parameter in self.parameters():
            parameter.grad = None
        return found

    def windows(self, stream: SABStream) -> Iterator[int]:
        for window in range(8):
            for t in range(window * T, (window + 1) * T):
                stream.step(self.observation[t], self.start[t])
            yield window


@pytest.fixture(params=[(way, encodes) for way in ("torch", "native") for encodes in (False, True)], ids=str)
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    way, encodes = request.param
    if way == "native" and needs_native.args[0]:
        pytest.skip("the native kernel was not built: no C++ compiler")
    with forced_kernel(way):
        yield Network(torch.float64 if way == "torch" else torch.float32, encodes=encodes)


def close(found: list[Tensor], expected: list[Tensor]) -> None:
    exact = found[0].dtype == torch.float64
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9 if exact else 1e-3, atol=1e-9 if exact else 1e-3)


def learnt(closed: SABWindow, rows: Tensor, weights: Tensor) -> Tensor:
    run = closed.replay(rows)
    run.backward(weights[:, rows])
    closed.credit()
    return run.outputs


def test_a_closed_window_learns_what_the_open_one_would(network: Network) -> None:
    stream, twin = network.stream(), network.stream()
    for _ in zip(network.windows(stream), network.windows(twin), strict=True):
        output = stream.window()
        output.backward(network.weights)  # type: ignore[no-untyped-call]
        stream.credit()
        stream.advance()
        expected = network.gradient()
        closed = twin.close()
        # Half of the rows at a time, in another order: the stream's rows do not depend on each other.
        for rows in (torch.tensor([3, 1]), torch.tensor([0, 2])):
            outputs = learnt(closed, rows, network.weights)
            close([outputs], [output.detach()[:, rows]])
        close(network.gradient(), expected)
    assert torch.equal(stream.state.memory, twin.state.memory)


def test_joined_windows_learn_what_each_of_them_learns(network: Network) -> None:
    stream = network.stream()
    windows = [stream.close() for _ in network.windows(stream)][3:6]
    for window in windows:
        learnt(window, torch.arange(ROWS), network.weights)
    expected = network.gradient()
    joined = SABWindow.joined(windows)
    assert joined.rows == 3 * ROWS
    learnt(joined, torch.arange(3 * ROWS), network.weights.repeat(1, 3, 1))
    close(network.gradient(), expected)


def test_a_closed_window_can_be_learnt_from_again(network: Network) -> None:
    stream = network.stream()
    closed = [stream.close() for _ in network.windows(stream)][4]
    found = []
    for _ in range(2):
        learnt(closed, torch.arange(ROWS), network.weights)
        found.append(network.gradient())
    close(found[0], found[1])
    assert any(bool(gradient.any()) for gradient in found[0])


@pytest.mark.parametrize("bptt_steps", [None, 2])
def test_plain_backpropagation_in_a_window_goes_as_far_as_it_is_told(network: Network, bptt_steps: int | None) -> None:
    stream, long = network.stream(), SAB(**{**SETTINGS, "bptt_steps": bptt_steps or 8 * T}, dtype=network.dtype)
    long.load_state_dict(network.sab.state_dict())
    for t in range(8 * T):
        stream.step(network.observation[t], network.start[t])
    closed = stream.close()
    closed.cut_every(bptt_steps)
    weights = torch.randn(8 * T, ROWS, 2 * long.hidden_size, dtype=network.dtype)
    learnt(closed, torch.arange(ROWS), weights)
    x = network.observation
    if network.encoder is not None:
        x = network.encoder(x)
    network.sab, found = long, network.gradient()
    long(x, None, network.start)[0].backward(weights)
    close(network.gradient(), found)


def test_without_credit_nothing_reaches_the_steps_before_the_window(network: Network) -> None:
    stream = network.stream()
    closed = [stream.close() for _ in network.windows(stream)][4]
    rows = torch.arange(ROWS)
    closed.replay(rows).backward(network.weights)
    alone = network.gradient()
    learnt(closed, rows, network.weights)
    assert not all(torch.equal(one, other) for one, other in zip(alone, network.gradient(), strict=True))


def test_inputs_that_are_given_take_the_gradient_in_place_of_the_encoder(network: Network) -> None:
    stream = network.stream()
    closed = [stream.close() for _ in network.windows(stream)][4]
    rows, x = torch.tensor([2, 0]), closed.steps.observation[:, [2, 0]]
    if network.encoder is not None:
        x = network.encoder(x).detach()
    x.requires_grad_()
    run = closed.replay(rows, x)
    run.backward(network.weights[:, rows])
    assert x.grad is not None
    assert bool(x.grad.any())
    with pytest.raises(RuntimeError, match="no step was taken"):
        stream.close()
    closed.credit()
    with pytest.raises(RuntimeError, match="nothing was replayed"):
        closed.credit()


def test_inputs_that_were_passed_are_not_those_of_a_replay_without_any() -> None:
    network = Network(torch.float32, encodes=False)
    stream, row = network.stream(), torch.tensor([1])
    next(network.windows(stream))
    closed = stream.close()
    assert isinstance(closed, SABWindow)
    observed = closed.replay(row).outputs.clone()
    fresh = SABWindow(
        closed.core, closed.rules, closed.encode, closed.steps, closed.before, closed.contexts, closed.credit_depth
    )
    fresh.replay(row, torch.ones(T, 1, OBSERVED))
    assert torch.equal(fresh.replay(row).outputs, observed)
