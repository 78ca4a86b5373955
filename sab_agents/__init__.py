"""Recurrent agents that learn from the distant past with Sparse Attentive Backtracking.

Public names are imported from their modules on first use: torch and stable-baselines3 take a second each to load, which
the environments and the command line's help do without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sab_agents.envs.registration import register_environments

if TYPE_CHECKING:
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
    from sab_agents.online import OnlineLearner, StreamAC
    from sab_agents.ppo import RecurrentPPO
    from sab_agents.streaming import SABStream
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

_MODULES = {
    "OnlineLearner": "sab_agents.online",
    "RecurrentPPO": "sab_agents.ppo",
    "SABStream": "sab_agents.streaming",
    "StreamAC": "sab_agents.online",
    "VectorToVecEnv": "sab_agents.vec_env.vector",
}
"""The module of each public name that is not one of `sab_agents.core`."""

register_environments()


def __getattr__(name: str) -> Any:
    """Imports a public name from its module when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'sab_agents' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES.get(name, "sab_agents.core")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
