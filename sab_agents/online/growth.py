"""What a learner has learnt and carries, laid into the greater tensors of a learner with more inputs or classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sab_agents.core import CORES
from sab_agents.core.real_time import RealTimeCore


def can_grow(core: str) -> bool:
    """Returns whether a learner with this registered core can take more features than it was made for.

    What a core that learns in real time carries has a form of its own.
    """
    return not issubclass(CORES[core].make, RealTimeCore)


def laid_into(state: dict[str, Any], wider: dict[str, Any], input_size: int) -> dict[str, Any]:
    """Returns a learner's state in the shapes of a wider learner.

    What was learnt and is carried stands at the beginning of each axis. The rest of a parameter is as the wider learner
    drew it. All else is zero there: moments, and the new features of the steps that are still held.

    Args:
        state: from `OnlineLearner.state_dict`.
        wider: the same of a learner that differs in `input_size` and `output_size` alone, before its first step.
        input_size: I of the wider learner.
    """
    laid = dict(state)
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue
        shape = list(value.shape)
        if name == "stream.window.observation":  # of which a new stream has none
            shape[-1] = input_size
        elif name in wider:
            shape = [max(pair) for pair in zip(value.shape, wider[name].shape, strict=True)]
        if shape != list(value.shape):
            whole = wider[name].detach().clone() if name.startswith("parameter.") else value.new_zeros(shape)
            whole[tuple(slice(size) for size in value.shape)] = value.detach()
            laid[name] = whole
    return laid
