"""A stream with the native kernel takes the same steps, learns the same and holds the same as one in torch."""

from __future__ import annotations

import copy
import random
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import LSTM, SAB
from sab_agents.kernels import forced_kernel
from sab_agents.kernels.stream import NativeStream, TorchStream
from sab_agents.streaming import EVICTIONS, WRITES, SABStream, TruncatedStream
from tests.kernels.extension import needs_native
from tests.readings import random_reading
from tests.selection import first
from tests.streaming.rules import rules

pytestmark = needs_native
OBSERVED = 3


def random_settings(rng: random.Random) -> dict[str, Any]:
    eviction, write, novelty = rng.choice(EVICTIONS), rng.choice(WRITES), rng.choice([0.05, 0.31, 0.6])
    return {
        **rules(eviction, write, novelty),
        "decay": rng.choice([0.5, 0.99]),
        "credit_depth": rng.choice([0, 1, 2, None]),
    }


class Side:
    """One stream and its network; both sides of a seed are the same but for the way they are computed."""

    def __init__(self, seed: int, kernel: str) -> None:
        rng = random.Random(seed)
        torch.manual_seed(seed)
        self.kernel = kernel
        self.rows, self.steps = rng.randint(1, 4), rng.randint(1, 5)
        self.encoder = nn.Sequential(nn.Linear(OBSERVED, OBSERVED), nn.Tanh()) if rng.random() < 0.5 else None
        self.sab = SAB(
            OBSERVED,
            rng.choice([3, 8, 17]),
            top_k=rng.randint(1, 4),
            bptt_steps=self.steps,
            write_every=rng.randint(1, 2),
            capacity=rng.choice([2, 3, 7, 20]),
            attention=rng.choice(["mlp", "dot"]),
            attention_size=rng.choice([3, 9]),
            **random_reading(seed),
        )
        for parameter in self.sab.parameters():
            nn.init.uniform_(parameter, -0.8, 0.8)
        self.settings = random_settings(rng)
        self.stream = self.made()

    def made(self) -> SABStream:
        return SABStream(self.sab, self.rows, encoder=self.encoder, observation_shape=(OBSERVED,), **self.settings)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [*self.sab.parameters(), *(self.encoder.parameters() if self.encoder else [])]

    def way(self) -> AbstractContextManager[None]:
        return forced_kernel(self.kernel)

    def learn(self, observation: Tensor, start: Tensor, weights: Tensor, learns: bool) -> dict[str, Tensor]:
        """One window and what it leaves; then the parameters move, so that what is held is stale."""
        with self.way():
            taken = [self.stream.step(x, s if bool(s.any()) else None) for x, s in zip(observation, start, strict=True)]
            found = {"output": torch.stack(taken)}
            dropped = pieces = 0
            if learns:
                window = self.stream.window()
                torch.testing.assert_close(window.detach(), found["output"], rtol=1e-4, atol=1e-5)
                (window * weights).sum().backward()  # type: ignore[no-untyped-call]
                credit = self.stream.credit()
                found["norm"], pieces, dropped = credit.norm, credit.pieces, credit.dropped
            found["counts"] = torch.tensor([pieces, dropped])
            found["write_slot"] = self.stream._window.stacked("write_slot").clone()
            self.stream.advance()
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                found[f"grad.{index}"] = parameter.grad.clone()
            parameter.grad = None
            moved = 0.01 * torch.cos(torch.arange(parameter.numel()).float() + index)
            parameter.data.add_(moved.view_as(parameter))
        return found


def window_of(side: Side, rng: random.Random) -> tuple[Tensor, Tensor, Tensor, bool]:
    T, B = rng.randint(1, 2 * side.steps + 1), side.rows
    start = torch.rand(T, B) < 0.08
    return torch.randn(T, B, OBSERVED), start, torch.randn(T, B, 2 * side.sab.hidden_size), rng.random() < 0.7


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], context: str) -> None:
    assert found.keys() == expected.keys(), context
    for name, value in expected.items():
        if not value.is_floating_point():
            assert torch.equal(found[name], value), f"{context}: {name}"
            continue
        scale = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        close = 1e-5 if name == "output" else 1e-4
        apart = float((found[name] - value).abs().max()) / scale if value.numel() else 0.0
        assert apart <= close, f"{context}: {name} is {apart} apart"


@pytest.mark.parametrize("seed", first(15, range(40)))
def test_both_ways_take_the_same_steps_and_learn_the_same(seed: int) -> None:
    rng = random.Random(seed)
    native, plain = Side(seed, "native"), Side(seed, "torch")
    for number in range(8):
        window = window_of(native, rng)
        assert_same(native.learn(*window), plain.learn(*window), f"window {number}")
    for name, value in plain.stream.state_dict().items():
        if name.partition(".")[0] in {"state"} or name in {"contexts.piece", "contexts.offset"}:
            assert_same({name: native.stream.state_dict()[name]}, {name: value}, "in the end")


def test_it_is_compiled_code_that_runs_and_credits() -> None:
    pieces = 0
    for seed in range(40):
        rng, side = random.Random(seed), Side(seed, "native")
        for _ in range(3):
            pieces += int(side.learn(*window_of(side, rng))["counts"][0])
        for name, kind in (("native", NativeStream), ("torch", TorchStream)):
            with forced_kernel(name):
                assert type(side.stream._kernel()) is kind
    assert pieces > 50


@pytest.mark.parametrize("seed", range(10))
def test_the_way_can_change_within_a_window(seed: int) -> None:
    rng = random.Random(seed)
    sides = Side(seed, "native"), Side(seed, "torch")
    for number in range(4):
        observation, start, weights, _ = window_of(sides[0], rng)
        found: list[dict[str, Tensor]] = []
        for mixed, side in zip((True, False), sides, strict=True):
            taken = []
            for t, (x, s) in enumerate(zip(observation, start, strict=True)):
                with forced_kernel("native" if mixed and t % 2 == 0 else "torch"):
                    taken.append(side.stream.step(x, s))
            with forced_kernel("native" if mixed and number % 2 == 0 else "torch"):
                side.stream.window().backward(weights)  # type: ignore[no-untyped-call]
                norm = side.stream.credit().norm
                write_slot = side.stream._window.stacked("write_slot").clone()
                side.stream.advance()
            found.append({"output": torch.stack(taken), "norm": norm, "write_slot": write_slot})
        assert_same(found[0], found[1], f"window {number}")


@pytest.mark.parametrize("seed", range(10))
def test_a_saved_stream_goes_on_to_the_bit(seed: int) -> None:
    rng, side = random.Random(seed), Side(seed, "native")
    for _ in range(3):
        side.learn(*window_of(side, rng))
    window = window_of(side, rng)
    with side.way():
        side.stream.step(window[0][0], window[1][0])
        saved, other = side.stream.state_dict(), side.made()
        other.load_state_dict(saved)
        streams, ends = (side.stream, other), []
        for stream in streams:
            for x, start in zip(window[0], window[1], strict=True):
                stream.step(x, start)
            stream.window().sum().backward()  # type: ignore[no-untyped-call]
            stream.credit()
            stream.advance()
            gradients = {str(i): p.grad.clone() for i, p in enumerate(side.parameters) if p.grad is not None}
            side.sab.zero_grad()
            if side.encoder is not None:
                side.encoder.zero_grad()
            ends.append(stream.state_dict() | gradients)
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


@pytest.mark.parametrize("seed", range(10))
def test_a_run_without_a_graph_adds_what_the_graph_adds(seed: int) -> None:
    rng, side = random.Random(seed), Side(seed, "native")
    for _ in range(3):
        side.learn(*window_of(side, rng))
    observation, start, weights, _ = window_of(side, rng)
    with side.way():
        for x, s in zip(observation, start, strict=True):
            side.stream.step(x, s)
        found = []
        for way in ("run", "window"):
            if way == "run":
                run = side.stream.replay()
                run.backward(weights)
                outputs = run.outputs
            else:
                outputs = side.stream.window()
                outputs.backward(weights)  # type: ignore[no-untyped-call]
            norm = side.stream.credit().norm
            grads = [p.grad for p in side.parameters if p.grad is not None]
            found.append([outputs.detach(), norm, *grads])
            for parameter in side.parameters:
                parameter.grad = None
        if side.encoder is None:  # no graph was made: its own check speaks
            run = side.stream.replay()
            with pytest.raises(ValueError, match="as the outputs"):
                run.backward(weights[:, :, :1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_copied_stream_leaves_the_first_as_it_is() -> None:
    rng, side = random.Random(0), Side(0, "native")
    side.learn(*window_of(side, rng))
    window = window_of(side, rng)
    before = side.stream.state_dict()
    other = copy.deepcopy(side)
    copied = other.learn(*window)
    assert all(torch.equal(value, before[name]) for name, value in side.stream.state_dict().items())
    assert_same(side.learn(*window), copied, "the copy")


@pytest.mark.parametrize("kernel", ["native", "torch"])
@pytest.mark.parametrize("seed", range(5))
def test_the_graph_of_a_window_outlives_the_window(seed: int, kernel: str) -> None:
    rng, side = random.Random(seed), Side(seed, kernel)
    for _ in range(3):
        side.learn(*window_of(side, rng))
    observation, start, weights, _ = window_of(side, rng)
    found = []
    with side.way():
        for x, s in zip(observation, start, strict=True):
            side.stream.step(x, s)
        for waits in (False, True):
            window = side.stream.window()
            if waits:
                side.stream.advance()
                for x in observation:
                    side.stream.step(-x, ~start[0])
            window.backward(weights)  # type: ignore[no-untyped-call]
            found.append([p.grad.clone() for p in side.parameters if p.grad is not None])
            for parameter in side.parameters:
                parameter.grad = None
    assert len(found[0]) > 3
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_an_lstm_run_without_a_graph_is_the_lstm(seed: int) -> None:
    rng = random.Random(seed)
    torch.manual_seed(seed)
    T, B = rng.randint(1, 9), rng.randint(1, 20)
    core = LSTM(OBSERVED, rng.choice([3, 8, 17]), bptt_steps=rng.choice([None, 1, 3, 4]))
    stream = TruncatedStream(core, B)
    for _ in range(rng.randint(0, 3)):
        stream.step(torch.randn(B, OBSERVED))
    stream.advance()
    found: list[list[Tensor]] = []
    with forced_kernel("native"):
        for _ in range(T):
            stream.step(torch.randn(B, OBSERVED), torch.rand(B) < 0.2)
        weights = torch.randn(T, B, core.hidden_size)
        for way in ("native", "torch"):
            with forced_kernel(way):
                run = stream.replay()
            run.backward(weights)
            found.append([run.outputs, *(p.grad for p in core.parameters() if p.grad is not None)])
            core.zero_grad()
    assert len(found[0]) == 5
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="as the outputs"):
        run_with_wrong_gradient(stream)


def run_with_wrong_gradient(stream: TruncatedStream) -> None:
    with forced_kernel("native"):
        run = stream.replay()
        run.backward(torch.zeros(1, 1, 1))


@pytest.mark.parametrize(("name", "message"), [("window.write_slot", "window"), ("contexts.piece", "slots")])
def test_indices_out_of_range_are_refused(name: str, message: str) -> None:
    sab = SAB(OBSERVED, 4, top_k=2, bptt_steps=3, capacity=24)
    stream = SABStream(sab, 2, eviction="oldest", write="every")
    with forced_kernel("native"):
        for _ in range(4):
            stream.step(torch.randn(2, OBSERVED))
        saved = stream.state_dict()
        saved[name] = torch.full_like(saved[name], 10**6)
        stream.load_state_dict(saved)

        def go_on() -> None:
            stream.step(torch.randn(2, OBSERVED))
            stream.advance()

        with pytest.raises(ValueError, match=message):
            go_on()


def test_a_saved_stream_of_other_dtypes_is_refused() -> None:
    stream = Side(0, "native").stream
    saved = stream.state_dict()
    with pytest.raises(ValueError, match=r"state\.step must be of shape .* and dtype"):
        stream.load_state_dict(saved | {"state.step": saved["state.step"].float()})
