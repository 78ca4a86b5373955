"""Sparse Attentive Backtracking as a policy uses it: streams whose windows are the segments of rollouts.

Dimensions: n environments, I numbers in an input, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core import SAB
from sab_agents.ppo.rollout_cores import RolloutCore
from sab_agents.streaming import Eviction, SABStream, SABWindow, Write
from sab_agents.streaming.acting import ActingState, act
from sab_agents.streaming.writing import SlotWriter

SUMMARY_SCALE = 0.2
"""Of s, before the networks behind the core."""

RERUN_STEPS = 8
"""Of the segments that credit runs again, unless a setting says otherwise."""


class SabRolloutCore(RolloutCore):
    """Sparse Attentive Backtracking whose credit crosses rollouts: a stream for each environment.

    The memory lives on from one rollout to the next. Gradient that reaches it in an update is pushed on, by running
    again the steps that wrote it, however long ago. Memories that are held are as they were written, by the weights of
    then.

    Args:
        input_size: I.
        hidden_size: H; an output [h, s] has 2H numbers.
        top_k: slots that take part in one read.
        write_every: steps between two writes.
        bptt_steps: length of the segments of a row that plain backpropagation does not leave; None lets it go to the
            row's start, as an LSTM's does, at the same cost.
        rerun_steps: length of the segments that are run again to credit what was written before the row; None is
            `bptt_steps`, or 8 without it.
        capacity: slots of the memory.
        attention: "dot" or "mlp".
        attention_size: A; None is H.
        eviction: which slot a write takes when all are filled; see `SABStream`.
        write: "novel" or "every"; see `SABStream`.
        novelty: see `SABStream`. Smaller than there: what an agent must remember, such as its own first action, may be
            a small part of what it sees.
        credit_depth: links that credit follows from slot to slot: 0 for none, None for all.
        summary_gain: of s in h, see `SAB`; and not the paper's 1. Over an episode of hundreds of steps s grows to many
            times what the present adds to h, and an agent that need not remember learns much more slowly than one that
            cannot.
        seed: of the reservoir.

    Raises:
        TypeError: a size is not an int.
        ValueError: a setting is out of range, or `eviction` is "least_credited", whose credit comes too late here.

    Attributes:
        scale: (2H,) of outputs in `read_out`.
    """

    scale: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        top_k: int = 4,
        write_every: int = 1,
        bptt_steps: int | None = None,
        rerun_steps: int | None = None,
        capacity: int = 64,
        attention: Literal["mlp", "dot"] = "dot",
        attention_size: int | None = 32,
        eviction: Eviction = "least_used",
        write: Write = "novel",
        novelty: float = 0.3,
        credit_depth: int | None = 1,
        summary_gain: float = 0.0,
        seed: int = 0,
    ) -> None:
        if eviction == "least_credited":
            raise ValueError(
                "SabRolloutCore: eviction must go by what is known while a rollout is collected, but is "
                '"least_credited": credit comes after it. Use "least_used".'
            )
        if bptt_steps is not None:
            at_least("SabRolloutCore", "bptt_steps", bptt_steps, 1)
        if rerun_steps is None:
            rerun_steps = bptt_steps or RERUN_STEPS
        super().__init__(
            SAB(
                input_size,
                hidden_size,
                top_k=top_k,
                write_every=write_every,
                bptt_steps=at_least("SabRolloutCore", "rerun_steps", rerun_steps, 1),
                capacity=capacity,
                attention=attention,
                attention_size=attention_size,
                summary_gain=summary_gain,
            )
        )
        self.core: SAB
        self.rules: dict[str, Any] = {"eviction": eviction, "write": write, "novelty": novelty, "seed": seed}
        self.bptt_steps, self.credit_depth = bptt_steps, credit_depth
        self._writer = SlotWriter(eviction, write, novelty, write_every, seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._stream = SABStream(self.core, credit_depth=credit_depth, **self.rules)
        scale = torch.cat([torch.ones(hidden_size), torch.full((hidden_size,), SUMMARY_SCALE)])
        self.register_buffer("scale", scale, persistent=False)

    def read_out(self, output: Tensor) -> Tensor:
        """See `RolloutCore.read_out`: [h, s] with less of s, which at first is as large as h and of little use."""
        return output * self.scale

    @property
    def stream(self) -> SABStream:
        """The streams that are collected from."""
        return self._stream

    def initial_state(self, rows: int) -> ActingState:
        """Empty memories."""
        return ActingState.initial(self.core, rows)

    def act(self, x: Tensor, state: ActingState) -> tuple[Tensor, ActingState]:
        """See `RolloutCore.act`."""
        return act(self.core, self._writer, self._stream.decay, x, state, self._generator)

    def begin(self, rows: int, encoder: nn.Module | None, observation_size: int) -> None:
        """See `RolloutCore.begin`."""
        self._stream = SABStream(
            self.core,
            rows,
            encoder=encoder,
            observation_shape=(observation_size,),
            credit_depth=self.credit_depth,
            **self.rules,
        )

    def step(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """See `RolloutCore.step`."""
        return self._stream.step(observation, start, x)

    def peek(self, observation: Tensor, x: Tensor, start: Tensor) -> Tensor:
        """See `RolloutCore.peek`."""
        return self._stream.peek(observation, start, x).output

    def close(self) -> SABWindow:
        """See `RolloutCore.close`."""
        closed = self._stream.close()
        closed.cut_every(self.bptt_steps)
        return closed

    def discard(self) -> None:
        """See `RolloutCore.discard`: the steps still become contexts of the slots that they wrote."""
        self._stream.advance()

    def joined(self, segments: Sequence[SABWindow]) -> SABWindow:
        """See `RolloutCore.joined`."""
        return SABWindow.joined(segments)

    def carried(self) -> dict[str, Tensor]:
        """The streams."""
        return {**self._stream.state_dict(), "acting": self._generator.get_state()}

    def restore(self, carried: dict[str, Tensor]) -> None:
        """Takes back what `carried` gave."""
        self._generator.set_state(carried["acting"].cpu())
        self._stream.load_state_dict({name: value for name, value in carried.items() if name != "acting"})
