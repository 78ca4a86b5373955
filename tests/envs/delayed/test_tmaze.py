"""The T-mazes: their published definition, the returns of scripted policies, and those that no policy exceeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, best_by_trying, check_definition, check_returns

RIGHT, LEFT = 0, 2
PASSIVE, ACTIVE = "SAB/PassiveTMaze-v0", "SAB/ActiveTMaze-v0"
START = {PASSIVE: 0, ACTIVE: 1}
both = pytest.mark.parametrize("env_id", [PASSIVE, ACTIVE])


def t_maze(start: int, L: int, draws: np.random.Generator) -> Episode:
    """Ni et al. (2023): oracle at x = 0, junction at x = start + L, horizon L + 1 + 2 start."""
    goal = 1 if draws.random() >= 0.5 else -1
    x, y, visited = start, 0, False
    horizon = L + 1 + 2 * start
    reward, ended = 0.0, False
    for t in range(1, horizon + 2):
        if x == start + L:
            seen = [1.0, y]
        elif x == 0 and not visited:
            visited, seen = True, [0.0, goal]
        else:
            seen = [0.0, 0.0]
        action = yield seen, reward, ended
        new_x, new_y = (
            x + (1, 0, -1, 0)[action],
            y + (0, 1, 0, -1)[action],
        )
        if (new_y == 0 and 0 <= new_x <= start + L) or (new_x == start + L and new_y in (-1, 1)):
            x, y = new_x, new_y
        ended = t == horizon
        reward = float(y == goal) if ended else -1 / L * (x < t - start)


@both
@pytest.mark.parametrize("L", [1, 2, 3, 7, 60])
def test_every_step_follows_the_definition(env_id: str, L: int) -> None:
    start = START[env_id]

    def steer(observation: npt.NDArray[np.float32], step: int) -> int | None:
        """The end is only reached by moving straight."""
        return None if observation[0] != 0 else LEFT if start and step == 0 else RIGHT

    returns = check_definition(
        env_id,
        {"corridor_length": L},
        lambda draws: t_maze(start, L, draws),
        steer=steer,
        success=lambda rewards: rewards[-1] == 1,
    )
    assert max(returns) == 1


@both
@pytest.mark.parametrize("L", [1, 2, 5, 100])
def test_scripted_policies_earn_the_stated_returns(env_id: str, L: int) -> None:
    check_returns(env_id, {"corridor_length": L})
    assert registered(env_id).dynamics(corridor_length=L).returns.best == 1  # the most that a goal pays


OBSERVATIONS = np.array([[0, 1], [0, -1], [0, 0], [1, 0], [1, 1], [1, -1]], dtype=np.float32)
SIDES: list[list[Any]] = [[0.0], [1.0]]


@both
@pytest.mark.parametrize("L", [1, 2, 3])
def test_no_function_of_the_current_observation_earns_more(env_id: str, L: int) -> None:
    """All 4^6 of them are tried; the class docstring says why a random choice does not help either."""
    dynamics = registered(env_id).dynamics(corridor_length=L)
    assert best_by_trying(dynamics, SIDES, OBSERVATIONS) == dynamics.returns.memoryless == 0.5


@both
@pytest.mark.parametrize("L", [1, 2, 3, 8, 40])
def test_the_random_return_is_that_of_the_markov_chain(env_id: str, L: int) -> None:
    start = START[env_id]
    cells = [(x, 0) for x in range(start + L + 1)] + [(start + L, 1), (start + L, -1)]
    horizon = L + 2 * start + 1
    chances, total = {(start, 0): 1.0}, 0.0
    for t in range(1, horizon + 1):
        after = dict.fromkeys(cells, 0.0)
        for (x, y), chance in chances.items():
            for move in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
                after[move if move in after else (x, y)] += chance / 4
        chances = after
        if t < horizon:
            total -= sum(chance for (x, _), chance in chances.items() if x < t - start) / L
    total += chances[start + L, 1]
    assert registered(env_id).dynamics(corridor_length=L).returns.random == pytest.approx(total, abs=1e-12)
