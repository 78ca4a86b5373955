"""Streaming agents by compiled code take the same steps and learn the same as in torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sab_agents import StreamAC
from sab_agents.kernels import forced_kernel
from sab_agents.online.learners import LSTMLearner, RecurrentLearner
from sab_agents.online.readout import Readout
from sab_agents.online.rtu import RTULearner
from sab_agents.online.sab_learner import SABLearner
from sab_agents.optim.obgd import ObGD
from tests.kernels.extension import needs_native
from tests.online.conftest import Clock

pytestmark = needs_native
INPUTS, H = 3, 9

LEARNERS: dict[str, Callable[[], RecurrentLearner]] = {
    "lstm": lambda: LSTMLearner(INPUTS, H, bptt_steps=3),
    "rtu": lambda: RTULearner(INPUTS, H),
    "sab": lambda: SABLearner(INPUTS, H, top_k=2, bptt_steps=3, capacity=5, novelty=0.3),
    "sab every": lambda: SABLearner(INPUTS, H, bptt_steps=2, capacity=7, write="every", eviction="oldest"),
    "sab dot": lambda: SABLearner(INPUTS, H, top_k=1, bptt_steps=4, capacity=6, attention="dot", write_every=2),
    "sab uncredited": lambda: SABLearner(INPUTS, H, bptt_steps=3, capacity=5, credit_depth=0, novelty=0.3),
    "sab all links": lambda: SABLearner(INPUTS, H, bptt_steps=2, capacity=6, credit_depth=None, write="every"),
    "sab reservoir": lambda: SABLearner(INPUTS, H, bptt_steps=3, capacity=4, eviction="reservoir", write="every"),
    "sab many pieces": lambda: SABLearner(INPUTS, H, top_k=12, bptt_steps=1, capacity=30, write="every"),
}


class Side:
    """One learner, with gradients where its parameters have room for them."""

    def __init__(self, name: str, kernel: str) -> None:
        torch.manual_seed(0)
        self.kernel = kernel
        with forced_kernel(kernel):
            self.learner = LEARNERS[name]()
            for parameter in self.learner.parameters():
                nn.init.uniform_(parameter, -0.7, 0.7)
            self.flat = ObGD(self.learner.parameters())
            self.learner.bind()

    def learn(self, observations: Tensor, starts: list[bool], cotangents: Tensor) -> list[Tensor]:
        """What each step puts out and owes; the parameters move as ObGD would move them."""
        found = []
        with forced_kernel(self.kernel):
            for t, start in enumerate(starts):
                found.append(self.learner.step(observations[t], start).clone())
                found.append(self.learner.peek(observations[t + 1]).clone())
                self.learner.backward(cotangents[t : t + 1, : self.learner.output_size])
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


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_by_compiled_code_learns_the_same(name: str) -> None:
    native, plain = (Side(name, kernel) for kernel in ("native", "torch"))
    assert_close(native.learn(*stream()), plain.learn(*stream()))
    ends = [side.learner.carried() for side in (native, plain)]
    for key in ("state.memory", "state.h", "statistics.usage", "statistics.credit", "state", "sensitivity", "end_c"):
        if key in ends[0]:
            torch.testing.assert_close(ends[0][key], ends[1][key], rtol=1e-3, atol=1e-4, msg=key)


def test_gradient_beyond_the_segment_arrives_in_compiled_code() -> None:
    credited, uncredited = (Side(name, "native") for name in ("sab", "sab uncredited"))
    observations, starts, cotangents = stream()
    found = [side.learn(observations, starts, cotangents) for side in (credited, uncredited)]
    first = [torch.equal(*pair) for pair in zip(*found, strict=True)]
    assert all(first[:3])  # the first step has no past
    assert not all(first)


def test_room_for_pieces_grows_with_their_number() -> None:
    side = Side("sab many pieces", "native")
    assert isinstance(side.learner, SABLearner)
    side.learn(*stream())
    code = side.learner._segment._code
    assert code is not None
    assert code._pieces.capacity > 8


@pytest.mark.parametrize("name", LEARNERS)
def test_a_copy_has_nothing_in_common_with_what_it_was_made_of(name: str) -> None:
    side = Side(name, "native")
    observations, starts, cotangents = stream()
    side.learn(observations[:11], starts[:10], cotangents[:10])
    other = copy.deepcopy(side)
    other.flat = ObGD(other.learner.parameters())  # a parameter's copy is no view any more
    before = {key: value.clone() for key, value in side.learner.carried().items()}
    later = observations[10:], starts[10:], cotangents[10:]
    copied = other.learn(*later)
    assert all(torch.equal(value, before[key]) for key, value in side.learner.carried().items())
    assert_close(side.learn(*later), copied)


@pytest.mark.parametrize("name", ["sab", "lstm", "rtu"])
def test_a_learner_that_was_converted_computes_what_it_is_then(name: str) -> None:
    side = Side(name, "native")
    side.learner.double()
    assert side.learner.step(torch.ones(1, INPUTS, dtype=torch.float64), True).dtype == torch.float64


def test_a_readout_by_compiled_code_is_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = Readout(6, 11, 3, sparsity=0.3)
    nn.init.normal_(plain.first.bias)
    bound = copy.deepcopy(plain)
    bound.bind()
    for _ in range(2):  # the second adds to the first
        x, cotangent = torch.randn(6), torch.randn(3)
        torch.testing.assert_close(bound.step(x), plain.step(x))
        torch.testing.assert_close(bound.peek(2 * x), plain.peek(2 * x))
        torch.testing.assert_close(bound.backward(cotangent), plain.backward(cotangent))
    for mine, theirs in zip(bound.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


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
def test_an_agent_by_compiled_code_learns_the_same(policy: str, shared_core: bool) -> None:
    vectors: list[Any] = []
    for kernel in ("native", "torch"):
        with forced_kernel(kernel):
            kwargs = {"hidden_size": 8, "width": 8, "shared_core": shared_core}
            agent = StreamAC(policy, Clock(length=11, continuous=True), policy_kwargs=kwargs, seed=0)
            vectors.append([optimiser.vector for optimiser in agent.learn(60).optimisers])
    for native, plain in zip(*vectors, strict=True):
        torch.testing.assert_close(native, plain, rtol=1e-4, atol=1e-4)
