"""Trace conditioning: when stimuli come, what the returns are, and the scores of memoryless and of ideal learners."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sab_agents.envs.supervised.trace_conditioning import TraceConditioning

Numbers = npt.NDArray[Any]


def played(stream: TraceConditioning, steps: int) -> tuple[Numbers, Numbers]:
    """The inputs (steps, rows, features) and the returns (steps, rows)."""
    shown = [stream.step() for _ in range(steps)]
    return np.array([step.x for step in shown]), np.array([step.y for step in shown], np.float64)


def runs(signal: Numbers) -> tuple[Numbers, Numbers]:
    """The first steps and the lengths of what is on, without what is cut off at the end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], signal])))
    first, last = edges[: len(edges) // 2 * 2].reshape(-1, 2).T
    return first, last - first


@pytest.mark.parametrize(("interval", "least", "greatest"), [(10, 7, 13), (20, 14, 26), (40, 27, 53)])
def test_trials_have_the_published_times(interval: int, least: int, greatest: int) -> None:
    stream = TraceConditioning(interval, rows=30, seed=3)
    x, _ = played(stream, 6000)
    waits, pauses = [], []
    for row in range(30):
        cs, cs_lengths = runs(x[:, row, 1])
        us, us_lengths = runs(x[:, row, 0])
        assert row or cs[0] == 0
        assert set(cs_lengths) == {4}
        assert set(us_lengths) == {2}
        trials = min(len(cs), len(us))
        assert trials > 30
        waits += (us[:trials] - cs[:trials]).tolist()
        pauses += (cs[1:trials] - us[: trials - 1]).tolist()
    for seen, values in ((waits, range(least, greatest + 1)), (pauses, range(80, 121))):
        assert set(seen) == set(values)
        counts = np.bincount(seen)[list(values)]
        even = len(seen) / len(values)
        assert (abs(counts - even) < 5 * even**0.5).all()
    assert np.corrcoef(waits[: len(pauses)], pauses)[0, 1] == pytest.approx(0, abs=0.1)


def test_distractors_go_on_by_themselves() -> None:
    x, _ = played(TraceConditioning(10, rows=20), 5000)
    for number in range(1, 11):
        lengths, gaps = [], []
        for row in range(20):
            first, each = runs(x[:, row, 1 + number])
            lengths += each.tolist()
            gaps += (first[1:] - (first + each)[:-1]).tolist()
        assert set(lengths) == {4}
        assert min(gaps) == 1
        waited = np.array(gaps)
        assert waited.mean() == pytest.approx(10 * number, abs=5 * waited.std() / len(gaps) ** 0.5)
        assert abs(np.corrcoef(x[:, :, 1 + number].ravel(), x[:, :, 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("interval", [2, 5, 20])
def test_the_return_is_the_discounted_sum_of_all_that_comes(interval: int) -> None:
    stream = TraceConditioning(interval, rows=3, distractors=0)
    assert stream.input_size == 2
    x, y = played(stream, 2000)
    weights = (1 - 1 / interval) ** np.arange(1500)
    for t in (0, 1, 57, 58, 59, 399, 498):
        np.testing.assert_allclose(y[t], weights @ x[t + 1 : t + 1501, :, 0], atol=1e-6)


@pytest.mark.parametrize("interval", [4, 10, 20])
def test_the_computed_scores_are_those_of_long_runs(interval: int) -> None:
    """What the memoryless and the ideal learner know is tabulated from the inputs; each predicts the mean."""
    stream = TraceConditioning(interval, rows=60, distractors=0, seed=1)
    x, y = played(stream, 12_000)
    us, cs = x[..., 0] == 1, x[..., 1] == 1
    after, since = np.zeros(60, np.bool_), np.full(60, -1)
    remembered = np.zeros_like(y)
    begun = np.zeros_like(us)
    for t in range(len(y)):
        onset_cs, onset_us = cs[t] & ~(cs[t - 1] & (t > 0)), us[t] & ~(us[t - 1] & (t > 0))
        since = np.where(onset_cs | onset_us, 0, since + 1)
        after = np.where(onset_us, True, np.where(onset_cs, False, after))
        remembered[t] = 10_000 * after + since
        begun[t] = begun[t - 1] | onset_cs
    kept = begun & (np.arange(len(y)) > 1000)[:, None]
    for keys, score in ((2 * us + cs, stream.memoryless), (remembered, stream.best)):
        classes = np.unique(keys[kept], return_inverse=True)[1]
        means = np.bincount(classes, y[kept]) / np.bincount(classes)
        error = (y[kept] - means[classes]) ** 2
        assert error.mean() == pytest.approx(score, rel=0.02)


def test_distractors_tell_a_memoryless_learner_nothing() -> None:
    assert TraceConditioning(10, distractors=0).memoryless == TraceConditioning(10).memoryless
    x, y = played(TraceConditioning(10, rows=30), 5000)
    quiet = (x[..., 0] == 0) & (x[..., 1] == 0)
    for number in range(1, 11):
        on = quiet & (x[..., 1 + number] == 1)
        assert y[on].mean() == pytest.approx(y[quiet].mean(), abs=0.02)


def test_a_memory_explains_most_of_the_return_and_what_is_drawn_the_rest() -> None:
    for interval in (10, 20, 40, 80):
        stream = TraceConditioning(interval)
        assert 0 < stream.best < 0.2 * stream.memoryless


def test_a_stream_is_the_same_for_the_same_seed() -> None:
    for one, other in zip(*(played(TraceConditioning(10, rows=4, seed=7), 500) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"interval": 1}, ValueError, "interval must be at least 2, but is 1"),
        ({"interval": 2.5}, TypeError, "interval must be an int"),
        ({"rows": 0}, ValueError, "rows must be at least 1, but is 0"),
        ({"distractors": 11}, ValueError, "distractors must be an int from 0 to 10, but is 11"),
        ({"seed": -1}, ValueError, "seed must be at least 0, but is -1"),
    ],
)
def test_a_setting_out_of_range_is_an_error(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"TraceConditioning: {message}"):
        TraceConditioning(**settings)
