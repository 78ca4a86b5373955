"""The scan with the native kernel, for float32 on the CPU: checks and allocates, then calls the extension.

Dimensions: T steps, B rows, H hidden size, A attention size, S slots, S₀ of them in the starting memory, V = S₀ + T
versions, R = K + 1 slots that a read touches.

The extension trusts its arguments: every shape and dtype is checked here first, and the range of every slot there.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sab_agents.kernels.native_backend.extension import WHOLE, native, new_empty
from sab_agents.kernels.native_backend.tape import Layout, SentParts, Sizes, TapeParts, layout
from sab_agents.kernels.types import ScanInputs, ScanPlan, StepWeights

IN_BUFFER = ("cell", "output", "query", "keys", "scores")
"""The parts of the tape that share a buffer: the others are results or inputs."""

SENT_IN_BUFFER = ("states", "keys", "query", "score_weight")
"""The same of what the backward pass leaves."""


class Tape(NamedTuple):
    """What the forward pass leaves; shapes in src/arguments.h."""

    gates: Tensor
    buffer: Tensor  # the parts of the tape in `IN_BUFFER`
    summary: Tensor
    hidden: Tensor
    versions: Tensor
    weights: Tensor
    last_cell: Tensor


def _sizes(inputs: ScanInputs, plan: ScanPlan) -> Sizes:
    T, B, width = inputs.gates.shape
    return Sizes(T, B, width, width // 4, inputs.query_bias.shape[0], plan.filled.shape[1], plan.top_k + 1)


def forward(inputs: ScanInputs, plan: ScanPlan, keep: bool, own_gates: bool = False) -> Tape:
    """Computes the forward pass; with `keep` the tape has every step, else only the last."""
    sizes = _sizes(inputs, plan)
    T, B, inputs_width, H, A, S, R = sizes
    lies = layout(sizes, keep=keep, tape=IN_BUFFER, sent=())
    tape = Tape(
        gates=inputs.gates if own_gates else new_empty(T if keep else 1, B, 4 * H),
        buffer=new_empty(lies.floats),
        summary=new_empty(T, B, H),
        hidden=new_empty(S + T, B, H),
        versions=new_empty(T, B, R, dtype=WHOLE),
        weights=new_empty(T, B, R),
        last_cell=new_empty(B, H),
    )
    in_range = native.Forward(
        threads=sizes.threads,
        steps=T,
        rows=B,
        input=inputs_width,
        size=H,
        attention=A,
        slots=plan.slots,
        held=S,
        reads=R,
        keep=keep,
        gain=plan.gain,
        x=inputs.gates,
        projection=None,
        recurrence=inputs,
        h=inputs.h,
        c=inputs.c,
        memory=inputs.memory,
        start=plan.start,
        write_slot=plan.write_slot,
        filled=plan.filled,
        tape=_parts(tape, lies),
        outputs=None,
        last_output=None,
    ).run()
    if not in_range:
        raise ValueError(
            f"scan: write_slot must lie in -1 … {plan.slots - 1}, but lies in {int(plan.write_slot.min())} … "
            f"{int(plan.write_slot.max())}."
        )
    return tape


def _parts(tape: Tape, lies: Layout) -> TapeParts:
    at, _ = lies.within(tape.buffer)
    return TapeParts(
        gates=tape.gates,
        cell=at.cell,
        output=at.output,
        query=at.query,
        keys=at.keys,
        scores=at.scores,
        summary=tape.summary,
        hidden=tape.hidden,
        versions=tape.versions,
        weights=tape.weights,
        last_cell=tape.last_cell,
    )


def backward_into(
    inputs: ScanInputs,
    plan: ScanPlan,
    tape: Tape,
    grads: tuple[Tensor | None, ...],
    x: Tensor | None,
    into: StepWeights,
    *,
    add: bool,
    memory: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Writes or adds the gradients of weights to the tensors of `into`, contiguous ones; None if one is not wanted.

    Args:
        inputs: of the scan.
        plan: of the scan.
        tape: of its forward pass.
        grads: of h, summary and c.
        x: (T, B, I) that the gates were computed from, None if `into` has no weight_ih.
        into: where the gradients go.
        add: whether they are added to what is there.
        memory: whether the memory's gradient is wanted.

    Returns:
        The gradients of gates, h, c and the memory.
    """
    sizes = _sizes(inputs, plan)
    T, B, _, H, A, S, R = sizes
    grad_hidden, hidden_stride = _rows(grads[0])
    grad_summary, summary_stride = _rows(grads[1])
    lies = layout(sizes, tape=(), sent=SENT_IN_BUFFER)
    buffer = new_empty(lies.floats)
    _, at = lies.within(buffer)
    gates, h, c = new_empty(T, B, 4 * H), new_empty(B, H), new_empty(B, H)
    starting = new_empty(B, S, H) if memory else None
    native.Backward(
        threads=sizes.threads,
        steps=T,
        rows=B,
        input=0 if x is None else x.shape[2],
        size=H,
        attention=A,
        held=S,
        reads=R,
        credit=plan.credit,
        add=add,
        gain=plan.gain,
        last_only=False,
        hidden_stride=hidden_stride,
        summary_stride=summary_stride,
        grad_hidden=grad_hidden,
        grad_summary=grad_summary,
        grad_last_cell=None if grads[2] is None else grads[2].contiguous(),
        recurrence=inputs,
        x=x,
        h=inputs.h,
        start=plan.start,
        cut=plan.cut,
        write_slot=plan.write_slot,
        tape=_parts(tape, layout(sizes, tape=IN_BUFFER, sent=())),
        sent=SentParts(at.states, at.keys, at.query, at.score_weight, gates, h, c),
        grad_memory=starting,
        gradients=into,
    ).run()
    return gates, h, c, starting


def _rows(grad: Tensor | None) -> tuple[Tensor | None, int]:
    """Returns the gradient (T, B, H) with contiguous rows, and the floats from one row to the next."""
    if grad is None:
        return None, 0
    rows, size = grad.shape[1:]
    if grad.stride() == (rows * grad.stride(1), grad.stride(1), 1) and grad.stride(1) >= size:
        return grad, grad.stride(1)
    return grad.contiguous(), size
