"""Gradients side by side: Adam on them is torch's Adam, bit for bit."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents.optim.flat import FlatAdam, FlatGradient


def parameters(*shapes: tuple[int, ...], seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def gradients(count: int, like: list[nn.Parameter]) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [[torch.randn(p.shape, generator=generator) for p in like] for _ in range(count)]


def give(parameters: list[nn.Parameter], grads: list[Tensor], flat: FlatGradient | None = None) -> None:
    """Gives parameters their gradients, by adding to the views of `flat` if there is one."""
    if flat is not None:
        flat.begin()
    for parameter, grad in zip(parameters, grads, strict=True):
        if flat is None:
            parameter.grad = grad.clone()
        else:
            assert parameter.grad is not None
            parameter.grad += grad


def test_its_steps_are_those_of_torch_also_after_a_reload_and_with_another_rate() -> None:
    shapes = ((7, 3), (5,), (), (1, 4))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    flat = FlatGradient(ours)
    adam, reference = FlatAdam(flat, 0.01), torch.optim.Adam(theirs, lr=0.01, fused=True)
    for number, grads in enumerate(gradients(6, ours)):
        give(ours, grads, flat)
        give(theirs, grads)
        if number == 3:
            saved = adam.state_dict()
            adam = FlatAdam(flat, 1.0)
            adam.load_state_dict(saved)
        if number == 4:
            adam.param_groups[0]["lr"] = reference.param_groups[0]["lr"] = 0.1
        adam.step()
        reference.step()
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def slower(name: str) -> float:
    return 0.1 if name in {"1", "3"} else 1.0


def test_groups_of_other_rates_are_those_of_torch_also_after_a_reload() -> None:
    shapes = ((7, 3), (5,), (), (1, 4))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    flat = FlatGradient(ours)
    adam = FlatAdam(flat, 0.01, slower)
    groups = [{"params": theirs[0::2], "lr": 0.01}, {"params": theirs[1::2], "lr": 0.001}]
    reference = torch.optim.Adam(groups, fused=True)
    for number, grads in enumerate(gradients(6, ours)):
        give(ours, grads, flat)
        give(theirs, grads)
        if number == 2:
            saved = adam.state_dict()
            assert [group["params"] for group in saved["param_groups"]] == [[0, 2], [1, 3]]
            adam = FlatAdam(flat, 1.0, slower)
            adam.load_state_dict(saved)
        if number == 4:
            adam.param_groups[1]["lr"] = reference.param_groups[1]["lr"] = 0.1
        adam.step()
        reference.step()
        assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_a_state_of_one_rate_is_continued_with_one_rate() -> None:
    """Files of before there were groups resume as they were."""
    shapes = ((7, 3), (5,))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    one, other = FlatGradient(ours), FlatGradient(theirs)
    plain, grouped = FlatAdam(one, 0.01), FlatAdam(other, 0.01, slower)
    grouped.load_state_dict(plain.state_dict())
    for grads in gradients(3, ours):
        for flat, mine, adam in ((one, ours, plain), (other, theirs, grouped)):
            give(mine, grads, flat)
            adam.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def slower_and_slowest(name: str) -> float:
    return {"0": 1.0, "1": 0.1}.get(name, 0.3)


def test_a_state_of_other_groups_is_continued_with_each_parameter_in_its_own() -> None:
    """A version may give more parameters a rate of their own: files of before resume with the rates that they name."""
    shapes = ((7, 3), (5,), (), (1, 4))
    ours, theirs = parameters(*shapes), parameters(*shapes)
    one, other = FlatGradient(ours), FlatGradient(theirs)
    before, now = FlatAdam(one, 0.01, slower), FlatAdam(other, 0.01, slower_and_slowest)
    now.load_state_dict(before.state_dict())
    assert [group["params"] for group in now.param_groups] == [[0, 2], [1, 3]]
    for grads in gradients(3, ours):
        for flat, mine, adam in ((one, ours, before), (other, theirs, now)):
            give(mine, grads, flat)
            adam.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


def test_parameters_that_are_not_learnt_stay_as_they_are() -> None:
    frozen, free = parameters((2,), (3,))
    frozen.requires_grad = False
    flat = FlatGradient([frozen, free])
    flat.begin()
    assert frozen.grad is None
    before = frozen.clone(), free.detach().clone()
    assert free.grad is not None
    free.grad += 1
    FlatAdam(flat, 0.1).step()
    assert torch.equal(frozen, before[0])
    torch.testing.assert_close(free.detach(), before[1] - 0.1)


def test_moments_of_other_parameters_are_refused() -> None:
    one, other = (FlatGradient(parameters(shape)) for shape in ((2, 3), (3, 2)))
    adam = FlatAdam(one, 0.1)
    adam.step()
    with pytest.raises(ValueError, match="not the moments"):
        FlatAdam(other, 0.1).load_state_dict(adam.state_dict())


def learned(module: nn.Module, flat: FlatGradient, adam: FlatAdam, steps: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        flat.begin()
        module(torch.randn(2, 3, generator=generator)).square().sum().backward()
        assert flat.clip(0.05) > 0.05
        assert float(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm()) < 0.0501
        adam.step()
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda parts: pickle.loads(pickle.dumps(parts))], ids=["deepcopy", "pickle"]
)
def test_a_copy_clears_clips_and_uses_gradients_of_its_own(copied: Callable[[Any], Any]) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    flat = FlatGradient([module])
    parts = module, flat, FlatAdam(flat, 0.01)
    learned(*parts)
    other = copied(parts)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    found = learned(*other)
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))
    assert all(torch.equal(*pair) for pair in zip(found, learned(*parts), strict=True))


def test_parameters_that_were_assigned_are_found() -> None:
    module = nn.Linear(3, 2)
    flat = FlatGradient([module])
    adam = FlatAdam(flat, 0.01)
    learned(module, flat, adam, 2)
    module.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, assign=True)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    assert not any(torch.equal(*pair) for pair in zip(before, learned(module, flat, adam, 2), strict=True))
