"""A pytest plugin that puts this library's RecurrentPPO in place of PPO and A2C, before the tests are imported."""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar

from sab_agents import RecurrentPPO
from sab_agents.ppo.kinds import POLICIES

OF_A2C_ALONE = ("rms_prop_eps", "use_rms_prop")


class RecurrentPPOForPPO(RecurrentPPO):
    """Stands in for PPO, with this library's LSTM policies."""

    policy_aliases: ClassVar[dict[str, Any]] = {
        "MlpPolicy": POLICIES["MlpLstmPolicy"],
        "CnnPolicy": POLICIES["CnnLstmPolicy"],
        "MultiInputPolicy": POLICIES["MultiInputLstmPolicy"],
    }


class RecurrentPPOForA2C(RecurrentPPOForPPO):
    """Stands in for A2C, without the settings of its optimiser."""

    def __init__(self, policy: Any, env: Any, **arguments: Any) -> None:
        for name in OF_A2C_ALONE:
            arguments.pop(name, None)
        super().__init__(policy, env, **arguments)


sb3: Any = import_module("stable_baselines3")
sb3.PPO, sb3.A2C = RecurrentPPOForPPO, RecurrentPPOForA2C
