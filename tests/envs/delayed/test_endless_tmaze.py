"""The Endless T-Maze: its definition, the returns of scripted policies, and those that no policy exceeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from sab_agents.envs.arrays import Array, Bools, Floats, Ints
from sab_agents.envs.delayed.endless_tmaze import EndlessTMaze
from sab_agents.envs.policies import Remembering
from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, best_by_trying, check_definition, check_returns, earned

ID = "SAB/EndlessTMaze-v0"
FORWARD, LEFT, RIGHT = 0, 1, 2


def endless_tmaze(L: int, C: int, lengths: str, wrong_turn_ends: bool, draws: np.random.Generator) -> Episode:
    """A chain of C corridors; each begins with a cue and ends with the turn that it says."""
    cues = draws.integers(2, size=C, dtype=np.int8).tolist()
    own = draws.integers(1, L + 1, size=C).tolist() if lengths == "uniform" else [L] * C
    reward = 0.0
    for number, (cue, length) in enumerate(zip(cues, own, strict=True), start=1):
        x = 0
        while True:
            shown = [float(x == 0 and cue == 0), float(x == 0 and cue == 1)]
            action = yield [x / length, *shown], reward, False
            if x == length:
                reward = 1.0 if action == (RIGHT if cue else LEFT) else -1.0
                break
            x += action == FORWARD
            reward = 0.0 if action == FORWARD else -1 / L
        if number == C or (wrong_turn_ends and reward < 0):
            yield [1.0, 0.0, 0.0], reward, True
            return


@pytest.mark.parametrize("wrong_turn_ends", [True, False])
@pytest.mark.parametrize("lengths", ["fixed", "uniform"])
@pytest.mark.parametrize(("L", "C"), [(1, 8), (3, 4), (12, 3), (40, 1)])
def test_every_step_follows_the_definition(L: int, C: int, lengths: str, wrong_turn_ends: bool) -> None:
    newest = [0]

    def steer(observation: npt.NDArray[np.float32], _step: int) -> int:
        if observation[1:].any():
            newest[0] = LEFT + int(observation[1:].argmax())
        return FORWARD if observation[0] < 1 else newest[0]

    returns = check_definition(
        ID,
        {"corridor_length": L, "corridors": C, "lengths": lengths, "wrong_turn_ends": wrong_turn_ends},
        lambda draws: endless_tmaze(L, C, lengths, wrong_turn_ends, draws),
        steer=steer,
        success=lambda rewards: rewards.count(1) == C,
    )
    assert max(returns) == C


SETTINGS: list[dict[str, Any]] = [
    {"corridor_length": L, "corridors": C, "lengths": lengths, "wrong_turn_ends": ends}
    for L, C, lengths, ends in [
        (1, 1, "fixed", True),
        (2, 3, "fixed", True),
        (2, 3, "uniform", False),
        (5, 4, "uniform", True),
        (10, 12, "fixed", False),
        (60, 4, "uniform", True),
    ]
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_scripted_policies_earn_the_stated_returns(settings: dict[str, Any]) -> None:
    check_returns(ID, settings)
    assert registered(ID).dynamics(**settings).returns.best == settings["corridors"]  # the most that the turns pay


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_random_return_is_that_of_the_markov_chain(settings: dict[str, Any]) -> None:
    """The worth of a corridor and a place in it, with so many steps left: one more step at a time."""
    L, C = settings["corridor_length"], settings["corridors"]
    starts = [L] if settings["lengths"] == "fixed" else list(range(1, L + 1))
    worth = np.zeros((C + 1, L + 1))  # [corridor, steps to its junction]; nothing after the last corridor
    for _ in range(6 * C * (L + 1)):
        entered = worth[:, starts].mean(axis=1)
        after = np.zeros_like(worth)
        for corridor in range(C):
            other = 0.0 if settings["wrong_turn_ends"] else entered[corridor + 1]
            after[corridor, 0] = (1 + entered[corridor + 1]) / 3 + 2 * (-1 + other) / 3
            for left in range(1, L + 1):
                after[corridor, left] = worth[corridor, left - 1] / 3 + 2 * (worth[corridor, left] - 1 / L) / 3
        worth = after
    stated = registered(ID).dynamics(**settings).returns.random
    assert stated == pytest.approx(worth[0, starts].mean(), abs=1e-9)


class OneEpisode(EndlessTMaze):
    """Pays nothing after the end of an episode, which not all copies reach at the same step."""

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        super().begin(copies, generators)
        self.over = np.zeros(self.n, np.bool_)

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        rewards, terminated, truncated = super().advance(actions)
        rewards[self.over] = 0
        self.over |= terminated | truncated
        return rewards, terminated, truncated


@pytest.mark.parametrize("wrong_turn_ends", [True, False])
@pytest.mark.parametrize(("L", "C"), [(1, 1), (1, 3), (2, 2), (3, 2)])
def test_no_function_of_the_current_observation_earns_more(L: int, C: int, wrong_turn_ends: bool) -> None:
    draws: list[list[Any]] = [[np.array(cues, np.int8)] for cues in itertools.product((0, 1), repeat=C)]
    rows = [[0, 1, 0], [0, 0, 1], *([x / L, 0, 0] for x in range(1, L + 1))]
    dynamics = OneEpisode(corridor_length=L, corridors=C, wrong_turn_ends=wrong_turn_ends)
    best = best_by_trying(dynamics, draws, np.array(rows, dtype=np.float32))
    assert best == dynamics.returns.memoryless == 0


def test_the_first_cue_alone_is_worth_one_turn_on_average() -> None:
    """An agent that keeps the first cue of an episode is right there, and as good as guessing afterwards."""
    keeps = Remembering(
        lambda observations, cue, start: np.where(start, LEFT + observations[:, 1:].argmax(axis=1), cue).astype(
            np.int64
        ),
        lambda observations, cue, _start: np.where(observations[:, 0] < 1, FORWARD, cue),
    )
    for ends in (True, False):
        returns = earned(ID, {"corridor_length": 3, "corridors": 6, "wrong_turn_ends": ends}, keeps)
        assert returns.mean() == pytest.approx(1, abs=4 * returns.std() / len(returns) ** 0.5)


def test_an_agent_that_waits_is_truncated_after_six_times_the_steps_of_the_way() -> None:
    env = gym.make(f"sab_agents:{ID}", corridor_length=4, corridors=3).unwrapped
    env.reset(seed=0)
    for step in range(1, 6 * 3 * 5 + 1):
        observation, reward, terminated, truncated, info = env.step(LEFT)
        assert (reward, terminated, truncated) == (-0.25, False, step == 90)
        assert observation[0] == 0
    assert (info["is_success"], info["right_turns"]) == (False, 0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"corridors": 0}, ValueError, "corridors must be an int from 1 to 1000000, but is 0"),
        ({"lengths": "random"}, ValueError, "lengths must be one of fixed, uniform, but is 'random'"),
        ({"wrong_turn_ends": 1}, TypeError, "wrong_turn_ends must be a bool, but is 1"),
    ],
)
def test_a_setting_out_of_range_is_an_error(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"EndlessTMaze: {message}"):
        registered(ID).dynamics(**settings)
