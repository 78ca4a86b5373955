"""The scan as the paper reads: a plain loop under autograd. Every faster pass must equal it.

A softmax and second derivatives are computed by it, too: both need nothing but differentiable operations.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S₀ of them in the starting memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.torch_backend.attention import softmax, sparsify
from sab_agents.kernels.torch_backend.output_gate import opened
from sab_agents.kernels.torch_backend.scores import SCORES
from sab_agents.kernels.types import ScanArguments, ScanOutputs, ScanPlan


def reference_scan(inputs: ScanArguments, plan: ScanPlan) -> ScanOutputs:
    """Computes a scan step by step, by sections 2 and 7 of the mathematics, with automatic differentiation.

    Args:
        inputs: the differentiable arguments.
        plan: everything else.

    Returns:
        The outputs; `versions` and `weights` name all S slots.
    """
    T, B = plan.start.shape
    S, held = plan.slots, plan.filled.shape[1]
    h, c = inputs.h, inputs.c
    gates = functional.linear(inputs.x, inputs.weight_ih, inputs.bias_ih + inputs.bias_hh)
    memory, filled = functional.pad(inputs.memory, (0, 0, 0, S - held)), functional.pad(plan.filled, (0, S - held))
    if not plan.reading.credit:
        memory = memory.detach()
    keys = memory @ inputs.key_weight.t()
    score = SCORES[plan.reading.score]
    score_weight = None if inputs.score_weight is None else inputs.score_weight.squeeze(0)
    version = torch.arange(S, device=h.device).expand(B, S)
    extent, reading = _extents(plan), plan.reading
    born = -1 - functional.pad(plan.first_ages, (0, S - held)) if reading.age else None
    outputs, versions, weights_read = [], [], []

    for t in range(T):
        start, n = plan.start[t].unsqueeze(1), extent[t]
        cut = plan.cut[t].unsqueeze(1)
        h, c = h.masked_fill(start, 0), c.masked_fill(start, 0)
        filled = filled & ~start
        h, c = torch.where(cut, h.detach(), h), torch.where(cut, c.detach(), c)

        i, f, g, o = (gates[t] + h @ inputs.weight_hh.t()).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = cell = torch.sigmoid(o) * torch.tanh(c)

        query = functional.linear(cell, inputs.query_weight, inputs.query_bias)
        scores = score.of(keys[:, :n], query, score_weight)
        if born is not None:
            rate = functional.linear(cell, inputs.age_weight, inputs.age_bias)  # type: ignore[arg-type]
            scores = scores - rate * torch.log1p((t - born[:, :n] - 1).to(scores.dtype) / reading.age_scale)
        weights = _weights(scores, filled[:, :n], plan)
        summary = (weights.unsqueeze(1) @ memory[:, :n]).squeeze(1)
        if reading.gate:
            gate = torch.sigmoid(functional.linear(cell, inputs.gate_weight, inputs.gate_bias))  # type: ignore[arg-type]
            h = cell + gate * summary
        else:
            h = cell + reading.gain * summary
        versions.append(functional.pad(version[:, :n].masked_fill(~filled[:, :n], -1), (0, S - n), value=-1))
        weights_read.append(functional.pad(weights.detach(), (0, S - n)))

        if bool((plan.write_slot[t] >= 0).any()):
            written = plan.write_slot[t].unsqueeze(1) == torch.arange(S, device=h.device)
            stored = cell if reading.stored == "cell" else h
            stored = stored if reading.credit else stored.detach()
            memory = torch.where(written.unsqueeze(2), stored.unsqueeze(1), memory)
            keys = torch.where(written.unsqueeze(2), (stored @ inputs.key_weight.t()).unsqueeze(1), keys)
            filled = filled | written
            version = torch.where(written, held + t, version)
            born = None if born is None else torch.where(written, t, born)
        if reading.output_gate:
            summary = summary * opened(h, inputs.output_gate_weight, inputs.output_gate_bias)
        outputs.append(torch.cat([h, summary, cell] if reading.apart else [h, summary], dim=1))
    return ScanOutputs(torch.stack(outputs), c, torch.stack(versions), torch.stack(weights_read))


def _weights(scores: Tensor, filled: Tensor, plan: ScanPlan) -> Tensor:
    if plan.reading.sparsifier == "softmax":
        return softmax(scores, filled, plan.reading.temperature)
    return sparsify(scores, filled, plan.reading.top_k, plan.reading.floor, plan.reading.sharpness)


def _extents(plan: ScanPlan) -> list[int]:
    """For each step, how many slots, from the first, may be filled: those beyond need not be looked at."""
    held = plan.filled.shape[1]
    last = (plan.filled.any(dim=0).cpu() * torch.arange(1, held + 1)).amax() if held else torch.tensor(0)
    written = torch.cat([last.unsqueeze(0), plan.write_slot.amax(dim=1).cpu()[:-1] + 1])
    extents: list[int] = written.cummax(dim=0).values.tolist()
    return extents
