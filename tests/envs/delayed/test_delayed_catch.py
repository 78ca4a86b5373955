"""Delayed catch: its definition and its stated returns."""

from __future__ import annotations

import numpy as np
import pytest

from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, check_definition, check_returns

ID = "SAB/DelayedCatch-v0"


def delayed_catch(N: int, draws: np.random.Generator) -> Episode:
    """Balls fall over rows 0 … 6, one after the other; what was caught pays at the end."""
    columns = draws.integers(7, size=N, dtype=np.int8).tolist()
    paddle, caught, ended = 3, 0, False
    for ball, column in enumerate(columns):
        for row in range(7):
            if row == 6 and paddle == column:
                caught += 1
            board = np.zeros((7, 7))
            board[row, column] = board[6, paddle] = 1
            ended = ball == N - 1 and row == 6
            action = yield board.ravel().tolist(), float(caught) if ended else 0.0, ended
            paddle = min(max(paddle + action - 1, 0), 6)


@pytest.mark.parametrize("N", [1, 2, 6])
def test_every_step_follows_the_definition(N: int) -> None:
    check_definition(ID, {"length": N}, lambda draws: delayed_catch(N, draws))


@pytest.mark.parametrize("N", [1, 2, 10, 50])
def test_scripted_policies_earn_the_stated_returns(N: int) -> None:
    check_returns(ID, {"length": N})
    assert registered(ID).dynamics(length=N).returns.best == N  # every ball is caught
