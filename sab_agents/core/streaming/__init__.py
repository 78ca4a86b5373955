"""Streams: a bounded memory whose slots carry what a re-run needs, so that credit reaches any distance."""

from sab_agents.core.streaming.closed import ClosedWindow
from sab_agents.core.streaming.eviction import EVICTIONS, WRITES, Eviction, Write
from sab_agents.core.streaming.plain import PlainStream
from sab_agents.core.streaming.rerun import Credit
from sab_agents.core.streaming.stream import SABStream

__all__ = ["EVICTIONS", "WRITES", "ClosedWindow", "Credit", "Eviction", "PlainStream", "SABStream", "Write"]
