"""Windows of a `SABStream` that have ended, from which any rows can be learnt, later and more than once.

Dimensions: T steps of a window, B rows, b rows of a replay, S slots, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from sab_agents.core.sab import SAB
from sab_agents.kernels import Contexts, Replay, ScanPlan, StreamRules, replay, stream_kernel
from sab_agents.streaming.base import ClosedWindow, Credit, Encode
from sab_agents.streaming.credit import push_credit
from sab_agents.streaming.slots import SlotState, without


@dataclass(frozen=True)
class Steps:
    """What a replay needs of the steps of a window, as they were taken.

    Attributes:
        observation: (T, B, …).
        start: (T, B) bool, episode starts.
        cut: (T, B) bool, where h and c enter without gradient: segment starts, or see `SABWindow.cut_every`.
        step: (T, B) int64, 1-based step of the episode.
        read_step: (T, B, R) int64, 0-based step of the episode at which what was read had been written.
        weight: (T, B, R) attention weights.
        write_slot: (T, B) int64, −1 where nothing was written.
    """

    observation: Tensor
    start: Tensor
    cut: Tensor
    step: Tensor
    read_step: Tensor
    weight: Tensor
    write_slot: Tensor


class SABWindow(ClosedWindow):
    """A window that `SABStream.close` ended, with the memory before it and the contexts of that memory.

    A replay uses today's weights, from the memory and the state as they were. Credit is not counted in the statistics
    by which "least_credited" chooses slots: it comes when they have been chosen.

    Args:
        core: of the stream.
        rules: of the stream.
        encode: of the stream; makes inputs (N, I) of observations (N, …).
        steps: of the window.
        before: the state before it.
        contexts: of the memory in `before`.
        credit_depth: links that credit follows; None for all.
        lost: (B, S) bool, slots of the memory in `before` without contexts; None for none.
    """

    before: SlotState

    def __init__(
        self,
        core: SAB,
        rules: StreamRules,
        encode: Encode,
        steps: Steps,
        before: SlotState,
        contexts: Contexts,
        credit_depth: int | None,
        lost: Tensor | None = None,
    ) -> None:
        self.core, self.rules, self.encode, self.steps = core, rules, encode, steps
        self.before, self.contexts, self.credit_depth, self.lost = before, contexts, credit_depth, lost
        self._pending: tuple[Tensor, Tensor] | None = None

    @classmethod
    def joined(cls, windows: Sequence[Self]) -> Self:
        """Returns windows as one; see `ClosedWindow.joined`."""
        first = windows[0]
        if len(windows) == 1:
            return first
        return cls(
            first.core,
            first.rules,
            first.encode,
            Steps(*(torch.cat(parts, dim=1) for parts in zip(*(vars(w.steps).values() for w in windows), strict=True))),
            SlotState.joined([window.before for window in windows]),
            Contexts(*(torch.cat(parts) for parts in zip(*(window.contexts for window in windows), strict=True))),
            first.credit_depth,
            _joined([window.lost for window in windows], first.before.filled),
        )

    def cut_every(self, bptt_steps: int | None) -> None:
        """Sets where plain backpropagation is cut, see `ClosedWindow.cut_every`; `credit` keeps to the segments."""
        steps = self.steps
        cut = steps.start if bptt_steps is None else (steps.step - 1) % bptt_steps == 0
        self.steps = replace(steps, cut=cut)

    def replay(self, rows: Tensor, x: Tensor | None = None) -> Replay:
        """Computes some rows once more; see `ClosedWindow.replay`."""
        steps, rules, before = self.steps, self.rules, self.before
        plan = ScanPlan(
            start=steps.start[:, rows],
            cut=steps.cut[:, rows],
            write_slot=steps.write_slot[:, rows],
            filled=before.filled[rows],
            slots=before.slots,
            reading=rules.reading,
            step=before.step[rows],
            written_at=before.written_at[rows],
        )
        memory = before.memory[rows].requires_grad_(self.credit_depth != 0)
        self._pending = rows, memory
        if x is None:
            observation = steps.observation[:, rows]
            with torch.enable_grad():
                x = self.encode(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        return replay(self.core.step_weights(), x, before.h[rows], before.c[rows], memory, plan)

    def credit(self) -> Credit:
        """Passes on the gradient that reached the memory before the window; see `ClosedWindow.credit`.

        Returns:
            What was credited; slots are those of the memory before the window, of all B rows.
        """
        if self._pending is None:
            raise RuntimeError("SABWindow.credit: nothing was replayed. Call replay() and its backward first.")
        (rows, memory), self._pending = self._pending, None
        if memory.grad is None:
            return Credit(memory.new_zeros(self.rows, memory.shape[1]), 0, 0)
        before = self.before
        gradient = memory.new_zeros(before.memory.shape).index_copy_(0, rows, memory.grad)
        kernel = stream_kernel(self.rules, before.carried(), self.contexts, before.filled)
        known = without(before, self.lost)
        return push_credit(kernel, self.core.step_weights(), self.encode, known, gradient, self.credit_depth)


def _joined(lost: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """Returns the lost slots of several windows, one after the other; None if there are none."""
    if all(each is None for each in lost):
        return None
    return torch.cat([torch.zeros_like(like) if each is None else each for each in lost])
