"""What RL Zoo's `-optimize` searches for `ppo_sab`: what matters most to an agent with a memory.

All other hyperparameters stay as the file has them. Powers of two are searched by their exponents, so that a rollout
divides into minibatches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

POWERS = {"hidden_size": (4, 8), "capacity": (3, 8), "n_steps": (4, 10)}
"""Least and greatest exponents of two."""


def sample(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Draws hyperparameters for a trial.

    Args:
        trial: Optuna's.
        n_actions: not used; RL Zoo passes it to every sampler.
        n_envs: not used.
        additional_args: not used.

    Returns:
        Arguments of `PPOSab`.
    """
    drawn: dict[str, Any] = {
        f"{name}_pow": trial.suggest_int(f"{name}_pow", least, most) for name, (least, most) in POWERS.items()
    }
    drawn["top_k"] = trial.suggest_int("top_k", 1, 8)
    drawn["learning_rate"] = trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True)
    drawn["ent_coef"] = trial.suggest_float("ent_coef", 1e-8, 0.1, log=True)
    arguments = converted(drawn)
    for name in POWERS:
        trial.set_user_attr(name, arguments[name])
    return arguments


def converted(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `PPOSab` that a trial's parameters stand for."""
    powers = {name: 2 ** drawn[f"{name}_pow"] for name in POWERS}
    return {**powers, **{name: value for name, value in drawn.items() if not name.endswith("_pow")}}
