"""The scan of a whole sequence, from inputs to outputs: its contract, its kernels, and its registration with torch.

Dimensions as in `sab_agents.kernels.types`.

The scan is the operator `sab_agents::scan` and its backward pass the operator `sab_agents::scan_backward`, so that
`torch.compile`, `torch.export` and fake tensors meet torch's own rules. Ordinary tensors and the transforms of
`torch.func`, which take no operator that is differentiated in Python, go through the same two as autograd functions;
torch's dispatcher alone would take longer than a short scan. Higher derivatives, and those of
forward-mode differentiation, are those of the reference, computed with differentiable operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from sab_agents.kernels.backend import (
    NATIVE,
    TORCH,
    TRITON,
    in_forward_mode,
    is_batched,
    is_known,
    is_plain,
    scan_kernel,
    transforms_active,
)
from sab_agents.kernels.binding import are_leaves
from sab_agents.kernels.layout import Layout
from sab_agents.kernels.native_backend.run import scan_run
from sab_agents.kernels.torch_backend.reference import reference_scan
from sab_agents.kernels.types import (
    Reading,
    ScanArguments,
    Scanned,
    ScanOutputs,
    ScanPlan,
    ScanTape,
    StepWeights,
    check_scan,
)


class ScanKernel(Protocol):
    """The contract of a module that computes scans; all arguments are checked, and no graph is recorded."""

    def forward(self, inputs: ScanArguments, plan: ScanPlan, *, keep: bool) -> Scanned:
        """Computes a scan; with `keep` it leaves a tape for `backward`.

        Raises:
            ValueError: an entry of `write_slot` is out of range, on a CPU.
        """

    def tape_shapes(self, inputs: ScanArguments, plan: ScanPlan) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """The shapes and dtypes of that tape; sizes may be symbols."""

    def backward(
        self,
        inputs: ScanArguments,
        plan: ScanPlan,
        tape: ScanTape,
        grad_output: Tensor,
        grad_c: Tensor,
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """The gradients of the arguments that are `wanted`, from those of `output` and `c`; None for all others."""


KERNELS = {
    NATIVE: "sab_agents.kernels.native_backend.scan",
    TRITON: "sab_agents.kernels.triton_backend.launch",
    TORCH: "sab_agents.kernels.torch_backend.scan",
}
"""The modules, imported when they are first needed: most installations have no Triton."""


@cache
def _kernel(name: str) -> ScanKernel:
    return cast(ScanKernel, import_module(KERNELS[name]))


def scan(weights: StepWeights, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> ScanOutputs:
    """Computes a scan; gradient flows to x, every weight, h, c and the memory.

    Args:
        weights: of the network; a weight may be computed from others.
        x: (T, B, I) inputs, T at least 1.
        h: (B, H) hidden state before the first step.
        c: (B, H) cell state before the first step.
        memory: (B, S₀, H) the starting memory.
        plan: everything else.

    Raises:
        ValueError: a shape, dtype or device does not fit, an entry of `write_slot` is out of range (on a CPU), or as
            `kernel_in_use`.
        RuntimeError: as `kernel_in_use`.
    """
    inputs = _in_autocast_dtype(ScanArguments(x, *weights, h, c, memory))
    tensors, settings = _tensors(inputs, plan), _settings(plan)
    graph = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs)
    if is_known(*tensors):
        kernel = scan_kernel(inputs, plan)
        if not graph:
            check_scan(inputs, plan)
            return _kernel(kernel).forward(inputs, plan, keep=False).outputs
        return ScanOutputs(*_PlainScan.apply(kernel, settings, *tensors))  # type: ignore[no-untyped-call]
    if in_forward_mode() and transforms_active():
        check_scan(inputs, plan)
        return reference_scan(inputs, plan)
    # A graph that is exported runs on other machines too, so that it names no kernel and keeps no tape.
    kernel = scan_kernel(inputs, plan) if graph and not _is_exporting() else ""
    if transforms_active():
        return ScanOutputs(*_Scan.apply(kernel, settings, *tensors)[:4])  # type: ignore[no-untyped-call]
    return ScanOutputs(*torch.ops.sab_agents.scan.default(*tensors, *settings, kernel)[:4])


class Replay(NamedTuple):
    """A scan that is computed once more to be learned from.

    Attributes:
        outputs: (T, B, 2H) [h, s], without a graph.
        backward: takes the gradient of the outputs, of their shape and dtype, once, and adds to the `.grad` of every
            leaf that the scan depends on: weights, the memory, and what x was computed from.
    """

    outputs: Tensor
    backward: Callable[[Tensor], None]

    def given_by(self, laid: Layout) -> Replay:
        """A replay of steps that were laid out again, with outputs and gradient as they were given."""
        return Replay(laid.given(self.outputs), lambda gradient: self.backward(laid.laid(gradient)))


def replay(
    weights: StepWeights,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    memory: Tensor,
    plan: ScanPlan,
    *,
    summary: bool = True,
    laid: Layout | None = None,
) -> Replay:
    """Computes a scan whose gradient goes straight to each leaf's `.grad`, without a graph where that is possible.

    It is for float32 on a CPU if all weights are leaves (`are_leaves`) and neither x nor h nor c requires a gradient.
    The arguments are those of `scan`, and must stay as they are until `backward` is done. Without `summary` the outputs
    are h alone, (T, B, H). If the steps were laid out again, `laid`, outputs and gradient are as they were given.

    Raises:
        ValueError: as `scan`; from `backward`, if the gradient does not have the shape and dtype of the outputs.
        RuntimeError: as `scan`.
    """
    inputs = ScanArguments(x, *weights, h, c, memory)
    direct = (
        is_plain(*_tensors(inputs, plan))
        and scan_kernel(inputs, plan) == NATIVE
        and are_leaves(*weights)
        and all(weight is None or weight.is_contiguous() for weight in weights)
        and not (x.requires_grad or h.requires_grad or c.requires_grad)
        and memory.is_leaf
    )
    if not direct:
        with torch.enable_grad():
            outputs = scan(weights, x, h, c, memory, plan)
            found = graph_replay(outputs.output if summary else outputs.h)
        return found if laid is None else found.given_by(laid)
    check_scan(inputs, plan)
    return native_replay(*scan_run(weights, x, h, c, memory, plan, summary=summary, laid=laid), memory)


class NativeRun(Protocol):
    """A scan that the native kernel computed."""

    def backward(self, gradient: Tensor, memory: Tensor | None) -> None:
        """Adds to the weights' `.grad` from the gradient of the outputs; fills in that of the memory if it is asked."""


def native_replay(run: NativeRun, output: Tensor, memory: Tensor) -> Replay:
    """A replay by the native kernel, without a graph, from a memory that may require gradient."""

    def backward(gradient: Tensor) -> None:
        received = torch.empty_like(memory, requires_grad=False) if memory.requires_grad else None
        run.backward(gradient_like(output, gradient), received)
        if received is not None:
            memory.grad = received if memory.grad is None else memory.grad + received

    return Replay(output, backward)


def graph_replay(outputs: Tensor) -> Replay:
    """A replay whose gradient takes the graph of `outputs`."""

    def backward(gradient: Tensor) -> None:
        if outputs.requires_grad:
            torch.autograd.backward(outputs, gradient_like(outputs, gradient))

    return Replay(outputs.detach(), backward)


def gradient_like(output: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a replay's outputs, contiguous.

    Raises:
        TypeError: it is not a tensor.
        ValueError: its shape or dtype is not theirs.
    """
    if not isinstance(gradient, Tensor):
        raise TypeError(f"replay: the gradient must be a tensor, as the outputs, but is {type(gradient).__name__}.")
    if gradient.shape != output.shape or gradient.dtype is not output.dtype:
        raise ValueError(
            f"replay: the gradient must be {output.dtype} of shape {tuple(output.shape)}, as the outputs, but is "
            f"{gradient.dtype} of shape {tuple(gradient.shape)}."
        )
    return gradient.contiguous()


def _in_autocast_dtype(inputs: ScanArguments) -> ScanArguments:
    """The arguments in autocast's dtype on a GPU, as torch's own recurrent layers take them; elsewhere as they are."""
    if not (inputs.x.is_cuda and torch.is_autocast_enabled("cuda")):
        return inputs
    dtype = torch.get_autocast_dtype("cuda")
    return ScanArguments(*(None if tensor is None else tensor.to(dtype) for tensor in inputs))  # type: ignore[arg-type]


def _is_exporting() -> bool:
    exporting: Any = getattr(torch.compiler, "is_exporting", lambda: False)  # torch 2.7 and later
    return bool(exporting())


# ---- forward and backward, however they are differentiated --------------------------------------------------------

COUNT = len(ScanArguments._fields)
ALL = COUNT + 6
"""Tensors of a scan: its arguments and those of its plan."""


def _tensors(inputs: ScanArguments, plan: ScanPlan) -> tuple[Tensor | None, ...]:
    return *inputs, plan.start, plan.cut, plan.write_slot, plan.filled, plan.step, plan.written_at


def _settings(plan: ScanPlan) -> tuple[Any, ...]:
    return plan.slots, *plan.reading


def _parsed(tensors: Sequence[Any], settings: Sequence[Any]) -> tuple[ScanArguments, ScanPlan]:
    start, cut, write_slot, filled, step, written_at = tensors[COUNT:]
    return ScanArguments(*tensors[:COUNT]), ScanPlan(
        start, cut, write_slot, filled, settings[0], Reading(*settings[1:]), step, written_at
    )


def _forward(kernel: str, settings: Sequence[Any], tensors: Sequence[Any]) -> Scanned:
    """Computes a scan. Without the name of a kernel, the one in use does and keeps no tape."""
    inputs, plan = _parsed(tensors, settings)
    check_scan(inputs, plan)
    return _kernel(kernel or scan_kernel(inputs, plan)).forward(inputs, plan, keep=bool(kernel))


def _backward(
    kernel: str,
    settings: Sequence[Any],
    wanted: Sequence[bool],
    grads: tuple[Tensor, Tensor],
    tensors: Sequence[Any],
    tape: ScanTape,
) -> list[Tensor]:
    """The gradients that are wanted, one after the other. Without the name of a kernel, the scan is replayed for it."""
    inputs, plan = _parsed(tensors, settings)
    if not kernel:
        kernel = scan_kernel(inputs, plan)
        tape = _kernel(kernel).forward(inputs, plan, keep=True).tape
    found = _kernel(kernel).backward(inputs, plan, tape, *grads, wanted)
    return [
        gradient.contiguous() for gradient, wants in zip(found, wanted, strict=True) if wants and gradient is not None
    ]


def _save(ctx: Any, kernel: str, settings: Sequence[Any], tensors: Sequence[Tensor | None], tape: ScanTape) -> None:
    """Saves what the backward pass needs; the plan's tensors too, so that torch notices if one is changed in place."""
    ctx.kernel, ctx.settings = kernel, tuple(settings)
    ctx.save_for_backward(*tensors, tape.versions, tape.weights, *tape.kept)
    ctx.mark_non_differentiable(tape.versions, tape.weights, *tape.kept)
    ctx.set_materialize_grads(False)


@torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]  # the backward pass may be run where the forward pass was not
def _gradients(
    ctx: Any, grad_output: Tensor | None, grad_c: Tensor | None, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of the arguments, None for those not wanted; differentiable if gradients are recorded."""
    saved = ctx.saved_tensors  # asked for once: a checkpoint that recomputes them gives each a single time
    *tensors, versions, weights = saved[: ALL + 2]
    tape = ScanTape(versions, weights, tuple(saved[ALL + 2 :]))
    x, h = tensors[0], tensors[COUNT - 3]
    if grad_output is None:
        grad_output = x.new_zeros(*x.shape[:2], _width(ctx.settings) * h.shape[1])
    grad_c = torch.zeros_like(h) if grad_c is None else grad_c
    known = ctx.kernel, ctx.settings, wanted
    if is_batched(grad_output) or is_batched(grad_c):
        arguments = [tensor for tensor in tensors[:COUNT] if tensor is not None]
        found = _by_reference(tensors, ctx.settings)((grad_output, grad_c), *arguments)
        whole = _spread(found, [tensor is not None for tensor in tensors[:COUNT]])
        return [gradient if wants else None for gradient, wants in zip(whole, wanted, strict=True)]
    plain = is_known(grad_output, grad_c, *tensors)
    if plain and not torch.is_grad_enabled():
        return _spread(_backward(*known, (grad_output, grad_c), tensors, tape), wanted)
    if plain or transforms_active():
        found = _ScanBackward.apply(*known, grad_output, grad_c, *tensors, versions, weights, *tape.kept)  # type: ignore[no-untyped-call]
        return _spread(found, wanted)
    found = torch.ops.sab_agents.scan_backward.default(
        *(grad_output, grad_c, *tensors, *ctx.settings, ctx.kernel, versions, weights, list(tape.kept), list(wanted))
    )
    return [gradient if wants else None for gradient, wants in zip(found, wanted, strict=True)]


def _width(settings: Sequence[Any]) -> int:
    """How many vectors of H a scan's outputs have at each step."""
    return 3 if Reading(*settings[1:]).apart else 2


def _spread(found: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
    """What was found for those that are wanted, and None for the others."""
    rest = iter(found)
    return [next(rest) if wants else None for wants in wanted]


def _save_backward(
    ctx: Any, settings: Sequence[Any], wanted: Sequence[bool], grads: Sequence[Tensor], tensors: Sequence[Tensor | None]
) -> None:
    ctx.settings, ctx.wanted = tuple(settings), tuple(wanted)
    ctx.save_for_backward(*grads, *tensors)


def _second_gradients(ctx: Any, received: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The gradients of `grad_output`, of `grad_c` and of the arguments of a scan, from those of its gradients.

    They are those of the reference, which is differentiable any number of times.
    """
    grad_output, grad_c, *tensors = ctx.saved_tensors
    there = [tensor is not None for tensor in tensors[:COUNT]]
    asked = [wants for wants, is_there in zip(ctx.wanted, there, strict=True) if is_there]
    arguments = [tensor for tensor in tensors[:COUNT] if tensor is not None]
    pull = _by_reference(tensors, ctx.settings)

    def first(grad_output: Tensor, grad_c: Tensor, *arguments: Tensor) -> tuple[Tensor, ...]:
        found = pull((grad_output, grad_c), *arguments)
        return tuple(gradient for gradient, wants in zip(found, asked, strict=True) if wants)

    wanted = [argument for argument, wants in zip(arguments, asked, strict=True) if wants]
    cotangents = tuple(
        torch.zeros_like(argument) if gradient is None else gradient
        for argument, gradient in zip(wanted, received, strict=True)
    )
    of_output, of_c, *found = torch.func.vjp(first, grad_output, grad_c, *arguments)[1](cotangents)
    return of_output, of_c, *_spread(found, there)


def _by_reference(tensors: Sequence[Any], settings: Sequence[Any]) -> Callable[..., tuple[Tensor, ...]]:
    """A function from the gradients of results, and the arguments that are there, to the gradients of these."""
    _, plan = _parsed(tensors, settings)
    there = [tensor is not None for tensor in tensors[:COUNT]]

    def results(*arguments: Tensor) -> tuple[Tensor, Tensor]:
        outputs = reference_scan(ScanArguments(*_spread(arguments, there)), plan)  # type: ignore[arg-type]
        return outputs.whole, outputs.c

    def pull(grads: tuple[Tensor, Tensor], *arguments: Tensor) -> tuple[Tensor, ...]:
        return torch.func.vjp(results, *arguments)[1](grads)  # type: ignore[no-any-return]

    return pull


# ---- as autograd functions ------------------------------------------------------------------------------------------

ROW_AXES = {0: 1} | dict(zip(range(COUNT - 3, ALL), (0, 0, 0, 1, 1, 1, 0, 0, 0), strict=True))
"""The axis of rows in x, h, c, memory and what the plan holds, by their place among a scan's tensors."""


class _Scan(torch.autograd.Function):
    """From the name of the kernel that keeps a tape, settings and tensors to results and tape."""

    @staticmethod
    def forward(kernel: str, settings: Sequence[Any], *tensors: Any) -> tuple[Tensor, ...]:
        found = _forward(kernel, settings, tensors)
        return *found.outputs, *found.kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        kernel, settings, *tensors = inputs
        _, _, versions, weights, *kept = output
        _save(ctx, kernel, settings, tensors, ScanTape(versions, weights, tuple(kept)))

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor | None, grad_c: Tensor | None, *_: Any) -> tuple[Any, ...]:
        wanted = tuple(ctx.needs_input_grad[2 : 2 + COUNT])
        return None, None, *_gradients(ctx, grad_output, grad_c, wanted), *[None] * (ALL - COUNT)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], kernel: str, settings: Sequence[Any], *tensors: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Rows are independent: a vmapped axis of what rows have becomes more rows; any other is a loop."""
        N, axes = info.batch_size, in_dims[2:]
        if kernel or any(axis is not None and index not in ROW_AXES for index, axis in enumerate(axes)):
            return _looped(_Scan, N, axes, (kernel, settings), tensors)
        given = list(tensors)
        for index, rows in ROW_AXES.items():
            tensor, axis = tensors[index], axes[index]
            if tensor is None:
                continue
            first = tensor.expand(N, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
            given[index] = first.movedim(0, rows).flatten(rows, rows + 1)
        output, c, versions, weights = _Scan.apply(kernel, settings, *given)  # type: ignore[no-untyped-call]
        found = [each.unflatten(1, (N, -1)) for each in (output, versions, weights)]
        return (found[0], c.unflatten(0, (N, -1)), found[1], found[2]), (1, 0, 1, 1)


class _PlainScan(torch.autograd.Function):
    """The same for ordinary tensors, to which transforms do not apply: a context of its own costs torch less."""

    @staticmethod
    def forward(ctx: Any, kernel: str, settings: Sequence[Any], *tensors: Any) -> tuple[Tensor, ...]:
        found = _forward(kernel, settings, tensors)
        _save(ctx, kernel, settings, tensors, found.tape)
        return tuple(found.outputs)

    backward = _Scan.backward


class _ScanBackward(torch.autograd.Function):
    """From the gradients of results to those of the arguments that are wanted."""

    @staticmethod
    def forward(kernel: str, settings: Sequence[Any], wanted: Sequence[bool], *tensors: Any) -> tuple[Tensor, ...]:
        versions, weights, *kept = tensors[2 + ALL :]
        tape = ScanTape(versions, weights, tuple(kept))
        return tuple(_backward(kernel, settings, wanted, tensors[:2], tensors[2 : 2 + ALL], tape))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG004
        _, settings, wanted, *tensors = inputs
        ctx.rest = len(tensors) - 2 - COUNT
        _save_backward(ctx, settings, wanted, tensors[:2], tensors[2 : 2 + ALL])

    @staticmethod
    def backward(ctx: Any, *received: Tensor | None) -> tuple[Any, ...]:
        return None, None, None, *_second_gradients(ctx, received), *[None] * ctx.rest

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], kernel: str, settings: Sequence[Any], wanted: Sequence[bool], *tensors: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """A loop: the gradient of a weight is a sum over rows, which each vmapped element needs by itself."""
        return _looped(_ScanBackward, info.batch_size, in_dims[3:], (kernel, settings, wanted), tensors)


def _looped(
    function: Any, count: int, axes: Sequence[int | None], known: tuple[Any, ...], tensors: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The function for one vmapped element after the other."""
    found = []
    for index in range(count):
        element = [t if axis is None else t.select(axis, index) for t, axis in zip(tensors, axes, strict=True)]
        found.append(function.apply(*known, *element))
    stacked = tuple(torch.stack(parts) for parts in zip(*found, strict=True))
    return stacked, (0,) * len(stacked)


# ---- as operators ---------------------------------------------------------------------------------------------------

TENSORS = """Tensor x, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih, Tensor bias_hh, Tensor key_weight,
    Tensor query_weight, Tensor query_bias, Tensor? score_weight, Tensor? age_weight, Tensor? age_bias,
    Tensor? gate_weight, Tensor? gate_bias, Tensor? output_gate_weight, Tensor? output_gate_bias, Tensor h, Tensor c,
    Tensor memory, Tensor start, Tensor cut, Tensor write_slot, Tensor filled, Tensor? step, Tensor? written_at"""
SETTINGS = """SymInt slots, int top_k, bool credit, str score, float gain, str sparsifier, float temperature, bool age,
    float floor, float sharpness, bool gate, str stored, bool output_gate, int age_scale"""
SCHEMAS = {
    "scan": f"({TENSORS}, {SETTINGS}, str kernel) -> "
    "(Tensor output, Tensor last_c, Tensor versions, Tensor weights, Tensor[] kept)",
    "scan_backward": f"(Tensor grad_output, Tensor grad_c, {TENSORS}, {SETTINGS}, str kernel, Tensor versions, "
    f"Tensor weights, Tensor[] kept, bool[] wanted) -> ({', '.join(['Tensor'] * COUNT)})",
}
"""`kernel` names the kernel that keeps a tape; empty: none is kept, and the backward pass replays the scan."""

LIBRARY: Any = torch.library.Library("sab_agents", "DEF")  # type: ignore[no-untyped-call]


def _scan_operator(*arguments: Any) -> tuple[Any, ...]:
    found = _forward(arguments[-1], arguments[ALL:-1], arguments[:ALL])
    return *found.outputs, list(found.kept)


def _scan_fake(*arguments: Any) -> tuple[Any, ...]:
    (inputs, plan), kernel = _parsed(arguments[:ALL], arguments[ALL:-1]), arguments[-1]
    check_scan(inputs, plan)
    (T, B, _), H, R, new = inputs.x.shape, inputs.h.shape[1], plan.reads, inputs.x.new_empty
    kept = [new(shape, dtype=dtype) for shape, dtype in _kernel(kernel).tape_shapes(inputs, plan)] if kernel else []
    return new(T, B, _width(arguments[ALL:-1]) * H), new(B, H), new(T, B, R, dtype=torch.int64), new(T, B, R), kept


def _scan_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    _, _, versions, weights, kept = output
    _save(ctx, inputs[-1], inputs[ALL:-1], inputs[:ALL], ScanTape(versions, weights, tuple(kept)))


def _scan_formula(ctx: Any, grad_output: Tensor | None, grad_c: Tensor | None, *_: Any) -> tuple[Any, ...]:
    gradients = _gradients(ctx, grad_output, grad_c, list(ctx.needs_input_grad[:COUNT]))
    return *gradients, *[None] * (len(ctx.needs_input_grad) - COUNT)


def _backward_operator(*arguments: Any) -> tuple[Tensor, ...]:
    kernel, versions, weights, kept, wanted = arguments[-5:]
    tape = ScanTape(versions, weights, tuple(kept))
    found = _backward(kernel, arguments[2 + ALL : -5], wanted, arguments[:2], arguments[2 : 2 + ALL], tape)
    # An operator returns a tensor for each argument, an empty one for those that are not wanted.
    return tuple(arguments[0].new_empty(0) if each is None else each for each in _spread(found, wanted))


def _backward_fake(*arguments: Any) -> tuple[Tensor, ...]:
    asked = zip(arguments[2 : 2 + COUNT], arguments[-1], strict=True)
    return tuple(tensor.new_empty(tensor.shape) if wants else arguments[0].new_empty(0) for tensor, wants in asked)


def _backward_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.kept, wanted = len(inputs[-2]), inputs[-1]
    _save_backward(ctx, inputs[2 + ALL : -5], wanted, inputs[:2], inputs[2 : 2 + ALL])
    ctx.mark_non_differentiable(*(each for each, wants in zip(output, wanted, strict=True) if not wants))


def _backward_formula(ctx: Any, *received: Tensor | None) -> tuple[Any, ...]:
    asked = [each for each, wants in zip(received, ctx.wanted, strict=True) if wants]
    rest = ALL - COUNT + len(ctx.settings) + 3
    return *_second_gradients(ctx, asked), *[None] * rest, [None] * ctx.kept, None


def _register() -> None:
    for name, compute, fake, formula, context in (
        ("scan", _scan_operator, _scan_fake, _scan_formula, _scan_context),
        ("scan_backward", _backward_operator, _backward_fake, _backward_formula, _backward_context),
    ):
        LIBRARY.define(name + SCHEMAS[name], tags=(torch.Tag.pt2_compliant_tag,))
        LIBRARY.impl(name, compute, "CompositeExplicitAutograd")
        torch.library.register_fake(f"sab_agents::{name}", fake, lib=LIBRARY)
        torch.library.register_autograd(f"sab_agents::{name}", formula, setup_context=context, lib=LIBRARY)


_register()
