"""The discounting chain: its published definition, when its chains pay, and its stated returns."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from sab_agents.envs.registration import registered
from tests.envs.delayed.definitions import Episode, check_definition, check_returns

ID = "SAB/DiscountingChain-v0"


def discounting_chain(bonus: int, _draws: np.random.Generator) -> Episode:
    """bsuite: the chain of the first action pays after 1, 3, 10, 30 or 100 of 100 steps, one of them 0.1 more."""
    chain = yield [-1.0, 0.0], 0.0, False
    for t in range(1, 101):
        pays = t == [1, 3, 10, 30, 100][chain]
        yield [float(chain), t / 100], (1.1 if chain == bonus else 1.0) if pays else 0.0, t == 100


@pytest.mark.parametrize("bonus", [0, 4])
def test_every_step_follows_the_definition(bonus: int) -> None:
    check_definition(ID, {"bonus_chain": bonus}, lambda draws: discounting_chain(bonus, draws))


@pytest.mark.parametrize(("N", "bonus"), [(1, 0), (2, 4), (100, 4), (37, 2)])
def test_scripted_policies_earn_the_stated_returns(N: int, bonus: int) -> None:
    check_returns(ID, {"length": N, "bonus_chain": bonus})
    assert registered(ID).dynamics(length=N, bonus_chain=bonus).returns.best == 1.1  # the most that a chain pays


@pytest.mark.parametrize(("length", "times"), [(100, [1, 3, 10, 30, 100]), (1, [1] * 5), (7, [1, 1, 1, 3, 7])])
def test_the_chains_pay_after_their_fraction_of_the_episode(length: int, times: list[int]) -> None:
    envs = gym.make_vec(f"sab_agents:{ID}", num_envs=5, length=length, bonus_chain=2)
    envs.reset()
    rewards = np.array([envs.step(np.arange(5))[1] for _ in range(length)])
    assert (rewards.argmax(axis=0) + 1).tolist() == times
    np.testing.assert_allclose(rewards.sum(axis=0), [1, 1, 1.1, 1, 1])
