"""Collects rollouts with a policy: acts, keeps what learning needs, and hands it over in rows.

Dimensions: n environments, T steps of a segment, W segments of a rollout, R = W · n rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from sab_agents.checkpoint.archive import on_device, under, within
from sab_agents.ppo.cores import state_to_tensors
from sab_agents.ppo.evaluation import Rollout, in_rows
from sab_agents.ppo.policies import RecurrentActorCriticPolicy
from sab_agents.ppo.stateful import RNNStates
from sab_agents.streaming import ClosedWindow, Stream, without_contexts

Array = npt.NDArray[Any]


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
        policy: whose cores the streams run.
        n_envs: n.
    """

    def __init__(self, policy: RecurrentActorCriticPolicy, n_envs: int) -> None:
        self.policy = policy
        policy.make_streams(n_envs)
        self._stored: list[Tensor] = []  # what learning encodes, if the streams record something else
        self._segments: list[list[ClosedWindow]] = []
        self._open: tuple[Tensor, list[tuple[Stream, Any]]] | None = None  # what is stored, and what streams take

    @property
    def states(self) -> RNNStates:
        """The states of the cores after the last step; they may be changed in place by the next one."""
        states = [state_to_tensors(stream.state) for stream in self.policy.streams.values()]
        return RNNStates(states[0], states[-1])

    def begin(self) -> None:
        """Begins a rollout; nothing is learnt from what is left of one that was broken off."""
        self._stored, self._segments, self._open = [], [], None
        for stream in self.policy.streams.values():
            stream.discard()
        self._forget()

    def _forget(self) -> None:
        """Forgets the observations to which no memory refers."""
        if self.policy.encodes:
            self.policy.frames.keep(self._referred())

    def _referred(self) -> Tensor:
        """Returns the numbers of the observations to which a memory or an open window refers."""
        if not self.policy.replays_observations:
            return torch.empty(0)
        return torch.cat([stream.remembered().flatten() for stream in self.policy.streams.values()])

    @torch.no_grad()
    def step(self, observations: Any, start: Tensor) -> Acted:
        """Computes the next step, which `take` takes once the environments have answered.

        Args:
            observations: tensors (n, …), or a dict of them.
            start: (n,) bool, True where the observation is an episode's first.
        """
        policy = self.policy
        features = policy.features_of(observations)
        stored = features.actor
        if policy.encodes:
            stored = policy.frames.add(observations).unsqueeze(1).to(features.actor.dtype)
        step = policy.actor_stream.peek(self._observed(stored, features.actor), start, features.actor)
        output, taken = step.output, [(policy.actor_stream, step)]
        if policy.critic_stream is not None:
            step = policy.critic_stream.peek(self._observed(stored, features.critic), start, features.critic)
            values = policy.values_of(step.output)
            taken.append((policy.critic_stream, step))
        else:
            values = policy.values_of(output if policy.critic is None else policy.critic(features.critic))
        self._open = stored, taken
        distribution = policy.distribution_of(output)
        actions = distribution.get_actions()
        return Acted(actions.reshape(-1, *(policy.action_space.shape or ())), values, distribution.log_prob(actions))

    def take(self) -> None:
        """Takes the step that `step` computed: if the environments raise instead, nothing has changed."""
        assert self._open is not None, "take before a step"
        stored, taken = self._open
        if self._records_features:
            self._stored.append(stored)
        for stream, step in taken:
            stream.take(step)
        self._open = None

    @torch.no_grad()
    def values_of_next(self, observations: Any, start: Tensor) -> Tensor:
        """Returns the values (n,) of observations that would follow, and changes nothing; arguments as for `step`."""
        policy = self.policy
        features = policy.features_of(observations)
        if policy.critic is not None:
            return policy.values_of(policy.critic(features.critic))
        stream, x = policy.actor_stream, features.actor
        if policy.critic_stream is not None:
            stream, x = policy.critic_stream, features.critic
        nowhere = x.new_zeros(len(x), 1)  # what is only peeked at is not kept
        return policy.values_of(stream.peek(self._observed(nowhere, x), start, x).output)

    @property
    def _records_features(self) -> bool:
        """Whether the streams record features that are encoded once more when the rollout is learnt from."""
        return self.policy.encodes and not self.policy.replays_observations

    def _observed(self, stored: Tensor, features: Tensor) -> Tensor:
        """Returns what a stream records as its observation."""
        return stored if self.policy.replays_observations else features

    def end_segment(self) -> None:
        """Ends a segment: gradient will reach its start and, from there, only what a memory holds."""
        windows = [stream.close() for stream in self.policy.streams.values()]
        for window in windows:
            window.cut_every(self.policy.core_settings.bptt_steps)
        self._segments.append(windows)

    def rollout(self) -> Rollout:
        """Returns all segments since `begin`, which are of equal length."""
        actor, *critic = (type(windows[0]).joined(windows) for windows in zip(*self._segments, strict=True))
        stored = actor.observation
        if self._records_features:
            stored = in_rows(torch.stack(self._stored), len(self._segments))
        return Rollout(stored, actor, critic[0] if critic else None)

    def state_dict(self, *, contexts: bool = True) -> dict[str, Any]:
        """Returns everything that collecting carries between rollouts, so that it resumes bit-exactly.

        Args:
            contexts: keep what credit replays; without it memories are read, and not credited.
        """
        state: dict[str, Any] = {}
        for name, stream in self.policy.streams.items():
            carried = stream.state_dict()
            state |= under(name, carried if contexts else without_contexts(carried))
        if contexts and self.policy.replays_observations:
            state |= under("frames", self.policy.frames.state_dict(self._referred()))
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes where `state_dict` was taken; names of earlier versions are translated.

        Contexts of earlier versions, which held preprocessed observations, are left out; see `state_dict`.
        """
        policy, frames = self.policy, within("frames", state)
        policy.frames.load_state_dict(frames, policy.device)
        for name, stream in policy.streams.items():
            carried = _current_names(within(name, state))
            if policy.replays_observations and not frames:
                carried = without_contexts(carried)
            stream.load_state_dict(on_device(carried, policy.device))


def _current_names(carried: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns what a stream carries by today's names: earlier versions numbered the tensors of a state."""
    if not all(name.isdigit() for name in carried):
        return carried
    return {**under("state", carried), **under("before", carried)}


def bootstrapped(
    rewards: Array, new_obs: Any, infos: list[dict[str, Any]], gamma: float, value_of: Callable[[Any], Array]
) -> Array:
    """Returns the rewards (n,) of a step, with the discounted value of what would have followed a truncated episode.

    Args:
        rewards: (n,).
        new_obs: (n, …), or a dict of them: what was observed, after a reset where an episode ended.
        infos: of the step, with stable-baselines3's "TimeLimit.truncated" and "terminal_observation".
        gamma: discount.
        value_of: returns the values (n,) of observations that continue the episodes.
    """
    cut = [i for i, info in enumerate(infos) if info.get("TimeLimit.truncated") and "terminal_observation" in info]
    if not cut:
        return rewards
    following = _with_rows(new_obs, {i: infos[i]["terminal_observation"] for i in cut})
    rewards = rewards.copy()
    rewards[cut] += gamma * value_of(following)[cut]
    return rewards


def _with_rows(observations: Any, rows: dict[int, Any]) -> Any:
    """Returns a copy of observations (n, …) with some rows replaced."""
    if isinstance(observations, dict):
        return {key: _with_rows(part, {i: row[key] for i, row in rows.items()}) for key, part in observations.items()}
    changed = observations.copy()
    for i, row in rows.items():
        changed[i] = row
    return changed
