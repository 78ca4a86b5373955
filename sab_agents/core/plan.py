"""Which steps are cut and which slot each step writes to, and what a scan leaves behind.

Dimensions: T steps, B rows, H hidden size, S slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sab_agents.core.episodes import steps_in_episode
from sab_agents.core.state import SABState
from sab_agents.kernels import Counted, Held, ScanOutputs, ScanPlan, count_steps, remember


@dataclass(frozen=True)
class Rules:
    """When a row is cut and when and where it writes (section 1 of the mathematics).

    Attributes:
        top_k: slots that take part in one read.
        write_every: steps between two writes.
        bptt_steps: length of a segment.
        capacity: slots that the memory can hold, the oldest is overwritten; None for as many as are written.
        credit: whether gradient flows into the memories that are read.
        gain: of s in h.
    """

    top_k: int
    write_every: int
    bptt_steps: int
    capacity: int | None
    credit: bool = True
    gain: float = 1.0


@dataclass(frozen=True)
class Timeline:
    """A scan's plan with what is needed to name its steps afterwards.

    Attributes:
        plan: what the scan is given.
        step: (T, B) int64, 1-based step of its episode.
    """

    plan: ScanPlan
    step: Tensor


def make_timeline(state: SABState, steps: int, episode_start: Tensor | None, rules: Rules) -> Timeline:
    """Plans `steps` steps that go on from `state`; episode_start is (T, B) bool or None."""
    start = episode_start
    if start is None:
        start = torch.zeros(steps, state.batch_size, dtype=torch.bool, device=state.step.device)
    counted = count_steps(
        state.step,
        episode_start,
        steps,
        slots=rules.capacity or 0,
        write_every=rules.write_every,
        bptt_steps=rules.bptt_steps,
        dtype=state.h.dtype,
    )
    if counted is None:
        counted = _counted(state, steps, episode_start, rules)
    slots = max(state.slots, counted.highest + 1) if rules.capacity is None else rules.capacity
    plan = ScanPlan(
        start=start,
        cut=counted.cut,
        write_slot=counted.write_slot,
        filled=state.filled,
        slots=slots,
        top_k=rules.top_k,
        credit=rules.credit,
        gain=rules.gain,
    )
    return Timeline(plan, counted.step)


def _counted(state: SABState, steps: int, episode_start: Tensor | None, rules: Rules) -> Counted:
    step = steps_in_episode(state.step, episode_start, steps)
    write = step // rules.write_every - 1
    if rules.capacity is not None:
        write = write % rules.capacity
    write_slot = write.where(step % rules.write_every == 0, write.new_tensor(-1))
    highest = int(write_slot.max()) if rules.capacity is None else rules.capacity - 1
    return Counted(step, (step - 1) % rules.bptt_steps == 0, write_slot, highest)


def next_state(state: SABState, timeline: Timeline, outputs: ScanOutputs) -> SABState:
    """The state after a scan; gradient flows through it."""
    held = remember(timeline.plan, timeline.step, state.written_at, state.memory, outputs.h)
    if held is None:
        held = _remembered(state, timeline, outputs)
    return SABState(
        # Copies: a view would keep the whole sequence alive as long as the state.
        h=outputs.h[-1].clone(),
        c=outputs.c.clone(),
        memory=held.memory,
        filled=held.filled,
        written_at=held.written_at,
        step=timeline.step[-1].clone(),
    )


def _remembered(state: SABState, timeline: Timeline, outputs: ScanOutputs) -> Held:
    plan, B = timeline.plan, state.batch_size
    T, held = plan.start.shape[0], plan.filled.shape[1]
    time = torch.arange(T, device=plan.start.device).unsqueeze(1)
    last_start = time.where(plan.start, time.new_tensor(-1)).amax(dim=0)
    version = time.new_full((B, plan.slots), -1)
    kept = plan.filled & (last_start < 0).unsqueeze(1)
    version[:, :held] = torch.arange(held, device=time.device).where(kept, time.new_tensor(-1))
    written = (plan.write_slot >= 0) & (time >= last_start)
    written_version = (time + held).where(written, time.new_tensor(-1))
    if plan.slots:
        version = version.scatter_reduce(1, plan.write_slot.clamp(min=0).t(), written_version.t(), "amax")

    filled = version >= 0
    index = version.clamp(min=0)
    table = torch.cat([state.memory.transpose(0, 1), outputs.h]) if held else outputs.h
    rows = index * B + torch.arange(B, device=index.device).unsqueeze(1)
    memory = table.reshape(-1, table.shape[2]).index_select(0, rows.view(-1)).view(B, plan.slots, table.shape[2])
    return Held(
        memory=memory.masked_fill(~filled.unsqueeze(2), 0),
        filled=filled,
        written_at=_written_at(state, timeline).gather(1, index).masked_fill(~filled, 0),
    )


def read_steps(state: SABState, timeline: Timeline, versions: Tensor) -> Tensor:
    """The 0-based steps of the episode at which `versions` (T, B, R) were written, −1 where nothing was read."""
    T, B, R = versions.shape
    rows = versions.clamp(min=0).transpose(0, 1).reshape(B, T * R)
    steps = _written_at(state, timeline).gather(1, rows).view(B, T, R).transpose(0, 1)
    return steps.masked_fill(versions < 0, -1)


def _written_at(state: SABState, timeline: Timeline) -> Tensor:
    """The 0-based step of the episode of every version, (B, S₀ + T)."""
    return torch.cat([state.written_at, timeline.step.t() - 1], dim=1)
