"""Learning from endless streams, a step at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sab_agents.online.credit_ledger import CreditReport
from sab_agents.online.diagnosis import Diagnosis
from sab_agents.online.online_learner import OnlineLearner

if TYPE_CHECKING:
    from sab_agents.online.stream_ac import StreamAC

__all__ = ["CreditReport", "Diagnosis", "OnlineLearner", "StreamAC"]


def __getattr__(name: str) -> Any:
    """Imports stable-baselines3, which takes a while, when the agent that needs it is asked for."""
    if name == "StreamAC":
        from sab_agents.online.stream_ac import StreamAC  # noqa: PLC0415

        return StreamAC
    raise AttributeError(f"module 'sab_agents.online' has no attribute {name!r}")
