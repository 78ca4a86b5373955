"""One or more endless streams through a SAB: a bounded memory whose slots can be replayed for credit.

Dimensions: T steps of a window, B rows, S slots, R = top_k + 1 slots that a step touches, I input size, H hidden size.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.sab import SAB
from sab_agents.kernels import (
    Contexts,
    Eviction,
    Replay,
    StreamKernel,
    StreamStep,
    WindowRecord,
    Write,
    act,
    all_finite,
    graph_replay,
    scan,
    stream_kernel,
)
from sab_agents.streaming.base import Stream, checked_step, stepped
from sab_agents.streaming.credit import push_credit, refresh_memory
from sab_agents.streaming.sab_window import SABWindow, Steps
from sab_agents.streaming.slots import SlotState, rules_of, updated, without, without_window
from sab_agents.streaming.window import Credit, Window


class SlotStep(NamedTuple):
    """One step that was computed and not yet taken.

    Attributes:
        observation: (B, …).
        start: (B,) bool, episode starts, or None for none.
        computed: by the network.
    """

    observation: Tensor
    start: Tensor | None
    computed: StreamStep

    @property
    def output(self) -> Tensor:
        """(B, 2H) [h, s]."""
        return self.computed.output


class SABStream(Stream):
    """Runs B streams step by step, and lets gradient reach the steps that wrote what a window remembers.

    Each step is taken without gradient, and what it observed, read and wrote is recorded. A replay of the window sends
    gradient to the memory as it was before the window, and `credit` passes it on through replays of the pieces that
    wrote that memory. Cost and memory of all this depend on the sizes, not on how long the stream has run.

    Which slot a step writes to follows from the state alone: usage and credit decay at every step, a read adds its
    weight to the usage of its slot, and the rule of eviction chooses when all slots are filled. `act` does the same.

    The tensors of `state` are changed in place as steps are taken: clone it to keep it. `before` is a copy.

    A held slot is *stale* after an update: older weights computed it. `refresh` recomputes all of them.

    What a slot costs: with L = `bptt_steps` and U = L · (top_k + 1), its context holds L observations, U + 2 vectors of
    H, and 17 · U + 8 · L bytes of indices. With L = 5, top_k = 5, H = 64 and float32 that is 9 KB and 5 observations.

    Args:
        core: a `SAB` with a bounded `capacity`. Its own rule of writing to the next slot is replaced by `eviction`.
        rows: B.
        encoder: makes inputs (N, I) of observations (N, …); it is replayed with the core and receives credit. None
            passes observations on.
        observation_shape: of one observation; None is (I,).
        eviction: which slot a write takes when all are filled: "oldest", "least_used" (smallest decayed attention
            weight), "least_credited" (smallest decayed gradient norm), "most_redundant" (closest to a newer one),
            "least_useful" (one whose reads raised the loss: the decayed sum of −gradient · slot is negative; else the
            one closest to a newer one, and in an episode longer than all before it together, which gives no sign of an
            end, that of the smallest squared distance for each step of its age, up to 16 · capacity), or "reservoir"
            (the memory is a uniform sample of the episode). A `least_*` rule never takes one of the newest slots: of a
            quarter of them, and "least_useful" of three quarters.
        write: "every" (the paper's); "changed", which skips a write whose h lies within `novelty` · ‖h‖ of the slot
            that was written last, so that of steps with nearly the same state the first is held; "novel", which skips
            one that lies as near to any slot; or "refresh", by which such a write goes to that slot.
        novelty: see `write`; None is 0.3 with "changed", otherwise 1. With "every" it must be None.
        decay: of usage and credit, for each step.
        credit_depth: links that credit follows from slot to slot; 0 for none, None for all that are still held.
        seed: of the reservoir.

    Raises:
        TypeError: a count is not an int.
        ValueError: the core's capacity is unbounded, or a setting is out of range.

    Examples:
        >>> import torch
        >>> from sab_agents import SAB, SABStream
        >>> stream = SABStream(SAB(4, 8, capacity=16, bptt_steps=4), rows=2)
        >>> for _ in range(8):
        ...     output = stream.step(torch.randn(2, 4))
        >>> outputs = stream.window()  # the same outputs, with a graph
        >>> outputs.shape
        torch.Size([8, 2, 16])
        >>> outputs.square().mean().backward()
        >>> credit = stream.credit()  # to the steps that wrote what the window read
        >>> stream.advance()

    Source: Ke et al. 2018, "Sparse Attentive Backtracking"; in a bounded memory, by replay, as docs/concepts/replay.md
    explains.
    """

    def __init__(
        self,
        core: SAB,
        rows: int = 1,
        *,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
        eviction: Eviction = "least_used",
        write: Write = "novel",
        novelty: float | None = None,
        decay: float = 0.99,
        credit_depth: int | None = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(core, rows, encoder=encoder, observation_shape=observation_shape)
        self.core: SAB
        self.rules = rules_of(core, eviction, write, novelty, decay, seed)
        self.credit_depth = None if credit_depth is None else at_least("SABStream", "credit_depth", credit_depth, 0)
        self._shape = (self.rows, *self.observation_shape)
        self.reset()

    def reset(self) -> None:
        """Puts every row at the start of an episode; see `Stream.reset`."""
        core, state = self.core, self.initial_state(self.rows)
        if self.rules.eviction == "reservoir":  # of which each row draws other numbers
            state.draws.copy_(torch.arange(self.rows) << 40)
        like, reads = state.h.detach(), self.rules.reading.ranks
        contexts = Contexts.empty(
            like, self.rows, state.slots, self.rules.bptt_steps, reads, self.observation_shape, core.hidden_size
        )
        self._hold(state, contexts)
        self._begin_window()

    def _hold(self, state: SlotState, contexts: Contexts) -> None:
        """Takes these tensors, which are changed in place from now on."""
        self.state: SlotState = state
        self.contexts = contexts
        self._kept = state.filled.clone()
        self._lost: Tensor | None = None  # slots whose contexts are not there; None for none
        self._bound: StreamKernel | None = None
        self._window = Window()
        self._record: WindowRecord | None = None

    def _begin_window(self) -> None:
        self._window.clear()
        self._before = self.state.clone()
        self._before_carried = self._before.carried()
        self._memory: Tensor | None = None  # as it was before the window, to receive gradient
        self._replayed: Replay | None = None
        self._stepped = False

    @property
    def before(self) -> SlotState:
        """The state before the window."""
        return self._before

    @property
    def steps(self) -> int:
        """T, the steps in the window."""
        return self._window.steps

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy is made of; it binds a kernel to its own tensors when it needs one."""
        return {**self.__dict__, "_bound": None, "_record": None, "_stepped": False}

    def _kernel(self) -> StreamKernel:
        """Returns the kernel for the tensors that are held, which follow the weights to another device or dtype."""
        self._require_followed(self.core.like)
        if self._bound is None or not self._bound.current:
            self._bound = stream_kernel(self.rules, self.state.carried(), self.contexts, self._kept)
        return self._bound

    def _held(self) -> Tensor:
        return self.state.h

    def peek(self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None) -> SlotStep:
        """Computes the next step; see `Stream.peek`."""
        weights = self.core.step_weights()
        kernel = self._kernel()
        observation, episode_start = self._checked(observation, episode_start)
        if x is None:
            x = self._encoded(observation)
        return SlotStep(observation, episode_start, kernel.peek(weights, x, episode_start))

    def _checked(self, observation: Any, start: Any) -> tuple[Tensor, Tensor | None]:
        """Returns the arguments of a step, checked; without an encoder the kernel looks whether they are finite."""
        like = self.state.h
        if (
            self._encodes
            or not isinstance(observation, Tensor)
            or observation.shape != self._shape
            or observation.dtype is not like.dtype
            or observation.device != like.device
            or not (start is None or (isinstance(start, Tensor) and start.dtype is torch.bool and start.is_cpu))
            or not (start is None or start.shape == self._shape[:1])
        ):
            observation, flags = checked_step("SABStream", observation, start, self.rows, self.observation_shape, like)
            return observation, None if start is None else flags
        return observation, start

    def take(self, step: SlotStep) -> None:
        """Takes the step that `peek` computed last; see `Stream.take`."""
        record = self._recording()
        kernel = self._kernel()
        kernel.take(step.computed, step.observation, step.start, record, self._window.steps)
        self._window.steps += 1

    def _recording(self) -> WindowRecord:
        """Returns the tensors of the window with room for a step."""
        window = self._window
        if window.full or self._record is None:
            if window.full:
                window.make_room(self._recorded_like())
            self._record = WindowRecord(**window.tensors)
        return self._record

    def _recorded_like(self) -> dict[str, Tensor]:
        state, R = self.state, self.rules.reading.ranks
        observation = state.h.new_empty(self._shape)
        flag, slots, weight = state.filled[:, 0], state.step.new_empty(self.rows, R), state.h.new_empty(self.rows, R)
        like = (observation, flag, flag, state.step, state.h, state.h, state.h, slots, slots, weight, state.step)
        return dict(zip(WindowRecord._fields, like, strict=True))

    def take_steps(self, observations: Tensor, starts: Tensor) -> None:
        """Takes T steps; see `Stream.take_steps`."""
        if self._encodes or observations.shape[1:] != self._shape or not all_finite(observations):
            super().take_steps(observations, starts)
            return
        weights, done = self.core.step_weights(), 0
        kernel = self._kernel()
        while done < len(observations):
            record = self._recording()
            part = slice(done, done + self._window.room)
            kernel.take_steps(weights, observations[part], starts[part], record, self._window.steps)
            self._window.steps += len(observations[part])
            done = part.stop

    def window(self) -> Tensor:
        """Replays the window with a graph: (T, B, 2H); see `Stream.window`."""
        weights = self.core.step_weights()
        kernel = self._kernel()
        record, before = self._open_window("window"), self._before
        # A copy: the graph outlives the record, in which the next window is recorded.
        x = observation = record.observation[: self.steps].clone()
        if self._encodes:
            x = self.encoder(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        plan = kernel.plan(record, self.steps, self._before_carried)
        return scan(weights, x, before.h, before.c, self._receiving(), plan).output

    def replay(self) -> Replay:
        """Replays the window; see `Stream.replay`."""
        if self._encodes:
            with torch.enable_grad():
                return graph_replay(self.window())
        weights = self.core.step_weights()
        kernel, record = self._kernel(), self._open_window("replay")
        return kernel.replay(weights, record, self.steps, self._before_carried, self._receiving())

    def _open_window(self, name: str) -> WindowRecord:
        if not self.steps:
            raise RuntimeError(f"SABStream.{name}: no step was taken since the last advance(). Call step() first.")
        if self._record is None:
            self._record = WindowRecord(**self._window.tensors)
        return self._record

    def _receiving(self) -> Tensor:
        """Returns the memory before the window, which is to receive gradient."""
        self._memory = self._before.memory.detach().requires_grad_(self.credit_depth != 0)
        return self._memory

    def credit(self, gradient: Tensor | None = None) -> Credit:
        """Passes the gradient that reached the memory before the window on to the steps that wrote it.

        Args:
            gradient: (B, S, H); None takes what `backward` left for the last `window()` or `replay()`.

        Returns:
            What was credited; slots are those of the memory before the window.

        Raises:
            RuntimeError: neither is there.
        """
        if gradient is not None:
            return self._credited(gradient.clone())
        if self._memory is None:
            raise RuntimeError("SABStream.credit: there is no window. Call window() and backpropagate first.")
        received, self._memory = self._memory.grad, None
        if received is None:
            return Credit(torch.zeros_like(self.state.credit), 0, 0)
        return self._credited(received)

    def _credited(self, gradient: Tensor) -> Credit:
        weights = self.core.step_weights()
        kernel = self._kernel()
        before = without(self._before, self._lost)
        useful = self.rules.eviction == "least_useful"  # computed first: the gradient is overwritten
        usefulness = -(gradient * before.memory).sum(dim=2).masked_fill(~before.filled, 0) if useful else None
        credit = push_credit(kernel, weights, self.encoder, before, gradient, self.credit_depth)
        counted = credit.norm if usefulness is None else usefulness
        # A window whose update is skipped can have overflowed: what is not finite is not counted.
        self.state.credit.add_(counted.masked_fill(~(counted.isfinite() & self._kept), 0))
        return credit

    def advance(self) -> None:
        """Ends the window; see `Stream.advance`. Its pieces become the contexts of the slots that it wrote."""
        if not self.steps:
            return
        kernel = self._kernel()
        lost = None if self._lost is None else self._lost & self._kept
        kernel.advance(self._open_window("advance"), self.steps, self._before.memory)
        self._lost = lost if lost is not None and bool(lost.any()) else None
        self._begin_window()

    def close(self) -> SABWindow:
        """Ends the window and returns it; see `Stream.close`.

        The gradient that reaches a slot from there is not counted in `state.credit`: slots are chosen by that time.
        """
        self._kernel()
        record = self._open_window("close")
        steps = Steps(*(getattr(record, field.name)[: self.steps].clone() for field in fields(Steps)))
        contexts = Contexts(*(each.clone() for each in self.contexts))
        closed = SABWindow(
            self.core, self.rules, self.encoder, steps, self._before, contexts, self.credit_depth, self._lost
        )
        self.advance()
        return closed

    def refresh(self) -> None:
        """Recomputes every held slot from its context with today's weights, oldest first, without gradient.

        Raises:
            RuntimeError: a window is open, whose reads would no longer be those of the steps taken.
        """
        if self.steps:
            raise RuntimeError("SABStream.refresh: a window is open. Call advance() first.")
        weights = self.core.step_weights()
        kernel = self._kernel()
        held = without(self.state, self._lost)  # the same memory, which is changed in place
        refresh_memory(self.rules, weights, self.encoder, self.contexts, held)
        kernel.changed()
        self._begin_window()

    def step_and_replay(self, observation: Tensor, episode_start: Tensor | None = None) -> Tensor:
        """Takes a step and replays the segment; see `Stream.step_and_replay`. Slots are as they were written."""
        starts = episode_start is not None and bool(episode_start.all())
        if starts or self.steps >= self.rules.bptt_steps:
            self.advance()
        if self._encodes or self._lost is not None:
            self._stepped = True
            self.step(observation, episode_start)
            self._replayed = self.replay()
            return self._replayed.outputs[-1]
        weights = self.core.step_weights()
        kernel = self._kernel()
        observation, episode_start = self._checked(observation, episode_start)
        record, before = self._recording(), self._before_carried
        output = kernel.step_and_replay(
            weights, observation, episode_start, record, self.steps, before, self.credit_depth
        )
        self._window.steps += 1
        self._stepped = True
        return output

    def backward(self, gradient: Tensor) -> None:
        """Backpropagates to the segment's start and into the slots; see `Stream.backward`."""
        if not self._stepped:
            raise RuntimeError("SABStream.backward: there is no output. Call step_and_replay() first.")
        self._require_gradient(gradient)
        if self._replayed is not None:
            whole = torch.zeros_like(self._replayed.outputs)
            whole[-1] = gradient
            self._replayed.backward(whole)
            self.credit()
            return
        into = self._kernel().backward_last(gradient)
        if into is not None and self.credit_depth != 0:
            self._credited(into)

    def initial_state(self, rows: int) -> SlotState:
        """Returns empty memories: zeros; see `Stream.initial_state`."""
        return SlotState.initial(self.core, rows)

    def act(self, x: Tensor, state: SlotState) -> tuple[Tensor, SlotState]:
        """Takes one step of independent rows; see `Stream.act`."""
        weights = self.core.step_weights()
        output, after = self._kernel().act(weights, x, state.carried())
        return output, SlotState(*after)

    def unroll(self, x: Tensor, state: SlotState, start: Tensor) -> tuple[Tensor, SlotState]:
        """Takes T steps of independent rows; see `Stream.unroll`. Gradient flows through h, c and all that is read."""
        unrolled: tuple[Tensor, SlotState]
        unrolled = stepped(self.plain_act if torch.is_grad_enabled() else self.act, x, state, start)
        return unrolled

    def remembered(self) -> Tensor:
        """Returns the observations that may be replayed, (M, …); see `Stream.remembered`."""
        if not self.steps:
            return self._observed_of(self.state)
        window = self._window.stacked("observation").flatten(0, 1)
        return torch.cat([self._observed_of(self._before), window])

    def _observed_of(self, state: SlotState) -> Tensor:
        """Returns what the pieces observed that wrote the memory of a state which the contexts belong to."""
        row, slot = without(state, self._lost).filled.nonzero(as_tuple=True)
        return self.contexts.observation[row, self.contexts.piece[row, slot]].flatten(0, 1)

    def fixed_state(self, rows: int, max_steps: int | None = None) -> SlotState:  # noqa: ARG002
        """Returns empty memories; see `Stream.fixed_state`."""
        return self.initial_state(rows)

    def plain_act(self, x: Tensor, state: SlotState) -> tuple[Tensor, SlotState]:
        """Takes one step of independent rows; see `Stream.plain_act`."""
        output, after = act(self.core.step_weights(), self.rules, x, state.carried())
        return output, SlotState(*after)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything that is carried; see `Stream.state_dict`."""
        return {name: value.detach().clone() for name, value in self._carried().items()}

    def _carried(self) -> dict[str, Tensor]:
        saved: dict[str, Tensor] = {}
        for part, owner in (("state", self.state), ("before", self._before)):
            saved |= {f"{part}.{field.name}": getattr(owner, field.name) for field in fields(SlotState)}
        saved |= {f"contexts.{name}": value for name, value in self.contexts._asdict().items()}
        saved |= {f"window.{name}": value for name, value in self._window.state_dict().items()}
        saved |= {} if self._lost is None else {"lost": self._lost}
        return saved

    def _updated(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = updated(state, self.rules.decay)
        if "state.filled" in state and not any(name.startswith("contexts.") for name in state):
            return without_window(state, self.state_dict())
        return state

    def _carried_like(self) -> dict[str, Tensor]:
        own = self._carried().items()
        return {name: value for name, value in own if not name.startswith("window.") and name != "lost"}

    def _carried_at_times(self) -> dict[str, Tensor]:
        return {"lost": self.state.filled}

    def _load(self, state: dict[str, Tensor]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            prefix = f"{name}."
            return {key.removeprefix(prefix): state[key].clone() for key in state if key.startswith(prefix)}

        self._hold(SlotState(**part("state")), Contexts(**part("contexts")))
        self._lost = state["lost"].clone() if "lost" in state and bool(state["lost"].any()) else None
        self._begin_window()
        self._before = SlotState(**part("before"))
        self._before_carried = self._before.carried()
        window = self._window
        window.load_state_dict(part("window"))
        self._kept = self._before.filled.clone()
        if window.steps:
            write_slot, slots = window.stacked("write_slot"), torch.arange(self.state.slots, device=self._kept.device)
            self._kept &= ~window.stacked("start").any(dim=0).unsqueeze(1)
            self._kept &= (write_slot.unsqueeze(2) != slots).all(dim=0)
