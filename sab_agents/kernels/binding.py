"""Weights and their `.grad`, for kernels that add to it without a graph, and that know tensors by their addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sab_agents.kernels.native_backend import extension


def are_leaves(*weights: Tensor | None) -> bool:
    """Whether a gradient can be added to each weight's `.grad` directly: all are leaves of the graph without hooks."""
    for weight in weights:  # every step asks, and a generator takes twice as long
        if weight is not None and (not weight.is_leaf or weight._backward_hooks or weight._post_accumulate_grad_hooks):
            return False
    return True


def gradient_of(parameter: Tensor) -> Tensor:
    """Returns the parameter's `.grad`, to be added to; zeros are put there first if it has none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """Adds to a parameter's `.grad`, if it requires gradient."""
    if not parameter.requires_grad:
        return
    if parameter.grad is None:
        parameter.grad = gradient.clone(memory_format=torch.contiguous_format)
    else:
        parameter.grad.add_(gradient)


class Binding:
    """Which storage some parameters and their gradients have; those that require a gradient and have none get zeros.

    A kernel that is bound to them is bound again as soon as they no longer have it: parameters are moved, copied and
    replaced by `nn.Module.to`, `copy`, `pickle` and `load_state_dict`, and gradients by optimisers.

    Args:
        parameters: those that the kernel is bound to; None for one that the network does not have.
    """

    def __init__(self, parameters: Sequence[Tensor | None]) -> None:
        self._there = there = [parameter for parameter in parameters if parameter is not None]
        self._gradients = [gradient_of(each) if each.requires_grad else None for each in there]
        self._addresses = [(each.data_ptr(), _address(held)) for each, held in zip(there, self._gradients, strict=True)]

    def holds(self, parameters: Sequence[Tensor | None]) -> bool:
        """Returns whether these have the same storage and gradients, and require them as they did."""
        return _all_lie_at(tuple(parameters), self._there, self._addresses, self._gradients)


def _address(gradient: Tensor | None) -> int:
    return 0 if gradient is None else gradient.data_ptr()


def _in_python(
    parameters: tuple[Tensor | None, ...],
    _: list[Tensor],
    addresses: list[tuple[int, int]],
    gradients: list[Tensor | None],
) -> bool:
    there = [parameter for parameter in parameters if parameter is not None]
    return len(there) == len(addresses) and all(
        each.data_ptr() == address
        and each.is_leaf
        and each.grad is gradient
        and each.requires_grad == (gradient is not None)
        and _address(gradient) == place
        for each, (address, place), gradient in zip(there, addresses, gradients, strict=True)
    )


# Every step asks several times, and it takes a third of the time.
_all_lie_at: Callable[[tuple[Tensor | None, ...], list[Tensor], list[tuple[int, int]], list[Tensor | None]], bool] = (
    getattr(extension.native, "all_lie_at", _in_python)
)
