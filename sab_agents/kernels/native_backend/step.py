"""One step without gradient in compiled C++, in one call: what acting and streaming do between two inputs.

Dimensions: B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a read touches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, bits, native, new_empty, threads
from sab_agents.kernels.types import StepRules, StepState, StepWeights

REAL, WHOLE, FLAG = torch.float32, torch.int64, torch.bool


def step(
    weights: StepWeights, rules: StepRules, x: Tensor, state: StepState, episode_start: Tensor | None
) -> tuple[Tensor, StepState] | None:
    """Takes one step, or none where an argument is not what the compiled code takes.

    Every call pays for what is checked here, so the check only tells right from wrong; whoever gets None goes the way
    that says what is wrong, or that takes more.
    """
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (*weights, x, *state[:3]) if t is not None)
    if wanted or x.dim() != 2 or state.memory.dim() != 3:
        return None
    (B, inputs), (_, S, H), A = x.shape, state.memory.shape, weights.query_bias.shape[0]
    if not (
        fits(x, (B, inputs), REAL)
        and state_fits(state, B, S, H)
        and weights_fit(weights, inputs, H, A)
        and (episode_start is None or fits(episode_start, (B,), FLAG))
        and rules.slots == S
    ):
        return None
    empty_like = torch.empty_like
    output = new_empty(B, 2 * H)
    new = StepState(*[empty_like(tensor) for tensor in state])
    tensors = (x, *weights, episode_start, *state, output, *new)
    sizes = (threads(B * H * (4 * (H + inputs) + S * A)), B, inputs, H, A, S, rules.top_k + 1, rules.write_every)
    finite = native.step(*sizes, bits(rules.gain), *addresses(*tensors), 0, 0, 0, 0)
    return (output, new) if finite else None


def lstm_step(
    weights: tuple[Tensor, Tensor, Tensor, Tensor], x: Tensor, h: Tensor, c: Tensor, episode_start: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """One step of a plain LSTM, which is a SAB without slots: the new h and c, or none as `step`.

    Args:
        weights: weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H,), bias_hh (4H,).
        x: (B, I) inputs.
        h: (B, H) before the step.
        c: (B, H) before the step.
        episode_start: (B,) bool, rows that begin with zeros; None for none.
    """
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*weights, x, h, c))
    if wanted or x.dim() != 2 or h.dim() != 2:
        return None
    (B, inputs), H = x.shape, h.shape[1]
    shapes = ((4 * H, inputs), (4 * H, H), (4 * H,), (4 * H,), (B, inputs), (B, H), (B, H))
    if not all(fits(*each, REAL) for each in zip((*weights, x, h, c), shapes, strict=True)):
        return None
    if not (episode_start is None or fits(episode_start, (B,), FLAG)):
        return None
    output, new_c = new_empty(B, 2 * H), new_empty(B, H)
    finite = native.step(
        *(threads(B * H * 4 * (H + inputs)), B, inputs, H, 0, 0, 1, 1, 0),
        *addresses(x, *weights, *[None] * 4, episode_start, h, c, *[None] * 4),
        *addresses(output, None, new_c, *[None] * 8),
    )
    return (output[:, :H].contiguous(), new_c) if finite else None


def state_fits(state: StepState, B: int, S: int, H: int) -> bool:
    """Whether each tensor of a state is what the compiled code takes."""
    return (
        fits(state.h, (B, H), REAL)
        and fits(state.c, (B, H), REAL)
        and fits(state.memory, (B, S, H), REAL)
        and fits(state.filled, (B, S), FLAG)
        and fits(state.written_at, (B, S), WHOLE)
        and fits(state.step, (B,), WHOLE)
    )


def weights_fit(weights: StepWeights, inputs: int, H: int, A: int) -> bool:
    """Whether each weight is what the compiled code takes."""
    return (
        fits(weights.weight_ih, (4 * H, inputs), REAL)
        and fits(weights.weight_hh, (4 * H, H), REAL)
        and fits(weights.bias_ih, (4 * H,), REAL)
        and fits(weights.bias_hh, (4 * H,), REAL)
        and fits(weights.key_weight, (A, H), REAL)
        and fits(weights.query_weight, (A, H), REAL)
        and fits(weights.query_bias, (A,), REAL)
        and (weights.score_weight is None or fits(weights.score_weight, (1, A), REAL))
    )


def fits(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether a tensor lies on the CPU without gaps, with this shape and dtype."""
    return tensor.dtype is dtype and tensor.shape == shape and tensor.is_cpu and tensor.is_contiguous()
