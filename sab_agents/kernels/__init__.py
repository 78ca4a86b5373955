"""Faster ways to compute exactly what `sab_agents.core` defines, behind one entry.

`scan` is that entry; `linear` computes the input gates it takes.
"""

from sab_agents.kernels.choose import forced_kernel, kernel_in_use, linear, scan
from sab_agents.kernels.interface import ScanInputs, ScanOutputs, ScanPlan

__all__ = ["ScanInputs", "ScanOutputs", "ScanPlan", "forced_kernel", "kernel_in_use", "linear", "scan"]
