"""Everything of a StreamAC that a file must hold, as JSON facts and tensors."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sab_agents.checkpoint.archive import part, space_to_json

if TYPE_CHECKING:
    from sab_agents.online.stream_ac import StreamAC

# The constructor's arguments; each is an attribute of the agent, too.
_ARGUMENTS = (
    *("learning_rate", "gamma", "trace_decay", "ent_coef", "kappa_policy", "kappa_value"),
    *("policy_kwargs", "tensorboard_log", "verbose", "seed"),
)
_COUNTS = ("num_timesteps", "_episode_num", "_n_updates")
_SCALER = ("discounted_sum", "count", "mean", "squares")


def snapshot(agent: StreamAC) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The agent's facts and tensors. Floats survive JSON to the bit."""
    normaliser, scaler = agent.policy.normaliser, agent.reward_scaler
    facts: dict[str, Any] = {
        "arguments": {
            "policy": agent.policy_name,
            "stats_window_size": agent._stats_window_size,
            **{name: getattr(agent, name) for name in _ARGUMENTS},
        },
        "observation_space": space_to_json(agent.observation_space),
        "action_space": space_to_json(agent.action_space),
        "counts": {name: getattr(agent, name) for name in _COUNTS},
        "reward_scaler": {name: getattr(scaler, name) for name in _SCALER},
        "observations_seen": normaliser.count,
        "generators": [agent.generator.bit_generator.state, agent.predict_generator.bit_generator.state],
        "episodes": [_plain(info) for info in agent.ep_info_buffer or ()],
        "successes": [float(success) for success in agent.ep_success_buffer or ()],
    }
    tensors = {f"policy.{name}": value for name, value in agent.policy.state_dict().items()}
    tensors |= {f"trace.{index}": optimiser.trace for index, optimiser in enumerate(agent.optimisers)}
    for name, core in agent.policy.cores().items():
        tensors |= {f"core.{name}.{key}": value for key, value in core.carried().items()}
    tensors |= {"normaliser.mean": torch.from_numpy(normaliser.mean)}
    tensors |= {"normaliser.squares": torch.from_numpy(normaliser.squares)}
    if agent.observation is not None and agent._last_obs is not None:
        assert isinstance(agent._last_obs, np.ndarray)
        assert agent._last_episode_starts is not None
        tensors["observation"] = agent.observation
        tensors["last_observation"] = torch.from_numpy(agent._last_obs)
        facts["episode_start"] = bool(agent._last_episode_starts[0])
    return facts, tensors


def restore(agent: StreamAC, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Puts what `snapshot` gave into an agent that was built with the same arguments and spaces."""
    agent.policy.load_state_dict(part(tensors, "policy."))
    for index, optimiser in enumerate(agent.optimisers):
        optimiser.trace.copy_(tensors[f"trace.{index}"])
    for name, core in agent.policy.cores().items():
        core.restore({key: value.to(agent.device) for key, value in part(tensors, f"core.{name}.").items()})
    normaliser = agent.policy.normaliser
    normaliser.count = facts["observations_seen"]
    normaliser.mean = tensors["normaliser.mean"].numpy()
    normaliser.squares = tensors["normaliser.squares"].numpy()
    for name, value in facts["reward_scaler"].items():
        setattr(agent.reward_scaler, name, value)
    for name, value in facts["counts"].items():
        setattr(agent, name, value)
    for generator, state in zip((agent.generator, agent.predict_generator), facts["generators"], strict=True):
        generator.bit_generator.state = state
    agent.ep_info_buffer = deque(facts["episodes"], maxlen=agent._stats_window_size)
    agent.ep_success_buffer = deque(facts["successes"], maxlen=agent._stats_window_size)
    if "observation" in tensors:
        agent.observation = tensors["observation"].to(agent.device)
        agent._last_obs = tensors["last_observation"].numpy()
        agent._last_episode_starts = np.array([facts["episode_start"]])


def _plain(info: dict[str, Any]) -> dict[str, float]:
    return {name: float(info[name]) for name in ("r", "l", "t")}
