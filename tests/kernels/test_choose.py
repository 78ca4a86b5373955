"""Which way a scan takes: by device and dtype, by what was built, and by SAB_KERNEL."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sab_agents import SAB
from sab_agents.kernels import compiled, compiled_products, eager, extension, kernel_in_use
from tests.kernels.extension import needs_native


@pytest.fixture(autouse=True)
def unforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAB_KERNEL", raising=False)


def ways_taken(monkeypatch: pytest.MonkeyPatch, sab: SAB, x: torch.Tensor) -> set[str]:
    taken: set[str] = set()

    def spy(name: str, module: Any, function: str) -> None:
        original = getattr(module, function)

        def called(*arguments: Any, **options: Any) -> Any:
            taken.add(name)
            return original(*arguments, **options)

        monkeypatch.setattr(module, function, called)

    spy("native", compiled, "scan")
    spy("native linear", compiled_products, "linear")
    spy("torch", eager, "scan")
    sab(x)
    return taken


@needs_native
def test_float32_on_a_cpu_is_native_and_float64_is_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_in_use("cpu", torch.float32) == "native"
    assert kernel_in_use(torch.device("cpu"), torch.float64) == "torch"
    assert kernel_in_use("cuda", torch.float32) == "torch"
    assert ways_taken(monkeypatch, SAB(3, 4), torch.randn(5, 2, 3)) == {"native", "native linear"}


def test_float64_takes_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    assert ways_taken(monkeypatch, SAB(3, 4, dtype=torch.float64), x) == {"torch"}


def test_without_the_extension_torch_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "native", None)
    assert kernel_in_use("cpu", torch.float32) == "torch"
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
    with pytest.raises(ValueError, match=r'must be "native" or "torch", but is \'fast\''):
        kernel_in_use("cpu", torch.float32)
