"""The scan as the paper reads: a plain loop under autograd. Every faster path must equal it.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.core.attention import attention_scores
from sab_agents.core.sparsify import sparsify
from sab_agents.kernels import ScanInputs, ScanOutputs, ScanPlan

Weigh = Callable[[Tensor, Tensor], Tensor]
"""From scores (B, S) and filled (B, S) to weights (B, S)."""


def dense_softmax(temperature: float) -> Weigh:
    """Weights of every filled slot, by softmax: the dense attention that the sparsifier replaces."""

    def weigh(scores: Tensor, filled: Tensor) -> Tensor:
        # Rows without memory would be 0/0: they get finite scores, and their weights are zeroed.
        scores = (scores / temperature).masked_fill(~filled & filled.any(dim=1, keepdim=True), -torch.inf)
        return torch.softmax(scores, dim=1).masked_fill(~filled, 0.0)

    return weigh


def reference_scan(inputs: ScanInputs, plan: ScanPlan, weigh: Weigh | None = None) -> ScanOutputs:
    """Computes a scan, step by step, by section 2 of the mathematics; gradient flows by automatic differentiation.

    Args:
        inputs: the differentiable arguments.
        plan: what does not depend on numbers.
        weigh: turns scores into weights; None is `sparsify` with the plan's `top_k`.

    Returns:
        The outputs; `versions` and `weights` name all S slots.
    """
    weigh = weigh or (lambda scores, filled: sparsify(scores, filled, plan.top_k))
    T, B = plan.start.shape
    S, held = plan.slots, plan.filled.shape[1]
    h, c = inputs.h, inputs.c
    memory, filled = functional.pad(inputs.memory, (0, 0, 0, S - held)), functional.pad(plan.filled, (0, S - held))
    if not plan.credit:
        memory = memory.detach()
    keys = memory @ inputs.key_weight.t()
    version = torch.arange(S, device=h.device).expand(B, S)
    extent = _extents(plan)
    hidden, summaries = [], []
    versions = torch.full((T, B, S), -1, device=h.device)
    all_weights = h.new_zeros(T, B, S)

    for t in range(T):
        start, n = plan.start[t].unsqueeze(1), extent[t]
        cut = plan.cut[t].unsqueeze(1)
        h, c = h.masked_fill(start, 0), c.masked_fill(start, 0)
        filled = filled & ~start
        h, c = torch.where(cut, h.detach(), h), torch.where(cut, c.detach(), c)

        i, f, g, o = (inputs.gates[t] + h @ inputs.weight_hh.t()).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)

        query = functional.linear(h, inputs.query_weight, inputs.query_bias)
        weights = weigh(attention_scores(keys[:, :n], query, inputs.score_weight), filled[:, :n])
        summary = (weights.unsqueeze(1) @ memory[:, :n]).squeeze(1)
        h = h + plan.gain * summary
        versions[t, :, :n] = version[:, :n].masked_fill(~filled[:, :n], -1)
        all_weights[t, :, :n] = weights.detach()

        if bool((plan.write_slot[t] >= 0).any()):
            written = plan.write_slot[t].unsqueeze(1) == torch.arange(S, device=h.device)
            stored = h if plan.credit else h.detach()
            memory = torch.where(written.unsqueeze(2), stored.unsqueeze(1), memory)
            keys = torch.where(written.unsqueeze(2), (stored @ inputs.key_weight.t()).unsqueeze(1), keys)
            filled = filled | written
            version = torch.where(written, held + t, version)
        hidden.append(h)
        summaries.append(summary)
    return ScanOutputs(torch.stack(hidden), torch.stack(summaries), c, versions, all_weights)


def _extents(plan: ScanPlan) -> list[int]:
    """For each step, how many slots, from the first, may be filled: those beyond need not be looked at."""
    held = plan.filled.shape[1]
    last = (plan.filled.any(dim=0).cpu() * torch.arange(1, held + 1)).amax() if held else torch.tensor(0)
    written = torch.cat([last.unsqueeze(0), plan.write_slot.amax(dim=1).cpu()[:-1] + 1])
    extents: list[int] = written.cummax(dim=0).values.tolist()
    return extents
