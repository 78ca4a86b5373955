"""One step of recurrent trace units, alone or with its sensitivity, and the backward pass of that step.

The native kernel computes one row in float32 on a CPU, plain torch everything else.

Dimensions: B rows, I input size, n units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sab_agents.kernels.backend import forced_way, runs_native
from sab_agents.kernels.binding import Binding, add_gradient
from sab_agents.kernels.native_backend.agent import CompiledUnits
from sab_agents.kernels.torch_backend import units as plain
from sab_agents.kernels.torch_backend.units import Parameters


class UnitsKernel:
    """Steps of trace units without a graph.

    Every call takes the parameters: ν (n,), ω (n,) and the weights (2, n, I). The native kernel is bound to them and
    to their `.grad`, and is bound again when one of these was moved or replaced, or when `SAB_KERNEL` has changed. A
    copy, made by `copy` or `pickle`, is bound to nothing until its first call.
    """

    def __init__(self) -> None:
        self._bound: tuple[str, Binding, CompiledUnits | None] | None = None

    def __reduce__(self) -> tuple[type[UnitsKernel], tuple[()]]:
        return UnitsKernel, ()

    def peek(self, parameters: Parameters, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one step of the units alone.

        Args:
            parameters: see the class.
            x: (B, I) inputs.
            c: (B, n, 2) real and imaginary parts before the step; it is left as it was.

        Returns:
            (B, 2n) outputs, and c after the step.
        """
        native = self._native(parameters, x)
        if native is not None:
            return native.step(x.contiguous(), c.contiguous(), None)
        with torch.no_grad():
            outputs, after = plain.run_units(parameters, x.unsqueeze(0), c, None)
        return outputs[0], after

    def step(self, parameters: Parameters, x: Tensor, c: Tensor, sensitivity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Takes one step of the units and of their sensitivity.

        Args:
            parameters: see the class. Those that require gradient get a `.grad` of zeros if they have none.
            x: (B, I) inputs.
            c: (B, n, 2) before the step; it is left as it was.
            sensitivity: (B, n, 2 + I) complex, of c; it may be written over.

        Returns:
            (B, 2n) outputs, and c and the sensitivity after the step.
        """
        native = self._native(parameters, x, prepare=True)
        if native is not None:
            output, after = native.step(x.contiguous(), c, sensitivity)
            return output, after, sensitivity
        return plain.step_units(parameters, x, c, sensitivity)

    def backward(self, parameters: Parameters, gradient: Tensor, c: Tensor, sensitivity: Tensor) -> None:
        """Adds to the parameters' `.grad`, given the gradient of the output of `step`.

        Args:
            parameters: see the class.
            gradient: (B, 2n) of the output.
            c: (B, n, 2) after the step.
            sensitivity: (B, n, 2 + I) complex, of c.
        """
        bound = self._bound
        # As `step` left it, if it is bound still: after the step it makes no difference what computed that.
        native = self._native(parameters, gradient) if bound is None or not bound[1].holds(parameters) else bound[2]
        if native is not None and len(gradient) == 1 and gradient.dtype is torch.float32:
            native.backward(gradient, c, sensitivity)
            return
        gradients = plain.gradient_of_parameters(plain.gradient_of_units(gradient, c), sensitivity)
        for parameter, each in zip(parameters, gradients, strict=True):
            add_gradient(parameter, each)

    def _native(self, parameters: Parameters, x: Tensor, *, prepare: bool = False) -> CompiledUnits | None:
        """Returns the native kernel, bound to the parameters and gradients as they lie now.

        None if it does not take these tensors, or if a parameter has no `.grad` to be added to. `prepare` puts zeros
        there for the parameters that require gradient.
        """
        if x.shape[0] != 1 or not x.is_cpu or x.dtype is not torch.float32:
            return None
        way, bound = forced_way(), self._bound
        if bound is None or bound[0] != way or not bound[1].holds(parameters):
            bound = self._bind(parameters, way, prepare=prepare)
        return None if bound is None else bound[2]

    def _bind(self, parameters: Any, way: str, *, prepare: bool) -> tuple[str, Binding, CompiledUnits | None] | None:
        for parameter in parameters:
            if parameter.grad is None and prepare and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        gradients = tuple(parameter.grad for parameter in parameters)
        if any(gradient is None for gradient in gradients):
            return None
        native = CompiledUnits.bound(parameters, gradients) if runs_native(*parameters, *gradients) else None
        self._bound = way, Binding(parameters), native
        return self._bound
