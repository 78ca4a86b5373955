"""What a stream carries, rejects, recomputes and continues from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import LSTM, SAB, SoftmaxSAB
from sab_agents.streaming import SABStream, TruncatedStream


def make_stream(rows: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0, **settings: Any) -> SABStream:
    torch.manual_seed(seed)
    sab = SAB(3, 4, recipe="paper", top_k=2, bptt_steps=3, capacity=6, attention="dot", attention_size=3, dtype=dtype)
    for parameter in sab.parameters():
        nn.init.uniform_(parameter, -0.8, 0.8)
    rules: dict[str, Any] = {"eviction": "oldest", "write": "every", **settings}
    return SABStream(sab, rows, **rules)


def observations(steps: int, rows: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(steps, rows, 3, dtype=dtype, generator=torch.Generator().manual_seed(1))


def run(stream: SABStream, x: Tensor, first: int = 0, window: int = 4) -> list[Tensor]:
    """Learns the sum of all outputs, a window at a time, from step `first` on; returns outputs."""
    outputs = []
    for t in range(first, len(x)):
        outputs.append(stream.step(x[t], torch.tensor([t == 9, t == 14])))
        if stream.steps == window:
            stream.window().sum().backward()  # type: ignore[no-untyped-call]
            stream.credit()
            stream.advance()
    return outputs


def test_without_evictions_a_stream_is_the_module() -> None:
    stream, x = make_stream(), observations(6)
    state = stream.core.initial_state(2)
    for t in range(6):
        output, state = stream.core.step(x[t], state)
        torch.testing.assert_close(stream.step(x[t]), output, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stream.state.memory, state.memory)


def test_an_episode_start_empties_the_memory_of_its_row_alone() -> None:
    stream, x = make_stream(), observations(8)
    for t in range(7):
        stream.step(x[t])
    fresh = make_stream()
    output = stream.step(x[7], torch.tensor([True, False]))
    torch.testing.assert_close(output[0], fresh.step(x[7])[0])
    assert stream.state.filled.sum(dim=1).tolist() == [1, 6]
    assert stream.state.step.tolist() == [1, 8]


def test_a_step_that_was_only_proposed_changes_nothing() -> None:
    stream, other, x = make_stream(eviction="reservoir"), make_stream(eviction="reservoir"), observations(20)
    for t in range(20):
        stream.peek(x[-t - 1], torch.tensor([True, False]))
        torch.testing.assert_close(stream.step(x[t]), other.step(x[t]), rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{}, {"eviction": "reservoir", "write": "novel"}, {"eviction": "least_credited"}])
@pytest.mark.parametrize("stop", [8, 10, 17])
def test_it_goes_on_to_the_bit_from_a_state_dict(settings: dict[str, Any], stop: int) -> None:
    x = observations(30)
    whole = make_stream(**settings)
    expected = run(whole, x)
    gradient = [parameter.grad for parameter in whole.core.parameters()]
    half = make_stream(**settings)
    run(half, x[:stop])
    other = make_stream(seed=0, **settings)
    run(other, x[:3])
    other.load_state_dict(half.state_dict())
    for parameter, saved in zip(other.core.parameters(), half.core.parameters(), strict=True):
        parameter.grad = saved.grad
    found = run(other, x, first=stop)
    for one, two in zip(found, expected[stop:], strict=True):
        assert torch.equal(one, two)
    for parameter, wanted in zip(other.core.parameters(), gradient, strict=True):
        assert wanted is not None
        assert torch.equal(parameter.grad, wanted) if parameter.grad is not None else False


def test_a_state_of_other_sizes_is_refused() -> None:
    stream = make_stream(rows=1)
    with pytest.raises(ValueError, match=r"load_state_dict: .* must be of shape .*same core, rows"):
        make_stream(rows=2).load_state_dict(stream.state_dict())


def test_refresh_without_an_update_changes_nothing_and_after_one_gives_todays_values() -> None:
    stream, x = make_stream(rows=2), observations(21)
    run(stream, x[:20], window=3)
    stream.advance()
    before = stream.state.memory
    stream.refresh()
    torch.testing.assert_close(stream.state.memory, before, rtol=1e-10, atol=1e-12)

    # From an episode's start on, the pieces' own starting states are exact as long as one segment lasts.
    fresh, short = make_stream(), observations(3)
    for t in range(3):
        fresh.step(short[t])
    fresh.advance()
    with torch.no_grad():
        for parameter in fresh.core.parameters():
            parameter.mul_(0.5)
    fresh.refresh()
    again = SABStream(fresh.core, 2, eviction="oldest", write="every")
    for t in range(3):
        again.step(short[t])
    torch.testing.assert_close(fresh.state.memory, again.state.memory, rtol=1e-10, atol=1e-12)
    with pytest.raises(RuntimeError, match="advance"):
        again.refresh()


def test_usage_is_the_decayed_attention_and_credit_the_decayed_gradient() -> None:
    stream, x = make_stream(rows=1, decay=0.5, credit_depth=1), observations(9, rows=1)
    usage = torch.zeros_like(stream.state.usage)

    def take(t: int) -> None:
        step = stream.peek(x[t])
        usage.mul_(0.5)
        for slot, weight in zip(step.computed.read_slot[0], step.computed.weight[0], strict=True):
            usage[0, slot] += weight  # weight 0 where there is no slot
        stream.take(step)
        usage[0][stream.state.written_at[0] == t] = 0  # a slot that is written to begins with none
        torch.testing.assert_close(stream.state.usage, usage)

    for t in range(3):
        take(t)
    stream.advance()
    for t in range(3, 6):
        take(t)
    held = stream.before.memory.clone()
    assert bool((stream.state.credit == 0).all())
    stream.window().square().sum().backward()  # type: ignore[no-untyped-call]
    norm = stream.credit().norm
    assert bool((norm[0, :3] > 0).any())
    torch.testing.assert_close(stream.state.credit[0, :3], norm[0, :3])
    assert torch.equal(stream.state.memory[0, :3], held[0, :3])
    stream.advance()
    for t in range(6, 8):  # which write over slots 0 and 1
        take(t)
    torch.testing.assert_close(stream.state.credit[0, :3], norm[0, :3] * torch.tensor([0, 0, 0.5**2]))


def test_credit_of_a_slot_that_was_written_over_since_is_not_counted() -> None:
    stream, x = make_stream(rows=1, credit_depth=1), observations(9, rows=1)
    for t in range(6):
        stream.step(x[t])
    stream.advance()
    for t in range(6, 9):  # over slots 0, 1 and 2
        stream.step(x[t])
    stream.window().square().sum().backward()  # type: ignore[no-untyped-call]
    norm = stream.credit().norm
    assert bool((norm[0, :3] > 0).any())
    assert bool((norm[0, 3:] > 0).any())
    assert torch.equal(stream.state.credit, norm * torch.tensor([[0.0, 0, 0, 1, 1, 1]]))


@pytest.mark.parametrize(
    ("observation", "start", "message"),
    [
        (torch.zeros(3, 3, dtype=torch.float64), None, r"must be a tensor of shape \(2, 3\)"),
        (torch.zeros(2, 4, dtype=torch.float64), None, r"must be a tensor of shape \(2, 3\)"),
        (torch.zeros(2, 3), None, "must be torch.float64"),
        (torch.full((2, 3), torch.nan, dtype=torch.float64), None, "must be finite"),
        (torch.full((2, 3), torch.inf, dtype=torch.float64), None, "must be finite"),
        ([1.0], None, "but is list"),
        (torch.zeros(2, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.bool), "episode_start must be a bool"),
        (torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2), "episode_start must be a bool"),
        (torch.zeros(2, 3, dtype=torch.float64), True, "episode_start must be a bool"),
    ],
)
def test_wrong_steps_are_refused_before_anything_changes(observation: Any, start: Any, message: str) -> None:
    plain = TruncatedStream(LSTM(3, 4, dtype=torch.float64), 2)
    for stream in (make_stream(), plain):
        x = observations(5)
        for t in range(5):
            stream.step(x[t])
        before = stream.state_dict()
        with pytest.raises(ValueError, match=message):
            stream.step(observation, start)
        after = stream.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eviction": "newest"}, "eviction must be one of"),
        ({"write": "never"}, "write must be one of"),
        ({"write": "novel", "novelty": -1.0}, "novelty must be at least 0"),
        ({"write": "every", "novelty": 0.5}, "nothing asks for novelty, but it is 0.5. Leave it out"),
        ({"decay": 1.5}, "decay must be a number from 0 to 1"),
        ({"credit_depth": -1}, "credit_depth"),
        ({"rows": 0}, "rows"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_stream(**settings)
    with pytest.raises(ValueError, match="capacity is None"):
        SABStream(SAB(2, 3))


def test_calls_out_of_order_say_what_to_do() -> None:
    stream = make_stream()
    with pytest.raises(RuntimeError, match=r"Call step\(\) first"):
        stream.window()
    with pytest.raises(RuntimeError, match=r"Call window\(\)"):
        stream.credit()
    stream.advance()  # nothing was taken: nothing ends


def test_a_plain_stream_is_its_core_with_gradient_inside_the_window() -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 4, dtype=torch.float64)
    stream, x = TruncatedStream(lstm, 2), observations(8)
    taken = torch.stack([stream.step(x[t]) for t in range(4)])
    stream.advance()
    taken = torch.cat([taken, torch.stack([stream.step(x[t]) for t in range(4, 8)])])
    window = stream.window()
    whole, _ = lstm(x)
    torch.testing.assert_close(taken, whole)
    torch.testing.assert_close(window, whole[4:])
    window.sum().backward()  # type: ignore[no-untyped-call]
    found = lstm.lstm.weight_hh_l0.grad
    lstm.zero_grad()
    lstm(x[4:], lstm(x[:4])[1].detach())[0].sum().backward()
    assert found is not None
    assert lstm.lstm.weight_hh_l0.grad is not None
    torch.testing.assert_close(found, lstm.lstm.weight_hh_l0.grad)


def test_a_core_that_reads_every_slot_is_an_error() -> None:
    with pytest.raises(ValueError, match="must read its best slots, but SoftmaxSAB reads by a softmax"):
        SABStream(SoftmaxSAB(2, 4, capacity=3))
