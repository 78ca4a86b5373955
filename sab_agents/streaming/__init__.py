"""Endless streams of any core: one contract, and one class for each way in which credit reaches the past."""

from sab_agents.kernels import EVICTIONS, WRITES, Eviction, Replay, StreamRules, Write
from sab_agents.streaming.base import ClosedWindow, Credit, Step, Stream
from sab_agents.streaming.make import make_stream, stream_settings
from sab_agents.streaming.real_time import RealTimeStream, RealTimeWindow
from sab_agents.streaming.sab import SABStream
from sab_agents.streaming.sab_window import SABWindow
from sab_agents.streaming.slots import SlotState
from sab_agents.streaming.truncated import TruncatedStream, TruncatedWindow

__all__ = [
    "EVICTIONS",
    "WRITES",
    "ClosedWindow",
    "Credit",
    "Eviction",
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
    "make_stream",
    "stream_settings",
]
