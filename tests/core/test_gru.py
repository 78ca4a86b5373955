"""GRU: `nn.GRU` that knows where episodes start, and every learner that knows it by its name."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC, build_core
from sab_agents.core import GRU
from sab_agents.core.gru import GRUState
from sab_agents.kernels import packed
from sab_agents.kernels.layout import Packed
from tests.core.baseline_cases import F64, B, H, I, T, close, gradient, inputs, random_starts, same_state, stepped
from tests.kernels.extension import INSTRUCTION_SETS, needs_native, with_instruction_set


def core(**settings: Any) -> GRU:
    torch.manual_seed(0)
    built = build_core("gru", I, H, dtype=F64, **settings)
    assert isinstance(built, GRU)
    return built


@pytest.mark.parametrize("layers", [1, 2])
def test_each_episode_equals_a_call_of_nn_gru(layers: int) -> None:
    gru, x, starts = core(layers=layers), inputs(), random_starts()
    output = gru(x, None, starts)[0]
    for row in range(B):
        firsts = sorted({0, *starts[:, row].nonzero().flatten().tolist()})
        for first, end in zip(firsts, [*firsts[1:], T], strict=True):
            close(output[first:end, row], gru.gru(x[first:end, row])[0])


@pytest.mark.parametrize("settings", [{}, {"layers": 2}, {"bptt_steps": 3}])
def test_a_sequence_equals_its_steps(settings: dict[str, Any]) -> None:
    gru, x, starts = core(**settings), inputs(), random_starts()
    output, state = gru(x, None, starts)
    steps, after = stepped(gru, x, starts)
    close(output, steps)
    same_state(state, after)


@pytest.mark.parametrize("layers", [1, 2])
def test_episodes_in_one_call_have_the_gradients_of_one_after_the_other(
    layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gru, x, starts = core(layers=layers), inputs().requires_grad_(), random_starts()
    state = gru(inputs(), None, random_starts())[1]
    before = GRUState(state.h.detach().requires_grad_(), state.step)
    calls: list[int] = []

    def noted(start: torch.Tensor) -> Packed:
        calls.append(len(start))
        return packed(start)

    monkeypatch.setattr("sab_agents.core.gru.packed", noted)

    def learnt() -> list[torch.Tensor]:
        output, after = gru(x, before, starts)
        torch.manual_seed(1)
        loss = (output * torch.randn_like(output)).sum() + (after.h * torch.randn_like(after.h)).sum()
        return [output, after.h, *torch.autograd.grad(loss, [x, before.h, *gru.parameters()])]

    together = learnt()
    assert calls == [T]
    monkeypatch.setattr("sab_agents.core.gru.is_known", lambda *_: False)
    for one, other in zip(together, learnt(), strict=True):
        close(one, other)
    assert calls == [T]


def test_gradient_ends_at_a_cut_and_at_an_episode_start() -> None:
    x = inputs().requires_grad_()
    starts = torch.zeros(T, B, dtype=torch.bool)
    starts[6, 0] = True
    (truncated,) = gradient(core(bptt_steps=4)(x, None, starts)[0][9], x)
    assert truncated[8:10].abs().sum(2).gt(0)[:, 1:].all()  # steps 9 and 10 of the rows without a start: cut before 9
    assert not truncated[:8, 1:].any()
    (full,) = gradient(core()(x, None, starts)[0][9], x)
    assert full[:10, 1:].abs().sum(2).gt(0).all()
    assert not full[:6, 0].any()
    assert full[6:10, 0].abs().sum(1).gt(0).all()


@pytest.mark.parametrize(("settings", "message"), [({"dropout": 1.5}, "dropout"), ({"layers": 0}, "layers")])
def test_a_setting_out_of_range_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"GRU: {message} must be"):
        GRU(2, 4, **settings)


def test_every_learner_knows_it_by_its_name() -> None:
    learner = OnlineLearner(3, 2, core="gru", hidden_size=8, layers=2)
    before = [parameter.detach().clone() for parameter in learner.parameters]
    for step in range(16):
        learner.learn_one(np.ones(3, np.float32), step % 2)
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))
    streaming = StreamAC("MlpGruPolicy", "SAB/MemoryChain-v0", policy_kwargs={"hidden_size": 8, "width": 8}, seed=0)
    assert streaming.learn(50).num_timesteps == 50
    env = gym.make_vec("SAB/PassiveTMaze-v0", num_envs=2, corridor_length=4)
    ppo = RecurrentPPO("MlpGruPolicy", env, n_steps=8, policy_kwargs={"lstm_hidden_size": 8, "n_lstm_layers": 2})
    assert ppo.learn(32).num_timesteps == 32
    assert {"CnnGruPolicy", "MultiInputGruPolicy"} <= set(RecurrentPPO.policy_aliases)


@pytest.mark.parametrize("settings", [{}, {"layers": 2}, {"bptt_steps": 3}], ids=str)
def test_a_replay_has_the_gradients_of_a_graph(settings: dict[str, Any]) -> None:
    gru, x, starts = core(**settings), inputs(), random_starts()
    state = gru(inputs(), None, random_starts())[1]
    before = GRUState(state.h.detach(), state.step)
    output = gru(x, before, starts)[0]
    received = torch.randn_like(output)
    expected = torch.autograd.grad(output, list(gru.parameters()), received)
    kept = [torch.ones_like(each) for each in expected]
    for parameter, held in zip(gru.parameters(), kept, strict=True):
        parameter.grad = held
    replay, given = gru.replay(x, before, starts), received.clone()
    close(replay.outputs, output)
    assert not replay.outputs.requires_grad
    replay.backward(given)
    assert torch.equal(given, received)
    for parameter, sought in zip(gru.parameters(), expected, strict=True):
        assert parameter.grad is not None
        close(parameter.grad, 1 + sought)


@needs_native
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize(("rows", "hidden"), [(1, 5), (3, 16), (11, 33)])
def test_a_compiled_replay_has_the_numbers_of_float64(rows: int, hidden: int, instructions: str) -> None:
    torch.manual_seed(0)
    whole = GRU(I, hidden, dtype=F64)
    single = GRU(I, hidden)
    single.load_state_dict(whole.state_dict())
    x, h = torch.randn(T, rows, I, dtype=F64), torch.randn(rows, 1, hidden, dtype=F64)
    starts, received = torch.rand(T, rows) < 0.2, torch.randn(T, rows, hidden, dtype=F64)
    step = torch.ones(rows, dtype=torch.int64)

    def learnt(gru: GRU, dtype: torch.dtype) -> list[torch.Tensor]:
        replay = gru.replay(x.to(dtype), GRUState(h.to(dtype), step), starts)
        replay.backward(received.to(dtype))
        gradients = [parameter.grad for parameter in gru.parameters()]
        return [replay.outputs, *(each for each in gradients if each is not None)]

    expected = learnt(whole, F64)
    with with_instruction_set(instructions):
        found = learnt(single, torch.float32)
    assert len(expected) == len(found) == 5
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other.double(), one, rtol=1e-4, atol=1e-5)


@needs_native
def test_threads_do_not_change_a_compiled_replay() -> None:
    torch.manual_seed(0)
    gru, x = GRU(I, 128), torch.randn(64, 32, I)
    starts, state, found = torch.rand(64, 32) < 0.1, gru.initial_state(32), []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        gru.zero_grad()
        replay = gru.replay(x, state, starts)
        replay.backward(replay.outputs.cos())
        found.append([replay.outputs, *(parameter.grad for parameter in gru.parameters())])
    torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_a_replay_leaves_what_is_frozen_and_calls_hooks() -> None:
    gru, x, starts, called = core(), inputs(), random_starts(), []
    gru.gru.weight_ih_l0.requires_grad_(False)
    state = gru.initial_state(B)
    replay = gru.replay(x, state, starts)
    replay.backward(torch.ones_like(replay.outputs))
    assert gru.gru.weight_ih_l0.grad is None
    assert gru.gru.weight_hh_l0.grad is not None
    weight: Any = gru.gru.weight_hh_l0
    weight.register_hook(lambda gradient: called.append(gradient.shape))
    replay = gru.replay(x, state, starts)
    replay.backward(torch.ones_like(replay.outputs))
    assert called
