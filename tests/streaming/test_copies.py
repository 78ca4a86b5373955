"""Streams that are copied or moved: they learn on, and have nothing in common with what they were made of."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from sab_agents.core import build_core
from sab_agents.kernels import forced_kernel
from sab_agents.streaming import Stream, make_stream
from tests.kernels.extension import needs_native

INPUTS, H = 3, 9
KERNELS = [pytest.param("native", marks=needs_native), "torch"]
CASES: dict[str, dict[str, Any]] = {
    "sab": {"top_k": 2, "bptt_steps": 3, "capacity": 5},
    "lstm_tbptt": {"bptt_steps": 3},
    "gru": {},
    "rtu": {},
    "mingru": {},
}


def stream_of(core: str, rows: int = 1) -> Stream:
    torch.manual_seed(0)
    return make_stream(build_core(core, INPUTS, H, **CASES[core]), rows)


def learn(stream: Stream, x: Tensor, *, at_once: bool) -> list[Tensor]:
    """Learns from each step, or from windows of three; what each step returned, and the gradients."""
    found = []
    for t, observation in enumerate(x):
        stream.core.zero_grad()
        if at_once:
            output = stream.step_and_replay(observation)
            stream.backward(torch.cos(output))
        else:
            output = stream.step(observation)
            if t % 3 == 2:
                replay = stream.replay()
                replay.backward(torch.cos(replay.outputs))
                stream.credit()
                stream.advance()
        gradients = [parameter.grad for parameter in stream.core.parameters() if parameter.grad is not None]
        found += [output.clone(), *(gradient.clone() for gradient in gradients)]
    return found


@pytest.mark.pairs
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pickles", [False, True], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("at_once", [True, False], ids=["steps", "windows"])
@pytest.mark.parametrize("core", CASES)
def test_a_copy_learns_what_its_original_learns_and_leaves_it_alone(
    core: str, at_once: bool, pickles: bool, kernel: str
) -> None:
    x = torch.randn(24, 1, INPUTS, generator=torch.Generator().manual_seed(1))
    with forced_kernel(kernel):
        stream = stream_of(core)
        learn(stream, x[:11], at_once=at_once)  # in the middle of a segment and of a window
        other = pickle.loads(pickle.dumps(stream)) if pickles else copy.deepcopy(stream)
        stream.core.zero_grad()
        before = [each.clone() for each in (*stream.state_dict().values(), *stream.core.parameters())]
        copied = learn(other, x[11:], at_once=at_once)
        now = [*stream.state_dict().values(), *stream.core.parameters()]
        assert all(torch.equal(*pair) for pair in zip(before, now, strict=True))
        assert all(parameter.grad is None for parameter in stream.core.parameters())
        found = learn(stream, x[11:], at_once=at_once)
    assert all(torch.equal(*pair) for pair in zip(found, copied, strict=True))


@needs_native
@pytest.mark.parametrize("core", CASES)
def test_parameters_whose_data_or_gradient_were_replaced_are_noticed(core: str) -> None:
    x = torch.randn(24, 1, INPUTS, generator=torch.Generator().manual_seed(1))
    stream, plain = stream_of(core), stream_of(core)
    for observation, following in zip(x[::2], x[1::2], strict=True):
        found = []
        for each in (stream, plain):
            each.backward(torch.cos(each.step_and_replay(observation)))
            for parameter in each.core.parameters():
                if each is stream:  # nothing may be read from the old ones, nor added to them, any more
                    parameter.data, parameter.grad = parameter.data.clone(), torch.zeros_like(parameter)
                else:
                    parameter.grad = None
            each.backward(torch.cos(each.step_and_replay(following)))
            found.append([parameter.grad.clone() for parameter in each.core.parameters() if parameter.grad is not None])
            each.core.zero_grad()
        assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
        assert any(bool(gradient.any()) for gradient in found[0])
