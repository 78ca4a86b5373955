"""Proximal policy optimisation with memory, on stable-baselines3.

The policies are classes of this module, too: `from sab_agents.ppo import MlpSabPolicy`.
"""

from __future__ import annotations

from typing import Any

from sab_agents.ppo.export import export_policy
from sab_agents.ppo.kinds import POLICIES
from sab_agents.ppo.recurrent_ppo import RecurrentPPO

__all__ = ["POLICIES", "RecurrentPPO", "export_policy"]


def __getattr__(name: str) -> Any:
    """Returns the policy of that name."""
    if name in POLICIES:
        return POLICIES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *POLICIES])
