"""A saved learner is taken up as it was left: frozen, converted, with buffers, and with settings that were changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC


def learn(learner: OnlineLearner, steps: int, seed: int = 0) -> OnlineLearner:
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        x = rng.standard_normal((learner.rows, 4)).astype(np.float32)
        learner.learn_many(x, rng.integers(2, size=learner.rows))
    return learner


def assert_same_future(one: OnlineLearner, other: OnlineLearner) -> None:
    before = [parameter.clone() for parameter in one.parameters]
    for learner in (one, other):
        learn(learner, 30, seed=1)
    for mine, its in zip(one.parameters, other.parameters, strict=True):
        assert torch.equal(mine, its)
        assert mine.requires_grad == its.requires_grad
    assert any(not torch.equal(*pair) for pair in zip(one.parameters, before, strict=True))


def frozen_core(learner: OnlineLearner) -> None:
    learner.core.requires_grad_(False)


def frozen_head(learner: OnlineLearner) -> None:
    learner.head.requires_grad_(False)


def in_float64(learner: OnlineLearner) -> None:
    learner.core.double()
    learner.head.double()


Change = Callable[[OnlineLearner], None]


@pytest.mark.parametrize("optimizer", [None, torch.optim.Adam], ids=["flat", "torch"])
@pytest.mark.parametrize("steps", [0, 21], ids=["before", "after"])
@pytest.mark.parametrize("change", [frozen_core, frozen_head, in_float64])
def test_frozen_and_converted_parts_stay_so(change: Change, steps: int, optimizer: Any, tmp_path: Path) -> None:
    """Changed before some steps, or after them and before the next update."""
    made = OnlineLearner(4, 2, hidden_size=6, optimizer=optimizer)
    learner = learn(made, steps)
    change(learner)
    learn(learner, 21 - steps)
    alike = OnlineLearner(4, 2, hidden_size=6, optimizer=optimizer)
    change(alike)
    alike.load_state_dict(learner.state_dict())
    learner.save(tmp_path / "learner")
    loaded = OnlineLearner.load(tmp_path / "learner", optimizer=optimizer)
    assert_same_future(copy.deepcopy(learner), alike)
    assert_same_future(learner, loaded)


def test_a_learner_in_float64_grows() -> None:
    learner = OnlineLearner(4, 2, hidden_size=6)
    in_float64(learner)
    assert learn(learner, 21).grow(4, 3).parameters[0].dtype == torch.float64


def test_buffers_are_resumed(tmp_path: Path) -> None:
    def encoder() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    learner = learn(OnlineLearner(4, 2, rows=3, hidden_size=6, encoder=encoder()), 21)
    learner.save(tmp_path / "learner")
    loaded = OnlineLearner.load(tmp_path / "learner", encoder=encoder())
    norms: list[Any] = [each.stream.encoder[1] for each in (learner, loaded)]  # type: ignore[index]
    assert norms[0].running_mean.abs().sum() > 0
    assert torch.equal(norms[0].running_mean, norms[1].running_mean)
    assert norms[0].num_batches_tracked == norms[1].num_batches_tracked
    assert_same_future(learner, loaded)


def test_settings_that_were_changed_are_resumed(tmp_path: Path) -> None:
    learner = OnlineLearner(4, 2, hidden_size=6)
    learner.clip_norm, learner.update_every, learner.refresh_every = 0.125, 4, 3
    learner.save(tmp_path / "learner")
    loaded = OnlineLearner.load(tmp_path / "learner")
    assert (loaded.clip_norm, loaded.update_every, loaded.refresh_every) == (0.125, 4, 3)


@pytest.mark.parametrize("kind", [StreamAC, RecurrentPPO])
def test_agents_stay_frozen(kind: Any, tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    settings: dict[str, Any] = {"policy_kwargs": {"hidden_size": 6, "width": 6}}
    if kind is RecurrentPPO:
        settings = {"policy_kwargs": {"lstm_hidden_size": 6}, "n_steps": 16, "batch_size": 16}
    model = kind("MlpSabPolicy", env, seed=0, **settings)
    chosen = list(model.policy.named_parameters())[::2]
    for _, parameter in chosen:
        parameter.requires_grad_(False)
    model.learn(32)
    model.save(tmp_path / "agent")
    loaded = kind.load(tmp_path / "agent", env=env)
    assert [p.requires_grad for p in loaded.policy.parameters()] == [p.requires_grad for p in model.policy.parameters()]
    loaded.learn(32)
    now = dict(loaded.policy.named_parameters())
    assert all(torch.equal(parameter, now[name]) for name, parameter in chosen)
    assert any(not torch.equal(parameter, now[name]) for name, parameter in model.policy.named_parameters())


def test_an_optimizer_that_needs_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="must take a step without a closure, but LBFGS"):
        OnlineLearner(4, 2, optimizer=torch.optim.LBFGS)
