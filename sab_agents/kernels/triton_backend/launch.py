"""The scan on a GPU: allocates, launches the fused kernels and gathers. Importing this module imports Triton.

Dimensions as in `sab_agents.kernels.triton_backend.forward`.

Inputs, hidden states, keys and the gradients of gates are stored in the dtype of the gates, float32 or bfloat16. The
cell state, scores, queries and everything that is summed over steps is float32 throughout.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from sab_agents.kernels.torch_backend.backward import LoopGradients, input_gradients
from sab_agents.kernels.torch_backend.output_gate import opened, through_output_gate
from sab_agents.kernels.torch_backend.scan import argument_gradients, with_gates
from sab_agents.kernels.triton_backend import backward as backward_kernel
from sab_agents.kernels.triton_backend import forward as forward_kernel
from sab_agents.kernels.triton_backend.scores import SCORES
from sab_agents.kernels.triton_backend.sizes import Blocks, blocks
from sab_agents.kernels.types import ScanArguments, ScanInputs, Scanned, ScanOutputs, ScanPlan, ScanTape, contiguous

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether the kernels run in Triton's interpreter: it decides at import, so this does too."""


def forward(inputs: ScanArguments, plan: ScanPlan, *, keep: bool) -> Scanned:
    """Computes a scan; see `sab_agents.kernels.scan.ScanKernel`.

    Whether every write_slot lies in −1 … slots − 1 would have to be waited for: one beyond is not written.
    """
    inputs, plan = contiguous(inputs, plan)
    tape = _forward(with_gates(inputs), plan, keep)
    T, held = len(tape.summary), plan.filled.shape[1]
    state, summary = tape.states(held)[:T], tape.summary
    if plan.reading.output_gate:
        summary = summary * opened(state, inputs.output_gate_weight, inputs.output_gate_bias)
    parts = [state, summary]
    if plan.reading.apart:
        parts.append(tape.hidden[held : held + T])
    outputs = ScanOutputs(torch.cat(parts, dim=2), tape.last_cell, tape.versions, tape.weights)
    return Scanned(outputs, tape[:KEPT] if keep else ())


def tape_shapes(inputs: ScanArguments, plan: ScanPlan) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of the tape; see `sab_agents.kernels.scan.ScanKernel`."""
    return _tape_shapes(inputs.x.shape[0], inputs, plan)[:KEPT]


def backward(
    inputs: ScanArguments, plan: ScanPlan, tape: ScanTape, grad_output: Tensor, grad_c: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of `inputs`; see `sab_agents.kernels.scan.ScanKernel`."""
    inputs, plan = contiguous(inputs, plan)
    gated = with_gates(inputs, gates=tape.kept[0])
    own = _Tape._make((*tape.kept, tape.versions, tape.weights, grad_c))  # c itself is not asked for
    state = own.states(plan.filled.shape[1])[:-1]
    grads = through_output_gate(inputs, grad_output, state, own.summary)
    # Whether an episode starts at all would have to be waited for; masking costs less.
    found = input_gradients(
        gated, plan, True, own.hidden, state, own.output, _backward(gated, plan, own, grads.output, grad_c)
    )
    return argument_gradients(inputs, found, grads, wanted)


class _Tape(NamedTuple):
    """What the forward pass leaves; N is T where gradient is wanted, else 1 or, for the first three, not used."""

    gates: Tensor  # (N, B, 4H) after their activations; the forget gate is 0 at episode starts
    cell: Tensor  # (N + 1, B, H) float32, c before the first step and after each
    scores: Tensor  # (N, B, READS) float32, falling, −inf where there is no slot
    output: Tensor  # (N, B, H) ĥ
    query: Tensor  # (N, B, Q) float32, without λ: the query, and the gate after its activation
    keys: Tensor  # (V, B, A) W₁ of the versions that were written
    summary: Tensor  # (T, B, H)
    hidden: Tensor  # (V, B, H) all versions
    apart: Tensor  # (T + 1, B, H) h of all steps, then the one before, where ĥ is stored; else no elements
    versions: Tensor  # (T, B, READS) int64
    weights: Tensor  # (T, B, READS)
    last_cell: Tensor  # (B, H)

    def states(self, held: int) -> Tensor:
        """(T + 1, B, H) h of all steps, then the one before the first."""
        return self.apart if self.apart.numel() else self.hidden[held:]


KEPT = len(_Tape._fields) - 3
"""The fields that are kept for the backward pass beside the results."""


def _tape_shapes(
    kept: int, inputs: ScanArguments | ScanInputs, plan: ScanPlan
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of a tape with N = `kept`."""
    (T, B), H, A, R = plan.start.shape, inputs.h.shape[1], inputs.key_weight.shape[0], plan.reads
    V, dtype, single = plan.filled.shape[1] + T + 1, inputs.h.dtype, torch.float32
    apart = (T + 1, B, H) if plan.reading.apart else (0,)
    return [
        ((kept, B, 4 * H), dtype),
        ((kept + 1, B, H), single),
        ((kept, B, R), single),
        ((kept, B, H), dtype),
        ((kept, B, plan.reading.attended(H, A)), single),
        ((V, B, A), dtype),
        ((T, B, H), dtype),
        ((V, B, H), dtype),
        (apart, dtype),
        ((T, B, R), torch.int64),
        ((T, B, R), dtype),
        ((B, H), dtype),
    ]


def _blocks_for(inputs: ScanInputs, plan: ScanPlan) -> tuple[Blocks, dict[str, Any]]:
    """The blocks of a scan and the arguments that both kernels are compiled for."""
    _, B, width = inputs.gates.shape
    H, A, reading = width // 4, inputs.key_weight.shape[0], plan.reading
    R = reading.ranks
    size = blocks(B, H, A, max(1, plan.slots), R, _processors(inputs.gates.device))
    # The interpreter multiplies bfloat16 as if it were integers.
    dot_type = tl.bfloat16 if inputs.gates.dtype == torch.bfloat16 and not INTERPRETED else tl.float32
    shared = {
        **{"H": H, "A": A, "Q": reading.attended(H, A), "READS": R, "GAIN": reading.gain, "FLOOR": reading.floor},
        **{"SHARPNESS": reading.sharpness},
        **{"SCORE": SCORES.index(reading.score), "VECTOR": inputs.score_weight is not None},
        **{"AGE": reading.age and reading.age_scale, "GATE": reading.gate, "APART": reading.apart},
        **{"ROWS": size.rows, "WIDE": size.wide, "NARROW": size.narrow, "RANKS": size.ranks, "TERMS": size.terms},
        **{"DOT": size.dot, "DOT_TYPE": dot_type, "num_warps": size.warps, "num_stages": 1, "enable_fp_fusion": True},
    }
    return size, shared


def _processors(device: torch.device) -> int:
    """How many programs run side by side."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _forward(inputs: ScanInputs, plan: ScanPlan, keep: bool) -> _Tape:
    """Runs the forward pass; with `keep` the tape has every step."""
    T, B, _ = inputs.gates.shape
    A, S, reading = inputs.key_weight.shape[0], plan.filled.shape[1], plan.reading
    H, new = inputs.h.shape[1], inputs.gates.new_empty
    tape = _Tape(*(new(shape, dtype=dtype) for shape, dtype in _tape_shapes(T if keep else 1, inputs, plan)))
    tape.hidden[:S] = inputs.memory.transpose(0, 1)
    tape.hidden[S + T] = tape.states(S)[T] = inputs.h
    torch.matmul(tape.hidden[:S], inputs.key_weight.t(), out=tape.keys[:S])
    slots = max(1, plan.slots)
    table = torch.full((B, slots), -1, dtype=torch.int32, device=inputs.gates.device)
    held = torch.arange(S, dtype=torch.int32, device=table.device)
    table[:, :S] = torch.where(plan.filled, held, table[:, :S])
    attended, first_ages = inputs.query_weight, plan.first_ages if reading.age else None
    size, shared = _blocks_for(inputs, plan)
    with torch.cuda.device_of(inputs.gates):  # type: ignore[no-untyped-call]
        forward_kernel.forward[(-(-B // size.rows),)](
            *(inputs.gates, inputs.weight_hh.t().contiguous(), attended[:A].t().contiguous()),
            *(attended[A] if reading.age else None, attended[-H:].t().contiguous() if reading.gate else None),
            *(inputs.query_bias, inputs.key_weight.t().contiguous(), inputs.score_weight, inputs.c),
            *(first_ages, _as_bytes(plan.start), plan.write_slot.contiguous(), _extents(plan), table),
            *(new(B, slots, dtype=torch.float32), tape.gates, tape.cell, tape.output, tape.query, tape.keys),
            *(tape.scores, tape.summary, tape.hidden, tape.states(S), tape.versions, tape.weights, tape.last_cell),
            *(1 / math.sqrt(A), T, B, slots, S),
            KEEP=keep,
            PLACES=size.places,
            SLOTS=size.slots,
            GATE_TERMS=size.gate_terms,
            **shared,
        )
    return tape


def _extents(plan: ScanPlan) -> Tensor:
    """For each step, int32, how many slots from the first may be filled when it reads; nothing waits for the device."""
    held = plan.filled.shape[1]
    extent = plan.write_slot.amax(dim=1).roll(1) + 1
    extent[0] = 0
    if held:
        extent[0] = (plan.filled.any(dim=0) * torch.arange(1, held + 1, device=extent.device)).amax()
    return extent.cummax(dim=0).values.int()


def _as_bytes(flags: Tensor) -> Tensor:
    return flags.contiguous().view(torch.uint8)


def _backward(inputs: ScanInputs, plan: ScanPlan, tape: _Tape, grad_output: Tensor, grad_c: Tensor) -> LoopGradients:
    T, B, H = tape.summary.shape
    A, S, dtype, reading = tape.keys.shape[2], plan.filled.shape[1], inputs.gates.dtype, plan.reading
    versions = torch.zeros_like(tape.hidden, dtype=torch.float32)
    states = torch.zeros_like(tape.apart, dtype=torch.float32) if reading.apart else versions[S:]
    states[:T] = grad_output[..., :H]
    if reading.apart:
        versions[S : S + T] = grad_output[..., 2 * H :]
    keys = torch.zeros_like(tape.keys, dtype=torch.float32)
    gates, query = torch.empty_like(tape.gates), torch.empty_like(tape.query, dtype=dtype)
    # A copy: the kernel counts c down in it to the gradient of c before the first step.
    cell = torch.empty_like(grad_c, dtype=torch.float32, memory_format=torch.contiguous_format).copy_(grad_c)
    of_rows = None if inputs.score_weight is None else cell.new_empty(B, A)
    size, shared = _blocks_for(inputs, plan)
    with torch.cuda.device_of(inputs.gates):  # type: ignore[no-untyped-call]
        backward_kernel.backward[(-(-B // size.rows),)](
            *(inputs.weight_hh, inputs.query_weight, inputs.key_weight, inputs.score_weight),
            *(_as_bytes(plan.cut), plan.write_slot.contiguous(), tape.gates, tape.cell, tape.query, tape.keys),
            *(tape.scores, tape.summary, tape.hidden, plan.first_ages if reading.age else None, tape.versions),
            *(grad_output[..., H : 2 * H].contiguous(), cell, gates, versions, states, keys, query),
            *(of_rows, 1 / math.sqrt(A), T, B, S),
            CREDIT=reading.credit,
            **shared,
        )
    return LoopGradients(
        gates=gates,
        states=versions.to(dtype),
        keys=keys.to(dtype),
        query=query,
        score_weight=None if of_rows is None else of_rows.sum(dim=0).to(dtype),
        cell=cell.to(dtype),
    )
