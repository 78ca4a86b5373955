"""The steps of a stream in plain torch: what the network computes, which slot a step writes to, what is carried on.

A step is made of operations that can be exported.

Dimensions: B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a
step touches, M pieces that are replayed, L = bptt_steps, U = L·R memories that a piece reads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sab_agents.kernels.stream_types import Contexts, PieceInputs, StreamRules, StreamState, StreamStep
from sab_agents.kernels.torch_backend.attention import threshold, weighed
from sab_agents.kernels.torch_backend.output_gate import opened
from sab_agents.kernels.torch_backend.scores import SCORES
from sab_agents.kernels.types import StepWeights

PART = 4
"""The rules that go by usage and credit never take the newest S / 4 slots; by usefulness only the oldest S / 4 are."""

LONG_AGO = 16
"""The rule that goes by usefulness counts ages up to 16 · S, so that a slot can be held however long it takes."""

COUNTS_WRITES = ("reservoir", "least_useful")
"""Rules that go by how much was written in this episode and in all."""

NEVER = torch.iinfo(torch.int64).max


def act(weights: StepWeights, rules: StreamRules, x: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
    """Takes one step of independent rows from inputs x (B, I): outputs (B, 2H) and the state after it."""
    step = computed(weights, rules, x, state)
    return step.output, taken(step, state, rules)[0]


def computed(weights: StepWeights, rules: StreamRules, x: Tensor, state: StreamState) -> StreamStep:
    """Returns the step with inputs x (B, I); the state stays as it was."""
    hidden, c = torch.lstm_cell(
        x, (state.h, state.c), weights.weight_ih, weights.weight_hh, weights.bias_ih, weights.bias_hh
    )
    keys = functional.linear(state.memory, weights.key_weight)
    query = functional.linear(hidden, weights.query_weight, weights.query_bias)
    vector = None if weights.score_weight is None else weights.score_weight.squeeze(0)
    reading, reads = rules.reading, rules.reading.ranks
    scores = SCORES[reading.score].of(keys, query, vector)
    if reading.age:
        rate = functional.linear(hidden, weights.age_weight, weights.age_bias)  # type: ignore[arg-type]
        age = (state.step.unsqueeze(1) - state.written_at - 1).clamp(min=0)
        scores = scores - rate * torch.log1p(age.to(scores.dtype) / reading.age_scale)
    scores = scores.masked_fill(~state.filled, -torch.inf)
    if scores.shape[1] < reads:
        scores = functional.pad(scores, (0, reads - scores.shape[1]), value=-torch.inf)
    best, slot = scores.topk(reads, dim=1)
    there = best > -torch.inf
    weight = weighed(best, threshold(best, full=False), reading.floor, reading.sharpness)
    index = slot.masked_fill(~there, 0).unsqueeze(2).expand(-1, -1, hidden.shape[1])
    summary = (weight.unsqueeze(2) * state.memory.gather(1, index)).sum(dim=1)
    if reading.gate:
        gate = torch.sigmoid(functional.linear(hidden, weights.gate_weight, weights.gate_bias))  # type: ignore[arg-type]
        h = hidden + gate * summary
    else:
        h = hidden + reading.gain * summary
    leaving = summary
    if reading.output_gate:
        leaving = summary * opened(h, weights.output_gate_weight, weights.output_gate_bias)
    stored = hidden if reading.apart else h
    return StreamStep(
        output=torch.cat([h, leaving], dim=1),
        c=c,
        read_slot=slot.masked_fill(~there, -1),
        weight=weight,
        stored=hidden if reading.apart else None,
        near=None if rules.novelty is None else near_slot(stored, state.memory, looked_at(rules, state), rules.novelty),
    )


def looked_at(rules: StreamRules, state: StreamState) -> Tensor:
    """The slots (B, S) with which a write is compared: all that are filled, or the one written last."""
    if not rules.last:
        return state.filled
    written_at = state.written_at.masked_fill(~state.filled, -1)
    return state.filled & (written_at == written_at.amax(dim=1, keepdim=True))


def near_slot(h: Tensor, memory: Tensor, filled: Tensor, novelty: float) -> Tensor:
    """The slot nearest to each row's h (B, H), (B,) int64; −1 if it is farther than novelty · ‖h‖, or none is held."""
    # By differences: of near vectors, products keep no digit of the distance in float32.
    distance = (memory - h.unsqueeze(1)).norm(dim=2).masked_fill(~filled, torch.inf)
    least, slot = distance.min(dim=1)
    nearest: Tensor = slot.masked_fill(least > novelty * h.norm(dim=1), -1)
    return nearest


def taken(step: StreamStep, state: StreamState, rules: StreamRules) -> tuple[StreamState, Tensor]:
    """Returns the state after a step, and the slots (B,) that it wrote to, −1 for none.

    Usage and credit decay, and each read adds its weight to the usage of its slot, before a slot is chosen; one that is
    written to begins with zeros.
    """
    count, read = state.step + 1, step.read_slot.clamp(min=0)
    usage = (state.usage * rules.decay).scatter_add(1, read, step.weight)
    credit = state.credit * rules.decay
    writing = count % rules.write_every == 0
    h = step.output[:, : state.h.shape[1]]
    near = torch.full_like(count, -1) if step.near is None else step.near.masked_fill(~writing, -1)
    again, writing = near >= 0, writing & (near < 0)
    writes, draws = state.writes, state.draws
    if rules.eviction in COUNTS_WRITES:
        writes, draws = writes + writing, draws + writing
    if rules.eviction == "reservoir":
        slot = reservoir_slot(state.memory.shape[1], writes, draws, rules.seed)
    else:
        counted = state._replace(usage=usage, credit=credit, writes=writes, draws=draws)
        slot = next_slot(rules.eviction, counted)
    slot = slot.masked_fill(~writing, -1)
    places = torch.arange(state.memory.shape[1], device=slot.device)
    fresh = at = slot.unsqueeze(1) == places
    if rules.refresh:  # the slot that holds nearly the same keeps its statistics
        slot = torch.where(again, near, slot)
        at = slot.unsqueeze(1) == places
    stored = h if step.stored is None else step.stored
    after = StreamState(
        h=h,
        c=step.c,
        memory=torch.where(at.unsqueeze(2), stored.unsqueeze(1), state.memory),
        filled=state.filled | at,
        written_at=torch.where(at, (count - 1).unsqueeze(1), state.written_at),
        step=count,
        usage=usage.masked_fill(fresh, 0),
        credit=credit.masked_fill(fresh, 0),
        writes=writes,
        draws=draws,
    )
    return after, slot


def next_slot(rule: str, state: StreamState) -> Tensor:
    """The slot that each row's next write takes, (B,) int64: the first that is empty, else the one that the rule names.

    Args:
        rule: "oldest"; "least_used"; "least_credited"; "most_redundant", the one that lies closest to a newer one; or
            "least_useful", the same, but slots whose usefulness is negative go first, and in an episode longer than all
            before it together, which gives no sign of an end, the distance is divided by age, of which `LONG_AGO` · S
            steps count. Of equals the older goes first.
        state: the memory and its statistics.
    """
    slots, written_at = state.memory.shape[1], state.written_at
    best = torch.ones_like(state.filled)
    if rule in {"most_redundant", "least_useful"}:
        key = _distance_to_a_newer(state)
        if rule == "least_useful":
            age = (state.step.unsqueeze(1) - written_at).clamp(1, LONG_AGO * slots)  # of an empty slot it means nothing
            endless = (2 * state.writes > state.draws).unsqueeze(1)
            key = torch.where(endless, key / age.to(key.dtype), key)
            key = torch.where(state.credit < 0, state.credit, key)
    else:
        key = state.usage if rule == "least_used" else state.credit
        key = key.masked_fill(key.isnan(), torch.inf)
    spared = {"oldest": 0, "most_redundant": 0, "least_useful": slots - slots // PART}.get(rule, slots // PART)
    if 0 < spared < slots:
        newest = written_at.topk(spared, dim=1).values[:, -1:]
        key = key.masked_fill(written_at >= newest, torch.inf)
    if rule != "oldest":
        best = key == key.amin(dim=1, keepdim=True)
    chosen = written_at.masked_fill(~best, NEVER).argmin(dim=1)
    return torch.where(state.filled.all(dim=1), chosen, state.filled.int().argmin(dim=1))


def reservoir_slot(slots: int, writes: Tensor, draws: Tensor, seed: int) -> Tensor:
    """A slot for the `writes`-th write (B,) of each row's episode, (B,) int64, −1 where it is not kept.

    Algorithm R (Vitter, 1985): the first S writes fill the memory; the i-th after that is kept with probability S / i,
    in place of a slot drawn at random, so that what is held is a uniform sample of the episode so far.

    Args:
        slots: S.
        writes: counted with this one.
        draws: counted with this one, over all episodes: what the random number follows from.
        seed: another seed draws other numbers.
    """
    slot = (uniform(seed, draws) * writes).long()
    slot = torch.where(writes <= slots, writes - 1, slot)  # nothing to replace as long as a slot is empty
    return slot.masked_fill(slot >= slots, -1)


def uniform(seed: int, count: Tensor) -> Tensor:
    """A float64 in [0, 1) for each int64 of `count`, the same at every call.

    Source: splitmix64 of Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators".
    """

    def shifted(z: Tensor, bits: int) -> Tensor:
        return (z >> bits) & ((1 << (64 - bits)) - 1)

    z = count * _signed(0x9E3779B97F4A7C15) + _signed(seed << 32)
    z = (z ^ shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return shifted(z ^ shifted(z, 31), 11).double() * 2.0**-53


def _signed(value: int) -> int:
    """The signed integer with the last 64 bits of `value`."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _distance_to_a_newer(state: StreamState) -> Tensor:
    """From each slot to the nearest one that was written after it, (B, S); infinite for the newest."""
    newer = state.written_at.unsqueeze(1) > state.written_at.unsqueeze(2)
    newer = newer & state.filled.unsqueeze(1)
    apart = (state.memory.unsqueeze(1) - state.memory.unsqueeze(2)).square().sum(dim=3)
    return apart.masked_fill(~newer, torch.inf).amin(dim=2)


def emptied(state: StreamState, start: Tensor) -> StreamState:
    """The state with the rows reset whose episode starts, start (B,) bool."""

    def cleared(tensor: Tensor) -> Tensor:
        mask = start.view(-1, *[1] * (tensor.dim() - 1))
        return tensor & ~mask if tensor.dtype == torch.bool else tensor.masked_fill(mask, 0)

    return StreamState(*map(cleared, state))._replace(draws=state.draws)


class TorchPieces:
    """The pieces that wrote some slots.

    Args:
        contexts: where the pieces lie.
        chosen: (B, S) bool, the slots.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written.

    Attributes:
        count: M.
        row: (M,) int64, rows.
        place: (M,) int64, places of the pieces.
    """

    def __init__(self, contexts: Contexts, chosen: Tensor, written_at: Tensor) -> None:
        self._contexts, places = contexts, chosen.shape[1]
        self._written_at = written_at
        self._row, self._slot = chosen.nonzero(as_tuple=True)
        piece, self._column = torch.unique(
            self._row * places + contexts.piece[self._row, self._slot], return_inverse=True
        )
        self.row, self.place, self.count = piece // places, piece % places, piece.shape[0]

    def gather(self, gradient: Tensor) -> PieceInputs:
        """Returns what the pieces are replayed with; what it takes of `gradient` (B, S, H) is zeroed."""
        contexts, at, slots = self._contexts, (self.row, self.place), (self._row, self._slot)
        offset = contexts.offset[slots]
        steps = int(offset.max()) + 1 if len(offset) else 0
        target = contexts.target[at].t()[:steps]
        into = gradient.new_zeros(*target.shape, gradient.shape[2])
        into.index_put_((offset, self._column), gradient[slots])
        gradient[slots] = 0
        cut = torch.zeros_like(target, dtype=torch.bool)
        cut[:1] = True
        step = self._written_at.new_zeros(self.count).index_put_((self._column,), self._written_at[slots] - offset)
        return PieceInputs(
            observation=contexts.observation[at].transpose(0, 1)[:steps],
            h=contexts.h[at],
            c=contexts.c[at],
            value=contexts.value[at],
            used=contexts.used[at],
            target=target,
            start=torch.zeros_like(cut),
            cut=cut,
            grad_stored=into,
            step=step,
            written_at=contexts.written_at[at],
        )
