"""Replays in room that is kept from window to window give what fresh ones give, whatever was done in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sab_agents import SAB
from sab_agents.kernels import forced_kernel
from sab_agents.streaming import SABStream
from tests.kernels.extension import needs_native

pytestmark = needs_native
INPUTS, HIDDEN, ROWS, WINDOW = 3, 5, 2, 4

Change = Callable[[SAB], None]


def gradients_dropped(sab: SAB) -> None:
    sab.zero_grad()


def gradients_replaced(sab: SAB) -> None:
    for parameter in sab.parameters():
        parameter.grad = torch.zeros_like(parameter)


def a_weight_replaced(sab: SAB) -> None:
    sab.cell.weight_hh = nn.Parameter(0.5 * sab.cell.weight_hh.detach())


def a_weight_frozen(sab: SAB) -> None:
    sab.cell.weight_ih.requires_grad_(False)


def a_weight_thawed(sab: SAB) -> None:
    sab.cell.weight_ih.requires_grad_(True)


CHANGES = [gradients_dropped, gradients_replaced, a_weight_replaced, a_weight_frozen, a_weight_thawed]


def made() -> SABStream:
    torch.manual_seed(0)
    sab = SAB(INPUTS, HIDDEN, top_k=2, bptt_steps=2, capacity=4, attention_size=3)
    return SABStream(sab, ROWS, write="every")


def windows(kernel: str, changes: list[Change]) -> list[Tensor]:
    """The gradients of all weights after each of several windows, with a change before each."""
    found: list[Tensor] = []
    with forced_kernel(kernel):
        stream, generator = made(), torch.Generator().manual_seed(1)
        for change in [gradients_dropped, gradients_dropped, *changes]:
            change(stream.core)
            for _ in range(WINDOW):
                stream.step(torch.randn(ROWS, INPUTS, generator=generator))
            replay = stream.replay()
            replay.backward(torch.randn(replay.outputs.shape, generator=generator))
            stream.credit()
            stream.advance()
            # Plain torch leaves None for weights that nothing was read by.
            found += [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in stream.core.parameters()]
    return found


@pytest.mark.each
@pytest.mark.parametrize("first", CHANGES)
@pytest.mark.parametrize("second", CHANGES)
def test_gradients_are_those_of_plain_torch_after_weights_or_gradients_were_replaced(
    first: Change, second: Change
) -> None:
    for native, plain in zip(windows("native", [first, second]), windows("torch", [first, second]), strict=True):
        torch.testing.assert_close(native, plain, rtol=0, atol=1e-3 * max(1.0, plain.abs().max().item()))


def test_a_frozen_weight_gets_no_gradient() -> None:
    stream = made()
    a_weight_frozen(stream.core)
    for _ in range(2):
        for _ in range(WINDOW):
            stream.step(torch.randn(ROWS, INPUTS))
        replay = stream.replay()
        replay.backward(torch.ones_like(replay.outputs))
        stream.credit()
        stream.advance()
    assert stream.core.cell.weight_ih.grad is None
    assert stream.core.cell.weight_hh.grad is not None


def test_a_window_can_be_replayed_again_before_the_first_replay_is_backpropagated() -> None:
    found: list[list[Tensor]] = []
    for again in (False, True):
        stream, generator = made(), torch.Generator().manual_seed(1)
        for _ in range(3):
            for _ in range(WINDOW):
                stream.step(torch.randn(ROWS, INPUTS, generator=generator))
            replay = stream.replay()
            gradient = torch.randn(replay.outputs.shape, generator=generator)
            if again:
                with torch.no_grad():
                    stream.core.cell.weight_hh.mul_(2)
                    stream.replay()
                    stream.core.cell.weight_hh.div_(2)
                assert torch.equal(stream.replay().outputs, replay.outputs)
            replay.backward(gradient)
            stream.advance()
        found.append([each.grad.clone() for each in stream.core.parameters() if each.grad is not None])
    for once, twice in zip(*found, strict=True):
        assert torch.equal(once, twice)
