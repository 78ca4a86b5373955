"""The agent that RL Zoo calls `ppo_sab`, and what its `-optimize` searches: what matters most with a memory.

All other hyperparameters stay as the file has them. Powers of two are searched by their exponents, so that a rollout
divides into minibatches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sab_agents.ppo import RecurrentPPO
from sab_agents.ppo.policies import RecurrentActorCriticPolicy

POWERS = {"hidden_size": (4, 8), "capacity": (3, 8), "n_steps": (4, 10)}
"""Least and greatest exponents of two."""


class PPOSab(RecurrentPPO):
    """`RecurrentPPO` whose core's size and memory are arguments, so that a file, a flag or a search can set one alone.

    Args:
        policy: as of `RecurrentPPO`.
        env: as of `RecurrentPPO`.
        hidden_size: of the core; None leaves it to `policy_kwargs`.
        capacity: slots of the memory; None leaves it to `policy_kwargs`.
        top_k: slots that a step reads at most; None leaves it to `policy_kwargs`.
        policy_kwargs: as of `RecurrentPPO`.
        arguments: the others of `RecurrentPPO`.

    Raises:
        TypeError, ValueError: as of `RecurrentPPO`; a core without a memory has no capacity and no top_k.
    """

    def __init__(
        self,
        policy: str | type[RecurrentActorCriticPolicy],
        env: Any,
        *,
        hidden_size: int | None = None,
        capacity: int | None = None,
        top_k: int | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        whole = dict(policy_kwargs or {})
        memory = {name: value for name, value in (("capacity", capacity), ("top_k", top_k)) if value is not None}
        if memory:
            whole["core_kwargs"] = {**whole.get("core_kwargs", {}), **memory}
        if hidden_size is not None:
            whole["lstm_hidden_size"] = hidden_size
        super().__init__(policy, env, policy_kwargs=whole or None, **arguments)


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
