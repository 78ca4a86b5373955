"""Stored memories computed anew with today's weights.

Dimensions: B rows, S slots, which are also the places for pieces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.streaming.base import Encode
from sab_agents.streaming.contexts import Contexts
from sab_agents.streaming.rerun import rerun_pieces


def refresh_memory(core: SAB, encode: Encode, contexts: Contexts, state: SABState) -> SABState:
    """Runs every piece again, oldest first, and returns the state with what its slots hold now.

    What a piece had read is taken from the slots that still hold it, anew, and from the old copy otherwise. The hidden
    and cell state before a piece stay as they were. Call it without gradient.
    """
    memory = state.memory
    for row, place in _oldest_first(contexts, state):
        rows = row.unsqueeze(1)
        slot, written_at = contexts.slot[row, place], contexts.written_at[row, place]
        held = contexts.used[row, place] & state.filled[rows, slot] & (state.written_at[rows, slot] == written_at)
        value = torch.where(held.unsqueeze(2), memory[rows, slot], contexts.value[row, place])
        contexts.value.index_put_((row, place), value)
        h = rerun_pieces(core, encode, contexts, row, place, value).h
        mine = state.filled[row] & (contexts.piece[row] == place.unsqueeze(1))
        column, own = mine.nonzero(as_tuple=True)
        at = row[column], own
        memory = memory.index_put(at, h[contexts.offset[at], column])
    return SABState(state.h, state.c, memory, state.filled, state.written_at, state.step)


def _oldest_first(contexts: Contexts, state: SABState) -> list[tuple[Tensor, Tensor]]:
    """The pieces in use, by their age: row and place of the oldest of each row, then of the next, …."""
    B, S = contexts.piece.shape
    never = torch.iinfo(torch.int64).max
    written_at = state.written_at.masked_fill(~state.filled, never)
    age = written_at.new_full((B, S), never).scatter_reduce(1, contexts.piece, written_at, "amin")
    order = age.argsort(dim=1)
    present = age.gather(1, order) < never
    return [
        (rows, order[rows, number])
        for number in range(int(present.sum(dim=1).max()))
        for rows in [present[:, number].nonzero(as_tuple=True)[0]]
    ]
