"""Discrete spaces that do not start at 0: environments, callers, files and exports see the numbers of the space."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sab_agents import RecurrentPPO, StreamAC
from sab_agents.ppo.export import PolicyStep
from tests.ppo.cases import KINDS, SMALL, Noise

DISCRETE: dict[str, spaces.Space[Any]] = {
    "from ten": spaces.Discrete(3, start=10),
    "from below zero": spaces.Discrete(2, start=-1),
    "far away": spaces.Discrete(2, start=2**40),
    "several": spaces.MultiDiscrete([2, 3], start=[4, -1]),
    "several far away": spaces.MultiDiscrete([2, 3], start=[2**40, 0]),
}
BOX = spaces.Box(-1, 1, (3,), np.float32)
MIXED = spaces.Dict({"near": BOX, "one": spaces.Discrete(3, start=5), "two": DISCRETE["several"]})


class Spaced(Noise):
    """`Noise` with any spaces; it asserts that actions are of its space."""

    def __init__(self, observation: spaces.Space[Any] = BOX, action: spaces.Space[Any] = DISCRETE["from ten"]) -> None:
        super().__init__()
        self.observation_space, self.action_space = observation, action

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, *rest = super().step(action)
        return observation, 1.0, *rest


def agent(
    kind: str, observation: spaces.Space[Any] = BOX, action: spaces.Space[Any] = DISCRETE["from ten"], **settings: Any
) -> RecurrentPPO:
    prefix = "MultiInput" if isinstance(observation, spaces.Dict) else "Mlp"
    env = DummyVecEnv([lambda: Spaced(observation, action)] * 2)
    defaults = {"n_steps": 8, "batch_size": 8, "n_epochs": 2, "seed": 0, "policy_kwargs": SMALL, "device": "cpu"}
    return RecurrentPPO(f"{prefix}{kind}Policy", env, **{**defaults, **settings})


@pytest.mark.each
@pytest.mark.parametrize("action", DISCRETE.values(), ids=DISCRETE)
@pytest.mark.parametrize("kind", KINDS)
def test_actions_are_those_of_the_space_wherever_they_are_seen(
    kind: str, action: spaces.Space[Any], tmp_path: Path
) -> None:
    seen: list[np.ndarray[Any, Any]] = []
    model = agent(kind, action=action)

    def note(found: dict[str, Any], _: dict[str, Any]) -> bool:
        seen.append(found["clipped_actions"])
        return True

    model.learn(32, callback=note)
    assert all(action.contains(each) for each in np.concatenate(seen))
    stored = model.rollout_buffer.actions.reshape(-1, *(action.shape or ()))
    assert all(action.contains(each) for each in stored)
    observation, policy = np.ones((2, 3), np.float32), model.policy
    for deterministic in (False, True):
        assert all(action.contains(each) for each in model.predict(observation, deterministic=deterministic)[0])
    drawn, _, log_prob, _ = policy(torch.as_tensor(observation))
    assert all(action.contains(each) for each in drawn.numpy())
    torch.testing.assert_close(policy.evaluate_actions(torch.as_tensor(observation), drawn)[1], log_prob)
    likeliest = model.predict(observation, deterministic=True)[0]
    assert policy.get_distribution(torch.as_tensor(observation))[0].mode().tolist() == likeliest.tolist()
    model.save(tmp_path / "model")
    loaded = RecurrentPPO.load(tmp_path / "model")
    assert loaded.predict(observation, deterministic=True)[0].tolist() == likeliest.tolist()
    step = PolicyStep(policy, max_steps=5)
    state = step.initial_state(2).tensors()
    exported = step(torch.as_tensor(observation), state, torch.zeros(2, dtype=torch.bool))[0]
    assert exported.tolist() == likeliest.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_a_space_are_learnt_as_those_from_zero(kind: str) -> None:
    found = []
    for start in (0, 7):
        model = agent(kind, MIXED, spaces.Discrete(3, start=start)).learn(32)
        found.append([parameter.detach() for parameter in model.policy.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("observation", [*DISCRETE.values(), MIXED], ids=[*DISCRETE, "mixed"])
@pytest.mark.parametrize("previous", [False, True])
def test_observations_are_counted_from_the_spaces_start(observation: spaces.Space[Any], previous: bool) -> None:
    model = agent("Sab", observation, observe_previous=previous).learn(32)
    env = model.get_env()
    assert env is not None
    first: Any = env.reset()
    assert np.isin(model.predict(first)[0], [10, 11, 12]).all()


def test_integers_are_encoded_from_the_first() -> None:
    policy: Any = agent("Lstm", spaces.Discrete(3, start=5)).policy
    assert policy.extract_features(torch.tensor([5, 7])).tolist() == [[1, 0, 0], [0, 0, 1]]
    policy = agent("Lstm", DISCRETE["several"]).policy
    assert policy.extract_features(torch.tensor([[4, 1], [5, -1]])).tolist() == [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]


@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"])
@pytest.mark.parametrize("start", [10, -1])
def test_an_agent_of_streams_acts_in_the_numbers_of_the_space(policy: str, start: int, tmp_path: Path) -> None:
    action = spaces.Discrete(3, start=start)
    model = StreamAC(policy, Spaced(spaces.Discrete(3, start=5), action), seed=0).learn(30)
    six = np.array(6)
    for deterministic in (False, True):
        assert action.contains(model.predict(six, deterministic=deterministic)[0])
    model.save(tmp_path / "model")
    assert action.contains(StreamAC.load(tmp_path / "model").predict(six)[0])


def test_an_agent_of_streams_learns_the_same_from_any_start() -> None:
    found = []
    for start in (0, 7):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = StreamAC("MlpSabPolicy", Spaced(BOX, spaces.Discrete(3, start=start)), seed=0).learn(30)
        found.append([parameter.detach() for parameter in model.policy.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
