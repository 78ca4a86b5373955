"""First-step credit: its published definition and its stated returns."""

from __future__ import annotations

import numpy as np
import pytest

from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, check_definition, check_returns

ID = "SAB/FirstStepCredit-v0"


def first_step(N: int, _draws: np.random.Generator) -> Episode:
    """PufferLib #478: the first action must be 0; the previous one is observed."""
    first = action = yield [0.0, 0.0], 0.0, False
    for t in range(1, N + 1):
        action = yield [float(action == 0), float(action == 1)], float(t == N and first == 0), t == N


@pytest.mark.parametrize("N", [1, 2, 20])
def test_every_step_follows_the_definition(N: int) -> None:
    check_definition(ID, {"length": N}, lambda draws: first_step(N, draws))


@pytest.mark.parametrize("N", [1, 2, 50, 128])
def test_scripted_policies_earn_the_stated_returns(N: int) -> None:
    check_returns(ID, {"length": N})
    assert registered(ID).dynamics(length=N).returns.best == 1  # the most that the only reward can be
