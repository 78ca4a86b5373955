"""Section 2 of the mathematics once more, as plainly as Python can say it: one row, one step, one slot at a time.

It shares no code with the library: memories are Python lists, the present is a vector, and torch only multiplies,
adds and differentiates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Row:
    """What one row carries: slots are (memory, 0-based step of the episode) or None, by slot number."""

    h: Tensor
    c: Tensor
    slots: list[tuple[Tensor, int] | None] = field(default_factory=list)
    step: int = 0
    reads: list[dict[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    top_k: int
    write_every: int
    bptt_steps: int
    capacity: int | None
    attention: str
    gain: float


def run_row(x: Tensor, starts: list[bool], row: Row, weights: dict[str, Tensor], settings: Settings) -> Tensor:
    """Outputs (T, 2H) for inputs x (T, I); changes `row` to what it carries afterwards."""
    outputs = []
    for t in range(x.shape[0]):
        if starts[t]:
            row.h, row.c, row.slots, row.step = torch.zeros_like(row.h), torch.zeros_like(row.c), [], 0
        outputs.append(_step(x[t], row, weights, settings))
    return torch.stack(outputs)


def _step(x: Tensor, row: Row, weights: dict[str, Tensor], settings: Settings) -> Tensor:
    row.step += 1
    h, c = row.h, row.c
    if (row.step - 1) % settings.bptt_steps == 0:
        h, c = h.detach(), c.detach()
    gates = weights["cell.weight_ih"] @ x + weights["cell.bias_ih"]
    gates = gates + weights["cell.weight_hh"] @ h + weights["cell.bias_hh"]
    size = h.shape[0]
    i, f, g, o = (gates[k * size : (k + 1) * size] for k in range(4))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    cell_h = torch.sigmoid(o) * torch.tanh(c)

    filled = [(memory, when) for slot in row.slots if slot is not None for memory, when in [slot]]
    summary, shares = _read([memory for memory, _ in filled], cell_h, weights, settings)
    row.reads.append({when: share for (_, when), share in zip(filled, shares, strict=True) if share > 0})
    h = cell_h + settings.gain * summary
    if row.step % settings.write_every == 0:
        _write(row, h, settings)
    row.h, row.c = h, c
    return torch.cat([h, summary])


def _read(memories: list[Tensor], cell_h: Tensor, weights: dict[str, Any], settings: Settings) -> tuple[Tensor, Any]:
    scores = []
    query = weights["attention.query.weight"] @ cell_h + weights["attention.query.bias"]
    for memory in memories:
        key = weights["attention.key.weight"] @ memory
        if settings.attention == "mlp":
            scores.append(weights["attention.score.weight"][0] @ torch.tanh(key + query))
        else:
            scores.append(key @ query / math.sqrt(len(query)))
    if not scores:
        return torch.zeros_like(cell_h), []
    falling = sorted(scores, key=Tensor.item, reverse=True)
    threshold = falling[settings.top_k] if len(scores) > settings.top_k else falling[-1] - 1
    above = [score - threshold if score.item() > threshold.item() else torch.zeros_like(score) for score in scores]
    total = torch.stack(above).sum()
    divisor = total if total.item() > 1e-8 else torch.full_like(total, 1e-8)
    shares = [part / divisor for part in above]
    summary = torch.zeros_like(cell_h)
    for share, memory in zip(shares, memories, strict=True):
        summary = summary + share * memory
    return summary, [share.item() for share in shares]


def _write(row: Row, h: Tensor, settings: Settings) -> None:
    slot = row.step // settings.write_every - 1
    if settings.capacity is not None:
        slot %= settings.capacity
    while len(row.slots) <= slot:
        row.slots.append(None)
    row.slots[slot] = (h, row.step - 1)
