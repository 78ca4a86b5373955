"""The T-maze whose sign is a digit: its definition, its images, its splits, and the returns of scripted policies."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from sab_agents.envs.datasets.digit_cues import DigitCues
from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, check_definition, check_returns

pytest.importorskip("sklearn")
ID = "SAB/DigitTMaze-v0"


def digit_t_maze(L: int, cues: DigitCues, draws: np.random.Generator, *, image: bool = False) -> Episode:
    """The passive maze of Ni et al. (2023); the sign and what each step shows are digits of equally likely classes."""
    classes = draws.integers(0, 10, L + 3)
    of_class = [np.flatnonzero(cues.labels == digit) for digit in range(10)]
    fractions = draws.random(L + 3)
    digits = [of_class[c][int(u * len(of_class[c]))] for c, u in zip(classes, fractions, strict=True)]
    goal = 1 if classes[0] in (0, 2, 4, 6, 8) else -1
    x = y = 0
    reward, ended = 0.0, False
    for t in range(1, L + 3):
        pixels = np.zeros(64) if x == L else cues.pixels[digits[t - 1]]
        seen: Any = [float(x == L), float(y), float(t == 1), *pixels]
        if image:
            seen = np.zeros((10, 10, 1))
            seen[1:9, 1:9, 0] = np.rint(255 * pixels.reshape(8, 8))
            seen[0] = 255 * (t == 1)
            if x == L:
                seen[:, 0] = 255
            seen[:5, -1] += 255 * (y == 1)
            seen[5:, -1] += 255 * (y == -1)
            seen = seen.clip(max=255)
        action = yield seen, reward, ended
        new_x, new_y = x + (1, 0, -1, 0)[action], y + (0, 1, 0, -1)[action]
        if (new_y == 0 and 0 <= new_x <= L) or (new_x == L and new_y in (-1, 1)):
            x, y = new_x, new_y
        ended = t == L + 1
        reward = float(y == goal) if ended else -1 / L * (x < t)


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize(("L", "split"), [(1, "train"), (3, "test"), (12, "validation")])
def test_every_step_follows_the_definition(L: int, split: str, image: bool) -> None:
    cues = DigitCues("digits", split)

    def steer(_observation: npt.NDArray[Any], step: int) -> int | None:
        return 0 if step < L else None

    returns = check_definition(
        ID,
        {"corridor_length": L, "split": split, "image": image},
        lambda draws: digit_t_maze(L, cues, draws, image=image),
        steer=steer,
        success=lambda rewards: rewards[-1] == 1,
    )
    assert max(returns) == 1


@pytest.mark.parametrize("image", [False, True])
@pytest.mark.parametrize(("L", "split"), [(1, "test"), (2, "train"), (30, "test")])
def test_scripted_policies_earn_the_stated_returns(L: int, split: str, image: bool) -> None:
    settings = {"corridor_length": L, "split": split, "image": image}
    check_returns(ID, settings)
    returns = registered(ID).dynamics(**settings).returns
    assert returns == registered("SAB/PassiveTMaze-v0").dynamics(corridor_length=L).returns


def test_the_junction_shows_nothing_of_the_goal() -> None:
    env = gym.make_vec(ID, num_envs=200, corridor_length=4)
    env.reset(seed=0)
    for _ in range(4):
        observations, *_ = env.step(np.zeros(200, np.int64))
    assert (observations == np.eye(67)[0]).all()
    ends = env.step(np.ones(200, np.int64))[1]
    assert 0.35 < ends.mean() < 0.65


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image": 1}, "DigitTMaze: image must be True or False, but is 1"),
        ({"dataset": "cifar10"}, "DigitTMaze: dataset must be one of digits, mnist, but is 'cifar10'"),
        ({"split": "all"}, "DigitTMaze: split must be one of train, validation, test, but is 'all'"),
        ({"data_dir": 1}, "data_dir must be the path of a folder, but is 1"),
    ],
)
def test_a_wrong_argument_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        gym.make(ID, **settings)
