"""A stream in torch: what the network computes at a step, what taking it changes, and what ending a window does.

Dimensions: T steps of a window, B rows, I input size, H hidden size, S slots, R slots that a step touches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.kernels import StreamStep, WindowRecord
from sab_agents.streaming.contexts import Contexts, Record
from sab_agents.streaming.eviction import is_novel
from sab_agents.streaming.statistics import SlotStatistics, counted
from sab_agents.streaming.window import Step, Window, written
from sab_agents.streaming.writing import SlotWriter


def emptied(state: SABState, start: Tensor | None) -> SABState:
    """The state with the rows reset whose episode starts."""
    return state.reset(start) if start is not None and bool(start.any()) else state


def computed(core: SAB, x: Tensor, state: SABState, start: Tensor | None, writer: SlotWriter) -> StreamStep:
    """The step that x (B, I) is, without gradient; the state stays as it was."""
    state = emptied(state, start)
    none = torch.zeros(1, x.shape[0], dtype=torch.bool, device=x.device)
    plan = core.rules.plan(
        start=none,
        cut=none,
        write_slot=torch.full_like(state.step, -1).unsqueeze(0),
        filled=state.filled,
        slots=state.slots,
    )
    outputs = core.scan(x.unsqueeze(0), state.h, state.c, state.memory, plan)
    h = outputs.h[0]
    return StreamStep(
        output=outputs.output[0],
        c=outputs.c,
        read_slot=outputs.versions[0],
        weight=outputs.weights[0],
        novel=is_novel(h, state, writer.novelty) if writer.write == "novel" else None,
    )


def taken(
    step: Step, state: SABState, writer: SlotWriter, statistics: SlotStatistics, window: Window, bptt_steps: int
) -> SABState:
    """Records the step, and returns the state after it."""
    state, found = emptied(state, step.start), step.found
    start = torch.zeros_like(state.step, dtype=torch.bool) if step.start is None else step.start
    count = state.step + 1
    write_slot = writer.choose(found.novel, state, count, start, statistics)
    h = found.output[:, : state.h.shape[1]]
    window.append(
        observation=step.observation,
        start=start,
        cut=(count - 1) % bptt_steps == 0,
        step=count,
        h_before=state.h,
        c_before=state.c,
        h=h,
        read_slot=found.read_slot,
        read_step=state.written_at.gather(1, found.read_slot.clamp(min=0)),
        weight=found.weight,
        write_slot=write_slot,
    )
    return written(state, h.clone(), found.c.clone(), count, write_slot)


def recorded_like(step: Step, state: SABState) -> dict[str, Tensor]:
    """Tensors (B, …) like those that are recorded of a step."""
    found = step.found
    like = (
        *(step.observation, state.filled[:, 0], state.filled[:, 0], state.step, state.h, state.c, state.h),
        *(found.read_slot, found.read_slot, found.weight, state.step),
    )
    return dict(zip(WindowRecord._fields, like, strict=True))


def advanced(
    window: Window,
    before: SABState,
    state: SABState,
    contexts: Contexts,
    statistics: SlotStatistics,
    reached: Tensor,
    decay: float,
) -> SlotStatistics:
    """Makes contexts of a window, changing `contexts`, and returns the statistics after it."""
    start, step, write_slot = (window.stacked(name) for name in ("start", "step", "write_slot"))
    kept = before.filled & ~start.any(dim=0).unsqueeze(1)
    kept &= (write_slot.unsqueeze(2) != torch.arange(state.slots, device=step.device)).all(dim=0)
    record = Record(
        observation=window.stacked("observation"),
        start=start,
        cut=window.stacked("cut"),
        step=step,
        h_before=window.stacked("h_before"),
        c_before=window.stacked("c_before"),
        h=window.stacked("h"),
        read_slot=window.stacked("read_slot"),
        read_step=window.stacked("read_step"),
        write_slot=write_slot,
        memory=before.memory,
    )
    contexts.remember(record, state.filled, kept)
    return counted(statistics, record, window.stacked("weight"), reached, kept, state, decay)
