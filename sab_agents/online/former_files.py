"""What files that former versions of learners and agents wrote hold, by the names that it has today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sab_agents.checkpoint.archive import under, within

if TYPE_CHECKING:
    from torch import Tensor

    from sab_agents.streaming import Stream


def learner_state(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the state of a learner, for `OnlineLearner.load_state_dict`.

    Args:
        facts: what a file holds beside tensors, written before settings were checked against the core.
        tensors: by name.
    """
    counts = dict(zip(("steps", "updates", "skipped"), facts["counts"], strict=True))
    return {
        **tensors,
        **under("count", counts),
        **under("ledger", facts["ledger"]),
        "label.steps": facts["open_steps"],
        "optimizer.groups": facts["groups"],
        "names": facts["names"],
    }


def agent_state(facts: dict[str, Any], tensors: dict[str, Tensor], streams: dict[str, Stream]) -> dict[str, Any]:
    """Returns the state of an agent, for `StreamAC.load_state_dict`.

    Args:
        facts: what a file holds beside tensors, written when each kind of core had a class of its own for streams.
        tensors: by name.
        streams: the agent's, by name.
    """
    state: dict[str, Any] = {
        **under("count", facts["counts"]),
        **under("reward_scaler", facts["reward_scaler"]),
        "normaliser.count": facts["observations_seen"],
        **{name: facts[name] for name in ("generators", "episodes", "successes", "episode_start") if name in facts},
    }
    for name, tensor in tensors.items():
        if name.startswith("policy."):
            state[name.replace("_core.core.", "_core.")] = tensor
        elif name.startswith("trace."):
            state[f"optimiser.{name.removeprefix('trace.')}.trace"] = tensor
        elif not name.startswith("core."):
            state[name] = tensor
    for name, stream in streams.items():
        carried = _stream_state(within(f"core.{name}", tensors))
        known = stream.state_dict()
        # The generator of acting is of use only to a stream whose acting draws.
        state |= under(f"stream.{name}", {key: carried[key] for key in carried if key != "acting" or key in known})
    return state


def _stream_state(carried: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state of a stream, given what the class of its core carried."""
    if "sensitivity" in carried:  # trace units
        state = carried["state"]
        return {"state.0": state, "before.0": state, "sensitivity.0": carried["sensitivity"].unsqueeze(0)}
    if "segment" in carried:  # an LSTM, whose steps were counted from its segment's start
        ends: dict[str, Tensor] = {}
        observation = carried["segment"].unsqueeze(1)
        for name, old, steps in (("before", "start", 0), ("state", "end", len(observation))):
            h, c = (carried[f"{old}_{each}"].unsqueeze(1) for each in "hc")
            ends |= under(name, {"0": h, "1": c, "2": torch.tensor([steps])})
        if not len(observation):
            return ends
        start = torch.zeros(len(observation), 1, dtype=torch.bool)
        return ends | under("window", {"observation": observation, "start": start})
    return carried
