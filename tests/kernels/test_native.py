"""The native kernel beyond its equality with the reference: error of its functions, threads, forks, errors."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from sab_agents import SAB
from sab_agents.kernels import SCORES, Reading, ScanArguments, ScanPlan, scan
from sab_agents.kernels.native_backend import extension
from sab_agents.kernels.native_backend.extension import native
from sab_agents.kernels.native_backend.layers import product
from tests.core.test_scan_equals_reference import (
    blocked_scan,
    by_native,
    by_torch,
    fitting,
    in_single,
    place,
    results,
)
from tests.kernels.extension import INSTRUCTION_SETS, needs_native, with_instruction_set

pytestmark = needs_native


def activated(x: Tensor) -> tuple[Tensor, Tensor]:
    tanh, sigmoid = torch.empty_like(x), torch.empty_like(x)
    native.Activate(count=x.numel(), x=x, tanh=tanh, sigmoid=sigmoid).run()
    return tanh, sigmoid


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_tanh_and_sigmoid_have_the_error_that_they_state(name: str) -> None:
    magnitudes = torch.logspace(-30, 2, 200_003, dtype=torch.float64).float()
    x = torch.cat([magnitudes, -magnitudes, torch.linspace(-20, 20, 400_001)])
    with with_instruction_set(name):
        tanh, sigmoid = activated(x)
    exact = x.double().tanh()
    assert ((tanh.double() - exact).abs() <= 6e-7 * exact.abs()).all()
    exact = x.double().sigmoid()
    assert ((sigmoid.double() - exact).abs() <= 4e-7 * exact + 2e-38).all()


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_not_a_number_stays_one_and_infinities_saturate(name: str) -> None:
    with with_instruction_set(name):
        tanh, sigmoid = activated(torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0]))
    assert tanh[0].isnan()
    assert sigmoid[0].isnan()
    torch.testing.assert_close(tanh[1:], torch.tensor([1.0, -1.0, 0.0]), rtol=0, atol=2e-7)
    torch.testing.assert_close(sigmoid[1:], torch.tensor([1.0, 0.0, 0.5]), rtol=0, atol=2e-7)


@pytest.mark.parametrize("held", [19, 300])  # many have a rough first look
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_an_attention_weight_that_is_not_a_number_shows_in_the_output(name: str, held: int) -> None:
    arguments, plan = blocked_scan(20, 2, 8, 4, "mlp", held=held)
    single = in_single(arguments)
    single[place("key_weight")] = torch.full_like(single[place("key_weight")], torch.nan)
    with with_instruction_set(name):
        assert by_native(ScanArguments(*single), plan).h[-1].isnan().any()


@pytest.mark.parametrize("held", [19, 300])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_one_slot_that_is_not_a_number_is_read_first(name: str, score: str, held: int) -> None:
    """As by torch's topk; whatever is better than the others, none of them hides it."""
    arguments, plan = blocked_scan(1, 2, 8, 4, score, held=held, top_k=2)
    plan = replace(plan, start=torch.zeros_like(plan.start), filled=torch.ones_like(plan.filled))
    single = in_single(arguments)
    memory = single[place("memory")].clone()
    memory[:, 7] = torch.nan
    single[place("memory")] = memory
    with with_instruction_set(name):
        found = by_native(ScanArguments(*single), plan)
    assert (found.versions[0, :, 0] == 7).all()
    assert found.weights.isnan().all()
    assert by_torch(ScanArguments(*single), plan).weights.isnan().all()


@pytest.mark.parametrize("size", [0.0, 10.0, 15.9, 16.1, 60.0, -60.0, 300.0])
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_keys_and_queries_that_cancel_are_scored_whatever_their_size(size: float, name: str) -> None:
    torch.manual_seed(0)
    slots, H = 70, 4
    exact = ScanArguments(
        x=torch.randn(1, 2, 4 * H, dtype=torch.float64),
        weight_ih=torch.eye(4 * H, dtype=torch.float64),
        weight_hh=torch.zeros(4 * H, H, dtype=torch.float64),
        bias_ih=torch.zeros(4 * H, dtype=torch.float64),
        bias_hh=torch.zeros(4 * H, dtype=torch.float64),
        key_weight=torch.eye(H, dtype=torch.float64),
        query_weight=torch.zeros(H, H, dtype=torch.float64),
        query_bias=torch.full((H,), size, dtype=torch.float64),
        score_weight=torch.randn(1, H, dtype=torch.float64),
        age_weight=None,
        age_bias=None,
        gate_weight=None,
        gate_bias=None,
        output_gate_weight=None,
        output_gate_bias=None,
        h=torch.zeros(2, H, dtype=torch.float64),
        c=torch.zeros(2, H, dtype=torch.float64),
        memory=torch.randn(2, slots, H, dtype=torch.float64) - size,
    )
    single = ScanArguments(*(None if x is None else x.float() for x in exact))  # type: ignore[arg-type]
    no = torch.zeros(1, 2, dtype=torch.bool)
    plan = ScanPlan(no, no, torch.full((1, 2), -1), torch.rand(2, slots) < 0.8, slots, Reading(top_k=3))
    with with_instruction_set(name):
        actual = by_native(single, plan)
    expected = by_torch(exact, plan)
    assert torch.equal(actual.versions, expected.versions)
    torch.testing.assert_close(actual.weights.double(), expected.weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("age", [False, True])
def test_native_reads_the_best_of_many_slots_that_nearly_tie(*, age: bool, score: str, name: str) -> None:
    """Many slots are first scored to a few digits; what is read is the best to all digits nevertheless.

    With age, what a slot's age takes away is what its state had more than others, whose ages are quite different.
    """
    B, H, A, held, top_k, rate = 2, 16, 8, 1000, 4, 0.05
    arguments, plan = blocked_scan(1, B, H, A, score, held=held, top_k=top_k)
    step, written_at = torch.full((B,), 100_000), torch.randint(100_000, (B, held))
    elapsed = (step.unsqueeze(1) - written_at).double()
    nearly = 1e-5 * torch.randn(B, held, H, dtype=torch.float64)
    exact = ScanArguments(*arguments)
    exact = exact._replace(memory=exact.memory[:, :1] + nearly)
    if age:
        aimed = rate * elapsed.log() + nearly[..., 0]
        first = torch.eye(1, A, dtype=torch.float64)
        exact = exact._replace(
            memory=functional.pad((aimed.atanh() if score == "mlp" else aimed).unsqueeze(-1), (0, H - 1)),
            key_weight=torch.eye(A, H, dtype=torch.float64),
            query_weight=torch.zeros(A, H, dtype=torch.float64),
            query_bias=torch.zeros(A, dtype=torch.float64) if score == "mlp" else A**0.5 * first[0],
            score_weight=first if score == "mlp" else exact.score_weight,
            age_weight=torch.zeros(1, H, dtype=torch.float64),
            age_bias=torch.full((1,), rate, dtype=torch.float64),
        )
    plan = replace(
        plan,
        start=torch.zeros_like(plan.start),
        filled=torch.ones_like(plan.filled),
        reading=plan.reading._replace(gain=0.0, age=age),
        step=step,
        written_at=written_at,
    )
    given = fitting([None if x is None else x.detach() for x in exact], plan)
    with with_instruction_set(name):
        read = by_native(ScanArguments(*in_single(given)), plan).versions[0]
    query = by_torch(ScanArguments(*given), plan).h[0] @ exact.query_weight.t() + exact.query_bias
    keys = exact.memory @ exact.key_weight.t()
    if score == "mlp":
        assert exact.score_weight is not None
        scores = (torch.tanh(keys + query.unsqueeze(1)) @ exact.score_weight.t()).squeeze(-1)
    else:
        scores = (keys * query.unsqueeze(1)).sum(-1) / A**0.5
    if age:
        scores = scores - rate * elapsed.log()
    least = scores.topk(top_k + 1).values[:, -1:]
    rounding = 1e-6 * (1 + least.abs())
    assert (read >= 0).all()
    assert (scores.gather(1, read) > least - rounding).all()
    assert (scores > least - 20 * rounding).sum() > 30  # which are not told apart by fewer digits


@pytest.mark.parametrize("shape", [(7, 3, 5, 9), (300, 2, 33, 70), (1, 1, 1, 1), (2, 4, 64, 32)])
@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_a_product_equals_torchs(shape: tuple[int, int, int, int], name: str) -> None:
    torch.manual_seed(0)
    T, B, K, N = shape
    x, weight = torch.randn(T, B, K), torch.randn(N, K)
    with with_instruction_set(name):
        found = product(x, weight.t())
        back = product(found, weight)
    torch.testing.assert_close(found.double(), x.double() @ weight.double().t(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back.double(), found.double() @ weight.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
def test_parameters_without_gradient_leave_the_others_theirs(name: str) -> None:
    torch.manual_seed(0)
    core, x = SAB(3, 9, attention_size=5), torch.randn(30, 2, 3)
    parameters = dict(core.named_parameters())

    def gradients() -> dict[str, Tensor | None]:
        core.zero_grad()
        core(x)[0].square().sum().backward()
        return {key: None if each.grad is None else each.grad.clone() for key, each in parameters.items()}

    with with_instruction_set(name):
        whole = gradients()
        for frozen, parameter in parameters.items():
            parameter.requires_grad_(False)
            for key, found in gradients().items():
                expected = whole[key]
                if key == frozen:
                    assert found is None
                else:
                    assert found is not None
                    assert expected is not None
                    assert torch.equal(found, expected)
            parameter.requires_grad_(True)


@pytest.fixture
def small_work_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "WORK_PER_THREAD", 1)


@pytest.mark.parametrize("entering", [True, False])
@pytest.mark.parametrize("rows", [21, 1, 2])  # few rows have two threads each where no read enters h
@pytest.mark.usefixtures("small_work_is_split")
def test_the_number_of_threads_changes_no_bit(rows: int, entering: bool) -> None:
    # Large states and few slots: reads would overtake the recurrence, if they did not wait for it.
    arguments, plan = blocked_scan(130, rows, 80, 17, "mlp", held=3)
    plan = replace(plan, reading=plan.reading._replace(gain=float(entering)))
    single = in_single(arguments)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, *5 * (2, 3, 8, 40)):  # again and again: a race is lost now and then
            torch.set_num_threads(threads)
            found.append(computed(single, plan))
    finally:
        torch.set_num_threads(before)
    for tensors in found[1:]:
        for one, many in zip(found[0], tensors, strict=True):
            assert torch.equal(one, many)


def computed(single: list[Any], plan: Any) -> list[Tensor]:
    """Results, gradients included."""
    return results(by_native, single, plan)


@pytest.mark.usefixtures("small_work_is_split")
def test_several_python_threads_at_once() -> None:
    cases = [blocked_scan(25, B, 16, 8, ("dot", "mlp")[B % 2 == 0]) for B in (1, 2, 9, 16)] * 4
    singles = [(in_single(arguments), plan) for arguments, plan in cases]
    expected = [results(by_native, *case) for case in singles]

    def work(case: tuple[list[Any], Any]) -> list[Tensor]:
        inputs = ScanArguments(*case[0])
        # The native kernel is in use by itself here: threads that force a kernel would undo each other's choice.
        outputs = scan(inputs.weights, inputs.x, inputs.h, inputs.c, inputs.memory, case[1])
        return [outputs.h.detach(), outputs.summary.detach(), outputs.stored.detach(), outputs.c.detach()]

    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(work, singles), expected, strict=True):
            for actual, one in zip(found, wanted, strict=False):
                assert torch.equal(actual, one.detach())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("small_work_is_split")
def test_a_forked_process_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    arguments, plan = blocked_scan(20, 16, 16, 8, "mlp")
    inputs = ScanArguments._make(None if x is None else x.detach() for x in in_single(arguments))
    expected = by_native(inputs, plan).h
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(by_native(inputs, plan).h, expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_gradient_the_outputs_are_the_same() -> None:
    arguments, plan = blocked_scan(30, 3, 16, 8, "mlp")
    inputs = ScanArguments(*in_single(arguments))
    with_gradient = by_native(inputs, plan)
    with torch.no_grad():
        without = by_native(inputs, plan)
    for one, other in zip(with_gradient, without, strict=True):
        assert torch.equal(one, other)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    arguments, plan = blocked_scan(30, 11, 16, 8, "mlp")
    inputs = ScanArguments._make(None if x is None else x.detach() for x in in_single(arguments))
    together = by_native(inputs, plan)
    for row in (0, 7, 10):
        one = slice(row, row + 1)
        alone = inputs._replace(x=inputs.x[:, one], h=inputs.h[one], c=inputs.c[one], memory=inputs.memory[one])
        rows = replace(
            plan,
            start=plan.start[:, one],
            cut=plan.cut[:, one],
            write_slot=plan.write_slot[:, one],
            filled=plan.filled[one],
        )
        assert torch.equal(by_native(alone, rows).h, together.h[:, one])


def test_what_would_leave_a_buffer_is_refused() -> None:
    arguments, plan = blocked_scan(6, 2, 4, 3, "mlp")
    inputs = ScanArguments(*in_single(arguments))
    beyond = plan.write_slot.clone()
    beyond[3, 1] = plan.slots
    with pytest.raises(ValueError, match="write_slot must lie in"):
        by_native(inputs, replace(plan, write_slot=beyond))
    with pytest.raises(ValueError, match="write_slot must lie in"):
        by_native(inputs, replace(plan, write_slot=torch.full_like(beyond, -2)))
    with pytest.raises(ValueError, match=r"plan\.filled must have shape"):
        by_native(inputs, replace(plan, filled=plan.filled[:1]))
    with pytest.raises(ValueError, match="weight_hh must have shape"):
        by_native(inputs._replace(weight_hh=inputs.weight_hh[:-1]), plan)
    with pytest.raises(ValueError, match="memory must have shape"):
        by_native(inputs._replace(memory=inputs.memory.double()), plan)
    with pytest.raises(ValueError, match="no kernels named"):
        native.use_instruction_set("avx1024")


def test_another_backward_pass_changes_no_gradient_of_the_one_before() -> None:
    arguments, plan = blocked_scan(30, 3, 16, 8, "mlp")
    found = results(by_native, in_single(arguments), plan)
    before = [each.clone() for each in found]
    others, other_plan = blocked_scan(20, 2, 8, 4, "dot")
    results(by_native, in_single(others), other_plan)
    for now, then in zip(found, before, strict=True):
        assert torch.equal(now, then)


def test_each_thread_has_scratch_of_its_own_and_only_a_large_one_is_given_back() -> None:
    with ThreadPoolExecutor(1) as other:
        here, there = extension.scratch(100), other.submit(extension.scratch, 100).result()
        assert here.data_ptr() != there.data_ptr()
    assert extension.scratch(10).data_ptr() == extension.scratch(50).data_ptr()
    large = extension.scratch(extension.LARGEST_SCRATCH // 4 + 1)
    assert large.data_ptr() != extension.scratch(10).data_ptr()


def test_torchs_defaults_for_new_tensors_do_not_matter() -> None:
    sab = SAB(3, 8, capacity=5)
    x, state = torch.randn(6, 2, 3), sab.initial_state(2)

    def computed() -> list[Tensor]:
        output, after = sab(x, state)
        gradients = torch.autograd.grad(output.sum() + after.memory.sum(), list(sab.parameters()))
        with torch.no_grad():
            stepped, last = sab.step(x[0], after.detach())
        return [output, stepped, *after.tensors(), *last.tensors(), *gradients]

    expected = computed()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        found = computed()
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
