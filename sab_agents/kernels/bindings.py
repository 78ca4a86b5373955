"""Native code that is bound to tensors: their addresses are kept, so that they must stay where they are.

Every function returns None if the native kernel does not take these tensors.
"""

from __future__ import annotations

from torch import Tensor

from sab_agents.kernels.backend import runs_native
from sab_agents.kernels.native_backend import head
from sab_agents.kernels.native_backend.agent import CompiledDescent, CompiledReadout, CompiledUnits
from sab_agents.kernels.native_backend.lstm import CompiledLSTM
from sab_agents.kernels.native_backend.stream import CompiledStream
from sab_agents.kernels.types import StepState


def bind_stream(
    state: StepState,
    contexts: tuple[Tensor, ...],
    statistics: tuple[Tensor, Tensor],
    *,
    reads: int,
    write_every: int,
    bptt_steps: int,
    gain: float,
) -> CompiledStream | None:
    """The steps and windows of a stream that holds these tensors."""
    if not runs_native(state.h, *contexts, *statistics):
        return None
    return CompiledStream.bound(state, contexts, statistics, reads, write_every, bptt_steps, gain)


def bind_readout(
    parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...], slope: float, epsilon: float
) -> CompiledReadout | None:
    """The layers of a readout with these parameters."""
    if not runs_native(*parameters, *gradients):
        return None
    return CompiledReadout.bound(parameters, gradients, slope, epsilon)


def bind_descent(vector: Tensor, gradient: Tensor, trace: Tensor, **settings: float) -> CompiledDescent | None:
    """Steps of ObGD on this vector."""
    if not runs_native(vector, gradient, trace):
        return None
    return CompiledDescent.bound(vector, gradient, trace, **settings)


def bind_lstm(weights: tuple[Tensor, ...], steps: int) -> CompiledLSTM | None:
    """Segments of an LSTM with these weights."""
    return CompiledLSTM.bound(weights, steps) if runs_native(*weights) else None


def bind_units(parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> CompiledUnits | None:
    """Trace units with these parameters."""
    return CompiledUnits.bound(parameters, gradients) if runs_native(*parameters, *gradients) else None


def head_gradient(
    loss: str, weight: Tensor, bias: Tensor, outputs: Tensor, place: Tensor | None, target: Tensor
) -> Tensor | None:
    """The gradient of a linear head's mean loss; see `sab_agents.kernels.native_backend.head`."""
    if not runs_native(outputs, weight, bias, place, target):
        return None
    return head.head_gradient(loss, weight, bias, outputs, place, target)
