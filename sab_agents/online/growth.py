"""Which learners can take more features or classes, and what one has learnt laid into a wider one's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sab_agents.core import CORES
from sab_agents.core.real_time import RealTimeCore


def can_grow(core: str) -> bool:
    """Returns whether a learner with this registered core can take more features than it was made for.

    What a core that learns in real time carries has a form of its own.
    """
    return not issubclass(CORES[core].make, RealTimeCore)


def require_growable(
    settings: Mapping[str, Any], features: bool, classes: bool, own_parts: bool, names: list[str] | None
) -> None:
    """Raises ValueError if a learner cannot take more features or classes.

    Args:
        settings: of the learner.
        features: whether features are to be added.
        classes: whether classes are.
        own_parts: whether the optimiser is the learner's own, without an encoder.
        names: of the features, if they came in mappings.
    """
    if not own_parts:
        obstacle = "has an encoder or an optimiser of its own. Make a new learner"
    elif names is not None:
        obstacle = f"takes mappings with the names {names}. Pass arrays, or use sab_agents.river"
    elif features and not can_grow(settings["core"]):
        obstacle = f"has the core {settings['core']!r}, which learns in real time. Use 'sab' or 'lstm_tbptt'"
    elif classes and settings["loss"] != "cross_entropy":
        obstacle = f"has the loss {settings['loss']!r}, whose targets have a fixed number. Make a new learner"
    else:
        return
    raise ValueError(f"OnlineLearner.grow: the learner {obstacle}.")


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
