"""Learning from the last output of every step, against automatic differentiation of the whole episode."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents.core import LSTM, RTU, build_core
from sab_agents.streaming import Stream, make_stream

INPUTS, H, T = 3, 5, 23
KINDS = ("sab", "lstm_tbptt", "rtu")
START = torch.ones(1, dtype=torch.bool)


def stream_of(kind: str) -> Stream:
    torch.manual_seed(0)
    if kind != "sab":
        settings = {"bptt_steps": 4} if kind == "lstm_tbptt" else {}
        return make_stream(build_core(kind, INPUTS, H, dtype=torch.float64, **settings))
    # The module's own rules, so that it is the reference.
    core = build_core("sab", INPUTS, H, top_k=2, bptt_steps=4, capacity=T, dtype=torch.float64)
    return make_stream(core, eviction="oldest", write="every", credit_depth=None)


def episode(seed: int = 1, length: int = T) -> Tensor:
    return torch.randn(length, 1, INPUTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def started(index: int) -> Tensor | None:
    return START if index == 0 else None


def gradients(stream: Stream) -> list[Tensor]:
    assert all(parameter.grad is not None for parameter in stream.core.parameters())
    return [parameter.grad.clone() for parameter in stream.core.parameters()]


def ones(stream: Stream) -> Tensor:
    return torch.ones(1, stream.core.output_size, dtype=torch.float64)


def unrolled_rtu(core: Any, observations: Tensor) -> Tensor:
    """The outputs (T, 2 H) of one episode by the paper's pair of real recurrences, with a graph through all of it."""
    radius, angle = torch.exp(-torch.exp(core.nu)), torch.exp(core.omega)
    straight, crossed, scale = radius * angle.cos(), radius * angle.sin(), torch.sqrt(1 - radius**2)
    first = second = torch.zeros(H, dtype=torch.float64)
    outputs = []
    for observation in observations:
        first, second = (
            straight * first - crossed * second + scale * (core.weight[0] @ observation[0]),
            straight * second + crossed * first + scale * (core.weight[1] @ observation[0]),
        )
        outputs.append(torch.relu(torch.cat([first, second])))
    return torch.stack(outputs)


def unrolled_lstm(core: Any, observations: Tensor) -> Tensor:
    """The outputs (T, H) of one episode, cut before each segment of `bptt_steps`."""
    cell = nn.LSTMCell(INPUTS, H, dtype=torch.float64)
    weights = dict(core.lstm.named_parameters())
    h = c = torch.zeros(1, H, dtype=torch.float64)
    outputs = []
    for index, observation in enumerate(observations):
        if index % core.bptt_steps == 0:
            h, c = h.detach(), c.detach()
        named: dict[str, Tensor] = {name: weights[f"{name}_l0"] for name, _ in cell.named_parameters()}
        h, c = torch.func.functional_call(cell, named, (observation, (h, c)))
        outputs.append(h[0])
    return torch.stack(outputs)


def reference(core: nn.Module, observations: Tensor) -> Tensor:
    if isinstance(core, RTU):
        return unrolled_rtu(core, observations)
    if isinstance(core, LSTM):
        return unrolled_lstm(core, observations)
    outputs: Tensor = core(observations)[0]
    return outputs[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_each_steps_gradient_is_that_of_the_whole_episode(kind: str) -> None:
    stream = stream_of(kind)
    parameters = list(stream.core.parameters())
    for seed in (1, 2):  # the second episode starts from nothing of the first
        observations = episode(seed)
        outputs = reference(stream.core, observations)
        for index, observation in enumerate(observations):
            output = stream.step_and_replay(observation, started(index))
            torch.testing.assert_close(output[0], outputs[index], rtol=1e-12, atol=1e-12)
            cotangent = torch.cos(torch.arange(stream.core.output_size, dtype=torch.float64) + index)
            expected = torch.autograd.grad(outputs[index] @ cotangent, parameters, retain_graph=True)
            stream.core.zero_grad()
            stream.backward(cotangent.unsqueeze(0))
            for parameter, gradient in zip(parameters, expected, strict=True):
                assert parameter.grad is not None
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-9)


def test_a_truncated_gradient_is_not_that_of_the_whole_episode() -> None:
    found = []
    for steps in (4, T):
        torch.manual_seed(0)
        stream = make_stream(build_core("lstm_tbptt", INPUTS, H, bptt_steps=steps, dtype=torch.float64))
        for index, observation in enumerate(episode()):
            stream.step_and_replay(observation, started(index))
        stream.backward(ones(stream))
        found.append(gradients(stream)[0])
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_add_up(kind: str) -> None:
    stream, found = stream_of(kind), []
    for _ in range(2):
        stream.step_and_replay(episode()[0], START)
        stream.backward(ones(stream))
        found.append(gradients(stream))
    for once, twice in zip(*found, strict=True):
        torch.testing.assert_close(twice, 2 * once)


@pytest.mark.parametrize("kind", KINDS)
def test_peek_is_the_next_step_and_changes_nothing(kind: str) -> None:
    stream, observations = stream_of(kind), episode()
    for index, observation in enumerate(observations[:-1]):
        stream.step_and_replay(observation, started(index))
        before = stream.state_dict()
        ahead = stream.peek(observations[index + 1]).output
        assert all(torch.equal(tensor, before[name]) for name, tensor in stream.state_dict().items())
    output = stream.step_and_replay(observations[-1])
    torch.testing.assert_close(output, ahead, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_acted_on_together_equal_the_stream(kind: str) -> None:
    stream, streams = stream_of(kind), torch.cat([episode(1), episode(2)], dim=1)
    state, outputs = stream.initial_state(2), []
    for observations in streams:
        output, state = stream.act(observations, state)
        outputs.append(output)
    for row in range(2):
        for index, observations in enumerate(streams):
            output = stream.step_and_replay(observations[row : row + 1], started(index))
            torch.testing.assert_close(output[0], outputs[index][row], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_was_saved_in_a_segment_resumes_bit_exactly(kind: str) -> None:
    stream, other = pair = stream_of(kind), stream_of(kind)
    observations = episode()
    for index, observation in enumerate(observations[:6]):
        stream.step_and_replay(observation, started(index))
    other.load_state_dict(stream.state_dict())
    for observation in observations[6:]:
        assert torch.equal(stream.step_and_replay(observation), other.step_and_replay(observation))
        for each in pair:
            each.core.zero_grad()
            each.backward(ones(each))
        assert all(torch.equal(*both) for both in zip(gradients(stream), gradients(other), strict=True))


def test_radii_start_on_the_ring_and_stay_finite_at_its_edge() -> None:
    core = RTU(INPUTS, 1000, min_radius=0.9, max_radius=1.0, max_angle=math.pi)
    radius, angle = torch.exp(-torch.exp(core.nu)), torch.exp(core.omega)
    assert radius.min() >= 0.9
    assert radius.max() <= 1
    assert angle.max() <= math.pi
    with torch.no_grad():
        core.nu.fill_(-40.0)  # r rounds to 1
    stream = make_stream(core)
    for index in range(5):
        stream.step_and_replay(torch.ones(1, INPUTS), started(index))
        stream.backward(torch.ones(1, 2000))
    assert all(torch.isfinite(gradient).all() for gradient in gradients(stream))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"min_radius": 0.9, "max_radius": 0.5}, "min_radius must be below max_radius"),
        ({"max_radius": 1.5}, "max_radius must be a number from 0 to 1, but is 1.5"),
        ({"max_angle": 0.0}, "max_angle must be above 0"),
    ],
)
def test_a_ring_that_is_none_is_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RTU(INPUTS, H, **setting)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="bptt_steps must be at least 1, but is 0"):
        make_stream(build_core("lstm", INPUTS, H), bptt_steps=0)
    with pytest.raises(TypeError, match="hidden_size must be an int"):
        RTU(INPUTS, 2.5)  # type: ignore[arg-type]
