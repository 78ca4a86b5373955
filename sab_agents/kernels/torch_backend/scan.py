"""The scan in plain torch with a hand-written backward pass: no autograd graph per step, no memory that grows.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots, S₀ of them in the starting memory,
V = S₀ + T + 1 versions, K = top_k, R = K + 1 slots that a read touches (the last one only as the threshold).

Every version is a row of one table, V·B rows long; a slot holds the number of its row. One more version at the end
stands for slots that do not exist: it is read with weight 0 and receives gradient 0.

A softmax over all slots is computed by the reference, its backward pass by automatic differentiation of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.torch_backend.attention import EPSILON, masses, threshold
from sab_agents.kernels.torch_backend.backward import Backward, Tape, outer
from sab_agents.kernels.torch_backend.output_gate import GateGradients, opened, through_output_gate
from sab_agents.kernels.torch_backend.reference import reference_scan
from sab_agents.kernels.torch_backend.schedule import MIXED_WRITE, NO_WRITE, Schedule, make_schedule
from sab_agents.kernels.torch_backend.scores import FastScores
from sab_agents.kernels.types import ScanArguments, ScanInputs, Scanned, ScanOutputs, ScanPlan, ScanTape


def forward(inputs: ScanArguments, plan: ScanPlan, *, keep: bool) -> Scanned:
    """Computes a scan; see `sab_agents.kernels.scan.ScanKernel`."""
    if plan.reading.sparsifier == "softmax":
        return Scanned(reference_scan(inputs, plan), ())
    steps, batch = plan.start.shape
    tape = _Forward(with_gates(inputs), plan, make_schedule(plan)).run()
    versions = (tape.read.div(batch, rounding_mode="floor")).masked_fill_(tape.scores == -torch.inf, -1)
    summary = tape.summary
    if plan.reading.output_gate:
        summary = summary * opened(tape.state, inputs.output_gate_weight, inputs.output_gate_bias)
    parts = [tape.state, summary, tape.output] if plan.reading.apart else [tape.state, summary]
    outputs = ScanOutputs(torch.cat(parts, dim=2), tape.cell[steps].clone(), versions, tape.weights)
    return Scanned(outputs, tape[:-1] if keep else ())


def tape_shapes(inputs: ScanArguments, plan: ScanPlan) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of the tape; see `sab_agents.kernels.scan.ScanKernel`."""
    if plan.reading.sparsifier == "softmax":
        return []
    (T, B, _), H, A, R = inputs.x.shape, inputs.h.shape[1], inputs.query_bias.shape[0], plan.reads
    V, Q, dtype = plan.filled.shape[1] + T + 1, plan.reading.attended(H, A), inputs.x.dtype
    state = (T, B, H)
    real: list[tuple[int, ...]] = [(T, B, 4 * H), (T + 1, B, H), state, state, state]
    real += [state if plan.reading.apart else (0,), (T, B, Q), (V, B, H), (V, B, A)]
    return [*((shape, dtype) for shape in real), ((T, B, R), torch.int64), ((T, B, R), dtype)]


def backward(
    inputs: ScanArguments, plan: ScanPlan, tape: ScanTape, grad_output: Tensor, grad_c: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of `inputs`; see `sab_agents.kernels.scan.ScanKernel`."""
    if plan.reading.sparsifier == "softmax":
        return _softmax_gradients(inputs, plan, grad_output, grad_c, wanted)
    gated = with_gates(inputs, gates=tape.kept[0])
    own = Tape._make((*tape.kept, tape.weights))
    grads = through_output_gate(inputs, grad_output, own.state, own.summary)
    found = Backward(gated, own, plan, make_schedule(plan)).run(grads.output, grad_c)
    return argument_gradients(inputs, found, grads, wanted)


def with_gates(inputs: ScanArguments, gates: Tensor | None = None) -> ScanInputs:
    """The arguments with the gates that they ask for, computed or, where only the rest is needed, given."""
    if gates is None:
        gates = functional.linear(inputs.x, inputs.weight_ih, inputs.bias_ih + inputs.bias_hh)
    score = inputs.score_weight
    return ScanInputs(
        gates=gates,
        weight_hh=inputs.weight_hh,
        key_weight=inputs.key_weight,
        query_weight=_joined(inputs.query_weight, inputs.age_weight, inputs.gate_weight),
        query_bias=_joined(inputs.query_bias, inputs.age_bias, inputs.gate_bias),
        score_weight=None if score is None else score.squeeze(0),
        h=inputs.h,
        c=inputs.c,
        memory=inputs.memory,
    )


def _joined(*parts: Tensor | None) -> Tensor:
    there = [part for part in parts if part is not None]
    return there[0] if len(there) == 1 else torch.cat(there)


def _parted(inputs: ScanArguments, weight: Tensor, bias: Tensor) -> dict[str, Tensor | None]:
    """The gradients of the parts of which the query's weight (Q, H) and bias (Q,) were joined; none shares memory."""
    biases = {name: getattr(inputs, f"{name}_bias") for name in ("query", "age", "gate")}
    counts = [0 if each is None else len(each) for each in biases.values()]
    found: dict[str, Tensor | None] = {}
    for whole, kind in ((weight, "weight"), (bias, "bias")):
        for (name, there), part in zip(biases.items(), torch.split(whole, counts), strict=True):
            found[f"{name}_{kind}"] = None if there is None else part if len(part) == len(whole) else part.clone()
    return found


def argument_gradients(
    inputs: ScanArguments, found: ScanInputs, of_gate: GateGradients, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of `inputs` that are wanted, from those of the scan with its gates and of the output gate."""
    gates, score = found.gates, found.score_weight
    want = dict(zip(ScanArguments._fields, wanted, strict=True))
    bias = gates.flatten(0, 1).sum(dim=0) if want["bias_ih"] or want["bias_hh"] else None
    gradients = ScanArguments(
        x=gates @ inputs.weight_ih if want["x"] else None,  # type: ignore[arg-type]
        weight_ih=outer(gates, inputs.x) if want["weight_ih"] else None,  # type: ignore[arg-type]
        weight_hh=found.weight_hh,
        bias_ih=bias,  # type: ignore[arg-type]
        bias_hh=bias.clone() if bias is not None and want["bias_ih"] else bias,  # type: ignore[arg-type]
        key_weight=found.key_weight,
        **_parted(inputs, found.query_weight, found.query_bias),  # type: ignore[arg-type]
        score_weight=None if score is None else score.unsqueeze(0),
        output_gate_weight=of_gate.weight,
        output_gate_bias=of_gate.bias,
        h=found.h,
        c=found.c,
        memory=found.memory,
    )
    return [gradient if wants else None for gradient, wants in zip(gradients, wanted, strict=True)]


def _softmax_gradients(
    inputs: ScanArguments, plan: ScanPlan, grad_output: Tensor, grad_c: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    asked = [index for index, wants in enumerate(wanted) if wants]

    def results(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        arguments = list(inputs)
        for index, tensor in zip(asked, tensors, strict=True):
            arguments[index] = tensor
        outputs = reference_scan(ScanArguments(*arguments), plan)  # type: ignore[arg-type]
        return outputs.whole, outputs.c

    vjp: Any = torch.func.vjp
    _, pull = vjp(results, *(inputs[index] for index in asked))
    found: dict[int, Tensor] = dict(zip(asked, pull((grad_output, grad_c)), strict=True))
    return [found.get(index) for index in range(len(inputs))]


class _Forward:
    """One forward scan: its buffers, allocated once, and its loop."""

    def __init__(self, inputs: ScanInputs, plan: ScanPlan, schedule: Schedule) -> None:
        self.inputs, self.plan, self.schedule = inputs, plan, schedule
        new = inputs.gates.new_empty
        self.steps, self.batch, width = inputs.gates.shape
        self.size, self.held, self.reads = width // 4, plan.filled.shape[1], plan.reading.ranks
        T, B, H, S, R = self.steps, self.batch, self.size, self.held, self.reads
        A, Q = inputs.key_weight.shape[0], len(inputs.query_bias)
        reading = plan.reading

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
            apart=new(T, B, H) if reading.apart else new(0),
            query=cell.new_zeros(T, B, Q),
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
        most = max([R, *schedule.extent])
        self.scores_of = FastScores(plan.reading.score, inputs.score_weight, A, new(B * most * A))
        self.slot_keys[:, :S] = self.scores_of.key_scale * keys[:S].transpose(0, 1)
        self.slot_keys[:, S:] = 0
        self.empty = torch.ones(B, width, dtype=torch.bool, device=cell.device)
        self.empty[:, :S] = ~plan.filled
        self.born = torch.zeros(B, width, dtype=torch.int64, device=cell.device)
        if reading.age:
            self.born[:, :S] = -1 - plan.first_ages
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
        self.state = tape.state.unbind()

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
            h = self._enter(t)
            if self.schedule.write[t] != NO_WRITE:
                self._write(t, self.tape.hidden[self.held + t])
        return self.tape

    def _enter(self, t: int) -> Tensor:
        """Computes h of ĥ and s."""
        h, reading = self.state[t], self.plan.reading
        if reading.gate:
            torch.addcmul(self.output[t], self.query[t][:, -self.size :], self.summary[t], out=h)
        else:
            torch.add(self.output[t], self.summary[t], alpha=reading.gain, out=h)
        if reading.apart:
            self.tape.hidden[self.held + t] = self.output[t]
        return h

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
        query, reading, A = self.query[t], self.plan.reading, self.slot_keys.shape[2]
        torch.addmm(self.inputs.query_bias, self.output[t], self.query_weight_t, out=query)
        if reading.gate:
            query[:, -self.size :].sigmoid_()
        n = max(self.schedule.extent[t], R)
        scores = self.scores_of.of(self.slot_keys[:, :n], query[:, :A])
        if reading.age:
            age = (t - 1 - self.born[:, :n]).to(scores.dtype).div_(reading.age_scale)
            scores = scores.addcmul_(query[:, A : A + 1], age.log1p_(), value=-1)
        masked = self.schedule.masked[t] or n > self.schedule.extent[t]
        if masked:
            scores = scores.masked_fill_(self.empty[:, :n], -torch.inf)
        best, slots = torch.topk(scores, R, dim=1, out=(self.scores[t], self.best_slots))
        torch.gather(self.slot_index, 1, slots, out=self.read[t])
        mass, total, _ = masses(best, threshold(best, full=not masked), reading.floor, reading.sharpness)
        weights = torch.div(mass, total.clamp_(min=EPSILON), out=self.weights[t])
        values = self.tape.hidden.view(-1, self.size).index_select(0, self.read[t].view(-1))
        torch.bmm(weights.unsqueeze(1), values.view(self.batch, R, self.size), out=self.summary[t].unsqueeze(1))

    def _write(self, t: int, h: Tensor) -> None:
        version, slot = self.held + t, self.schedule.write[t]
        key = self.tape.keys[version]
        torch.mm(h, self.key_weight_t, out=key)
        index = self.rows + version * self.batch
        if slot != MIXED_WRITE:
            torch.mul(key, self.scores_of.key_scale, out=self.slot_keys[:, slot])
            self.slot_index[:, slot] = index
            self.empty[:, slot] = False
            self.born[:, slot] = t
            return
        target = self.plan.write_slot[t]
        rows = (target >= 0).nonzero().squeeze(1)
        target = target[rows]
        self.slot_keys[rows, target] = self.scores_of.key_scale * key[rows]
        self.slot_index[rows, target] = index[rows]
        self.empty[rows, target] = False
        self.born[rows, target] = t
