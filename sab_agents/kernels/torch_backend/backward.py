"""The backward pass of the scan in plain torch: the chain rule of one step, written out, from the last step back.

Dimensions as in `sab_agents.kernels.torch_backend.scan`.

What one step needs from the forward pass alone is computed for a block of steps at once; what is left in the loop is
what depends on the gradient that later steps sent. Only the R slots that a read touched receive any.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.torch_backend.attention import summary_by_scores
from sab_agents.kernels.torch_backend.schedule import NO_WRITE, Schedule
from sab_agents.kernels.torch_backend.scores import SCORES, ScoreDerivatives
from sab_agents.kernels.types import ScanInputs, ScanPlan

BLOCK_ELEMENTS = 1 << 18  # of (steps, B, R, H) in one block: large enough to fill the cores, small enough for the cache


class LoopGradients(NamedTuple):
    """What a backward loop leaves: gradients of everything that it visited, none yet of a matrix."""

    gates: Tensor  # (T, B, 4H)
    states: Tensor  # (V, B, H) of every version
    keys: Tensor  # (V, B, A) of their keys
    query: Tensor  # (T, B, Q)
    score_weight: Tensor | None  # (A,)
    cell: Tensor  # (B, H) of c before the first step


class Tape(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    gates: Tensor  # (T, B, 4H) after their activations; the forget gate is 0 at episode starts
    cell: Tensor  # (T + 1, B, H) c before the first step and after each
    tanh_cell: Tensor  # (T, B, H) tanh of c after each step
    output: Tensor  # (T, B, H) ĥ
    summary: Tensor  # (T, B, H) s
    apart: Tensor  # (T, B, H) h where that is not what is stored, else no elements
    query: Tensor  # (T, B, Q) the query, λ and the gate; 0 where nothing could be read
    hidden: Tensor  # (V, B, H) all versions: starting memory, h of each step, and one of zeros
    keys: Tensor  # (V, B, A) W₁ of those that were written
    read: Tensor  # (T, B, R) row of (V·B) that was read
    scores: Tensor  # (T, B, R) their scores, falling, −inf where the slot is empty
    weights: Tensor  # (T, B, R) their weights

    @property
    def state(self) -> Tensor:
        """(T, B, H) h of each step."""
        T = len(self.output)
        return self.apart if self.apart.numel() else self.hidden[len(self.hidden) - T - 1 : -1]


class _Block(NamedTuple):
    """Local derivatives of a block of steps."""

    score_by_summary: Tensor  # (steps, B, R, H) how the score's gradient follows from that of s
    score: ScoreDerivatives  # (steps, B, R, A) each
    log_age: Tensor | None  # (steps, B, R) log(1 + age/τ) of what was read; None where scores do not know age
    input_gates: Tensor  # (steps, B, 3, H) derivative of c by the pre-activations of i, f and g
    output_gate: Tensor  # (steps, B, H) derivative of ĥ by the pre-activation of o
    cell: Tensor  # (steps, B, H) derivative of ĥ by c


class Backward:
    """One backward scan: its buffers, allocated once, and its loop.

    Args:
        inputs: of the scan.
        tape: of its forward pass.
        plan: of the scan.
        schedule: of the plan.
    """

    def __init__(
        self,
        inputs: ScanInputs,
        tape: Tape,
        plan: ScanPlan,
        schedule: Schedule,
    ) -> None:
        self.inputs, self.tape, self.plan, self.schedule = inputs, tape, plan, schedule
        T, B, R = tape.read.shape
        H, A, S = tape.output.shape[2], tape.keys.shape[2], plan.filled.shape[1]
        self.size, self.held = H, S
        # One table of the gradients that versions receive: of the stored state (H), then of its key (A).
        self.versions = tape.hidden.new_zeros(S + T + 1, B, H + A)
        # And of those that h receives, where it is not what is stored.
        self.states = tape.output.new_zeros(tape.output.shape) if plan.reading.apart else None
        self.gates = torch.empty_like(tape.gates)
        self.query = torch.zeros_like(tape.query)
        self.scores = torch.zeros_like(tape.weights)
        self.received = tape.hidden.new_zeros(B, R, H + A)
        self.score_weight = None if inputs.score_weight is None else torch.zeros_like(inputs.score_weight)

    def run(self, grad_output: Tensor, grad_cell: Tensor) -> ScanInputs:
        """The gradient of every input, from that of the outputs and of c after the last step, (B, H)."""
        steps, H = self.tape.read.shape[0], self.size
        grad_summary = grad_output[..., H : 2 * H]
        of_versions = self.versions[self.held : self.held + steps, :, :H]
        if self.states is None:
            of_versions.copy_(grad_output[..., :H])
        else:
            self.states.copy_(grad_output[..., :H])
            of_versions.copy_(grad_output[..., 2 * H :])
        size = max(1, BLOCK_ELEMENTS // max(1, self.received[..., : self.size].numel()))
        for end in range(steps, 0, -size):
            first = max(0, end - size)
            block = _local_derivatives(self.plan, self.inputs, self.tape, first, end)
            for t in range(end - 1, first - 1, -1):
                grad_state = self.versions[self.held + t, :, : self.size]
                if self.plan.reading.credit and self.schedule.write[t] != NO_WRITE:
                    grad_state.addmm_(self.versions[self.held + t, :, self.size :], self.inputs.key_weight)
                if self.schedule.extent[t] > 0:
                    self._read(t, block, t - first, grad_state, grad_summary[t])
                elif self.states is not None:
                    grad_state += self.states[t]
                grad_cell = self._cell(t, block, t - first, grad_state, grad_cell)
            by_vector = block.score.vector
            if self.score_weight is not None and by_vector is not None:
                self.score_weight += self.scores[first:end].view(-1) @ by_vector.view(-1, by_vector.shape[3])
        return self._gather(grad_cell)

    def _read(self, t: int, block: _Block, i: int, grad_state: Tensor, grad_summary: Tensor) -> None:
        """Sends the gradient of h and s to the slots that were read and, through their scores, to keys and query."""
        H, scores, query, received = self.size, self.scores[t], self.query[t], self.received
        reading, A = self.plan.reading, self.received.shape[2] - self.size
        grad_h = grad_state if self.states is None else self.states[t]
        if reading.gate:
            gate = self.tape.query[t, :, -H:]
            torch.mul(grad_h * self.tape.summary[t], gate * (1 - gate), out=query[:, -H:])
            grad_summary = torch.addcmul(grad_summary, grad_h, gate)
        else:
            grad_summary = torch.add(grad_summary, grad_h, alpha=reading.gain)
        if self.states is not None:
            grad_state += grad_h
        torch.bmm(block.score_by_summary[i], grad_summary.unsqueeze(2), out=scores.unsqueeze(2))
        query[:, :A] = torch.bmm(scores.unsqueeze(1), block.score.query[i]).squeeze(1)
        if block.log_age is not None:
            query[:, A] = -(scores * block.log_age[i]).sum(dim=1)
        torch.mul(scores.unsqueeze(2), block.score.key[i], out=received[:, :, H:])
        if self.plan.reading.credit:
            torch.mul(self.tape.weights[t].unsqueeze(2), grad_summary.unsqueeze(1), out=received[:, :, :H])
        width = received.shape[2]
        self.versions.view(-1, width).index_add_(0, self.tape.read[t].view(-1), received.view(-1, width))
        grad_state.addmm_(query, self.inputs.query_weight)

    def _cell(self, t: int, block: _Block, i: int, grad_output: Tensor, grad_cell: Tensor) -> Tensor:
        """Sends the gradient of ĥ and c to the gates and to the step before; returns that of c before the step."""
        H, gates = self.size, self.gates[t]
        grad_cell = torch.addcmul(grad_cell, grad_output, block.cell[i])
        torch.mul(grad_cell.unsqueeze(1), block.input_gates[i], out=gates[:, : 3 * H].view(-1, 3, H))
        torch.mul(grad_output, block.output_gate[i], out=gates[:, 3 * H :])
        if self.schedule.all_cut[t]:
            return torch.zeros_like(grad_cell)
        grad_cell = grad_cell.mul_(self.tape.gates[t, :, H : 2 * H])
        if self.schedule.any_cut[t]:
            cut = self.plan.cut[t][:, None]
            gates = gates.masked_fill(cut, 0)
            grad_cell.masked_fill_(cut, 0)
        if t > 0:
            before = self.versions[self.held + t - 1, :, :H] if self.states is None else self.states[t - 1]
            before.addmm_(gates, self.inputs.weight_hh)
        return grad_cell

    def _gather(self, grad_cell: Tensor) -> ScanInputs:
        found = LoopGradients(
            gates=self.gates,
            states=self.versions[:, :, : self.size],
            keys=self.versions[:, :, self.size :],
            query=self.query,
            score_weight=self.score_weight,
            cell=grad_cell,
        )
        any_start = any(self.schedule.any_start)
        tape = self.tape
        return input_gradients(self.inputs, self.plan, any_start, tape.hidden, tape.state, tape.output, found)


def _local_derivatives(plan: ScanPlan, inputs: ScanInputs, tape: Tape, first: int, end: int) -> _Block:
    """The derivatives that follow from the forward pass alone, for steps first … end − 1."""
    reading = plan.reading
    index, weights, summary = tape.read[first:end], tape.weights[first:end], tape.summary[first:end]
    H, A = tape.output.shape[2], tape.keys.shape[2]
    values = tape.hidden.view(-1, H).index_select(0, index.view(-1)).view(*index.shape, H)
    keys = tape.keys.view(-1, A).index_select(0, index.view(-1)).view(*index.shape, A)
    query = tape.query[first:end, :, :A].unsqueeze(2)
    score = SCORES[reading.score].derivatives(keys, query, inputs.score_weight)
    i, f, g, o = tape.gates[first:end].chunk(4, dim=2)
    tanh_cell = tape.tanh_cell[first:end]
    input_gates = torch.stack([g * i * (1 - i), tape.cell[first:end] * f * (1 - f), i * (1 - g * g)], dim=2)
    return _Block(
        score_by_summary=summary_by_scores(
            tape.scores[first:end], weights, values, summary, reading.floor, reading.sharpness
        ),
        score=score,
        log_age=_log_ages(plan, index, first, weights.dtype) if reading.age else None,
        input_gates=input_gates,
        output_gate=tanh_cell * o * (1 - o),
        cell=o * (1 - tanh_cell * tanh_cell),
    )


def _log_ages(plan: ScanPlan, read: Tensor, first: int, dtype: torch.dtype) -> Tensor:
    """log(1 + age/τ) of what steps `first` … read (steps, B, R); meaningless where nothing was read."""
    rows, held = plan.filled.shape
    version = read.div(rows, rounding_mode="floor")
    time = torch.arange(first, first + len(read), device=read.device).view(-1, 1, 1)
    age = (time - (version - held) - 1).clamp(min=0)
    if held:
        of_start = plan.first_ages.expand(len(read), rows, held).gather(2, version.clamp(max=held - 1)) + time
        age = torch.where(version < held, of_start, age)
    return torch.log1p(age.to(dtype) / plan.reading.age_scale)


def outer(left: Tensor, right: Tensor) -> Tensor:
    """Σ over steps and rows of left (T, B, M) ⊗ right (T, B, N), as (M, N)."""
    return left.reshape(-1, left.shape[2]).t() @ right.reshape(-1, right.shape[2])


def input_gradients(
    inputs: ScanInputs,
    plan: ScanPlan,
    any_start: bool,
    hidden: Tensor,
    state: Tensor,
    output: Tensor,
    found: LoopGradients,
) -> ScanInputs:
    """The gradient of every input: one product for each matrix.

    Args:
        inputs: of the scan.
        plan: of the scan.
        any_start: whether an episode starts within it.
        hidden: (V, B, H) all versions.
        state: (T, B, H) h of every step.
        output: (T, B, H) ĥ of every step.
        found: what the loop left.
    """
    held, before, later = plan.filled.shape[1], inputs.h, state[:-1]
    if any_start:
        before = before.masked_fill(plan.start[0].unsqueeze(1), 0)
        later = later.masked_fill(plan.start[1:].unsqueeze(2), 0)
    memory = found.states.new_zeros(found.states[:held].shape)
    if plan.reading.credit:
        memory = found.states[:held] + found.keys[:held] @ inputs.key_weight
    return ScanInputs(
        gates=found.gates,
        weight_hh=outer(found.gates[1:], later).addmm_(found.gates[0].t(), before),
        key_weight=outer(found.keys, hidden),
        query_weight=outer(found.query, output),
        query_bias=found.query.sum(dim=(0, 1)),
        score_weight=found.score_weight,
        h=found.gates[0].masked_fill(plan.cut[0].unsqueeze(1), 0) @ inputs.weight_hh,
        c=found.cell,
        memory=memory.transpose(0, 1),
    )
