"""Where each step of a call stands in its episode, and what follows: cuts, writes, and what the memory holds after it.

Dimensions: T steps, B rows, H hidden size, S slots, R slots that a read names, n columns carried from earlier calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sab_agents.core.state import SABState
from sab_agents.kernels import Reading, ScanOutputs, ScanPlan, StepRules, count_steps, is_known, remember


@dataclass(frozen=True)
class Rules:
    """When a row is cut, when and where it writes, and how it reads (section 1 of the mathematics).

    Attributes:
        reading: how the memory is read.
        write_every: steps between two writes.
        bptt_steps: length of a segment.
        capacity: slots that the memory can hold, the oldest is overwritten; None for as many as are written.
    """

    reading: Reading
    write_every: int
    bptt_steps: int
    capacity: int | None

    @cached_property
    def of_a_step(self) -> StepRules:
        """The rules of a single step, with a bounded memory."""
        return StepRules(self.capacity or 0, self.write_every, self.reading)


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
    """Plans `steps` steps that continue from `state`; episode_start is (T, B) bool or None."""
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
        held=state.slots,
    )
    slots = max(state.slots, counted.highest + 1) if rules.capacity is None else rules.capacity
    plan = ScanPlan(
        start=start,
        cut=counted.cut,
        write_slot=counted.write_slot,
        filled=state.filled,
        slots=slots,
        reading=rules.reading,
        step=state.step,
        written_at=state.written_at,
    )
    return Timeline(plan, counted.step)


def next_state(state: SABState, timeline: Timeline, outputs: ScanOutputs) -> SABState:
    """The state after a scan; gradient flows through it."""
    h = outputs.h
    # Where h is stored, one view serves for both: a view costs a gradient of the whole sequence.
    stored = outputs.stored if timeline.plan.reading.apart else h
    held = remember(timeline.plan, timeline.step, state.written_at, state.memory, stored)
    return SABState(
        # Copies: a view would keep the whole sequence alive as long as the state.
        h=h[-1].clone(),
        c=outputs.c.clone(),
        memory=held.memory,
        filled=held.filled,
        written_at=held.written_at,
        step=timeline.step[-1].clone(),
    )


def read_steps(state: SABState, timeline: Timeline, versions: Tensor) -> Tensor:
    """The 0-based steps of the episode at which `versions` (T, B, R) were written, −1 where nothing was read."""
    T, B, R = versions.shape
    rows = versions.clamp(min=0).transpose(0, 1).reshape(B, T * R)
    written_at = torch.cat([state.written_at, timeline.step.t() - 1], dim=1)  # of every version, (B, S₀ + T)
    steps = written_at.gather(1, rows).view(B, T, R).transpose(0, 1)
    return steps.masked_fill(versions < 0, -1)


def same_episode(filled: Tensor, step: Tensor) -> Tensor:
    """Which columns of a memory hold the present step, or an earlier one of the same episode.

    The memory's columns are the n carried ones, then one for each step of the call.

    Args:
        filled: (B, n) bool, which carried columns hold anything.
        step: (T, B) from `steps_in_episode`.

    Returns:
        (B, T, n + T) bool; entry [b, t, n + t] is the present step itself, and True.
    """
    time = torch.arange(step.shape[0], device=step.device).unsqueeze(1)
    age = time - time.squeeze(1)
    step = step.transpose(0, 1).unsqueeze(-1)
    # An episode that is longer than the call so far began in an earlier call.
    carried = filled.unsqueeze(1) & (step > time + 1)
    return torch.cat([carried, (age >= 0) & (age < step)], dim=-1)


def first_used(filled: Tensor) -> int:
    """Index of the first column of filled (B, n) that some row uses; the ones before it can be dropped.

    0 where nobody can read what is filled: in a trace, under a transform, on the meta device.
    """
    return 0 if not is_known(filled) else int(filled.any(dim=0).int().argmax())


def fixed_columns(name: str, *limits: int | None) -> int:
    """Returns how many columns a memory of fixed size needs for all steps but the present one.

    Args:
        name: of the core, for the error.
        limits: steps that are remembered at most; None for no limit.

    Raises:
        ValueError: there is no limit.
    """
    known = [steps for steps in limits if steps is not None]
    if not known:
        raise ValueError(
            f"{name}: the state grows with the episode, but an exported state has a fixed size. Pass max_steps, the "
            "steps of the longest episode: beyond it, the oldest steps are forgotten."
        )
    return max(1, min(known) - 1)
