"""The scan in plain torch with a hand-written backward pass: no autograd graph per step, no memory that grows.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S₀ of them in the starting memory, V versions,
K = top_k, R = K + 1 slots that a read touches (the last one only as the threshold).

torch's sigmoid is ten times as fast as its tanh on a CPU, so tanh(x) is taken as 2·sigmoid(2x) − 1. For "mlp" the keys
are doubled where they are stored for scoring, and the constant is left out: the sparsifier sees differences alone.

Every version is a row of one table, V·B rows long; a slot holds the number of its row. One more version at the end
stands for slots that do not exist: it is read with weight 0 and receives gradient 0.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sab_agents.kernels.torch_backend.backward import EPSILON, Backward, Tape, threshold
from sab_agents.kernels.torch_backend.schedule import MIXED_WRITE, NO_WRITE, Schedule, make_schedule
from sab_agents.kernels.types import ScanInputs, ScanOutputs, ScanPlan


def scan(inputs: ScanInputs, plan: ScanPlan) -> ScanOutputs:
    """Computes a scan; gradient flows to every tensor of `inputs`."""
    outputs: tuple[Tensor, ...] = _Scan.apply(*inputs, plan)  # type: ignore[no-untyped-call]
    return ScanOutputs(*outputs)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        inputs, plan = ScanInputs(*arguments[:-1]), arguments[-1]
        schedule = make_schedule(plan)
        tape = _Forward(inputs, plan, schedule).run()
        ctx.plan, ctx.schedule = plan, schedule
        ctx.save_for_backward(*inputs, *tape)
        steps, batch, held = plan.start.shape[0], plan.start.shape[1], plan.filled.shape[1]
        versions = (tape.read.div(batch, rounding_mode="floor")).masked_fill_(tape.scores == -torch.inf, -1)
        h = tape.hidden[held : held + steps]
        ctx.mark_non_differentiable(versions, tape.weights)
        return h, tape.summary, tape.cell[steps], versions, tape.weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_summary: Tensor, grad_c: Tensor, *_: Tensor) -> tuple[Any, ...]:
        saved, count = ctx.saved_tensors, len(ScanInputs._fields)
        scan_backward = Backward(ScanInputs(*saved[:count]), Tape(*saved[count:]), ctx.plan, ctx.schedule)
        gradients = scan_backward.run(grad_h, grad_summary, grad_c)
        return (*gradients, None)


class _Forward:
    """One forward scan: its buffers, allocated once, and its loop."""

    def __init__(self, inputs: ScanInputs, plan: ScanPlan, schedule: Schedule) -> None:
        self.inputs, self.plan, self.schedule = inputs, plan, schedule
        new = inputs.gates.new_empty
        self.steps, self.batch, width = inputs.gates.shape
        self.size, self.held, self.reads = width // 4, plan.filled.shape[1], plan.top_k + 1
        T, B, H, S, R = self.steps, self.batch, self.size, self.held, self.reads
        A = inputs.key_weight.shape[0]

        hidden, keys = new(S + T + 1, B, H), new(S + T + 1, B, A)
        hidden[:S] = inputs.memory.transpose(0, 1)
        hidden[S + T] = 0
        keys[S + T] = 0
        torch.matmul(hidden[:S], inputs.key_weight.t(), out=keys[:S])
        cell = new(T + 1, B, H)
        cell[0] = inputs.c
        self.tape = Tape(
            gates=new(T, B, 4 * H),
            cell=cell,
            tanh_cell=new(T, B, H),
            output=new(T, B, H),
            summary=new(T, B, H),
            query=cell.new_zeros(T, B, A),
            hidden=hidden,
            keys=keys,
            read=torch.full((T, B, R), (S + T) * B, device=cell.device),
            scores=torch.full((T, B, R), -torch.inf, dtype=cell.dtype, device=cell.device),
            weights=cell.new_zeros(T, B, R),
        )
        # A read of R slots needs R to choose from; those beyond the memory stay empty and name the extra version.
        width = max(plan.slots, R)
        self.rows = torch.arange(B, device=cell.device)
        self.slot_index = torch.full((B, width), (S + T) * B, device=cell.device)
        self.slot_index[:, :S] = self.rows[:, None] + B * torch.arange(S, device=cell.device)
        self.slot_keys = new(B, width, A)
        if inputs.score_weight is None:
            self.key_scale, self.score_vector = 1.0, new(A).fill_(1 / math.sqrt(A))
        else:
            self.key_scale, self.score_vector = 2.0, 2 * inputs.score_weight
        self.slot_keys[:, :S] = self.key_scale * keys[:S].transpose(0, 1)
        self.slot_keys[:, S:] = 0
        self.empty = torch.ones(B, width, dtype=torch.bool, device=cell.device)
        self.empty[:, :S] = ~plan.filled
        most = max([R, *schedule.extent])
        self.hidden_layer = new(B * most * A)
        self.best_slots = torch.empty(B, R, dtype=torch.int64, device=cell.device)
        self.minus_one = new(()).fill_(-1)
        self.weight_hh_t = inputs.weight_hh.t()
        self.query_weight_t = inputs.query_weight.t()
        self.key_weight_t = inputs.key_weight.t()

        # Views of every step, made at once: cheaper than one by one in the loop.
        tape = self.tape
        self.gates_in, self.gates, self.cell = inputs.gates.unbind(), tape.gates.unbind(), tape.cell.unbind()
        self.tanh_cell, self.output, self.summary = (x.unbind() for x in (tape.tanh_cell, tape.output, tape.summary))
        self.query, self.read, self.scores, self.weights = (
            x.unbind() for x in (tape.query, tape.read, tape.scores, tape.weights)
        )

    def run(self) -> Tape:
        h = self.inputs.h
        for t in range(self.steps):
            if self.schedule.any_start[t]:
                start = self.plan.start[t]
                h = h.masked_fill(start[:, None], 0)
                self.empty |= start[:, None]
            self._cell(t, h)
            if self.schedule.extent[t] > 0:
                self._read(t)
            else:
                self.summary[t].zero_()
            h = self.tape.hidden[self.held + t]
            torch.add(self.output[t], self.summary[t], alpha=self.plan.gain, out=h)
            if self.schedule.write[t] != NO_WRITE:
                self._write(t, h)
        return self.tape

    def _cell(self, t: int, h: Tensor) -> None:
        H = self.size
        gates, cell = self.gates[t], self.cell[t + 1]
        torch.addmm(self.gates_in[t], h, self.weight_hh_t, out=gates)
        candidate = gates[:, 2 * H : 3 * H]
        candidate.mul_(2)
        gates.sigmoid_()
        torch.add(self.minus_one, candidate, alpha=2, out=candidate)
        if self.schedule.any_start[t]:
            # A forget gate of 0 empties c, and keeps its gradient 0 in the backward pass.
            gates[:, H : 2 * H].masked_fill_(self.plan.start[t][:, None], 0)
        torch.mul(gates[:, H : 2 * H], self.cell[t], out=cell)
        cell.addcmul_(gates[:, :H], candidate)
        tanh_cell = torch.mul(cell, 2, out=self.tanh_cell[t]).sigmoid_()
        torch.add(self.minus_one, tanh_cell, alpha=2, out=tanh_cell)
        torch.mul(gates[:, 3 * H :], tanh_cell, out=self.output[t])

    def _read(self, t: int) -> None:
        R = self.reads
        query = self.query[t]
        torch.addmm(self.inputs.query_bias, self.output[t], self.query_weight_t, out=query)
        n = max(self.schedule.extent[t], R)
        scores = self._scores(query, n)
        masked = self.schedule.masked[t] or n > self.schedule.extent[t]
        if masked:
            scores = scores.masked_fill_(self.empty[:, :n], -torch.inf)
        best, slots = torch.topk(scores, R, dim=1, out=(self.scores[t], self.best_slots))
        torch.gather(self.slot_index, 1, slots, out=self.read[t])
        above = (best - threshold(best, full=not masked)).relu_()
        weights = torch.div(above, above.sum(dim=1, keepdim=True).clamp_(min=EPSILON), out=self.weights[t])
        values = self.tape.hidden.view(-1, self.size).index_select(0, self.read[t].view(-1))
        torch.bmm(weights.unsqueeze(1), values.view(self.batch, R, self.size), out=self.summary[t].unsqueeze(1))

    def _scores(self, query: Tensor, n: int) -> Tensor:
        keys, A = self.slot_keys[:, :n], query.shape[1]
        layer = self.hidden_layer[: self.batch * n * A].view(self.batch, n, A)
        # For "dot" too, a product and a sum over whole rows of memory outrun a batched matrix-vector product.
        if self.inputs.score_weight is None:
            torch.mul(keys, query.unsqueeze(1), out=layer)
        else:
            torch.add(keys, (2 * query).unsqueeze(1), out=layer).sigmoid_()
        return torch.mv(layer.view(-1, A), self.score_vector).view(self.batch, n)

    def _write(self, t: int, h: Tensor) -> None:
        version, slot = self.held + t, self.schedule.write[t]
        key = self.tape.keys[version]
        torch.mm(h, self.key_weight_t, out=key)
        index = self.rows + version * self.batch
        if slot != MIXED_WRITE:
            torch.mul(key, self.key_scale, out=self.slot_keys[:, slot])
            self.slot_index[:, slot] = index
            self.empty[:, slot] = False
            return
        target = self.plan.write_slot[t]
        rows = (target >= 0).nonzero().squeeze(1)
        target = target[rows]
        self.slot_keys[rows, target] = self.key_scale * key[rows]
        self.slot_index[rows, target] = index[rows]
        self.empty[rows, target] = False
