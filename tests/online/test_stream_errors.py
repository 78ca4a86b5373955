"""What an agent does after an environment has failed in the middle of a step, and after numbers that overflowed."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from sab_agents import StreamAC
from tests.toys import Toy

POLICIES = ("MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy", "MlpGruPolicy")
STEPS = 60
HERE = np.zeros(2, dtype=np.float64)


class Fails(gym.Wrapper[Any, Any, Any, Any]):
    """Fails at some calls of `step` before the environment has moved."""

    def __init__(self, env: gym.Env[Any, Any], calls: tuple[int, ...], failure: Callable[[], Any]) -> None:
        super().__init__(env)
        self.calls, self.failure, self.called = calls, failure, 0

    def step(self, action: Any) -> Any:
        self.called += 1
        return self.failure() if self.called in self.calls else self.env.step(action)


def raised(error: BaseException) -> Callable[[], Any]:
    def failure() -> Any:
        raise error

    return failure


def nan_rewarded() -> Any:
    return HERE, math.nan, False, False, {}


FAILURES: dict[str, Callable[[], Any]] = {
    "lost connection": raised(OSError("lost")),
    "interrupted": raised(KeyboardInterrupt()),
    "NaN observed": lambda: (np.full(2, math.nan, dtype=np.float64), 0.0, False, False, {}),
    "NaN observed at the end": lambda: (np.full(2, math.nan, dtype=np.float64), 0.0, True, False, {}),
    "NaN rewarded": nan_rewarded,
}


def agent_in(env: gym.Env[Any, Any], policy: str = "MlpSabPolicy") -> StreamAC:
    return StreamAC(policy, env, seed=3, policy_kwargs={"hidden_size": 4, "width": 4})


def persistent(agent: StreamAC) -> int:
    """Learns until all steps are taken, whatever fails; returns how often that was."""
    failed, first = 0, True
    while agent.num_timesteps < STEPS:
        try:
            agent.learn(STEPS - agent.num_timesteps, reset_num_timesteps=first)
        except (OSError, ValueError, KeyboardInterrupt):
            failed += 1
        first = False
    return failed


def assert_same(one: StreamAC, other: StreamAC) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name in mine.keys() - {"episodes"}:  # which have times
        value = mine[name]
        assert torch.equal(value, theirs[name]) if isinstance(value, Tensor) else value == theirs[name], name


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "NaN observed at the end"])
def test_a_step_that_fails_is_tried_again_as_if_it_had_not_been(policy: str, failure: str) -> None:
    expected = agent_in(Toy("double"), policy).learn(STEPS)
    agent = agent_in(Fails(Toy("double"), (4, 17, 18, 40), FAILURES[failure]), policy)
    assert persistent(agent) == 4
    assert_same(agent, expected)


def test_an_end_that_is_refused_leaves_the_statistics_as_they_were() -> None:
    agent = agent_in(Fails(Toy("double"), (30,), FAILURES["NaN observed at the end"]))
    with pytest.raises(ValueError, match="finite"):
        agent.learn(STEPS)
    before = agent.policy.normaliser.state_dict(), agent.reward_scaler.state_dict()
    assert before[0]["count"] == agent.num_timesteps + 1 + agent._episode_num
    assert before[1]["count"] == agent.num_timesteps
    agent.learn(20, reset_num_timesteps=False)


def test_a_new_start_after_a_failure_decides_again() -> None:
    agent = agent_in(Fails(Toy("double"), (7,), FAILURES["lost connection"]))
    with pytest.raises(OSError, match="lost"):
        agent.learn(STEPS)
    agent.learn(20)
    assert agent.num_timesteps == 20


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda agent: pickle.loads(pickle.dumps(agent))])
def test_a_copy_of_an_agent_whose_step_failed_decides_again(policy: str, copied: Callable[[Any], Any]) -> None:
    agent = agent_in(Fails(Toy("double"), (7,), FAILURES["NaN rewarded"]), policy)
    with pytest.raises(ValueError, match="finite"):
        agent.learn(STEPS)
    other = copied(agent)
    assert other.learn(20, reset_num_timesteps=False).num_timesteps == 26


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("part", ["actor", "critic"])
@pytest.mark.parametrize("value", [math.inf, math.nan, 3e38])
def test_an_overflow_is_not_kept_in_the_traces(policy: str, part: str, value: float) -> None:
    agent = agent_in(Toy("double"), policy).learn(20)
    weight = getattr(agent.policy, part).first.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(value)
    with pytest.raises(FloatingPointError, match="must be finite"):
        agent.learn(20, reset_num_timesteps=False)
    steps = agent.num_timesteps
    with torch.no_grad():
        weight.copy_(before)
    agent.learn(20, reset_num_timesteps=False)
    assert agent.num_timesteps == steps + 20
    assert all(optimiser.trace.isfinite().all() for optimiser in agent.optimisers)
    assert not torch.equal(weight, before)
