"""The scan as torch's own operator: derivatives of any order, transforms, fake tensors, compilers and export."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from sab_agents import LSTM, SAB, SABState, SoftmaxSAB
from sab_agents.kernels import ScanArguments, ScanPlan, forced_kernel, reference_scan
from tests.core.test_scan_equals_reference import VALUES, by_torch, place, random_scan, results
from tests.kernels.extension import needs_native
from tests.readings import BEYOND
from tests.selection import first, slow

F64 = torch.float64
scans: Any = import_module("sab_agents.kernels.scan")
T, B, I, H = 6, 2, 3, 4  # noqa: E741

CORES: dict[str, Callable[..., Any]] = {
    "mlp": lambda **o: SAB(I, H, top_k=2, bptt_steps=3, capacity=4, **o),
    "dot": lambda **o: SAB(I, H, top_k=2, bptt_steps=9, write_every=2, attention="dot", attention_size=3, **o),
    "beyond": lambda **o: SAB(I, H, top_k=2, bptt_steps=3, capacity=4, **BEYOND, **o),
    "softmax": lambda **o: SoftmaxSAB(I, H, bptt_steps=3, capacity=4, **o),
    "lstm": lambda **o: LSTM(I, H, bptt_steps=4, **o),
}


def goes_beyond(seed: int) -> bool:
    """Whether a random scan reads beyond the paper in every way at once."""
    reading = random_scan(seed)[1].reading
    return reading.age and reading.floor > 0 and reading.gate and reading.apart and reading.output_gate


BEYOND_SEEDS = [seed for seed in range(120) if goes_beyond(seed)][:2]
DTYPES = [torch.float32, F64]
every_core = pytest.mark.parametrize("name", CORES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def made(name: str, dtype: torch.dtype = F64) -> Any:
    torch.manual_seed(0)
    core = CORES[name](dtype=dtype)
    for parameter in (each for key, each in core.named_parameters() if "age" in key or "gate" in key):
        nn.init.uniform_(parameter, -0.8, 0.8)
    return core


def inputs(dtype: torch.dtype = F64, *leading: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(*leading, T, B, I, dtype=dtype)


def loss_of(core: Any, parameters: dict[str, Tensor], x: Tensor, start: Tensor | None = None) -> Tensor:
    output, state = functional_call(core, parameters, (x, None, start))
    return output.pow(2).sum() + state.h.sum() + 2 * state.c.pow(3).sum()  # type: ignore[no-any-return]


def by_autograd(core: Any, x: Tensor, start: Tensor | None = None) -> dict[str, Tensor]:
    """The gradient of each parameter."""
    names, parameters = zip(*core.named_parameters(), strict=True)
    loss = loss_of(core, dict(zip(names, parameters, strict=True)), x, start)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def detached(core: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in core.named_parameters()}


def close(actual: Any, expected: Any) -> None:
    double = (actual[next(iter(actual))] if isinstance(actual, dict) else actual).dtype == F64
    tolerance = 1e-10 if double else 2e-5
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


# ---- derivatives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_second_derivatives_of_any_plan_equal_the_references(seed: int) -> None:
    arguments, plan = random_scan(seed)
    tensors = [argument for argument in arguments if argument is not None]
    found = []
    for compute in (by_torch, reference_scan):
        outputs = compute(ScanArguments(*arguments), plan)
        torch.manual_seed(0)
        loss = (outputs.output.pow(2) * torch.randn_like(outputs.output)).sum() + outputs.c.pow(3).sum()
        first = torch.autograd.grad(loss, tensors, create_graph=True, materialize_grads=True)
        total = torch.stack([(each * torch.randn_like(each)).sum() for each in first]).sum()
        second = torch.autograd.grad(total, tensors, create_graph=True, materialize_grads=True)
        again = torch.stack([each.pow(2).sum() for each in second]).sum()
        found.append([*first, *second, *torch.autograd.grad(again, tensors, materialize_grads=True)])
    for actual, expected in zip(*found, strict=True):
        largest = max([0.0, *expected.abs().flatten().tolist()])
        torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-7 * (1 + largest))
    assert any(bool((each != 0).any()) for each in found[0][len(tensors) : 2 * len(tensors)])


@pytest.mark.parametrize("name", ["mlp", "dot", "beyond", "softmax"])
def test_gradcheck_and_gradgradcheck_pass_when_nothing_is_cut(name: str) -> None:
    core = made(name)
    core.rules = replace(core.rules, bptt_steps=99)
    parameters = detached(core)

    def outputs(x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        output, state = functional_call(core, dict(zip(parameters, weights, strict=True)), (x,))
        return output, state.memory

    tensors = [tensor.clone().requires_grad_() for tensor in (inputs()[:4, :1], *parameters.values())]
    assert torch.autograd.gradcheck(outputs, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(outputs, tensors, fast_mode=True)


@needs_native
@pytest.mark.parametrize("name", ["mlp", "dot", "beyond", "lstm"])
def test_a_hessian_in_float32_is_that_of_float64(name: str) -> None:
    found = []
    for dtype in (torch.float32, F64):
        core = made(name, F64).to(dtype)
        squares = lambda x, core=core: core(x)[0].pow(2).sum()  # noqa: E731
        hessian: Any = torch.autograd.functional.hessian
        found.append(hessian(squares, inputs()[:3, :1].to(dtype)))
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-3, atol=1e-3)
    assert found[1].abs().amax() > 0.01


def test_a_plan_that_is_changed_before_the_backward_pass_is_an_error() -> None:
    sab, start = made("mlp"), torch.zeros(T, B, dtype=torch.bool)
    output, _ = sab(inputs(), None, start)
    start[3] = True
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@every_core
@every_dtype
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_forward_mode_carries_the_derivative(name: str, dtype: torch.dtype) -> None:
    core, x, start = made(name, dtype), inputs(dtype), torch.rand(T, B) < 0.2
    close(jacfwd(lambda y: core(y, None, start)[0])(x), jacrev(lambda y: core(y, None, start)[0])(x))
    direction = torch.randn_like(x)
    expected = jvp(lambda y: core(y)[0], (x,), (direction,))[1]
    make_dual: Any = forward_ad.make_dual
    for enabled in (True, False):
        with forward_ad.dual_level(), torch.set_grad_enabled(enabled):
            output, _ = core(make_dual(x, direction))
            close(forward_ad.unpack_dual(output).tangent, expected)  # type: ignore[no-untyped-call]


# ---- transforms -----------------------------------------------------------------------------------------------------


@every_core
@every_dtype
def test_functional_gradients_equal_autograds(name: str, dtype: torch.dtype) -> None:
    core, x = made(name, dtype), inputs(dtype)
    expected = by_autograd(core, x)
    close(grad(lambda parameters: loss_of(core, parameters, x))(detached(core)), expected)
    jacobian = jacrev(lambda y: core(y)[0].sum((1, 2)))(x)
    jacobian_of: Any = torch.autograd.functional.jacobian
    whole = jacobian_of(lambda y: core(y)[0].sum((1, 2)), x)
    close(jacobian, whole)
    vectorized = jacobian_of(lambda y: core(y)[0].sum((1, 2)), x, vectorize=True)
    close(vectorized, whole)


@every_core
@every_dtype
def test_vmap_over_sequences_is_a_loop(name: str, dtype: torch.dtype) -> None:
    core, x = made(name, dtype), inputs(dtype, 3)
    start = torch.rand(3, T, B) < 0.3
    with torch.no_grad():
        close(vmap(lambda y: core(y)[0])(x), torch.stack([core(y)[0] for y in x]))
        swapped = vmap(lambda y: core(y)[0], in_dims=2, out_dims=1)(x.movedim(0, 2))
        close(swapped, torch.stack([core(y)[0] for y in x], dim=1))
        if name != "dot":  # whose memory has as many slots as are written, which the starts decide
            found = vmap(lambda y, s: core(y, None, s)[0])(x, start)
            close(found, torch.stack([core(y, None, s)[0] for y, s in zip(x, start, strict=True)]))


@every_core
@every_dtype
def test_gradients_of_each_sequence_and_of_their_sum(name: str, dtype: torch.dtype) -> None:
    core, x, start = made(name, dtype), inputs(dtype, 3), torch.rand(T, B) < 0.2
    alone = [by_autograd(core, y, start) for y in x]
    each = vmap(grad(lambda p, y: loss_of(core, p, y, start)), in_dims=(None, 0))(detached(core), x)
    close(each, {key: torch.stack([one[key] for one in alone]) for key in alone[0]})
    together = grad(lambda p: vmap(lambda y: loss_of(core, p, y, start))(x).sum())(detached(core))
    close(together, {key: sum(one[key] for one in alone) for key in alone[0]})


@pytest.mark.parametrize("name", ["mlp", "beyond"])
def test_an_ensemble_is_a_loop_over_its_members(name: str) -> None:
    members, x = [CORES[name](dtype=F64) for _ in range(3)], inputs()
    parameters, _ = stack_module_state(members)
    with torch.no_grad():
        found = vmap(lambda p: functional_call(members[0], p, (x,))[0])(parameters)
        close(found, torch.stack([member(x)[0] for member in members]))


# ---- what records ---------------------------------------------------------------------------------------------------


def operator_arguments(seed: int, dtype: torch.dtype, kernel: str) -> tuple[Any, ...]:
    arguments, plan = random_scan(seed)
    tensors: list[Any] = [None if x is None else x.detach().to(dtype).requires_grad_() for x in arguments]
    plan = replace(plan, write_slot=plan.write_slot.contiguous())
    return *scans._tensors(ScanArguments(*tensors), plan), *scans._settings(plan), kernel


@pytest.mark.parametrize(
    ("dtype", "kernel"),
    [slow(F64, "torch"), (F64, ""), pytest.param(torch.float32, "native", marks=needs_native)],
    ids=str,
)
def test_the_operators_keep_torchs_rules(dtype: torch.dtype, kernel: str) -> None:
    for seed in (0, 3, *BEYOND_SEEDS):
        arguments = operator_arguments(seed, dtype, kernel)
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        # Parts of a tape are never written nor read, which a comparison of whole tapes does not know.
        forward_tests = tests if kernel else (*tests, "test_aot_dispatch_dynamic")
        torch.library.opcheck(torch.ops.sab_agents.scan.default, arguments, test_utils=forward_tests)
        with torch.no_grad():
            output, c, versions, weights, kept = torch.ops.sab_agents.scan.default(*arguments)
        wanted = [tensor is not None for tensor in arguments[: scans.COUNT]]
        grads = torch.randn_like(output), torch.randn_like(c)
        back = (*grads, *arguments, versions, weights, kept, wanted)
        torch.library.opcheck(torch.ops.sab_agents.scan_backward.default, back, test_utils=tests)


@every_core
@pytest.mark.parametrize("dtype", first(1, DTYPES), ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_compiled_module_computes_the_same(name: str, dtype: torch.dtype) -> None:
    core, x, start = made(name, dtype), inputs(dtype), torch.rand(T, B) < 0.2
    expected, after = core(x, None, start)
    gradients = torch.autograd.grad(expected.pow(2).sum() + after.h.sum(), list(core.parameters()))
    reset: Any = torch._dynamo.reset
    reset()
    compiled: Any = torch.compile(core, backend="aot_eager")
    output, state = compiled(x, None, start)
    close(output, expected)
    found = torch.autograd.grad(output.pow(2).sum() + state.h.sum(), list(core.parameters()))
    for actual, wanted in zip(found, gradients, strict=True):
        close(actual, wanted)


@every_core
def test_fake_tensors_have_the_shapes_of_real_ones(name: str) -> None:
    core = made(name, torch.float32)
    output, state = core(inputs(torch.float32))
    with FakeTensorMode():
        fake = made(name, torch.float32)
        imagined, after = fake(torch.zeros(T, B, I))
        (imagined.sum() + after.h.sum()).backward()
        if name != "dot":
            fake(torch.zeros(T, B, I), after, torch.zeros(T, B, dtype=torch.bool))
    assert imagined.shape == output.shape
    for one, other in zip(after.tensors(), state.tensors(), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
    assert all(p.grad is not None and p.grad.shape == p.shape for p in fake.parameters())


@needs_native
def test_a_fake_tensor_never_reaches_the_native_kernel() -> None:
    """A process of its own: it would die."""
    code = """
import torch
from torch._subclasses import FakeTensorMode
from sab_agents import LSTM, SAB
for core in (SAB(3, 4, capacity=3), LSTM(3, 4)):
    mode, x, state = FakeTensorMode(), torch.zeros(2, 3), core.initial_state(2)
    imagined = type(state)(*map(mode.from_tensor, state.tensors()))
    for arguments in ((x, imagined), (mode.from_tensor(x), state)):
        try:
            with torch.no_grad():
                core.step(*arguments)
        except Exception as error:
            print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 4  # real parameters and fake inputs do not mix


class Outputs(nn.Module):
    def __init__(self, core: Any) -> None:
        super().__init__()
        self.core = core

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.core(x)[0]
        return output


@every_core
@pytest.mark.parametrize("dtype", first(1, DTYPES), ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_exported_program_computes_the_same_and_can_be_trained(name: str, dtype: torch.dtype) -> None:
    core, x = made(name, dtype), inputs(dtype)
    program = torch.export.export(Outputs(core), (x,))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()
    y = torch.randn_like(x)
    close(loaded(y), core(y)[0])
    expected = torch.autograd.grad(core(y)[0].pow(2).sum(), list(core.parameters()))
    found = torch.autograd.grad(loaded(y).pow(2).sum(), list(loaded.parameters()))
    for actual, wanted in zip(found, expected, strict=True):
        close(actual, wanted)
    with forced_kernel("torch"):  # as on a machine without the native kernel
        close(loaded(y), core(y)[0])


def test_a_recorded_graph_names_the_operator_and_no_number() -> None:
    sab = made("mlp", torch.float32)
    graph = make_fx(lambda x: sab(x)[0])(inputs(torch.float32))
    other = torch.randn(T, B, I)
    close(graph(other), sab(other)[0])
    assert sum(node.target is torch.ops.sab_agents.scan.default for node in graph.graph.nodes) == 1


@needs_native
def test_a_view_that_is_yet_to_be_negated_is() -> None:
    x = inputs(torch.float32)
    negated = torch.complex(x, x).conj().imag
    assert negated.is_neg()
    sab, lstm = made("mlp", torch.float32), made("lstm", torch.float32)
    for core in (sab, lstm):
        assert torch.equal(core(negated)[0], core(-x)[0])
        with torch.no_grad():
            state = core.initial_state(B)
            close(core.step(negated[0], state)[0], core.step(-x[0], state)[0])


class Marked(Tensor):
    """A subclass that adds nothing."""


@every_core
@every_dtype
def test_a_plain_subclass_is_computed_as_what_it_is(name: str, dtype: torch.dtype) -> None:
    core, x = made(name, dtype), inputs(dtype)
    output, _ = core(x.as_subclass(Marked))
    assert type(output) is Marked
    close(output.as_subclass(Tensor), core(x)[0])


# ---- checks ---------------------------------------------------------------------------------------------------------


def ages_and_gates_that_do_not_fit(dtype: torch.dtype) -> list[tuple[ScanArguments, ScanPlan, str]]:
    arguments, plan = random_scan(BEYOND_SEEDS[0])
    tensors = ScanArguments(*(None if x is None else x.detach().to(dtype) for x in arguments))  # type: ignore[arg-type]
    assert plan.step is not None
    only = "_weight and .*_bias must be given if plan.reading.* is True, and only then"
    return [
        (tensors, replace(plan, step=None), r"plan\.step must be given if plan\.reading\.age is True"),
        (tensors, replace(plan, step=plan.step.int()), r"plan\.step must have shape .* torch.int64"),
        (tensors, replace(plan, written_at=plan.step), r"plan\.written_at must have shape"),
        (tensors._replace(age_bias=None), plan, f"age{only}"),
        (tensors._replace(gate_weight=None, gate_bias=None), plan, f"gate{only}"),
        (tensors, replace(plan, reading=plan.reading._replace(gate=False)), f"gate{only}"),
        (tensors._replace(gate_weight=tensors.h), plan, "gate_weight must have shape"),
        (tensors._replace(output_gate_bias=None), plan, f"output_gate{only}"),
        (tensors._replace(output_gate_weight=tensors.h), plan, "output_gate_weight must have shape"),
    ]


@pytest.mark.parametrize("kernel", ["torch", pytest.param("native", marks=needs_native)])
def test_what_does_not_fit_is_an_error_for_every_kernel(kernel: str) -> None:
    arguments, plan = random_scan(7)
    dtype = F64 if kernel == "torch" else torch.float32
    tensors = ScanArguments(*(None if x is None else x.detach().to(dtype) for x in arguments))  # type: ignore[arg-type]
    other = {"mlp": "dot", "dot": "mlp"}[plan.reading.score]
    sizes: list[tuple[ScanArguments, ScanPlan, str]] = [
        (tensors._replace(weight_hh=tensors.weight_hh[:-1]), plan, "weight_hh must have shape"),
        (tensors._replace(x=tensors.x[0]), plan, r"x must have shape \(T, B, I\)"),
        (tensors._replace(memory=tensors.memory.half()), plan, "memory must have shape .* but .* torch.float16"),
        (tensors._replace(h=tensors.h.to("meta")), plan, "h must have shape .* on meta"),
        (tensors, replace(plan, filled=plan.filled[:0]), r"plan\.filled must have shape"),
        (tensors, replace(plan, cut=plan.cut.float()), r"plan\.cut must have shape .* torch.bool"),
        (tensors, replace(plan, write_slot=plan.write_slot.int()), r"plan\.write_slot must have shape .* torch.int64"),
        (tensors, replace(plan, reading=plan.reading._replace(top_k=0)), "a top_k of 0"),
        (tensors, replace(plan, reading=plan.reading._replace(score=other)), f"but is {other!r} with"),
        (tensors, replace(plan, reading=plan.reading._replace(score="cosine")), "one of 'mlp', 'dot'"),
        *ages_and_gates_that_do_not_fit(dtype),
    ]
    for inputs, wrong, message in sizes:
        with forced_kernel(kernel), pytest.raises(ValueError, match=message):
            scans.scan(inputs.weights, inputs.x, inputs.h, inputs.c, inputs.memory, wrong)


# ---- replays --------------------------------------------------------------------------------------------------------


def replayed(core: SAB, x: Tensor, state: SABState, plan: ScanPlan, gradient: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of the memory and of every parameter, by a replay."""
    core.zero_grad()
    memory = state.memory.detach().clone().requires_grad_()
    found = core.replay(x, state.h, state.c, memory, plan)
    assert not found.outputs.requires_grad
    found.backward(gradient)
    leaves = (memory, *core.parameters())
    return [found.outputs.clone(), *(leaf.grad.clone() for leaf in leaves if leaf.grad is not None)]


@every_dtype
@pytest.mark.parametrize("name", ["mlp", "beyond"])
@pytest.mark.parametrize("wrap", [None, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_replay_has_the_gradients_of_the_scan(dtype: torch.dtype, name: str, wrap: Any) -> None:
    sab = made(name, dtype)
    if wrap is not None:
        wrap(sab.attention.key)
        wrap(sab.cell, "weight_hh")
        sab.eval()  # a spectral norm changes with every use in training
    with torch.no_grad():
        _, state = sab(inputs(dtype))
    x, start = inputs(dtype), torch.zeros(T, B, dtype=torch.bool)
    plan = ScanPlan(
        reading=sab.rules.reading,
        start=start,
        cut=start,
        write_slot=torch.full((T, B), -1),
        filled=state.filled,
        slots=state.slots,
        step=state.step,
        written_at=state.written_at,
    )
    gradient = torch.randn(T, B, 2 * H, dtype=dtype)
    found = replayed(sab, x, state, plan, gradient)
    sab.zero_grad()
    memory = state.memory.detach().clone().requires_grad_()
    output = sab.scan(x, state.h, state.c, memory, plan).output
    output.backward(gradient)
    expected = [output.detach(), *(leaf.grad for leaf in (memory, *sab.parameters()) if leaf.grad is not None)]
    assert len(found) == len(expected) == 2 + len(list(sab.parameters()))
    for actual, wanted in zip(found, expected, strict=True):
        close(actual, wanted)
    with pytest.raises(ValueError, match=r"the gradient must be .* as the outputs"):
        sab.replay(x, state.h, state.c, memory, plan).backward(gradient[:-1])


@needs_native
def test_a_hook_of_a_parameter_is_called_by_a_replay() -> None:
    sab, calls = made("mlp", torch.float32), list[Tensor]()
    state = sab.initial_state(B)
    start = torch.zeros(T, B, dtype=torch.bool)
    plan = ScanPlan(
        reading=sab.rules.reading,
        start=start,
        cut=start,
        write_slot=torch.full((T, B), -1),
        filled=state.filled,
        slots=4,
        step=state.step,
        written_at=state.written_at,
    )
    sab.cell.weight_hh.register_hook(calls.append)
    replayed(sab, inputs(torch.float32), state, plan, torch.ones(T, B, 2 * H))
    assert len(calls) == 1


def test_place_names_the_arguments() -> None:
    arguments, plan = random_scan(1)
    assert len(results(by_torch, arguments, plan)) == VALUES + sum(x is not None for x in arguments)
    assert place("memory") == len(arguments) - 1
