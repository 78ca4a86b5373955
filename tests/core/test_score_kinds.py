"""A kind of score that is defined in plain torch alone: everything that reads a memory computes it, on every device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents import SAB, OnlineLearner, SABStream
from sab_agents.core import attention
from sab_agents.kernels import SCORES, ScanArguments, ScanOutputs, ScanPlan, reference_scan
from sab_agents.kernels.torch_backend.scores import Score, ScoreDerivatives


class Nearest(Score):
    """a_i = −‖key − w₃ ⊙ query‖²."""

    has_vector = True

    def of(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> Tensor:
        assert vector is not None
        return -(keys - (vector * query).unsqueeze(1)).square().sum(dim=2)

    def fast_vector(self, vector: Tensor | None, like: Tensor, size: int) -> Tensor:
        assert vector is not None
        self._by_query = vector
        return like.new_full((size,), -1.0)

    def fast_layer(self, keys: Tensor, query: Tensor, out: Tensor) -> None:
        torch.sub(keys, (self._by_query * query).unsqueeze(1), out=out).square_()

    def derivatives(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> ScoreDerivatives:
        assert vector is not None
        by_key = keys.sub_(vector * query).mul_(-2)
        return ScoreDerivatives(by_key, -by_key * vector, -by_key * query)


@pytest.fixture(autouse=True)
def nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, "nearest", Nearest())
    monkeypatch.setattr(attention, "KINDS", (*attention.KINDS, "nearest"))


def network(dtype: torch.dtype, made: type[SAB] = SAB) -> SAB:
    torch.manual_seed(0)
    kind: Any = "nearest"
    return made(3, 6, top_k=2, bptt_steps=2, capacity=4, attention=kind, attention_size=5, dtype=dtype)


class Plain(SAB):
    """The same network, computed by the definition."""

    def scan(self, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> ScanOutputs:
        return reference_scan(ScanArguments(x, *self.step_weights(), h, c, memory), plan)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_outputs_and_gradients_are_those_of_its_definition(dtype: torch.dtype) -> None:
    sab, plain, x = network(dtype), network(dtype, Plain), torch.randn(12, 3, 3, dtype=dtype)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    output, expected = sab(x)[0], plain(x)[0]
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    loss = torch.randn_like(output)
    found = torch.autograd.grad((output * loss).sum(), list(sab.parameters()))
    by_hand = torch.autograd.grad((expected * loss).sum(), list(plain.parameters()))
    for one, other in zip(found, by_hand, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * other.abs().max().item())
    assert all(gradient.abs().max() > 0 for gradient in found)


def test_a_step_and_a_stream_take_it_where_the_native_kernel_would_otherwise_run() -> None:
    sab, x = network(torch.float32), torch.randn(12, 2, 3)
    with torch.no_grad():
        output, _ = sab(x)
        state, stream = sab.initial_state(2), SABStream(sab, 2, write="every", eviction="oldest")
        for t in range(12):
            stepped, state = sab.step(x[t], state)
            torch.testing.assert_close(stepped, output[t], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(stream.step(x[t]), output[t], rtol=1e-5, atol=1e-5)


def test_a_learner_learns_with_it() -> None:
    kind: Any = "nearest"
    torch.manual_seed(0)
    settings: Any = {"attention": kind, "attention_size": 4, "capacity": 4, "bptt_steps": 2, "write": "every"}
    learner = OnlineLearner(2, 2, hidden_size=6, **settings)
    assert isinstance(learner.core, SAB)
    before = [parameter.clone() for parameter in learner.core.attention.parameters()]
    for t in range(40):
        learner.learn_one([float(t % 3 == 0), float(t % 2)], t % 2)
    after = list(learner.core.attention.parameters())
    assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
