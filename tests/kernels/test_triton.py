"""The fused kernel in Triton's interpreter, on a CPU, against the reference; `make test-triton` installs Triton."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sab_agents import SAB
from sab_agents.kernels import ScanArguments, forced_kernel
from sab_agents.kernels.triton_backend import available, sizes
from tests.core.test_scan_equals_reference import place, random_scan, results
from tests.kernels.triton_cases import TOLERANCES, compare, fused, network, ring, rounded, rows_of, steadiest
from tests.readings import BEYOND

# The interpreter of Triton 3.6 does not work with NumPy 2.4; its compiler does.
pytest.importorskip("triton", minversion="3.9", reason="Triton 3.9 is not installed: make test-triton installs it")
pytestmark = [
    pytest.mark.skipif(
        not available.interpreted(), reason="with a GPU, only where TRITON_INTERPRET=1: make test-triton"
    ),
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),  # sigmoid of a large −x, in NumPy
]

READINGS = pytest.mark.parametrize("beyond", [False, True], ids=["paper", "beyond"])
BOTH = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=["float32", "bfloat16"])


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sum and every look at the slots takes several turns."""
    monkeypatch.setattr(sizes, "SCORED", 1024)
    monkeypatch.setattr(sizes, "IN_FLIGHT", 1024)


def side_by_side(monkeypatch: pytest.MonkeyPatch, processors: int) -> None:
    """As on a device with so many processors: the more there are, the fewer rows has a program."""
    monkeypatch.setattr("sab_agents.kernels.triton_backend.launch._processors", lambda _: processors)


@BOTH
@pytest.mark.parametrize("first", range(0, 32, 8))
def test_any_plan_equals_the_reference(monkeypatch: pytest.MonkeyPatch, first: int, dtype: torch.dtype) -> None:
    side_by_side(monkeypatch, 1 + first // 8)
    found = {seed: compare(*random_scan(seed), "cpu", dtype) for seed in range(first, first + 8)}
    assert {seed: x for seed, x in found.items() if x is not None and x > 1} == {}
    assert sum(x is not None for x in found.values()) >= 3


@BOTH
@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("overwritten", ring(0, 12, 3, 2, bptt_steps=1, starts=0.0)),
        ("starts", ring(1, 12, 3, 4, starts=0.3)),
        ("uncut", ring(2, 8, 4, 3, bptt_steps=99)),
        ("uncredited", ring(3, 10, 2, 3, credit=False)),
        ("gain", ring(4, 10, 3, 3, gain=0.4)),
        ("beyond", ring(5, 12, 3, 3, beyond=True)),
        ("beyond, uncredited", ring(6, 12, 3, 3, credit=False, beyond=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rings_that_are_overwritten_equal_the_reference(name: str, plan: Any, dtype: torch.dtype) -> None:
    T, B = plan.start.shape
    beyond = plan.reading.age
    found = [compare(network(seed, T, B, 12, 5, plan.slots, beyond=beyond), plan, "cpu", dtype) for seed in range(6)]
    counted = [x for x in found if x is not None]
    assert len(counted) >= 2, name
    assert max(counted) <= 1, name


@BOTH
@READINGS
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("processors", [1, 3])
def test_several_blocks_of_everything(
    monkeypatch: pytest.MonkeyPatch, processors: int, beyond: bool, dtype: torch.dtype
) -> None:
    side_by_side(monkeypatch, processors)
    arguments, plan = network(0, 6, 200, 20, 18, 19, beyond=beyond), ring(0, 6, 200, 19, beyond=beyond)
    found = compare(*steadiest(arguments, plan, count=3), "cpu", dtype)
    assert found is not None
    assert found <= 1


@BOTH
@READINGS
def test_sixteen_rows_in_a_program_multiply_matrices(beyond: bool, dtype: torch.dtype) -> None:
    assert sizes.blocks(18, 16, 5, 4, 4, processors=1).dot
    arguments, plan = network(6, 6, 400, 16, 5, 4, beyond=beyond), ring(6, 6, 400, 4, beyond=beyond)
    found = compare(*steadiest(arguments, plan, count=18), "cpu", dtype)
    assert found is not None
    assert found <= 1


def test_an_episode_start_lets_nothing_through() -> None:
    arguments = rounded(network(0, 6, 2, 8, 4, 3), torch.float32)
    plan = replace(ring(0, 6, 2, 3, starts=0.0), filled=torch.ones(2, 3, dtype=torch.bool))
    plan.start[2, 0] = plan.cut[2, 0] = True
    outputs = fused("cpu", torch.float32)(ScanArguments(*arguments), plan)
    (grad,) = torch.autograd.grad(outputs.h[2:].sum(), [arguments[place("memory")]])
    assert (grad[0] == 0).all()
    assert (grad[1] != 0).any()
    assert (outputs.versions[2:, 0] < 0).any()
    assert ((outputs.versions[2:, 0] == -1) | (outputs.versions[2:, 0] >= 3 + 2)).all()


def test_without_credit_the_starting_memory_gets_no_gradient() -> None:
    arguments = rounded(network(0, 6, 2, 8, 4, 3), torch.float32)
    for credit in (True, False):
        plan = replace(ring(0, 6, 2, 3, credit=credit), filled=torch.ones(2, 3, dtype=torch.bool))
        outputs = fused("cpu", torch.float32)(ScanArguments(*arguments), plan)
        (grad,) = torch.autograd.grad(outputs.h.sum(), [arguments[place("memory")]])
        assert bool((grad != 0).any()) is credit


@BOTH
@READINGS
def test_without_gradient_the_outputs_are_the_same(beyond: bool, dtype: torch.dtype) -> None:
    arguments, plan = rounded(network(0, 9, 3, 8, 4, 4, beyond=beyond), dtype), ring(0, 9, 3, 4, beyond=beyond)
    compute = fused("cpu", dtype)
    with_gradient = compute(ScanArguments(*arguments), plan)
    with torch.no_grad():
        without = compute(ScanArguments(*arguments), plan)
    for one, other in zip(with_gradient, without, strict=True):
        assert torch.equal(one, other)


def test_gradients_can_be_taken_twice_from_one_forward_pass() -> None:
    arguments, plan = rounded(network(0, 6, 2, 8, 4, 3), torch.float32), ring(0, 6, 2, 3)
    tensors = [x for x in arguments if x is not None]
    outputs = fused("cpu", torch.float32)(ScanArguments(*arguments), plan)
    first = torch.autograd.grad(outputs.h.sum(), tensors, retain_graph=True, materialize_grads=True)
    second = torch.autograd.grad(outputs.h.sum(), tensors, materialize_grads=True)
    for before, after in zip(first, second, strict=True):
        assert torch.equal(before, after)


def test_scores_that_are_not_numbers_show_in_the_output() -> None:
    arguments = rounded(network(0, 6, 2, 8, 4, 3), torch.float32)
    arguments[place("key_weight")] = torch.full_like(arguments[place("key_weight")], torch.nan)
    plan = replace(ring(0, 6, 2, 3, starts=0.0), filled=torch.tensor([[True] * 3, [False] * 3]))
    h = fused("cpu", torch.float32)(ScanArguments(*arguments), plan).h
    assert h[0, 0].isnan().all()
    assert h[0, 1].isfinite().all()  # nothing was read


def test_shapes_that_do_not_fit_are_refused() -> None:
    arguments, plan = network(0, 6, 2, 8, 4, 3), ring(0, 6, 2, 3)
    inputs, compute = ScanArguments(*arguments), fused("cpu", torch.float32)
    with pytest.raises(ValueError, match=r"plan\.filled must have shape \(2, 3\)"):
        compute(inputs, replace(plan, filled=plan.filled[:1]))
    with pytest.raises(ValueError, match="weight_hh must have shape"):
        compute(inputs._replace(weight_hh=inputs.weight_hh[:-1]), plan)


@pytest.mark.parametrize("attention", ["mlp", "dot"])
@READINGS
def test_the_module_computes_the_same_with_a_state_that_goes_on(attention: Any, beyond: bool) -> None:
    torch.manual_seed(0)
    sab = SAB(3, 8, top_k=2, bptt_steps=2, capacity=3, attention=attention, **(BEYOND if beyond else {}))
    x, found = torch.randn(8, 2, 3), {}
    for kernel in ("torch", "triton"):
        with forced_kernel(kernel):
            first, state = sab(x[:5])
            second, _ = sab(x[5:], state)
            gradients = torch.autograd.grad((first.sum() + second.sum()), list(sab.parameters()))
        found[kernel] = [first, second, *gradients]
    for one, other in zip(found["torch"], found["triton"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    arguments, plan = rounded(network(0, 8, 5, 8, 4, 4), torch.float32), ring(0, 8, 5, 4)
    together = results(fused("cpu", torch.float32), arguments, plan)[1]
    for row in (0, 4):
        alone = rows_of(arguments, plan, torch.tensor([row]))
        summary = results(fused("cpu", torch.float32), *alone)[1]
        torch.testing.assert_close(summary[:, 0], together[:, row], rtol=1e-6, atol=1e-6)


def test_the_kernels_compile_for_a_gpu_without_one(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": root,
        "TRITON_CACHE_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    command = [sys.executable, "-W", "ignore", "-m", "tests.kernels.compile_triton"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "8 kernels" in done.stdout
