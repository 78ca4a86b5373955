"""Collects rollouts with a policy: acts, keeps what learning needs, and hands it over in rows.

Dimensions: n environments, T steps of a segment, W segments of a rollout, R = W · n rows, P numbers that are stored.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from sab_agents.ppo.evaluation import Rollout
from sab_agents.ppo.policies import RecurrentActorCriticPolicy


class Acted(NamedTuple):
    """One step of n environments.

    Attributes:
        actions: (n, …) as they were drawn.
        values: (n,).
        log_prob: (n,).
    """

    actions: Tensor
    values: Tensor
    log_prob: Tensor


class Collector:
    """The memory of n environments under one policy, from rollout to rollout.

    Args:
        policy: acts; its cores carry the memory.
        n_envs: n.
    """

    def __init__(self, policy: RecurrentActorCriticPolicy, n_envs: int) -> None:
        self.policy = policy
        actor, critic = policy.encoders
        encodes = policy.encodes
        size = policy.packing.size if encodes else policy.features_dim
        policy.actor_core.begin(n_envs, actor if encodes else None, size)
        if policy.critic_core is not None:
            policy.critic_core.begin(n_envs, critic if encodes else None, size)
        self._stored: list[Tensor] = []
        self._segments: list[tuple[Any, Any]] = []

    def begin(self) -> None:
        """Begins a rollout; what is left of one that was broken off is not learnt from."""
        self._stored, self._segments = [], []
        for core in self._cores():
            core.discard()

    @torch.no_grad()
    def step(self, observations: Any, start: Tensor) -> Acted:
        """Takes the next step.

        Args:
            observations: tensors (n, …), or a dict of such.
            start: (n,) bool, True where the observation is an episode's first.
        """
        policy = self.policy
        seen = policy.features_of(observations)
        self._stored.append(seen.stored)
        output = policy.actor_core.step(seen.stored, seen.actor, start)
        if policy.critic_core is not None:
            values = policy.values_of(policy.critic_core.step(seen.stored, seen.critic, start))
        else:
            values = policy.values_of(output if policy.critic is None else policy.critic(seen.critic))
        distribution = policy.acts_on(output)
        actions = distribution.get_actions()
        return Acted(actions.reshape(-1, *(policy.action_space.shape or ())), values, distribution.log_prob(actions))

    @torch.no_grad()
    def values_of_next(self, observations: Any, start: Tensor) -> Tensor:
        """The values (n,) of observations that would follow; nothing changes. Arguments as for `step`."""
        policy = self.policy
        seen = policy.features_of(observations)
        if policy.critic is not None:
            return policy.values_of(policy.critic(seen.critic))
        core, features = (
            (policy.actor_core, seen.actor) if policy.critic_core is None else (policy.critic_core, seen.critic)
        )
        return policy.values_of(core.peek(seen.stored, features, start))

    def end_segment(self) -> None:
        """Ends a segment: gradient will reach its start and, from there, only what a memory holds."""
        actor, *critic = (core.close() for core in self._cores())
        self._segments.append((actor, critic[0] if critic else None))

    def rollout(self) -> Rollout:
        """All segments since `begin`, of equal length."""
        policy = self.policy
        actors, critics = zip(*self._segments, strict=True)
        critic = None if policy.critic_core is None else policy.critic_core.joined(critics)
        return Rollout(in_rows(torch.stack(self._stored), len(actors)), policy.actor_core.joined(actors), critic)

    def carried(self) -> dict[str, Tensor]:
        """What is needed to go on to the bit, between rollouts."""
        names = ("actor", "critic")
        cores = zip(names, self._cores(), strict=False)
        return {f"{name}.{key}": value for name, core in cores for key, value in core.carried().items()}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
        for name, core in zip(("actor", "critic"), self._cores(), strict=False):
            prefix = f"{name}."
            core.restore({key.removeprefix(prefix): value for key, value in carried.items() if key.startswith(prefix)})

    def _cores(self) -> list[Any]:
        policy = self.policy
        return [core for core in (policy.actor_core, policy.critic_core) if core is not None]


def in_rows(steps: Tensor, segments: int) -> Tensor:
    """Steps (W · T, n, …) of all environments as rows (T, W · n, …): those of the first segment, of the second, …."""
    if segments == 1:
        return steps
    T = steps.shape[0] // segments
    parts = steps.view(segments, T, *steps.shape[1:])
    return parts.transpose(0, 1).flatten(1, 2)
