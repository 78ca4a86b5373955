"""Gradients of the recurrent learners against automatic differentiation of the whole episode."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sab_agents.online.learners import LSTMLearner, RecurrentLearner
from sab_agents.online.rtu import RTULearner
from sab_agents.online.sab_learner import SABLearner

INPUTS, H, T = 3, 5, 23


def learners() -> list[RecurrentLearner]:
    torch.manual_seed(0)
    # The module's own rules, so that it is the reference.
    sab = SABLearner(INPUTS, H, top_k=2, bptt_steps=4, capacity=T, eviction="oldest", write="every", credit_depth=None)
    return [sab.double(), LSTMLearner(INPUTS, H, bptt_steps=4).double(), RTULearner(INPUTS, H).double()]


def episode(seed: int = 1, length: int = T) -> Tensor:
    return torch.randn(length, 1, INPUTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unrolled_rtu(learner: RTULearner, observations: Tensor) -> Tensor:
    """The outputs (T, 2 H) of one episode by the paper's pair of real recurrences, with a graph through all of it."""
    radius, angle = torch.exp(-torch.exp(learner.nu)), torch.exp(learner.omega)
    straight, crossed, scale = radius * angle.cos(), radius * angle.sin(), torch.sqrt(1 - radius**2)
    first = second = torch.zeros(H, dtype=torch.float64)
    outputs = []
    for observation in observations:
        first, second = (
            straight * first - crossed * second + scale * (learner.weight[0] @ observation[0]),
            straight * second + crossed * first + scale * (learner.weight[1] @ observation[0]),
        )
        outputs.append(torch.relu(torch.cat([first, second])))
    return torch.stack(outputs)


def unrolled_lstm(learner: LSTMLearner, observations: Tensor) -> Tensor:
    """The outputs (T, H) of one episode, cut before each segment of `bptt_steps`."""
    cell = nn.LSTMCell(INPUTS, H, dtype=torch.float64)
    weights = dict(learner.lstm.named_parameters())
    h = c = torch.zeros(1, H, dtype=torch.float64)
    outputs = []
    for index, observation in enumerate(observations):
        if index % learner.bptt_steps == 0:
            h, c = h.detach(), c.detach()
        named: dict[str, Tensor] = {name: weights[f"{name}_l0"] for name, _ in cell.named_parameters()}
        h, c = torch.func.functional_call(cell, named, (observation, (h, c)))
        outputs.append(h[0])
    return torch.stack(outputs)


def reference(learner: RecurrentLearner, observations: Tensor) -> Tensor:
    if isinstance(learner, RTULearner):
        return unrolled_rtu(learner, observations)
    if isinstance(learner, SABLearner):
        outputs: Tensor = learner.core(observations)[0]
        return outputs[:, 0]
    assert isinstance(learner, LSTMLearner)
    return unrolled_lstm(learner, observations)


@pytest.mark.parametrize("learner", learners(), ids=["sab", "lstm", "rtu"])
def test_each_steps_gradient_is_that_of_the_whole_episode(learner: RecurrentLearner) -> None:
    parameters = list(learner.parameters())
    for seed in (1, 2):  # the second episode starts from nothing of the first
        observations = episode(seed)
        outputs = reference(learner, observations)
        for index, observation in enumerate(observations):
            output = learner.step(observation, index == 0)
            torch.testing.assert_close(output[0], outputs[index], rtol=1e-12, atol=1e-12)
            cotangent = torch.cos(torch.arange(learner.output_size, dtype=torch.float64) + index)
            expected = torch.autograd.grad(outputs[index] @ cotangent, parameters, retain_graph=True)
            learner.zero_grad()
            learner.backward(cotangent.unsqueeze(0))
            for parameter, gradient in zip(parameters, expected, strict=True):
                assert parameter.grad is not None
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-9)


def test_a_truncated_gradient_is_not_that_of_the_whole_episode() -> None:
    cut, whole = (LSTMLearner(INPUTS, H, bptt_steps=steps).double() for steps in (4, T))
    whole.load_state_dict(cut.state_dict())
    for learner in (cut, whole):
        for index, observation in enumerate(episode()):
            learner.step(observation, index == 0)
        learner.backward(torch.ones(1, H, dtype=torch.float64))
    (mine, *_), (theirs, *_) = ([parameter.grad for parameter in each.parameters()] for each in (cut, whole))
    assert mine is not None
    assert theirs is not None
    assert (mine - theirs).abs().max() > 1e-3


@pytest.mark.parametrize("learner", learners(), ids=["sab", "lstm", "rtu"])
def test_gradients_add_up(learner: RecurrentLearner) -> None:
    learner.step(episode()[0], True)
    learner.backward(torch.ones(1, learner.output_size, dtype=torch.float64))
    once = [parameter.grad.clone() for parameter in learner.parameters() if parameter.grad is not None]
    learner.step(episode()[0], True)
    learner.backward(torch.ones(1, learner.output_size, dtype=torch.float64))
    for parameter, gradient in zip(learner.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


@pytest.mark.parametrize("learner", learners(), ids=["sab", "lstm", "rtu"])
def test_peek_is_the_next_step_and_changes_nothing(learner: RecurrentLearner) -> None:
    observations = episode()
    for index, observation in enumerate(observations[:-1]):
        learner.step(observation, index == 0)
        before = {name: tensor.clone() for name, tensor in learner.carried().items()}
        ahead = learner.peek(observations[index + 1])
        assert all(torch.equal(tensor, before[name]) for name, tensor in learner.carried().items())
    torch.testing.assert_close(learner.step(observations[-1], False), ahead, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("learner", learners(), ids=["sab", "lstm", "rtu"])
def test_rows_acted_on_together_equal_the_stream(learner: RecurrentLearner) -> None:
    streams = torch.cat([episode(1), episode(2)], dim=1)
    state = learner.initial_state(2)
    outputs = []
    for observations in streams:
        output, state = learner(observations, state)
        outputs.append(output)
    for row in range(2):
        for index, observations in enumerate(streams):
            output = learner.step(observations[row : row + 1], index == 0)
            torch.testing.assert_close(output[0], outputs[index][row], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pair", list(zip(learners(), learners(), strict=True)), ids=["sab", "lstm", "rtu"])
def test_a_restored_learner_goes_on_to_the_bit(pair: tuple[RecurrentLearner, RecurrentLearner]) -> None:
    learner, other = pair
    observations = episode()
    for index, observation in enumerate(observations[:6]):
        learner.step(observation, index == 0)
    other.restore({name: tensor.clone() for name, tensor in learner.carried().items()})
    for observation in observations[6:]:
        assert torch.equal(learner.step(observation, False), other.step(observation, False))
        for each in pair:
            each.zero_grad()
            each.backward(torch.ones(1, each.output_size, dtype=torch.float64))
        for mine, theirs in zip(learner.parameters(), other.parameters(), strict=True):
            assert mine.grad is not None
            assert theirs.grad is not None
            assert torch.equal(mine.grad, theirs.grad)


def test_radii_start_on_the_ring_and_stay_finite_at_its_edge() -> None:
    learner = RTULearner(INPUTS, 1000, min_radius=0.9, max_radius=1.0, max_angle=math.pi)
    radius, angle = torch.exp(-torch.exp(learner.nu)), torch.exp(learner.omega)
    assert radius.min() >= 0.9
    assert radius.max() <= 1
    assert angle.max() <= math.pi
    with torch.no_grad():
        learner.nu.fill_(-40.0)  # r rounds to 1
    for index in range(5):
        learner.step(torch.ones(1, INPUTS), index == 0)
        learner.backward(torch.ones(1, 2000))
    assert all(torch.isfinite(parameter.grad).all() for parameter in learner.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"min_radius": 0.9, "max_radius": 0.5}, "min_radius must be below max_radius"),
        ({"max_radius": 1.5}, "max_radius must be a number from 0 to 1, but is 1.5"),
        ({"max_angle": 0.0}, "max_angle must be above 0"),
    ],
)
def test_a_ring_that_is_none_is_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RTULearner(INPUTS, H, **setting)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="bptt_steps must be at least 1, but is 0"):
        LSTMLearner(INPUTS, H, bptt_steps=0)
    with pytest.raises(TypeError, match="hidden_size must be an int"):
        RTULearner(INPUTS, 2.5)  # type: ignore[arg-type]
