"""Recurrent agents that learn from the distant past with Sparse Attentive Backtracking."""

from sab_agents.core import (
    LSTM,
    SAB,
    LSTMAttention,
    ReadLog,
    SABState,
    SoftmaxSAB,
    Transformer,
    UncreditedSAB,
    build_core,
)
from sab_agents.envs.registration import register_environments

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "SAB",
    "LSTMAttention",
    "ReadLog",
    "SABState",
    "SoftmaxSAB",
    "Transformer",
    "UncreditedSAB",
    "build_core",
]

register_environments()
