"""Native code that is bound to tensors: their addresses are kept, so that they must stay where they are.

Every function returns None if the native kernel does not take these tensors.
"""

from __future__ import annotations

from torch import Tensor

from sab_agents.kernels.backend import runs_native
from sab_agents.kernels.native_backend.agent import CompiledUnits
from sab_agents.kernels.native_backend.segment import CompiledLSTM


def bind_lstm(weights: tuple[Tensor, ...], steps: int) -> CompiledLSTM | None:
    """Segments of an LSTM with these weights."""
    return CompiledLSTM.bound(weights, steps) if runs_native(*weights) else None


def bind_units(parameters: tuple[Tensor, ...], gradients: tuple[Tensor, ...]) -> CompiledUnits | None:
    """Trace units with these parameters."""
    return CompiledUnits.bound(parameters, gradients) if runs_native(*parameters, *gradients) else None
