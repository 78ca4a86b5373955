"""A learner that grows keeps what it learnt, and continues as one that was wide from the start and saw zeros there."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sab_agents import OnlineLearner

CORES = ("sab", "lstm_tbptt", "gru")
SMALL: dict[str, Any] = {"hidden_size": 8, "update_every": 4}


def learner(inputs: int, classes: int, core: str = "sab", **settings: Any) -> OnlineLearner:
    return OnlineLearner(inputs, classes, core=core, **SMALL, **settings)


def taught(learner: OnlineLearner, steps: int, features: int, seed: int = 0) -> list[int]:
    """Teaches a learner whose features are zero from `features` on; returns its predictions."""
    rng, predicted = np.random.default_rng(seed), []
    for _ in range(steps):
        x = np.zeros(learner.settings["input_size"])
        x[:features] = rng.standard_normal(8)[:features]
        predicted.append(learner.predict_one(x))
        learner.learn_one(x, int(x[0] > 0))
    return predicted


@pytest.mark.parametrize("core", CORES)
def test_features_are_added_as_if_they_had_always_been_zero(core: str) -> None:
    grown, wide = learner(3, 2, core), learner(5, 2, core)
    with torch.no_grad():  # the parameters of one in the other, and back what is new
        for narrow, whole in zip(grown.parameters, wide.parameters, strict=True):
            whole[tuple(slice(size) for size in narrow.shape)] = narrow
    for each in (grown, wide):
        taught(each, 30, 3)  # two steps of a window are open
    assert grown.grow(input_size=5) is grown
    with torch.no_grad():
        for narrow, whole in zip(grown.parameters, wide.parameters, strict=True):
            if narrow.shape[-1:] == (5,):
                narrow[..., 3:] = whole[..., 3:]
    assert taught(grown, 30, 5, seed=1) == taught(wide, 30, 5, seed=1)
    state, expected = grown.state_dict(), wide.state_dict()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor) and not name.startswith("history."):
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("core", [*CORES, "rtu", "mingru"])
def test_a_class_is_added_beside_what_was_learnt(core: str) -> None:
    grown = learner(3, 2, core)
    taught(grown, 30, 3)
    x = [0.5, -1.0, 2.0]
    before, moments = grown.predict_proba_one(x), grown.state_dict()
    grown.grow(output_size=4)
    after = grown.predict_proba_one(x)
    assert after[0] / after[1] == pytest.approx(before[0] / before[1])
    assert min(after[2], after[3]) > 0
    now = grown.state_dict()
    for name, value in moments.items():
        if name.startswith("optimizer.") and isinstance(value, torch.Tensor):
            assert torch.equal(now[name][tuple(slice(size) for size in value.shape)], value)
    for _ in range(40):
        grown.learn_one(x, 3)
    assert grown.predict_one(x) == 3


def test_what_the_user_changed_stays() -> None:
    grown = learner(3, 2)
    taught(grown, 10, 3)
    grown.optimizer.param_groups[0]["lr"], grown.clip_norm = 0.125, 0.5
    grown.head.weight.requires_grad_(False)
    fixed = grown.head.weight.detach().clone()
    grown.grow(4, 3)
    taught(grown, 16, 4)
    assert (grown.optimizer.param_groups[0]["lr"], grown.clip_norm) == (0.125, 0.5)
    assert torch.equal(grown.head.weight[:2], fixed)
    assert grown.settings["input_size"] == 4


def test_it_is_copied_and_saved_like_any(tmp_path: Any) -> None:
    grown = learner(3, 2)
    taught(grown, 10, 3)
    grown.grow(4, 3)
    grown.save(tmp_path / "grown")
    copies = [copy.deepcopy(grown), pickle.loads(pickle.dumps(grown)), OnlineLearner.load(tmp_path / "grown.zip")]
    expected = taught(grown, 20, 4)
    assert all(taught(each, 20, 4) == expected for each in copies)


def test_nothing_to_add_changes_nothing() -> None:
    same = learner(3, 2)
    core = same.core
    assert same.grow().grow(3, 2).core is core


def test_what_cannot_grow_says_so_and_stays() -> None:
    named = learner(2, 2)
    named.learn_one({"a": 1.0, "b": 2.0}, 1)
    encoder = OnlineLearner(4, 2, encoder=nn.Linear(3, 4), observation_shape=(3,), hidden_size=8)
    for refused, sizes, error in (
        (learner(3, 2), {"input_size": 2}, "can only grow"),
        (learner(3, 2, optimizer=torch.optim.SGD), {"input_size": 4}, "optimiser"),
        (encoder, {"input_size": 5}, "encoder"),
        (named, {"input_size": 3}, "takes mappings"),
        (learner(3, 2, "rtu"), {"input_size": 4}, "real time"),
        (learner(3, 1, loss="squared_error"), {"output_size": 2}, "squared_error"),
    ):
        core = refused.core
        with pytest.raises(ValueError, match=error):
            refused.grow(**sizes)
        assert refused.core is core
    with pytest.raises(TypeError, match="input_size"):
        learner(3, 2).grow(input_size=4.5)  # type: ignore[arg-type]
