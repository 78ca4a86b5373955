"""The mathematics: the SAB module, its state, the scan it is defined by, and the cores it is compared with."""

from sab_agents.core.ablations import SoftmaxSAB, UncreditedSAB
from sab_agents.core.base import Core
from sab_agents.core.baselines import LSTM, LSTMAttention, Transformer
from sab_agents.core.build import CORES, build_core
from sab_agents.core.sab import SAB, ReadLog
from sab_agents.core.sparsify import sparsify
from sab_agents.core.state import SABState, State

__all__ = [
    "CORES",
    "LSTM",
    "SAB",
    "Core",
    "LSTMAttention",
    "ReadLog",
    "SABState",
    "SoftmaxSAB",
    "State",
    "Transformer",
    "UncreditedSAB",
    "build_core",
    "sparsify",
]
