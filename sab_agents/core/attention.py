"""The parameters with which stored memories are scored against the present: the paper's network, or a dot product.

The scores themselves are computed by the kernels; `sab_agents.kernels.torch_backend.scores` defines them.

Dimensions: H hidden size, A attention size.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn

from sab_agents.kernels import SCORES

AttentionKind = Literal["mlp", "dot"]
KINDS: tuple[AttentionKind, ...] = get_args(AttentionKind)


class Attention(nn.Module):
    """The parameters with which memories m_i are scored against a hidden state ĥ.

    "mlp": a_i = w₃ᵀ tanh(W₁ m_i + W₂ ĥ + b₂), the paper's. "dot": a_i = (W₁ m_i)·(W₂ ĥ + b₂)/√A.

    With `age`, λ(ĥ) · log(1 + age_i/τ) is subtracted from each score, where λ(ĥ) = u·ĥ + β begins as 0, age_i is the
    number of steps since m_i was written, less one, and τ is the `age_scale` of the `SAB`: what is asked for can be the
    newest or the oldest.

    Args:
        hidden_size: H.
        attention_size: A.
        kind: "mlp" or "dot".
        age: whether scores know age.

    Raises:
        ValueError: `kind` is neither.

    Source: Ke et al. 2018, section 3.1, for the scores without age.
    """

    def __init__(
        self,
        hidden_size: int,
        attention_size: int,
        kind: AttentionKind = "mlp",
        age: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"Attention: kind must be one of {', '.join(map(repr, KINDS))}, but is {kind!r}.")
        self.kind = kind
        self.key = nn.Linear(hidden_size, attention_size, bias=False, device=device, dtype=dtype)
        self.query = nn.Linear(hidden_size, attention_size, device=device, dtype=dtype)
        self.score: nn.Linear | None = None
        if SCORES[kind].has_vector:
            self.score = nn.Linear(attention_size, 1, bias=False, device=device, dtype=dtype)
        self.age: nn.Linear | None = None
        if age:
            self.age = constant_linear(hidden_size, 1, bias=0.0, device=device, dtype=dtype)


def constant_linear(
    inputs: int, outputs: int, *, bias: float, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Linear:
    """Returns a linear layer that begins with weights 0 and a constant bias, and draws no random numbers."""
    layer = nn.Linear(inputs, outputs, device="meta")
    layer.weight = nn.Parameter(torch.zeros(outputs, inputs, device=device, dtype=dtype))
    layer.bias = nn.Parameter(torch.full((outputs,), bias, device=device, dtype=dtype))
    return layer
