"""A recurrent core that learns from one endless stream: what every kind of it offers, and the truncated LSTM.

Dimensions: B rows, O numbers in an observation, H hidden size, F numbers in an output, T steps of the present segment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.kernels import CompiledLSTM, bind_lstm

Tensors = tuple[Tensor, ...]


class RecurrentLearner(nn.Module, ABC):
    """A recurrent core over one stream that carries its state and whatever its gradients need.

    For each observation call `step`, then, any number of times, `peek` and `backward`.

    Args:
        output_size: F.
    """

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tensors:
        """The state of `batch_size` rows at the start of an episode; every tensor's first axis is the row."""

    @abstractmethod
    def forward(self, observation: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """One step of independent rows, without gradient and without effect on the stream.

        Args:
            observation: (B, O).
            state: of B rows.

        Returns:
            Output (B, F) and the new state.
        """

    @abstractmethod
    def step(self, observation: Tensor, episode_start: bool) -> Tensor:
        """Takes the stream's next observation (1, O) and returns the output (1, F), without a graph."""

    @abstractmethod
    def peek(self, observation: Tensor) -> Tensor:
        """The output (1, F) that `step` would return for a next observation of the same episode; nothing changes."""

    @abstractmethod
    def backward(self, gradient: Tensor) -> None:
        """Adds to the parameters' `.grad`, given the gradient (1, F) with respect to the last `step`'s output."""

    def bind(self) -> None:
        """Computes by compiled code from now on, if there is any; parameters and gradients must stay where they are."""

    @abstractmethod
    def carried(self) -> dict[str, Tensor]:
        """What must be kept to go on with the stream to the bit, the parameters apart."""

    @abstractmethod
    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""


def gradient_of(parameter: Tensor) -> Tensor:
    """The parameter's `.grad`, to be added to; zeros where there was none yet."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


class LSTMLearner(RecurrentLearner):
    """An LSTM with truncated backpropagation through time.

    An episode is cut into segments of `bptt_steps`. Each step runs the present segment anew with today's weights, from
    the state that the segment before left, and gradients reach back to the segment's start.

    Args:
        input_size: O.
        hidden_size: H, also F.
        bptt_steps: the greatest T.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is below 1.
    """

    def __init__(self, input_size: int, hidden_size: int, bptt_steps: int = 8) -> None:
        at_least("LSTMLearner", "input_size", input_size, 1)
        super().__init__(at_least("LSTMLearner", "hidden_size", hidden_size, 1))
        self.bptt_steps = at_least("LSTMLearner", "bptt_steps", bptt_steps, 1)
        self.lstm = nn.LSTM(input_size, hidden_size)
        self._segment: list[Tensor] = []  # observations (1, O) of the present segment
        self._start = self._end = self.initial_state(1)
        self._output: Tensor | None = None
        self._code: CompiledLSTM | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the parameters, as `nn.Module.to` does: what was bound to them is no longer."""
        self._code = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call,no-any-return]

    def bind(self) -> None:
        """See `RecurrentLearner.bind`."""
        weights = tuple(self.lstm.parameters())
        for weight in weights:
            gradient_of(weight)
        self._code = bind_lstm(weights, self.bptt_steps)

    def initial_state(self, batch_size: int) -> Tensors:
        """Zeros for h and c, each (B, H)."""
        zeros = next(self.parameters()).new_zeros(batch_size, self.output_size)
        return zeros, zeros

    @torch.no_grad()
    def forward(self, observation: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """One step of independent rows; see `RecurrentLearner.forward`."""
        h, c = torch.lstm_cell(observation, state, *self.lstm.all_weights[0])
        return h, (h, c)

    def step(self, observation: Tensor, episode_start: bool) -> Tensor:
        """Takes the stream's next observation; see `RecurrentLearner.step`."""
        if episode_start:
            self._segment, self._start = [], self.initial_state(1)
        elif len(self._segment) == self.bptt_steps:
            self._segment, self._start = [], self._end
        self._segment.append(observation)
        h, c = self._start
        if self._code is not None:
            self._end = self._code.run(torch.stack(self._segment), h, c, keep=True)
            return self._end[0]
        output, end = self.lstm(torch.stack(self._segment), (h.unsqueeze(0), c.unsqueeze(0)))
        self._end = (end[0][0].detach(), end[1][0].detach())
        self._output = output[-1]
        return self._output.detach()

    def peek(self, observation: Tensor) -> Tensor:
        """The output for a next observation; see `RecurrentLearner.peek`."""
        if self._code is not None:
            return self._code.run(observation.unsqueeze(0), *self._end, keep=False)[0]
        return self.forward(observation, self._end)[0]

    def backward(self, gradient: Tensor) -> None:
        """Backpropagates to the segment's start; see `RecurrentLearner.backward`."""
        if self._code is not None:
            self._code.backward(gradient)
            return
        assert self._output is not None, "backward before the first step"
        self._output.backward(gradient)  # type: ignore[no-untyped-call]

    def carried(self) -> dict[str, Tensor]:
        """The segment and the states around it."""
        segment = torch.cat([*self._segment, next(self.parameters()).new_zeros(0, self.lstm.input_size)])
        names = ("start_h", "start_c", "end_h", "end_c")
        return {"segment": segment, **dict(zip(names, (*self._start, *self._end), strict=True))}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
        self._segment = [observation.unsqueeze(0) for observation in carried["segment"]]
        self._start = carried["start_h"], carried["start_c"]
        self._end = carried["end_h"], carried["end_c"]
        self._output = None
