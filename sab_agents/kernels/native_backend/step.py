"""One step without gradient with the native kernel, in one call: what acting and streaming do between two inputs.

Dimensions: B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a read touches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.extension import FLAG, REAL, SCORES, fits, native, new_empty, threads
from sab_agents.kernels.native_backend.run import LSTMWeights, state_fits, weights_fit
from sab_agents.kernels.types import NOTHING_READ, StepRules, StepState, StepWeights


def step(
    weights: StepWeights, rules: StepRules, x: Tensor, state: StepState, episode_start: Tensor | None
) -> tuple[Tensor, StepState] | None:
    """Takes one step, and returns its output and the new state; None if the native kernel cannot take an argument.

    Every call pays for what is checked here, so the check only tells right from wrong; a caller that gets None computes
    the step in a way that says what is wrong, or that takes more.
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
        and rules.reading.score in SCORES
    ):
        return None
    empty_like = torch.empty_like
    output = x.new_empty(B, 2 * H)
    new = StepState(*[empty_like(tensor) for tensor in state])
    finite = native.Step(
        threads=threads(B * H * (4 * (H + inputs) + S * A)),
        rows=B,
        input=inputs,
        size=H,
        attention=A,
        slots=S,
        reads=rules.reading.ranks,
        write_every=rules.write_every,
        score=SCORES.index(rules.reading.score),
        gain=rules.reading.gain,
        floor=rules.reading.floor,
        sharpness=rules.reading.sharpness,
        age_scale=rules.reading.age_scale,
        apart=rules.reading.apart,
        x=x,
        projection=weights,
        recurrence=weights,
        start=episode_start,
        state=state,
        output=output,
        new_c=new.c,
        new_state=new,
        read_slot=None,
        weight=None,
        stored=None,
        novelty=None,
        last=0,
        near=None,
    ).run()
    return (output, new) if finite else None


def lstm_step(
    weights: tuple[Tensor, Tensor, Tensor, Tensor], x: Tensor, h: Tensor, c: Tensor, episode_start: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Takes one step of an LSTM, which is a SAB without slots, and returns the new h and c; or None, as `step`.

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
    network = LSTMWeights(*weights)
    finite = native.Step(
        threads=threads(B * H * 4 * (H + inputs)),
        rows=B,
        input=inputs,
        size=H,
        attention=0,
        slots=0,
        reads=1,
        write_every=1,
        score=SCORES.index(NOTHING_READ.score),
        gain=0.0,
        floor=0.0,
        sharpness=0.0,
        age_scale=NOTHING_READ.age_scale,
        apart=False,
        x=x,
        projection=network,
        recurrence=network,
        start=episode_start,
        state=LSTMState(h, c),
        output=output,
        new_c=new_c,
        new_state=None,
        read_slot=None,
        weight=None,
        stored=None,
        novelty=None,
        last=0,
        near=None,
    ).run()
    return (output.narrow(1, 0, H).contiguous(), new_c) if finite else None


class LSTMState(NamedTuple):
    """The state of an LSTM, as that of a SAB without slots whose steps nobody counts."""

    h: Tensor
    c: Tensor
    memory: tuple[()] = ()
    filled: tuple[()] = ()
    written_at: tuple[()] = ()
    step: tuple[()] = ()
