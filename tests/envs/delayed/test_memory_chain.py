"""The memory chain: its published definition, its noise, and its stated returns."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, best_by_trying, check_definition, check_returns

ID = "SAB/MemoryChain-v0"


def memory_chain(N: int, bits: int, draws: np.random.Generator) -> Episode:
    """bsuite: an observation is made before the clock moves on, and a step is the last when the clock stood at N."""
    context = [1 if number >= 0.5 else -1 for number in draws.random(bits)]
    query = int(draws.integers(bits))

    def observation(clock: int) -> list[float]:
        shown = [float(bit) if clock == 0 else 0.0 for bit in context]
        return [1 - clock / N, float(query) if clock == N - 1 else 0.0, *shown]

    action = yield observation(0), 0.0, False
    for clock in range(N):
        action = yield observation(clock), 0.0, False
    yield observation(N), 1.0 if action == (context[query] + 1) / 2 else -1.0, True


@pytest.mark.parametrize(("N", "bits"), [(1, 1), (1, 3), (2, 1), (5, 4), (30, 1)])
def test_every_step_follows_the_definition(N: int, bits: int) -> None:
    check_definition(ID, {"length": N, "num_bits": bits}, lambda draws: memory_chain(N, bits, draws))


@pytest.mark.parametrize(
    "settings",
    [
        *({"length": N, "num_bits": bits} for N, bits in ((1, 1), (1, 3), (2, 2), (50, 1), (100, 1))),
        {"length": 20, "num_bits": 2, "noise": 1.0},
    ],
    ids=str,
)
def test_scripted_policies_earn_the_stated_returns(settings: dict[str, Any]) -> None:
    check_returns(ID, settings)
    assert registered(ID).dynamics(**settings).returns.best == 1  # the most that an answer pays


@pytest.mark.parametrize(("N", "stated"), [(1, 1.0), (2, 0.0), (4, 0.0)])
def test_no_function_of_the_current_observation_earns_more(N: int, stated: float) -> None:
    dynamics = registered(ID).dynamics(length=N)
    draws: list[list[Any]] = [[np.array([0.0]), 0], [np.array([1.0]), 0]]
    times = [1 - s / N for s in range(N)]
    rows = [[time, 0.0, bit] for time in times for bit in ((-1.0, 1.0) if time == 1 else (0.0,))]
    assert best_by_trying(dynamics, draws, np.array(rows, dtype=np.float32)) == stated
    assert dynamics.returns.memoryless == stated


def test_noise_fills_the_corridor_and_leaves_the_bits_and_the_query() -> None:
    env = gym.make(f"sab_agents:{ID}", length=50, num_bits=3, noise=0.5).unwrapped
    plain = gym.make(f"sab_agents:{ID}", length=50, num_bits=3).unwrapped
    noisy = []
    shown, _ = env.reset(seed=4)
    expected, _ = plain.reset(seed=4)
    for t in range(51):
        np.testing.assert_array_equal(shown[:2], expected[:2])
        if t < 2:
            np.testing.assert_array_equal(shown, expected)
        else:
            noisy.append(shown[2:])
        shown, reward, *_ = env.step(1)
        expected, expected_reward, *_ = plain.step(1)
        assert reward == expected_reward
    noise = np.array(noisy)
    assert np.unique(noise).size == noise.size
    assert noise.min() > -0.5 < noise.max() < 0.5
    assert abs(noise.std() - 0.5 / 3**0.5) < 0.03


@pytest.mark.parametrize(
    ("value", "error"), [(-0.1, ValueError), (1.5, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_noise_outside_its_range_is_an_error(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"MemoryChain: noise must be a number from 0\.0 to 1\.0, but is"):
        registered(ID).dynamics(noise=value)
