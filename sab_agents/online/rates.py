"""At which rates the parts of an `OnlineLearner` learn, and the optimiser that has them."""

from __future__ import annotations

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

ATTENTION_RATE = 0.3
"""Of the learning rate, for the rest of the attention. Scores that are learnt before the contents are settle on slots
that do no harm, and no credit reaches those that count."""

CORE, HEAD = "0.", "1."
"""How the names of parameters begin in the gradient of a learner, whose first owners are these."""


def optimizer_of(
    gradient: FlatGradient,
    device: torch.device,
    make: MakeOptimizer | None,
    learning_rate: float,
    head_rate: float,
    *,
    one_rate: bool,
) -> Optimizer | FlatAdam:
    """Makes the optimiser of a learner.

    Args:
        gradient: of core, head and encoder, in this order.
        device: of the parameters.
        make: the user's function, which chooses rates of its own; None for Adam.
        learning_rate: of Adam.
        head_rate: the head's, as a fraction of that.
        one_rate: give the attention the rate of the core, but for its slope of age.

    Raises:
        ValueError: there is a function, and `head_rate` is not 1.
    """
    if make is not None:
        if head_rate != 1:
            raise ValueError(
                "OnlineLearner: head_rate must be 1 beside an optimizer, which has rates of its own, but is "
                f"{head_rate}. Give the head a group of parameters there."
            )
        return make([*gradient.named.values()])
    factor = partial(_factor, attention=1.0 if one_rate else ATTENTION_RATE, head=head_rate)
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
    if not name.startswith(CORE):
        return 1.0
    if ".attention.age." in name:
        return AGE_RATE
    return attention if ".attention." in name else 1.0
