"""Estimators of River: its checks, features and labels that come and go, copies, pipelines, settings that change."""

from __future__ import annotations

import copy
import doctest
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

river = pytest.importorskip("river", reason="River, of the extra river, is not installed")
from river import checks, compose, datasets, evaluate, metrics, preprocessing  # noqa: E402

from sab_agents.river import SABClassifier, SABForecaster, SABRegressor, classifier, forecaster, regressor  # noqa: E402

pytestmark = pytest.mark.peers

KINDS = (SABClassifier, SABRegressor, SABForecaster)
SMALL: dict[str, Any] = {"hidden_size": 8, "capacity": 8, "top_k": 2}


def step(model: Any, x: dict[Any, Any], y: Any) -> None:
    if isinstance(model, SABForecaster):
        model.learn_one(float(y), x)
    else:
        model.learn_one(x, y)


def predicted(model: Any, x: dict[Any, Any]) -> Any:
    if isinstance(model, SABForecaster):
        return model.forecast(3, [x] * 3)
    return model.predict_proba_one(x) if isinstance(model, SABClassifier) else model.predict_one(x)


def taught(kind: Callable[..., Any], steps: int = 30, **settings: Any) -> Any:
    model, rng = kind(**{**SMALL, **settings}), np.random.default_rng(0)
    for _ in range(steps):
        a = float(rng.standard_normal())
        step(model, {"a": a, "b": -1.0}, int(a > 0))
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", [None, *range(3)])
def test_rivers_own_checks_pass_without_exceptions(kind: Callable[..., Any], check: int | None) -> None:
    """With default arguments, and with some others."""
    settings = [{"core": "lstm_tbptt", "hidden_size": 8}, {**SMALL, "standardise": False}, {**SMALL, "update_every": 1}]
    model = kind() if check is None else kind(**settings[check])
    assert not model._unit_test_skips()
    checks.check_estimator(model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_and_a_forecast_change_nothing(kind: Callable[..., Any]) -> None:
    asked, silent = (taught(kind) for _ in range(2))
    for number in range(9):
        first = predicted(asked, {"a": 0.5, "c": 2.0})
        assert predicted(asked, {"a": 0.5, "c": 2.0}) == first
        for each in (asked, silent):
            step(each, {"a": float(number)}, number % 2)
    assert predicted(asked, {"a": 1.0}) == predicted(silent, {"a": 1.0})


@pytest.mark.parametrize("kind", KINDS)
def test_copies_go_on_alike_and_a_clone_begins(kind: Callable[..., Any]) -> None:
    model = taught(kind)
    same = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for each in (model, *same):
        for number in range(10):
            step(each, {"a": float(number), "new": 1.0}, number % 3)
    assert all(predicted(each, {"a": 1.0}) == predicted(model, {"a": 1.0}) for each in same)
    clone = model.clone({"hidden_size": 4})
    assert (clone.hidden_size, clone.settings, clone.learner) == (4, {"capacity": 8, "top_k": 2}, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_that_appears_costs_nothing_that_was_learnt(kind: Callable[..., Any]) -> None:
    model = taught(kind)
    before = predicted(model, {"a": 0.5, "b": -1.0})
    assert predicted(model, {"a": 0.5, "b": -1.0, "new": 3.0}) == before
    weights = model.learner.core.cell.weight_ih.detach().clone()
    model.learning_rate = 1e-30
    step(model, {"a": 0.5, "b": -1.0, "new": 3.0}, 1)
    now = model.learner.core.cell.weight_ih
    assert now.shape[1] > weights.shape[1]
    assert (now[:, : weights.shape[1]] == weights).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_feature_is_its_mean(kind: Callable[..., Any]) -> None:
    model = taught(kind)
    assert predicted(model, {"a": 0.5, "b": None}) == predicted(model, {"a": 0.5})
    assert predicted(model, {"a": 0.5}) == pytest.approx(predicted(model, {"a": 0.5, "b": -1.0}))


def test_a_feature_that_appears_late_is_learnt_from() -> None:
    model, rng, right = SABClassifier(hidden_size=16), np.random.default_rng(0), []
    for number in range(900):
        y = bool(rng.random() < 0.5)
        x = {"noise": rng.standard_normal()} | ({7: float(y)} if number >= 300 else {})
        right.append(model.predict_one(x) == y)
        model.learn_one(x, y)
    assert np.mean(right[:300]) < 0.65
    assert np.mean(right[-200:]) > 0.95


def test_features_that_appear_one_by_one_seldom_make_the_learner_grow() -> None:
    model: Any = SABClassifier(**SMALL)
    sizes = set()
    for number in range(200):
        model.learn_one({number: 1.0}, number % 2)
        sizes.add(model.learner.settings["input_size"])
    assert max(sizes) >= 200
    assert len(sizes) < 30


def test_labels_of_any_kind_grow_and_predictions_are_by_label() -> None:
    model, rng = SABClassifier(hidden_size=16), np.random.default_rng(0)
    assert (model.predict_proba_one({"a": 1.0}), model.predict_one({"a": 1.0})) == ({}, None)
    labels = ["red", True, 7, ("a", 2), "late"]

    def shown(label: Any) -> dict[Any, float]:
        return {other: float(other == label) for other in labels}

    for number in range(1000):
        label = labels[0 if number == 0 else rng.integers(4 if number < 500 else 5)]
        model.learn_one(shown(label), label)
        if number == 0:
            assert model.predict_proba_one(shown(7)) == {"red": 1.0}
    assert set(model.labels) == set(labels)
    for label in labels:
        probabilities = model.predict_proba_one(shown(label))
        assert set(probabilities) == set(labels)
        assert math.isclose(sum(probabilities.values()), 1.0)
        assert model.predict_one(shown(label)) == label


def test_numpys_numbers_are_pythons() -> None:
    model = taught(SABClassifier)
    model.learn_one({"a": np.float32(0.5), "b": np.int64(2)}, np.bool_(True))
    assert sorted(model.labels) == [0, 1]  # True is 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("x", "error"),
    [
        ({"a": "red"}, "feature 'a' must be a number, but is 'red'.*OneHotEncoder"),
        ({"a": math.nan}, "feature 'a' must be finite, but is nan.*None"),
        ({"a": 1e300}, "feature 'a' must be finite"),
        ([1.0], "x must be a mapping"),
    ],
)
def test_what_is_no_feature_is_an_error_and_changes_nothing(kind: Callable[..., Any], x: Any, error: str) -> None:
    model, same = taught(kind), taught(kind)
    for call in (lambda: step(model, x, 1), lambda: predicted(model, x)):
        with pytest.raises(ValueError, match=error):
            call()
    for each in (model, same):
        step(each, {"a": 1.0}, 1)
    assert predicted(model, {"a": 2.0}) == predicted(same, {"a": 2.0})


def test_what_is_no_target_is_an_error() -> None:
    for y, error in ((None, ValueError), (math.nan, ValueError), ([1], TypeError)):
        with pytest.raises(error, match="y must be"):
            SABClassifier().learn_one({"a": 1.0}, y)
    for value in (None, math.nan, math.inf, "1"):
        with pytest.raises(ValueError, match="y must be"):
            SABRegressor().learn_one({"a": 1.0}, value)
        with pytest.raises(ValueError, match="y must be"):
            SABForecaster().learn_one(value)
    with pytest.raises(ValueError, match="xs must have one entry for each of the 2"):
        SABForecaster().forecast(2, [{}])
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        SABForecaster().forecast(0)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_checked_when_the_estimator_is_made(kind: Callable[..., Any]) -> None:
    for settings, error, match in (
        ({"top_q": 3}, TypeError, "no setting 'top_q'. Did you mean 'top_k'"),
        ({"core": "rtu"}, ValueError, "learns in real time"),
        ({"core": "sub"}, ValueError, "Did you mean 'sab'"),
        ({"hidden_size": 0}, ValueError, "hidden_size"),
        ({"capacity": 0}, ValueError, "capacity"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate"),
    ):
        with pytest.raises(error, match=match):
            kind(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_mutable_settings_hold_from_the_next_update_on(kind: Callable[..., Any]) -> None:
    model = taught(kind, learning_rate=0.01)
    rates = [group["lr"] for group in model.learner.optimizer.param_groups]
    model.mutate({"learning_rate": 0.02, "clip_norm": 1.0})
    assert [group["lr"] for group in model.learner.optimizer.param_groups] == pytest.approx([2 * r for r in rates])
    assert model.learner.clip_norm == 1.0
    step(model, {"new": 1.0}, 5)  # a learner that has grown keeps them
    assert model.learner.optimizer.param_groups[0]["lr"] == pytest.approx(0.02)
    assert (model.learner.clip_norm, model.clone().learning_rate) == (1.0, 0.02)
    with pytest.raises(ValueError, match="learning_rate"):
        model.mutate({"learning_rate": -1.0})
    with pytest.raises(ValueError, match="not a mutable attribute"):
        model.mutate({"hidden_size": 4})


def test_the_heads_own_rate_is_passed_on() -> None:
    model = taught(SABClassifier, head_rate=0.5)
    rates = {group["lr"] for group in model.learner.optimizer.param_groups}
    assert model.learning_rate * 0.5 in rates
    assert model.clone().settings["head_rate"] == 0.5


def test_it_learns_in_a_pipeline_of_rivers_transformers() -> None:
    rng = np.random.default_rng(0)
    stream = [({"colour": str(c), "size": 1000.0 + rng.standard_normal()}, c) for c in rng.integers(3, size=1200)]
    encoder = compose.Select("colour") | preprocessing.OneHotEncoder()
    model = (encoder + (compose.Select("size") | preprocessing.StandardScaler())) | SABClassifier(hidden_size=16)
    assert evaluate.progressive_val_score(stream, model, metrics.Accuracy()).get() > 0.9


def test_the_past_counts() -> None:
    rng, stream, shown = np.random.default_rng(0), [], 0
    for number in range(1500):
        if number % 5 == 0:
            shown = int(rng.integers(2))
        stream.append(({"shown": float(shown), "ask": 0.0} if number % 5 == 0 else {"shown": 0.5, "ask": 1.0}, shown))
    model = SABClassifier(hidden_size=16, previous_label=False)
    right = []
    for x, y in stream:
        right.append(model.predict_one(x) == y)
        model.learn_one(x, y)
    assert np.mean(right[-500:]) > 0.95


def test_a_regressor_needs_no_scaled_targets() -> None:
    data = datasets.TrumpApproval()
    score = evaluate.progressive_val_score(data, SABRegressor(), metrics.MAE()).get()
    assert score < 2  # targets are near 40


def test_a_forecast_follows_a_season_and_uses_features() -> None:
    model, rng = SABForecaster(hidden_size=32), np.random.default_rng(0)
    holiday = rng.random(1503) < 0.2
    series = [50 + 10 * math.sin(t * math.pi / 6) + 20 * holiday[t] for t in range(1503)]
    for t in range(1500):
        model.learn_one(series[t], {"holiday": holiday[t]})
    forecast = model.forecast(3, [{"holiday": holiday[t]} for t in range(1500, 1503)])
    assert model.forecast(2, [None, None]) == model.forecast(2)  # as River's evaluation passes no features
    assert np.abs(np.subtract(forecast, series[1500:])).max() < 5


@pytest.mark.parametrize("module", [classifier, regressor, forecaster])
def test_the_examples_run(module: Any) -> None:
    assert doctest.testmod(module) == (0, {classifier: 6, regressor: 5, forecaster: 4}[module])
