"""The losses that a learner notes of its answers: by hand from what it predicted, and beside constant answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sab_agents import OnlineLearner
from sab_agents.online.answers import KEPT, Answers
from sab_agents.online.targets import LossName, Targets
from tests.online.test_diagnosis import recalls


def loss_of(loss: LossName, given: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> float:
    """Returns the mean loss, from its definition."""
    if loss == "squared_error":
        return float(((given - target) ** 2).mean())
    if loss == "binary_cross_entropy":
        chance = 1 / (1 + np.exp(-given))
        return float(-np.log(np.where(target == 1, chance, 1 - chance)).mean())
    chances = np.exp(given) / np.exp(given).sum(1, keepdims=True)
    return float(-np.log(chances[np.arange(len(target)), target]).mean())


def drawn(loss: LossName, rng: np.random.Generator, count: int, size: int) -> np.ndarray[Any, Any]:
    if loss == "cross_entropy":
        return rng.choice(size, count, p=np.arange(1, size + 1) / np.arange(1, size + 1).sum())
    if loss == "binary_cross_entropy":
        return (rng.random((count, size)) < 0.2).astype(np.float32)
    return rng.normal([3.0] * size, 2.0, (count, size)).astype(np.float32)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error"])
def test_losses_are_those_by_hand_and_no_constant_has_less(loss: LossName) -> None:
    rng, size = np.random.default_rng(0), 4
    tally, losses, targets = Answers(Targets(loss, size)), [], []
    weights: list[float] = []
    assert tally.figures() == {}
    for count in (5, 1, 30):
        given, target = rng.standard_normal((count, size)), drawn(loss, rng, count, size)
        tally.add(torch.from_numpy(given), torch.from_numpy(target))
        weights = [KEPT * weight for weight in weights] + [1.0] * count
        losses += [loss_of(loss, given[[i]], target[[i]]) for i in range(count)]
        targets += list(target)
    found = tally.figures()
    assert found["loss"] == pytest.approx(np.average(losses, weights=weights))
    constants = rng.normal(0.0, 3.0, (300, size))
    target = np.array(targets)
    others = [
        np.average([loss_of(loss, answer[None], target[[i]]) for i in range(len(target))], weights=weights)
        for answer in constants
    ]
    assert found["constant_loss"] <= min(others)
    if loss == "cross_entropy":
        share = np.bincount(target, weights, size) / np.sum(weights)
        best = np.log(share)
    elif loss == "binary_cross_entropy":
        share = np.average(target, 0, weights)
        best = np.log(share / (1 - share))
    else:
        best = np.average(target, 0, weights)
    least = [loss_of(loss, best[None], target[[i]]) for i in range(len(target))]
    assert found["constant_loss"] == pytest.approx(np.average(least, weights=weights))


def test_huge_and_single_targets_have_figures() -> None:
    tally = Answers(Targets("squared_error", 1))
    tally.add(torch.zeros(2, 1), torch.full((2, 1), 1e30))
    assert tally.figures() == pytest.approx({"loss": 1e60, "constant_loss": 0.0}, abs=1e53)
    tally.add(torch.full((2, 1), torch.inf), torch.zeros(2, 1))
    assert np.isfinite(list(tally.figures().values())).all()
    tally = Answers(Targets("cross_entropy", 3))
    tally.add(torch.zeros(2, 3), torch.tensor([1, 1]))
    assert tally.figures() == pytest.approx({"loss": np.log(3), "constant_loss": 0.0})


def guesser(**settings: Any) -> OnlineLearner:
    """Returns a learner of what nothing tells."""
    made, rng = OnlineLearner(6, 4, update_every=2, hidden_size=4, **settings), np.random.default_rng(1)
    for _ in range(1200):
        made.learn_one(rng.standard_normal(6), int(rng.integers(4)))
    return made


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({}, "try attention_rate=0.3, head_rate=0.3"),
        ({"attention_rate": 0.3, "head_rate": 0.3}, "let shorter delays come first"),
        ({"core": "lstm_tbptt"}, "try another learning_rate"),
    ],
)
def test_who_guesses_is_told_so(settings: dict[str, Any], remedy: str) -> None:
    made = guesser(**settings)
    found = made.diagnose()
    assert list(found.advice) == ["guessing"]
    assert remedy in found.advice["guessing"]
    assert found.loss is not None
    assert found.constant_loss is not None
    assert found.constant_loss == pytest.approx(np.log(4), abs=0.1)
    assert found.loss > 0.97 * found.constant_loss
    assert "that of the same answer to all" in str(found)


def test_who_knows_is_not() -> None:
    made = OnlineLearner(6, 4)
    assert recalls(8000, starts=True)(made) > 0.85
    found = made.diagnose()
    assert found.advice == {}
    assert found.loss is not None
    assert found.constant_loss is not None
    assert found.loss < 0.5 * found.constant_loss


def test_nothing_is_noted_without_a_history_and_a_file_keeps_what_was(tmp_path: Path) -> None:
    assert guesser(history=0).diagnose().loss is None
    made = guesser()
    made.save(tmp_path / "learner.zip")
    again = OnlineLearner.load(tmp_path / "learner.zip")
    assert again.diagnose() == made.diagnose()
    state = {name: value for name, value in made.state_dict().items() if not name.startswith("answers.")}
    again.load_state_dict(state)  # as files of before had none
    assert again.diagnose().loss is None
    wider = made.grow(output_size=6)
    assert wider.diagnose().constant_loss == pytest.approx(np.log(4), abs=0.1)
    assert made.reset().diagnose().loss is None
