"""Counts near the ends of 32-bit integers and of float64's whole numbers change nothing but themselves."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sab_agents import OnlineLearner, StreamAC
from sab_agents.core import build_core
from sab_agents.kernels import EVICTIONS, forced_kernel
from sab_agents.streaming import SABStream
from tests.kernels.extension import needs_native
from tests.streaming.rules import rules

T = 13
every_kernel = pytest.mark.parametrize("kernel", [pytest.param("native", marks=needs_native), "torch"])
FAR = [(2**31 - 5) // 120 * 120, (2**53 - 5) // 120 * 120, 2**62 // 120 * 120]
"""Multiples of every period below, so that cuts and writes fall where they did."""
every_distance = pytest.mark.parametrize("far", FAR, ids=["32 bits", "53 bits", "63 bits"])


def moved(state: dict[str, Any], far: int) -> dict[str, Any]:
    """A state of streams whose episode has been under way for longer."""
    found = dict(state)
    for name, value in state.items():
        kind = name.split(".")[-1]
        counts = isinstance(value, Tensor) and value.dtype is torch.int64
        if counts and kind in {"step", "2"}:  # the third tensor of an LSTM's state
            found[name] = value + far
        if kind == "written_at":
            filled = state[name.replace("written_at", "used" if "contexts" in name else "filled")]
            found[name] = torch.where(filled, value + far, value)
        if kind == "read_step":
            found[name] = torch.where(value >= 0, value + far, value)
    return found


@every_kernel
@every_distance
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sab", {"write_every": 2, "bptt_steps": 3, "capacity": 4}),
        ("sab_softmax", {"bptt_steps": 3, "capacity": 4}),
        ("lstm_tbptt", {"bptt_steps": 3}),
        ("gru", {"bptt_steps": 3}),
        ("lstm_attention", {}),
    ],
)
def test_a_core_goes_on_from_any_step(kernel: str, far: int, name: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    core, x = build_core(name, 3, 4, **settings), torch.randn(3 * T, 2, 3)
    start = torch.rand(T, 2) < 0.1
    with forced_kernel(kernel):
        near: Any = core(x[:T])[1].detach()
        times = {"written_at": torch.where(near.filled, near.written_at + far, 0)} if "written_at" in vars(near) else {}
        found = []
        for state in (near, replace(near, step=near.step + far, **times)):
            output, after = core(x[T : 2 * T], state)
            with torch.no_grad():
                last, ahead = core.step(x[2 * T], after.detach())
                again, end = core(x[2 * T :], ahead, start)
            found.append(
                ([output, last, again, *torch.autograd.grad(output.pow(2).sum(), list(core.parameters()))], ahead)
            )
            assert bool((end.step[start.any(dim=0)] < T).all())
    for one, other in zip(found[0][0], found[1][0], strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found[1][1].step, found[0][1].step + far)


@pytest.mark.pairs
@every_kernel
@every_distance
@pytest.mark.parametrize("eviction", [each for each in EVICTIONS if each != "reservoir"])
@pytest.mark.parametrize("write", ["every", "novel", "refresh"])
def test_a_stream_goes_on_from_any_step(kernel: str, far: int, eviction: Any, write: Any) -> None:
    torch.manual_seed(0)
    core: Any = build_core("sab", 3, 4, capacity=5, write_every=2, bptt_steps=3, top_k=2)
    torch.nn.init.uniform_(core.attention.age.weight, -1, 1)
    x, restart = torch.randn(60, 2, 3), torch.tensor([True, False])

    def learned(stream: SABStream, x: Tensor, at: int | None) -> list[Tensor]:
        found = []
        for t, observation in enumerate(x):
            found.append(stream.step(observation, restart if t == at else None))
            if t % 4 == 3:
                core.zero_grad()
                replay = stream.replay()
                replay.backward(replay.outputs)
                stream.credit()
                stream.advance()
                found += [parameter.grad.clone() for parameter in core.parameters()]
        return found

    with forced_kernel(kernel):
        near, distant = (SABStream(core, 2, **rules(eviction, write, 0.3)) for _ in range(2))
        learned(near, x[:22], None)
        distant.load_state_dict(moved(near.state_dict(), far))
        for one, other in zip(learned(near, x[22:], 30), learned(distant, x[22:], 30), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(distant.state.step - near.state.step, torch.tensor([0, far]))


@needs_native
@pytest.mark.parametrize("drawn", [2**31 - 5, 2**53 - 5, 2**63 - 5])
def test_every_kernel_draws_alike_from_any_count(drawn: int) -> None:
    found = []
    for kernel in ("native", "torch"):
        torch.manual_seed(0)
        with forced_kernel(kernel):
            stream: Any = SABStream(build_core("sab", 3, 4, capacity=4), 2, eviction="reservoir", write="every")  # type: ignore[arg-type]
            stream.state.draws.fill_(drawn)
            for _ in range(40):
                stream.step(torch.randn(2, 3))
            found.append(stream.state)
    assert torch.equal(found[0].written_at, found[1].written_at)
    assert torch.equal(found[0].draws, found[1].draws)


@every_distance
@pytest.mark.parametrize("core", ["sab", "lstm_tbptt"])
def test_a_learner_goes_on_from_any_step(core: str, far: int) -> None:
    near = OnlineLearner(3, 2, core=core, hidden_size=4, update_every=4, learning_rate=0.1)
    rng = np.random.default_rng(0)
    for x in rng.standard_normal((30, 3)):
        near.learn_one(x, int(x[0] > 0))
    distant, state = copy.deepcopy(near), near.state_dict()
    counts = {f"count.{name}": state[f"count.{name}"] + far for name in ("steps", "updates")}
    distant.load_state_dict(moved(state, far) | counts)
    for x in rng.standard_normal((40, 3)):
        assert near.predict_proba_one(x) == distant.predict_proba_one(x)
        near.learn_one(x, int(x[0] > 0))
        distant.learn_one(x, int(x[0] > 0))
    assert distant.state_dict()["count.steps"] == near.state_dict()["count.steps"] + far
    assert str(distant.credit_report())


@every_distance
@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy"])
def test_an_agent_goes_on_from_any_step(policy: str, far: int) -> None:
    near = StreamAC(policy, "CartPole-v1", seed=0, policy_kwargs={"hidden_size": 4, "width": 4}).learn(30)
    distant, state = copy.deepcopy(near), near.state_dict()
    counts = {name: state[name] + far for name in ("count.num_timesteps", "count._n_updates", "count._episode_num")}
    distant.load_state_dict(moved(state, far) | counts)
    for agent in (near, distant):
        agent.learn(50, reset_num_timesteps=False, log_interval=1)
    for name, parameter in near.policy.state_dict().items():
        assert torch.equal(parameter, distant.policy.state_dict()[name])
    assert distant.num_timesteps == near.num_timesteps + far
