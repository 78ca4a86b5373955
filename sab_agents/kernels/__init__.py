"""The scan under everything, its relatives, and the kernels that compute them: native, Triton and plain torch.

Callers get what they ask for and never learn which kernel computed it. `scan` runs whole sequences, `replay` runs
recorded ones again for their gradient, `lstm` and `replay_lstm` do so without slots, and `step` takes one step.
`count_steps`, `remember` and `slot_order` do what stands around them. Native code that is bound to a stream or an
agent (`bind_stream` and others) is the one exception: it may be None.
"""

from sab_agents.kernels.backend import forced_kernel, forced_way, kernel_in_use
from sab_agents.kernels.bindings import (
    bind_descent,
    bind_lstm,
    bind_readout,
    bind_stream,
    bind_units,
    head_gradient,
)
from sab_agents.kernels.bookkeeping import count_steps, remember, slot_order
from sab_agents.kernels.lstm import Layout, LSTMWeights, lstm, relaid, replay_lstm
from sab_agents.kernels.native_backend.agent import CompiledDescent, CompiledReadout, CompiledUnits
from sab_agents.kernels.native_backend.lstm import CompiledLSTM
from sab_agents.kernels.native_backend.run import Run
from sab_agents.kernels.native_backend.segment import CompiledSegment, Mode
from sab_agents.kernels.native_backend.stream import CompiledStream
from sab_agents.kernels.reductions import all_finite, norm
from sab_agents.kernels.scan import Replay, are_leaves, gradient_like, graph_replay, replay, scan
from sab_agents.kernels.step import lstm_step, step
from sab_agents.kernels.torch_backend.attention import attention_scores, sparsify
from sab_agents.kernels.torch_backend.bookkeeping import steps_in_episode
from sab_agents.kernels.torch_backend.reference import reference_scan
from sab_agents.kernels.types import (
    Counted,
    Held,
    ScanArguments,
    ScanOutputs,
    ScanPlan,
    Sparsifier,
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
    "LSTMWeights",
    "Layout",
    "Mode",
    "Replay",
    "Run",
    "ScanArguments",
    "ScanOutputs",
    "ScanPlan",
    "Sparsifier",
    "StepRules",
    "StepState",
    "StepWeights",
    "StreamStep",
    "WindowRecord",
    "all_finite",
    "are_leaves",
    "attention_scores",
    "bind_descent",
    "bind_lstm",
    "bind_readout",
    "bind_stream",
    "bind_units",
    "count_steps",
    "forced_kernel",
    "forced_way",
    "gradient_like",
    "graph_replay",
    "head_gradient",
    "kernel_in_use",
    "lstm",
    "lstm_step",
    "norm",
    "reference_scan",
    "relaid",
    "remember",
    "replay",
    "replay_lstm",
    "scan",
    "slot_order",
    "sparsify",
    "step",
    "steps_in_episode",
]
