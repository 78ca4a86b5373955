"""The agent that RL Zoo calls `ppo_sab`."""

from __future__ import annotations

from typing import Any

from sab_agents.ppo import RecurrentPPO
from sab_agents.ppo.policies import RecurrentActorCriticPolicy


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
