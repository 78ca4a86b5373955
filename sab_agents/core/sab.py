"""The SAB module: an LSTM that reminds itself, with credit through what it was reminded of.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, S slots, K = top_k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least, int_between, is_number, one_of
from sab_agents.core.attention import Attention, AttentionKind, constant_linear
from sab_agents.core.base import Core, draw_input_weights, recompute_weights
from sab_agents.core.recipes import DEFAULT, Recipe, chosen_recipe
from sab_agents.core.registry import register_core
from sab_agents.core.state import SABState
from sab_agents.core.timeline import Rules, Timeline, make_timeline, next_state, read_steps
from sab_agents.kernels import (
    STORED,
    Reading,
    Replay,
    ScanOutputs,
    ScanPlan,
    StepState,
    StepWeights,
    Stored,
    is_known,
    replay,
    scan,
    step,
)

INFERENCE_STEPS = 1024
"""Without gradient a longer sequence runs in parts of so many steps, so that beside its output memory does not grow."""


@dataclass(frozen=True)
class ReadLog:
    """Which steps were read, with which weight; detached. `SAB` returns it with `return_attention=True`.

    Attributes:
        steps: (T, B, K+1) int64, 0-based step of the episode at which each slot that was read had been written, −1
            where there was none. The last of the K+1 is the one whose score is the threshold, where more than K slots
            were filled. (B, T, K+1) with `batch_first`. In forward-mode differentiation all S slots are named.
        weights: of the same shape, their weights in the summary.
    """

    steps: Tensor
    weights: Tensor


GREATEST_AGE_SCALE = 10**6
"""Beyond, a float32 hardly tells 1 + age/τ of two ages apart."""

GATE_BIAS = -3.0
"""With which a gate begins: nearly shut, so that the network begins as an LSTM."""


class OutputGate(nn.Module):
    """A gate for what was read, which leaves it as it is at first: 2σ(w ⊙ h + b), feature by feature.

    Args:
        hidden_size: H.
        device: where the parameters are made.
        dtype: of the parameters.

    Attributes:
        weight: (H,) w, 0 at first.
        bias: (H,) b, 0 at first.
    """

    def __init__(
        self, hidden_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(hidden_size, device=device, dtype=dtype))

    def forward(self, h: Tensor) -> Tensor:
        """Returns what s is multiplied by, of the shape of h (…, H)."""
        return 2 * torch.sigmoid(self.weight * h + self.bias)

    def extra_repr(self) -> str:
        """The size, for `print`."""
        return str(len(self.weight))


@register_core("sab", "Sparse Attentive Backtracking", policy="Sab")
class SAB(Core[SABState]):
    """Sparse Attentive Backtracking: an LSTM with a memory of its own past states.

    At every step it scores all stored states against the present one and outputs [h, s]: the hidden state, and the
    weighted sum s of the best `top_k` stored states, which the paper's recipe also adds to the hidden state, and which
    leaves through a gate in the default recipe. Gradient
    flows back through a local segment of `bptt_steps` steps, and through the few states that were read into the
    segments that wrote them. It is called as `nn.LSTM` is, `output, state = sab(x, state, episode_start)`; see
    `forward`, and `step` for one step. Clip the gradient norm, to 0.25 to 0.5.

    With (T, B, I) inputs, or (B, T, I) with `batch_first`, outputs are (T, B, 2H). docs/guides/settings.md says when to
    change the defaults.

    The starting memory of a call receives gradient like any other input; `state.detach()` cuts it off.

    Args:
        input_size: I, features of an input.
        hidden_size: H, features of the hidden state; an output has 2H.
        top_k: K, slots that take part in one read (the paper's k_top).
        write_every: steps between two memory writes (k_att).
        bptt_steps: length of a segment, whose start plain backpropagation never crosses (k_trunc).
        capacity: slots that the memory can hold; when all are filled the oldest is overwritten. None: unbounded.
        attention: "mlp", the paper's a_i = w₃ᵀ tanh(W₁m_i + W₂ĥ + b₂), or "dot", (W₁m_i)·(W₂ĥ + b₂)/√A.
        attention_size: A; None is H.
        recipe: values of the next five settings where they are None, by name: "default" or "paper".
        summary_gain: g in h = ĥ + g · s; 1 is the paper's, and with 0 memory is read into the output alone. "gate" is
            g = σ(W ĥ + b) for each feature, which begins with W = 0 and b = −3.
        age: whether λ(ĥ) · log(1 + age/τ) is subtracted from the score of a slot, with λ(ĥ) = u·ĥ + β, which begins as
            0; the age of a slot is the number of steps since it was written, less one. False is the paper's.
        floor: m in the weights g_i / (m + Σg), g_i what the score of slot i stands above the threshold (`sharpness`).
            With m > 0 the weights sum to less than 1, and a read can be declined. 0 is the paper's.
        stored: what is written to a slot: "output" is h, the paper's, which holds what was read before, so that it can
            grow with the number of reads; "cell" is ĥ, whose features lie in (−1, 1).
        output_gate: whether the output has 2σ(w ⊙ h + b) ⊙ s in place of s, with w = b = 0 at first. So a layer after
            this one can take from one slot what it needs at this step, and no more. False is the paper's.
        age_scale: τ, in steps. The scores of slots much younger than that hardly differ by age, and of older ones the
            ratio of their ages counts. Where the newest of several like slots is wanted, as many as the memory has.
        sharpness: κ in g_i = (exp(κu_i) − 1)/κ, u_i what the score of slot i stands above the threshold; 0, the
            paper's, is g_i = u_i. Scores that differ by less than 1/κ are weighed nearly so with any κ; of others the
            best takes nearly all. So a read can learn to single out one slot of K, by making scores larger.
        input_gain: g of the weights by which inputs enter, which begin uniform in ±g√(3/I), with a standard deviation
            of g/√I. None: PyTorch's, ±1/√H, by which a single number hardly shows in the state.
        batch_first: sequences are (B, T, …), as in `nn.LSTM`.
        device: where the parameters are made.
        dtype: of the parameters.

    Raises:
        TypeError: a size or count is not an int.
        ValueError: a size or count is below 1, or `attention` is unknown.

    Examples:
        >>> sab = SAB(input_size=10, hidden_size=32, top_k=5, bptt_steps=5)
        >>> output, state = sab(torch.randn(20, 4, 10))
        >>> output.shape, sab.output_size
        (torch.Size([20, 4, 64]), 64)
        >>> output, state = sab.step(torch.randn(4, 10), state)

    Source: Ke et al. 2018, "Sparse Attentive Backtracking: Temporal Credit Assignment Through Reminding". What
    decided the default recipe is in docs/recipe.md.
    """

    state_class = SABState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        top_k: int = 5,
        write_every: int = 1,
        bptt_steps: int = 10,
        capacity: int | None = None,
        attention: AttentionKind = "mlp",
        attention_size: int | None = None,
        recipe: str = DEFAULT,
        summary_gain: float | Literal["gate"] | None = None,
        age: bool | None = None,
        floor: float | None = None,
        stored: Stored | None = None,
        output_gate: bool | None = None,
        age_scale: int = 1,
        sharpness: float = 0.0,
        input_gain: float | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, 2 * hidden_size, batch_first=batch_first)
        input_size, hidden_size = self.input_size, self.hidden_size
        name = type(self).__name__
        self.rules = Rules(
            reading=_reading(
                name,
                top_k,
                attention,
                chosen_recipe(name, recipe, summary_gain, age, floor, stored, output_gate),
                age_scale,
                sharpness,
            ),
            write_every=at_least(name, "write_every", write_every, 1),
            bptt_steps=at_least(name, "bptt_steps", bptt_steps, 1),
            capacity=None if capacity is None else at_least(name, "capacity", capacity, 1),
        )
        size = hidden_size if attention_size is None else at_least(name, "attention_size", attention_size, 1)
        self.cell = nn.LSTMCell(input_size, hidden_size, device=device, dtype=dtype)
        reading = self.rules.reading
        self.attention = Attention(hidden_size, size, attention, reading.age, device=device, dtype=dtype)
        self.gate: nn.Linear | None = None
        if reading.gate:
            self.gate = constant_linear(hidden_size, hidden_size, bias=GATE_BIAS, device=device, dtype=dtype)
        self.output_gate: OutputGate | None = None
        if reading.output_gate:
            self.output_gate = OutputGate(hidden_size, device=device, dtype=dtype)
        draw_input_weights(self, input_gain)

    def extra_repr(self) -> str:
        """The settings, for `print`."""
        rules, reading = self.rules, self.rules.reading
        return (
            f"{self.input_size}, {self.hidden_size}, top_k={reading.top_k}, write_every={rules.write_every}, "
            f"bptt_steps={rules.bptt_steps}, capacity={rules.capacity}, attention={self.attention.kind!r}, "
            f"summary_gain={'gate' if reading.gate else reading.gain!r}, age={reading.age}, "
            f"age_scale={reading.age_scale}, floor={reading.floor}, "
            f"sharpness={reading.sharpness}, stored={reading.stored!r}, output_gate={reading.output_gate}"
        )

    def initial_state(self, batch_size: int) -> SABState:
        """The state of `batch_size` rows at the start of an episode: zeros, and `capacity` empty slots."""
        batch_size = self._checked_rows(batch_size)
        weight, slots = self.like, self.rules.capacity or 0
        return SABState(
            h=weight.new_zeros(batch_size, self.hidden_size),
            c=weight.new_zeros(batch_size, self.hidden_size),
            memory=weight.new_zeros(batch_size, slots, self.hidden_size),
            filled=weight.new_zeros(batch_size, slots, dtype=torch.bool),
            written_at=weight.new_zeros(batch_size, slots, dtype=torch.int64),
            step=weight.new_zeros(batch_size, dtype=torch.int64),
        )

    @overload
    def forward(
        self,
        x: Tensor,
        state: SABState | None = None,
        episode_start: Tensor | None = None,
        return_attention: Literal[False] = False,
    ) -> tuple[Tensor, SABState]: ...

    @overload
    def forward(
        self, x: Tensor, state: SABState | None, episode_start: Tensor | None, return_attention: Literal[True]
    ) -> tuple[Tensor, SABState, ReadLog]: ...

    @overload
    def forward(
        self,
        x: Tensor,
        state: SABState | None = None,
        episode_start: Tensor | None = None,
        *,
        return_attention: Literal[True],
    ) -> tuple[Tensor, SABState, ReadLog]: ...

    def forward(
        self,
        x: Tensor,
        state: SABState | None = None,
        episode_start: Tensor | None = None,
        return_attention: bool = False,
    ) -> tuple[Tensor, SABState] | tuple[Tensor, SABState, ReadLog]:
        """Runs a whole sequence.

        Args:
            x: (T, B, I) inputs, or (B, T, I) with `batch_first`.
            state: carried from an earlier call; None starts every row's episode.
            episode_start: (T, B) bool, or (B, T) with `batch_first`: True where x is an episode's first observation.
            return_attention: also return which steps were read, with which weight.

        Returns:
            (T, B, 2H) outputs [h, s], or (B, T, 2H); the state after the last step; and a `ReadLog` if asked for.

        Raises:
            TypeError: an argument is not a tensor or not a `SABState`.
            ValueError: shapes, dtypes or devices do not fit, or x is not finite.
        """
        if not return_attention:
            return super().forward(x, state, episode_start)
        x, state, episode_start = self._checked_sequence(x, state, episode_start)
        if x.shape[0] == 0:
            empty = x.new_zeros(0, x.shape[1], self.rules.reading.ranks)
            output, log = x.new_zeros(0, x.shape[1], self.output_size), ReadLog(empty.long(), empty)
        else:
            output, state, log = self._run_logged(x, state, episode_start)
        if self.batch_first:
            output = output.transpose(0, 1)
            log = ReadLog(log.steps.transpose(0, 1), log.weights.transpose(0, 1))
        return output, state, log

    def step(
        self, x: Tensor, state: SABState | None = None, episode_start: Tensor | None = None
    ) -> tuple[Tensor, SABState]:
        """Runs one step: x (B, I), episode_start (B,) bool; returns (B, 2H) outputs [h, s] and the new state.

        Equals `forward` on a sequence of length 1, and raises as it does. In float32 on a CPU, without gradient and
        with a bounded `capacity`, it is one call of the native kernel.
        """
        if self.rules.capacity is None or state is None or not self._have_types(x, state, episode_start):
            return super().step(x, state, episode_start)
        try:
            weights = self._parameter_weights()
        except KeyError:  # one is computed, and would be once more
            return super().step(x, state, episode_start)

        def otherwise() -> tuple[Tensor, StepState]:
            output, after = super(SAB, self).step(x, state, episode_start)
            return output, StepState(*_fields(after))

        before = StepState(*_fields(state))
        output, after = step(weights, self.rules.of_a_step, x, before, episode_start, otherwise=otherwise)
        return output, SABState(*after)

    def step_weights(self) -> StepWeights:
        """All weights as they are now; one that is not a parameter but computed from others is computed."""
        try:
            return self._parameter_weights()
        except KeyError:
            cell, attention, gate, output_gate = self.cell, self.attention, self.gate, self.output_gate
            age = attention.age
            recompute_weights(cell, attention.key, attention.query, attention.score, age, gate, output_gate)
            return StepWeights(
                cell.weight_ih,
                cell.weight_hh,
                cell.bias_ih,
                cell.bias_hh,
                attention.key.weight,
                attention.query.weight,
                attention.query.bias,
                None if attention.score is None else attention.score.weight,
                None if age is None else age.weight,
                None if age is None else age.bias,
                None if gate is None else gate.weight,
                None if gate is None else gate.bias,
                None if output_gate is None else output_gate.weight,
                None if output_gate is None else output_gate.bias,
            )

    def _parameter_weights(self) -> StepWeights:
        """All weights, from the modules' own dictionaries: their `__getattr__` would take as long as a step.

        Raises:
            KeyError: a weight is not a parameter but computed from others.
        """
        cell: Any = self._modules["cell"]
        attention: Any = self._modules["attention"]
        lstm, modules = cell._parameters, attention._modules
        query = modules["query"]._parameters
        gate, output_gate = self._modules.get("gate"), self._modules.get("output_gate")
        score, age = modules.get("score"), modules.get("age")
        return StepWeights(
            lstm["weight_ih"],
            lstm["weight_hh"],
            lstm["bias_ih"],
            lstm["bias_hh"],
            modules["key"]._parameters["weight"],
            query["weight"],
            query["bias"],
            None if score is None else score._parameters["weight"],
            None if age is None else age._parameters["weight"],
            None if age is None else age._parameters["bias"],
            None if gate is None else gate._parameters["weight"],
            None if gate is None else gate._parameters["bias"],
            None if output_gate is None else output_gate._parameters["weight"],
            None if output_gate is None else output_gate._parameters["bias"],
        )

    def _run(self, x: Tensor, state: SABState, episode_start: Tensor | None) -> tuple[Tensor, SABState]:
        if torch.is_grad_enabled() or x.shape[0] <= INFERENCE_STEPS or self.rules.capacity is None or not is_known(x):
            return self._run_at_once(x, state, episode_start)
        output = x.new_empty(*x.shape[:2], self.output_size)
        for first in range(0, x.shape[0], INFERENCE_STEPS):
            part = slice(first, first + INFERENCE_STEPS)
            start = None if episode_start is None else episode_start[part]
            output[part], state = self._run_at_once(x[part], state, start)
        return output, state

    def _run_at_once(self, x: Tensor, state: SABState, episode_start: Tensor | None) -> tuple[Tensor, SABState]:
        timeline, outputs = self._scanned(x, state, episode_start)
        return outputs.output, next_state(state, timeline, outputs)

    def _run_logged(self, x: Tensor, state: SABState, episode_start: Tensor | None) -> tuple[Tensor, SABState, ReadLog]:
        timeline, outputs = self._scanned(x, state, episode_start)
        log = ReadLog(read_steps(state, timeline, outputs.versions), outputs.weights)
        return outputs.output, next_state(state, timeline, outputs), log

    def _scanned(self, x: Tensor, state: SABState, episode_start: Tensor | None) -> tuple[Timeline, ScanOutputs]:
        timeline = make_timeline(state, x.shape[0], episode_start, self.rules)
        return timeline, self.scan(x, state.h, state.c, state.memory, timeline.plan)

    def scan(self, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> ScanOutputs:
        """Runs steps whose cuts and writes are planned: what streams and replays are made of.

        Args:
            x: (T, B, I) inputs.
            h: (B, H) hidden state before the first step.
            c: (B, H) cell state before it.
            memory: (B, S₀, H) the memory before it.
            plan: cuts, episode starts and writes.

        Raises:
            ValueError: a shape, dtype or device does not fit.
        """
        return scan(self.step_weights(), x, h, c, memory, plan)

    def replay(self, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> Replay:
        """Runs such steps again for their gradient alone, which `Replay.backward` adds to the parameters' `.grad`.

        Takes the arguments of `scan`, and raises as it does.
        """
        return replay(self.step_weights(), x, h, c, memory, plan)

    def _check_state(self, name: str, state: SABState) -> None:
        super()._check_state(name, state)
        if state.h.shape[1] != self.hidden_size:
            raise ValueError(
                f"{name}: state must have hidden size {self.hidden_size}, but has {state.h.shape[1]}. "
                f"Build the state with initial_state of this module."
            )
        capacity = self.rules.capacity
        if capacity is not None and state.slots != capacity:
            raise ValueError(
                f"{name}: state must have {capacity} slots (capacity), but has {state.slots}. "
                f"Build the state with initial_state of this module."
            )

        rows, H, slots = state.batch_size, self.hidden_size, state.slots
        shapes = {"h": (rows, H), "c": (rows, H), "memory": (rows, slots, H), "step": (rows,)}
        state.check_shapes(name, shapes | {"filled": (rows, slots), "written_at": (rows, slots)})
        for field, dtype in {"filled": torch.bool, "written_at": torch.int64, "step": torch.int64}.items():
            received = getattr(state, field).dtype
            if received != dtype:
                raise ValueError(f"{name}: state.{field} must be {dtype}, but is {received}.")


def _reading(name: str, top_k: int, attention: str, recipe: Recipe, age_scale: int, sharpness: float) -> Reading:
    gain, age, floor, stored, output_gate = recipe
    gated = gain == "gate"
    if not gated and not (is_number(gain) and 0 <= gain <= 1):  # type: ignore[operator]
        raise ValueError(f'{name}: summary_gain must be a number from 0 to 1, or "gate", but is {gain!r}.')
    for setting, value in (("age", age), ("output_gate", output_gate)):
        if not isinstance(value, bool):
            raise TypeError(f"{name}: {setting} must be True or False, but is {value!r}.")
    for setting, number in (("floor", floor), ("sharpness", sharpness)):
        if not (is_number(number) and 0 <= number < math.inf):
            raise ValueError(f"{name}: {setting} must be a finite number of at least 0, but is {number!r}.")
    return Reading(
        top_k=at_least(name, "top_k", top_k, 1),
        score=attention,
        gain=0.0 if gated else float(gain),
        age=age,
        floor=float(floor),
        sharpness=float(sharpness),
        gate=gated,
        stored=one_of(name, "stored", stored, STORED),
        output_gate=output_gate,
        age_scale=_age_scale(name, age_scale, age),
    )


def _age_scale(name: str, age_scale: int, age: bool) -> int:
    scale = int_between(name, "age_scale", age_scale, 1, GREATEST_AGE_SCALE)
    if scale != 1 and not age:
        raise ValueError(f"{name}: age_scale must be 1 where scores do not know age, but is {scale}. Leave it out.")
    return scale


def _fields(state: SABState) -> tuple[Tensor, ...]:
    """The tensors of a state of this class alone, faster than its `tensors`."""
    return state.h, state.c, state.memory, state.filled, state.written_at, state.step
