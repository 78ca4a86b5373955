"""The kinds of score, as Triton functions that choose between them when they are compiled.

Dimensions as in `sab_agents.kernels.triton_backend.forward`. A kind without w₃ gets some other vector, and ignores it.
"""

import triton
import triton.language as tl

from sab_agents.kernels.triton_backend.parts import tanh

SCORES = ("mlp", "dot")
"""The kinds by their names; SCORE, in the functions, is a place in it."""


@triton.jit
def scores_of(key, query, vector, scale, SCORE: tl.constexpr):
    """The scores (ROWS, SLOTS) of keys (ROWS, SLOTS, NARROW) against queries (ROWS, 1, NARROW); scale is 1/√A."""
    if SCORE == 0:
        score = tl.sum(tanh(key + query) * vector[None, None, :], axis=2)
    else:
        score = tl.sum(key * query, axis=2) * scale
    return score


@triton.jit
def through_scores(grad, key, query, vector, scale, SCORE: tl.constexpr):
    """From the gradient (ROWS, RANKS, 1) of scores to those of keys, queries and w₃, (ROWS, RANKS, NARROW) each."""
    if SCORE == 0:
        layer = tanh(key + query)
        by_key = grad * (1.0 - layer * layer) * vector[None, None, :]
        by_query, by_vector = by_key, grad * layer
    else:
        by_key, by_query = grad * query * scale, grad * key * scale
        by_vector = by_key  # there is no w₃
    return by_key, by_query, by_vector
