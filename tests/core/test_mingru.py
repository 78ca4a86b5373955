"""MinGRU: its recurrence, its exact sensitivity, and every learner that knows it by its name.

Dimensions: T steps, B rows, I input size, H hidden size.
"""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC, build_core
from sab_agents.core import MinGRU
from tests.core.baseline_cases import F64, B, H, I, T, close, inputs, random_starts, same_state, stepped


def core(**settings: Any) -> MinGRU:
    torch.manual_seed(0)
    built = build_core("mingru", I, H, dtype=F64, **settings)
    assert isinstance(built, MinGRU)
    return built


@torch.no_grad()
def by_hand(of: MinGRU, x: Tensor, starts: Tensor) -> Tensor:
    """The recurrence as its docstring says it, one number at a time."""
    outputs = torch.zeros(T, B, H, dtype=F64)
    for b in range(B):
        h = [0.0] * H
        for t in range(T):
            h = [0.0] * H if starts[t, b] else h
            for i in range(H):
                gate = float(of.gate.weight[i] @ x[t, b] + of.gate.bias[i])
                candidate = float(of.candidate.weight[i] @ x[t, b] + of.candidate.bias[i])
                z = 1 / (1 + np.exp(-gate))
                h[i] = (1 - z) * h[i] + z * candidate
            outputs[t, b] = torch.tensor(h, dtype=F64)
    return outputs


def test_a_sequence_equals_the_recurrence_by_hand_and_step_by_step() -> None:
    mingru, x, starts = core(), inputs(), random_starts()
    output, state = mingru(x, None, starts)
    close(output, by_hand(mingru, x, starts))
    steps, after = stepped(mingru, x, starts)
    close(output, steps)
    same_state(state, after)


def test_a_sequence_in_two_calls_equals_one() -> None:
    mingru, x, starts = core(), inputs(), random_starts()
    whole, end = mingru(x, None, starts)
    first, state = mingru(x[:5], None, starts[:5])
    second, last = mingru(x[5:], state, starts[5:])
    close(torch.cat([first, second]), whole)
    same_state(last, end)


def test_gradients_are_those_of_finite_differences() -> None:
    mingru, x, starts = core(), inputs(5, 2).requires_grad_(), random_starts()[:5, :2]
    assert torch.autograd.gradcheck(lambda x: mingru(x, None, starts)[0], (x,))


def test_the_sensitivity_is_the_derivative_of_the_state() -> None:
    mingru, x, starts = core(), inputs(), random_starts()
    sensitivity = mingru.initial_sensitivity(B)
    state = mingru.initial_state(B)
    for part in (slice(0, 4), slice(4, 5), slice(5, T)):
        sensitivity = mingru.advance_sensitivity(x[part], state, starts[part], sensitivity)
        state = mingru(x[part], state, starts[part])[1].detach()
    weights = torch.randn(B, H, dtype=F64)
    mingru.backward_sensitivity((weights,), sensitivity)
    carried = [parameter.grad for parameter in mingru.parameters()]
    expected = torch.autograd.grad((mingru(x, None, starts)[1].h * weights).sum(), list(mingru.parameters()))
    for actual, wanted in zip(carried, expected, strict=True):
        assert actual is not None
        close(actual, wanted)
    assert all(gradient.abs().sum() > 0 for gradient in expected)


def test_a_step_of_state_and_sensitivity_equals_a_sequence_of_one() -> None:
    mingru, x = core(), inputs()
    starts = torch.zeros(1, B, dtype=torch.bool)
    state, sensitivity = mingru.initial_state(B), mingru.initial_sensitivity(B)
    for t in range(T):
        expected = mingru.advance_sensitivity(x[t : t + 1], state, starts, sensitivity)
        output, after = mingru.step(x[t], state)
        got, state, sensitivity = mingru.step_sensitivity(x[t], state, sensitivity)
        close(got, output)
        same_state(state, after.detach())
        for actual, wanted in zip(sensitivity, expected, strict=True):
            close(actual, wanted)


@torch.no_grad()
def test_time_constants_begin_between_two_and_the_longest() -> None:
    timescale = 1 / torch.sigmoid(MinGRU(2, 4000, max_timescale=500.0, dtype=F64).gate.bias)
    assert float(timescale.min()) >= 2 - 1e-9
    assert float(timescale.max()) <= 500 + 1e-9
    assert float(timescale.log().mean()) == pytest.approx((np.log(2) + np.log(500)) / 2, abs=0.1)
    close(MinGRU(2, 5, max_timescale=2.0, dtype=F64).gate.bias, torch.zeros(5, dtype=F64))


@pytest.mark.parametrize("value", [1.9, float("inf"), float("nan")])
def test_a_time_constant_out_of_range_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match=re.escape(f"max_timescale must be at least 2 and finite, but is {value}")):
        MinGRU(2, 4, max_timescale=value)


def test_an_online_learner_recalls_with_it_what_left_the_window() -> None:
    learner = OnlineLearner(3, 2, core="mingru", hidden_size=16, update_every=2, learning_rate=0.01, max_timescale=10.0)
    generator, right = np.random.default_rng(0), []
    for _ in range(600):
        cue = int(generator.integers(2))
        for step in range(7):  # three windows of two steps lie between cue and question
            x = np.zeros(3, np.float32)
            x[cue if step == 0 else 2] = float(step in {0, 6})
            if step == 6:
                right.append(learner.predict_one(x, episode_start=False) == cue)
            learner.learn_one(x, cue if step == 6 else None, episode_start=step == 0)
    assert np.mean(right[-100:]) > 0.95  # a memoryless learner has 0.5


def test_streaming_agents_and_ppo_have_policies_of_it() -> None:
    streaming = StreamAC("MlpMinGruPolicy", "SAB/MemoryChain-v0", policy_kwargs={"hidden_size": 8, "width": 8}, seed=0)
    assert streaming.learn(50).num_timesteps == 50
    env = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2, corridor_length=4)
    ppo = RecurrentPPO("MlpMinGruPolicy", env, n_steps=8, policy_kwargs={"lstm_hidden_size": 8}, seed=0)
    assert ppo.learn(32).num_timesteps == 32
    assert {"CnnMinGruPolicy", "MultiInputMinGruPolicy"} <= set(RecurrentPPO.policy_aliases)
    with pytest.raises(TypeError, match="Did you mean 'max_timescale'"):
        RecurrentPPO("MlpMinGruPolicy", env, policy_kwargs={"core_kwargs": {"max_time_scale": 3}})
