"""Sparse initialisation: most incoming weights of each unit start at zero, so that units interfere less.

Source: Elsayed, Vasan & Mahmood 2024, algorithm 1.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from sab_agents.checks import fraction


def sparse_linear(inputs: int, outputs: int, sparsity: float = 0.9) -> nn.Linear:
    """A linear layer with zero biases, in which a share of each unit's incoming weights, drawn at random, is zero.

    The others are uniform within ±1/√inputs. At least one weight of each unit is not zero, so that a layer with few
    inputs is not silent.

    Args:
        inputs: numbers that each unit reads.
        outputs: units.
        sparsity: the share, from 0 to 1; the count is rounded up.

    Raises:
        ValueError: the share is not from 0 to 1.
    """
    fraction("sparse_linear", "sparsity", sparsity)
    layer = nn.Linear(inputs, outputs)
    zeros = min(math.ceil(sparsity * inputs), inputs - 1)
    with torch.no_grad():
        layer.weight.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        layer.weight.scatter_(1, torch.rand(outputs, inputs).argsort(dim=1)[:, :zeros], 0.0)
        layer.bias.zero_()
    return layer
