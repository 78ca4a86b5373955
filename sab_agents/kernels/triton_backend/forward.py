"""The forward pass of the scan as one Triton kernel: a program takes ROWS rows through all steps, alone.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, READS = K + 1 slots that a read touches, HELD
slots of the starting memory, V = HELD + T + 1 versions, of which the last is the hidden state before the first step.
Padded to powers of two: WIDE for H, NARROW for A, PLACES for S, RANKS for READS.

Rows never meet, so there is no barrier between programs and the loop over steps lies inside. Weights are read again at
every step: up to some 200 KB of them stay in the processor's first-level cache (H = 128 in bfloat16), larger ones come
from the second. For 16 rows and more in a program products run on tensor cores; for fewer, as sums of elementwise
products, since a block of a tensor core would be mostly empty.

What one thread stores and another loads passes through global memory, in order by `tl.debug_barrier`. The loop must not
be pipelined for that reason: the launch asks for one stage.
"""

import triton
import triton.language as tl

from sab_agents.kernels.triton_backend.parts import (
    EPSILON,
    add_products,
    log_ages,
    masses,
    no_sum,
    product,
    summed,
    tanh,
)
from sab_agents.kernels.triton_backend.scores import scores_of


@triton.jit
def _pre_activations(
    gates_in,
    at,
    before,
    live,
    entered,
    weight_hh,
    H: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    TERMS: tl.constexpr,
    DOT: tl.constexpr,
    DOT_TYPE: tl.constexpr,
):
    """Of the gates i, f, g and o, (ROWS, WIDE) each: gates_in + h · weight_hh (H, 4H), with h = 0 unless `entered`."""
    column = tl.arange(0, WIDE)[None, :]
    i, f = no_sum(ROWS, TERMS, WIDE, DOT), no_sum(ROWS, TERMS, WIDE, DOT)
    g, o = no_sum(ROWS, TERMS, WIDE, DOT), no_sum(ROWS, TERMS, WIDE, DOT)
    for first in range(0, H, TERMS):
        term = first + tl.arange(0, TERMS)
        left = tl.load(before[:, None] + term[None, :], mask=entered[:, None] & (term < H)[None, :], other=0.0)
        inside = (term < H)[:, None] & (column < H)
        weight = weight_hh + term[:, None] * (4 * H) + column
        i = add_products(i, left, weight, inside, DOT, DOT_TYPE)
        f = add_products(f, left, weight + H, inside, DOT, DOT_TYPE)
        g = add_products(g, left, weight + 2 * H, inside, DOT, DOT_TYPE)
        o = add_products(o, left, weight + 3 * H, inside, DOT, DOT_TYPE)
    own, mask = gates_in + at[:, None] * (4 * H) + column, live[:, None] & (column < H)
    return (
        summed(i, DOT) + tl.load(own, mask=mask, other=0.0).to(tl.float32),
        summed(f, DOT) + tl.load(own + H, mask=mask, other=0.0).to(tl.float32),
        summed(g, DOT) + tl.load(own + 2 * H, mask=mask, other=0.0).to(tl.float32),
        summed(o, DOT) + tl.load(own + 3 * H, mask=mask, other=0.0).to(tl.float32),
    )


@triton.jit
def _score_slots(
    scores,
    table,
    keys,
    query,
    rate,
    vector,
    first_ages,
    scale,
    row,
    live,
    oldest,
    extent,
    t,
    B,
    S,
    HELD,
    A: tl.constexpr,
    NARROW: tl.constexpr,
    SLOTS: tl.constexpr,
    SCORE: tl.constexpr,
    AGE: tl.constexpr,
):
    """Stores the score of slots 0 … extent − 1, SLOTS at a time: −inf where the slot holds nothing of this episode.

    With AGE, rate (ROWS,) times log(1 + age / AGE) is subtracted.
    """
    a = tl.arange(0, NARROW)[None, None, :]
    for first in range(0, extent, SLOTS):
        slot = first + tl.arange(0, SLOTS)[None, :]
        place, looked_at = row[:, None] * S + slot, live[:, None] & (slot < extent)
        version = tl.load(table + place, mask=looked_at, other=-1)
        filled = version >= oldest[:, None]
        of = (version.to(tl.int64) * B + row[:, None])[:, :, None]
        key = tl.load(keys + of * A + a, mask=filled[:, :, None] & (a < A), other=0.0).to(tl.float32)
        score = scores_of(key, query[:, None, :], vector, scale, SCORE)
        if AGE:
            score -= rate[:, None] * log_ages(version, filled, row, first_ages, t, HELD, AGE)
        tl.store(scores + place, tl.where(filled, score, float("-inf")), mask=looked_at)


@triton.jit
def _rank_slots(
    scores,
    row,
    live,
    extent,
    S,
    READS: tl.constexpr,
    ROWS: tl.constexpr,
    PLACES: tl.constexpr,
    RANKS: tl.constexpr,
):
    """The best READS scores (ROWS, RANKS), falling, −inf where there are fewer; their slots; NaN where a score is."""
    slot, rank = tl.arange(0, PLACES)[None, :], tl.arange(0, RANKS)[None, :]
    left = tl.load(scores + row[:, None] * S + slot, mask=live[:, None] & (slot < extent), other=float("-inf"))
    # A comparison with NaN says nothing about it: it is taken out of the ranking and spoils the summary instead.
    is_number = left == left  # noqa: PLR0124
    broken = tl.sum(tl.where(is_number, 0.0, float("nan")), axis=1)
    left = tl.where(is_number, left, float("-inf"))
    best = tl.full((ROWS, RANKS), float("-inf"), tl.float32)
    chosen = tl.zeros((ROWS, RANKS), tl.int32)
    for r in range(tl.minimum(extent, READS)):
        top, where = tl.max(left, axis=1, return_indices=True)
        best = tl.where(rank == r, top[:, None], best)
        chosen = tl.where(rank == r, where[:, None], chosen)
        left = tl.where(slot == where[:, None], float("-inf"), left)
    return best, chosen, broken


@triton.jit(do_not_specialize=["T", "B", "S", "HELD"])
def forward(  # noqa: PLR0912, PLR0915
    gates_in,
    weight_hh,
    query_weight,
    age_weight,
    gate_weight,
    query_bias,
    key_weight,
    score_weight,
    cell_in,
    first_ages,
    starts,
    write_slot,
    extents,
    table,
    slot_scores,
    gates,
    cell,
    output,
    query,
    keys,
    scores,
    summary,
    hidden,
    states,
    versions,
    weights,
    last_cell,
    scale,
    T,
    B,
    S,
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
    KEEP: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    NARROW: tl.constexpr,
    PLACES: tl.constexpr,
    RANKS: tl.constexpr,
    SLOTS: tl.constexpr,
    GATE_TERMS: tl.constexpr,
    TERMS: tl.constexpr,
    DOT: tl.constexpr,
    DOT_TYPE: tl.constexpr,
):
    """Takes rows program · ROWS … through all steps. What it takes and leaves: `launch.py`."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live, row = rows < B, rows.to(tl.int64)
    column, a, rank = tl.arange(0, WIDE)[None, :], tl.arange(0, NARROW), tl.arange(0, RANKS)[None, :]
    in_state, in_read = live[:, None] & (column < H), live[:, None] & (rank < READS)
    in_query = live[:, None] & (a < A)[None, :]
    bias = tl.load(query_bias + a, mask=a < A, other=0.0).to(tl.float32)
    vector = bias
    if VECTOR:
        vector = tl.load(score_weight + a, mask=a < A, other=0.0).to(tl.float32)
    rate, opened = tl.zeros((ROWS,), tl.float32), tl.full((ROWS, WIDE), GAIN, tl.float32)
    if AGE:
        by_age = tl.load(age_weight + column, mask=column < H, other=0.0).to(tl.float32)
        age_bias = tl.load(query_bias + A).to(tl.float32)
    if GATE:
        gate_bias = tl.load(query_bias + (Q - H) + column, mask=column < H, other=0.0).to(tl.float32)
    c = tl.load(cell_in + row[:, None] * H + column, mask=in_state, other=0.0).to(tl.float32)
    if KEEP:
        tl.store(cell + row[:, None] * H + column, c, mask=in_state)
    oldest = tl.zeros((ROWS,), tl.int32)  # versions before it belong to an earlier episode

    for t in range(T):
        at = row + t * B
        kept = at if KEEP else row
        start = tl.load(starts + at, mask=live, other=0) != 0
        oldest = tl.where(start, HELD + t, oldest)
        before = row + tl.where(t == 0, T, t - 1) * B
        i, f, g, o = _pre_activations(
            gates_in, at, states + before * H, live, live & ~start, weight_hh, H, ROWS, WIDE, GATE_TERMS, DOT, DOT_TYPE
        )
        # A forget gate of 0 empties c, and keeps its gradient 0 in the backward pass.
        i, f, g, o = tl.sigmoid(i), tl.where(start[:, None], 0.0, tl.sigmoid(f)), tanh(g), tl.sigmoid(o)
        c = f * c + i * g
        if KEEP:
            own = gates + at[:, None] * (4 * H) + column
            tl.store(own, i, mask=in_state)
            tl.store(own + H, f, mask=in_state)
            tl.store(own + 2 * H, g, mask=in_state)
            tl.store(own + 3 * H, o, mask=in_state)
            tl.store(cell + (at + B)[:, None] * H + column, c, mask=in_state)
        out = o * tanh(c)
        tl.store(output + kept[:, None] * H + column, out, mask=in_state)
        tl.debug_barrier()  # ĥ is there for the query, and what the last step wrote for the scores

        asked = product(output + kept * H, live, query_weight, H, A, ROWS, TERMS, NARROW, DOT, DOT_TYPE)
        asked += bias[None, :]
        if KEEP:
            tl.store(query + at[:, None] * Q + a[None, :], asked, mask=in_query)
        if AGE:
            rate = tl.sum(out * by_age, axis=1) + age_bias
        if GATE:
            opened = product(output + kept * H, live, gate_weight, H, H, ROWS, TERMS, WIDE, DOT, DOT_TYPE)
            opened = tl.sigmoid(opened + gate_bias)
            if KEEP:
                tl.store(query + at[:, None] * Q + (Q - H) + column, opened, mask=in_state)
        extent = tl.load(extents + t)
        _score_slots(
            slot_scores,
            table,
            keys,
            asked,
            rate,
            vector,
            first_ages,
            scale,
            row,
            live,
            oldest,
            extent,
            t,
            B,
            S,
            HELD,
            A,
            NARROW,
            SLOTS,
            SCORE,
            AGE,
        )
        tl.debug_barrier()  # the scores are there
        best, chosen, broken = _rank_slots(slot_scores, row, live, extent, S, READS, ROWS, PLACES, RANKS)

        found = best > float("-inf")
        version = tl.load(table + row[:, None] * S + chosen, mask=live[:, None] & found, other=-1)
        above, total, _, _ = masses(best, READS, FLOOR, SHARPNESS)
        weight = above / tl.maximum(total, EPSILON)[:, None] + broken[:, None]
        of = (version.to(tl.int64) * B + row[:, None])[:, :, None]
        inside = (live[:, None] & found)[:, :, None] & (column < H)[:, None, :]
        values = tl.load(hidden + of * H + column[:, None, :], mask=inside, other=0.0).to(tl.float32)
        read = tl.sum(weight[:, :, None] * values, axis=1)
        tl.store(summary + at[:, None] * H + column, read, mask=in_state)
        stored = hidden + (at + HELD * B) * H
        tl.store(states + at[:, None] * H + column, out + opened * read, mask=in_state)
        if APART:
            tl.store(stored[:, None] + column, out, mask=in_state)
        place = at[:, None] * READS + rank
        tl.store(versions + place, version.to(tl.int64), mask=in_read)
        tl.store(weights + place, weight, mask=in_read)
        if KEEP:
            tl.store(scores + place, best, mask=in_read)

        slot = tl.load(write_slot + at, mask=live, other=-1)
        writes = (slot >= 0) & (slot < S)
        tl.debug_barrier()  # what is stored is there for its key, and h for the next step
        if tl.max(writes.to(tl.int32), axis=0) > 0:
            key = product(stored, live, key_weight, H, A, ROWS, TERMS, NARROW, DOT, DOT_TYPE)
            to = keys + (at + HELD * B)[:, None] * A + a[None, :]
            tl.store(to, key, mask=in_query & writes[:, None])
            tl.store(table + row * S + slot, HELD + t, mask=writes)

    tl.store(last_cell + row[:, None] * H + column, c, mask=in_state)
