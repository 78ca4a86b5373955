"""The mixture with linear classifiers: its step by hand, who is heard, and what an estimator gains by it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("river", reason="River, of the extra river, is not installed")

from sab_agents.river import SABClassifier
from sab_agents.river.mixture import LEAST, RATES, READOUT_RATES, SHARE, LinearMixture
from tests.kernels.extension import needs_native

pytestmark = pytest.mark.peers

HEAD = torch.nn.Linear(3, 3, bias=True).requires_grad_(False)  # passes logarithms of probabilities on
HEAD.weight.copy_(torch.eye(3))
HEAD.bias.zero_()


def mixed_with(mixture: LinearMixture, x: Any, probabilities: Any, hidden: int | None = None) -> Any:
    """A mixture with a core that finds the labels this probable."""
    output = torch.full((3,), -torch.inf)
    output[: len(probabilities)] = torch.as_tensor(probabilities).log()
    return mixture.mixed(np.asarray(x, np.float32), output.clamp(min=-90).numpy(), HEAD, len(probabilities), hidden)


SMALL: dict[str, Any] = {"hidden_size": 8, "capacity": 8, "top_k": 2}


@pytest.mark.parametrize("kernel", ["torch", pytest.param("native", marks=needs_native)])
def test_steps_and_weights_are_those_of_the_definition(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", kernel)
    mixture, rng = LinearMixture(views=2), np.random.default_rng(0)
    rates = RATES * 2 + READOUT_RATES
    sizes = [7] * (2 * len(RATES)) + [4] * len(READOUT_RATES)
    linear, weights = [np.zeros((3, size)) for size in sizes], np.full(1 + len(rates), 1 / (1 + len(rates)))
    for step in range(60):
        x, output = (rng.standard_normal(size).astype(np.float32) for size in (6, 3))
        label, known, hidden = int(rng.integers(3)), step % 7 > 0, None if step % 5 == 0 else int(rng.integers(6))
        seen = x.copy()
        if hidden is not None:
            seen[hidden] = 0
        views = [x] * len(RATES) + [seen] * len(RATES) + [output] * len(READOUT_RATES)
        inputs = [np.array([1.0, *each]) for each in views]
        scores = [output.astype(float), *(each @ own for each, own in zip(linear, inputs, strict=True))]
        probabilities = [np.exp(each) / np.exp(each).sum() for each in scores]
        mixed = mixture.mixed(x, output, HEAD, 3, hidden)
        expected = sum(weight * own for weight, own in zip(weights, probabilities, strict=True))
        np.testing.assert_allclose(mixed, expected, rtol=1e-9, atol=1e-12)
        mixture.learn(label, HEAD, known=known)
        for rate, each, own, view in zip(rates, linear, probabilities[1:], inputs, strict=True):
            np.add(each, rate * np.outer((np.arange(3) == label) - own, view) / (view @ view), out=each)
        if known:
            weights = weights * [max(own[label], LEAST) for own in probabilities]
            weights = (1 - SHARE) * weights / weights.sum() + SHARE / len(weights)
        np.testing.assert_allclose(mixture.weights, weights, rtol=1e-9)


def test_features_and_labels_that_come_later_begin_at_zero() -> None:
    mixture = LinearMixture()
    for label in (0, 1, 0, 0):
        mixed_with(mixture, [1.0, label], [0.5, 0.5])
        mixture.learn(label, HEAD, known=True)
    before = mixed_with(mixture, [1.0, 0.0], [0.5, 0.5]).copy()
    wider = mixed_with(mixture, [1.0, 0.0, 7.0], [0.5, 0.5])
    np.testing.assert_allclose(wider, before)
    more = mixed_with(mixture, [1.0, 0.0, 7.0], [0.5, 0.5, 0.0])
    assert more[0] / more[1] == pytest.approx(before[0] / before[1], rel=0.2)
    assert more[2] > 0


def test_who_is_right_is_heard_and_a_change_is_noticed_soon() -> None:
    mixture, rng = LinearMixture(), np.random.default_rng(0)
    for step in range(400):
        label = int(rng.integers(2))
        good = step < 300
        right = np.where(np.arange(2) == (label if good else 1 - label), 0.95, 0.05)
        mixed_with(mixture, [rng.standard_normal()], right)
        mixture.learn(label, HEAD, known=True)
        if step == 299:
            assert mixture.weights[0] > 0.9
        if step == 309:
            assert mixture.weights[0] < 0.1


def shifting(steps: int, seed: int = 0) -> list[tuple[dict[str, float], bool]]:
    """Labels by a line that jumps: a learner of some samples follows, one of many lags."""
    rng, samples = np.random.default_rng(seed), []
    for step in range(steps):
        if step % 60 == 0:
            line = rng.standard_normal(4)
        x = rng.standard_normal(4)
        samples.append(({f"x{i}": float(v) for i, v in enumerate(x)}, bool(x @ line > 0)))
    return samples


def accuracy(model: Any, samples: list[tuple[dict[str, float], bool]]) -> float:
    right = 0
    for x, y in samples:
        right += model.predict_one(x) == y
        model.learn_one(x, y)
    return right / len(samples)


def test_a_mixture_follows_a_line_that_jumps() -> None:
    samples = shifting(1200)
    assert accuracy(SABClassifier(**SMALL), samples) > accuracy(SABClassifier(**SMALL, mix_linear=False), samples) + 0.1


def test_a_mixture_costs_nothing_where_lines_are_of_no_use() -> None:
    rng, samples, shown = np.random.default_rng(0), [], 0
    for number in range(1500):
        if number % 5 == 0:
            shown = int(rng.integers(2))
        samples.append(({"shown": float(shown) if number % 5 == 0 else 0.5, "turn": float(rng.integers(2))}, False))
        samples[-1] = samples[-1][0], bool(samples[-1][0]["turn"]) ^ bool(shown)
    with_lines = accuracy(SABClassifier(hidden_size=16, previous_label=False), samples)
    alone = accuracy(SABClassifier(hidden_size=16, previous_label=False, mix_linear=False), samples)
    assert with_lines > alone - 0.02
    assert alone > 0.7


def test_who_asks_the_learner_meanwhile_changes_nothing() -> None:
    one, other = SABClassifier(**SMALL), SABClassifier(**SMALL)
    for x, y in shifting(60):
        assert one.predict_proba_one(x) == other.predict_proba_one(x)
        if other.learner is not None:
            other.learner.predict_many(np.ones((1, other.learner.settings["input_size"])))
        for each in (one, other):
            each.learn_one(x, y)


def test_a_head_that_was_changed_or_converted_is_the_one_that_predicts() -> None:
    model, samples = SABClassifier(**SMALL), shifting(80)
    accuracy(model, samples[:40])
    model.predict_proba_one(samples[40][0])
    learner, mixture = model.learner, model.mixture
    assert learner is not None
    assert mixture is not None
    learner.core.double()
    learner.head.double()
    model.learn_one(*samples[40])
    for bias in (np.log(3), 0.0):
        with torch.no_grad():
            learner.head.weight.zero_()
            learner.head.bias.copy_(torch.tensor([0.0, bias]))
        mixture.weights[:] = np.arange(len(mixture.weights)) == 0
        x = {name: value + bias for name, value in samples[41][0].items()}
        assert model.predict_proba_one(x)[model.labels[1]] == pytest.approx(0.75 if bias else 0.5)
    model.learn_one(*samples[41])


@pytest.mark.parametrize("mixes", [True, False])
def test_a_copy_between_prediction_and_learning_goes_on_alike(mixes: bool) -> None:
    model, samples = SABClassifier(**SMALL, mix_linear=mixes), shifting(40)
    accuracy(model, samples[:20])
    model.predict_one(samples[20][0])
    others = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for x, y in samples[20:]:
        expected = model.predict_proba_one(x)
        model.learn_one(x, y)
        for each in others:
            assert each.predict_proba_one(x) == expected
            each.learn_one(x, y)


def test_a_file_of_before_mixtures_continues_without_one() -> None:
    model, samples = SABClassifier(**SMALL, mix_linear=False), shifting(40)
    accuracy(model, samples[:20])
    state = {name: value for name, value in vars(model).items() if name not in ("mix_linear", "mixture", "_asked")}
    old = SABClassifier.__new__(SABClassifier)
    old.__setstate__(copy.deepcopy(state))
    assert [old.predict_proba_one(x) for x, _ in samples] == [model.predict_proba_one(x) for x, _ in samples]
    assert accuracy(old, samples[20:]) == accuracy(model, samples[20:])
    assert not old.clone().mix_linear
