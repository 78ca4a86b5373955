"""A policy alone in a file, without code; see `sab_agents.checkpoint.archive`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from stable_baselines3.common.utils import get_device

from sab_agents.checkpoint.archive import Target, read_agent, space_from_json, space_to_json, write_agent
from sab_agents.checkpoint.plain import from_plain, to_plain

if TYPE_CHECKING:
    from sab_agents.ppo.policies import RecurrentActorCriticPolicy

    PolicyT = TypeVar("PolicyT", bound=RecurrentActorCriticPolicy)

KIND = "recurrent-policy"
_SPACES = ("observation_space", "action_space")
_BY_OTHER_MEANS = (*_SPACES, "lr_schedule")


def write_policy(path: Target, policy: RecurrentActorCriticPolicy) -> None:
    """Writes settings as JSON and parameters as tensors, without the optimiser's state."""
    settings = policy._get_constructor_parameters()
    facts = {
        "policy": type(policy).__name__,
        "arguments": {name: to_plain(value) for name, value in settings.items() if name not in _BY_OTHER_MEANS},
        **{name: space_to_json(settings[name]) for name in _SPACES},
    }
    write_agent(path, KIND, facts, policy.state_dict())


def read_policy(make: type[PolicyT], path: Target, device: torch.device | str, changes: dict[str, Any]) -> PolicyT:
    """The policy that `write_policy` wrote; `changes` are settings that a file cannot hold."""
    facts, tensors = read_agent(path, KIND)
    if facts["policy"] != make.__name__:
        raise ValueError(
            f"{make.__name__}.load: the file must hold a policy of this class, but holds a {facts['policy']}. Use "
            "its class's load."
        )
    saved = facts["arguments"]
    kept = {name: from_plain(value, name, name) for name, value in saved.items() if name not in changes}
    known: dict[str, Any] = {name: space_from_json(facts[name]) for name in _SPACES}
    built = make(**known, lr_schedule=make._dummy_schedule, **kept, **changes)
    built.load_state_dict(tensors)
    return built.to(get_device(device))
