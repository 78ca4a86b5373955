"""Steps of independent rows by a stream's rules, without a stream: for acting, where nothing is recorded.

Dimensions: B rows, S slots, I input size, H hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.kernels import StreamStep, attention_scores, sparsify
from sab_agents.streaming.eviction import eviction_order, is_novel, reservoir_slots
from sab_agents.streaming.statistics import SlotStatistics
from sab_agents.streaming.steps import computed
from sab_agents.streaming.window import written
from sab_agents.streaming.writing import SlotWriter


@dataclass(frozen=True)
class ActingState(SABState):
    """What acting carries: the network's state and what its rule of eviction goes by.

    Attributes:
        usage: (B, S) decayed sum of the attention weights with which each slot was read.
    """

    usage: Tensor

    @staticmethod
    def initial(core: SAB, rows: int) -> ActingState:
        """The state of rows at the start of an episode."""
        state = core.initial_state(rows)
        return with_usage(state, torch.zeros_like(state.filled, dtype=state.h.dtype))


def with_usage(state: SABState, usage: Tensor) -> ActingState:
    """A state with the usage (B, S) of its slots."""
    return ActingState(**{field.name: getattr(state, field.name) for field in fields(SABState)}, usage=usage)


@torch.no_grad()
def act(
    core: SAB, writer: SlotWriter, decay: float, x: Tensor, state: ActingState, generator: torch.Generator
) -> tuple[Tensor, ActingState]:
    """Takes one step of every row.

    Args:
        core: the network, with a bounded capacity.
        writer: its rules; what it carries for a stream is neither used nor changed.
        decay: of usage, for each step.
        x: (B, I) inputs.
        state: of the rows, already reset where an episode starts.
        generator: of the reservoir.

    Returns:
        (B, 2H) outputs [h, s] and the state after the step.
    """
    found = computed(core, x, state, None, writer)
    return found.output, after(found, state, writer, decay, generator)


def computed_plainly(core: SAB, x: Tensor, state: SABState, writer: SlotWriter) -> StreamStep:
    """What `computed` gives, in operations that can be exported; all S slots are named as read."""
    attention = core.attention
    h, c = core.cell(x, (state.h, state.c))
    score_weight = None if attention.score is None else attention.score.weight.squeeze(0)
    scores = attention_scores(attention.key(state.memory), attention.query(h), score_weight)
    weight = sparsify(scores, state.filled, core.rules.top_k)
    summary = (weight.unsqueeze(1) @ state.memory).squeeze(1)
    h = h + core.rules.gain * summary
    return StreamStep(
        output=torch.cat([h, summary], dim=1),
        c=c,
        read_slot=torch.arange(state.slots, device=h.device).expand_as(weight),
        weight=weight,
        novel=is_novel(h, state, writer.novelty) if writer.write == "novel" else None,
    )


def after(
    found: StreamStep, state: ActingState, writer: SlotWriter, decay: float, generator: torch.Generator | None
) -> ActingState:
    """The state after a step that was computed: h is written or not, and usage counts what was read.

    Slots are chosen at each write, where a stream plans some writes ahead. Credit, of which there is none without
    learning, counts as zero. Arguments as for `act`; `generator` is asked only by the reservoir.
    """
    count = state.step + 1
    writes = count % writer.write_every == 0
    if found.novel is not None:
        writes = writes & found.novel
    if writer.draws:
        slot = reservoir_slots(state.slots, count // writer.write_every, generator)
    else:
        statistics = SlotStatistics(state.usage, torch.zeros_like(state.usage))
        slot = eviction_order(writer.eviction, state, statistics)[:, 0]
    slot = slot.masked_fill(~writes, -1)
    h = found.output[:, : state.h.shape[1]]
    reached = written(state, h, found.c, count, slot)
    usage = (state.usage * decay).scatter_add(1, found.read_slot.clamp(min=0), found.weight)
    fresh = torch.arange(state.slots, device=slot.device) == slot.unsqueeze(1)
    return with_usage(reached, usage.masked_fill(fresh, 0))
