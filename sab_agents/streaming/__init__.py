"""Streams: a bounded memory whose slots carry what a re-run needs, so that credit reaches any distance."""

from sab_agents.streaming.closed import ClosedWindow
from sab_agents.streaming.eviction import EVICTIONS, WRITES, Eviction, Write
from sab_agents.streaming.plain import PlainStream
from sab_agents.streaming.rerun import Credit
from sab_agents.streaming.stream import SABStream

__all__ = ["EVICTIONS", "WRITES", "ClosedWindow", "Credit", "Eviction", "PlainStream", "SABStream", "Write"]
