"""The fused kernel on a GPU: the same numbers as the reference, at small and at large sizes, every time."""

from __future__ import annotations

import pytest
import torch

from sab_agents import SAB
from sab_agents.kernels import kernel_in_use
from sab_agents.kernels.triton_backend import available
from tests.core.test_scan_equals_reference import random_scan, results
from tests.kernels.triton_cases import HAS_GPU, TOLERANCES, compare, deviation, fused, network, ring, rounded, steadiest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU, reason="no GPU with Triton here: the fused kernel is untested on a device"),
    pytest.mark.skipif(available.interpreted(), reason="TRITON_INTERPRET=1 is set: unset it to test on the GPU"),
]

READINGS = pytest.mark.parametrize("beyond", [False, True], ids=["paper", "beyond"])
BOTH = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "bfloat16"])


@BOTH
def test_any_plan_equals_the_reference(dtype: torch.dtype) -> None:
    found = {seed: compare(*random_scan(seed), "cuda", dtype) for seed in range(80)}
    assert {seed: x for seed, x in found.items() if x is not None and x > 1} == {}
    assert sum(x is not None for x in found.values()) >= 30


@BOTH
@READINGS
@pytest.mark.parametrize("processors", [None, 1])
def test_rings_that_are_overwritten_equal_the_reference(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, beyond: bool, dtype: torch.dtype
) -> None:
    if processors is not None:  # one program has many rows, and multiplies on tensor cores
        monkeypatch.setattr("sab_agents.kernels.triton_backend.launch._processors", lambda _: processors)
    for seed in range(4):
        arguments, plan = network(seed, 10, 200, 24, 17, 19, beyond=beyond), ring(seed, 10, 200, 19, beyond=beyond)
        rows = steadiest(arguments, plan, count=18)
        found = compare(*rows, "cuda", dtype)
        assert found is not None
        assert found <= 1


@BOTH
@READINGS
@pytest.mark.parametrize("processors", [None, 1])
def test_large_sizes_equal_the_reference(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, beyond: bool, dtype: torch.dtype
) -> None:
    if processors is not None:
        monkeypatch.setattr("sab_agents.kernels.triton_backend.launch._processors", lambda _: processors)
    arguments = network(0, 12, 600, 128, 32, 300, beyond=beyond)
    plan = ring(0, 12, 600, 300, bptt_steps=5, beyond=beyond)
    found = compare(*steadiest(arguments, plan, count=20), "cuda", dtype)
    assert found is not None
    assert found <= 1


@BOTH
@READINGS
def test_the_same_numbers_every_time(beyond: bool, dtype: torch.dtype) -> None:
    arguments = rounded(network(0, 100, 150, 100, 32, 40, beyond=beyond), dtype)
    plan = ring(0, 100, 150, 40, bptt_steps=5, beyond=beyond)
    first = results(fused("cuda", dtype), arguments, plan)
    for _ in range(5):
        assert deviation(results(fused("cuda", dtype), arguments, plan), first, dtype) == 0


def test_the_library_chooses_it() -> None:
    assert kernel_in_use("cuda", torch.float32) == "triton"
    sab = SAB(16, 32, device="cuda")
    output, _ = sab(torch.randn(20, 4, 16, device="cuda"))
    output.sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in sab.parameters())
