"""The mathematics of whole sequences: the SAB module, its state, and the cores it is compared with."""

from sab_agents.core.ablations import SoftmaxSAB, UncreditedSAB
from sab_agents.core.base import Core
from sab_agents.core.gru import GRU
from sab_agents.core.lstm import LSTM
from sab_agents.core.lstm_attention import LSTMAttention
from sab_agents.core.mingru import MinGRU
from sab_agents.core.real_time import RealTimeCore
from sab_agents.core.registry import CORES, CoreSpec, build_core, core_spec, register_core
from sab_agents.core.rtu import RTU
from sab_agents.core.sab import SAB, ReadLog
from sab_agents.core.state import SABState, State
from sab_agents.core.transformer import Transformer
from sab_agents.kernels import sparsify

__all__ = [
    "CORES",
    "GRU",
    "LSTM",
    "RTU",
    "SAB",
    "Core",
    "CoreSpec",
    "LSTMAttention",
    "MinGRU",
    "ReadLog",
    "RealTimeCore",
    "SABState",
    "SoftmaxSAB",
    "State",
    "Transformer",
    "UncreditedSAB",
    "build_core",
    "core_spec",
    "register_core",
    "sparsify",
]
