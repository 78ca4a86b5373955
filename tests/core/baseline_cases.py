"""What the tests of the baseline cores share: how they are built, fed and compared.

Dimensions: T steps, B rows, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents.core.base import Core
from sab_agents.core.lstm import LSTM
from sab_agents.core.lstm_attention import LSTMAttention
from sab_agents.core.state import State
from sab_agents.core.transformer import Transformer

T, B, I, H = 13, 4, 3, 8  # noqa: E741
F64 = torch.float64

Builder = Callable[..., Core[Any]]


def truncated(*args: Any, **kwargs: Any) -> LSTM:
    return LSTM(*args, bptt_steps=3, **kwargs)


def windowed(*args: Any, **kwargs: Any) -> Transformer:
    return Transformer(*args, context=4, heads=2, **kwargs)


CLASSES: list[Builder] = [LSTM, LSTMAttention, Transformer]
BUILDERS: list[Builder] = [*CLASSES, truncated, windowed]
every_core = pytest.mark.parametrize("build", BUILDERS)
every_class = pytest.mark.parametrize("build", CLASSES)


def made(build: Builder, **kwargs: Any) -> Core[Any]:
    return build(I, H, dtype=F64, **kwargs)


def inputs(length: int = T, rows: int = B) -> Tensor:
    return torch.randn(length, rows, I, dtype=F64)


def random_starts(chance: float = 0.2) -> Tensor:
    starts = torch.rand(T, B) < chance
    assert starts[1:].any()
    return starts


def stepped(core: Core[Any], x: Tensor, starts: Tensor | None, state: State | None = None) -> tuple[Tensor, State]:
    outputs = []
    for t in range(x.shape[0]):
        output, state = core.step(x[t], state, None if starts is None else starts[t])
        outputs.append(output)
    assert state is not None
    return torch.stack(outputs), state


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def same_state(actual: State, expected: State) -> None:
    assert type(actual) is type(expected)
    for a, e in zip(actual.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-10, atol=1e-10)


def gradient(output: Tensor, *wrt: Tensor) -> tuple[Tensor, ...]:
    weights = torch.linspace(0.5, 1.5, output.numel(), dtype=F64).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), wrt, retain_graph=True, materialize_grads=True)
