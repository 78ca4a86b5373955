"""Cores whose whole past can be credited exactly without keeping it: real-time recurrent learning.

Exact real-time recurrent learning over a window of a stream is backpropagation inside the window, and the gradient with
respect to the state before the window multiplied by the *sensitivity*, the derivative of that state with respect to
every parameter. In general a sensitivity has as many entries as the state times the parameters. If the units of a
recurrence do not feed each other, each parameter moves one unit alone, and the sensitivity is as large as they are.

Source: Williams & Zipser 1989, "A Learning Algorithm for Continually Running Fully Recurrent Neural Networks".
Dimensions: T steps, B rows, I input size, F output size.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from sab_agents.core.base import Core, StateT

Sensitivity = tuple[Tensor, ...]
"""The derivative of a state with respect to the parameters, as the core arranges it; the first axis is the row."""


class RealTimeCore(Core[StateT]):
    """A core with a diagonal recurrence, whose output at a step is a function of the state after it alone.

    A stream through it is a `sab_agents.streaming.RealTimeStream`. The parameters of an encoder in front of the core
    are no part of the sensitivity: gradient reaches them inside the window only.
    """

    @abstractmethod
    def initial_sensitivity(self, batch_size: int) -> Sensitivity:
        """Returns the sensitivity of `batch_size` rows at the start of an episode: zeros."""

    @abstractmethod
    def advance_sensitivity(
        self, x: Tensor, state: StateT, episode_start: Tensor, sensitivity: Sensitivity
    ) -> Sensitivity:
        """Takes the sensitivity over T steps with today's weights, without gradient.

        Args:
            x: (T, B, I) inputs.
            state: before the first of them.
            episode_start: (T, B) bool; state and sensitivity of a row are zeros where its episode starts.
            sensitivity: before the first step; it is left as it was.

        Returns:
            The sensitivity after the last step.
        """

    @abstractmethod
    def backward_sensitivity(self, gradient: tuple[Tensor, ...], sensitivity: Sensitivity) -> None:
        """Multiplies the gradient with the sensitivity of the same state, and adds to the parameters' `.grad`.

        Args:
            gradient: with respect to each tensor of the state, in their order.
            sensitivity: of that state.
        """

    @abstractmethod
    def backward_output(self, gradient: Tensor, state: StateT) -> tuple[Tensor, ...]:
        """Returns the gradient with respect to a state, from that (B, F) of the output which the state determines."""

    @torch.no_grad()
    def unchecked_step(self, x: Tensor, state: StateT) -> tuple[Tensor, StateT]:
        """Runs one step as `step` does, without gradient, for arguments that were checked before.

        Args:
            x: (B, I) inputs.
            state: before the step.

        Returns:
            (B, F) outputs and the state after the step.
        """
        return self.step(x, state)

    def step_sensitivity(
        self, x: Tensor, state: StateT, sensitivity: Sensitivity
    ) -> tuple[Tensor, StateT, Sensitivity]:
        """Takes one step of state and sensitivity together, without gradient.

        Args:
            x: (B, I) inputs.
            state: before the step, zeros where an episode starts.
            sensitivity: of that state; it may be written over.

        Returns:
            (B, F) outputs, and the state and the sensitivity after the step.
        """
        start = x.new_zeros(1, x.shape[0], dtype=torch.bool)
        after = self.advance_sensitivity(x.unsqueeze(0), state, start, sensitivity)
        output, state = self.step(x, state)
        return output.detach(), state.detach(), after

    def backward_step(self, gradient: Tensor, state: StateT, sensitivity: Sensitivity) -> None:
        """Adds to the parameters' `.grad`, given the gradient (B, F) of the output that `step_sensitivity` returned.

        Args:
            gradient: of the output.
            state: after the step.
            sensitivity: after the step.
        """
        self.backward_sensitivity(self.backward_output(gradient, state), sensitivity)
