"""Windows of a `SABStream` that have ended, from which any rows can be learnt, later and more than once.

Dimensions: T steps of a window, B rows, b rows of a replay, S slots, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from sab_agents.core.sab import SAB
from sab_agents.kernels import (
    Contexts,
    Layout,
    Replay,
    ScanPlan,
    StreamKernel,
    StreamRules,
    relaid,
    replay,
    slots_to_look_at,
    stream_kernel,
)
from sab_agents.streaming.base import Encode
from sab_agents.streaming.credit import push_credit
from sab_agents.streaming.slots import SlotState, without
from sab_agents.streaming.window import ClosedWindow, Credit


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
        self._pending: _Pending | None = None
        # By row, which comes again in every epoch if a minibatch is one row, and by whether x is what was seen.
        self._known: dict[tuple[int, bool], _Rows] = {}
        self._credits: tuple[StreamKernel, Tensor] | None = None  # and zeros, for the gradient of the memory

    @property
    def observation(self) -> Tensor:
        """(T, B, …) what was observed."""
        return self.steps.observation

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
        self._known.clear()

    def replay(self, rows: Tensor, x: Tensor | None = None) -> Replay:
        """Computes some rows once more; see `ClosedWindow.replay`."""
        if x is None and not isinstance(self.encode, nn.Identity):
            observation = self.steps.observation[:, rows]
            with torch.enable_grad():
                x = self.encode(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        chosen = self._chosen(rows, x)
        memory = chosen.memory.detach().requires_grad_(self.credit_depth != 0)
        self._pending = _Pending(rows, memory, chosen.laid)
        weights, start = self.core.step_weights(), (chosen.x, chosen.h, chosen.c, memory)
        return replay(weights, *start, chosen.plan, laid=chosen.laid)

    def _chosen(self, rows: Tensor, x: Tensor | None) -> _Rows:
        """Returns what a replay of rows (b,) begins with, laid out again if that is faster.

        Args:
            rows: (b,) int64.
            x: (T, b, I) inputs; None for what was observed.
        """
        if len(rows) > 1:
            return self._begun(rows, x)
        key = int(rows), x is None
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._begun(rows, x)
        elif x is not None:
            known = known._replace(x=x if known.laid is None else known.laid.laid(x))
        return known

    def _begun(self, rows: Tensor, x: Tensor | None) -> _Rows:
        steps, before = self.steps, self.before
        x = steps.observation.index_select(1, rows) if x is None else x
        start, cut, write_slot = (each.index_select(1, rows) for each in (steps.start, steps.cut, steps.write_slot))
        filled = before.filled.index_select(0, rows)
        extent = slots_to_look_at(filled, x)
        of_rows = (before.h, before.c, before.step, before.written_at[:, :extent], before.memory[:, :extent])
        h, c, step, written_at, memory = (each.index_select(0, rows) for each in of_rows)
        filled = filled[:, :extent]
        laid = None if x.requires_grad else relaid(start, x)
        if laid is not None:
            start, cut, write_slot = laid.start, laid.laid(cut) | laid.start, laid.laid(write_slot + 1) - 1
            h, c, filled, step, written_at = map(laid.begun, (h, c, filled, step, written_at))
            x, memory = laid.laid(x), laid.begun(memory)
        plan = ScanPlan(start, cut, write_slot, filled, before.slots, self.rules.reading, step, written_at)
        return _Rows(x, h, c, memory, plan, laid)

    def credit(self) -> Credit:
        """Passes on the gradient that reached the memory before the window; see `ClosedWindow.credit`.

        Returns:
            What was credited; slots are those of the memory before the window, of all B rows.
        """
        if self._pending is None:
            raise RuntimeError("SABWindow.credit: nothing was replayed. Call replay() and its backward first.")
        (rows, memory, laid), self._pending = self._pending, None
        if memory.grad is None or not memory.shape[1]:
            return Credit(memory.new_zeros(self.before.filled.shape), 0, 0)
        before, received = self.before, memory.grad if laid is None else laid.received(memory.grad)
        if self._credits is None or not self._credits[0].current:
            kernel = stream_kernel(self.rules, before.carried(), self.contexts, before.filled)
            self._credits = kernel, torch.zeros_like(before.memory)
        kernel, gradient = self._credits
        # A slice is sooner written to than rows by their numbers.
        place = slice(int(rows), int(rows) + 1) if len(rows) == 1 else rows
        gradient[place, : memory.shape[1]] = received
        known = without(before, self.lost)
        credit = push_credit(kernel, self.core.step_weights(), self.encode, known, gradient, self.credit_depth)
        gradient[place] = 0
        return credit


class _Rows(NamedTuple):
    """What a replay of some rows begins with, and how they were laid out again; None if they were not."""

    x: Tensor
    h: Tensor
    c: Tensor
    memory: Tensor
    plan: ScanPlan
    laid: Layout | None


class _Pending(NamedTuple):
    """Rows that were replayed, the memory that is to receive gradient, and how it was laid out."""

    rows: Tensor
    memory: Tensor
    laid: Layout | None


def _joined(lost: Sequence[Tensor | None], like: Tensor) -> Tensor | None:
    """Returns the lost slots of several windows, one after the other; None if there are none."""
    if all(each is None for each in lost):
        return None
    return torch.cat([torch.zeros_like(like) if each is None else each for each in lost])
