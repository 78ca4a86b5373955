"""Recurrent agents that learn from the distant past with Sparse Attentive Backtracking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from sab_agents.online import OnlineLearner
from sab_agents.streaming import SABStream

if TYPE_CHECKING:
    from sab_agents.online import StreamAC
    from sab_agents.ppo import RecurrentPPO
    from sab_agents.vec_env.vector import VectorToVecEnv

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "SAB",
    "LSTMAttention",
    "OnlineLearner",
    "ReadLog",
    "RecurrentPPO",
    "SABState",
    "SABStream",
    "SoftmaxSAB",
    "StreamAC",
    "Transformer",
    "UncreditedSAB",
    "VectorToVecEnv",
    "build_core",
]

register_environments()


def __getattr__(name: str) -> Any:
    """Imports stable-baselines3, which takes a while, when something that needs it is asked for."""
    if name == "VectorToVecEnv":
        from sab_agents.vec_env.vector import VectorToVecEnv  # noqa: PLC0415

        return VectorToVecEnv
    if name == "StreamAC":
        from sab_agents.online import StreamAC  # noqa: PLC0415

        return StreamAC
    if name == "RecurrentPPO":
        from sab_agents.ppo import RecurrentPPO  # noqa: PLC0415

        return RecurrentPPO
    raise AttributeError(f"module 'sab_agents' has no attribute {name!r}")
