"""Faster ways to compute exactly what `sab_agents.core` defines, behind one entry.

`scan` is that entry; `linear` computes the input gates it takes, `count_steps` and `remember` what stands before and
after it, and `step` takes one step where nothing is learnt. Streams take steps, keep their books and run pieces again
with `bind_stream` and `outputs`, where these are there; streaming agents have `bind_readout`, `bind_descent`,
`bind_units` and `bind_lstm`.
"""

from sab_agents.kernels.backend import (
    all_finite,
    bind_descent,
    bind_lstm,
    bind_readout,
    bind_stream,
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
    slot_order,
    step,
)
from sab_agents.kernels.native_backend.agent import CompiledDescent, CompiledReadout, CompiledUnits
from sab_agents.kernels.native_backend.extension import forced_way
from sab_agents.kernels.native_backend.run import Run
from sab_agents.kernels.native_backend.segment import CompiledLSTM, CompiledSegment, Mode
from sab_agents.kernels.native_backend.stream import CompiledStream
from sab_agents.kernels.types import (
    Counted,
    Held,
    ScanInputs,
    ScanOutputs,
    ScanPlan,
    StepRules,
    StepState,
    StepWeights,
    StreamStep,
    WindowRecord,
)

__all__ = [
    "CompiledDescent",
    "CompiledLSTM",
    "CompiledReadout",
    "CompiledSegment",
    "CompiledStream",
    "CompiledUnits",
    "Counted",
    "Held",
    "Mode",
    "Run",
    "ScanInputs",
    "ScanOutputs",
    "ScanPlan",
    "StepRules",
    "StepState",
    "StepWeights",
    "StreamStep",
    "WindowRecord",
    "all_finite",
    "bind_descent",
    "bind_lstm",
    "bind_readout",
    "bind_stream",
    "bind_units",
    "count_steps",
    "forced_kernel",
    "forced_way",
    "head_gradient",
    "kernel_in_use",
    "linear",
    "lstm_run",
    "lstm_step",
    "norm",
    "outputs",
    "remember",
    "scan",
    "scan_run",
    "slot_order",
    "step",
]
