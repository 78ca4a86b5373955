"""Running statistics against numpy over the whole history, and the sparse initialisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sab_agents.online.normalise import ObservationNormaliser, RewardScaler
from sab_agents.online.readout import sparse_linear


def test_observations_are_normalised_by_all_that_came_so_far() -> None:
    history = np.random.default_rng(0).normal([5, -300, 0], [0.1, 40, 1e-3], (200, 3))
    normaliser = ObservationNormaliser(3)
    for count, observation in enumerate(history, start=1):
        received = normaliser.update(observation)
        seen = history[:count]
        deviation = seen.std(axis=0, ddof=1) if count > 1 else 1
        expected = (observation - seen.mean(axis=0)) / np.sqrt(deviation**2 + 1e-8)
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
        assert received.dtype == np.float32


def test_normalising_alone_changes_no_statistics() -> None:
    normaliser = ObservationNormaliser(2)
    normaliser.update(np.array([1.0, 2.0]))
    normaliser.normalise(np.array([[100.0, 100.0]]))
    assert (normaliser.count, normaliser.mean.tolist()) == (1, [1.0, 2.0])


def test_rewards_are_scaled_by_the_deviation_of_their_discounted_sum() -> None:
    rng = np.random.default_rng(1)
    rewards, ends = rng.normal(3, 2, 300), rng.random(300) < 0.1
    scaler = RewardScaler(0.9)
    sums: list[float] = []
    for count, (reward, end) in enumerate(zip(rewards, ends, strict=True), start=1):
        received = scaler.update(float(reward), bool(end))
        sums.append(reward + (0 if end or not sums else 0.9 * sums[-1]))
        variance = np.var(sums, ddof=1) if count > 1 else 1
        assert received == pytest.approx(reward / np.sqrt(variance + 1e-8))


def test_what_is_not_finite_is_refused_before_it_counts() -> None:
    normaliser, scaler = ObservationNormaliser(2), RewardScaler(0.9)
    with pytest.raises(ValueError, match="observation must be finite"):
        normaliser.update(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="reward must be finite"):
        scaler.update(float("inf"), False)
    assert (normaliser.count, scaler.count) == (0, 0)


def test_a_sparse_layer_has_its_share_of_zeros_in_each_unit() -> None:
    layer = sparse_linear(64, 32, 0.9)
    assert (layer.weight == 0).sum(dim=1).tolist() == [58] * 32
    assert layer.weight.abs().max() <= 1 / 8
    assert len({tuple(row.nonzero().flatten().tolist()) for row in layer.weight}) > 16
    assert torch.equal(layer.bias, torch.zeros(32))


def test_a_sparse_layer_with_few_inputs_is_not_silent() -> None:
    assert (sparse_linear(3, 8, 0.9).weight != 0).sum(dim=1).tolist() == [1] * 8


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sparsity must be a number from 0 to 1, but is 1\.5"):
        sparse_linear(3, 3, 1.5)
