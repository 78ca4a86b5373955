"""Endless streams of any core: one contract, and one class for each way in which credit reaches the past."""

from sab_agents.streaming.base import ClosedWindow, Credit, Replay, Step, Stream
from sab_agents.streaming.closed import SABWindow
from sab_agents.streaming.eviction import EVICTIONS, WRITES, Eviction, Write
from sab_agents.streaming.make import make_stream, stream_settings
from sab_agents.streaming.real_time import RealTimeStream, RealTimeWindow
from sab_agents.streaming.stream import SABStream
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
    "Step",
    "Stream",
    "TruncatedStream",
    "TruncatedWindow",
    "Write",
    "make_stream",
    "stream_settings",
]
