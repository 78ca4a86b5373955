"""What a learner computes does not depend on the modes of torch in which it happens to be called."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Result = TypeVar("Result")


def in_own_modes(method: Callable[P, Result]) -> Callable[P, Result]:
    """Makes a method of a learner compute as ever under `no_grad`, `inference_mode` and autocast on a CPU.

    Without gradients some would learn nothing, without a word; a state in bfloat16 would forget.
    """

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> Result:
        usual = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        if usual and not torch.is_autocast_enabled("cpu"):
            return method(*args, **kwargs)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            return method(*args, **kwargs)

    return called
