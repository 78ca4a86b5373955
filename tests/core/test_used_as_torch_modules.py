"""What others do with a torch module works with every core, or is refused in a sentence."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sab_agents.core import CORES, build_core
from sab_agents.kernels import forced_kernel
from tests.kernels.extension import needs_native

every_core = pytest.mark.parametrize("name", CORES)
every_kernel = pytest.mark.parametrize("kernel", [pytest.param("native", marks=needs_native), "torch"])


def core_and_input(name: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    return build_core(name, 3, 4), torch.randn(5, 2, 3)


def learned(core: Any, output: Tensor) -> list[Tensor]:
    core.zero_grad()
    output.float().square().sum().backward()  # type: ignore[no-untyped-call]
    return [output.detach(), *(parameter.grad for parameter in core.parameters() if parameter.grad is not None)]


def assert_equal(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs)


@every_core
@every_kernel
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_recomputes_it(name: str, kernel: str, reentrant: bool) -> None:
    core, x = core_and_input(name)
    with forced_kernel(kernel):
        output: Any = checkpoint(lambda y: core(y)[0], x.requires_grad_(), use_reentrant=reentrant)
        assert_equal(learned(core, output), learned(core, core(x)[0]))


@every_core
@every_kernel
def test_autocast_on_a_cpu_takes_any_dtype_and_computes_in_the_parameters(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    rounded = x.bfloat16()
    with forced_kernel(kernel):
        expected = learned(core, core(rounded.float())[0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, state = core(rounded)
            assert core.step(rounded[0], state)[0].dtype is output.dtype is torch.float32
        assert_equal(learned(core, output), expected)


@every_core
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_a_trace_is_refused(name: str) -> None:
    core, x = core_and_input(name)
    with pytest.raises(TypeError, match=r"torch\.jit\.trace would fix .* Use torch\.export"):
        torch.jit.trace(lambda y: core(y)[0], (x,))  # type: ignore[no-untyped-call]


@every_core
@every_kernel
def test_hooks_are_called(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    called: list[str] = []
    core.register_forward_hook(lambda *_: called.append("forward"))
    core.register_full_backward_hook(lambda *_: called.append("backward"))
    with forced_kernel(kernel):
        learned(core, core(x.requires_grad_())[0])
    assert called == ["forward", "backward"]


@every_core
@every_kernel
def test_threads_share_a_core(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    with forced_kernel(kernel):
        expected, found = core(x)[0], list[Tensor]()
        threads = [threading.Thread(target=lambda: found.append(core(x)[0])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert all(torch.equal(expected, each) for each in found)


@every_core
@every_kernel
def test_inference_mode_and_a_frozen_part(name: str, kernel: str) -> None:
    core, x = core_and_input(name)
    with forced_kernel(kernel):
        expected = core(x)[0].detach()
        with torch.inference_mode():
            assert torch.equal(core(x)[0], expected)
        first = next(core.parameters()).requires_grad_(False)
        learned(core, core(x)[0])
        assert first.grad is None
