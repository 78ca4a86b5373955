"""What a stream carries through a SAB, the rules by which it writes, and what files hold of it, of today and of before.

Dimensions: B rows, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from sab_agents.checks import at_least, fraction
from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.kernels import EVICTIONS, WRITES, StreamRules, StreamState
from sab_agents.kernels.stream_types import Eviction, Write


@dataclass(frozen=True, repr=False)
class SlotState(SABState):
    """The state of a SAB, and what a rule of eviction goes by.

    Attributes:
        usage: (B, S) decayed sum of the attention weights with which each slot was read since it was written.
        credit: (B, S) decayed sum of the norms of the gradients that reached it; where eviction goes by usefulness, of
            −gradient · slot instead: by how much, to first order, what it gave lowered the loss.
        writes: (B,) int64, where eviction is a reservoir's or goes by usefulness, the writes since the episode's start,
            whether they were kept or not; else 0.
        draws: (B,) int64, the same in all episodes: a reservoir's random numbers follow from them.
    """

    usage: Tensor
    credit: Tensor
    writes: Tensor
    draws: Tensor

    @classmethod
    def initial(cls, core: SAB, rows: int) -> Self:
        """Returns empty memories: zeros."""
        state = core.initial_state(rows)
        usage = torch.zeros_like(state.filled, dtype=state.h.dtype)
        writes = torch.zeros_like(state.step)
        return cls(*[*state.tensors(), usage, usage.clone(), writes, writes.clone()])

    def reset(self, rows: Tensor) -> Self:
        """Puts the given rows at the start of an episode; see `State.reset`. `draws` keeps counting."""
        return replace(super().reset(rows), draws=self.draws)

    def carried(self) -> StreamState:
        """Returns the same tensors, for a kernel."""
        return StreamState(*self.tensors())


def chosen_novelty(write: str, novelty: float | None) -> float | None:
    """Returns the novelty that is meant: 0.3 where states are compared with the last slot, 1 where with all.

    Raises:
        ValueError: it is out of range, or there is one although every step writes.
    """
    if write == "every":
        if novelty is not None:
            raise ValueError(
                f"SABStream: with write='every' nothing asks for novelty, but it is {novelty!r}. "
                "Leave it out, or use write='changed'."
            )
        return None
    if novelty is None:
        return 0.3 if write == "changed" else 1.0
    if not 0 <= novelty < float("inf"):
        raise ValueError(f"SABStream: novelty must be at least 0 and finite, but is {novelty!r}.")
    return float(novelty)


def rules_of(
    core: SAB, eviction: Eviction, write: Write, novelty: float | None, decay: float, seed: int
) -> StreamRules:
    """Returns the rules of a stream through a core.

    Raises:
        TypeError: `seed` is not an int.
        ValueError: the core's capacity is unbounded, or a setting is out of range.
    """
    if core.rules.capacity is None:
        raise ValueError("SABStream: the core must have a bounded memory, but its capacity is None. Set capacity.")
    if core.rules.reading.sparsifier != "top_k":
        raise ValueError(
            f"SABStream: the core must read its best slots, but {type(core).__name__} reads by a "
            f"{core.rules.reading.sparsifier} over all of them. Use SAB or UncreditedSAB."
        )
    for name, value, known in (("eviction", eviction, EVICTIONS), ("write", write, WRITES)):
        if value not in known:
            raise ValueError(f"SABStream: {name} must be one of {', '.join(map(repr, known))}, but is {value!r}.")
    fraction("SABStream", "decay", decay)
    return StreamRules(
        reading=core.rules.reading,
        write_every=core.rules.write_every,
        bptt_steps=core.rules.bptt_steps,
        eviction=eviction,
        novelty=chosen_novelty(write, novelty),
        decay=float(decay),
        seed=at_least("SABStream", "seed", seed, 0) % (1 << 32),
        refresh=write == "refresh",
        last=write == "changed",
    )


def without(state: SlotState, lost: Tensor | None) -> SlotState:
    """Returns the state with only those slots filled that can be credited: all but the lost ones (B, S)."""
    return state if lost is None else replace(state, filled=state.filled & ~lost)


def without_contexts(carried: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns what a stream's `state_dict` gave without what credit replays; of a stream without slots, all of it.

    A stream that loads the rest reads its memory as before, and does not credit it until the slots are written again.
    """
    if not any(name.startswith("contexts.") for name in carried):
        return carried
    return {name: value for name, value in carried.items() if not name.startswith(("contexts.", "window."))}


def without_window(state: dict[str, Tensor], empty: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state whose contexts were left out as that of a stream that has none, with an empty window.

    Args:
        state: what `SABStream.state_dict` returned, without contexts.
        empty: what it returns of a stream with the same settings, for the shapes.
    """
    now = {name: value for name, value in state.items() if name.startswith("state.")}
    contexts = {name: torch.zeros_like(value) for name, value in empty.items() if name.startswith("contexts.")}
    before = {f"before.{name.removeprefix('state.')}": value for name, value in now.items()}
    return {**now, **before, **contexts, "lost": state["state.filled"]}


def updated(state: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
    """Returns what `SABStream.state_dict` gives today, from what it gave before slots were chosen one at a time.

    Up to version 0.1 usage and credit were counted at a window's end, some writes were planned ahead, and a generator
    drew the slots of a reservoir.
    """
    if "statistics.usage" not in state:
        return state
    old = ("statistics.", "writer.", "reached", "acting")
    new = {name: value for name, value in state.items() if not name.startswith(old)}
    step = state["state.step"]
    usage, credit = state["statistics.usage"], state["statistics.credit"] + state["reached"]
    for part in ("state", "before"):
        new |= {f"{part}.usage": usage, f"{part}.credit": credit}
        new |= {f"{part}.{name}": state["writer.offered"].to(step.dtype) for name in ("writes", "draws")}
    if "window.step" in state:
        new |= _counted(new, decay)
    return new


def _counted(state: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
    """Returns usage and credit after the steps of an open window, in which they were not yet counted."""
    usage, credit = state["before.usage"].clone(), state["before.credit"].clone()
    columns = zip(*(state[f"window.{name}"] for name in ("start", "read_slot", "weight", "write_slot")), strict=True)
    for start, read_slot, weight, write_slot in columns:
        for each in (usage, credit):
            each.masked_fill_(start.unsqueeze(1), 0).mul_(decay)
        usage.scatter_add_(1, read_slot.clamp(min=0), weight)
        written = write_slot.unsqueeze(1) == torch.arange(usage.shape[1], device=usage.device)
        for each in (usage, credit):
            each.masked_fill_(written, 0)
    return {"state.usage": usage, "state.credit": credit}
