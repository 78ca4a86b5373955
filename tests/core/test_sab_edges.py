"""Ties, empty and tiny memories, lengths of zero and one, and wrong arguments: defined results or clear errors."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from sab_agents import LSTM, SAB, SABState, SoftmaxSAB, build_core
from sab_agents.core import sparsify
from sab_agents.kernels import SCORES, Reading, ScanArguments, ScanPlan, reference_scan
from tests.core.test_scan_equals_reference import Compute, by_torch, fitting, place, shapes_of


def test_weights_keep_the_best_shift_them_and_sum_to_one() -> None:
    scores = torch.tensor([[0.5, 2.0, 1.0, -1.0, 3.0]])
    weights = sparsify(scores, torch.ones(1, 5, dtype=torch.bool), 2)
    # θ = 1, the third largest: 2 − 1 and 3 − 1 over their sum.
    torch.testing.assert_close(weights, torch.tensor([[0, 1 / 3, 0, 0, 2 / 3]]))


def test_with_no_more_slots_than_top_k_every_filled_slot_takes_part() -> None:
    scores = torch.tensor([[0.0, 1.0, 9.0]])
    weights = sparsify(scores, torch.tensor([[True, True, False]]), 2)
    torch.testing.assert_close(weights, torch.tensor([[1 / 3, 2 / 3, 0]]))


@pytest.mark.parametrize("top_k", [1, 3, 4, 9])
def test_equal_scores_give_zeros_or_equal_weights_and_never_nan(top_k: int) -> None:
    scores = torch.full((2, 4), 0.7, requires_grad=True)
    weights = sparsify(scores, torch.ones(2, 4, dtype=torch.bool), top_k)
    torch.testing.assert_close(weights, torch.full((2, 4), 0.25 if top_k >= 4 else 0.0))
    (gradient,) = torch.autograd.grad(weights[:, 0].sum(), scores)
    assert torch.isfinite(gradient).all()


def test_a_row_without_memory_has_zero_weights_and_zero_gradient() -> None:
    scores = torch.randn(2, 3, requires_grad=True)
    weights = sparsify(scores, torch.tensor([[False] * 3, [True] * 3]), 1)
    assert weights[0].tolist() == [0, 0, 0]
    (gradient,) = torch.autograd.grad((weights * torch.randn(2, 3)).sum(), scores)
    assert gradient[0].tolist() == [0, 0, 0]


def test_sparsify_refuses_a_top_k_of_zero_and_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="top_k must be at least 1, but is 0"):
        sparsify(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), 0)
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        sparsify(torch.zeros(1, 2), torch.ones(1, 3, dtype=torch.bool), 1)


@pytest.mark.parametrize("compute", [by_torch, reference_scan])
@pytest.mark.parametrize("score", SCORES)
def test_equal_memories_give_finite_results_and_finite_gradients(compute: Compute, score: str) -> None:
    T, B, H, S = 3, 2, 2, 6
    torch.manual_seed(0)
    shapes = shapes_of(T, B, 4, H, 3, S)
    arguments: list[Any] = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    arguments[place("memory")] = torch.ones(B, S, H, dtype=torch.float64, requires_grad=True)
    flags = torch.zeros(T, B, dtype=torch.bool)
    filled, reading = torch.ones(B, S, dtype=torch.bool), Reading(2, score=score)
    plan = ScanPlan(flags, flags, torch.full((T, B), -1), filled, S, reading)
    outputs = compute(ScanArguments(*fitting(arguments, plan)), plan)
    assert outputs.summary.abs().max() == 0
    tensors = [argument for argument in arguments if argument is not None]
    gradients = torch.autograd.grad(outputs.h.sum(), tensors, materialize_grads=True)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_constant_input_for_a_thousand_steps_stays_finite_with_finite_gradients() -> None:
    torch.manual_seed(0)
    sab = SAB(2, 8, top_k=3, bptt_steps=4, capacity=16)
    output, _ = sab(torch.ones(1000, 2, 2))
    output.square().mean().backward()
    assert torch.isfinite(output).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in sab.parameters())


def test_one_step_reads_nothing_and_a_second_reads_the_first() -> None:
    sab = SAB(2, 4, top_k=8, floor=0.25)
    output, state, log = sab(torch.randn(1, 1, 2), return_attention=True)
    assert output[..., 4:].abs().max() == 0
    assert log.steps.max() == -1
    assert state.filled.tolist() == [[True]]
    output, _, log = sab(torch.randn(1, 1, 2), state, return_attention=True)
    torch.testing.assert_close(output[0, 0, 4:], 0.8 * state.memory[0, 0])
    assert log.steps[0, 0, 0] == 0
    assert log.weights[0, 0, 0] == pytest.approx(1 / 1.25)


@pytest.mark.parametrize("floor", [0.0, 0.3])
@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_sharp_weights_are_a_softmax_of_the_best_less_the_next(floor: float, sharpness: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(6, 9, dtype=torch.float64)
    weights = sparsify(scores, torch.ones(6, 9, dtype=torch.bool), 4, floor, sharpness)
    ranked = scores.sort(dim=1, descending=True).values
    for row in range(6):
        beyond = torch.exp(sharpness * ranked[row, :4]) - torch.exp(sharpness * ranked[row, 4])
        expected = beyond / (beyond.sum() + floor * sharpness * torch.exp(sharpness * ranked[row, 4]))
        torch.testing.assert_close(weights[row].sort(descending=True).values[:4], expected)
    assert bool(((weights > 0).sum(dim=1) == 4).all())


def test_sharp_weights_stay_finite_however_far_apart_scores_are_and_are_the_papers_when_they_are_close() -> None:
    filled = torch.tensor([[True] * 5, [False] * 5])
    scores = torch.tensor([[0.0, 900.0, 1.0, -900.0, 899.0]] * 2, requires_grad=True)
    for floor in (0.0, 0.1):
        weights = sparsify(scores, filled, 2, floor, 4.0)
        (gradient,) = torch.autograd.grad(weights[0, 1], scores)
        assert bool(torch.isfinite(weights).all())
        assert bool(torch.isfinite(gradient).all())
        assert float(weights[0, 1].detach()) == pytest.approx(1 / (1 + math.exp(-4)), rel=1e-5)
        assert float(weights[1].detach().abs().max()) == 0
    close = torch.randn(3, 6) * 1e-3
    every = torch.ones(3, 6, dtype=torch.bool)
    torch.testing.assert_close(sparsify(close, every, 3, 0.1, 1.0), sparsify(close, every, 3, 0.1), rtol=5e-3, atol=0)


@pytest.mark.parametrize("sharpness", [-1.0, math.inf, math.nan, "2"])
def test_a_sharpness_that_is_no_finite_number_of_at_least_0_is_refused(sharpness: Any) -> None:
    with pytest.raises(ValueError, match="SAB: sharpness must be a finite number of at least 0, but is"):
        SAB(2, 4, sharpness=sharpness)


def test_a_sequence_of_length_zero_returns_nothing_and_the_state_as_it_was() -> None:
    sab = SAB(2, 4, capacity=3)
    _, state = sab(torch.randn(5, 2, 2))
    output, after, log = sab(torch.randn(0, 2, 2), state, return_attention=True)
    assert output.shape == (0, 2, 8)
    assert after is state
    assert log.steps.shape == (0, 2, 6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused(value: float) -> None:
    x = torch.zeros(3, 1, 2)
    x[1, 0, 1] = value
    with pytest.raises(ValueError, match="x must be finite"):
        SAB(2, 4)(x)
    with pytest.raises(ValueError, match=r"SAB.step: x must be finite"):
        SAB(2, 4).step(x[1])


def foreign_states(sab: SAB) -> list[tuple[Any, str]]:
    state = sab.initial_state(2)
    return [
        (sab.initial_state(3), r"x has 2 rows but state has 3.*initial_state\(2\)"),
        (state.to(dtype=torch.float64), "state must be torch.float32"),
        (SAB(2, 5, capacity=3).initial_state(2), "hidden size 4, but has 5"),
        (SAB(2, 4, capacity=7).initial_state(2), r"3 slots \(capacity\), but has 7"),
        (replace(state, filled=state.filled[:, :1]), "filled"),
        (replace(state, filled=state.filled.long()), "filled"),
        (replace(state, c=state.c[:, :2]), "c must"),
    ]


def test_states_that_do_not_fit_are_refused() -> None:
    sab = SAB(2, 4, capacity=3)
    for state, message in foreign_states(sab):
        with pytest.raises(ValueError, match=message):
            sab(torch.zeros(3, 2, 2), state)
    with pytest.raises(TypeError, match="state must be a SABState, but is tuple"):
        sab(torch.zeros(3, 2, 2), (torch.zeros(2, 4), torch.zeros(2, 4)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 2), r"shape \(T, B, I\) with I = 2, but has \(3, 2\)"),
        (torch.zeros(3, 1, 5), r"but has \(3, 1, 5\)"),
        (torch.zeros(3, 1, 2, dtype=torch.float64), r"x must be torch.float32.*x.to\(torch.float32\)"),
        (torch.zeros(3, 1, 2, device="meta"), "but is torch.float32 on meta"),
    ],
)
def test_inputs_of_another_shape_dtype_or_device_are_refused(x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAB(2, 4)(x)


def test_episode_starts_of_another_shape_or_dtype_are_refused() -> None:
    with pytest.raises(ValueError, match=r"episode_start must have shape \(3, 1\)"):
        SAB(2, 4)(torch.zeros(3, 1, 2), None, torch.zeros(1, 3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"episode_start must be a bool tensor.*float32"):
        SAB(2, 4)(torch.zeros(3, 1, 2), None, torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k must be at least 1, but is 0"),
        ({"write_every": 0}, ValueError, "write_every"),
        ({"bptt_steps": -1}, ValueError, "bptt_steps"),
        ({"capacity": 0}, ValueError, "capacity"),
        ({"attention_size": 0}, ValueError, "attention_size"),
        ({"summary_gain": 1.5}, ValueError, 'summary_gain must be a number from 0 to 1, or "gate", but is 1.5'),
        ({"top_k": 2.0}, TypeError, "top_k must be an int"),
        ({"attention": "cosine"}, ValueError, "one of 'mlp', 'dot', but is 'cosine'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SAB(2, 4, **settings)


def test_a_softmax_without_a_positive_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        SoftmaxSAB(2, 4, temperature=0.0)


def test_a_core_is_built_by_name_with_its_own_settings() -> None:
    core = build_core("lstm_tbptt", 2, 4, bptt_steps=7)
    assert core.output_size == 4
    sab = build_core("sab", 2, 4, top_k=3, summary_gain=0, dtype=torch.float64)
    assert isinstance(sab, SAB)
    assert (sab.rules.reading.top_k, sab.rules.reading.gain) == (3, 0)


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("sap", {}, ValueError, "unknown core 'sap'. Did you mean 'sab'?"),
        ("sab", {"topk": 3}, TypeError, "unknown setting 'topk'. Did you mean 'top_k'?"),
        ("lstm", {"bptt_steps": 3}, TypeError, "unknown setting 'bptt_steps'"),
        ("lstm_attention", {"heads": 3}, TypeError, "unknown setting 'heads'. Valid are: attention_size."),
    ],
)
def test_what_a_core_does_not_have_is_an_error(name: str, settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_core(name, 2, 4, **settings)


def test_a_state_goes_through_numpy_and_back_and_can_be_pickled() -> None:
    sab = SAB(2, 4, capacity=3)
    _, state = sab(torch.randn(5, 2, 2))
    state = state.detach()
    for again in (
        SABState.from_numpy(state.to_numpy()),
        pickle.loads(pickle.dumps(state)),
        copy.deepcopy(state),
        state.to("cpu", torch.float64).to(dtype=torch.float32),
    ):
        for actual, expected in zip(again.tensors(), state.tensors(), strict=True):
            assert actual.dtype == expected.dtype
            assert torch.equal(actual, expected)
    with pytest.raises(ValueError, match="needs 6 arrays"):
        SABState.from_numpy(state.to_numpy()[:2])


def test_resetting_rows_equals_starting_them_anew_and_leaves_the_others() -> None:
    torch.manual_seed(0)
    sab = SAB(2, 4, capacity=3, bptt_steps=2)
    x = torch.randn(5, 2, 2)
    _, state = sab(x)
    output, _ = sab(x, state.reset(torch.tensor([True, False])))
    torch.testing.assert_close(output[:, :1], sab(x[:, :1])[0])
    torch.testing.assert_close(output[:, 1:], sab(x, state)[0][:, 1:])
    with pytest.raises(ValueError, match=r"rows must be a bool tensor of shape \(2,\)"):
        state.reset(torch.tensor([0]))


def test_a_module_survives_pickling_and_copying() -> None:
    sab = SAB(2, 4, top_k=2, bptt_steps=3)
    x = torch.randn(6, 1, 2)
    for again in (pickle.loads(pickle.dumps(sab)), copy.deepcopy(sab)):
        assert torch.equal(again(x)[0], sab(x)[0])


@pytest.mark.parametrize(("name", "value"), [("top_k", 5), ("floor", 0.1), ("floor", 0.0), ("sharpness", 1.0)])
def test_a_softmax_refuses_the_settings_that_it_does_not_use(name: str, value: float) -> None:
    with pytest.raises(TypeError, match=rf"SoftmaxSAB: {name} has no meaning where every slot is read, but is {value}"):
        SoftmaxSAB(3, 4, **{name: value})
    with pytest.raises(TypeError, match=f"sab_softmax: unknown setting '{name}'"):
        build_core("sab_softmax", 3, 4, **{name: value})
    left_out: dict[str, Any] = {name: None}
    SoftmaxSAB(3, 4, **left_out)


def test_a_printed_state_says_its_shapes() -> None:
    _, state = SAB(3, 4, capacity=2)(torch.zeros(5, 2, 3))
    assert repr(state) == (
        "SABState(h=(2, 4), c=(2, 4), memory=(2, 2, 4), filled=(2, 2), written_at=(2, 2), step=(2,))"
    )
    assert repr(LSTM(3, 4)(torch.zeros(5, 2, 3))[1]) == "LSTMState(h=(2, 1, 4), c=(2, 1, 4), step=(2,))"


@pytest.mark.parametrize("make", [partial(SAB, top_k=20), SoftmaxSAB])
def test_joined_rows_of_unbounded_memories_go_on_as_each_alone(make: Callable[..., SAB]) -> None:
    torch.manual_seed(0)
    core = make(4, 8, bptt_steps=3).double()
    x = torch.randn(16, 2, 4, dtype=torch.float64)
    states = [core(x[:steps, row : row + 1])[1] for row, steps in enumerate((3, 9))]
    following = x[9:]
    joined, state = core(following, SABState.joined(states))
    for row, alone in enumerate(states):
        expected, after = core(following[:, row : row + 1], alone)
        torch.testing.assert_close(joined[:, row : row + 1], expected, rtol=0, atol=1e-12)
        slots = after.slots
        assert torch.equal(state.filled[row, :slots], after.filled[0])
        assert torch.equal(state.written_at[row, :slots], after.written_at[0])


def test_a_reset_by_a_list_names_the_remedy() -> None:
    state = SAB(3, 4).initial_state(2)
    with pytest.raises(ValueError, match=r"rows must be a bool tensor of shape \(2,\), but is of type list"):
        state.reset([True, False])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sab", "lstm", "gru", "lstm_attention", "transformer", "mingru", "rtu"])
def test_the_tensors_of_a_first_state_are_apart(name: str) -> None:
    state = build_core(name, 3, 4).initial_state(2)
    places = [tensor.data_ptr() for tensor in state.tensors() if tensor.numel()]
    assert len(set(places)) == len(places)
