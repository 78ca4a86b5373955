"""A stream as plain tensors, the open window included, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from torch import Tensor

from sab_agents.core.state import SABState
from sab_agents.streaming.contexts import Contexts
from sab_agents.streaming.statistics import SlotStatistics
from sab_agents.streaming.window import Window

if TYPE_CHECKING:
    from sab_agents.streaming.stream import SABStream


def saved(stream: SABStream) -> dict[str, Tensor]:
    """Everything that is carried under plain names."""
    found: dict[str, Tensor] = {}
    parts = {
        "state": stream.state,
        "before": stream.before,
        "contexts": stream.contexts,
        "statistics": stream.statistics,
    }
    for part, owner in parts.items():
        found |= {f"{part}.{field.name}": getattr(owner, field.name) for field in fields(owner)}
    found |= {f"writer.{name}": value for name, value in stream.writer.state_dict().items()}
    found |= {f"window.{name}": value for name, value in stream._window.state_dict().items()}
    found["reached"] = stream._reached
    found["acting"] = stream._generator.get_state()
    return {name: value.detach().clone() for name, value in found.items()}


def restore(stream: SABStream, state: dict[str, Tensor]) -> None:
    """Goes on where `saved` was taken; see `SABStream.load_state_dict`."""
    own, given = _kinds(saved(stream)), _kinds(state)
    if "acting" not in given:  # in files of earlier versions
        own.pop("acting")
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            raise ValueError(
                f"SABStream.load_state_dict: {name} must have shape {own.get(name)}, but has {given.get(name)}. "
                f"Load into a stream with the same core, rows and settings."
            )

    def part(name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        return {key.removeprefix(prefix): state[key].clone() for key in state if key.startswith(prefix)}

    stream.state, stream._before = SABState(**part("state")), SABState(**part("before"))
    stream.contexts, stream.statistics = Contexts(**part("contexts")), SlotStatistics(**part("statistics"))
    stream.writer.load_state_dict(part("writer"))
    stream._window = Window.from_state_dict(part("window"))
    stream._reached, stream._memory = state["reached"].clone(), None
    if "acting" in state:
        stream._generator.set_state(state["acting"])


def _kinds(state: dict[str, Tensor]) -> dict[str, str]:
    """Shape and dtype of each tensor but those of the window, whose length is free."""
    return {
        name: f"{tuple(value.shape)} and dtype {value.dtype}"
        for name, value in state.items()
        if not name.startswith("window.")
    }
