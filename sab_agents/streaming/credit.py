"""Credit by replays: from the gradient that reached a memory to the parameters that made it, and what is refreshed.

Dimensions: B rows, S slots, which are also the places for pieces, M pieces that are replayed, U memories that a piece
read, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sab_agents.core.state import SABState
from sab_agents.kernels import Contexts, StepWeights, StreamKernel, replay_inputs, scan
from sab_agents.kernels.stream_types import StreamRules
from sab_agents.kernels.types import ScanPlan
from sab_agents.streaming.base import Encode
from sab_agents.streaming.window import Credit


class GradientNorms(NamedTuple):
    """Norms of what a core's parameters receive.

    Attributes:
        window: of the gradient from the steps of the window.
        credit: of what credit added to it for the steps before.
    """

    window: float
    credit: float


def credited(core: nn.Module, credit: Callable[[], Credit]) -> tuple[Credit, GradientNorms]:
    """Passes credit on, and returns it with the norms of the core's gradient before and of what it added.

    Args:
        core: whose window was backpropagated.
        credit: of a stream or a window, which adds to the parameters' `.grad`.
    """
    parameters = [parameter for parameter in core.parameters() if parameter.requires_grad]
    before = _gradient(parameters)
    found = credit()
    added = _gradient(parameters) - before
    return found, GradientNorms(float(before.norm()), float(added.norm()))


def _gradient(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Returns a copy of all gradients side by side."""
    parts = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    return torch.cat([part.detach().view(-1) for part in parts]) if parts else torch.zeros(1)


def push_credit(
    kernel: StreamKernel,
    weights: StepWeights,
    encode: Encode,
    state: SABState,
    gradient: Tensor,
    depth: int | None,
) -> Credit:
    """Backpropagates the gradient with respect to a memory into the steps that wrote it.

    Each slot that received gradient has its piece replayed with today's weights, which adds to the `.grad` of the
    parameters of the core and of the encoder, and sends gradient to the memories that the piece had read.

    Args:
        kernel: with the contexts of the memory.
        weights: of the core.
        encode: makes inputs of what was observed; an `nn.Identity` for none.
        state: the state whose memory received the gradient.
        gradient: (B, S, H) ∂loss/∂memory, which is overwritten.
        depth: how many links are followed: 0 none, 1 the pieces of the slots themselves, d further reads; None all
            that lead to memories still held. Reads inside a piece are part of its replay and do not count.

    Returns:
        What was credited.
    """
    pending = gradient.detach().contiguous()
    norm = torch.zeros_like(state.filled, dtype=pending.dtype)
    pieces = dropped = level = 0
    while depth is None or level < depth:
        chosen = kernel.select(pending, state.filled, state.written_at, norm, newest=depth is None)
        if chosen.count == 0:
            break
        level += 1
        onward = level != depth
        if isinstance(encode, nn.Identity):
            sent = kernel.replay_pieces(weights, chosen, pending, onward=onward)
        else:
            inputs = chosen.gather(pending)
            with torch.enable_grad():
                x = encode(inputs.observation.flatten(0, 1)).view(*inputs.observation.shape[:2], -1)
            sent = replay_inputs(weights, kernel.rules, inputs, x, onward=onward)
        if sent is not None:
            dropped += _pass_on(sent, chosen.row, chosen.place, kernel.contexts, state, pending)
        pieces += chosen.count
    return Credit(norm, pieces, dropped)


def _pass_on(sent: Tensor, row: Tensor, place: Tensor, contexts: Contexts, state: SABState, pending: Tensor) -> int:
    """Adds the gradient (M, U, H) of what was read to `pending` (B, S, H) where it is still held; counts the others."""
    rows = row.unsqueeze(1)
    slot, written_at = contexts.slot[row, place], contexts.written_at[row, place]
    carries = contexts.used[row, place] & (sent != 0).any(dim=2)
    held = carries & state.filled[rows, slot] & (state.written_at[rows, slot] == written_at)
    pending.index_put_((rows.expand_as(slot), slot), sent * held.unsqueeze(2), accumulate=True)
    return int((carries & ~held).sum())


@torch.no_grad()
def refresh_memory(
    rules: StreamRules, weights: StepWeights, encode: Encode, contexts: Contexts, state: SABState
) -> None:
    """Recomputes what every slot holds from its context with today's weights, oldest first; changes state and contexts.

    What a piece had read is taken from the slots that still hold it, recomputed, and from the old copy otherwise. The
    hidden and cell state before a piece stay as they were.
    """
    memory = state.memory
    for row, place in _oldest_first(contexts, state):
        rows = row.unsqueeze(1)
        slot, written_at = contexts.slot[row, place], contexts.written_at[row, place]
        held = contexts.used[row, place] & state.filled[rows, slot] & (state.written_at[rows, slot] == written_at)
        value = torch.where(held.unsqueeze(2), memory[rows, slot], contexts.value[row, place])
        contexts.value.index_put_((row, place), value)
        observation = contexts.observation[row, place].transpose(0, 1)
        x = encode(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        target = contexts.target[row, place].t()
        written = state.filled[row] & (contexts.piece[row] == place.unsqueeze(1))
        began = (state.written_at[row] - contexts.offset[row]).masked_fill(~written, 0).amax(dim=1)
        plan = ScanPlan(
            start=torch.zeros_like(target, dtype=torch.bool),
            cut=torch.zeros_like(target, dtype=torch.bool),
            write_slot=target,
            filled=contexts.used[row, place],
            slots=value.shape[1] + len(target),
            reading=rules.reading,
            step=began,
            written_at=written_at,
        )
        stored = scan(weights, x, contexts.h[row, place], contexts.c[row, place], value, plan).stored
        column, slots = written.nonzero(as_tuple=True)
        at = row[column], slots
        memory.index_put_(at, stored[contexts.offset[at], column])


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
