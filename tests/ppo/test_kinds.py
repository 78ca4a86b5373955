"""Policies come from the registry of cores: whatever is registered has its three policies, and settings are checked."""

from __future__ import annotations

import copy
import importlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

from sab_agents import RecurrentPPO
from sab_agents.core import CORES, Core, State, registry
from sab_agents.core.registry import register_core
from sab_agents.ppo import kinds
from sab_agents.ppo.export import PolicyStep
from sab_agents.ppo.kinds import POLICIES, MlpLstmPolicy
from tests.ppo.cases import KINDS, Noise, agent

OBSERVATIONS = {"Mlp": "box", "Cnn": "image", "MultiInput": "dict"}


@dataclass(frozen=True)
class LeakyState(State):
    """The mean of the past."""

    mean: Tensor


class Leaky(Core[LeakyState]):
    """Leaky integration of a linear map."""

    state_class = LeakyState

    def __init__(self, input_size: int, hidden_size: int, *, leak: float = 0.5, **common: Any) -> None:
        super().__init__(input_size, hidden_size, hidden_size, batch_first=common.pop("batch_first", False))
        self.leak = leak
        self.linear = nn.Linear(input_size, hidden_size, **common)

    def initial_state(self, batch_size: int) -> LeakyState:
        return LeakyState(self.linear.weight.new_zeros(batch_size, self.hidden_size))

    def _run(self, x: Tensor, state: LeakyState, episode_start: Tensor | None) -> tuple[Tensor, LeakyState]:
        mean, means = state.mean, []
        for t, each in enumerate(self.linear(x)):
            if episode_start is not None:
                mean = mean.masked_fill(episode_start[t].unsqueeze(1), 0)
            mean = self.leak * mean + (1 - self.leak) * torch.tanh(each)
            means.append(mean)
        return torch.stack(means), LeakyState(mean)


@pytest.fixture
def leaky() -> Iterator[None]:
    """Registers `Leaky` for one test."""
    register_core("leaky", "leaky integrators", policy="Leaky")(Leaky)
    yield
    registry._CORES.pop("leaky")


@pytest.mark.usefixtures("leaky")
@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_a_core_that_is_registered_later_has_its_policies_at_once(kind: str, tmp_path: Path) -> None:
    name = f"{kind}LeakyPolicy"
    assert name in RecurrentPPO.policy_aliases
    policy = getattr(kinds, name)
    assert policy.__name__ == name
    assert policy is RecurrentPPO.policy_aliases[name] is POLICIES[name]
    assert pickle.loads(pickle.dumps(policy)) is policy
    assert "`leak`" in policy.__doc__
    model = agent("Leaky", OBSERVATIONS[kind], policy_kwargs={"core_kwargs": {"leak": 0.25}})
    assert type(model.policy) is policy
    assert isinstance(model.policy.actor_core, Leaky)
    assert model.policy.actor_core.leak == 0.25
    before = [parameter.clone() for parameter in model.policy.actor_core.parameters()]
    model.learn(48)
    assert not all(map(torch.equal, before, model.policy.actor_core.parameters()))
    model.save(tmp_path / "model")
    observation: Any = model._last_obs
    expected = model.predict(observation, deterministic=True)
    found = RecurrentPPO.load(tmp_path / "model").predict(observation, deterministic=True)
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.mark.usefixtures("leaky")
def test_a_core_that_is_registered_later_is_exported() -> None:
    policy = agent("Leaky").policy
    step = PolicyStep(policy)
    state, carried, start = step.initial_state(3).tensors(), None, np.zeros(3, bool)
    rng = np.random.default_rng(0)
    for _ in range(5):
        observation = rng.standard_normal((3, 3)).astype(np.float32)
        expected, carried = policy.predict(observation, carried, start, deterministic=True)
        action, state = step(torch.as_tensor(observation), state, torch.as_tensor(start))
        assert carried is not None
        assert action.tolist() == expected.tolist()
        torch.testing.assert_close(state[0], torch.as_tensor(carried[0][0]))


def test_without_a_policys_name_a_core_has_none() -> None:
    assert CORES["sab_uncredited"].policy == ""
    assert len(POLICIES) == sum(spec.policy != "" for spec in CORES.values()) * len(kinds.EXTRACTORS)
    with pytest.raises(AttributeError, match="MlpNothingPolicy"):
        _ = kinds.MlpNothingPolicy
    assert "MlpLeakyPolicy" not in RecurrentPPO.policy_aliases


@pytest.mark.parametrize(
    ("kind", "setting", "nearest"),
    [
        ("Sab", "topk", "top_k"),
        ("Sab", "capasity", "capacity"),
        ("Sab", "novely", "novelty"),
        ("Sab", "rerun_step", "rerun_steps"),
        ("Lstm", "bptt_step", "bptt_steps"),
        ("Transformer", "head", "heads"),
        ("Rtu", "max_radios", "max_radius"),
    ],
)
def test_an_unknown_setting_names_the_nearest(kind: str, setting: str, nearest: str) -> None:
    with pytest.raises(TypeError, match=f"Mlp{kind}Policy: unknown setting '{setting}' of the core.*{nearest}"):
        agent(kind, policy_kwargs={"core_kwargs": {setting: 1}})


@pytest.mark.parametrize(("settings", "novelty"), [({}, 0.3), ({"write": "refresh"}, 0.3), ({"write": "every"}, None)])
def test_novelty_is_0_3_where_writes_ask_for_it(settings: dict[str, Any], novelty: float | None) -> None:
    policy = agent(policy_kwargs={"core_kwargs": settings}).policy
    assert policy.core_settings.stream["novelty"] == novelty
    with pytest.raises(ValueError, match=r"nothing asks for novelty, but it is 0\.2"):
        agent(policy_kwargs={"core_kwargs": {"write": "every", "novelty": 0.2}}).learn(8)


@pytest.mark.parametrize("kind", ["AttentionLstm", "Rtu"])
def test_a_setting_of_streams_that_learn_at_every_step_is_unknown(kind: str) -> None:
    with pytest.raises(TypeError, match="unknown setting 'bptt_steps'"):
        agent(kind, policy_kwargs={"core_kwargs": {"bptt_steps": 3}})


@pytest.mark.parametrize(("kind", "layers"), [("Lstm", 3), ("Transformer", 3)])
def test_layers_are_those_of_the_core(kind: str, layers: int) -> None:
    core = agent(kind, policy_kwargs={"n_lstm_layers": layers}).policy.actor_core
    assert core.layers == layers


class Shifted(MlpLstmPolicy):  # type: ignore[misc]
    """A policy of a user's own, with another constructor."""

    def __init__(self, *arguments: Any, shift: float = 1.0, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.shift = shift

    def values_of(self, output: Tensor) -> Tensor:
        values: Tensor = super().values_of(output) + self.shift
        return values


def test_a_subclass_of_a_policy_is_taken() -> None:
    env = DummyVecEnv([Noise])
    model = RecurrentPPO(Shifted, env, n_steps=8, policy_kwargs={"shift": 1000.0, "lstm_hidden_size": 8}).learn(16)
    assert float(model.rollout_buffer.values.min()) > 900
    with pytest.raises(TypeError, match="a class derived from a policy of this library"):
        RecurrentPPO(dict, env)  # type: ignore[arg-type]


@pytest.mark.each
@pytest.mark.parametrize("sde", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_a_policy_that_has_learnt_is_independent(kind: str, sde: bool) -> None:
    model = agent(kind, action="box", use_sde=sde).learn(48)
    model.policy.get_distribution(torch.ones(3, 3))
    twin = copy.deepcopy(model.policy)
    unpickled = pickle.loads(pickle.dumps(model.policy))
    observation = np.ones((3, 3), np.float32)
    expected, state = model.policy.predict(observation, deterministic=True)
    model.learn(48)
    for other in (twin, unpickled):
        action, carried = other.predict(observation, deterministic=True)
        np.testing.assert_array_equal(action, expected)
        assert carried is not None
        assert state is not None
        for one, another in zip(carried, state, strict=True):
            np.testing.assert_array_equal(one, another)
        assert other.actor_stream.core is other.actor_core
    assert not np.array_equal(model.policy.predict(observation, deterministic=True)[0], expected)


def test_every_policy_is_a_name_of_the_package() -> None:
    package = importlib.import_module("sab_agents.ppo")
    assert set(POLICIES) <= set(dir(package))
    assert all(getattr(package, name) is policy for name, policy in POLICIES.items())
    with pytest.raises(AttributeError, match="MlpSbaPolicy"):
        _ = package.MlpSbaPolicy
