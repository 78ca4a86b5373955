"""The fast ways of learning give what the plain ones do: values, log-probabilities and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import Tensor

from sab_agents import LSTM, RecurrentPPO
from sab_agents.kernels import Layout, forced_kernel, relaid, replay
from sab_agents.kernels.native_backend.extension import native
from sab_agents.ppo.losses import Batch

needs_native = pytest.mark.skipif(native is None, reason="the native kernel was not built: no C++ compiler")
POLICIES = ["MlpLstmPolicy", "MlpSabPolicy"]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def collected(policy: str, corridor_length: int = 6) -> RecurrentPPO:
    """An agent with a rollout of 3 × 24 steps that begins within episodes of `corridor_length` + 1 steps."""
    env = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=3, corridor_length=corridor_length)
    kwargs = {"lstm_hidden_size": 8, "net_arch": [8]}
    model = RecurrentPPO(policy, env, n_steps=24, batch_size=24, n_epochs=2, policy_kwargs=kwargs, seed=0, device="cpu")
    _, callback = model._setup_learn(1, None)
    callback.on_training_start(locals(), globals())
    for _ in range(2):
        assert model.env is not None
        assert model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


def evaluated(model: RecurrentPPO, rows: list[int]) -> tuple[Tensor, ...]:
    """Values and log-probabilities of rows, then the gradient of each parameter from a random loss."""
    chosen = torch.tensor(rows)
    actions = Batch.of(model.rollout_buffer, 1).minibatch(chosen).actions
    model.policy.optimizer.zero_grad()
    found = model.policy.evaluate_rows(model.collector.rollout(), chosen, actions)
    torch.manual_seed(1)
    ((found.values + found.log_prob) * torch.randn_like(found.values)).sum().backward()  # type: ignore[no-untyped-call]
    found.backward()
    gradients = [parameter.grad for parameter in model.policy.parameters()]
    return (found.values.detach(), found.log_prob.detach(), *(g.clone() for g in gradients if g is not None))


@needs_native
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rows", [[0], [2, 0], [0, 1, 2]], ids=str)
def test_compiled_code_and_plain_torch_agree(policy: str, rows: list[int]) -> None:
    model = collected(policy)
    fast = evaluated(model, rows)
    with forced_kernel("torch"):
        plain = evaluated(model, rows)
    assert len(fast) == len(plain) > 2
    for got, expected in zip(fast, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


@needs_native
@pytest.mark.parametrize("corridor_length", [6, 100])
def test_an_lstm_is_run_again_without_a_graph(corridor_length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In rows that are cut at episode starts where there are any: of 24 steps with episodes of 7, in 7."""
    model, steps = collected("MlpLstmPolicy", corridor_length), []
    replay = LSTM.replay

    def noted(core: LSTM, x: Tensor, *rest: Any) -> Any:
        steps.append(len(x))
        return replay(core, x, *rest)

    monkeypatch.setattr(LSTM, "replay", noted)
    monkeypatch.setattr(LSTM, "forward", lambda *_: pytest.fail("went by a graph"))
    evaluated(model, [1])
    assert steps == ([7, 7] if corridor_length == 6 else [24, 24])


@needs_native
def test_a_row_is_laid_anew_once_in_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def noted(start: Tensor, x: Tensor) -> Layout | None:
        calls.append(start)
        return relaid(start, x)

    monkeypatch.setattr("sab_agents.streaming.truncated.relaid", noted)
    collected("MlpLstmPolicy").train()
    assert len(calls) == 3 * 2  # rows times cores, in two epochs


@needs_native
@pytest.mark.parametrize("corridor_length", [6, 100])
def test_a_sab_is_run_again_in_shorter_rows(corridor_length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets of it what the row as it is gives: the same outputs, gradients, and credit of what came before."""
    model, steps = collected("MlpSabPolicy", corridor_length), []

    def noted(weights: Any, x: Tensor, *rest: Any, **settings: Any) -> Any:
        steps.append(len(x))
        return replay(weights, x, *rest, **settings)

    monkeypatch.setattr("sab_agents.streaming.sab_window.replay", noted)
    cut = evaluated(model, [1])
    assert steps == ([7, 7] if corridor_length == 6 else [24, 24])
    monkeypatch.setattr("sab_agents.streaming.sab_window.relaid", lambda *_: None)
    for window in (model.collector.rollout().actor, model.collector.rollout().critic):
        assert window is not None
        window.cut_every(None)  # forgets how rows were laid out
    whole = evaluated(model, [1])
    assert steps[2:] == [24, 24]
    assert torch.equal(cut[0], whole[0])
    for got, expected in zip(cut, whole, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_cores_side_by_side_change_no_bit(policy: str, two_threads: None) -> None:  # noqa: ARG001
    model = collected(policy)
    both = evaluated(model, [1])
    torch.set_num_threads(1)
    alone = evaluated(model, [1])
    assert all(torch.equal(got, expected) for got, expected in zip(both, alone, strict=True))
