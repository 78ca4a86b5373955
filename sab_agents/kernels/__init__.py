"""Faster ways to compute exactly what `sab_agents.core` defines, behind one entry.

`scan` is that entry; `linear` computes the input gates it takes, `count_steps` and `remember` what stands before and
after it, and `step` takes one step where nothing is learnt. Streams take steps, keep their books and run pieces again
with `bind_stream` and `outputs`, where these are there.
"""

from sab_agents.kernels.choose import (
    all_finite,
    bind_stream,
    count_steps,
    forced_kernel,
    forced_way,
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
from sab_agents.kernels.compiled_run import Run
from sab_agents.kernels.compiled_stream import CompiledStream
from sab_agents.kernels.interface import (
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
    "CompiledStream",
    "Counted",
    "Held",
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
    "bind_stream",
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
    "step",
]
