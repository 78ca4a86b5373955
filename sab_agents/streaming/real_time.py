"""Streams whose gradient reaches the whole past exactly: real-time recurrent learning.

Dimensions: T steps of a window, B rows, b rows of a replay, F output size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from sab_agents.core.real_time import RealTimeCore, Sensitivity
from sab_agents.core.state import State
from sab_agents.streaming.base import Encode
from sab_agents.streaming.truncated import PeekedStep, PlainStep, TruncatedStream, TruncatedWindow
from sab_agents.streaming.window import Credit


class RealTimeStream(TruncatedStream):
    """Runs B streams through a core with a diagonal recurrence; gradient reaches every earlier step, and none is kept.

    A window is replayed as in a `TruncatedStream`, but the state before it receives gradient, and `credit` multiplies
    that with the carried sensitivity, the derivative of this state with respect to every parameter of the core. The end
    of a window takes the sensitivity over its steps with the weights of that moment. An encoder is credited inside the
    window only.

    Args:
        core: for example an `RTU`.
        rows: B.
        encoder: makes inputs (N, I) of observations (N, …); None passes observations on.
        observation_shape: of one observation; None is (I,).

    Raises:
        TypeError: `rows` is not an int.
        ValueError: `rows` is below 1.
    """

    def __init__(
        self,
        core: RealTimeCore[Any],
        rows: int = 1,
        *,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(core, rows, encoder=encoder, observation_shape=observation_shape)

    def reset(self) -> None:
        """Puts every row at the start of an episode; see `Stream.reset`."""
        self._sensitivity: Sensitivity = self.core.initial_sensitivity(self.rows)
        super().reset()

    def _begin_window(self) -> None:
        super()._begin_window()
        self._leaf: State | None = None
        self._stepped = False

    def _entered(self) -> State:
        self._leaf = requiring_gradient(self.before)
        return self._leaf

    def credit(self, gradient: Tensor | None = None) -> Credit:  # noqa: ARG002
        """Multiplies the gradient of the state before the window with its sensitivity; see `Stream.credit`."""
        if self._leaf is None:
            raise RuntimeError("RealTimeStream.credit: there is no window. Call window() and backpropagate first.")
        state, self._leaf = self._leaf, None
        self.core.backward_sensitivity(gradients_of(state), self._sensitivity)
        return Credit(torch.zeros(self.rows, 0), 0, 0)

    @torch.no_grad()
    def advance(self) -> None:
        """Ends the window; see `Stream.advance`."""
        if self.steps:
            self._require_followed(self.core.like)
            observation, start = (self._window.stacked(name) for name in ("observation", "start"))
            x = self.encoder(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
            self._sensitivity = self.core.advance_sensitivity(x, self.before, start, self._sensitivity)
        self._begin_window()

    def close(self) -> RealTimeWindow:
        """Ends the window and returns it; see `Stream.close`."""
        self._require_steps("close")
        observation, start = (self._window.stacked(name).clone() for name in ("observation", "start"))
        before = self.before, tuple(each.clone() for each in self._sensitivity)
        closed = RealTimeWindow(self.core, self.encoder, *before, observation, start)
        self.advance()
        return closed

    def step_and_replay(self, observation: Tensor, episode_start: Tensor | None = None) -> Tensor:
        """Takes a step; see `Stream.step_and_replay`. The sensitivity takes it too, so that no window is left open."""
        observation, start = self._checked(observation, episode_start)
        if self.steps:
            self.advance()
        if episode_start is not None and bool(start.any()):
            self.state = self.state.reset(start)
            self._sensitivity = tuple(
                each.masked_fill(start.view(-1, *[1] * (each.dim() - 1)), 0) for each in self._sensitivity
            )
        x = self._encoded(observation)
        output: Tensor
        output, self.state, self._sensitivity = self.core.step_sensitivity(x, self.state, self._sensitivity)
        self._begin_window()
        self._stepped = True
        return output

    def peek(
        self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None
    ) -> PlainStep | PeekedStep:
        """Computes the next step; see `Stream.peek`."""
        if self._encodes or x is not None or episode_start is not None:
            return super().peek(observation, episode_start, x)
        observation, start = self._checked(observation, None)
        return PlainStep(observation, start, *self.core.unchecked_step(observation, self.state))

    def backward(self, gradient: Tensor) -> None:
        """Multiplies the gradient of the last output with the sensitivity; see `Stream.backward`."""
        if not self._stepped:
            raise RuntimeError("RealTimeStream.backward: there is no output. Call step_and_replay() first.")
        self._require_gradient(gradient)
        self.core.backward_step(gradient, self.state, self._sensitivity)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns everything that is carried; see `Stream.state_dict`."""
        parts = {f"sensitivity.{index}": each.clone() for index, each in enumerate(self._sensitivity)}
        return super().state_dict() | {name: real(each) for name, each in parts.items()}

    def _carried_like(self) -> dict[str, Tensor]:
        parts = enumerate(self.core.initial_sensitivity(self.rows))
        return super()._carried_like() | {f"sensitivity.{index}": real(each) for index, each in parts}

    def _load(self, state: dict[str, Tensor]) -> None:
        super()._load(state)
        self._sensitivity = tuple(
            torch.view_as_complex(state[f"sensitivity.{index}"].clone())
            if each.is_complex()
            else state[f"sensitivity.{index}"].clone()
            for index, each in enumerate(self._sensitivity)
        )


class RealTimeWindow(TruncatedWindow):
    """A window that `RealTimeStream.close` ended, with the sensitivity of the state before it.

    Args:
        core: of the stream.
        encode: of the stream.
        before: the state before the window.
        sensitivity: of that state.
        observation: (T, B, …).
        start: (T, B) bool, episode starts.
    """

    core: RealTimeCore[Any]

    def __init__(
        self,
        core: RealTimeCore[Any],
        encode: Encode,
        before: State,
        sensitivity: Sensitivity,
        observation: Tensor,
        start: Tensor,
    ) -> None:
        super().__init__(core, encode, before, observation, start)
        self.sensitivity = sensitivity
        self._pending: tuple[Tensor, State] | None = None

    @classmethod
    def joined(cls, windows: Sequence[Self]) -> Self:
        """Returns windows as one; see `ClosedWindow.joined`."""
        first = windows[0]
        return cls(
            first.core,
            first.encode,
            State.joined([window.before for window in windows]),
            tuple(torch.cat(parts) for parts in zip(*(window.sensitivity for window in windows), strict=True)),
            torch.cat([window.observation for window in windows], dim=1),
            torch.cat([window.start for window in windows], dim=1),
        )

    def _entered(self, rows: Tensor) -> State:
        state = requiring_gradient(self.before.chosen(rows))
        self._pending = rows, state
        return state

    def credit(self) -> Credit:
        """Multiplies the gradient of the state before the window with its sensitivity; see `ClosedWindow.credit`."""
        if self._pending is None:
            raise RuntimeError("RealTimeWindow.credit: nothing was replayed. Call replay() and its backward first.")
        (rows, state), self._pending = self._pending, None
        self.core.backward_sensitivity(gradients_of(state), tuple(each[rows] for each in self.sensitivity))
        return Credit(torch.zeros(self.rows, 0), 0, 0)


def real(each: Tensor) -> Tensor:
    """Returns complex numbers as pairs of real ones, and real ones as they are."""
    return torch.view_as_real(each) if each.is_complex() else each


def requiring_gradient(state: State) -> State:
    """Returns the same state, cut from any graph, whose floating-point tensors are to receive gradient."""
    leaves = (each.detach() for each in state.tensors())
    return type(state)(*(each.requires_grad_() if each.is_floating_point() else each for each in leaves))


def gradients_of(state: State) -> tuple[Tensor, ...]:
    """Returns the gradient that each tensor of a state received, zeros where none did."""
    return tuple(torch.zeros_like(each) if each.grad is None else each.grad for each in state.tensors())
