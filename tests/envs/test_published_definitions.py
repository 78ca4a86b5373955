"""T-Mazes, chains, catch and rooms against transcriptions of their definitions, step for step, for random actions.

Each transcription is one plain copy, written from the definition and not from the environment. It draws its random
numbers from the same generator, in the order that the environment documents.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

RIGHT, LEFT = 0, 2
Episode = Generator[tuple[list[float], float, bool], int, None]


def passive_or_active(start: int, L: int, draws: np.random.Generator) -> Episode:
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


def discounting_chain(bonus: int, draws: np.random.Generator) -> Episode:  # noqa: ARG001
    """bsuite: the chain of the first action pays after 1, 3, 10, 30 or 100 of 100 steps, one of them 0.1 more."""
    chain = yield [-1.0, 0.0], 0.0, False
    for t in range(1, 101):
        pays = t == [1, 3, 10, 30, 100][chain]
        yield [float(chain), t / 100], (1.1 if chain == bonus else 1.0) if pays else 0.0, t == 100


def first_step(N: int, draws: np.random.Generator) -> Episode:  # noqa: ARG001
    """PufferLib #478: the first action must be 0; the previous one is observed."""
    first = action = yield [0.0, 0.0], 0.0, False
    for t in range(1, N + 1):
        action = yield [float(action == 0), float(action == 1)], float(t == N and first == 0), t == N


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


def key_to_door(N: int, draws: np.random.Generator) -> Episode:
    """Ten steps with a key, N with apples, ten with a door; agent and things are cells (row, column) of 5 x 5."""
    places = draws.integers(24, size=N + 3, dtype=np.int8).tolist()
    key_place, door_place, *apple_places = places

    def placed(agent: tuple[int, int], place: int) -> tuple[int, int]:
        return divmod((5 * agent[0] + agent[1] + 1 + place) % 25, 5)

    def observation(room: int, agent: tuple[int, int], thing: tuple[int, int] | None) -> list[float]:
        seen = [float(number == room) for number in range(3)]
        for place in (*agent, *(thing or (None, None))):
            seen += [float(place == number) for number in range(5)]
        return seen

    has_key, reward = False, 0.0
    for room, steps in enumerate((10, N, 10)):
        agent = (2, 2)
        thing: tuple[int, int] | None = placed(
            agent, (key_place, apple_places.pop(0) if room == 1 else 0, door_place)[room]
        )
        for _ in range(steps):
            action = yield observation(room, agent, thing), reward, False
            row, column = agent[0] + (0, -1, 0, 1)[action], agent[1] + (1, 0, -1, 0)[action]
            agent = (min(max(row, 0), 4), min(max(column, 0), 4))
            reward = 0.0
            if agent == thing and room == 0:
                has_key, thing = True, None
            elif agent == thing and room == 1:
                reward, thing = 1.0, placed(agent, apple_places.pop(0))
            elif agent == thing and has_key:
                reward, thing = 5.0, None
    yield observation(2, agent, thing), reward, True


CASES: list[tuple[str, dict[str, Any], Any]] = [
    *(("PassiveTMaze", {"corridor_length": L}, lambda g, L=L: passive_or_active(0, L, g)) for L in (1, 2, 3, 7, 60)),
    *(("ActiveTMaze", {"corridor_length": L}, lambda g, L=L: passive_or_active(1, L, g)) for L in (1, 2, 3, 7, 60)),
    *(
        ("MemoryChain", {"length": N, "num_bits": bits}, lambda g, N=N, bits=bits: memory_chain(N, bits, g))
        for N, bits in ((1, 1), (1, 3), (2, 1), (5, 4), (30, 1))
    ),
    *(
        ("Umbrella", {"length": N, "distractors": D}, lambda g, N=N, D=D: umbrella(N, D, g))
        for N, D in ((1, 0), (1, 20), (2, 20), (9, 3), (50, 20))
    ),
    *(
        ("DiscountingChain", {"bonus_chain": bonus}, lambda g, bonus=bonus: discounting_chain(bonus, g))
        for bonus in (0, 4)
    ),
    *(("FirstStepCredit", {"length": N}, lambda g, N=N: first_step(N, g)) for N in (1, 2, 20)),
    *(("DelayedCatch", {"length": N}, lambda g, N=N: delayed_catch(N, g)) for N in (1, 2, 6)),
    *(("KeyToDoor", {"length": N}, lambda g, N=N: key_to_door(N, g)) for N in (1, 4, 60)),
]


WITH_A_GOAL = {"PassiveTMaze", "ActiveTMaze", "Umbrella", "KeyToDoor"}


@pytest.mark.parametrize(
    ("name", "arguments", "transcribed"), CASES, ids=[f"{name}-{given}" for name, given, _ in CASES]
)
def test_every_step_is_as_the_definition_says(name: str, arguments: dict[str, Any], transcribed: Any) -> None:
    env = gym.make(f"sab_agents:SAB/{name}-v0", **arguments).unwrapped
    env.action_space.seed(1)
    likely = np.random.default_rng(2)
    returns = set()
    for episode in range(40):
        wanders = likely.choice([0, 0.1, 1])  # a maze's end is reached only by going straight
        observation, _ = env.reset(seed=episode)
        published = transcribed(np.random.default_rng(episode))
        seen, reward, ended = next(published)
        terminated = False
        earned: Any = 0.0
        total, steps = 0.0, 0
        info: dict[str, Any] = {}
        opened = False
        while not terminated:
            assert "is_success" not in info
            np.testing.assert_array_equal(observation, np.float32(seen))
            assert earned == pytest.approx(reward, abs=1e-15)
            assert not ended
            action = env.action_space.sample()
            if name.endswith("TMaze") and observation[0] == 0 and likely.random() >= wanders:
                action = np.int64(LEFT if name == "ActiveTMaze" and steps == 0 else RIGHT)
            observation, earned, terminated, truncated, info = env.step(action)
            total, steps, opened = total + earned, steps + 1, opened or earned == 5
            assert not truncated
            seen, reward, ended = published.send(int(action))
        np.testing.assert_array_equal(observation, np.float32(seen))
        assert earned == pytest.approx(reward, abs=1e-15)
        assert ended
        if name in WITH_A_GOAL:
            assert info["is_success"] == (opened if name == "KeyToDoor" else earned == 1)
        returns.add(round(total, 9))
    assert len(returns) > 1, "the episodes told nothing apart"
    assert not name.endswith("TMaze") or max(returns) == 1


def test_noise_fills_the_corridor_and_leaves_the_bits_and_the_query() -> None:
    env = gym.make("sab_agents:SAB/MemoryChain-v0", length=50, num_bits=3, noise=0.5).unwrapped
    plain = gym.make("sab_agents:SAB/MemoryChain-v0", length=50, num_bits=3).unwrapped
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


@pytest.mark.parametrize(("length", "times"), [(100, [1, 3, 10, 30, 100]), (1, [1] * 5), (7, [1, 1, 1, 3, 7])])
def test_the_discounting_chains_pay_at_their_share_of_the_episode(length: int, times: list[int]) -> None:
    envs = gym.make_vec("sab_agents:SAB/DiscountingChain-v0", num_envs=5, length=length, bonus_chain=2)
    envs.reset()
    rewards = np.array([envs.step(np.arange(5))[1] for _ in range(length)])
    assert (rewards.argmax(axis=0) + 1).tolist() == times
    np.testing.assert_allclose(rewards.sum(axis=0), [1, 1, 1.1, 1, 1])
