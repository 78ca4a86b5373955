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
from sab_agents.core.gru import GRU
from sab_agents.core.lstm import LSTM, LSTMState
from sab_agents.core.state import State
from sab_agents.kernels import Layout, LSTMSegment, LSTMWeights, Recorder, Replay, all_finite, graph_replay, relaid
from sab_agents.streaming.base import Encode, Stream, checked_step
from sab_agents.streaming.window import ClosedWindow, Credit, Window


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


_Steps = tuple[Tensor, int]
"""Steps (1,) of an episode, as a sum that is yet to be computed."""


class PeekedStep:
    """A step after a segment of an LSTM, whose state is made when it is asked for.

    Args:
        observation: (1, I).
        start: (1,) bool.
        output: (1, H).
        segment: which computed the step.
        steps: of the episode before it.
    """

    def __init__(self, observation: Tensor, start: Tensor, output: Tensor, segment: LSTMSegment, steps: _Steps) -> None:
        self.observation, self.start, self.output = observation, start, output
        self._segment, self._steps = segment, steps

    @property
    def state(self) -> LSTMState:
        """After the step."""
        before, more = self._steps
        return LSTMState(self.output.unsqueeze(1), self._segment.peeked_cell().unsqueeze(1), before + (more + 1))


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
        self._shape = (self.rows, *self.observation_shape)
        plain = isinstance(core, LSTM) and core.layers == 1 and self.rows == 1 and not self._encodes
        self._segment = LSTMSegment(self.bptt_steps) if plain else None
        self._recorder, self._peeking = (Recorder(core.input_size) for _ in range(2))
        self._state: State
        self._taken: tuple[Tensor, _Steps] | None  # what a segment's last step left, whose c is yet to be copied
        self.reset()

    def reset(self) -> None:
        """Puts every row at the start of an episode; see `Stream.reset`."""
        self._hold(self.core.initial_state(self.rows))
        self._begin_window()

    @property
    def state(self) -> Any:
        """The state after the last step."""
        taken = self._taken
        if taken is not None:
            (h, (before, steps)), self._taken = taken, None
            assert self._segment is not None
            self._state = LSTMState(h.unsqueeze(1), self._segment.cell().unsqueeze(1), before + steps)
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state, self._taken = state, None

    def _hold(self, state: State) -> None:
        """Takes a state; those after it have its dtype and device."""
        self.state = state
        self._like = state.tensors()[0]
        self._peeked = self._like.new_empty(1, *self._shape)  # the observation of the last peek
        self._no_start = torch.zeros(self.rows, dtype=torch.bool, device=self._like.device)

    def _begin_window(self) -> None:
        self._before: Any = self.state
        self._entry: tuple[Tensor, Tensor] | None = None  # h and c (1, H) with which a segment begins
        self._window = Window()
        self._starts_within = False  # whether an episode starts in the window otherwise than by `step_and_replay`
        self._replayed: Replay | LSTMSegment | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the last replay, whose graph belongs to the original's parameters."""
        state = self.state  # which the last segment may hold yet
        return {**vars(self), "_state": state, "_taken": None, "_entry": None, "_replayed": None}

    @property
    def before(self) -> State:
        """The state before the window."""
        state: State = self._before
        return state

    @property
    def steps(self) -> int:
        """T, the steps in the window."""
        return self._window.steps

    def peek(
        self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None
    ) -> PlainStep | PeekedStep:
        """Computes the next step; see `Stream.peek`."""
        segment = self._replayed
        if episode_start is None and isinstance(segment, LSTMSegment):
            weights = self.core.weights()[0]
            self._require_followed(weights[0])
            x = self._peeked
            if not self._peeking.put(observation, x, None, 0):
                observation, _ = self._checked(observation, None)
                x = observation.unsqueeze(0)
            taken = self._taken
            if taken is None:
                state, c = self.state, self.state.c.select(1, 0)
                h, steps = state.h.select(1, 0), (state.step, 0)
            else:
                (h, steps), c = taken, None
            return PeekedStep(observation, self._no_start, segment.peek(weights, x, h, c), segment, steps)
        observation, start = self._checked(observation, episode_start)
        with torch.no_grad():
            x = self._encoded(observation) if x is None else x
            output, state = self.core.step(x, self.state, None if episode_start is None else start)
        return PlainStep(observation, start, output, state)

    def take(self, step: PlainStep | PeekedStep) -> None:
        """Takes the step that `peek` computed last; see `Stream.take`."""
        self._window.append(observation=step.observation, start=step.start)
        self._starts_within |= step.start is not self._no_start and bool(step.start.any())
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
            with torch.enable_grad():
                return graph_replay(self.window())
        observation, start = (self._window.stacked(name) for name in ("observation", "start"))
        return self.core.replay(observation, self._before, start)

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
        segment, full = self._segment, self.steps >= self.bptt_steps
        if segment is not None and episode_start is None and not self._starts_within:
            weights = self.core.weights()[0]
            self._require_followed(weights[0])
            window, time = self._window, 0 if full else self.steps
            if (full or not window.full) and self._recorded(observation, time):
                if full:
                    self._begin_segment()
                window.steps = time + 1
                return self._replayed_segment(segment, weights)
        observation, start = self._checked(observation, episode_start)
        if full or (episode_start is not None and bool(start.all())):
            self._begin_segment()
        self._window.append(observation=observation, start=start)
        if segment is not None and not self._starts_within:
            if self.steps == 1 and episode_start is not None:
                self._before = self._before.reset(start)
            return self._replayed_segment(segment, self.core.weights()[0])
        with torch.enable_grad():
            output, state = self._replayed_window()
        self.state, self._replayed = state.detach(), graph_replay(output)
        return self._replayed.outputs[-1]

    def _recorded(self, observation: Tensor, time: int) -> bool:
        """Returns whether an observation was recorded in one call, as step `time` of a window that has room for it."""
        record = self._window.tensors
        return self._recorder.put(observation, record["observation"], record["start"], time)

    def _begin_segment(self) -> None:
        """Ends the segment that was stepped and replayed."""
        window = self._window
        self.advance()
        if self._segment is not None:  # nothing refers to its tensors any more, no graph and no caller
            window.clear()
            self._window = window

    def _replayed_segment(self, segment: LSTMSegment, weights: LSTMWeights) -> Tensor:
        """Replays the window of an LSTM and returns its last output."""
        before, entry, window = self._before, self._entry, self._window
        if entry is None:
            entry = self._entry = before.h.select(1, 0), before.c.select(1, 0)
        output = segment.run(weights, window.tensors["observation"], window.steps, *entry)
        self._taken, self._replayed = (output, (before.step, window.steps)), segment
        return output

    def backward(self, gradient: Tensor) -> None:
        """Backpropagates to the segment's start; see `Stream.backward`."""
        replayed = self._replayed
        if replayed is None:
            raise RuntimeError(f"{type(self).__name__}.backward: there is no output. Call step_and_replay() first.")
        self._require_gradient(gradient)
        if isinstance(replayed, LSTMSegment):
            replayed.backward(self.core.weights()[0], gradient)
            return
        whole = torch.zeros_like(replayed.outputs)
        whole[-1] = gradient
        replayed.backward(whole)
        self.credit()

    def initial_state(self, rows: int) -> State:
        """Returns the core's state at the start of an episode; see `Stream.initial_state`."""
        state: State = self.core.initial_state(rows)
        return state

    def act(self, x: Tensor, state: Any) -> tuple[Tensor, State]:
        """Takes one step of independent rows; see `Stream.act`."""
        acted: tuple[Tensor, State]
        if not torch.is_grad_enabled():
            acted = self.core.step(x, state)
            return acted
        with torch.no_grad():
            acted = self.core.step(x, state)
        return acted

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything that is carried; see `Stream.state_dict`."""
        carried = {f"state.{index}": tensor for index, tensor in enumerate(self.state.tensors())}
        carried |= {f"before.{index}": tensor for index, tensor in enumerate(self.before.tensors())}
        carried |= {f"window.{name}": value for name, value in self._window.state_dict().items()}
        return {name: value.detach().clone() for name, value in carried.items()}

    def _held(self) -> Tensor:
        return self._like

    def _carried_like(self) -> dict[str, Tensor]:
        initial = enumerate(self.initial_state(self.rows).tensors())
        return {f"{part}.{index}": like for index, like in initial for part in ("state", "before")}

    def _recorded_like(self) -> dict[str, Tensor]:
        return {"observation": self._like.new_empty(self._shape), "start": self._no_start}

    def _load(self, state: dict[str, Tensor]) -> None:
        count = len(self.state.tensors())
        self._hold(type(self.state)(*(state[f"state.{index}"].clone() for index in range(count))))
        self._begin_window()
        self._before = type(self.state)(*(state[f"before.{index}"].clone() for index in range(count)))
        window = {name.removeprefix("window."): state[name] for name in state if name.startswith("window.")}
        self._window.load_state_dict(window)
        if self._segment is not None and self.steps:
            start = self._window.stacked("start")
            self._before = self._before.reset(start[0])
            self._starts_within = bool(start[1:].any())

    def _checked(self, observation: Any, episode_start: Any) -> tuple[Tensor, Tensor]:
        """Returns the arguments of a step, checked; the usual ones are looked at without more ado."""
        self._require_followed(self.core.like)
        like = self._like
        if (
            episode_start is None
            and isinstance(observation, Tensor)
            and observation.shape == self._shape
            and observation.dtype is like.dtype
            and observation.device == like.device
            and all_finite(observation)
        ):
            return observation, self._no_start
        return checked_step(type(self).__name__, observation, episode_start, self.rows, self.observation_shape, like)

    def _require_steps(self, name: str) -> None:
        if not self.steps:
            raise RuntimeError(
                f"{type(self).__name__}.{name}: no step was taken since the last advance(). Call step() first."
            )
        self._require_followed(self.core.like)


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
        self._observation, self.start = observation, start
        self._selected: dict[tuple[int, ...], _Rows] = {}  # by rows, which come again in every epoch
        self._inputs: dict[int, Tensor] = {}

    @property
    def observation(self) -> Tensor:
        """(T, B, …) what was observed."""
        return self._observation

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
        same = x is None and isinstance(self.encode, nn.Identity)  # inputs, whatever was learnt since
        if x is None:
            observation = self.observation[:, rows]
            with torch.enable_grad():
                x = observation if same else self.encode(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        if isinstance(self.core, LSTM) and not x.requires_grad:
            begun, start, laid = self._of(rows, x)
            if laid is None:
                return self.core.replay(x, begun, start)
            return self.core.replay(self._laid(rows, x, laid) if same else laid.laid(x), begun, start, laid)
        if isinstance(self.core, GRU):
            before: Any = self.before.chosen(rows)
            return self.core.replay(x, before, self.start[:, rows])
        with torch.enable_grad():
            output: Tensor = self.core(x, self._entered(rows), self.start[:, rows])[0]
        return graph_replay(output)

    def _entered(self, rows: Tensor) -> State:
        """Returns the state that a replay of rows (b,) begins with."""
        return self.before.chosen(rows)

    def credit(self) -> Credit:
        """Does nothing: no gradient reaches what lies before the window."""
        return Credit(torch.zeros(self.rows, 0), 0, 0)

    def _of(self, rows: Tensor, x: Tensor) -> _Rows:
        key = tuple(rows.tolist())
        if key not in self._selected:
            before: Any = self.before.chosen(rows)
            start = self.start.index_select(1, rows)
            laid = relaid(start, x)
            if laid is not None:
                before, start = LSTMState(*(laid.begun(part) for part in before.tensors())), laid.start
            self._selected[key] = _Rows(before, start, laid)
        return self._selected[key]

    def _laid(self, rows: Tensor, x: Tensor, laid: Layout) -> Tensor:
        """Returns the inputs x (T, b, I) of rows as they were laid out, kept if a minibatch is one row."""
        if len(rows) > 1:
            return laid.laid(x)
        row = int(rows)
        if row not in self._inputs:
            self._inputs[row] = laid.laid(x)
        return self._inputs[row]


class _Rows(NamedTuple):
    """Rows of an LSTM's window as they are replayed: the state before, episode starts, and how they were laid out."""

    before: LSTMState
    start: Tensor
    laid: Layout | None
