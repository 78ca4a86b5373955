"""Weights that are computed from others, by parametrisations or by hooks, are used and learned wherever a core runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from sab_agents import LSTM, SAB, LSTMAttention
from sab_agents.core import GRU
from sab_agents.streaming import SABStream

T, B = 7, 2


def modules(core: Any) -> list[tuple[nn.Module, str]]:
    """Some weights, with the modules that they belong to."""
    if isinstance(core, SAB):
        found = [(core.cell, "weight_hh"), (core.attention.key, "weight"), (core.attention.query, "weight")]
        return [*found, (core.attention.score, "weight")] if core.attention.score is not None else found
    if isinstance(core, LSTMAttention):
        return [(core.key, "weight"), (core.query, "weight"), (core.lstm.lstm, "weight_hh_l0")]
    recurrent = core.gru if isinstance(core, GRU) else core.lstm
    return [(recurrent, "weight_ih_l0"), (recurrent, "weight_hh_l0")]


def pruned(module: nn.Module, name: str) -> None:
    prune.l1_unstructured(module, name, amount=0.4)  # type: ignore[no-untyped-call]


WRAPS: dict[str, Callable[[nn.Module, str], Any]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "weight_norm by hook": torch.nn.utils.weight_norm,
    "spectral_norm by hook": torch.nn.utils.spectral_norm,
    "pruning": pruned,
}
every_wrap = pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
every_core = pytest.mark.parametrize("make", [SAB, LSTM, GRU, LSTMAttention])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def wrapped(make: Any, wrap: Callable[[nn.Module, str], Any], dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    core = make(3, 4, capacity=5, top_k=2, dtype=dtype) if make is SAB else make(3, 4, dtype=dtype)
    for module, name in modules(core):
        wrap(module, name)
    return core.eval()  # in training a spectral norm changes with every use


def plain(core: Any, make: Any, dtype: torch.dtype) -> Any:
    """A core whose parameters are the weights as they are computed now."""
    found = make(3, 4, capacity=5, top_k=2, dtype=dtype) if make is SAB else make(3, 4, dtype=dtype)
    values = dict(core.named_parameters())
    with torch.no_grad():
        for (module, name), (own, _) in zip(modules(core), modules(found), strict=True):
            for hook in module._forward_pre_hooks.values():
                hook(module, ())
            getattr(own, name).copy_(getattr(module, name))
        for name, parameter in found.named_parameters():
            if name in values:
                parameter.copy_(values[name])
    return found


@every_core
@every_wrap
@every_dtype
def test_they_are_used_and_receive_gradient(make: Any, wrap: Any, dtype: torch.dtype) -> None:
    core, x = wrapped(make, wrap, dtype), torch.randn(T, B, 3, dtype=dtype)
    before = core(x)[0]
    torch.testing.assert_close(before, plain(core, make, dtype)(x)[0])
    before.square().sum().backward()
    with torch.no_grad():
        for name, parameter in core.named_parameters():
            assert parameter.grad is not None, name
            parameter.sub_(0.1 * parameter.grad)
    after = core(x)[0]
    torch.testing.assert_close(after, plain(core, make, dtype)(x)[0])
    assert not torch.allclose(after, before)
    after.sum().backward()  # its graph is its own


@every_core
@every_wrap
@every_dtype
@torch.no_grad()
def test_a_step_is_that_of_a_sequence(make: Any, wrap: Any, dtype: torch.dtype) -> None:
    core, x = wrapped(make, wrap, dtype), torch.randn(T, B, 3, dtype=dtype)
    whole, state, outputs = core(x)[0], core.initial_state(B), list[Tensor]()
    for t in range(T):
        output, state = core.step(x[t], state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs), whole)


@every_wrap
@every_dtype
def test_a_stream_learns_them(wrap: Any, dtype: torch.dtype) -> None:
    core, x = wrapped(SAB, wrap, dtype), torch.randn(2 * T, B, 3, dtype=dtype)
    gradients = []
    for by_replay in (True, False):
        stream = SABStream(core, B, write="every")
        for t in range(T):
            stream.step(x[t])
        stream.advance()
        for t in range(T, 2 * T):
            stream.step(x[t])
        core.zero_grad()
        if by_replay:
            replay = stream.replay()
            replay.backward(2 * replay.outputs)
        else:
            stream.window().square().sum().backward()  # type: ignore[no-untyped-call]
        stream.credit()
        gradients.append([parameter.grad for parameter in core.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 0
