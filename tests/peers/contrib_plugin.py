"""A pytest plugin that puts this library's RecurrentPPO in place of sb3-contrib's, before its tests are imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from sab_agents import RecurrentPPO
from sab_agents.ppo.kinds import POLICIES

OF_TRPO_ALONE = (
    *("cg_max_steps", "cg_damping", "line_search_shrinking_factor", "line_search_max_iter"),
    *("n_critic_updates", "sub_sampling_factor"),
)


class RecurrentPPOForTRPO(RecurrentPPO):
    """Stands in for TRPO, sb3-contrib's other on-policy algorithm, in tests that it has of all algorithms alike."""

    policy_aliases: ClassVar[dict[str, Any]] = {
        "MlpPolicy": POLICIES["MlpLstmPolicy"],
        "CnnPolicy": POLICIES["CnnLstmPolicy"],
        "MultiInputPolicy": POLICIES["MultiInputLstmPolicy"],
    }

    def __init__(self, policy: Any, env: Any, **arguments: Any) -> None:
        for name in OF_TRPO_ALONE:
            arguments.pop(name, None)
        super().__init__(policy, env, **arguments)


contrib: Any = import_module("sb3_contrib")
contrib.RecurrentPPO, contrib.TRPO = RecurrentPPO, RecurrentPPOForTRPO
