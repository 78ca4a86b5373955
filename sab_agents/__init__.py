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
from sab_agents.core.streaming import SABStream
from sab_agents.envs.registration import register_environments
from sab_agents.online import OnlineLearner, StreamAC

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "SAB",
    "LSTMAttention",
    "OnlineLearner",
    "ReadLog",
    "SABState",
    "SABStream",
    "SoftmaxSAB",
    "StreamAC",
    "Transformer",
    "UncreditedSAB",
    "build_core",
]

register_environments()
