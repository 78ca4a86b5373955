"""Recurrent cores as a policy uses them: they act, keep what a rollout leaves behind, and learn whole rows of it.

Dimensions: n environments, T steps of a segment, R rows of a rollout (one for each environment and segment), b rows of
a minibatch, F numbers in an output, I numbers in an input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor, nn

from sab_agents.core.base import Core
from sab_agents.core.state import State
from sab_agents.kernels import Replay
from sab_agents.streaming import Credit

Array = npt.NDArray[Any]


class Segments(Protocol):
    """Segments of a rollout that are over: what a core left of them to learn from."""

    def run(self, rows: Tensor, x: Tensor) -> Replay:
        """Runs rows (b,) again with today's weights, from their inputs x (T, b, I).

        Returns:
            Outputs (T, b, F), and what takes their gradient; it adds to `x.grad` where x requires it.
        """

    def credit(self) -> Credit | None:
        """Sends on what reached the past before the segments; None where nothing can."""


class RolloutCore(nn.Module, ABC):
    """A recurrent core of n environments.

    Acting by itself: `initial_state`, `act`. Collecting: `begin` once, `step` at each step, `close` at a segment's end.

    Args:
        core: the network.
    """

    def __init__(self, core: Core[Any]) -> None:
        super().__init__()
        self.core = core

    @property
    def output_size(self) -> int:
        """F."""
        return self.core.output_size

    def read_out(self, output: Tensor) -> Tensor:
        """What the networks behind the core are given of its outputs (N, F): as they are, unless a core scales them."""
        return output

    @property
    def draws(self) -> bool:
        """Whether learning draws random numbers, as dropout does."""
        return False

    @abstractmethod
    def initial_state(self, rows: int) -> State:
        """The state at the start of an episode, for `act`."""

    def to_numpy(self, state: State) -> tuple[Array, ...]:
        """A state as arrays whose second axis is the row, as sb3-contrib's are."""
        return tuple(array[None] for array in state.to_numpy())

    def from_numpy(self, arrays: tuple[Array, ...], device: torch.device) -> State:
        """The state that `to_numpy` gave.

        Raises:
            ValueError: the number of arrays is another.
        """
        return type(self.initial_state(1)).from_numpy(tuple(array[0] for array in arrays), device)

    @abstractmethod
    def act(self, x: Tensor, state: Any) -> tuple[Tensor, State]:
        """One step of independent rows from inputs (B, I), without effect on what is collected: outputs, next state."""

    @abstractmethod
    def begin(self, rows: int, encoder: nn.Module | None, observation_size: int) -> None:
        """Starts to collect from `rows` environments.

        Args:
            rows: n.
            encoder: makes inputs (N, I) of observations (N, P), and is to be credited; None where they are the same.
            observation_size: P.
        """

    @abstractmethod
    def step(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """Takes a step.

        Args:
            observation: (n, P).
            x: (n, I) what the encoder makes of it.
            start: (n,) bool, episode starts.

        Returns:
            (n, F) outputs.
        """

    @abstractmethod
    def peek(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """The outputs that `step` would give; nothing changes."""

    @abstractmethod
    def close(self) -> Any:
        """Ends the segment that was stepped through, and returns it."""

    @abstractmethod
    def discard(self) -> None:
        """Forgets the steps of an open segment, which nobody will learn from; the state stays."""

    @abstractmethod
    def joined(self, segments: Sequence[Any]) -> Segments:
        """Segments of equal length as one, whose rows are those of the first, the second, …."""

    @abstractmethod
    def carried(self) -> dict[str, Tensor]:
        """What is needed to go on collecting to the bit, between segments."""

    @abstractmethod
    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
