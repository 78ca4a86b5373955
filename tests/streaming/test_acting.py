"""Acting apart from a stream is the stream's own step: the same state and inputs leave the same memory, bit by bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import SAB
from sab_agents.core import build_core
from sab_agents.kernels import forced_kernel
from sab_agents.streaming import EVICTIONS, WRITES, SABStream, SlotState, make_stream
from tests.kernels.extension import needs_native
from tests.readings import BEYOND
from tests.streaming.rules import rules

OBSERVED, ROWS, STEPS = 3, 3, 42
KERNELS = [pytest.param("native", marks=needs_native), "torch"]
ALL_RULES = [(eviction, write) for eviction in EVICTIONS for write in WRITES]
READINGS = pytest.mark.parametrize("reading", [{}, BEYOND], ids=["paper", "beyond"])


def network(**settings: Any) -> SAB:
    torch.manual_seed(0)
    sab = SAB(
        OBSERVED,
        7,
        **{"top_k": 2, "bptt_steps": 4, "capacity": 9, "attention_size": 5, "summary_gain": 0.3, **settings},
    )
    for parameter in sab.parameters():
        nn.init.uniform_(parameter, -0.8, 0.8)
    return sab


def inputs(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    start = torch.rand(STEPS, rows, generator=generator) < 0.03
    return torch.randn(STEPS, rows, OBSERVED, generator=generator), start


def assert_equal(found: SlotState, expected: SlotState) -> None:
    names = vars(expected)
    for name, one, other in zip(names, found.tensors(), expected.tensors(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.pairs
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("eviction", "write"), ALL_RULES)
@pytest.mark.parametrize("write_every", [1, 2])
@READINGS
def test_acting_leaves_the_memory_that_the_stream_leaves(
    eviction: Any, write: Any, kernel: str, write_every: int, reading: dict[str, Any]
) -> None:
    sab, (x, start) = network(write_every=write_every, **reading), inputs()
    stream = SABStream(sab, ROWS, **rules(eviction, write))
    evicted, credited = 0, False
    with forced_kernel(kernel):
        for t in range(STEPS):
            before = stream.state.clone()
            output, after = stream.act(x[t], before.reset(start[t]))
            assert torch.equal(stream.step(x[t], start[t]), output)
            assert_equal(after, stream.state)
            evicted += int((before.filled.all(dim=1) & ~start[t] & (after.memory != before.memory).any(2).any(1)).sum())
            if t % 7 == 6:  # learning moves the statistics of "least_credited" and "least_useful"
                stream.window().square().sum().backward()  # type: ignore[no-untyped-call]
                stream.credit()
                stream.advance()
                credited |= bool(stream.state.credit.any())
    assert evicted > 5
    assert credited


@pytest.mark.pairs
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("eviction", "write"), ALL_RULES)
def test_a_whole_episode_acted_out_is_the_streams(eviction: Any, write: Any, kernel: str) -> None:
    sab, (x, start) = network(), inputs()
    stream, together = (SABStream(sab, ROWS, **rules(eviction, write)) for _ in range(2))
    with forced_kernel(kernel):
        state = stream.state.clone()
        for t in range(STEPS):
            _, state = stream.act(x[t], state.reset(start[t]))
            stream.step(x[t], start[t])
        together.take_steps(x, start)
        assert_equal(state, stream.state)
        assert_equal(together.state, stream.state)


@pytest.mark.pairs
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("eviction", "write"), ALL_RULES)
def test_what_is_held_does_not_depend_on_where_windows_end(eviction: Any, write: Any, kernel: str) -> None:
    sab, (x, start) = network(), inputs()
    streams = [SABStream(sab, ROWS, **rules(eviction, write)) for _ in range(3)]
    with forced_kernel(kernel):
        for t in range(STEPS):
            for every, stream in zip((1, 5, STEPS), streams, strict=True):
                stream.step(x[t], start[t])
                if t % every == 0:
                    stream.advance()
    for stream in streams[1:]:
        assert_equal(stream.state, streams[0].state)


@pytest.mark.pairs
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("eviction", "write"), ALL_RULES)
def test_steps_that_are_replayed_at_once_are_the_same_steps(eviction: Any, write: Any, kernel: str) -> None:
    sab, (x, start) = network(), inputs(1)
    streams = [SABStream(sab, **rules(eviction, write)) for _ in range(2)]
    with forced_kernel(kernel):
        for t in range(STEPS):
            streams[0].step(x[t], start[t])
            streams[1].step_and_replay(x[t], start[t])
    assert_equal(streams[1].state, streams[0].state)


class Exported(nn.Module):
    def __init__(self, stream: SABStream) -> None:
        super().__init__()
        self.core, self.stream = stream.core, stream

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output, after = self.stream.plain_act(x, SlotState(*state))
        return (output, *after.tensors())


@pytest.mark.each
@pytest.mark.parametrize(("eviction", "write"), ALL_RULES)
@READINGS
def test_an_exported_step_leaves_the_memory_that_the_stream_leaves(
    eviction: Any, write: Any, reading: dict[str, Any]
) -> None:
    sab, (x, start) = network(**reading), inputs()
    stream = SABStream(sab, ROWS, **rules(eviction, write))
    with forced_kernel("torch"), torch.no_grad():
        state = stream.state.clone()
        assert [each.shape for each in stream.fixed_state(ROWS).tensors()] == [each.shape for each in state.tensors()]
        program = torch.export.export(Exported(stream), (x[0], *state.tensors())).module()
        for t in range(STEPS):
            output, *after = program(x[t], *state.reset(start[t]).tensors())
            state = SlotState(*after)
            assert torch.equal(stream.step(x[t], start[t]), output)
            assert_equal(state, stream.state)


def test_rows_of_a_reservoir_draw_other_numbers() -> None:
    stream = SABStream(network(), ROWS, eviction="reservoir", write="every")
    x, _ = inputs(1)
    for t in range(STEPS):
        stream.step(x[t].expand(ROWS, -1).contiguous())
    assert not torch.equal(stream.state.written_at[0], stream.state.written_at[1])


@pytest.mark.parametrize(("core", "settings"), [("lstm", {}), ("rtu", {}), ("lstm_tbptt", {"bptt_steps": 3})])
def test_other_cores_act_as_their_streams_step(core: str, settings: dict[str, int]) -> None:
    x, start = inputs()
    stream = make_stream(build_core(core, OBSERVED, 5, **settings), ROWS)
    for t in range(STEPS):
        output, after = stream.act(x[t], stream.state.reset(start[t]))
        assert torch.equal(stream.step(x[t], start[t]), output)
        assert all(torch.equal(one, other) for one, other in zip(after.tensors(), stream.state.tensors(), strict=True))
