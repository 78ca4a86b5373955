"""The mixture's and the scales' native kernels compute what torch does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sab_agents.kernels import MixtureKernel, MixtureState, ScaleKernel, ScaleState, mixture_kernel, scale_kernel
from tests.kernels.extension import needs_native

LARGEST = float(np.finfo(np.float32).max)


def mixture(labels: int, views: int, features: int, size: int = 6) -> MixtureState:
    K, R, real = 3 * views, 2, torch.float64
    return MixtureState(
        rates=torch.tensor((0.1, 1.0, 8.0) * views + (0.3, 2.0), dtype=real),
        share=0.01,
        least=1e-6,
        weights=torch.full((1 + K + R,), 1 / (1 + K + R), dtype=real),
        linear=torch.zeros(labels, K, 1 + features, dtype=real),
        readout=torch.zeros(labels, R, 1 + size, dtype=real),
        x=torch.zeros(views, features),
        output=torch.zeros(size),
        head=torch.zeros(labels + 2, size),
        bias=torch.zeros(labels + 2),
        each=torch.full((labels, 1 + K + R), torch.nan, dtype=real),
        mixed=torch.full((labels,), torch.nan, dtype=real),
    )


def scales(features: int, size: int) -> ScaleState:
    columns = torch.randperm(size, generator=torch.Generator().manual_seed(0))[:features]
    values, seen, mean, squares = (torch.zeros(features, dtype=torch.float64) for _ in range(4))
    return ScaleState(values, seen, mean, squares, torch.ones_like(mean), columns, torch.zeros(size))


def mixtures(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> list[tuple[MixtureState, MixtureKernel]]:
    made = []
    for kernel in ("native", "torch"):
        monkeypatch.setenv("SAB_KERNEL", kernel)
        state = mixture(*sizes)
        made.append((state, mixture_kernel(state)))
    return made


@needs_native
@pytest.mark.parametrize(("labels", "views", "features"), [(1, 1, 0), (2, 1, 3), (2, 2, 8), (7, 2, 26), (5, 3, 301)])
def test_a_native_mixture_is_torchs(labels: int, views: int, features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    both, rng = mixtures(monkeypatch, labels, views, features), np.random.default_rng(0)
    for step in range(80):
        x, label = rng.standard_normal((views, features)) * 10.0 ** rng.integers(-3, 4), int(rng.integers(labels))
        layer = [rng.standard_normal(shape) * 3 for shape in ((6,), (labels + 2, 6), (labels + 2,))]
        for state, kernel in both:
            state.x.copy_(torch.from_numpy(x))
            for array, value in zip((state.output, state.head, state.bias), layer, strict=True):
                array.copy_(torch.from_numpy(value))
            kernel.mix()
        (one, _), (plain, _) = both
        np.testing.assert_allclose(one.each, plain.each, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(one.mixed, plain.mixed, rtol=1e-9, atol=1e-12)
        assert float(one.mixed.sum()) == pytest.approx(1)
        for _, kernel in both:
            kernel.learn(label, step % 9 > 0)
        np.testing.assert_allclose(one.weights, plain.weights, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(one.linear, plain.linear, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(one.readout, plain.readout, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kernel", ["torch", pytest.param("native", marks=needs_native)])
def test_the_largest_numbers_keep_a_mixture_finite(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", kernel)
    state = mixture(2, 1, 4)
    mixing = mixture_kernel(state)
    for step, size in enumerate([1.0, LARGEST, 1e-30, LARGEST, -LARGEST, 0.0, 3.0] * 5):
        state.x.fill_(size)
        state.output.fill_(size)
        state.head[0] = 1.0
        mixing.mix()
        assert state.mixed.isfinite().all()
        mixing.learn(step % 2, True)
        assert state.linear.isfinite().all()
        assert float(state.weights.sum()) == pytest.approx(1)


@needs_native
def test_native_scales_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    both: list[tuple[ScaleState, ScaleKernel]] = []
    for kernel in ("native", "torch"):
        monkeypatch.setenv("SAB_KERNEL", kernel)
        state = scales(9, 14)
        both.append((state, scale_kernel(state)))
    rng = np.random.default_rng(0)
    for step in range(60):
        values = rng.standard_normal(9) * 10.0 ** np.arange(-4, 5)
        values[0], values[1] = 7.0, LARGEST if step == 50 else values[1]
        for state, scale in both:
            state.values.copy_(torch.from_numpy(values))
            scale.lay()
            scale.update()
        for one, other in zip(*(state for state, _ in both), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6 if one.dtype is torch.float32 else 1e-12)
    assert both[0][0].out.isfinite().all()
