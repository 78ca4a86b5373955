"""The backward pass of the scan as one Triton kernel: a program takes ROWS rows through all steps, from the last back.

Dimensions and the rules of the loop as in `sab_agents.kernels.triton_backend.forward`.

Versions belong to one row and are distinct within a read, so what a read sends to them needs no atomic addition.
"""

import triton
import triton.language as tl

from sab_agents.kernels.triton_backend.parts import EPSILON, log_ages, masses, product, tanh
from sab_agents.kernels.triton_backend.scores import through_scores


@triton.jit
def _score_gradients(
    best, agreement, READS: tl.constexpr, RANKS: tl.constexpr, FLOOR: tl.constexpr, SHARPNESS: tl.constexpr
):
    """The gradient of the best scores and their weights, (ROWS, RANKS), from `agreement`, each slot's m_i · ∂loss/∂s.

    With u_i = relu(a_i − θ), Σ = FLOOR + Σg and D = max(Σ, ε): ∂s/∂u_i = ∂g_i/∂u_i · (m_i − [Σ > ε]·s)/D where u_i > 0,
    else 0; a_i receives it, and the score that set θ receives minus their sum.
    """
    above, total, slope, count = masses(best, READS, FLOOR, SHARPNESS)
    divisor = tl.maximum(total, EPSILON)[:, None]
    weight = above / divisor
    through_sum = tl.where(total > EPSILON, tl.sum(weight * agreement, axis=1), 0.0)
    gradient = tl.where(above > 0.0, slope * (agreement - through_sum[:, None]) / divisor, 0.0)
    at_threshold = tl.arange(0, RANKS)[None, :] == (count - 1)[:, None]
    return tl.where(at_threshold, gradient - tl.sum(gradient, axis=1)[:, None], gradient), weight


@triton.jit
def _through_gate(query, summary, grad_query, grad_state, gate_at, state_at, in_state):
    """Stores the gradient of what opened the gate; returns that of s by h = ĥ + g · s."""
    opened = tl.load(query + gate_at, mask=in_state, other=0.0)
    read = tl.load(summary + state_at, mask=in_state, other=0.0).to(tl.float32)
    tl.store(grad_query + gate_at, grad_state * read * opened * (1.0 - opened), mask=in_state)
    return opened * grad_state


@triton.jit
def _send_to_keys(
    grad_keys,
    keys,
    query,
    vector,
    grad_vector,
    grad_score,
    of,
    found,
    asked_at,
    in_query,
    scale,
    A: tl.constexpr,
    NARROW: tl.constexpr,
    SCORE: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """Adds to the gradient of the keys of versions `of` (ROWS, RANKS); returns that of the query and of w₃ so far."""
    a = tl.arange(0, NARROW)[None, None, :]
    asked = tl.load(query + asked_at, mask=in_query, other=0.0)[:, None, :]
    place, inside = of[:, :, None] * A + a, found[:, :, None] & (a < A)
    key = tl.load(keys + place, mask=inside, other=0.0).to(tl.float32)
    by_key, by_query, by_vector = through_scores(grad_score[:, :, None], key, asked, vector, scale, SCORE)
    if VECTOR:
        grad_vector += tl.sum(by_vector, axis=1)
    tl.store(grad_keys + place, tl.load(grad_keys + place, mask=inside, other=0.0) + by_key, mask=inside)
    return tl.sum(by_query, axis=1), grad_vector


@triton.jit
def _through_cell(gates, cell, at, grad_out, grad_cell, grad_gates, in_state, B, H: tl.constexpr, WIDE: tl.constexpr):
    """Stores the gradient of the pre-activations of i, f, g and o; returns that of c before the step, without cuts."""
    column = tl.arange(0, WIDE)[None, :]
    own, state = at[:, None] * (4 * H) + column, at[:, None] * H + column
    i = tl.load(gates + own, mask=in_state, other=0.0).to(tl.float32)
    f = tl.load(gates + own + H, mask=in_state, other=0.0).to(tl.float32)
    g = tl.load(gates + own + 2 * H, mask=in_state, other=0.0).to(tl.float32)
    o = tl.load(gates + own + 3 * H, mask=in_state, other=0.0).to(tl.float32)
    before = tl.load(cell + state, mask=in_state, other=0.0)
    tanh_cell = tanh(tl.load(cell + state + B * H, mask=in_state, other=0.0))
    grad_cell += grad_out * o * (1.0 - tanh_cell * tanh_cell)
    tl.store(grad_gates + own, grad_cell * g * i * (1.0 - i), mask=in_state)
    tl.store(grad_gates + own + H, grad_cell * before * f * (1.0 - f), mask=in_state)
    tl.store(grad_gates + own + 2 * H, grad_cell * i * (1.0 - g * g), mask=in_state)
    tl.store(grad_gates + own + 3 * H, grad_out * tanh_cell * o * (1.0 - o), mask=in_state)
    return grad_cell * f


@triton.jit(do_not_specialize=["T", "B", "HELD"])
def backward(  # noqa: PLR0915
    weight_hh,
    query_weight,
    key_weight,
    score_weight,
    cuts,
    write_slot,
    gates,
    cell,
    query,
    keys,
    scores,
    summary,
    hidden,
    first_ages,
    versions,
    grad_summary,
    grad_cell,
    grad_gates,
    grad_versions,
    grad_states,
    grad_keys,
    grad_query,
    grad_vector,
    scale,
    T,
    B,
    HELD,
    H: tl.constexpr,
    A: tl.constexpr,
    Q: tl.constexpr,
    READS: tl.constexpr,
    SCORE: tl.constexpr,
    VECTOR: tl.constexpr,
    AGE: tl.constexpr,
    GATE: tl.constexpr,
    APART: tl.constexpr,
    GAIN: tl.constexpr,
    FLOOR: tl.constexpr,
    SHARPNESS: tl.constexpr,
    CREDIT: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    NARROW: tl.constexpr,
    RANKS: tl.constexpr,
    TERMS: tl.constexpr,
    DOT: tl.constexpr,
    DOT_TYPE: tl.constexpr,
):
    """Takes rows program · ROWS … through all steps. What it takes and leaves: `launch.py`."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live, row = rows < B, rows.to(tl.int64)
    column, a, rank = tl.arange(0, WIDE)[None, :], tl.arange(0, NARROW)[None, :], tl.arange(0, RANKS)[None, :]
    in_state, in_query, in_read = live[:, None] & (column < H), live[:, None] & (a < A), live[:, None] & (rank < READS)
    vector, of_vector = tl.zeros((NARROW,), tl.float32), tl.zeros((ROWS, NARROW), tl.float32)
    if VECTOR:
        vector = tl.load(score_weight + tl.arange(0, NARROW), mask=tl.arange(0, NARROW) < A, other=0.0).to(tl.float32)
    of_cell = tl.load(grad_cell + row[:, None] * H + column, mask=in_state, other=0.0)

    for step in range(T):
        t = T - 1 - step
        at = row + t * B
        version = at + HELD * B
        stored = tl.load(grad_versions + version[:, None] * H + column, mask=in_state, other=0.0)
        if CREDIT:
            writes = tl.load(write_slot + at, mask=live, other=-1) >= 0
            if tl.max(writes.to(tl.int32), axis=0) > 0:
                stored += product(grad_keys + version * A, writes, key_weight, A, H, ROWS, TERMS, WIDE, DOT, DOT_TYPE)
        of_summary = tl.load(grad_summary + at[:, None] * H + column, mask=in_state, other=0.0).to(tl.float32)
        state = stored
        if APART:
            state = tl.load(grad_states + at[:, None] * H + column, mask=in_state, other=0.0)
            stored += state
        if GATE:
            gate_at, state_at = at[:, None] * Q + (Q - H) + column, at[:, None] * H + column
            of_summary += _through_gate(query, summary, grad_query, state, gate_at, state_at, in_state)
        else:
            of_summary += GAIN * state

        best = tl.load(scores + at[:, None] * READS + rank, mask=in_read, other=float("-inf"))
        read = tl.load(versions + at[:, None] * READS + rank, mask=in_read, other=-1)
        found, of = read >= 0, read * B + row[:, None]
        place, inside = of[:, :, None] * H + column[:, None, :], found[:, :, None] & (column < H)[:, None, :]
        values = tl.load(hidden + place, mask=inside, other=0.0).to(tl.float32)
        agreement = tl.sum(values * of_summary[:, None, :], axis=2)
        grad_score, weight = _score_gradients(best, agreement, READS, RANKS, FLOOR, SHARPNESS)
        if CREDIT:
            sent = weight[:, :, None] * of_summary[:, None, :]
            tl.store(grad_versions + place, tl.load(grad_versions + place, mask=inside, other=0.0) + sent, mask=inside)
        if AGE:
            of_rate = tl.sum(grad_score * log_ages(read, found, row, first_ages, t, HELD, AGE), axis=1)
            tl.store(grad_query + at * Q + A, -of_rate, mask=live)
        asked_at = at[:, None] * Q + a
        of_query, of_vector = _send_to_keys(
            grad_keys,
            keys,
            query,
            vector,
            of_vector,
            grad_score,
            of,
            found,
            asked_at,
            in_query,
            scale,
            A,
            NARROW,
            SCORE,
            VECTOR,
        )
        tl.store(grad_query + asked_at, of_query, mask=in_query)
        tl.debug_barrier()  # the query's gradient is there, and what was sent to versions

        out = stored + product(grad_query + at * Q, live, query_weight, Q, H, ROWS, TERMS, WIDE, DOT, DOT_TYPE)
        of_cell = _through_cell(gates, cell, at, out, of_cell, grad_gates, in_state, B, H, WIDE)
        entered = live & (tl.load(cuts + at, mask=live, other=1) == 0)
        of_cell = tl.where(entered[:, None], of_cell, 0.0)
        tl.debug_barrier()  # the gates' gradient is there
        if tl.max(entered.to(tl.int32), axis=0) > 0:
            before = row + tl.where(t == 0, T, t - 1) * B
            of_before = product(
                grad_gates + at * (4 * H), entered, weight_hh, 4 * H, H, ROWS, TERMS, WIDE, DOT, DOT_TYPE
            )
            to, wanted = grad_states + before[:, None] * H + column, entered[:, None] & (column < H)
            tl.store(to, tl.load(to, mask=wanted, other=0.0) + of_before, mask=wanted)
        tl.debug_barrier()  # the gradient of the state before is there

    tl.store(grad_cell + row[:, None] * H + column, of_cell, mask=in_state)
    if VECTOR:
        tl.store(grad_vector + row[:, None] * A + a, of_vector, mask=in_query)
