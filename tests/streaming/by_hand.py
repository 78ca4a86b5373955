"""The gradient of a stream by automatic differentiation of a plain loop, with exactly the links cut that are lost.

Every piece of steps is computed once for each number of links that lie between it and the loss; all of these copies
have the same values, and a copy reads those that are one link farther. What lies too far, or is no longer held, is
read without gradient. So the graph has exactly the paths that count, and nothing is run "again".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sab_agents import SAB


def scores(sab: SAB, memories: list[Tensor], hidden: Tensor) -> Tensor:
    query = sab.attention.query(hidden)
    keys = [sab.attention.key(memory) for memory in memories]
    if sab.attention.score is None:
        return torch.stack([key @ query / query.shape[0] ** 0.5 for key in keys])
    return torch.cat([sab.attention.score(torch.tanh(key + query)) for key in keys])


def read(sab: SAB, memories: list[Tensor], ages: list[int], hidden: Tensor) -> Tensor:
    if not memories:
        return torch.zeros_like(hidden)
    a, top_k, floor = scores(sab, memories, hidden), sab.rules.reading.top_k, sab.rules.reading.floor
    if sab.attention.age is not None:
        losses = [math.log(1 + age / sab.rules.reading.age_scale) for age in ages]
        a = a - sab.attention.age(hidden) * torch.tensor(losses, dtype=a.dtype)
    ranked = a.sort(descending=True).values
    threshold = ranked[top_k] if len(memories) > top_k else ranked[-1] - 1
    u = (a - threshold).clamp(min=0)
    sharpness = sab.rules.reading.sharpness
    g = u if sharpness == 0 else (torch.exp(sharpness * u) - 1) / sharpness
    weights = g / (floor + g.sum()).clamp(min=1e-8)
    return torch.stack(memories).t() @ weights


@dataclass
class Row:
    """One stream.

    Attributes:
        sab, encoder: the network.
        observation: (T, …).
        start: for each step, whether an episode begins.
        write: for each step, the slot it writes to, −1 for none.
        windows: first step of each window, and T.
        depth: links that count, None for all.
    """

    sab: SAB
    encoder: nn.Module
    observation: Tensor
    start: list[bool]
    write: list[int]
    windows: list[int]
    depth: int | None
    hidden: list[Tensor] = field(default_factory=list)
    stored: list[Tensor] = field(default_factory=list)
    cell: list[Tensor] = field(default_factory=list)
    memory: list[dict[int, int]] = field(default_factory=list)
    piece: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        zeros = torch.zeros(self.sab.hidden_size, dtype=self.observation.dtype)
        memory: dict[int, int] = {}
        h, c, age = zeros, zeros, 0
        for t in range(len(self.start)):
            if self.start[t]:
                h, c, memory, age = zeros, zeros, {}, 0
            begins = self.start[t] or t in self.windows or age % self.sab.rules.bptt_steps == 0
            self.piece.append(t if begins else self.piece[-1])
            self.memory.append(memory)
            with torch.no_grad():
                h, c, _, stored = self.step(t, h, c, [self.stored[u] for u in memory.values()])
            self.hidden.append(h)
            self.stored.append(stored)
            self.cell.append(c)
            age += 1
            if self.write[t] >= 0:
                memory = memory | {self.write[t]: t}
        self.final = memory

    def step(self, t: int, h: Tensor, c: Tensor, memories: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns h and c after the step, what it read, and what it would store."""
        x, sab = self.encoder(self.observation[t].unsqueeze(0)), self.sab
        cell, c = (value.squeeze(0) for value in sab.cell(x, (h.unsqueeze(0), c.unsqueeze(0))))
        summary = read(sab, memories, [t - u - 1 for u in self.memory[t].values()], cell)
        gain = sab.rules.reading.gain if sab.gate is None else torch.sigmoid(sab.gate(cell))
        h = cell + gain * summary
        if sab.output_gate is not None:
            summary = summary * sab.output_gate(h)
        return h, c, summary, h if sab.rules.reading.stored == "output" else cell

    def outputs(self, number: int) -> Tensor:
        """What the steps of a window put out, with the graph that its loss may use."""
        first, end = self.windows[number], self.windows[number + 1]
        copies: dict[tuple[int, int], dict[int, Tensor]] = {}
        held = set(self.memory[first].values()) if not self.start[first] else set()
        found = self.run(first, end, 0, first, held, copies)
        return torch.stack([torch.cat(found[t][:2]) for t in range(first, end)])

    def run(
        self,
        first: int,
        end: int,
        level: int,
        own: int,
        held: set[int],
        copies: dict[tuple[int, int], dict[int, Tensor]],
    ) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
        """Steps first … end − 1; what was written from `own` on is read from this very copy."""
        zeros = torch.zeros(self.sab.hidden_size, dtype=self.observation.dtype)
        mine: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        h = c = zeros
        for t in range(first, end):
            if t == self.piece[t]:
                h, c = (zeros, zeros) if self.start[t] or t == 0 else (self.hidden[t - 1], self.cell[t - 1])
            memories = [
                mine[u][2] if u >= own else self.linked(u, level, held, copies) for u in self.memory[t].values()
            ]
            h, c, summary, stored = self.step(t, h, c, memories)
            mine[t] = (h, summary, stored)
        return mine

    def linked(self, u: int, level: int, held: set[int], copies: dict[tuple[int, int], dict[int, Tensor]]) -> Tensor:
        """The memory that step u wrote, as it is read across `level` links from the loss."""
        if u not in held or self.depth == level:
            return self.stored[u]
        piece, farther = self.piece[u], 0 if self.depth is None else level + 1
        if (piece, farther) not in copies:
            end = next((t for t in range(piece + 1, len(self.piece)) if self.piece[t] != piece), len(self.piece))
            found = self.run(piece, end, farther, piece, held, copies)
            copies[piece, farther] = {t: stored for t, (_, _, stored) in found.items()}
        return copies[piece, farther][u]
