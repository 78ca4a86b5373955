"""The gradient that an online learner starts from, against automatic differentiation of torch's losses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.torch_backend.agent import loss_gradient
from sab_agents.online.targets import LossName

CASES: list[tuple[LossName, Callable[..., Tensor], Tensor]] = [
    ("cross_entropy", functional.cross_entropy, torch.tensor([2, 0, 1, 1, 2])),
    ("binary_cross_entropy", functional.binary_cross_entropy_with_logits, (torch.randn(5, 3) > 0).double()),
    ("squared_error", functional.mse_loss, torch.randn(5, 3).double()),
]


@pytest.mark.parametrize(("loss", "function", "target"), CASES, ids=[case[0] for case in CASES])
def test_the_gradient_is_that_of_the_mean_loss(loss: LossName, function: Callable[..., Tensor], target: Tensor) -> None:
    output = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    function(output, target).backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    found = loss_gradient(loss, output.detach(), target)
    torch.testing.assert_close(found, output.grad, rtol=1e-12, atol=1e-12)
