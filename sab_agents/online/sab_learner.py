"""Sparse Attentive Backtracking as the core of a streaming agent.

Dimensions: B rows, O numbers in an observation, H hidden size, S slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self

import torch
from torch import Tensor

from sab_agents.core.sab import SAB
from sab_agents.online.learners import RecurrentLearner, Tensors
from sab_agents.streaming import Eviction, SABStream, Write
from sab_agents.streaming.acting import ActingState, act
from sab_agents.streaming.segment import Segment


class SABLearner(RecurrentLearner):
    """A SAB whose gradient reaches the present segment and, by re-runs, the pieces that wrote what it remembers.

    Each step runs the present segment anew with today's weights. The slots are as they were written, by the weights of
    then. An output is [h, s], 2H numbers.

    Args:
        input_size: O.
        hidden_size: H.
        top_k: slots that take part in one read.
        write_every: steps between two writes.
        bptt_steps: length of a segment.
        capacity: S.
        attention: "mlp" or "dot".
        attention_size: of the attention's hidden layer; None is H.
        eviction: which slot a write takes when all are filled; see `SABStream`.
        write: "every" or "novel"; see `SABStream`.
        novelty: see `SABStream`.
        credit_depth: links that credit follows from slot to slot; 0 for none, None for all.
        seed: of the reservoir.

    Raises:
        TypeError: a size is not an int.
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        top_k: int = 4,
        write_every: int = 1,
        bptt_steps: int = 8,
        capacity: int = 64,
        attention: Literal["mlp", "dot"] = "mlp",
        attention_size: int | None = 32,
        eviction: Eviction = "least_used",
        write: Write = "novel",
        novelty: float = 1.0,
        credit_depth: int | None = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(2 * hidden_size)
        self.core = SAB(
            input_size,
            hidden_size,
            top_k=top_k,
            write_every=write_every,
            bptt_steps=bptt_steps,
            capacity=capacity,
            attention=attention,
            attention_size=attention_size,
        )
        self.stream = SABStream(
            self.core, eviction=eviction, write=write, novelty=novelty, credit_depth=credit_depth, seed=seed
        )
        self._start = torch.ones(1, dtype=torch.bool)
        self._acting = torch.Generator().manual_seed(seed)  # of a reservoir in `forward`
        self._segment = Segment(self.stream)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the parameters, as `nn.Module.to` does, and begins the stream anew beside them."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.stream.reset()
        self._segment.bind(binds=False)
        return self

    def bind(self) -> None:
        """See `RecurrentLearner.bind`."""
        self._segment.bind()

    def initial_state(self, batch_size: int) -> Tensors:
        """The tensors of a `SABState`, and how much each slot was used (B, S)."""
        return ActingState.initial(self.core, batch_size).tensors()

    @torch.no_grad()
    def forward(self, observation: Tensor, state: Tensors) -> tuple[Tensor, Tensors]:
        """One step of independent rows; see `RecurrentLearner.forward`.

        Slots are written by the stream's rules; credit, of which there is none without learning, counts as zero.
        """
        stream = self.stream
        output, after = act(self.core, stream.writer, stream.decay, observation, ActingState(*state), self._acting)
        return output, after.tensors()

    def step(self, observation: Tensor, episode_start: bool) -> Tensor:
        """Takes the stream's next observation; see `RecurrentLearner.step`."""
        if episode_start or self.stream.steps == self.core.rules.bptt_steps:
            self.stream.advance()
        return self._segment.step(observation, self._start if episode_start else None)

    def peek(self, observation: Tensor) -> Tensor:
        """The output for a next observation; see `RecurrentLearner.peek`."""
        return self._segment.peek(observation)

    def backward(self, gradient: Tensor) -> None:
        """Backpropagates to the segment's start and into the slots; see `RecurrentLearner.backward`."""
        self._segment.backward(gradient)

    def carried(self) -> dict[str, Tensor]:
        """The stream, its open window included."""
        return {**self.stream.state_dict(), "acting": self._acting.get_state()}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
        self._acting.set_state(carried["acting"])
        self.stream.load_state_dict({name: tensor for name, tensor in carried.items() if name != "acting"})
        self._segment.forget()
