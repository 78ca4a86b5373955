"""The parts of a streaming agent in compiled C++, for float32 on a CPU: readouts, steps along traces, trace units.

Dimensions: F numbers from a core, W width, D numbers that come out; P parameters; n trace units, O inputs.

Each is bound to tensors whose addresses it keeps: they must stay where they are.
"""

from __future__ import annotations

from ctypes import addressof
from typing import Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, native, new_empty, real_numbers
from sab_agents.kernels.native_backend.step import REAL, fits


class CompiledReadout:
    """A linear layer, layer normalisation, leaky ReLU and a linear layer; make it with `bound`.

    Args:
        parameters: weight (W, F), bias (W,), weight (D, W), bias (D,).
        gradients: of these.
        slope: of the leaky ReLU.
        epsilon: what normalisation adds to the variance.
    """

    def __init__(
        self, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...], slope: float, epsilon: float
    ) -> None:
        self._bound = (*parameters, *gradients)
        self._addresses = addresses(*self._bound)
        (W, F), D = parameters[0].shape, parameters[2].shape[0]
        self._inputs, self._outputs = F, D
        self._settings = real_numbers([slope, epsilon])
        self._kept, self._passing = ([new_empty(W), new_empty(W), new_empty(1)] for _ in range(2))
        self._into_raw = new_empty(W)
        self._x = new_empty(F)
        self._head = [F, W, D, addressof(self._settings)]
        self._step = [*self._head, *self._addresses[:4]]
        self._forwards = [addresses(*each) for each in (self._kept, self._passing)]
        self._gradients = self._addresses[4:]

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    @classmethod
    def bound(
        cls, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...], slope: float, epsilon: float
    ) -> Self | None:
        """One for these tensors; None where one of them is not what the compiled code takes."""
        if parameters[0].dim() != 2 or parameters[2].dim() != 2:
            return None
        (W, F), D = parameters[0].shape, parameters[2].shape[0]
        shapes = [(W, F), (W,), (D, W), (D,)] * 2
        found = zip((*parameters, *gradients), shapes, strict=True)
        return cls(parameters, gradients, slope, epsilon) if all(fits(*each, REAL) for each in found) else None

    def step(self, x: Tensor, *, keep: bool) -> Tensor:
        """The layers' result (D,) for x (F,); with `keep` for a `backward` to come."""
        if not fits(x, (self._inputs,), REAL):
            raise ValueError(f"Readout: expected float32 of shape {(self._inputs,)}, but got {tuple(x.shape)}.")
        out = new_empty(self._outputs)
        native.readout(*self._step, x.data_ptr(), *self._forwards[not keep], out.data_ptr())
        if keep:
            self._x = x
        return out

    def backward(self, gradient: Tensor) -> Tensor:
        """Adds to the parameters' gradients, given the last kept result's (D,); returns that of x (F,)."""
        if not fits(gradient, (self._outputs,), REAL):
            raise ValueError(f"Readout: expected float32 of shape {(self._outputs,)}, got {tuple(gradient.shape)}.")
        into = new_empty(self._inputs)
        first, _, second, _ = self._addresses[:4]
        native.readout_backward(
            *(*self._head, first, second, self._x.data_ptr(), *self._forwards[0], gradient.data_ptr()),
            *(*self._gradients, self._into_raw.data_ptr(), into.data_ptr()),
        )
        return into


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
        self._bound = (vector, gradient, trace)
        self._settings = real_numbers([decay, learning_rate, kappa, 0.0])
        self._found = real_numbers([0.0, 0.0])
        self._rest = [addressof(self._settings), *addresses(*self._bound), addressof(self._found)]
        self._count = vector.numel()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    @classmethod
    def bound(cls, vector: Tensor, gradient: Tensor, trace: Tensor, **settings: float) -> Self | None:
        """One for these tensors; None where one of them is not what the compiled code takes."""
        fitting = all(fits(each, (vector.numel(),), REAL) for each in (vector, gradient, trace))
        return cls(vector, gradient, trace, **settings) if fitting else None

    def step(self, delta: float, *, reset: bool) -> tuple[float, float]:
        """Takes one step for the error δ; returns its size, NaN where δ or the trace is not finite, and ‖z‖₁."""
        self._settings[3] = delta
        done = native.descend(self._count, int(reset), *self._rest)
        size, norm = self._found
        return (size if done else float("nan")), norm


class CompiledUnits:
    """Trace units; make it with `bound`.

    Args:
        parameters: ν (n,), ω (n,) and weights (2, n, O).
        gradients: of these.
    """

    def __init__(self, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> None:
        self._bound = (*parameters, *gradients)
        self._addresses = addresses(*self._bound)
        _, n, inputs = parameters[2].shape
        self._sizes = (n, inputs)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    @classmethod
    def bound(cls, parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> Self | None:
        """One for these tensors; None where one of them is not what the compiled code takes."""
        _, n, inputs = parameters[2].shape
        found = zip((*parameters, *gradients), [(n,), (n,), (2, n, inputs)] * 2, strict=True)
        return cls(parameters, gradients) if all(fits(*each, REAL) for each in found) else None

    def step(self, x: Tensor, state: Tensor, sensitivity: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step for x (1, O) from the state (1, n, 2): the output (1, 2 n) and the new state.

        Args:
            x: inputs.
            state: before the step.
            sensitivity: (n, 2 + O) complex64, changed in place; None where nothing is to be learnt from the step.
        """
        n, inputs = self._sizes
        if not (
            fits(x, (1, inputs), REAL)
            and fits(state, (1, n, 2), REAL)
            and (sensitivity is None or fits(sensitivity, (n, 2 + inputs), torch.complex64))
        ):
            raise ValueError(
                f"RTULearner: an observation must be float32 of shape {(1, inputs)}, but is {tuple(x.shape)}."
            )
        output, after = new_empty(1, 2 * n), new_empty(1, n, 2)
        native.step_units(n, inputs, *self._addresses[:3], *addresses(x, state, after, output, sensitivity))
        return output, after

    def backward(self, gradient: Tensor, state: Tensor, sensitivity: Tensor) -> None:
        """Adds to the parameters' gradients, given the output's (1, 2 n), state and sensitivity as after `step`."""
        n, inputs = self._sizes
        if not fits(gradient, (1, 2 * n), REAL):
            raise ValueError(f"RTULearner: a gradient must be float32 of shape {(1, 2 * n)}.")
        native.credit_units(n, inputs, *addresses(state, sensitivity, gradient), *self._addresses[3:])
