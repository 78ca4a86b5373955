"""The work that `sab-agents bench scaling` times: each side at one size, for one pass, from a memory that is full.

Dimensions: T steps, B rows, H hidden size (inputs have size H too), S slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents import SAB, SABState
from sab_agents.core.attention import KINDS
from sab_agents.train.bench.core import PlainLoopSAB

LSTM = "nn.LSTM"
SABS = tuple(f"SAB {kind}" for kind in KINDS)
PLAIN_LOOPS = tuple(f"plain loop {kind}" for kind in KINDS)

INFERENCE, CHUNKED, TRAINING = "inference", "inference in chunks", "forward + backward"
CHUNK = 1000
"""Steps of one call when a long stream is passed in pieces and the state is carried from each to the next."""


@dataclass(frozen=True)
class Size:
    """The size of one measurement: T, B, H, S."""

    steps: int
    batch: int
    hidden_size: int
    slots: int


def make_work(side: str, what: str, size: Size, settings: dict[str, Any]) -> Callable[[], Sequence[Tensor]]:
    """Returns a function that runs one side, and returns the tensors that a user gets from its last call.

    Args:
        side: `LSTM`, or one of `SABS` or `PLAIN_LOOPS`.
        what: `INFERENCE`, without gradient and in one call; `CHUNKED`, in calls of at most `CHUNK` steps whose outputs
            are dropped, as for a stream; or `TRAINING`, in one call, with the gradients of all parameters.
        size: of the measurement.
        settings: SAB's, without its capacity.
    """
    T, B, H, S = astuple(size)
    torch.manual_seed(0)
    x = torch.randn(T, B, H)
    module: nn.Module
    state: Any = None
    if side == LSTM:
        module = nn.LSTM(H, H)
    else:
        kind = next(kind for kind in KINDS if side.endswith(kind))
        module = (PlainLoopSAB if side in PLAIN_LOOPS else SAB)(H, H, attention=kind, capacity=S, **settings)
        state = _full(module.initial_state(B), module.rules.write_every)

    def train() -> Sequence[Tensor]:
        module.zero_grad(set_to_none=True)
        output, last = module(x, state)
        output.sum().backward()
        return output, *_tensors(last)

    @torch.no_grad()
    def infer() -> Sequence[Tensor]:
        output, last = x, state
        for part in torch.split(x, CHUNK if what == CHUNKED else T):
            del output
            output, last = module(part, last)
        return output, *_tensors(last)

    return train if what == TRAINING else infer


def _full(state: SABState, write_every: int) -> SABState:
    """Returns the state with a memory whose slots are all filled, so that the first step costs as much as the last."""
    written_at = torch.arange(1, state.slots + 1) * write_every - 1
    return replace(
        state,
        memory=torch.empty_like(state.memory).uniform_(-1, 1),
        filled=torch.ones_like(state.filled),
        written_at=written_at.repeat(state.batch_size, 1),
        step=torch.full_like(state.step, state.slots * write_every),
    )


def _tensors(state: SABState | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return state.tensors() if isinstance(state, SABState) else state
