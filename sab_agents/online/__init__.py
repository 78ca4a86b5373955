"""Learning from endless streams, a step at a time."""

from sab_agents.online.credit_ledger import CreditReport
from sab_agents.online.online_learner import OnlineLearner
from sab_agents.online.stream_ac import StreamAC

__all__ = ["CreditReport", "OnlineLearner", "StreamAC"]
