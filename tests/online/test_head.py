"""A head and its loss: the gradients of torch's automatic differentiation, with each kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from sab_agents.kernels import forced_kernel, norm
from sab_agents.kernels.agent import head_gradient
from tests.kernels.extension import INSTRUCTION_SETS, needs_native, with_instruction_set

KERNELS = [pytest.param("native", marks=needs_native), "torch"]
LOSSES: dict[str, Any] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy_with_logits,
    "squared_error": mse_loss,
}


def case(loss: str, seed: int, *, some: bool) -> tuple[nn.Linear, Tensor, Tensor | None, Tensor]:
    """A head, outputs (T, B, N), the places of those that have a target, and the targets."""
    torch.manual_seed(seed)
    T, B, N, C = (int(torch.randint(least, top, ())) for least, top in ((1, 9), (1, 5), (1, 40), (2, 60)))
    place = torch.randperm(T * B)[: 1 + T * B // 2].sort().values if some else None
    n = T * B if place is None else len(place)
    classes, labels, numbers = torch.randint(0, C, (n,)), torch.randint(0, 2, (n, C)).float(), torch.randn(n, C)
    target = {"cross_entropy": classes, "binary_cross_entropy": labels, "squared_error": numbers}[loss]
    return nn.Linear(N, C), 3 * torch.randn(T, B, N), place, target


def check_gradients(loss: str, seed: int, *, some: bool) -> None:
    head, outputs, place, target = case(loss, seed, some=some)
    exact = nn.Linear(head.in_features, head.out_features).double()
    exact.load_state_dict(head.state_dict())
    wanted = outputs.double().requires_grad_()
    chosen = wanted.flatten(0, 1) if place is None else wanted.flatten(0, 1)[place]
    given = target.double() if target.is_floating_point() else target
    LOSSES[loss](exact(chosen), given).backward()
    head.weight.grad, head.bias.grad = torch.ones_like(head.weight), torch.ones_like(head.bias)
    found = head_gradient(loss, head.weight, head.bias, outputs, place, target)
    assert wanted.grad is not None
    pairs = (found, wanted.grad), (head.weight.grad - 1, exact.weight.grad), (head.bias.grad - 1, exact.bias.grad)
    for one, other in pairs:
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@needs_native
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("some", [False, True])
def test_it_adds_the_gradients_of_the_mean_loss(loss: str, some: bool, instruction_set: str) -> None:
    with forced_kernel("native"), with_instruction_set(instruction_set):
        for seed in range(20):
            check_gradients(loss, seed, some=some)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("some", [False, True])
def test_torch_adds_the_same(loss: str, some: bool) -> None:
    with forced_kernel("torch"):
        for seed in range(20):
            check_gradients(loss, seed, some=some)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_without_any_target_nothing_is_learnt(loss: str, kernel: str) -> None:
    head, outputs, _, target = case(loss, 0, some=True)
    head.weight.grad, head.bias.grad = torch.ones_like(head.weight), torch.ones_like(head.bias)
    nowhere = torch.zeros(0, dtype=torch.int64)
    with forced_kernel(kernel):
        found = head_gradient(loss, head.weight, head.bias, outputs, nowhere, target[:0])
    assert found.shape == outputs.shape
    assert not found.any()
    assert bool((head.weight.grad == 1).all())
    assert bool((head.bias.grad == 1).all())


@needs_native
def test_what_the_native_kernel_does_not_take_is_left_to_torch_and_what_is_wrong_is_refused() -> None:
    head, outputs, _, target = case("cross_entropy", 0, some=False)
    arguments = head.weight, head.bias, outputs, None
    with forced_kernel("native"):
        expected = head_gradient("cross_entropy", *arguments, target)
        apart = torch.stack([outputs, outputs], dim=3)[..., 0]
        torch.testing.assert_close(head_gradient("cross_entropy", *arguments[:2], apart, None, target), expected)
        strided = torch.stack([head.weight.detach()] * 2, dim=2)[..., 0]
        assert not strided.is_contiguous()
        found = head_gradient("cross_entropy", strided, *arguments[1:], target)
        torch.testing.assert_close(found, expected)
        with pytest.raises(ValueError, match="must lie in 0"):
            head_gradient("cross_entropy", *arguments, target + head.out_features)
        with pytest.raises(ValueError, match="at an output that is there"):
            head_gradient("cross_entropy", *arguments[:3], target * 0 + outputs.shape[0] * outputs.shape[1], target)
    assert head.weight.grad is None


def test_the_norm_is_that_of_torch() -> None:
    for count in (1, 7, 64, 1001):
        x = torch.randn(count)
        assert norm(x) == pytest.approx(float(x.double().norm()), rel=1e-6)
    assert not norm(torch.tensor([1.0, torch.nan])) < torch.inf
    assert norm(torch.tensor([torch.inf, 1.0])) == torch.inf
