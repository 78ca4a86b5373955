"""Key-to-Door: its definition, and the expected numbers of apples against independent calculations."""

from __future__ import annotations

import numpy as np
import pytest

from sab_agents.envs.delayed.key_to_door import most_apples, random_apples
from tests.envs.delayed.definitions import Episode, check_definition, check_returns

ID = "SAB/KeyToDoor-v0"


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


@pytest.mark.parametrize("N", [1, 4, 60])
def test_every_step_follows_the_definition(N: int) -> None:
    check_definition(ID, {"length": N}, lambda draws: key_to_door(N, draws), success=lambda rewards: 5 in rewards)


@pytest.mark.parametrize("N", [1, 7, 60])
def test_scripted_policies_earn_the_stated_returns(N: int) -> None:
    check_returns(ID, {"length": N})


def test_the_apples_grow_evenly_where_their_number_is_extrapolated() -> None:
    for apples, rate in ((most_apples, 0.25), (random_apples, 0.01)):
        computed, extrapolated = apples(2000) - apples(1999), apples(4001) - apples(4000)
        assert extrapolated == pytest.approx(computed, abs=1e-12)
        assert computed == pytest.approx(apples(1900) - apples(1899), abs=1e-11)
        assert computed > rate


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


def test_the_first_apples_can_be_counted_by_hand() -> None:
    """With one step, an apple is taken if it is next to the agent: four of 24 cells, a random move one of four."""
    assert most_apples(1) == pytest.approx(4 / 24)
    assert random_apples(1) == pytest.approx(1 / 24)
    """With two steps: four more neighbours' apples, or one at a distance of two, eight cells."""
    assert most_apples(2) == pytest.approx((4 * (1 + 4 / 24) + 8) / 24)
