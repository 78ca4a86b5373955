"""Faster ways to compute exactly what `sab_agents.core` defines, behind one entry.

`scan` is that entry; `linear` computes the input gates it takes, `count_steps` and `remember` what stands before and
after it, and `step` takes one step where nothing is learnt. `replay` computes a scan once more for its gradient, and a
`StreamKernel` does what streams need. Streaming agents have `bind_readout`, `bind_descent`, `bind_units` and
`bind_lstm`.
"""

from sab_agents.kernels.backend import (
    all_finite,
    bind_descent,
    bind_lstm,
    bind_readout,
    bind_units,
    count_steps,
    forced_kernel,
    head_gradient,
    kernel_in_use,
    linear,
    lstm_run,
    lstm_step,
    norm,
    outputs,
    remember,
    scan,
    scan_run,
    step,
)
from sab_agents.kernels.native_backend.agent import CompiledDescent, CompiledReadout, CompiledUnits
from sab_agents.kernels.native_backend.extension import forced_way
from sab_agents.kernels.native_backend.run import Run
from sab_agents.kernels.native_backend.segment import CompiledLSTM
from sab_agents.kernels.replaying import Replay, gradient_like, graph_replay, replay, scan_outputs
from sab_agents.kernels.stream import Pieces, StreamKernel, replay_inputs, stream_kernel
from sab_agents.kernels.torch_backend.stream import act
from sab_agents.kernels.types import (
    EVICTIONS,
    WRITES,
    Contexts,
    Counted,
    Eviction,
    Held,
    PieceInputs,
    ScanInputs,
    ScanOutputs,
    ScanPlan,
    StepRules,
    StepState,
    StepWeights,
    StreamRules,
    StreamState,
    StreamStep,
    WindowRecord,
    Write,
)

__all__ = [
    "EVICTIONS",
    "WRITES",
    "CompiledDescent",
    "CompiledLSTM",
    "CompiledReadout",
    "CompiledUnits",
    "Contexts",
    "Counted",
    "Eviction",
    "Held",
    "PieceInputs",
    "Pieces",
    "Replay",
    "Run",
    "ScanInputs",
    "ScanOutputs",
    "ScanPlan",
    "StepRules",
    "StepState",
    "StepWeights",
    "StreamKernel",
    "StreamRules",
    "StreamState",
    "StreamStep",
    "WindowRecord",
    "Write",
    "act",
    "all_finite",
    "bind_descent",
    "bind_lstm",
    "bind_readout",
    "bind_units",
    "count_steps",
    "forced_kernel",
    "forced_way",
    "gradient_like",
    "graph_replay",
    "head_gradient",
    "kernel_in_use",
    "linear",
    "lstm_run",
    "lstm_step",
    "norm",
    "outputs",
    "remember",
    "replay",
    "replay_inputs",
    "scan",
    "scan_outputs",
    "scan_run",
    "step",
    "stream_kernel",
]
