"""What both passes of the fused kernel compute alike, as Triton functions.

Dimensions as in `sab_agents.kernels.triton_backend.forward`. What lies beyond a tensor's padded size is masked.
"""

import triton
import triton.language as tl

from sab_agents.kernels.torch_backend import attention

EPSILON = tl.constexpr(attention.EPSILON)


@triton.jit
def tanh(x):
    """Tanh, absolute error below 2e-7; `tl` itself has none on every version."""
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def no_sum(ROWS: tl.constexpr, TERMS: tl.constexpr, WIDE: tl.constexpr, DOT: tl.constexpr):
    """Where `add_products` begins."""
    return tl.zeros((ROWS, WIDE) if DOT else (ROWS, TERMS, WIDE), tl.float32)


@triton.jit
def add_products(total, left, weight, inside, DOT: tl.constexpr, DOT_TYPE: tl.constexpr):
    """Adds left (ROWS, TERMS) · what lies at weight (TERMS, WIDE): as a tensor core does it, or element by element.

    Element by element, terms stay apart until `summed`: one reduction across threads a product instead of one a block.
    """
    right = tl.load(weight, mask=inside, other=0.0)
    if DOT:
        total = tl.dot(left.to(DOT_TYPE), right.to(DOT_TYPE), total, input_precision="ieee")
    else:
        total += left.to(tl.float32)[:, :, None] * right.to(tl.float32)[None, :, :]
    return total


@triton.jit
def summed(total, DOT: tl.constexpr):
    """The (ROWS, WIDE) that `add_products` has gathered."""
    if not DOT:
        total = tl.sum(total, axis=1)
    return total


@triton.jit
def product(
    x,
    wanted,
    weight,
    COUNT: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    TERMS: tl.constexpr,
    WIDE: tl.constexpr,
    DOT: tl.constexpr,
    DOT_TYPE: tl.constexpr,
):
    """The product x · weight (ROWS, WIDE): x (ROWS,) says where a row's COUNT numbers lie, weight is (COUNT, SIZE)."""
    column = tl.arange(0, WIDE)[None, :]
    total = no_sum(ROWS, TERMS, WIDE, DOT)
    for first in range(0, COUNT, TERMS):
        term = first + tl.arange(0, TERMS)
        left = tl.load(x[:, None] + term[None, :], mask=wanted[:, None] & (term < COUNT)[None, :], other=0.0)
        inside = (term < COUNT)[:, None] & (column < SIZE)
        total = add_products(total, left, weight + term[:, None] * SIZE + column, inside, DOT, DOT_TYPE)
    return summed(total, DOT)


@triton.jit
def above_threshold(best, READS: tl.constexpr, FLOOR: tl.constexpr):
    """How far the best scores (ROWS, RANKS), −inf where there is none, stand above θ; FLOOR + their sum; their count.

    θ is the last of READS scores, or 1 below the lowest where there are fewer.
    """
    found = best > float("-inf")
    count = tl.sum(found.to(tl.int32), axis=1)
    lowest = tl.min(tl.where(found, best, float("inf")), axis=1)
    theta = tl.where(count == READS, lowest, lowest - 1.0)
    above = tl.where(found, tl.maximum(best - theta[:, None], 0.0), 0.0)
    return above, FLOOR + tl.sum(above, axis=1), count


@triton.jit
def log_ages(version, there, row, first_ages, t, HELD, AGE: tl.constexpr):
    """log(1 + age / AGE) at step t of versions (ROWS, N) of the rows `row`; 0 where none is `there`.

    first_ages (B, HELD) has the ages of the starting memory's versions at step 0; that of others follows from them.
    """
    carried = version < HELD
    at = first_ages + row[:, None] * HELD + version
    of_start = tl.load(at, mask=there & carried, other=0) + t
    age = tl.where(carried, of_start, t - (version - HELD) - 1)
    return tl.log(tl.where(there, age + AGE, AGE).to(tl.float32) * (1.0 / AGE))
