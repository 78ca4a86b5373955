"""Which way a scan takes: by device and dtype, by what was built, and by SAB_KERNEL."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from sab_agents import SAB
from sab_agents.kernels import backend as choose
from sab_agents.kernels import kernel_in_use
from sab_agents.kernels.native_backend import extension
from sab_agents.kernels.triton_backend import available
from tests.kernels.extension import needs_native

scans: Any = import_module("sab_agents.kernels.scan")


@pytest.fixture(autouse=True)
def unforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAB_KERNEL", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.fixture
def triton_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with both."""
    monkeypatch.setattr(available, "imports", lambda: True)
    monkeypatch.setattr(available, "recent", lambda _: True)


def ways_taken(monkeypatch: pytest.MonkeyPatch, sab: SAB, x: torch.Tensor) -> set[str]:
    """The kernels that compute a sequence; Triton's is stood in for by plain torch."""
    taken: set[str] = set()
    original = scans._kernel

    def spied(name: str) -> Any:
        taken.add(name)
        return original("torch" if name == "triton" else name)

    monkeypatch.setattr(scans, "_kernel", spied)
    sab(x)
    return taken


@needs_native
def test_float32_on_a_cpu_is_native_and_float64_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_in_use("cpu", torch.float32) == "native"
    assert kernel_in_use(torch.device("cpu"), torch.float64) == "torch"
    assert ways_taken(monkeypatch, SAB(3, 4), torch.randn(5, 2, 3)) == {"native"}


def test_float64_takes_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert ways_taken(monkeypatch, SAB(3, 4, dtype=torch.float64), x) == {"torch"}


def test_without_the_extension_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "native", None)
    choose._warn_not_built.cache_clear()
    with pytest.warns(RuntimeWarning, match="not built.*compiler.*SAB_KERNEL=torch"):
        assert kernel_in_use("cpu", torch.float32) == "torch"
    assert kernel_in_use("cpu", torch.float32) == "torch"  # said once
    assert ways_taken(monkeypatch, SAB(3, 4), torch.randn(5, 2, 3)) == {"torch"}


def test_the_variable_forces_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", "torch")
    assert kernel_in_use("cpu", torch.float32) == "torch"
    assert ways_taken(monkeypatch, SAB(3, 4), torch.randn(5, 2, 3)) == {"torch"}


def test_native_asked_for_but_not_built_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", "native")
    monkeypatch.setattr(extension, "native", None)
    with pytest.raises(RuntimeError, match=r"not built.*compiler.*reinstall"):
        kernel_in_use("cpu", torch.float32)


@needs_native
def test_native_asked_for_but_impossible_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", "native")
    assert kernel_in_use("cpu", torch.float32) == "native"
    with pytest.raises(ValueError, match=r"float32 on a CPU only.*torch\.float64 on cpu"):
        kernel_in_use("cpu", torch.float64)


def test_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", "fast")
    with pytest.raises(ValueError, match=r'must be "native", "torch" or "triton", but is \'fast\''):
        kernel_in_use("cpu", torch.float32)


@pytest.mark.usefixtures("triton_on_a_gpu")
def test_float32_and_bfloat16_on_a_gpu_are_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_in_use("cuda", torch.float32) == "triton"
    assert kernel_in_use("cuda:1", torch.bfloat16) == "triton"
    assert kernel_in_use("cuda", torch.float64) == "torch"
    assert kernel_in_use("cuda", torch.float16) == "torch"
    monkeypatch.setenv("SAB_KERNEL", "torch")
    assert kernel_in_use("cuda", torch.float32) == "torch"


@pytest.mark.parametrize("lacking", ["imports", "recent"])
@pytest.mark.usefixtures("triton_on_a_gpu")
def test_a_gpu_without_triton_or_too_old_for_it_takes_torch(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    monkeypatch.setattr(available, lacking, lambda *_: False)
    assert kernel_in_use("cuda", torch.float32) == "torch"


@pytest.mark.usefixtures("triton_on_a_gpu")
def test_the_interpreter_serves_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert kernel_in_use("cpu", torch.bfloat16) == "torch"
    assert kernel_in_use("cuda", torch.float32) == "torch"
    monkeypatch.setenv("SAB_KERNEL", "triton")
    assert kernel_in_use("cpu", torch.float32) == "triton"
    assert ways_taken(monkeypatch, SAB(3, 4), torch.randn(5, 2, 3)) == {"triton"}


@pytest.mark.usefixtures("triton_on_a_gpu")
def test_triton_asked_for_but_impossible_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", "triton")
    assert kernel_in_use("cuda", torch.float32) == "triton"
    with pytest.raises(ValueError, match=r"on a GPU only, but they are on cpu\. .*TRITON_INTERPRET=1"):
        kernel_in_use("cpu", torch.float32)
    with pytest.raises(ValueError, match=r"float32 and bfloat16 only, but the tensors are torch\.float64"):
        kernel_in_use("cuda", torch.float64)


def test_triton_asked_for_but_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAB_KERNEL", "triton")
    monkeypatch.setattr(available, "imports", lambda: False)
    with pytest.raises(RuntimeError, match=r"cannot be imported.*set SAB_KERNEL"):
        kernel_in_use("cuda", torch.float32)


def test_a_scan_that_is_too_large_for_triton_takes_torch_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    sab, x = SAB(3, 4, capacity=5000), torch.randn(2, 1, 3)
    monkeypatch.setattr(choose, "kernel_in_use", lambda *_: "triton")
    assert ways_taken(monkeypatch, sab, x) == {"torch"}
    monkeypatch.setenv("SAB_KERNEL", "triton")
    with pytest.raises(ValueError, match=r"at most 4096 slots.*has 5000, 4, \d+ and top_k"):
        sab(x)


def test_the_fused_kernel_is_not_imported_before_it_is_needed() -> None:
    launch = "sab_agents.kernels.triton_backend.launch"
    code = f"import sys, sab_agents; sab_agents.SAB(3, 4); sys.exit({launch!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
