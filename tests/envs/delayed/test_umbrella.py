"""The umbrella chain: its published definition and its stated returns."""

from __future__ import annotations

import numpy as np
import pytest

from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, check_definition, check_returns

ID = "SAB/Umbrella-v0"


def umbrella(N: int, D: int, draws: np.random.Generator) -> Episode:
    """bsuite: the first action sets whether one has the umbrella, the last reward says whether that was right."""
    need, has = (float(number >= 0.5) for number in draws.random(2))
    rewards = [2.0 * bit - 1 for bit in draws.integers(2, size=N - 1, dtype=np.int8)]
    distractors = draws.integers(2, size=(N + 1, D), dtype=np.int8).tolist()
    action = yield [need, has, 1.0, *distractors[0]], 0.0, False
    has = float(action)
    for t in range(1, N):
        yield [need, has, 1 - t / N, *distractors[t]], rewards[t - 1], False
    yield [need, has, 0.0, *distractors[N]], 1.0 if need == has else -1.0, True


@pytest.mark.parametrize(("N", "D"), [(1, 0), (1, 20), (2, 20), (9, 3), (50, 20)])
def test_every_step_follows_the_definition(N: int, D: int) -> None:
    check_definition(
        ID,
        {"length": N, "distractors": D},
        lambda draws: umbrella(N, D, draws),
        success=lambda rewards: rewards[-1] == 1,
    )


@pytest.mark.parametrize("N", [1, 2, 50, 100])
def test_scripted_policies_earn_the_stated_returns(N: int) -> None:
    check_returns(ID, {"length": N})
    assert registered(ID).dynamics(length=N).returns.best == 1  # the most that a last reward can be
