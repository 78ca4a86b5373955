"""Endless streams of any core: one contract, and one class for each way in which credit reaches the past."""

from sab_agents.kernels import EVICTIONS, WRITES, Eviction, Replay, StreamRules, Write
from sab_agents.streaming.base import Step, Stream, in_own_modes
from sab_agents.streaming.credit import GradientNorms, credited
from sab_agents.streaming.make import make_stream, stream_settings
from sab_agents.streaming.memory_figures import (
    RECORDED,
    Reads,
    credit_figures,
    held_figures,
    open_figures,
)
from sab_agents.streaming.real_time import RealTimeStream, RealTimeWindow
from sab_agents.streaming.sab import SABStream
from sab_agents.streaming.sab_window import SABWindow
from sab_agents.streaming.slots import SlotState, chosen_novelty, without_contexts
from sab_agents.streaming.truncated import TruncatedStream, TruncatedWindow
from sab_agents.streaming.window import ClosedWindow, Credit

__all__ = [
    "EVICTIONS",
    "RECORDED",
    "WRITES",
    "ClosedWindow",
    "Credit",
    "Eviction",
    "GradientNorms",
    "Reads",
    "RealTimeStream",
    "RealTimeWindow",
    "Replay",
    "SABStream",
    "SABWindow",
    "SlotState",
    "Step",
    "Stream",
    "StreamRules",
    "TruncatedStream",
    "TruncatedWindow",
    "Write",
    "chosen_novelty",
    "credit_figures",
    "credited",
    "held_figures",
    "in_own_modes",
    "make_stream",
    "open_figures",
    "stream_settings",
    "without_contexts",
]
