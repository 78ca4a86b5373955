"""Faster ways to compute exactly what `sab_agents.core` defines, behind one entry.

`scan` is that entry; `linear` computes the input gates it takes, and `step` takes one step where nothing is learnt.
"""

from sab_agents.kernels.choose import forced_kernel, kernel_in_use, linear, scan, step
from sab_agents.kernels.interface import ScanInputs, ScanOutputs, ScanPlan, StepRules, StepState, StepWeights

__all__ = [
    "ScanInputs",
    "ScanOutputs",
    "ScanPlan",
    "StepRules",
    "StepState",
    "StepWeights",
    "forced_kernel",
    "kernel_in_use",
    "linear",
    "scan",
    "step",
]
