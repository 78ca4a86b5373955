"""What stands around a scan, in plain torch; see `sab_agents.kernels.bookkeeping`.

Dimensions: T steps, B rows, H hidden size, S slots, S₀ of them in the starting memory.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.types import ScanPlan


def steps_in_episode(step: Tensor, episode_start: Tensor | None, length: int) -> Tensor:
    """Counts each step of a call from the start of its episode.

    Args:
        step: (B,) int64, steps that each row's episode took before the call.
        episode_start: (T, B) bool, or None if no episode starts.
        length: T.

    Returns:
        (T, B) int64, 1 at an episode's first step.
    """
    count = torch.arange(1, length + 1, device=step.device).unsqueeze(1)
    if episode_start is None:
        return step + count
    last_start = torch.where(episode_start, count, 0).cummax(dim=0).values
    return torch.where(last_start > 0, count - last_start + 1, step + count)


def count_steps(
    before: Tensor, start: Tensor | None, steps: int, *, slots: int, write_every: int, bptt_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The step, cut and write_slot of `Counted`; the arguments are checked."""
    step = steps_in_episode(before, start, steps)
    write = step // write_every - 1
    if slots:
        write = write % slots
    write_slot = write.where(step % write_every == 0, write.new_tensor(-1))
    return step, (step - 1) % bptt_steps == 0, write_slot


def last_versions(plan: ScanPlan, step: Tensor, written_at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each slot after a scan, (B, S): its version, −1 if it is empty; whether it is filled; when it was written."""
    (T, B), held = plan.start.shape, plan.filled.shape[1]
    time = torch.arange(T, device=plan.start.device).unsqueeze(1)
    last_start = time.where(plan.start, time.new_tensor(-1)).amax(dim=0)
    version = time.new_full((B, plan.slots), -1)
    kept = plan.filled & (last_start < 0).unsqueeze(1)
    of_start = torch.arange(held, device=time.device).where(kept, time.new_tensor(-1))
    version = torch.cat([of_start, version[:, held:]], dim=1)
    written = (plan.write_slot >= 0) & (time >= last_start)
    written_version = (time + held).where(written, time.new_tensor(-1))
    if plan.slots:
        version = version.scatter_reduce(1, plan.write_slot.clamp(min=0).t(), written_version.t(), "amax")
    filled = version >= 0
    times = torch.cat([written_at, step.t() - 1], dim=1).gather(1, version.clamp(min=0))
    return version, filled, times.masked_fill(~filled, 0)


def stored(versions: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
    """The memory (B, S, H) that holds these versions (B, S); zeros in empty slots.

    Args:
        versions: −1 for an empty slot.
        memory: (B, S₀, H), the starting memory: versions 0 … S₀ − 1.
        hidden: (T, B, H), the scan's h: the others.
    """
    (B, S), held, H = versions.shape, memory.shape[1], hidden.shape[2]
    rows = torch.arange(B, device=versions.device).unsqueeze(1)
    place = (versions - held).clamp(min=0) * B + rows
    new = hidden.reshape(-1, H).index_select(0, place.view(-1)).view(B, S, H)
    if held:
        index = versions.clamp(min=0, max=held - 1).unsqueeze(2).expand(B, S, H)
        new = torch.where((versions < held).unsqueeze(2), memory.gather(1, index), new)
    return new.masked_fill((versions < 0).unsqueeze(2), 0)


def stored_backward(versions: Tensor, grad: Tensor, held: int, steps: int) -> tuple[Tensor, Tensor]:
    """The gradients of `memory` (B, S₀, H) and `hidden` (T, B, H), from that of `stored` (B, S, H)."""
    B, _, H = grad.shape
    rows = versions * B + torch.arange(B, device=grad.device).unsqueeze(1)
    filled = versions >= 0
    # No version is in two slots of a row.
    sent = grad.new_zeros((held + steps) * B, H).index_put((rows[filled],), grad[filled])
    sent = sent.view(held + steps, B, H)
    return sent[:held].transpose(0, 1), sent[held:]
