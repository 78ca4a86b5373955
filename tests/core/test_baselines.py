"""The baseline cores: one computation however it is cut, episodes, carried states, and the boundary."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from sab_agents.core.lstm import LSTM, LSTMState
from sab_agents.core.lstm_attention import LSTMAttention
from sab_agents.core.transformer import Transformer
from tests.core.baseline_cases import (
    F64,
    B,
    Builder,
    H,
    I,
    T,
    close,
    every_class,
    every_core,
    gradient,
    inputs,
    made,
    random_starts,
    same_state,
    stepped,
    windowed,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# ---- one computation, however it is cut -------------------------------------------------------------------------


@every_core
@pytest.mark.parametrize("chance", [None, 0.0, 0.2, 0.9])
def test_step_by_step_equals_the_whole_sequence(build: Builder, chance: float | None) -> None:
    core = made(build)
    x = inputs().requires_grad_()
    starts = None if chance is None else torch.rand(T, B) < chance
    whole, state = core(x, None, starts)
    steps, stepped_state = stepped(core, x, starts)
    assert whole.shape == (T, B, core.output_size)
    close(steps, whole)
    same_state(stepped_state, state)
    wrt = [x, *core.parameters()]
    for actual, expected in zip(gradient(steps, *wrt), gradient(whole, *wrt), strict=True):
        close(actual, expected)


@every_core
@pytest.mark.parametrize("cut", [1, 5, T - 1])
def test_a_state_carries_values_and_gradient_across_calls(build: Builder, cut: int) -> None:
    core = made(build)
    x, starts = inputs().requires_grad_(), random_starts()
    whole, whole_state = core(x, None, starts)
    first, state = core(x[:cut], None, starts[:cut])
    before = [tensor.clone() for tensor in state.tensors()]
    second, last_state = core(x[cut:], state, starts[cut:])
    close(torch.cat([first, second]), whole)
    same_state(last_state, whole_state)
    close(gradient(second, x)[0], gradient(whole[cut:], x)[0])
    for tensor, old in zip(state.tensors(), before, strict=True):
        assert torch.equal(tensor, old)  # a state is a value
    detached, _ = core(x[cut:], state.detach(), starts[cut:])
    assert gradient(detached, x)[0][:cut].eq(0).all()


@every_core
def test_a_batch_equals_its_rows_alone(build: Builder) -> None:
    core = made(build)
    x, starts = inputs(), random_starts()
    together, state = core(x[:7], None, starts[:7])
    together = torch.cat([together, core(x[7:], state, starts[7:])[0]])
    for row in range(B):
        alone, _ = core(x[:, [row]], None, starts[:, [row]])
        close(alone, together[:, [row]])


@every_core
def test_batch_first_only_swaps_the_axes(build: Builder) -> None:
    core, swapped = made(build), made(build, batch_first=True)
    swapped.load_state_dict(core.state_dict())
    x, starts = inputs(), random_starts()
    expected, state = core(x, None, starts)
    actual, swapped_state = swapped(x.transpose(0, 1), None, starts.T)
    close(actual, expected.transpose(0, 1))
    same_state(swapped_state, state)
    close(swapped.step(x[0], state)[0], core.step(x[0], state)[0])


@every_core
def test_the_smallest_sequences(build: Builder) -> None:
    core = made(build)
    _, state = core(inputs(5))
    output, same = core(inputs(0), state)
    assert output.shape == (0, B, core.output_size)
    assert same is state
    x = inputs(1, 1)
    close(core(x)[0][0], core.step(x[0])[0])
    close(core(x, None, torch.ones(1, 1, dtype=torch.bool))[0], core(x)[0])


# ---- episodes ---------------------------------------------------------------------------------------------------


@every_core
@pytest.mark.parametrize("by_step", [False, True])
def test_nothing_of_one_episode_reaches_another(build: Builder, by_step: bool) -> None:
    core = made(build)
    carried, x = inputs(3).requires_grad_(), inputs().requires_grad_()
    _, state = core(carried)
    starts = torch.zeros(T, B, dtype=torch.bool)
    starts[6, 0] = starts[9, 1] = True
    output, _ = stepped(core, x, starts, state) if by_step else core(x, state, starts)
    close(output[6:, 0], core(x[6:, [0]])[0][:, 0])
    close(output[9:, 1], core(x[9:, [1]])[0][:, 0])
    to_carried, to_x = gradient(output[9:, :2], carried, x)
    assert to_carried[:, :2].eq(0).all()
    assert to_x[:6, 0].eq(0).all()
    assert to_x[:9, 1].eq(0).all()
    assert to_x[9:, :2].ne(0).all()
    changed, _ = core(x + (torch.arange(T) < 6).view(T, 1, 1), state, starts)
    assert torch.equal(changed[6:, 0], core(x, state, starts)[0][6:, 0])
    assert not torch.equal(changed[6:, 1], output[6:, 1])


@every_core
def test_a_reset_row_starts_anew_and_the_others_go_on(build: Builder) -> None:
    core = made(build)
    _, state = core(inputs())
    x = inputs(5)
    rows = torch.tensor([True, False, False, True])
    output, after = core(x, state.reset(rows))
    starts = torch.zeros(5, B, dtype=torch.bool)
    starts[0] = rows
    expected, expected_state = core(x, state, starts)
    close(output, expected)
    same_state(after, expected_state)
    close(output[:, rows], core(x[:, rows])[0])
    all_new, _ = core(x, state.reset(torch.ones(B, dtype=torch.bool)))
    close(all_new, core(x)[0])


@every_core
def test_the_initial_state_is_all_zeros(build: Builder) -> None:
    core = made(build)
    state = core.initial_state(B)
    assert state.batch_size == B
    assert all(tensor.eq(0).all() for tensor in state.tensors())
    assert all(tensor.dtype in (F64, torch.int64, torch.bool) for tensor in state.tensors())
    x = inputs(4)
    close(core(x, state)[0], core(x)[0])


def test_memory_that_no_row_uses_is_dropped() -> None:
    starts = torch.zeros(T, B, dtype=torch.bool)
    starts[5:9] = torch.eye(B, dtype=torch.bool)
    attention = made(LSTMAttention)(inputs(), None, starts)[1]
    assert attention.filled.sum(1).tolist() == [8, 7, 6, 5] == attention.step.tolist()
    assert attention.memory.shape == (B, 8, H)
    assert attention.memory[~attention.filled].eq(0).all()
    transformer = made(Transformer)(inputs(), None, starts)[1]
    assert transformer.positions.tolist() == [[0] * (8 - n) + list(range(1, n + 1)) for n in (8, 7, 6, 5)]
    assert transformer.keys.shape == transformer.values.shape == (B, 2, 8, H)
    assert transformer.keys.movedim(1, 2)[transformer.positions == 0].eq(0).all()
    assert made(windowed)(inputs())[1].positions.tolist() == [[10, 11, 12, 13]] * B


# ---- the boundary -----------------------------------------------------------------------------------------------


@every_core
def test_states_survive_numpy(build: Builder) -> None:
    core = made(build)
    _, state = core(inputs(), None, random_starts())
    arrays = state.to_numpy()
    copied = type(state).from_numpy(pickle.loads(pickle.dumps(arrays)))
    same_state(copied, state.detach())
    x = inputs(3)
    close(core(x, copied)[0], core(x, state)[0])


@every_core
def test_cores_can_be_pickled_and_copied(build: Builder) -> None:
    core = made(build)
    x = inputs()
    for twin in (pickle.loads(pickle.dumps(core)), copy.deepcopy(core)):
        assert torch.equal(twin(x)[0], core(x)[0])
    assert str(core).startswith(type(core).__name__)


@every_core
def test_cores_follow_their_dtype(build: Builder) -> None:
    core = build(I, H, device="cpu")
    output, state = core(inputs().float())
    assert output.dtype == torch.float32
    core.double()
    assert core(inputs(), state.to(dtype=F64))[0].dtype == F64


@every_class
@pytest.mark.parametrize(("name", "value"), [("input_size", 0), ("hidden_size", -1)])
def test_sizes_are_at_least_one(build: Builder, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, but is {value}"):
        build(**{"input_size": I, "hidden_size": H, name: value})
    with pytest.raises(TypeError, match=f"{name} must be an int"):
        build(**{"input_size": I, "hidden_size": H, name: 2.0})


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (LSTM, "bptt_steps"),
        (LSTMAttention, "attention_size"),
        (Transformer, "layers"),
        (Transformer, "heads"),
        (Transformer, "context"),
    ],
)
def test_options_are_checked(build: Builder, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be at least 1, but is 0"):
        build(I, H, **{name: 0})
    with pytest.raises(TypeError, match=rf"{name} must be an int"):
        build(I, H, **{name: "2"})


def test_hidden_size_must_be_divisible_by_heads() -> None:
    with pytest.raises(ValueError, match=r"divisible by heads, but hidden_size is 10 and heads is 4\. Use .*=12"):
        Transformer(I, 10, heads=4)


@every_class
def test_wrong_arguments_are_refused(build: Builder) -> None:
    core = made(build)
    x = inputs()
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        core.initial_state(0)
    with pytest.raises(TypeError, match="x must be a dense tensor"):
        core.forward([[[1.0]]])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x must have shape"):
        core(x[..., :2])
    with pytest.raises(ValueError, match="x must be finite"):
        core(x / 0)
    with pytest.raises(ValueError, match=r"x must be torch\.float64"):
        core(x.float())
    with pytest.raises(TypeError, match="episode_start must be a bool tensor"):
        core(x, None, torch.zeros(T, B))
    with pytest.raises(ValueError, match="episode_start must have shape"):
        core(x, None, torch.zeros(B, T, dtype=torch.bool))


@every_class
def test_states_that_do_not_fit_are_refused(build: Builder) -> None:
    core = made(build)
    x = inputs()
    with pytest.raises(TypeError, match="state must be a"):
        core(x, (torch.zeros(B, H), torch.zeros(B, H)))
    with pytest.raises(ValueError, match="rows but state has 2"):
        core(x, core.initial_state(2))
    with pytest.raises(ValueError, match=r"state must be torch\.float64"):
        core(x, core.initial_state(B).to(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"state\.\w+ must have shape"):
        core(x, build(I, 2 * H, dtype=F64).initial_state(B))


def test_a_state_of_other_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"state\.keys must have shape \(4, 2, 0, 8\), but has \(4, 3, 0, 8\)"):
        made(Transformer)(inputs(), Transformer(I, H, layers=3, dtype=F64).initial_state(B))


def test_an_lstm_state_with_values_at_step_zero_is_read_as_by_nn_lstm() -> None:
    core = LSTM(I, H, dtype=F64)
    x, h, c = inputs(), torch.randn(B, H, dtype=F64), torch.randn(B, H, dtype=F64)
    expected, _ = core.lstm(x, (h.unsqueeze(0), c.unsqueeze(0)))
    state = LSTMState(h.unsqueeze(1), c.unsqueeze(1), torch.zeros(B, dtype=torch.int64))
    close(core(x, state)[0], expected)
