"""One step of the LSTM with the native kernel: that of `nn.LSTM` in float64, in one call, with the same errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents import LSTM
from sab_agents.core.lstm import LSTMState
from sab_agents.kernels.native_backend import step as compiled_step
from tests.kernels.extension import INSTRUCTION_SETS, needs_native, with_instruction_set

pytestmark = needs_native


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call of the compiled step took its arguments."""
    monkeypatch.delenv("SAB_KERNEL", raising=False)
    found: list[bool] = []
    original = compiled_step.lstm_step

    def spied(*arguments: Any) -> Any:
        result = original(*arguments)
        found.append(result is not None)
        return result

    monkeypatch.setattr(compiled_step, "lstm_step", spied)
    return found


def case(seed: int) -> tuple[LSTM, Tensor, LSTMState, Tensor]:
    """A network, an input, a state and episode starts."""
    generator = torch.Generator().manual_seed(seed)
    rows, inputs, size = (int(torch.randint(1, top, (), generator=generator)) for top in (6, 40, 70))
    torch.manual_seed(seed)
    h, c = torch.randn(2, rows, 1, size, generator=generator)
    state = LSTMState(h, c, torch.randint(0, 9, (rows,), generator=generator))
    start = torch.rand(rows, generator=generator) < 0.4
    return LSTM(inputs, size, bptt_steps=3), torch.randn(rows, inputs, generator=generator), state, start


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@torch.no_grad()
def test_it_is_the_step_of_torch(instruction_set: str, calls: list[bool]) -> None:
    with with_instruction_set(instruction_set):
        for seed in range(20):
            core, x, state, start = case(seed)
            for given in (None, start):
                calls.clear()
                output, after = core.step(x, state, given)
                assert calls == [True]
                exact = core.double().step(x.double(), state.to(dtype=torch.float64), given)[1]
                core.float()
                torch.testing.assert_close(output.double(), exact.h[:, 0], rtol=0, atol=2e-6)
                assert torch.equal(output, after.h[:, 0])
                torch.testing.assert_close(after.c.double(), exact.c, rtol=0, atol=2e-6)
                assert torch.equal(after.step, exact.step)


def test_gradient_and_other_dtypes_go_the_other_way(calls: list[bool]) -> None:
    core, x, state, start = case(0)
    output, _ = core.step(x, state, start)
    assert calls == [False]
    assert output.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(core.step(x, state, start)[0], output.detach())
        core.double().step(x.double(), state.to(dtype=torch.float64))
    assert calls == [False, True, False]


@torch.no_grad()
def test_what_does_not_fit_is_refused_as_ever() -> None:
    core, x, state, start = case(0)
    with pytest.raises(ValueError, match="x must be finite"):
        core.step(torch.full_like(x, torch.inf), state)
    with pytest.raises(ValueError, match="at least one row"):
        core.step(x[:0], state)
    with pytest.raises(ValueError, match="episode_start must have shape"):
        core.step(x, state, torch.cat([start, start]))
    with pytest.raises(TypeError, match="must be a bool tensor"):
        core.step(x, state, start.float())
