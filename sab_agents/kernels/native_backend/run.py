"""The network of a scan, and a scan from its inputs, with the backward pass to every weight and without a graph.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots of the starting memory, R = K + 1
slots that a read touches.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from sab_agents.kernels.layout import Layout
from sab_agents.kernels.native_backend.extension import FLAG, REAL, SCORES, WHOLE, fits, native, new_empty
from sab_agents.kernels.native_backend.tape import Array, Sizes, Space
from sab_agents.kernels.stream_types import StreamState
from sab_agents.kernels.types import Reading, ScanArguments, ScanPlan, StepState, StepWeights, contiguous


class LSTMWeights(NamedTuple):
    """The weights of an LSTM, as those of a SAB whose attention has size 0."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    key_weight: tuple[()] = ()
    query_weight: tuple[()] = ()
    query_bias: tuple[()] = ()
    score_weight: None = None
    age_weight: None = None
    age_bias: None = None
    gate_weight: None = None
    gate_bias: None = None
    output_gate_weight: None = None
    output_gate_bias: None = None


Weights = StepWeights | LSTMWeights


class Given(NamedTuple):
    """What a scan is given beside its weights, contiguous and of the right dtype.

    Attributes:
        x: (T, B, I).
        h: (B, H).
        c: (B, H).
        memory: (B, S, H).
        start: (T, B) bool.
        cut: (T, B) bool.
        write_slot: (T, B) int64, −1 for no write.
        filled: (B, S) bool.
        step: (B,) int64, steps of the episode before; None where no read looks at ages.
        written_at: (B, S) int64, when each slot was written; None as for `step`.
    """

    x: Array
    h: Array
    c: Array
    memory: Array
    start: Array
    cut: Array
    write_slot: Array
    filled: Array
    step: Array | None
    written_at: Array | None

    @classmethod
    def of(cls, inputs: ScanArguments, plan: ScanPlan) -> Self:
        """Returns what is given of these, which are contiguous."""
        times = (plan.step, plan.written_at) if plan.reading.age else (None, None)
        arrays = inputs.x, inputs.h, inputs.c, inputs.memory
        return cls(*arrays, plan.start, plan.cut, plan.write_slot, plan.filled, *times)


def sizes_of(inputs: ScanArguments, plan: ScanPlan) -> Sizes:
    """Returns the sizes of a scan."""
    T, B, width = inputs.x.shape
    return Sizes.of(T, B, width, inputs.h.shape[1], inputs.query_bias.shape[0], plan.filled.shape[1], plan.reading)


class Network(NamedTuple):
    """What is the same in every scan by the same weights.

    Attributes:
        weights: contiguous float32 on the CPU.
        gradients: of each weight, which a backward pass adds to; None for a weight that wants none.
        reading: how the memory is read.
    """

    weights: Weights
    gradients: Weights
    reading: Reading

    @classmethod
    def bound(cls, weights: Weights, reading: Reading) -> Self | None:
        """Returns the network with each weight's `.grad`; both must stay where they are.

        None if the native kernel cannot take a weight or its gradient.
        """
        wanted = [each if isinstance(each, Tensor) and each.requires_grad else None for each in weights]
        gradients = [None if each is None else each.grad for each in wanted]
        for weight, gradient in zip(wanted, gradients, strict=True):
            if weight is not None and (gradient is None or not fits(gradient, tuple(weight.shape), REAL)):
                return None
        network = cls(weights, type(weights)._make(gradients), reading)
        return network if network._fits() else None

    def _fits(self) -> bool:
        weights, (inputs, H, A) = self.weights, self.sizes
        if isinstance(weights, StepWeights):
            return weights_fit(weights, inputs, H, A)
        return lstm_weights_fit(weights, inputs, H)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """I, H and A."""
        weights = self.weights
        return weights.weight_ih.shape[1], weights.weight_hh.shape[1], len(weights.query_bias)

    def forward(
        self, space: Space, given: Given, *, slots: int, keep: bool = True, output: Tensor | None = None, parts: int = 2
    ) -> Any:
        """Returns the arguments of a forward pass.

        Args:
            space: that the scan writes to.
            given: what it is given.
            slots: S and those beyond, which begin empty.
            keep: whether the tape is to have all steps, for a backward pass.
            output: (T, B, parts · H), gets the outputs; None if they are not wanted, or are yet to be set.
            parts: of an output: h and s; and ĥ, if 3.
        """
        T, B, inputs, H, A, S, R, *_, apart = space.sizes
        return native.Forward(
            threads=space.sizes.threads,
            steps=T,
            rows=B,
            input=inputs,
            size=H,
            attention=A,
            slots=slots,
            held=S,
            reads=R,
            keep=keep,
            score=SCORES.index(self.reading.score),
            gain=self.reading.gain,
            floor=self.reading.floor,
            sharpness=self.reading.sharpness,
            age_scale=self.reading.age_scale,
            apart=apart,
            x=given.x,
            projection=self.weights,
            recurrence=self.weights,
            h=given.h,
            c=given.c,
            memory=given.memory,
            start=given.start,
            write_slot=given.write_slot,
            filled=given.filled,
            step=given.step,
            written_at=given.written_at,
            tape=space.tape,
            parts=parts,
            outputs=output,
            places=None,
            given=0,
            last_output=None,
        )

    def backward(
        self,
        space: Space,
        given: Given,
        *,
        grad_hidden: Array | int | None,
        grad_summary: Array | int | None,
        grad_stored: Array | None = None,
        stride: int,
        last_only: bool = False,
        grad_memory: Tensor | None,
    ) -> Any:
        """Returns the arguments of the backward pass of a scan.

        Args:
            space: that the forward pass wrote to.
            given: what the forward pass was given.
            grad_hidden: (T, B, H) gradient of h, or its address; None for zeros.
            grad_summary: (T, B, H) gradient of s, or its address; None for zeros.
            grad_stored: (T, B, H) gradient of ĥ, where that is stored; None for zeros.
            stride: floats between two rows of each.
            last_only: whether both are of the last step alone, (B, H).
            grad_memory: (B, S, H), gets the gradient of the starting memory; None if it is not wanted.
        """
        T, B, inputs, H, A, S, R, *_, apart = space.sizes
        return native.Backward(
            threads=space.sizes.threads,
            steps=T,
            rows=B,
            input=inputs,
            size=H,
            attention=A,
            held=S,
            reads=R,
            credit=self.reading.credit,
            add=True,
            score=SCORES.index(self.reading.score),
            gain=self.reading.gain,
            floor=self.reading.floor,
            sharpness=self.reading.sharpness,
            age_scale=self.reading.age_scale,
            apart=apart,
            last_only=last_only,
            hidden_stride=stride,
            summary_stride=stride,
            stored_stride=stride,
            grad_hidden=grad_hidden,
            grad_summary=grad_summary,
            grad_stored=grad_stored,
            places=None,
            given=0,
            grad_last_cell=None,
            recurrence=self.weights,
            x=given.x,
            h=given.h,
            memory=given.memory,
            start=given.start,
            cut=given.cut,
            write_slot=given.write_slot,
            step=given.step,
            written_at=given.written_at,
            tape=space.tape,
            sent=space.sent,
            grad_memory=grad_memory,
            gradients=self.gradients,
        )


def begin_with(forward: Any, backward: Any, before: StreamState, *, age: bool) -> None:
    """Lets a scan and its backward pass begin with a state of a stream, which must stay as it is until both are done.

    Args:
        forward: arguments of the forward pass.
        backward: arguments of the backward pass.
        before: the state.
        age: whether reads look at ages.
    """
    forward.h, forward.c, forward.memory, forward.filled = before.h, before.c, before.memory, before.filled
    backward.h, backward.memory = before.h, before.memory
    if age:
        forward.step, forward.written_at = before.step, before.written_at
        backward.step, backward.written_at = before.step, before.written_at


def state_fits(state: StepState, B: int, S: int, H: int) -> bool:
    """Returns whether the native kernel can take each tensor of a state."""
    return (
        fits(state.h, (B, H), REAL)
        and fits(state.c, (B, H), REAL)
        and fits(state.memory, (B, S, H), REAL)
        and fits(state.filled, (B, S), FLAG)
        and fits(state.written_at, (B, S), WHOLE)
        and fits(state.step, (B,), WHOLE)
    )


def weights_fit(weights: StepWeights, inputs: int, H: int, A: int) -> bool:
    """Returns whether the native kernel can take each weight."""
    age, gate, output_gate = weights.age_weight, weights.gate_weight, weights.output_gate_weight
    return (
        lstm_weights_fit(weights, inputs, H)
        and fits(weights.key_weight, (A, H), REAL)
        and fits(weights.query_weight, (A, H), REAL)
        and fits(weights.query_bias, (A,), REAL)
        and (weights.score_weight is None or fits(weights.score_weight, (1, A), REAL))
        and (age is None or (fits(age, (1, H), REAL) and _fits(weights.age_bias, (1,))))
        and (gate is None or (fits(gate, (H, H), REAL) and _fits(weights.gate_bias, (H,))))
        and (output_gate is None or (fits(output_gate, (H,), REAL) and _fits(weights.output_gate_bias, (H,))))
    )


def lstm_weights_fit(weights: Weights, inputs: int, H: int) -> bool:
    """Returns whether the native kernel can take each weight of the LSTM."""
    return (
        fits(weights.weight_ih, (4 * H, inputs), REAL)
        and fits(weights.weight_hh, (4 * H, H), REAL)
        and fits(weights.bias_ih, (4 * H,), REAL)
        and fits(weights.bias_hh, (4 * H,), REAL)
    )


def _fits(tensor: Tensor | None, shape: tuple[int, ...]) -> bool:
    return tensor is not None and fits(tensor, shape, REAL)


class Run:
    """A scan whose tape is kept; its gradients are added to each weight's `.grad` at once, and hooks are not called.

    Nothing is checked but the range of the slots, and what is given must stay as it is until `backward` is done.

    Args:
        weights: of the network, contiguous float32 on the CPU.
        sizes: of the scan.
        given: what it is given.
        slots: S and those beyond, which begin empty.
        reading: how the memory is read.
        output: (T, B, 2H), gets [h, s] of each step, or (T, B, H), gets h; None if they are not wanted.
        places: (T, B) int64, which of the rows of `output`, and of its gradient, belongs to each step; as many as there
            are for none. None: they are in the steps' order.

    Raises:
        ValueError: a slot is out of range.
    """

    def __init__(
        self,
        weights: Weights,
        sizes: Sizes,
        given: Given,
        *,
        slots: int,
        reading: Reading,
        output: Tensor | None,
        places: Tensor | None = None,
    ) -> None:
        self._places = places
        self._rows = 0 if output is None else output.shape[0] * output.shape[1]
        self._network, self._given, self._space = Network(weights, weights, reading), given, Space.of(sizes)
        parts = 2 if output is None else output.shape[2] // sizes.size
        forward = self._network.forward(self._space, given, slots=slots, output=output, parts=parts)
        if places is not None:
            forward.places, forward.given = places, self._rows
        if not forward.run():
            raise ValueError(f"scan: write_slot must lie in -1 … {slots - 1}.")

    def hidden(self) -> Tensor:
        """Returns h of each step, (T, B, H)."""
        T, B, _, H, *_, apart = self._space.sizes
        states = self._space.tape.state if apart else self._space.tape.hidden
        assert isinstance(states, tuple)
        assert states
        first = states[1]
        return states[0][first : first + T * B * H].view(T, B, H).clone()  # which others may change

    def backward(self, gradient: Tensor, memory: Tensor | None) -> None:
        """Computes the backward pass, once.

        Args:
            gradient: (T, B, 2H) of [h, s], or (T, B, H) of h alone, contiguous.
            memory: (B, S, H), gets the gradient of the starting memory; None if it is not wanted.
        """
        weights = self._network.weights
        gradients = [_own_gradient(weight) for weight in weights]
        network = Network(weights, type(weights)._make(gradients), self._network.reading)
        backward = network.backward(
            self._space,
            self._given,
            grad_hidden=gradient,
            grad_summary=None if gradient.shape[2] == self._network.sizes[1] else (gradient, gradient.shape[2] // 2),
            stride=gradient.shape[2],
            grad_memory=memory,
        )
        if self._places is not None:
            backward.places, backward.given = self._places, self._rows
        backward.run()
        for weight, own in zip(weights, gradients, strict=True):
            if isinstance(weight, Tensor) and own is not None and weight.grad is not own:
                weight.grad = own if weight.grad is None else weight.grad + own


def _own_gradient(weight: Tensor | tuple[()] | None) -> Tensor | None:
    """Returns what can be added to in place for `weight.grad`: itself, or zeros; None if no gradient is wanted."""
    if not isinstance(weight, Tensor) or not weight.requires_grad:
        return None
    kept = weight.grad
    if kept is not None and kept.is_contiguous():
        return kept
    return torch.zeros_like(weight, requires_grad=False, memory_format=torch.contiguous_format)


def scan_run(
    weights: StepWeights,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    memory: Tensor,
    plan: ScanPlan,
    *,
    summary: bool,
    laid: Layout | None,
) -> tuple[Run, Tensor]:
    """Computes a scan without a graph; the arguments are checked, and the weights are contiguous.

    Args:
        weights: of the network.
        x: (T, B, I) inputs.
        h: (B, H) before the first step.
        c: (B, H) before the first step.
        memory: (B, S, H) the starting memory.
        plan: of the scan.
        summary: whether the outputs are to have s.
        laid: how the steps were laid out again, for outputs and their gradient as they were given; None if not.

    Returns:
        The run, and its outputs: [h, s] (T, B, 2H), or h (T, B, H).
    """
    inputs, plan = contiguous(ScanArguments(x, *weights, h, c, memory), plan)
    sizes, output = sizes_of(inputs, plan), None
    if laid is not None:
        parts = 2 if summary else 1
        output = new_empty(len(laid.place) // len(laid.ends), len(laid.ends), parts * sizes.size)
    elif summary:
        output = new_empty(sizes.steps, sizes.rows, 2 * sizes.size)
    given = Given.of(inputs, plan)
    places = None if laid is None else laid.source
    run = Run(weights, sizes, given, slots=plan.slots, reading=plan.reading, output=output, places=places)
    return run, run.hidden() if output is None else output
