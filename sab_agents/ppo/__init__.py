"""Proximal policy optimisation with memory, on stable-baselines3."""

from sab_agents.ppo.export import export_policy
from sab_agents.ppo.recurrent_ppo import RecurrentPPO

__all__ = ["RecurrentPPO", "export_policy"]
