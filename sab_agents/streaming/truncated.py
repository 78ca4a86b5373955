"""Streams whose gradient ends at the window's start: for every core that has no other way to credit the past.

Dimensions: T steps of a window, B rows, b rows of a replay, I input size, F output size, H hidden size of an LSTM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.base import Core
from sab_agents.core.lstm import LSTM, LSTMState
from sab_agents.core.recut import Layout, layout
from sab_agents.core.state import State
from sab_agents.kernels import (
    CompiledLSTM,
    Replay,
    Run,
    bind_lstm,
    forced_way,
    gradient_like,
    graph_replay,
    kernel_in_use,
)
from sab_agents.kernels.binding import Binding
from sab_agents.streaming.base import ClosedWindow, Credit, Encode, Stream, checked_step
from sab_agents.streaming.window import Window


class PlainStep(NamedTuple):
    """One step that was computed and not yet taken.

    Attributes:
        observation: (B, …).
        start: (B,) bool, episode starts.
        output: (B, F).
        state: after it.
    """

    observation: Tensor
    start: Tensor
    output: Tensor
    state: State


SEGMENT_STEPS = 8
"""Of a segment in `step_and_replay`, unless the core or a setting says otherwise."""


class TruncatedStream(Stream):
    """Runs B streams through any core; gradient reaches back to the window's first step and no farther.

    Args:
        core: for example an `LSTM`. The state of a core that is not `endless` (see the registry) grows with the stream.
        rows: B.
        encoder: makes inputs (N, I) of observations (N, …); None passes observations on.
        observation_shape: of one observation; None is (I,).
        bptt_steps: length of a segment in `step_and_replay`; None is the core's own `bptt_steps`, or 8 without one.

    Raises:
        TypeError: a count is not an int.
        ValueError: a count is below 1.
    """

    def __init__(
        self,
        core: Core[Any],
        rows: int = 1,
        *,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
        bptt_steps: int | None = None,
    ) -> None:
        super().__init__(core, rows, encoder=encoder, observation_shape=observation_shape)
        if bptt_steps is None:
            bptt_steps = getattr(core, "bptt_steps", None) or SEGMENT_STEPS
        self.bptt_steps = at_least(type(self).__name__, "bptt_steps", bptt_steps, 1)
        self._segment = _LSTMSegment()
        self.reset()

    def reset(self) -> None:
        """Puts every row at the start of an episode; see `Stream.reset`."""
        self.state: State = self.core.initial_state(self.rows)
        self._begin_window()

    def _begin_window(self) -> None:
        self._before: Any = self.state
        self._window = Window()
        self._replayed: Replay | CompiledLSTM | None = None

    @property
    def before(self) -> State:
        """The state before the window."""
        state: State = self._before
        return state

    @property
    def steps(self) -> int:
        """T, the steps in the window."""
        return self._window.steps

    def peek(self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None) -> PlainStep:
        """Computes the next step; see `Stream.peek`."""
        observation, start = self._checked(observation, episode_start)
        code = self._segment.code if episode_start is None and self._replayed is not None else None
        if code is not None and isinstance(self.state, LSTMState):
            h, c = code.run(observation.unsqueeze(0), self.state.h[:, 0], self.state.c[:, 0], keep=False)
            return PlainStep(observation, start, h, LSTMState(h.unsqueeze(1), c.unsqueeze(1), self.state.step + 1))
        with torch.no_grad():
            x = self._encoded(observation) if x is None else x
            output, state = self.core.step(x, self.state, None if episode_start is None else start)
        return PlainStep(observation, start, output, state)

    def take(self, step: PlainStep) -> None:
        """Takes the step that `peek` computed last; see `Stream.take`."""
        self._window.append(observation=step.observation, start=step.start)
        self.state = step.state

    def window(self) -> Tensor:
        """Replays the window with a graph; see `Stream.window`."""
        return self._replayed_window()[0]

    def _replayed_window(self) -> tuple[Tensor, State]:
        """Returns the window's outputs with a graph, and the state after them."""
        self._require_steps("window")
        observation = self._window.stacked("observation")
        x = self.encoder(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        output: Tensor
        state: State
        output, state = self.core(x, self._entered(), self._window.stacked("start"))
        return output, state

    def _entered(self) -> State:
        """Returns the state that a replay begins with."""
        return self.before

    def replay(self) -> Replay:
        """Replays the window; see `Stream.replay`."""
        self._require_steps("replay")
        if self._encodes or not isinstance(self.core, LSTM):
            return graph_replay(self.window())
        observation, start = (self._window.stacked(name) for name in ("observation", "start"))
        found = self.core.run(observation, self._before, start)
        if found is None:
            return graph_replay(self.window())
        run, output = found[0], found[1][..., : self.core.hidden_size]

        def backward(gradient: Tensor) -> None:
            rows = gradient_like(output, gradient)
            run.backward(rows.data_ptr(), 0, rows.shape[2], None)

        return Replay(output, backward)

    def credit(self, gradient: Tensor | None = None) -> Credit:  # noqa: ARG002
        """Does nothing: no gradient reaches what lies before the window."""
        return Credit(torch.zeros(self.rows, 0), 0, 0)

    def advance(self) -> None:
        """Ends the window; see `Stream.advance`."""
        self._begin_window()

    def refresh(self) -> None:
        """Does nothing: nothing but the state is remembered."""

    def close(self) -> TruncatedWindow:
        """Ends the window and returns it; see `Stream.close`."""
        self._require_steps("close")
        observation, start = (self._window.stacked(name).clone() for name in ("observation", "start"))
        closed = TruncatedWindow(self.core, self.encoder, self.before, observation, start)
        self.advance()
        return closed

    def step_and_replay(self, observation: Tensor, episode_start: Tensor | None = None) -> Tensor:
        """Takes a step and replays the segment; see `Stream.step_and_replay`. The state after it is the replay's."""
        observation, start = self._checked(observation, episode_start)
        starts = episode_start is not None and bool(start.any())
        if self.steps >= self.bptt_steps or (starts and bool(start.all())):
            self.advance()
        self._window.append(observation=observation, start=start)
        code = None if self._encodes or self.rows > 1 else self._segment.bound(self.core, self.bptt_steps)
        if code is not None:
            before = self._before
            if self.steps == 1 and starts:
                before = self._before = self._before.reset(start)
            h, c = code.run(self._window.stacked("observation"), before.h[:, 0], before.c[:, 0], keep=True)
            self.state = LSTMState(h.unsqueeze(1), c.unsqueeze(1), before.step + self.steps)
            self._replayed = code
            return h
        output, state = self._replayed_window()
        self.state, self._replayed = state.detach(), graph_replay(output)
        return self._replayed.outputs[-1]

    def backward(self, gradient: Tensor) -> None:
        """Backpropagates to the segment's start; see `Stream.backward`."""
        replayed = self._replayed
        if replayed is None:
            raise RuntimeError(f"{type(self).__name__}.backward: there is no output. Call step_and_replay() first.")
        if isinstance(replayed, CompiledLSTM):
            replayed.backward(gradient)
            return
        whole = torch.zeros_like(replayed.outputs)
        whole[-1] = gradient
        replayed.backward(whole)
        self.credit()

    def initial_state(self, rows: int) -> State:
        """Returns the core's state at the start of an episode; see `Stream.initial_state`."""
        state: State = self.core.initial_state(rows)
        return state

    @torch.no_grad()
    def act(self, x: Tensor, state: Any) -> tuple[Tensor, State]:
        """Takes one step of independent rows; see `Stream.act`."""
        acted: tuple[Tensor, State] = self.core.step(x, state)
        return acted

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything that is carried; see `Stream.state_dict`."""
        carried = {f"state.{index}": tensor for index, tensor in enumerate(self.state.tensors())}
        carried |= {f"before.{index}": tensor for index, tensor in enumerate(self.before.tensors())}
        carried |= {f"window.{name}": value for name, value in self._window.state_dict().items()}
        return {name: value.detach().clone() for name, value in carried.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Resumes where `state_dict` was called; see `Stream.load_state_dict`."""
        count = len(self.state.tensors())
        self.state = type(self.state)(*(state[f"state.{index}"].clone() for index in range(count)))
        self._begin_window()
        self._before = type(self.state)(*(state[f"before.{index}"].clone() for index in range(count)))
        window = {name.removeprefix("window."): state[name] for name in state if name.startswith("window.")}
        self._window = Window.from_state_dict(window)

    def _checked(self, observation: Tensor, episode_start: Tensor | None) -> tuple[Tensor, Tensor]:
        like = self.state.tensors()[0]
        return checked_step(type(self).__name__, observation, episode_start, self.rows, self.observation_shape, like)

    def _require_steps(self, name: str) -> None:
        if not self.steps:
            raise RuntimeError(
                f"{type(self).__name__}.{name}: no step was taken since the last advance(). Call step() first."
            )


class _LSTMSegment:
    """The native kernel for the segment of an LSTM of one row and one layer, bound to weights as they lie now.

    Attributes:
        code: what `bound` returned last.
    """

    def __init__(self) -> None:
        self.code: CompiledLSTM | None = None
        self._at: tuple[str, int, Binding] | None = None

    def __reduce__(self) -> tuple[type[_LSTMSegment], tuple[()]]:
        """A copy is bound to nothing."""
        return _LSTMSegment, ()

    def bound(self, core: Any, steps: int) -> CompiledLSTM | None:
        """Returns the kernel for segments of at most so many steps; None if the core is another or needs torch."""
        if not isinstance(core, LSTM) or core.layers > 1:
            return None
        weights: Any = tuple(core._modules["lstm"]._parameters.values())  # type: ignore[union-attr]
        way, at = forced_way(), self._at
        if at is None or at[:2] != (way, steps) or not at[2].holds(weights):
            self._at = way, steps, Binding(weights)
            self.code = bind_lstm(weights, steps)
        return self.code


class TruncatedWindow(ClosedWindow):
    """A window that `TruncatedStream.close` ended.

    Args:
        core: of the stream.
        encode: of the stream.
        before: the state before the window.
        observation: (T, B, …).
        start: (T, B) bool, episode starts.
    """

    before: State

    def __init__(self, core: Any, encode: Encode, before: State, observation: Tensor, start: Tensor) -> None:
        self.core, self.encode, self.before = core, encode, before
        self.observation, self.start = observation, start
        self._selected: dict[tuple[int, ...], _Rows] = {}  # by rows, which come again in every epoch

    @classmethod
    def joined(cls, windows: Sequence[Self]) -> Self:
        """Returns windows as one; see `ClosedWindow.joined`."""
        first = windows[0]
        return cls(
            first.core,
            first.encode,
            State.joined([window.before for window in windows]),
            torch.cat([window.observation for window in windows], dim=1),
            torch.cat([window.start for window in windows], dim=1),
        )

    def cut_every(self, bptt_steps: int | None) -> None:
        """Accepts None alone: where gradient is cut inside the window is a setting of the core."""
        if bptt_steps is not None:
            raise ValueError(
                f"{type(self).__name__}.cut_every: bptt_steps must be None, but is {bptt_steps}. Set it for the core."
            )

    def replay(self, rows: Tensor, x: Tensor | None = None) -> Replay:
        """Computes some rows once more; see `ClosedWindow.replay`."""
        if x is None:
            observation = self.observation[:, rows]
            with torch.enable_grad():
                x = self.encode(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        if isinstance(self.core, LSTM) and not x.requires_grad and kernel_in_use(x.device, x.dtype) == "native":
            before, start, laid = self._of(rows)
            found = self.core.run(x.contiguous() if laid is None else laid.laid(x), before, start)
            if found is not None:
                return _laid_replay(*found, laid)
        with torch.enable_grad():
            output: Tensor = self.core(x, self._entered(rows), self.start[:, rows])[0]
        return graph_replay(output)

    def _entered(self, rows: Tensor) -> State:
        """Returns the state that a replay of rows (b,) begins with."""
        return self.before.chosen(rows)

    def credit(self) -> Credit:
        """Does nothing: no gradient reaches what lies before the window."""
        return Credit(torch.zeros(self.rows, 0), 0, 0)

    def _of(self, rows: Tensor) -> _Rows:
        key = tuple(rows.tolist())
        if key not in self._selected:
            before: Any = self.before.chosen(rows)
            start = self.start.index_select(1, rows)
            laid = layout(start)
            if laid is not None:
                before, start = LSTMState(*(laid.begun(part) for part in before.tensors())), laid.start
            self._selected[key] = _Rows(before, start, laid)
        return self._selected[key]


class _Rows(NamedTuple):
    """Rows of an LSTM's window as they are replayed: the state before, episode starts, and how they were laid out."""

    before: LSTMState
    start: Tensor
    laid: Layout | None


def _laid_replay(run: Run, output: Tensor, laid: Layout | None) -> Replay:
    """Returns the replay with outputs and gradient as they were before they were laid out."""

    def backward(gradient: Tensor) -> None:
        lying = gradient.contiguous() if laid is None else laid.laid(gradient)
        run.backward(lying.data_ptr(), 0, lying.shape[2], None)

    output = output[..., : output.shape[2] // 2]
    return Replay(output if laid is None else laid.given(output), backward)
