"""Windows that are over, to be learnt from as often as one likes, and any of their rows at a time.

Dimensions: T steps of a window, B rows, b rows of a run, S slots, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.kernels import CompiledStream, Replay, are_leaves
from sab_agents.streaming.binding import bound_to
from sab_agents.streaming.contexts import Contexts
from sab_agents.streaming.rerun import Credit, Encode, push_credit
from sab_agents.streaming.rerun_compiled import push_credit_compiled
from sab_agents.streaming.statistics import SlotStatistics


@dataclass(frozen=True)
class Steps:
    """What a run needs of the steps of a window, as they were taken.

    Attributes:
        observation: (T, B, …).
        start: (T, B) bool, episode starts.
        cut: (T, B) bool, where h and c enter without gradient: segment starts, or see `ClosedWindow.cut_every`.
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


class ClosedWindow:
    """A window that `SABStream.close` ended, with the memory before it and the contexts of that memory.

        run = closed.run(rows)                   # outputs of those rows, as they were when the steps were taken
        run.backward(gradient of the outputs)
        closed.credit()                          # from there on to the steps that wrote the memory before the window

    Weights may change between runs: what is run again uses today's, from the memory and the state as they were.

    Args:
        core: of the stream.
        encode: of the stream; makes inputs (N, I) of observations (N, …).
        steps: of the window.
        before: the state before it.
        contexts: of the memory in `before`.
        credit_depth: links that credit follows; None for all.
    """

    def __init__(
        self,
        core: SAB,
        encode: Encode,
        steps: Steps,
        before: SABState,
        contexts: Contexts,
        credit_depth: int | None,
    ) -> None:
        self.core, self.encode, self.steps = core, encode, steps
        self.before, self.contexts, self.credit_depth = before, contexts, credit_depth
        self._pending: tuple[Tensor, Tensor] | None = None
        slots = torch.zeros_like(before.filled, dtype=before.h.dtype)
        self._compiled: CompiledStream | None = bound_to(
            before, contexts, SlotStatistics(slots, slots.clone()), core.rules
        ).code

    @classmethod
    def joined(cls, windows: Sequence[Self]) -> Self:
        """Windows of one stream and of equal length as one, whose rows are those of the first, the second, …."""
        first = windows[0]
        if len(windows) == 1:
            return first
        return cls(
            first.core,
            first.encode,
            Steps(*(torch.cat(parts, dim=1) for parts in zip(*(vars(w.steps).values() for w in windows), strict=True))),
            SABState.joined([window.before for window in windows]),
            Contexts.joined([window.contexts for window in windows]),
            first.credit_depth,
        )

    @property
    def rows(self) -> int:
        """B."""
        return self.before.batch_size

    def cut_every(self, bptt_steps: int | None) -> None:
        """Cuts plain backpropagation inside the window anew; `credit` goes on to run the stream's segments.

        Args:
            bptt_steps: steps of an episode between two cuts; None cuts nowhere but at an episode's start.
        """
        steps = self.steps
        cut = steps.start if bptt_steps is None else (steps.step - 1) % bptt_steps == 0
        self.steps = replace(steps, cut=cut)

    def run(self, rows: Tensor, x: Tensor | None = None) -> Replay:
        """Runs some rows again.

        Args:
            rows: (b,) int64, which.
            x: (T, b, I) the encoder's inputs of their observations, if they are known; gradient flows into them. None
                makes them, and credits the encoder.

        Returns:
            (T, b, 2H) outputs [h, s], and what takes their gradient. After that call `credit`.
        """
        steps, core, before = self.steps, self.core, self.before
        plan = core.rules.plan(
            start=steps.start[:, rows],
            cut=steps.cut[:, rows],
            write_slot=steps.write_slot[:, rows],
            filled=before.filled[rows],
            slots=before.slots,
        )
        memory = before.memory[rows].requires_grad_(self.credit_depth != 0)
        self._pending = rows, memory
        if x is None:
            observation = steps.observation[:, rows]
            with torch.enable_grad():
                x = self.encode(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        return core.replay(x, before.h[rows], before.c[rows], memory, plan)

    def credit(self) -> Credit:
        """Pushes the gradient that reached the memory in the last `run` on to the steps that wrote it.

        Returns:
            What was credited; slots are those of the memory before the window, of all B rows.

        Raises:
            RuntimeError: there was no run.
        """
        if self._pending is None:
            raise RuntimeError("ClosedWindow.credit: nothing was run. Call run() and its backward first.")
        rows, memory = self._pending
        self._pending = None
        if memory.grad is None:
            return Credit(memory.new_zeros(self.rows, memory.shape[1]), 0, 0)
        gradient = memory.new_zeros(self.before.memory.shape).index_copy_(0, rows, memory.grad)
        rest = (self.encode, self.contexts, self.before, gradient, self.credit_depth)
        weights = self.core.step_weights()
        if self._compiled is None or not are_leaves(*weights):
            return push_credit(self.core, *rest)
        return push_credit_compiled(self._compiled, self.core, weights, *rest, own=True)
