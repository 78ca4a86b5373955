"""The scan under everything, its relatives, and the kernels that compute them: native, Triton and plain torch.

`scan` runs whole sequences, and `step` takes one step. `replay` computes a recorded sequence once more for its
gradient. `lstm` and `replay_lstm` do the same without slots. `count_steps` and `remember` do what stands around a scan.
A `StreamKernel` does what streams through a SAB need, an `LSTMSegment` and a `UnitsKernel` what those through an LSTM
and through trace units need, and a `Recorder` notes steps. Callers get what they ask for and never learn which kernel
computed it.
"""

from sab_agents.kernels.backend import (
    all_finite,
    forced_kernel,
    is_known,
    kernel_in_use,
    norm,
    transforms_active,
)
from sab_agents.kernels.binding import add_gradient, are_leaves
from sab_agents.kernels.bookkeeping import count_steps, remember
from sab_agents.kernels.gru import GRUWeights, replay_gru, replays_gru
from sab_agents.kernels.layers import Layer, gradients_of_layers, values_of_layers
from sab_agents.kernels.layout import Layout, packed, relaid, slots_to_look_at
from sab_agents.kernels.losses import categorical_loss, value_loss
from sab_agents.kernels.lstm import LSTMSegment, LSTMWeights, lstm, replay_lstm, stretch_firsts
from sab_agents.kernels.mixture import MixtureKernel, mixture_kernel
from sab_agents.kernels.record import Recorder
from sab_agents.kernels.scale import ScaleKernel, scale_kernel
from sab_agents.kernels.scan import Replay, graph_replay, replay, scan
from sab_agents.kernels.step import lstm_step, step
from sab_agents.kernels.stream import StreamKernel, replay_inputs, stream_kernel
from sab_agents.kernels.stream_types import (
    EVICTIONS,
    WRITES,
    Contexts,
    Eviction,
    StreamRules,
    StreamState,
    StreamStep,
    WindowRecord,
    Write,
)
from sab_agents.kernels.torch_backend.attention import sparsify
from sab_agents.kernels.torch_backend.bookkeeping import steps_in_episode
from sab_agents.kernels.torch_backend.losses import surrogate_loss
from sab_agents.kernels.torch_backend.reference import reference_scan
from sab_agents.kernels.torch_backend.scores import SCORES
from sab_agents.kernels.torch_backend.stream import act
from sab_agents.kernels.torch_backend.units import (
    advance_sensitivity,
    gradient_of_parameters,
    gradient_of_units,
    run_units,
)
from sab_agents.kernels.types import (
    STORED,
    MixtureState,
    Reading,
    ScaleState,
    ScanArguments,
    ScanOutputs,
    ScanPlan,
    StepRules,
    StepState,
    StepWeights,
    Stored,
)
from sab_agents.kernels.units import UnitsKernel

__all__ = [
    "EVICTIONS",
    "SCORES",
    "STORED",
    "WRITES",
    "Contexts",
    "Eviction",
    "GRUWeights",
    "LSTMSegment",
    "LSTMWeights",
    "Layer",
    "Layout",
    "MixtureKernel",
    "MixtureState",
    "Reading",
    "Recorder",
    "Replay",
    "ScaleKernel",
    "ScaleState",
    "ScanArguments",
    "ScanOutputs",
    "ScanPlan",
    "StepRules",
    "StepState",
    "StepWeights",
    "Stored",
    "StreamKernel",
    "StreamRules",
    "StreamState",
    "StreamStep",
    "UnitsKernel",
    "WindowRecord",
    "Write",
    "act",
    "add_gradient",
    "advance_sensitivity",
    "all_finite",
    "are_leaves",
    "categorical_loss",
    "count_steps",
    "forced_kernel",
    "gradient_of_parameters",
    "gradient_of_units",
    "gradients_of_layers",
    "graph_replay",
    "is_known",
    "kernel_in_use",
    "lstm",
    "lstm_step",
    "mixture_kernel",
    "norm",
    "packed",
    "reference_scan",
    "relaid",
    "remember",
    "replay",
    "replay_gru",
    "replay_inputs",
    "replay_lstm",
    "replays_gru",
    "run_units",
    "scale_kernel",
    "scan",
    "slots_to_look_at",
    "sparsify",
    "step",
    "steps_in_episode",
    "stream_kernel",
    "stretch_firsts",
    "surrogate_loss",
    "transforms_active",
    "value_loss",
    "values_of_layers",
]
