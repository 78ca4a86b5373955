"""Steps of torch's fused Adam, taken without its `step`: the same bits, and only where nobody could notice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from sab_agents.optim.adam import AdamSteps, steps_of


def learnt(steps: int = 1, **settings: Any) -> tuple[Adam, list[nn.Parameter]]:
    """An optimiser that has taken steps, and its parameters, the last of which has no gradient."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in ((3, 5), (4,), (), (2,))]
    for parameter in parameters[:-1]:
        parameter.grad = torch.randn_like(parameter)
    adam = Adam(parameters, lr=0.1, **{"fused": True, "eps": 1e-5, **settings})
    for _ in range(steps):
        adam.step()
    return adam, parameters


def everything(adam: Adam, parameters: list[nn.Parameter]) -> list[Tensor]:
    states = [adam.state[parameter] for parameter in parameters[:-1]]
    return [*parameters, *(value for state in states for value in state.values())]


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"betas": (0.5, 0.9)}], ids=str)
def test_they_are_those_of_torch(settings: dict[str, Any]) -> None:
    (adam, ours), (reference, theirs) = learnt(**settings), learnt(**settings)
    for rate in (0.1, 0.02):
        for optimizer in (adam, reference):
            optimizer.param_groups[0]["lr"] = rate
        steps = steps_of(adam)
        assert isinstance(steps, AdamSteps)
        for number in range(3):
            for parameter in (*ours[:-1], *theirs[:-1]):
                parameter.grad = torch.full_like(parameter, 1.0 + number)
            steps.step()
            reference.step()
    assert all(map(torch.equal, everything(adam, ours), everything(reference, theirs)))


def with_hook() -> Adam:
    adam, _ = learnt()
    adam.register_step_pre_hook(lambda *_: None)
    return adam


def with_schedule() -> Adam:
    adam, _ = learnt()
    adam.step = adam.step  # type: ignore[method-assign]  # as a scheduler wraps it
    return adam


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: learnt(0)[0],
        lambda: learnt(amsgrad=True)[0],
        lambda: learnt(fused=False)[0],
        lambda: learnt(maximize=True)[0],
        lambda: torch.optim.AdamW(learnt()[1], fused=True),
        with_hook,
        with_schedule,
    ],
    ids=["before the first", "amsgrad", "not fused", "maximize", "another class", "hook", "schedule"],
)
def test_others_take_their_own(optimizer: Any) -> None:
    given = optimizer()
    assert steps_of(given) is given
