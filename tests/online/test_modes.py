"""A learner computes the same under any mode of torch, and a replay has its gradient."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC
from sab_agents.core import build_core
from sab_agents.streaming import make_stream

Mode = Callable[[], AbstractContextManager[Any]]
MODES: dict[str, Mode] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
CORES = ("sab", "lstm_tbptt", "gru", "rtu", "mingru")


def of_learner(core: str, encodes: bool, mode: Mode) -> list[Tensor]:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"core": core, "hidden_size": 6, "update_every": 4, "learning_rate": 0.05}
    if encodes:
        settings |= {"encoder": nn.Linear(3, 4), "observation_shape": (3,)}
    learner = OnlineLearner(4 if encodes else 3, 2, **settings)
    stream = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    for part, during in ((stream[:24], mode), (stream[24:], nullcontext)):
        with during():
            for t, x in enumerate(part):
                if t % 3 == 0:
                    learner.predict_one(x)
                learner.learn_one(torch.from_numpy(x) if t % 2 else x, int(x[0] > 0))
    return list(learner.parameters)


def of_agent(make: Callable[[], Any], steps: int, mode: Mode) -> list[Tensor]:
    agent = make()
    with mode():
        agent.learn(2 * steps)
        agent.predict(np.zeros(4, dtype=np.float32))
    return list(agent.learn(steps, reset_num_timesteps=False).policy.parameters())


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@every_mode
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("encodes", [False, True], ids=["", "encoder"])
def test_a_learner_learns_the_same(core: str, encodes: bool, mode: Mode) -> None:
    assert_equal(of_learner(core, encodes, mode), of_learner(core, encodes, nullcontext))


@every_mode
@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpGruPolicy", "MlpRtuPolicy"])
def test_an_agent_learns_the_same(policy: str, mode: Mode) -> None:
    make = lambda: StreamAC(policy, "CartPole-v1", seed=0, policy_kwargs={"hidden_size": 6, "width": 6})  # noqa: E731
    assert_equal(of_agent(make, 20, mode), of_agent(make, 20, nullcontext))


@every_mode
@pytest.mark.parametrize("policy", ["MlpSabPolicy", "MlpLstmPolicy", "MlpTransformerPolicy"])
def test_ppo_learns_the_same(policy: str, mode: Mode) -> None:
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0}
    make = lambda: RecurrentPPO(policy, "CartPole-v1", policy_kwargs={"lstm_hidden_size": 8}, **settings)  # noqa: E731
    assert_equal(of_agent(make, 16, mode), of_agent(make, 16, nullcontext))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("encodes", [False, True], ids=["", "encoder"])
def test_a_replay_of_a_stream_has_its_gradient_without_recording(core: str, encodes: bool) -> None:
    found = []
    for mode in (torch.no_grad, nullcontext):
        torch.manual_seed(0)
        encoder = nn.Linear(3, 3) if encodes else None
        made = build_core(core, 3, 4, **({"capacity": 4} if core == "sab" else {}))
        stream = make_stream(made, 2, encoder=encoder)
        with mode():
            for observation in torch.randn(6, 2, 3):
                stream.step(observation)
            replay = stream.replay()
            replay.backward(replay.outputs.detach())
            stream.credit()
            stream.advance()
            output = stream.step_and_replay(torch.randn(2, 3))
            stream.backward(output.detach())
        found.append([each.grad for each in (*made.parameters(), *(encoder.parameters() if encoder else ()))])
    for one, other in zip(*found, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other)
