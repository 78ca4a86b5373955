"""The stated returns are what scripted policies earn, and no policy without memory earns more than the stated."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from sab_agents.envs.delayed.key_to_door import most_apples, random_apples
from sab_agents.envs.dynamics import Dynamics
from sab_agents.envs.policies import Policy, Reactive, Uniform
from sab_agents.envs.registration import DELAYED, registered

IDS = [known.id for known in DELAYED]
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *(("SAB/PassiveTMaze-v0", {"corridor_length": L}) for L in (1, 2, 5, 100)),
    *(("SAB/ActiveTMaze-v0", {"corridor_length": L}) for L in (1, 2, 5, 100)),
    *(("SAB/MemoryChain-v0", {"length": N, "num_bits": bits}) for N, bits in ((1, 1), (1, 3), (2, 2), (100, 1))),
    ("SAB/MemoryChain-v0", {"length": 20, "num_bits": 2, "noise": 1.0}),
    *(("SAB/Umbrella-v0", {"length": N}) for N in (1, 2, 100)),
    *(("SAB/DiscountingChain-v0", {"length": N, "bonus_chain": bonus}) for N, bonus in ((1, 0), (100, 4), (37, 2))),
    *(("SAB/FirstStepCredit-v0", {"length": N}) for N in (1, 128)),
    *(("SAB/KeyToDoor-v0", {"length": N}) for N in (1, 7, 60)),
    *(("SAB/DelayedCatch-v0", {"length": N}) for N in (1, 10)),
]


def earned(env_id: str, arguments: dict[str, Any], policy: Policy, episodes: int = 2000) -> npt.NDArray[np.float64]:
    """The returns of this many episodes, the first of each of as many copies."""
    envs = gym.make_vec(f"sab_agents:{env_id}", num_envs=episodes, **arguments)
    observations, _ = envs.reset(seed=1)
    returns = np.zeros(episodes)
    running = np.ones(episodes, dtype=np.bool_)
    start = running.copy()
    while running.any():
        observations, rewards, terminated, truncated, _ = envs.step(policy.act(observations, start))
        returns += rewards * running
        running &= ~(terminated | truncated)
        start[:] = False
    return returns


def within_its_standard_error(returns: npt.NDArray[np.float64], stated: float | None) -> bool:
    """Whether the mean lies within four standard errors, or where nothing is random exactly at, the stated."""
    assert stated is not None
    return bool(abs(returns.mean() - stated) <= 4 * returns.std() / len(returns) ** 0.5 + 1e-9)


@pytest.mark.parametrize(("env_id", "arguments"), SETTINGS, ids=str)
def test_scripted_policies_earn_what_is_stated(env_id: str, arguments: dict[str, Any]) -> None:
    dynamics = registered(env_id).dynamics(**arguments)
    stated = dynamics.returns
    assert within_its_standard_error(earned(env_id, arguments, dynamics.oracle()), stated.best)
    assert within_its_standard_error(earned(env_id, arguments, dynamics.memoryless()), stated.memoryless)
    assert within_its_standard_error(earned(env_id, arguments, Uniform(dynamics.action_space, seed=3)), stated.random)


@pytest.mark.parametrize("env_id", IDS)
def test_the_memoryless_policy_has_no_memory_and_a_new_episode_empties_the_oracles(env_id: str) -> None:
    dynamics = registered(env_id).dynamics(**{registered(env_id).dynamics().length_argument: 5})
    assert isinstance(dynamics.memoryless(), Reactive)
    arguments: dict[str, Any] = {dynamics.length_argument: 5}
    envs = gym.make_vec(f"sab_agents:{env_id}", num_envs=50, autoreset_mode="SameStep", **arguments)
    policy = dynamics.oracle()
    observations, _ = envs.reset(seed=2)
    start = np.ones(50, dtype=np.bool_)
    total, ends = np.zeros(50), []
    for _ in range(200):
        observations, rewards, terminated, _, _ = envs.step(policy.act(observations, start))
        start = terminated
        total += rewards
        if terminated.all():
            ends.append(total.copy())
            total[:] = 0
    assert within_its_standard_error(np.concatenate(ends), dynamics.returns.best)


def best_by_trying(dynamics: Dynamics, draws: list[list[Any]], rows: npt.NDArray[Any]) -> float:
    """The best mean return over equally likely episodes of all the functions from observations to actions.

    Args:
        dynamics: the task.
        draws: for each equally likely episode what its generator draws, in order.
        rows: (m, …) all observations on which an action may depend.
    """
    actions = range(int(getattr(dynamics.action_space, "n")))  # noqa: B009
    policies = np.array(list(itertools.product(actions, repeat=len(rows))))
    n = len(draws)
    dynamics.allocate(n * len(policies))
    generators: list[Any] = [Scripted(draw) for _ in policies for draw in draws]
    dynamics.begin(np.arange(dynamics.n), generators)
    total = np.zeros(dynamics.n)
    assert dynamics.horizon is not None
    for _ in range(dynamics.horizon):
        seen = (dynamics.observe()[:, None] == rows).all(axis=-1)
        assert seen.any(axis=1).all(), "an observation is missing from the list"
        rewards, _, _ = dynamics.advance(policies.repeat(n, axis=0)[np.arange(dynamics.n), seen.argmax(axis=1)])
        total += rewards
    return float(total.reshape(-1, n).mean(axis=1).max())


class Scripted:
    """A generator whose draws are given, one list entry for each call."""

    def __init__(self, draws: list[Any]) -> None:
        self._draws = iter(draws)

    def random(self, size: int | None = None) -> Any:  # noqa: ARG002
        return next(self._draws)

    def integers(self, *_: Any, **__: Any) -> Any:
        return next(self._draws)


MAZE = np.array([[0, 1], [0, -1], [0, 0], [1, 0], [1, 1], [1, -1]], dtype=np.float32)
SIDES: list[list[Any]] = [[0.0], [1.0]]


@pytest.mark.parametrize("name", ["PassiveTMaze", "ActiveTMaze"])
@pytest.mark.parametrize("L", [1, 2, 3])
def test_no_function_of_the_present_observation_earns_more_in_a_maze(name: str, L: int) -> None:
    """All 4^6 of them are tried; that chance does not help either is argued in the class."""
    dynamics = registered(f"SAB/{name}-v0").dynamics(corridor_length=L)
    assert best_by_trying(dynamics, SIDES, MAZE) == dynamics.returns.memoryless == 0.5


@pytest.mark.parametrize(("N", "stated"), [(1, 1.0), (2, 0.0), (4, 0.0)])
def test_no_function_of_the_present_observation_earns_more_in_the_memory_chain(N: int, stated: float) -> None:
    dynamics = registered("SAB/MemoryChain-v0").dynamics(length=N)
    draws: list[list[Any]] = [[np.array([0.0]), 0], [np.array([1.0]), 0]]
    times = [1 - s / N for s in range(N)]
    rows = [[time, 0.0, bit] for time in times for bit in ((-1.0, 1.0) if time == 1 else (0.0,))]
    assert best_by_trying(dynamics, draws, np.array(rows, dtype=np.float32)) == stated
    assert dynamics.returns.memoryless == stated


@pytest.mark.parametrize(
    ("env_id", "most"),
    [
        ("SAB/PassiveTMaze-v0", lambda _: 1.0),
        ("SAB/ActiveTMaze-v0", lambda _: 1.0),
        ("SAB/MemoryChain-v0", lambda _: 1.0),
        ("SAB/Umbrella-v0", lambda _: 1.0),
        ("SAB/DiscountingChain-v0", lambda _: 1.1),
        ("SAB/FirstStepCredit-v0", lambda _: 1.0),
        ("SAB/DelayedCatch-v0", float),
    ],
)
def test_the_best_is_the_most_that_the_rewards_can_add_up_to(env_id: str, most: Callable[[int], float]) -> None:
    """What the oracle earns is therefore the best: no policy can earn more than every reward there is."""
    for length in (1, 2, 50):
        dynamics = registered(env_id).dynamics(**{registered(env_id).dynamics().length_argument: length})
        assert dynamics.returns.best == most(length)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("L", [1, 2, 3, 8, 40])
def test_the_random_return_of_a_maze_is_that_of_its_markov_chain(start: int, L: int) -> None:
    name = "SAB/ActiveTMaze-v0" if start else "SAB/PassiveTMaze-v0"
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
    assert registered(name).dynamics(corridor_length=L).returns.random == pytest.approx(total, abs=1e-12)


def test_the_apples_of_a_room_grow_evenly_where_their_number_is_continued() -> None:
    for apples, rate in ((most_apples, 0.25), (random_apples, 0.01)):
        counted, continued = apples(2000) - apples(1999), apples(4001) - apples(4000)
        assert continued == pytest.approx(counted, abs=1e-12)
        assert counted == pytest.approx(apples(1900) - apples(1899), abs=1e-11)
        assert counted > rate


@pytest.mark.parametrize("N", [1, 5, 13])
def test_no_way_to_the_apples_is_better_than_the_straight_one(N: int) -> None:
    """Value iteration over all positions of agent and apple, with the best of the four moves at each step."""
    cells = [(row, column) for row in range(5) for column in range(5)]
    worth = np.zeros((25, 25))  # [agent, apple], with no step left
    for _ in range(N):
        fresh = (worth.sum(axis=1) - np.diagonal(worth)) / 24  # an agent whose apple has just been taken
        moves = []
        for down, right in ((0, 1), (-1, 0), (0, -1), (1, 0)):
            to = [5 * min(max(row + down, 0), 4) + min(max(column + right, 0), 4) for row, column in cells]
            moves.append(np.where(np.array(to)[:, None] == np.arange(25), (1 + fresh)[to][:, None], worth[to]))
        worth = np.max(moves, axis=0)
    best = (worth[12].sum() - worth[12, 12]) / 24
    assert most_apples(N) == pytest.approx(best, abs=1e-12)


def test_every_first_apple_counts() -> None:
    """With one step, an apple is taken where it lies beside the agent: four of 24 cells, a random move one of four."""
    assert most_apples(1) == pytest.approx(4 / 24)
    assert random_apples(1) == pytest.approx(1 / 24)
    """With two steps: four more neighbours' apples, or one at a distance of two, eight cells."""
    assert most_apples(2) == pytest.approx((4 * (1 + 4 / 24) + 8) / 24)


def test_long_tasks_state_their_returns_at_once() -> None:
    for env_id in IDS:
        dynamics = registered(env_id).dynamics(**{registered(env_id).dynamics().length_argument: 1_000_000})
        assert np.isfinite(np.array(list(asdict(dynamics.returns).values()), dtype=np.float64)).all()
