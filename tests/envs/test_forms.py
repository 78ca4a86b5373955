"""Both Gymnasium forms of dynamics that use more than the registered ones: info, truncation, continuous actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from sab_agents.envs.arrays import Array, Bools, Floats, Ints
from sab_agents.envs.dynamics import Dynamics, Returns
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv


class Guessing(Dynamics):
    """Guess the next of a few numbers, 2 to 5 of them; every other episode is truncated at its end."""

    purpose = "the base"

    def __init__(self, discrete: bool = False) -> None:
        self.horizon = 5
        self.observation_space = spaces.Discrete(10) if discrete else spaces.Box(0, 1, shape=(2,), dtype=np.float32)
        self.action_space = spaces.Box(-1, 1, shape=(2, 1), dtype=np.float32)
        self.discrete = discrete

    @property
    def returns(self) -> Returns:
        return Returns(None, None, None)

    def allocate(self, n: int) -> None:
        self.n = n
        self.t, self.length = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.numbers, self.total = np.zeros((n, 8)), np.zeros(n)

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        self.t[copies] = self.total[copies] = 0
        for copy, generator in zip(copies, generators, strict=True):
            self.length[copy] = generator.integers(2, 6)
            self.numbers[copy] = generator.random(8)

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        rewards: Floats = actions.sum(axis=(1, 2)) - self.numbers[np.arange(self.n), self.t]
        self.total += rewards
        self.t += 1
        ended, even = self.t >= self.length, self.length % 2 == 0
        return rewards, ended & even, ended & ~even

    def observe(self) -> Array:
        shown = self.numbers[np.arange(self.n), self.t]
        return (10 * shown).astype(np.int64) if self.discrete else np.stack([shown, self.t / 8], 1).astype(np.float32)

    def info(self) -> Mapping[str, Array]:
        scored = self.t > 1
        return {
            "target": self.t * 2,
            "scored": scored,
            "pair": self.numbers[:, :2].copy(),
            "exact": self.t.astype(np.float32),
        }

    def ending_info(self) -> Mapping[str, Array]:
        return {"total": self.total.copy(), "length": self.length.astype(np.int32)}


class GuessingEnv(DynamicsEnv):
    metadata = {"render_modes": []}  # noqa: RUF012
    dynamics_class = Guessing


class GuessingVectorEnv(DynamicsVectorEnv):
    metadata = {"render_modes": []}  # noqa: RUF012
    dynamics_class = Guessing


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.value)
def test_facts_and_endings_are_those_of_gymnasiums_sync_vector(mode: AutoresetMode, discrete: bool) -> None:
    ours = GuessingVectorEnv(4, autoreset_mode=mode, discrete=discrete)
    theirs = SyncVectorEnv([lambda: GuessingEnv(discrete=discrete)] * 4, autoreset_mode=mode)
    assert data_equivalence(ours.reset(seed=1), theirs.reset(seed=1), exact=True)
    alone = 0
    for _ in range(40):
        actions = theirs.action_space.sample()
        step, expected = ours.step(actions), theirs.step(actions)
        assert data_equivalence(step, expected, exact=True)
        ended = step[2] | step[3]
        alone += 0 < ended.sum() < 4
        if mode is AutoresetMode.DISABLED and ended.any():
            first = ours.reset(options={"reset_mask": ended})
            assert data_equivalence(first, theirs.reset(options={"reset_mask": ended.copy()}), exact=True)
    assert alone > 5, "the copies always ended together"


def test_the_single_form_passes_the_check_and_gives_plain_numbers() -> None:
    env = GuessingEnv()
    env.reset(seed=0)
    info: dict[str, Any] = {}
    while "total" not in info:
        info = env.step(np.zeros((2, 1), dtype=np.float32))[4]
    assert {name: type(value) for name, value in info.items() if name != "pair"} == {
        "target": int,
        "scored": bool,
        "exact": np.float32,
        "total": float,
        "length": np.int32,
    }
    with pytest.warns(UserWarning, match="spec"):  # there is none, as it is made without an id
        check_env(GuessingEnv())


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (np.full((2, 1), 1.5), ValueError),
        (np.full((2, 1), np.nan), ValueError),
        (np.zeros(2), ValueError),
        (np.array([["a"], ["b"]]), TypeError),
        ([[0.0], [0.0, 1.0]], ValueError),
    ],
)
def test_a_continuous_action_outside_the_space_raises(action: Any, error: type[Exception]) -> None:
    env = GuessingEnv()
    env.reset(seed=0)
    with pytest.raises(error, match=r"GuessingEnv: (actions|an action) must"):
        env.step(action)
    env.step(np.ones((2, 1)))  # any precision will do


def test_what_does_not_exist_says_so() -> None:
    dynamics = Guessing()
    for asked in (dynamics.oracle, dynamics.memoryless, lambda: dynamics.picture(0), lambda: dynamics.text(0)):
        with pytest.raises(NotImplementedError, match="Guessing"):
            asked()
