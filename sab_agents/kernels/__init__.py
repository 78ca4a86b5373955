"""Faster ways to compute exactly what `sab_agents.core` defines, behind one entry.

`scan` is that entry; `linear` computes the input gates it takes, `count_steps` and `remember` what stands before and
after it, and `step` takes one step where nothing is learnt.
"""

from sab_agents.kernels.choose import (
    all_finite,
    count_steps,
    forced_kernel,
    kernel_in_use,
    linear,
    remember,
    scan,
    step,
)
from sab_agents.kernels.interface import (
    Counted,
    Held,
    ScanInputs,
    ScanOutputs,
    ScanPlan,
    StepRules,
    StepState,
    StepWeights,
)

__all__ = [
    "Counted",
    "Held",
    "ScanInputs",
    "ScanOutputs",
    "ScanPlan",
    "StepRules",
    "StepState",
    "StepWeights",
    "all_finite",
    "count_steps",
    "forced_kernel",
    "kernel_in_use",
    "linear",
    "remember",
    "scan",
    "step",
]
