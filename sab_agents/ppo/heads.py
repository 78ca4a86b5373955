"""The networks behind the cores: linear layers and activations, as one differentiable function.

A graph with a node for each layer takes longer to build and to walk through than layers of this size to compute.

Dimensions: N observations, D inputs, F outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sab_agents.kernels import Layer, gradients_of_layers, is_known, values_of_layers

ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu"}


def through(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Returns what the modules make of x (N, D), one after the other: (N, F).

    To be learnt from, linear layers, `nn.Tanh` and `nn.ReLU` without hooks are computed together; anything else by
    calls of the modules.
    """
    modules = list(modules)
    layers = None
    if torch.is_grad_enabled() and is_known(x) and not torch.is_autocast_enabled(x.device.type):
        layers = layers_of(modules)
    if layers is None:
        for module in modules:
            x = module(x)
        return x
    parameters = [parameter for layer in layers for parameter in layer[:2]]
    output: Tensor = _Through.apply(x, [layer.activation for layer in layers], *parameters)  # type: ignore[no-untyped-call]
    return output


def layers_of(modules: Iterable[nn.Module]) -> list[Layer] | None:
    """Returns the layers of linear modules, each with or without an activation; None if there is anything else."""
    layers: list[Layer] = []
    for module in _unpacked(modules):
        kind = type(module)
        if _is_hooked(module):
            return None
        if kind is nn.Linear and module.bias is not None:
            layers.append(Layer(module.weight, module.bias, None))  # type: ignore[arg-type]
        elif kind in ACTIVATIONS and layers and layers[-1].activation is None:
            layers[-1] = layers[-1]._replace(activation=ACTIVATIONS[kind])
        else:
            return None
    return layers or None


def _unpacked(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """Yields the modules, those of an `nn.Sequential` in its place."""
    for module in modules:
        if type(module) is nn.Sequential and not _is_hooked(module):
            yield from _unpacked(module.children())
        else:
            yield module


def _is_hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, activations: list[str | None], *parameters: Tensor) -> Tensor:
        layers = list(map(Layer, parameters[::2], parameters[1::2], activations))
        values = values_of_layers(layers, x)
        ctx.activations = activations
        ctx.save_for_backward(*parameters, *values)
        return values[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved, count = ctx.saved_tensors, 2 * len(ctx.activations)
        layers = list(map(Layer, saved[:count:2], saved[1:count:2], ctx.activations))
        wants_x, _, *wanted = ctx.needs_input_grad
        of_x, *found = gradients_of_layers(layers, saved[count:], gradient, [wants_x, *wanted])
        return of_x, None, *found
