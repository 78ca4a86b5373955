"""What goes into a scan and comes out of it, and the checks of that, made once: the same for every kernel.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots, S₀ of them in the starting memory,
K = top_k, R slots that a read names: K + 1 for the sparsifier (the last one sets the threshold), S for softmax.

A *version* is one content of one slot: the scan keeps an append-only list of them, first the S₀ slots of the starting
memory, then the hidden state of each step, so version S₀ + t is step t of this scan. Reads name versions, and an
overwritten slot needs no undo in the backward pass. S ≥ S₀: slots beyond the starting memory begin empty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sab_agents.kernels.torch_backend.scores import SCORES

Sparsifier = Literal["top_k", "softmax"]
Stored = Literal["output", "cell"]
STORED: tuple[Stored, ...] = get_args(Stored)


class Reading(NamedTuple):
    """How a step reads its memory, what becomes of what it read, and what it stores.

    Attributes:
        top_k: K.
        credit: whether gradient flows into the memories that are read.
        score: the kind of score, by its name.
        gain: g in h = ĥ + g · s, where there is no gate.
        sparsifier: how scores become weights: "top_k" is the paper's (`sparsify`), "softmax" reads every filled slot.
        temperature: the scores are divided by it before the softmax.
        age: whether λ(ĥ) · log(1 + age/τ) is subtracted from each score, with λ(ĥ) = u·ĥ + β. The age of a slot is the
            number of steps since it was written, less one.
        floor: m in weight_i = g_i / (m + Σg).
        sharpness: κ in g_i = (exp(κu_i) − 1)/κ, u_i the part of the score that is above the threshold; 0 is g_i = u_i.
        gate: whether g = σ(W_g ĥ + b_g), for each feature, is in place of the gain.
        stored: what is written to a slot: "output" is h, "cell" is ĥ.
        output_gate: whether the output has 2σ(w ⊙ h + b) ⊙ s in place of s.
        age_scale: τ.
    """

    top_k: int
    credit: bool = True
    score: str = "mlp"
    gain: float = 1.0
    sparsifier: Sparsifier = "top_k"
    temperature: float = 1.0
    age: bool = False
    floor: float = 0.0
    sharpness: float = 0.0
    gate: bool = False
    stored: Stored = "output"
    output_gate: bool = False
    age_scale: int = 1

    @property
    def ranks(self) -> int:
        """K + 1, the slots that the sparsifier touches: the last one sets the threshold."""
        return self.top_k + 1

    @property
    def apart(self) -> bool:
        """Whether ĥ is stored, and h is something else."""
        return self.stored == "cell" and (self.gate or self.gain != 0)

    def attended(self, hidden_size: int, attention_size: int) -> int:
        """Q, how many linear functions of ĥ a read takes: A of the query, one of the age, H of the gate."""
        return attention_size + self.age + self.gate * hidden_size


NOTHING_READ = Reading(top_k=1, credit=False, score="dot")
"""How a plain LSTM reads, which is a scan that has no slots."""


@dataclass(frozen=True)
class ScanPlan:
    """Everything in a scan that does not depend on the network's weights and states.

    Attributes:
        start: (T, B) bool, episode starts: h, c and the row's memory are emptied before the step.
        cut: (T, B) bool, steps that h and c enter without gradient; True at every episode start.
        write_slot: (T, B) int64, the slot each step writes to after its read, −1 where it writes none.
        filled: (B, S₀) bool, slots of the starting memory that hold something.
        slots: S.
        reading: how the memory is read.
        step: (B,) int64, steps that each row's episode took before the scan; may be None where scores do not know age.
        written_at: (B, S₀) int64, 0-based step of the episode at which each slot of the starting memory was written; as
            `step`.
    """

    start: Tensor
    cut: Tensor
    write_slot: Tensor
    filled: Tensor
    slots: int
    reading: Reading
    step: Tensor | None = None
    written_at: Tensor | None = None

    @property
    def first_ages(self) -> Tensor:
        """(B, S₀) int64, the age of each slot of the starting memory at the first step; never negative."""
        assert self.step is not None
        assert self.written_at is not None
        return (self.step.unsqueeze(1) - self.written_at - 1).clamp(min=0)

    @classmethod
    def without_memory(cls, start: Tensor, cut: Tensor) -> ScanPlan:
        """The plan of a plain LSTM; start and cut are (T, B) bool."""
        write_slot = torch.full(start.shape, -1, device=start.device)
        return cls(start, cut, write_slot, start.new_zeros(start.shape[1], 0), slots=0, reading=NOTHING_READ)

    @property
    def reads(self) -> int:
        """R."""
        return self.reading.ranks if self.reading.sparsifier == "top_k" else self.slots


class StepWeights(NamedTuple):
    """All weights of the network, in the shapes of its parameters.

    Attributes:
        weight_ih: (4H, I), the gates in PyTorch's order i, f, g, o.
        weight_hh: (4H, H).
        bias_ih: (4H,).
        bias_hh: (4H,).
        key_weight: (A, H) W₁.
        query_weight: (A, H) W₂.
        query_bias: (A,) b₂.
        score_weight: (1, A) w₃ᵀ, None if the kind of score has none.
        age_weight: (1, H) u, None where scores do not know age.
        age_bias: (1,) β, None as u.
        gate_weight: (H, H) W_g, None where there is no gate.
        gate_bias: (H,) b_g, None as W_g.
        output_gate_weight: (H,) w, None where s leaves without a gate.
        output_gate_bias: (H,) b, None as w.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    key_weight: Tensor
    query_weight: Tensor
    query_bias: Tensor
    score_weight: Tensor | None = None
    age_weight: Tensor | None = None
    age_bias: Tensor | None = None
    gate_weight: Tensor | None = None
    gate_bias: Tensor | None = None
    output_gate_weight: Tensor | None = None
    output_gate_bias: Tensor | None = None


WEIGHTS = len(StepWeights._fields)


class ScanArguments(NamedTuple):
    """The differentiable arguments of a scan.

    Attributes:
        x: (T, B, I) inputs.
        weight_ih: this and the next thirteen as in `StepWeights`.
        weight_hh: see there.
        bias_ih: see there.
        bias_hh: see there.
        key_weight: see there.
        query_weight: see there.
        query_bias: see there.
        score_weight: see there.
        age_weight: see there.
        age_bias: see there.
        gate_weight: see there.
        gate_bias: see there.
        output_gate_weight: see there.
        output_gate_bias: see there.
        h: (B, H) hidden state before the first step.
        c: (B, H) cell state before the first step.
        memory: (B, S₀, H) the starting memory.
    """

    x: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    key_weight: Tensor
    query_weight: Tensor
    query_bias: Tensor
    score_weight: Tensor | None
    age_weight: Tensor | None
    age_bias: Tensor | None
    gate_weight: Tensor | None
    gate_bias: Tensor | None
    output_gate_weight: Tensor | None
    output_gate_bias: Tensor | None
    h: Tensor
    c: Tensor
    memory: Tensor

    @property
    def weights(self) -> StepWeights:
        """The weights among them."""
        return StepWeights._make(self[1 : 1 + WEIGHTS])


class ScanInputs(NamedTuple):
    """What a scan is given once its gates are computed; kernels loop over these.

    Attributes:
        gates: (T, B, 4H) x·W_ihᵀ + b_ih + b_hh for all steps, in PyTorch's order i, f, g, o.
        weight_hh: (4H, H).
        key_weight: (A, H) W₁.
        query_weight: (Q, H) W₂, then u and W_g where they are: see `Reading.attended`.
        query_bias: (Q,) b₂, then β and b_g.
        score_weight: (A,) w₃, None if the kind of score has none.
        h: (B, H) hidden state before the first step.
        c: (B, H) cell state before the first step.
        memory: (B, S₀, H) the starting memory.
    """

    gates: Tensor
    weight_hh: Tensor
    key_weight: Tensor
    query_weight: Tensor
    query_bias: Tensor
    score_weight: Tensor | None
    h: Tensor
    c: Tensor
    memory: Tensor


class ScanOutputs(NamedTuple):
    """The results of a scan.

    Attributes:
        whole: (T, B, 2H) [h, s]: hidden states h = ĥ + g · s and summaries s of all steps, s by the output gate where
            there is one; (T, B, 3H) [h, s, ĥ] where ĥ is what steps store, and is not h.
        c: (B, H) cell state after the last step.
        versions: (T, B, R) int64, the versions that were scored best, −1 where there was none; no gradient.
        weights: (T, B, R) their weights; no gradient.
    """

    whole: Tensor
    c: Tensor
    versions: Tensor
    weights: Tensor

    @property
    def output(self) -> Tensor:
        """(T, B, 2H) [h, s]."""
        width = 2 * self.c.shape[-1]
        return self.whole if self.whole.shape[-1] == width else self.whole[..., :width]

    @property
    def h(self) -> Tensor:
        """(T, B, H) hidden states, a view of `whole`."""
        return self.whole[..., : self.c.shape[-1]]

    @property
    def summary(self) -> Tensor:
        """(T, B, H) summaries, a view of `whole`."""
        H = self.c.shape[-1]
        return self.whole[..., H : 2 * H]

    @property
    def stored(self) -> Tensor:
        """(T, B, H) what each step stores if it writes, a view of `whole`."""
        H = self.c.shape[-1]
        return self.h if self.whole.shape[-1] == 2 * H else self.whole[..., 2 * H :]


class ScanTape(NamedTuple):
    """What a kernel's backward pass needs of its forward pass, beside the arguments.

    Attributes:
        versions: as in `ScanOutputs`.
        weights: as in `ScanOutputs`.
        kept: whatever else the kernel keeps.
    """

    versions: Tensor
    weights: Tensor
    kept: tuple[Tensor, ...]


class Scanned(NamedTuple):
    """What a kernel's forward pass leaves.

    Attributes:
        outputs: the results.
        kept: as in `ScanTape`; empty if no backward pass is to come.
    """

    outputs: ScanOutputs
    kept: tuple[Tensor, ...]

    @property
    def tape(self) -> ScanTape:
        """What the backward pass needs."""
        return ScanTape(self.outputs.versions, self.outputs.weights, self.kept)


class Counted(NamedTuple):
    """Where each step of a scan stands in its episode, and what follows from that.

    Attributes:
        step: (T, B) int64, 1-based step of its episode.
        cut: (T, B) bool, as in `ScanPlan`.
        write_slot: (T, B) int64, as in `ScanPlan`.
        highest: the highest slot that is written to, −1 where none is.
    """

    step: Tensor
    cut: Tensor
    write_slot: Tensor
    highest: int


class Held(NamedTuple):
    """What the memory holds after a scan, S slots.

    Attributes:
        memory: (B, S, H), zeros in empty slots; gradient flows through it.
        filled: (B, S) bool.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written; 0 in empty slots.
    """

    memory: Tensor
    filled: Tensor
    written_at: Tensor


class StepState(NamedTuple):
    """What one step carries to the next; empty slots hold zeros.

    Attributes:
        h: (B, H) hidden state.
        c: (B, H) cell state.
        memory: (B, S, H).
        filled: (B, S) bool, slots that hold something.
        written_at: (B, S) int64, 0-based step of the episode at which each slot was written.
        step: (B,) int64, steps taken since the episode's start.
    """

    h: Tensor
    c: Tensor
    memory: Tensor
    filled: Tensor
    written_at: Tensor
    step: Tensor


class StepRules(NamedTuple):
    """When one step writes, and how it reads.

    Attributes:
        slots: S; the oldest of them is overwritten.
        write_every: steps between two writes.
        reading: how the memory is read.
    """

    slots: int
    write_every: int
    reading: Reading


def contiguous(inputs: ScanArguments, plan: ScanPlan) -> tuple[ScanArguments, ScanPlan]:
    """Both with contiguous tensors, for kernels that are handed addresses."""
    if not all(x is None or x.is_contiguous() for x in inputs):
        inputs = ScanArguments(*(None if x is None else x.contiguous() for x in inputs))  # type: ignore[arg-type]
    names = "start", "cut", "write_slot", "filled", "step", "written_at"
    tensors = {name: getattr(plan, name) for name in names}
    if not all(x is None or x.is_contiguous() for x in tensors.values()):
        plan = replace(plan, **{name: None if x is None else x.contiguous() for name, x in tensors.items()})  # type: ignore[arg-type]
    return inputs, plan


def check_scan(inputs: ScanArguments, plan: ScanPlan) -> None:
    """Compares every shape, dtype and device with those that the sizes of x, of the weights and of the plan demand.

    Whether each entry of `write_slot` lies in −1 … S − 1 is left to the kernels: on a GPU it would have to wait.

    Raises:
        ValueError: one of them differs.
    """
    x = inputs.x
    if x.dim() != 3 or inputs.h.dim() != 2 or plan.filled.dim() != 2:
        raise ValueError(
            f"scan: x must have shape (T, B, I), h (B, H) and plan.filled (B, S), but have {tuple(x.shape)}, "
            f"{tuple(inputs.h.shape)} and {tuple(plan.filled.shape)}."
        )
    (T, B, width), H, A, held = x.shape, inputs.h.shape[1], inputs.query_bias.shape[0], plan.filled.shape[1]
    for field, tensor, shape in zip(ScanArguments._fields, inputs, _shapes(T, B, width, H, A, held), strict=True):
        if tensor is not None and (tensor.shape != shape or tensor.dtype != x.dtype or tensor.device != x.device):
            raise _mismatch("scan", field, tensor, shape, x.dtype, x.device)
    flags = (plan.start, (T, B)), (plan.cut, (T, B)), (plan.filled, (B, held))
    for name, (tensor, size) in zip(("start", "cut", "filled"), flags, strict=True):
        if tensor.shape != size or tensor.dtype != torch.bool or tensor.device != x.device:
            raise _mismatch("scan", f"plan.{name}", tensor, size, torch.bool, x.device)
    slot = plan.write_slot
    if slot.shape != (T, B) or slot.dtype != torch.int64 or slot.device != x.device:
        raise _mismatch("scan", "plan.write_slot", slot, (T, B), torch.int64, x.device)
    reading = plan.reading
    for name, needed, given in (
        ("age", reading.age, (inputs.age_weight, inputs.age_bias)),
        ("gate", reading.gate, (inputs.gate_weight, inputs.gate_bias)),
        ("output_gate", reading.output_gate, (inputs.output_gate_weight, inputs.output_gate_bias)),
    ):
        if any((each is not None) != needed for each in given):
            raise ValueError(
                f"scan: {name}_weight and {name}_bias must be given if plan.reading.{name} is True, and only then."
            )
    if reading.age:
        _check_times(plan, B, held, x.device)
    score = reading.score
    if score not in SCORES or SCORES[score].has_vector != (inputs.score_weight is not None):
        raise ValueError(
            f"scan: plan.reading.score must be one of {', '.join(map(repr, SCORES))}, with a score_weight where it has "
            f"one, but is {score!r} with{'out' if inputs.score_weight is None else ''} it."
        )
    if held > plan.slots or reading.top_k < 1 or T < 1:
        raise ValueError(
            f"scan: there must be at least one step, {held} slots and a top_k of 1, but there are {T} steps, "
            f"{plan.slots} slots and a top_k of {reading.top_k}."
        )


def _check_times(plan: ScanPlan, rows: int, held: int, device: torch.device) -> None:
    for name, tensor, shape in (("step", plan.step, (rows,)), ("written_at", plan.written_at, (rows, held))):
        if tensor is None:
            raise ValueError(f"scan: plan.{name} must be given if plan.reading.age is True.")
        if tensor.shape != shape or tensor.dtype != torch.int64 or tensor.device != device:
            raise _mismatch("scan", f"plan.{name}", tensor, shape, torch.int64, device)


def _shapes(T: int, B: int, width: int, H: int, A: int, held: int) -> tuple[tuple[int, ...], ...]:
    """The shapes of `ScanArguments`."""
    lstm, read = ((4 * H, width), (4 * H, H), (4 * H,), (4 * H,)), ((A, H), (A, H), (A,), (1, A), (1, H), (1,))
    gates = (H, H), (H,), (H,), (H,)
    return (T, B, width), *lstm, *read, *gates, (B, H), (B, H), (B, held, H)


def check_remember(plan: ScanPlan, step: Tensor, written_at: Tensor, memory: Tensor, hidden: Tensor) -> None:
    """The same for the arguments of `remember`.

    Raises:
        ValueError: a shape, dtype or device differs.
    """
    (T, B, H), held = hidden.shape, plan.filled.shape[1]
    for name, tensor, shape, dtype in (
        ("step", step, (T, B), torch.int64),
        ("plan.start", plan.start, (T, B), torch.bool),
        ("plan.write_slot", plan.write_slot, (T, B), torch.int64),
        ("plan.filled", plan.filled, (B, held), torch.bool),
        ("written_at", written_at, (B, held), torch.int64),
        ("memory", memory, (B, held, H), hidden.dtype),
    ):
        if tensor.shape != shape or tensor.dtype != dtype or tensor.device != hidden.device:
            raise _mismatch("remember", name, tensor, shape, dtype, hidden.device)
    if held > plan.slots:
        raise ValueError(f"remember: plan.slots must be at least {held}, but is {plan.slots}.")


def _mismatch(
    function: str, name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> ValueError:
    return ValueError(
        f"{function}: {name} must have shape {tuple(shape)} and be {dtype} on {device}, but has shape "
        f"{tuple(tensor.shape)} and is {tensor.dtype} on {tensor.device}."
    )


class MixtureState(NamedTuple):
    """Of linear classifiers at several rates, mixed with another classifier; I features, C labels, K of them.

    The other one's probabilities are the softmax of head · output + bias over the C labels. K / G linear classifiers
    after another see the same one of G views of a sample; R more, the readouts, see `output`.

    Attributes:
        rates: (K + R,) float64.
        share: part of all weight that is spread evenly after each label.
        least: probability of a label below which no mistake is punished further.
        weights: (1 + K + R,) float64, of the other classifier, of the linear ones and of the readouts.
        linear: (C, K, 1 + I) float64, the bias first.
        readout: (C, R, 1 + F) float64, the bias first.
        x: (G, I) float32, the views of a sample.
        output: (F,) float32, what the other classifier's last layer takes.
        head: (C, F) float32, that layer; it may have more rows.
        bias: (C,) float32; may be longer.
        each: (C, 1 + K + R) float64, by all.
        mixed: (C,) float64, their mean.
    """

    rates: Tensor
    share: float
    least: float
    weights: Tensor
    linear: Tensor
    readout: Tensor
    x: Tensor
    output: Tensor
    head: Tensor
    bias: Tensor
    each: Tensor
    mixed: Tensor


class ScaleState(NamedTuple):
    """Scales of n features, which are laid out as an input of I columns.

    Attributes:
        values: (n,) float64, of a step.
        seen: (n,) float64, how often each was.
        mean: (n,) float64.
        squares: (n,) float64, sum of squared distances from the mean.
        deviation: (n,) float64, the standard deviation; 1 if all values were equal.
        columns: (n,) int64, in range.
        out: (I,) float32, where the features are laid; the other columns stay as they are.
    """

    values: Tensor
    seen: Tensor
    mean: Tensor
    squares: Tensor
    deviation: Tensor
    columns: Tensor
    out: Tensor
