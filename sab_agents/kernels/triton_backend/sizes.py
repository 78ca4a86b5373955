"""What the fused kernel takes, and the sizes of the blocks in which it works.

Dimensions as in `sab_agents.kernels.triton_backend.forward`.

The numbers of registers below follow from the hardware: 65,536 in a processor for all warps of a program. They decide
only speed, and are not yet measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from sab_agents.kernels.types import ScanArguments, ScanPlan

MOST_SLOTS = 4096
"""All scores of a row are ranked in registers."""

MOST_HIDDEN, MOST_ATTENTION = 1024, 256

MOST_READ = 1 << 15
"""Numbers that one read takes in: RANKS · WIDE."""

MOST_ADDRESSES = 1 << 31
"""Versions times rows, which the kernel counts in 32 bits."""

IN_FLIGHT = 1 << 12
"""Terms of a gate's product that a program holds apart, for ROWS rows together: 16 registers a thread for each gate."""

SCORED = 1 << 13
"""Numbers of keys that a program takes in at once, for ROWS rows together: 32 registers a thread."""

NARROWEST = 16
"""What a product on tensor cores needs of each side, and less leaves most threads idle anyway."""

DOT_ROWS = 16
"""Rows from which products run on tensor cores."""


@dataclass(frozen=True)
class Blocks:
    """Sizes of blocks: powers of two, all of them compiled into the kernel.

    Attributes:
        rows: ROWS.
        wide: at least H.
        narrow: at least A.
        places: at least S.
        ranks: at least K + 1.
        slots: whose keys are taken in at once.
        gate_terms: terms of a sum that are taken in at once for all four gates.
        terms: the same for a single product.
        dot: whether products run on tensor cores.
        warps: threads / 32.
    """

    rows: int
    wide: int
    narrow: int
    places: int
    ranks: int
    slots: int
    gate_terms: int
    terms: int
    dot: bool
    warps: int


def fits(inputs: ScanArguments, plan: ScanPlan) -> bool:
    """Whether the kernel takes a scan of this size; plain torch serves for larger ones.

    At most 4,096 slots, a hidden size of 1,024, an attention size of 256, (K + 1) · H of 32,768 with both rounded up to
    powers of two, and fewer than 2³¹ versions of all rows.
    """
    (T, B, _), H, A = inputs.x.shape, inputs.h.shape[1], inputs.query_bias.shape[0]
    return (
        plan.slots <= MOST_SLOTS
        and H <= MOST_HIDDEN
        and A <= MOST_ATTENTION
        and power_of_two(plan.reading.ranks) * max(NARROWEST, power_of_two(H)) <= MOST_READ
        and (plan.filled.shape[1] + T + 1) * B < MOST_ADDRESSES
    )


def power_of_two(count: int) -> int:
    """The smallest power of two that is at least `count`."""
    return 1 << max(0, count - 1).bit_length()


def blocks(batch: int, size: int, attention: int, slots: int, reads: int, processors: int) -> Blocks:
    """The blocks for a scan of B = `batch` rows.

    Rows are spread over all processors first: a step takes as long for one row as its slowest chain of loads, and each
    processor has its own cache for the weights. Only then do rows share a program.
    """
    wide, narrow, places = (max(NARROWEST, power_of_two(count)) for count in (size, attention, slots))
    ranks = power_of_two(reads)
    rows = min(DOT_ROWS, power_of_two(-(-batch // processors)))
    while rows > 1 and rows * max(ranks * wide, places) > MOST_READ:
        rows //= 2
    dot = rows >= DOT_ROWS
    return Blocks(
        rows=rows,
        wide=wide,
        narrow=narrow,
        places=places,
        ranks=ranks,
        slots=min(places, _at_most(SCORED // (rows * narrow))),
        gate_terms=32 if dot else _at_most(IN_FLIGHT // (rows * wide)),
        terms=32 if dot else _at_most(4 * IN_FLIGHT // (rows * max(wide, narrow))),
        dot=dot,
        warps=8 if rows * wide >= 64 else 4,
    )


def _at_most(count: int) -> int:
    """A power of two of at most `count`, 128 and at least 1."""
    return 1 << (max(1, min(128, count)).bit_length() - 1)
