"""What a forward pass leaves for its backward pass, and what that leaves for the weights: sizes, and where it all lies.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S₀ slots of the starting memory, V = S₀ + T
versions, R = K + 1 slots that a read touches, Q linear functions of ĥ that it takes. The parts' shapes stand in
src/arguments.h, `Tape` and `Sent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple, Self

from torch import Tensor

from sab_agents.kernels.native_backend.extension import WHOLE, new_empty, threads
from sab_agents.kernels.types import Reading

LINE = 16  # floats in a cache line, where each part begins


class Sizes(NamedTuple):
    """The sizes of a scan: T, B, I, H, A, S₀, R, Q, whether s leaves through a gate, and whether ĥ is stored, not h."""

    steps: int
    rows: int
    input: int
    size: int
    attention: int
    held: int
    reads: int
    attended: int
    gates_output: bool
    apart: bool

    @classmethod
    def of(cls, steps: int, rows: int, inputs: int, size: int, attention: int, held: int, reading: Reading) -> Sizes:
        """Returns the sizes of a scan that reads its memory so."""
        attended = reading.attended(size, attention)
        ranks, gates_output = reading.ranks, reading.output_gate
        return cls(steps, rows, inputs, size, attention, held, ranks, attended, gates_output, reading.apart)

    @property
    def threads(self) -> int:
        """How many threads share the scan, by its recurrent products, its memory's keys and its scores."""
        each, kept = 4 * self.size * self.size, self.held * self.attention
        return threads(self.rows * (self.steps * (each + kept) + kept * self.size))


Array = Tensor | tuple[Tensor, int] | tuple[()]
"""A tensor, the rest of one from an element on, or no elements."""


class TapeParts(NamedTuple):
    """The arrays that the forward pass leaves."""

    gates: Array
    cell: Array
    output: Array
    query: Array
    keys: Array
    scores: Array
    summary: Array
    hidden: Array
    state: Array | None
    versions: Array
    weights: Array
    last_cell: Array


TAPE_PARTS, VERSIONS = len(TapeParts._fields), TapeParts._fields.index("versions")


class SentParts(NamedTuple):
    """The arrays that the backward pass leaves."""

    states: Array
    keys: Array
    query: Array
    state: Array | None
    score_weight: Array
    output_gate: Array | None
    gates: Array
    h: Array
    cell: Array


class Layout:
    """Where parts lie in one buffer of floats, each at the start of a cache line.

    Args:
        of_tape: floats of each part of the tape, 0 for those that lie elsewhere.
        of_sent: floats of each part of what the backward pass leaves.
        gates_output: whether s leaves through a gate.
        apart: whether ĥ is stored, and not h.

    Attributes:
        places: where each part begins, in floats.
        ends: where each part ends.
        floats: of the buffer.
    """

    def __init__(self, of_tape: list[int], of_sent: list[int], *, gates_output: bool, apart: bool) -> None:
        self._gates_output, self._apart = gates_output, apart
        counts = [*of_tape, *of_sent]
        *self.places, self.floats = accumulate((padded(count) for count in counts), initial=0)
        self.ends = [place + count for place, count in zip(self.places, counts, strict=True)]

    def within(self, buffer: Tensor, versions: Array = ()) -> tuple[TapeParts, SentParts]:
        """Returns all parts in a buffer, and the versions beside it; other parts that lie elsewhere mean nothing."""
        parts: list[Array | None] = [(buffer, place) for place in self.places]
        parts[VERSIONS] = versions
        tape, sent = TapeParts._make(parts[:TAPE_PARTS]), SentParts._make(parts[TAPE_PARTS:])
        if not self._gates_output:
            sent = sent._replace(output_gate=None)
        return (tape, sent) if self._apart else (tape._replace(state=None), sent._replace(state=None))


def padded(floats: int) -> int:
    """Returns how many floats a part takes, so that the next one begins a cache line."""
    return -(-floats // LINE) * LINE


@lru_cache(maxsize=1024)
def layout(
    sizes: Sizes,
    *,
    keep: bool = True,
    tape: tuple[str, ...] = TapeParts._fields,
    sent: tuple[str, ...] = SentParts._fields,
) -> Layout:
    """Lays out the parts that are named, of those that hold floats.

    Args:
        sizes: of the scan.
        keep: whether the tape has every step, for a backward pass, or one that is written over and over.
        tape: parts of the tape that lie in the buffer.
        sent: parts of what the backward pass leaves that lie in the buffer.
    """
    T, B, _, H, A, held, _, Q, gates_output, apart = sizes
    of_tape = tape_counts(sizes, keep=keep)
    of_sent = {
        "states": (held + T) * B * H,
        "keys": (held + T) * B * A,
        "query": T * B * Q,
        "state": T * B * H if apart else 0,
        "score_weight": B * A,
        "output_gate": B * 2 * H if gates_output else 0,
        "gates": T * B * 4 * H,
        "h": B * H,
        "cell": B * H,
    }
    return Layout(
        [of_tape[name] if name in tape else 0 for name in TapeParts._fields],
        [of_sent[name] if name in sent else 0 for name in SentParts._fields],
        gates_output=gates_output,
        apart=apart,
    )


def tape_counts(sizes: Sizes, *, keep: bool = True) -> dict[str, int]:
    """Returns how many floats each part of the tape has, also for sizes that are symbols; `keep` as for `layout`."""
    T, B, _, H, A, held, R, Q, _, apart = sizes
    steps, cells, keyed = (T, T + 1, held + T) if keep else (1, 1, 0)
    return {
        "gates": steps * B * 4 * H,
        "cell": cells * B * H,
        "output": steps * B * H,
        "query": steps * B * Q,
        "keys": keyed * B * A,
        "scores": steps * B * R,
        "summary": T * B * H,
        "hidden": T * B * H,
        "state": T * B * H if apart else 0,
        "versions": 0,  # integers, never here
        "weights": T * B * R,
        "last_cell": B * H,
    }


@dataclass
class Space:
    """What a scan and its backward pass write to.

    Attributes:
        sizes: of the scan, at most.
        tape: where the forward pass writes.
        sent: where the backward pass writes.
    """

    sizes: Sizes
    tape: TapeParts
    sent: SentParts

    @classmethod
    def of(cls, sizes: Sizes) -> Self:
        """Returns new buffers."""
        whole = layout(sizes)
        versions = new_empty(sizes.steps, sizes.rows, sizes.reads, dtype=WHOLE)
        return cls(sizes, *whole.within(new_empty(whole.floats), versions))
