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
def masses(best, READS: tl.constexpr, FLOOR: tl.constexpr, SHARPNESS: tl.constexpr):
    """Of the best scores (ROWS, RANKS), falling, −inf where there is none: g, FLOOR + Σg, ∂g/∂u, and their count.

    θ is the last of READS scores, or 1 below the lowest where there are fewer. With κ = SHARPNESS the first three are
    multiplied by exp(κ(θ − best)), as in `sab_agents.kernels.torch_backend.attention.masses`.
    """
    found = best > float("-inf")
    count = tl.sum(found.to(tl.int32), axis=1)
    lowest = tl.min(tl.where(found, best, float("inf")), axis=1)
    theta = tl.where(count == READS, lowest, lowest - 1.0)
    above = tl.where(found, tl.maximum(best - theta[:, None], 0.0), 0.0)
    floor, slope = tl.zeros_like(theta) + FLOOR, tl.where(found, 1.0, 0.0)
    if SHARPNESS > 0.0:
        highest = tl.where(count > 0, tl.max(best, axis=1), 0.0)
        below = tl.where(count > 0, theta - highest, 0.0)
        floor = FLOOR * tl.exp(SHARPNESS * below)
        slope = tl.where(found, tl.exp(SHARPNESS * (tl.where(found, best, 0.0) - highest[:, None])), 0.0)
        x = SHARPNESS * above
        # 1 − exp(−x), by its series where x is small and the difference would lose digits.
        rise = tl.where(x < 0.03, x * (1.0 - x * (0.5 - x * (1.0 / 6.0 - x / 24.0))), 1.0 - tl.exp(-x))
        above = slope * rise * (1.0 / SHARPNESS)
    return above, floor + tl.sum(above, axis=1), slope, count


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
