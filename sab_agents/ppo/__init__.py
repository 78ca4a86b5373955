"""Proximal policy optimisation with memory, on stable-baselines3."""

from sab_agents.ppo.recurrent_ppo import RecurrentPPO

__all__ = ["RecurrentPPO"]
