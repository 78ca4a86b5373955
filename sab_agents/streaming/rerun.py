"""Credit by running again: from the gradient that reached a memory to the parameters that made it.

Dimensions: B rows, S slots, M pieces that are run again, L = bptt_steps, U memories that a piece read, I input size,
H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.kernels import ScanOutputs
from sab_agents.streaming.contexts import Contexts

Encode = Callable[[Tensor], Tensor]
"""From observations (N, …) to inputs of the core (N, I); gradient flows into its parameters."""


class Credit(NamedTuple):
    """What one push of credit did.

    Attributes:
        norm: (B, S) sum of the norms of the gradients that reached each slot, at any depth; zeros where none did.
        pieces: how many pieces were run again.
        dropped: how many links that carried gradient led to memories no longer held.
    """

    norm: Tensor
    pieces: int
    dropped: int


def push_credit(
    core: SAB, encode: Encode, contexts: Contexts, state: SABState, gradient: Tensor, depth: int | None
) -> Credit:
    """Adds to the parameters' `.grad` what the gradient with respect to a memory owes to the steps that wrote it.

    Each slot that received gradient has its piece run again with today's weights, and the gradient is pushed back
    through that into the parameters of `core` and `encode`, and into the memories that the piece had read.

    Args:
        core: the module whose memory it is.
        encode: makes inputs of what was observed.
        contexts: of the memory in `state`.
        state: the state whose memory received the gradient.
        gradient: (B, S, H) ∂loss/∂memory.
        depth: how many links are followed: 0 none, 1 the pieces of the slots themselves, d further reads; None all
            that lead to memories still held. Reads inside a piece are part of its re-run and do not count.

    Returns:
        What was credited.
    """
    pending = gradient.masked_fill(~state.filled.unsqueeze(2), 0)
    norm = pending.new_zeros(pending.shape[:2])
    pieces = dropped = level = 0
    while depth is None or level < depth:
        reached = pending.norm(dim=2)
        chosen = reached > 0
        if depth is None:
            # Links lead back in time only: with the newest piece first, each is run again once.
            chosen &= _of_newest_piece(chosen, contexts, state)
        row, slot = chosen.nonzero(as_tuple=True)
        if row.shape[0] == 0:
            break
        norm += reached * chosen
        level += 1
        value_gradient, row_of, place = _credit_slots(
            core, encode, contexts, row, slot, pending[row, slot], onward=level != depth
        )
        pending = pending.masked_fill(chosen.unsqueeze(2), 0)
        if value_gradient is not None:
            dropped += pass_on(value_gradient, row_of, place, contexts, state, pending)
        pieces += row_of.shape[0]
    return Credit(norm, pieces, dropped)


def rerun_pieces(
    core: SAB, encode: Encode, contexts: Contexts, row: Tensor, place: Tensor, value: Tensor
) -> ScanOutputs:
    """Runs M pieces again from their contexts, as the M rows of one scan of L steps.

    Args:
        core: the module.
        encode: makes inputs of what was observed.
        contexts: where the pieces lie.
        row: (M,) rows.
        place: (M,) places of the pieces.
        value: (M, U, H) the memories that they read.
    """
    observation = contexts.observation[row, place].transpose(0, 1)
    L, M = observation.shape[:2]
    cut = torch.zeros(L, M, dtype=torch.bool, device=value.device)
    cut[0] = True
    plan = core.rules.plan(
        start=torch.zeros_like(cut),
        cut=cut,
        write_slot=contexts.target[row, place].t(),
        filled=contexts.used[row, place],
        slots=value.shape[1] + L,
    )
    x = encode(observation.flatten(0, 1)).view(L, M, -1)
    return core.scan(x, contexts.h[row, place], contexts.c[row, place], value, plan)


def _of_newest_piece(chosen: Tensor, contexts: Contexts, state: SABState) -> Tensor:
    """Which slots (B, S) were written by the piece of each row's newest chosen slot."""
    newest = state.written_at.masked_fill(~chosen, -1).argmax(dim=1, keepdim=True)
    return contexts.piece == contexts.piece.gather(1, newest)


def _credit_slots(
    core: SAB, encode: Encode, contexts: Contexts, row: Tensor, slot: Tensor, gradient: Tensor, *, onward: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Runs the pieces that wrote n slots again, each once, and pushes gradient (n, H) back through them.

    Returns:
        (M, U, H) the gradient of the memories that the pieces read, None unless `onward`; and the row and place of
        each piece, (M,).
    """
    places = contexts.piece.shape[1]
    piece, column = torch.unique(row * places + contexts.piece[row, slot], return_inverse=True)
    row_of, place = piece // places, piece % places
    value = contexts.value[row_of, place].requires_grad_(onward)
    with torch.enable_grad():
        h = rerun_pieces(core, encode, contexts, row_of, place, value).h
    h_gradient = torch.zeros_like(h).index_put_((contexts.offset[row, slot], column), gradient)
    if h.requires_grad:
        torch.autograd.backward(h, h_gradient)
    return value.grad, row_of, place


def pass_on(
    value_gradient: Tensor, row: Tensor, place: Tensor, contexts: Contexts, state: SABState, pending: Tensor
) -> int:
    """Adds the gradient (M, U, H) of what was read to `pending` (B, S, H) where it is still held; counts the others."""
    rows = row.unsqueeze(1)
    slot, written_at = contexts.slot[row, place], contexts.written_at[row, place]
    carries = contexts.used[row, place] & (value_gradient != 0).any(dim=2)
    held = carries & state.filled[rows, slot] & (state.written_at[rows, slot] == written_at)
    pending.index_put_((rows.expand_as(slot), slot), value_gradient * held.unsqueeze(2), accumulate=True)
    return int((carries & ~held).sum())
