"""Ages of slots: what reads make of them, however long a stream has run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import SAB, SABState
from sab_agents.kernels import forced_kernel
from sab_agents.streaming import SABStream
from tests.kernels.extension import needs_native

KERNELS = pytest.mark.parametrize("kernel", [pytest.param("native", marks=needs_native), "torch"])
AGES = [0, 1, 30, 10**3, 10**6, 10**8, 5 * 10**8, 10**9]
LATER = [10**9, 3 * 10**9, 10**12]
"""Steps, multiples of every count below: an int32 holds the first alone."""

INPUTS, H, S, L = 3, 6, len(AGES), 4


def aged(beta: float, scale: int, order: Tensor) -> tuple[SAB, SABState]:
    """A network whose scores depend on age alone, and the state of a row 2·10⁹ steps old with slots of `AGES`."""
    torch.manual_seed(0)
    sab = SAB(INPUTS, H, top_k=S, capacity=S, age=True, age_scale=scale, floor=0.1)
    assert sab.attention.age is not None
    nn.init.constant_(sab.attention.age.bias, beta)
    state = sab.initial_state(1)
    state.memory[:] = torch.randn(H)  # what differs is the age
    state.filled[:] = True
    state.step[:] = 2 * 10**9
    state.written_at[0, order] = 2 * 10**9 - 1 - torch.tensor(AGES)
    return sab, state


@KERNELS
@pytest.mark.parametrize("scale", [1, 64, 1024])
@pytest.mark.parametrize("beta", [0.7, -0.7], ids=["newest", "oldest"])
def test_slots_rank_by_age_up_to_a_thousand_million_steps(kernel: str, beta: float, scale: int) -> None:
    order = torch.randperm(S, generator=torch.Generator().manual_seed(1))
    sab, state = aged(beta, scale, order)
    x = torch.randn(1, 1, INPUTS)
    with torch.no_grad(), forced_kernel(kernel):
        _, after, log = sab(x, state, return_attention=True)
        one_step, after_one = sab.step(x[0], state)
        output, _ = sab(x, state)
    expected = state.written_at[0, order if beta > 0 else order.flip(0)]
    assert log.steps[0, 0, :S].tolist() == expected.tolist()
    assert (log.weights[0, 0, : S - 1] > log.weights[0, 0, 1:S]).all()
    scores = -beta * (torch.tensor(AGES, dtype=torch.float64) / scale).log1p()
    above = (scores - scores.min() + 1).sort(descending=True).values
    torch.testing.assert_close(log.weights[0, 0, :S].double(), above / (0.1 + above.sum()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one_step, output[0], rtol=1e-5, atol=1e-6)
    assert after.step.item() == after_one.step.item() == 2 * 10**9 + 1
    assert after.written_at.max().item() == after_one.written_at.max().item() == 2 * 10**9


def stream_at(step: int, kernel: str, **settings: Any) -> tuple[SABStream, list[Tensor]]:
    """A stream that has run for `step` steps when its memory is filled, and what it then outputs and learns."""
    torch.manual_seed(0)
    sab = SAB(INPUTS, H, top_k=2, bptt_steps=L, capacity=5, summary_gain="gate", age=True, stored="cell")
    for parameter in sab.parameters():
        nn.init.uniform_(parameter, -0.8, 0.8)
    stream, x, found = SABStream(sab, 2, **settings), torch.randn(40, 2, INPUTS), []
    stream.state.step[:] = step
    with forced_kernel(kernel):
        for t in range(len(x)):
            found.append(stream.step(x[t]).clone())
            if t % 10 == 9:
                stream.window().square().sum().backward()  # type: ignore[no-untyped-call]
                stream.credit()
                stream.advance()
    found += [parameter.grad for parameter in sab.parameters() if parameter.grad is not None]
    return stream, found


@KERNELS
@pytest.mark.parametrize(
    "settings", [{"write": "every"}, {"write": "refresh", "novelty": 0.3, "credit_depth": None}], ids=str
)
def test_a_stream_that_has_run_for_long_computes_as_one_that_begins(kernel: str, settings: dict[str, Any]) -> None:
    young, expected = stream_at(0, kernel, **settings)
    assert bool(young.state.filled.any())
    for step in LATER:
        old, found = stream_at(step, kernel, **settings)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert torch.equal(old.state.memory, young.state.memory)
        assert torch.equal(old.state.written_at, (young.state.written_at + step) * young.state.filled)
        assert torch.equal(old.state.step, young.state.step + step)
