"""Learning from one endless stream, a step at a time."""

from sab_agents.online.stream_ac import StreamAC

__all__ = ["StreamAC"]
