"""Streaming agents with the native kernel take the same steps and learn the same as in torch."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import StreamAC
from sab_agents.core import build_core
from sab_agents.kernels import forced_kernel
from sab_agents.online.readout import Readout
from sab_agents.optim.obgd import ObGD
from sab_agents.streaming import make_stream
from tests.kernels.extension import needs_native
from tests.online.conftest import Clock
from tests.readings import BEYOND

pytestmark = needs_native
INPUTS, H = 3, 9
START = torch.ones(1, dtype=torch.bool)

STREAMS: dict[str, dict[str, Any]] = {
    "lstm_tbptt": {"bptt_steps": 3},
    "rtu": {},
    "sab": {"top_k": 2, "bptt_steps": 3, "capacity": 5, "novelty": 0.3},
    "sab every": {"bptt_steps": 2, "capacity": 7, "write": "every", "eviction": "oldest"},
    "sab dot": {"top_k": 1, "bptt_steps": 4, "capacity": 6, "attention": "dot", "write_every": 2},
    "sab uncredited": {"bptt_steps": 3, "capacity": 5, "credit_depth": 0, "novelty": 0.3},
    "sab all links": {"bptt_steps": 2, "capacity": 6, "credit_depth": None, "write": "every"},
    "sab reservoir": {"bptt_steps": 3, "capacity": 4, "eviction": "reservoir", "write": "every"},
    "sab beyond": {"top_k": 2, "bptt_steps": 3, "capacity": 6, "write": "refresh", "novelty": 0.3, **BEYOND},
    "sab beyond every": {"bptt_steps": 2, "capacity": 7, "write": "every", "credit_depth": None, **BEYOND},
    "sab many pieces": {"top_k": 12, "bptt_steps": 1, "capacity": 30, "write": "every"},
}
OF_STREAM = ("write", "eviction", "novelty", "credit_depth")
"""Settings of streams; the others are the core's, which are 4 slots a read and 32 attention features by default."""


class Side:
    """One stream that is learnt from at every step, and the parameters of its core in one vector."""

    def __init__(self, name: str, kernel: str) -> None:
        torch.manual_seed(0)
        self.kernel = kernel
        kind, settings = name.split(maxsplit=1)[0], STREAMS[name]
        of_core = {key: value for key, value in settings.items() if key not in OF_STREAM}
        if kind == "sab":
            of_core = {"top_k": 4, "attention_size": 32, **of_core}
        with forced_kernel(kernel):
            self.core = build_core(kind, INPUTS, H, **of_core)
            for parameter in self.core.parameters():
                nn.init.uniform_(parameter, -0.7, 0.7)
            self.flat = ObGD([self.core])
            self.stream = make_stream(self.core, **{key: settings[key] for key in OF_STREAM if key in settings})

    def learn(self, observations: Tensor, starts: list[bool], cotangents: Tensor) -> list[Tensor]:
        """What each step outputs and its gradient; the parameters move as ObGD would move them."""
        found = []
        with forced_kernel(self.kernel):
            for t, start in enumerate(starts):
                found.append(self.stream.step_and_replay(observations[t], START if start else None).clone())
                found.append(self.stream.peek(observations[t + 1]).output.clone())
                self.stream.backward(cotangents[t : t + 1, : self.core.output_size])
                found.append(self.flat.gradient.clone())
                self.flat.vector.sub_(self.flat.gradient, alpha=0.003)
                self.flat.gradient.zero_()
        return found


def stream(steps: int = 60) -> tuple[Tensor, list[bool], Tensor]:
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(steps + 1, 1, INPUTS, generator=generator)
    starts = [t in {0, 17, 19, 40} for t in range(steps)]
    return observations, starts, torch.randn(steps, 2 * H, generator=generator)


def assert_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        scale = max(1.0, float(other.abs().max()))
        apart = float((one - other).abs().max()) / scale
        assert apart < 1e-4, f"result {number} is {apart} apart"


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_learns_the_same_with_the_native_kernel(name: str) -> None:
    native, plain = (Side(name, kernel) for kernel in ("native", "torch"))
    assert_close(native.learn(*stream()), plain.learn(*stream()))
    ends = [side.stream.state_dict() for side in (native, plain)]
    keys = [key for key in ends[0] if key.startswith(("state", "statistics", "sensitivity"))]
    assert keys
    for key in keys:
        torch.testing.assert_close(ends[0][key], ends[1][key], rtol=1e-3, atol=1e-4, msg=key)


def test_gradient_beyond_the_segment_arrives_with_the_native_kernel() -> None:
    credited, uncredited = (Side(name, "native") for name in ("sab", "sab uncredited"))
    observations, starts, cotangents = stream()
    found = [side.learn(observations, starts, cotangents) for side in (credited, uncredited)]
    first = [torch.equal(*pair) for pair in zip(*found, strict=True)]
    assert all(first[:3])  # the first step has no past
    assert not all(first)


@pytest.mark.parametrize("name", STREAMS)
def test_a_copy_has_nothing_in_common_with_what_it_was_made_of(name: str) -> None:
    side = Side(name, "native")
    observations, starts, cotangents = stream()
    side.learn(observations[:11], starts[:10], cotangents[:10])
    other = copy.deepcopy(side)
    before = side.stream.state_dict()
    later = observations[10:], starts[10:], cotangents[10:]
    copied = other.learn(*later)
    assert all(torch.equal(value, before[key]) for key, value in side.stream.state_dict().items())
    assert_close(side.learn(*later), copied)


@pytest.mark.parametrize("name", ["sab", "lstm_tbptt", "rtu"])
def test_a_stream_of_a_core_that_was_converted_computes_what_the_core_is_then(name: str) -> None:
    side = Side(name, "native")
    side.core.double()
    side.stream.reset()
    assert side.stream.step_and_replay(torch.ones(1, INPUTS, dtype=torch.float64), START).dtype == torch.float64


def readouts() -> tuple[Readout, Readout]:
    """The same readout with the native kernel, and in torch."""
    torch.manual_seed(0)
    plain = Readout(6, 11, 3, sparsity=0.3)
    nn.init.normal_(plain.first.bias)
    return copy.deepcopy(plain), plain


def learn_readout(readout: Readout, kernel: str, between: Callable[[], object] = lambda: None) -> list[Tensor]:
    generator, found = torch.Generator().manual_seed(2), []
    with forced_kernel(kernel):
        for _ in range(2):  # the second adds to the first
            x, cotangent = torch.randn(6, generator=generator), torch.randn(3, generator=generator)
            found.append(readout.step(x).clone())
            between()
            found.append(readout.peek(2 * x))
            found.append(readout.backward(cotangent))
    return found + [parameter.grad for parameter in readout.parameters() if parameter.grad is not None]


def test_a_readout_with_the_native_kernel_is_the_plain_one() -> None:
    native, plain = readouts()
    found, expected = learn_readout(native, "native"), learn_readout(plain, "torch")
    assert len(found) == 10
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kernel", ["native", "torch"])
def test_a_readout_finds_parameters_and_gradients_that_were_replaced(kernel: str) -> None:
    readout, fresh = readouts()
    learn_readout(readout, kernel)
    state = {name: torch.randn_like(value) for name, value in readout.state_dict().items()}
    readout.load_state_dict(state, assign=True)  # new parameters, without gradients
    fresh.load_state_dict(state)
    found, expected = learn_readout(readout, kernel), learn_readout(fresh, kernel)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    for each in (readout, fresh):
        each.zero_grad(set_to_none=True)
    nn.utils.vector_to_parameters(torch.linspace(-1, 1, 113), readout.parameters())
    nn.utils.vector_to_parameters(torch.linspace(-1, 1, 113), fresh.parameters())
    copied = pickle.loads(pickle.dumps(readout))
    found, expected = learn_readout(readout, kernel), learn_readout(copied, kernel)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert all(torch.equal(*pair) for pair in zip(found, learn_readout(fresh, kernel), strict=True))


@pytest.mark.parametrize("kernel", ["native", "torch"])
def test_a_step_is_learnt_from_after_the_gradients_were_replaced(kernel: str) -> None:
    readout, other = readouts()
    replaced = learn_readout(readout, kernel, between=lambda: readout.zero_grad(set_to_none=True))
    untouched = learn_readout(other, kernel, between=other.zero_grad)
    assert [parameter.grad.abs().sum() > 0 for parameter in readout.parameters() if parameter.grad is not None]
    assert all(torch.equal(*pair) for pair in zip(replaced, untouched, strict=True))


def test_a_readout_without_a_step_has_nothing_to_learn_from() -> None:
    readout, _ = readouts()
    readout.step(torch.ones(6))
    with pytest.raises(RuntimeError, match="no step was taken since it was made, copied or converted"):
        copy.deepcopy(readout).backward(torch.ones(3))


def descents() -> list[ObGD]:
    found = []
    for kernel in ("native", "torch"):
        torch.manual_seed(0)
        with forced_kernel(kernel):
            found.append(ObGD([nn.Parameter(torch.randn(1500)), nn.Parameter(torch.randn(7, 3))], gamma=0.9))
    return found


def test_steps_along_traces_are_the_plain_ones() -> None:
    native, plain = descents()
    for t, delta in enumerate((0.3, -2.0, 0.0, 1e-6)):
        gradient = torch.randn_like(native.gradient) * 10.0 ** (-3 * t)
        sizes = []
        for each in (native, plain):
            each.gradient.copy_(gradient)
            sizes.append(each.step(delta, reset=t == 2))
            assert not each.gradient.any()
        assert sizes[0] == pytest.approx(sizes[1], rel=1e-5)
        torch.testing.assert_close(native.vector, plain.vector, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(native.trace, plain.trace)


@pytest.mark.parametrize("delta", [math.nan, math.inf, 1.0])
def test_what_is_not_finite_moves_nothing(delta: float) -> None:
    for each in descents():
        before = each.vector.clone()
        each.gradient[3] = 1.0 if not math.isfinite(delta) else math.nan
        with pytest.raises(FloatingPointError, match="must be finite"):
            each.step(delta)
        assert torch.equal(each.vector, before)


@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpRtuPolicy"])
@pytest.mark.parametrize("shared_core", [True, False], ids=["shared", "separate"])
def test_an_agent_learns_the_same_with_the_native_kernel(policy: str, shared_core: bool) -> None:
    vectors: list[Any] = []
    for kernel in ("native", "torch"):
        with forced_kernel(kernel):
            kwargs = {"hidden_size": 8, "width": 8, "shared_core": shared_core}
            agent = StreamAC(policy, Clock(length=11, continuous=True), policy_kwargs=kwargs, seed=0)
            vectors.append([optimiser.vector for optimiser in agent.learn(60).optimisers])
    for native, plain in zip(*vectors, strict=True):
        torch.testing.assert_close(native, plain, rtol=1e-4, atol=1e-4)
