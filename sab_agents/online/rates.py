"""At which rates the parts of an `OnlineLearner` learn, and the optimiser that has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from sab_agents.optim.flat import FlatAdam, FlatGradient

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]

AGE_RATE = 0.1
"""Of the learning rate, for the slope by which scores fall with age. A slope that is learnt before the contents are
hides all slots but the newest or the oldest, and stays."""

CORE, HEAD = "0.", "1."
"""How the names of parameters begin in the gradient of a learner, whose first owners are these."""


def optimizer_of(
    gradient: FlatGradient,
    device: torch.device,
    make: MakeOptimizer | None,
    learning_rate: float,
    attention_rate: float,
    head_rate: float,
) -> Optimizer | FlatAdam:
    """Makes the optimiser of a learner.

    Args:
        gradient: of core, head and encoder, in this order.
        device: of the parameters.
        make: the user's function, which chooses rates of its own; None for Adam.
        learning_rate: of Adam.
        attention_rate: that of the core's attention but for its slope of age, as a fraction of that.
        head_rate: the head's, as a fraction of that.

    Raises:
        ValueError: a fraction is not 1, and there is a function, or no attention; or the optimiser needs a closure.
    """
    if attention_rate != 1 and not any(_of_attention(name) for name in gradient.named):
        raise ValueError(
            f"OnlineLearner: attention_rate must be 1 for a core without attention, but is {attention_rate}. "
            "Leave it out."
        )
    if make is not None:
        for name, rate in (("attention_rate", attention_rate), ("head_rate", head_rate)):
            if rate != 1:
                raise ValueError(
                    f"OnlineLearner: {name} must be 1 beside an optimizer, which has rates of its own, but is {rate}. "
                    "Make a group of parameters there."
                )
        made = make([*gradient.named.values()])
        closure = inspect.signature(made.step).parameters.get("closure")
        if closure is not None and closure.default is closure.empty:
            raise ValueError(
                f"OnlineLearner: optimizer must take a step without a closure, but {type(made).__name__} computes the "
                "loss again, which a stream cannot. Use one such as torch.optim.Adam."
            )
        return made
    factor = partial(_factor, attention=attention_rate, head=head_rate)
    if device.type in {"cpu", "cuda"}:
        return FlatAdam(gradient, learning_rate, factor)
    members: dict[float, list[nn.Parameter]] = {}
    for name, parameter in gradient.named.items():
        members.setdefault(factor(name), []).append(parameter)
    rates = sorted(members, reverse=True)  # in the order of FlatAdam's groups
    return Adam([{"params": members[rate], "lr": learning_rate * rate} for rate in rates])


def _factor(name: str, attention: float, head: float) -> float:
    """Returns the factor of the learning rate for the parameter of that name."""
    if name.startswith(HEAD):
        return head
    if not _of_attention(name):
        return 1.0
    return AGE_RATE if ".attention.age." in name else attention


def _of_attention(name: str) -> bool:
    return name.startswith(CORE) and ".attention." in name
