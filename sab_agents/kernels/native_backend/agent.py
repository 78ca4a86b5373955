"""What a learner computes beside its core with the native kernel, in float32: heads, steps along traces, trace units.

Dimensions: T steps, B rows, F features of a core, W width, D outputs; P parameters; n trace units, O inputs; in
`head_gradient` N features, C outputs of the head, n outputs with a target.

The classes are bound to tensors, which must stay where they are.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import REAL, WHOLE, fits, native, new_empty, new_row, threads


class CompiledReadout:
    """A linear layer, layer normalisation, a leaky ReLU and a linear layer; make it with `bound`.

    Args:
        parameters: weight (W, F), bias (W,), weight (D, W), bias (D,).
        gradients: of these.
        slope: of the leaky ReLU.
        epsilon: what normalisation adds to the variance.
    """

    def __init__(
        self, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...], slope: float, epsilon: float
    ) -> None:
        first_weight, first_bias, second_weight, second_bias = parameters
        grad_first_weight, grad_first_bias, grad_second_weight, grad_second_bias = gradients
        D, (W, F) = second_weight.shape[0], first_weight.shape
        self._outputs, self._forms = D, ((F,), (1, F))
        self._form: tuple[int, ...] = (F,)  # of the last kept x

        def forward() -> Any:
            return native.Readout(
                inputs=F,
                width=W,
                outputs=D,
                slope=slope,
                epsilon=epsilon,
                first_weight=first_weight,
                first_bias=first_bias,
                second_weight=second_weight,
                second_bias=second_bias,
                normal=new_empty(W),
                hidden=new_empty(W),
                scale=new_empty(1),
            )

        self._kept, self._passing = forward(), forward()
        self._backward = native.ReadoutBackward(
            inputs=F,
            width=W,
            outputs=D,
            slope=slope,
            first_weight=first_weight,
            second_weight=second_weight,
            normal=self._kept.normal,
            hidden=self._kept.hidden,
            scale=self._kept.scale,
            grad_first_weight=grad_first_weight,
            grad_first_bias=grad_first_bias,
            grad_second_weight=grad_second_weight,
            grad_second_bias=grad_second_bias,
            grad_raw=new_empty(W),
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    @classmethod
    def bound(
        cls, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...], slope: float, epsilon: float
    ) -> Self | None:
        """Returns one for these tensors; None if the native kernel cannot take one of them."""
        if parameters[0].dim() != 2 or parameters[2].dim() != 2:
            return None
        (W, F), D = parameters[0].shape, parameters[2].shape[0]
        shapes = [(W, F), (W,), (D, W), (D,)] * 2
        found = zip((*parameters, *gradients), shapes, strict=True)
        return cls(parameters, gradients, slope, epsilon) if all(fits(*each, REAL) for each in found) else None

    def step(self, x: Tensor, *, keep: bool) -> Tensor:
        """Returns the layers' output (D,) for x, (F,) or (1, F); with `keep` for a `backward` to come."""
        form: tuple[int, ...] = self._forms[x.dim() == 2]
        if not fits(x, form, REAL):
            raise ValueError(f"Readout: expected float32 of shape {form}, but got {tuple(x.shape)}.")
        readout, out = self._kept if keep else self._passing, new_row(self._outputs)
        readout.x, readout.out = x, out
        readout.run()
        if keep:
            self._backward.x, self._form = x, form
        return out

    def backward(self, gradient: Tensor) -> Tensor:
        """Adds to the parameters' gradients, given that of the last kept output (D,); returns that of x, as x lay."""
        if not fits(gradient, (self._outputs,), REAL):
            raise ValueError(f"Readout: expected float32 of shape {(self._outputs,)}, got {tuple(gradient.shape)}.")
        backward, grad_x = self._backward, new_row(*self._form)
        backward.gradient, backward.grad_x = gradient, grad_x
        backward.run()
        return grad_x


class CompiledDescent:
    """Steps of ObGD on one vector of parameters; make it with `bound`.

    Args:
        vector: (P,) parameters.
        gradient: (P,) of them.
        trace: (P,).
        decay: γ λ.
        learning_rate: α.
        kappa: κ.
    """

    def __init__(
        self, vector: Tensor, gradient: Tensor, trace: Tensor, *, decay: float, learning_rate: float, kappa: float
    ) -> None:
        self._step = native.Descent(
            count=vector.numel(),
            decay=decay,
            learning_rate=learning_rate,
            kappa=kappa,
            vector=vector,
            gradient=gradient,
            trace=trace,
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    @classmethod
    def bound(cls, vector: Tensor, gradient: Tensor, trace: Tensor, **settings: float) -> Self | None:
        """Returns one for these tensors; None if the native kernel cannot take one of them."""
        fitting = all(fits(each, (vector.numel(),), REAL) for each in (vector, gradient, trace))
        return cls(vector, gradient, trace, **settings) if fitting else None

    def step(self, delta: float, *, reset: bool) -> tuple[float, float]:
        """Takes one step for the error δ; returns its size, NaN if δ or the trace is not finite, and ‖z‖₁."""
        step = self._step
        step.delta, step.reset = delta, reset
        done = step.run()
        return (step.step_size if done else float("nan")), step.norm


class CompiledUnits:
    """Trace units; make it with `bound`.

    Args:
        parameters: ν (n,), ω (n,) and weights (2, n, O).
        gradients: of these.
    """

    def __init__(self, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> None:
        nu, omega, weight = parameters
        grad_nu, grad_omega, grad_weight = gradients
        _, n, inputs = weight.shape
        self._sizes = (n, inputs)
        self._step = native.Units(units=n, inputs=inputs, nu=nu, omega=omega, weight=weight)
        self._backward = native.UnitsBackward(
            units=n, inputs=inputs, grad_nu=grad_nu, grad_omega=grad_omega, grad_weight=grad_weight
        )

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    @classmethod
    def bound(cls, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> Self | None:
        """Returns one for these tensors; None if the native kernel cannot take one of them."""
        _, n, inputs = parameters[2].shape
        found = zip((*parameters, *gradients), [(n,), (n,), (2, n, inputs)] * 2, strict=True)
        return cls(parameters, gradients) if all(fits(*each, REAL) for each in found) else None

    def step(self, x: Tensor, state: Tensor, sensitivity: Tensor | None) -> tuple[Tensor, Tensor]:
        """Takes one step, and returns the output (1, 2 n) and the new state (1, n, 2).

        Args:
            x: (1, O) inputs.
            state: (1, n, 2) before the step.
            sensitivity: (1, n, 2 + O) complex64, changed in place; None if nothing is learnt from the step.
        """
        n, inputs = self._sizes
        if not (
            fits(x, (1, inputs), REAL)
            and fits(state, (1, n, 2), REAL)
            and (sensitivity is None or fits(sensitivity, (1, n, 2 + inputs), torch.complex64))
        ):
            raise ValueError(f"RTU: an observation must be float32 of shape {(1, inputs)}, but is {tuple(x.shape)}.")
        output, after = new_row(1, 2 * n), new_row(1, n, 2)
        step = self._step
        step.x, step.before, step.after, step.output, step.sensitivity = x, state, after, output, sensitivity
        step.run()
        return output, after

    def backward(self, gradient: Tensor, state: Tensor, sensitivity: Tensor) -> None:
        """Adds to the parameters' gradients, given that of the output (1, 2 n), and what `step` left."""
        n, _ = self._sizes
        if not fits(gradient, (1, 2 * n), REAL):
            raise ValueError(f"RTU: a gradient must be float32 of shape {(1, 2 * n)}.")
        backward = self._backward
        backward.state, backward.sensitivity, backward.gradient = state, sensitivity, gradient
        backward.run()


LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")


def head_gradient(
    loss: str, weight: Tensor, bias: Tensor, outputs: Tensor, place: Tensor | None, target: Tensor
) -> Tensor | None:
    """Adds the gradients of weight and bias to their `.grad`, and returns that of the outputs (T, B, N).

    Returns None, and does nothing, if the native kernel cannot take an argument.

    Args:
        loss: its mean over n outputs is what the gradient is of.
        weight: (C, N).
        bias: (C,).
        outputs: (T, B, N).
        place: (n,) int64, which of the T·B outputs have a target; None for all.
        target: (n,) int64 classes for "cross_entropy", (n, C) float32 otherwise.

    Raises:
        ValueError: a place or class is out of range.
    """
    (T, B, N), C, n = outputs.shape, weight.shape[0], len(target)
    flat = outputs.contiguous()
    shape, dtype = ((n,), WHOLE) if loss == "cross_entropy" else ((n, C), REAL)
    grad_weight, grad_bias = weight.grad, bias.grad
    if not (
        fits(flat, (T, B, N), REAL)
        and fits(weight, (C, N), REAL)
        and fits(bias, (C,), REAL)
        and fits(target, shape, dtype)
        and (n == T * B if place is None else fits(place, (n,), WHOLE))
        and all(grad is None or grad.is_contiguous() for grad in (grad_weight, grad_bias))
    ):
        return None
    grad_outputs = torch.empty_like(flat)
    in_range = native.Head(
        threads=threads(n * C * N),
        all=T * B,
        width=N,
        classes=C,
        count=n,
        loss=LOSSES.index(loss),
        outputs=flat,
        place=place,
        weight=weight,
        bias=bias,
        target=target,
        chosen=None if place is None else new_empty(n, N),
        gradient=new_empty(n, C),
        grad_weight=grad_weight,
        grad_bias=grad_bias,
        grad_outputs=grad_outputs,
    ).run()
    if not in_range:
        raise ValueError(f"a target must lie in 0 … {C - 1}, at an output that is there.")
    return grad_outputs
