"""The half of a stream that acts: steps are computed and taken without gradient, and recorded.

Dimensions: T steps, B rows, I input size, H hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.kernels import CompiledStream, StreamStep, all_finite, forced_way
from sab_agents.streaming.binding import bound_to
from sab_agents.streaming.checks import checked_step
from sab_agents.streaming.contexts import Contexts
from sab_agents.streaming.statistics import SlotStatistics
from sab_agents.streaming.steps import computed, emptied, recorded_like, taken
from sab_agents.streaming.window import Step, Window
from sab_agents.streaming.writing import SlotWriter


class SteppingStream:
    """Takes steps of B streams and records them, for `SABStream` to learn from.

    Args:
        core: with a bounded memory.
        rows: B.
        writer: chooses the slot that a step writes to.
        encoder: makes inputs (N, I) of observations (N, …); None takes them as they are.
        observation_shape: of one observation; None is (I,).

    Raises:
        TypeError: `rows` is not an int.
        ValueError: the core's capacity is unbounded, or there is no row.
    """

    def __init__(
        self,
        core: SAB,
        rows: int,
        writer: SlotWriter,
        encoder: nn.Module | None,
        observation_shape: tuple[int, ...] | None,
    ) -> None:
        if core.rules.capacity is None:
            raise ValueError("SABStream: the core must have a bounded memory, but its capacity is None. Set capacity.")
        self.core, self.writer = core, writer
        self.encoder = nn.Identity() if encoder is None else encoder
        self.rows = at_least("SABStream", "rows", rows, 1)
        self.observation_shape = (core.input_size,) if observation_shape is None else tuple(observation_shape)
        self._shape = (self.rows, *self.observation_shape)
        self._encodes = encoder is not None
        self.reset()

    def reset(self) -> None:
        """Puts every row at the start of an episode and forgets all that was recorded."""
        core, weight = self.core, self.core.cell.weight_hh
        self.state = core.initial_state(self.rows)
        slots = self.state.slots
        self.contexts = Contexts.empty(
            weight.detach(),
            self.rows,
            slots,
            core.rules.bptt_steps,
            core.rules.top_k + 1,
            self.observation_shape,
            core.hidden_size,
        )
        zeros = weight.new_zeros(self.rows, slots)
        self.statistics = SlotStatistics(zeros, zeros.clone())
        self._bound = bound_to(self.state, self.contexts, self.statistics, core.rules)
        self.writer.reset(self.state, self.statistics)
        self._window = Window()
        self._begin_window()

    @property
    def before(self) -> SABState:
        """The state before the window."""
        return self._before

    @property
    def steps(self) -> int:
        """Steps in the present window, T."""
        return self._window.steps

    def step(self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None) -> Tensor:
        """Takes one step without gradient and records it.

        Args:
            observation: (B, …) what is observed.
            episode_start: (B,) bool, rows whose episode begins with it: their memory is emptied. None for none.
            x: (B, I) what the encoder makes of the observation, where the caller has it already.

        Returns:
            (B, 2H) [h, s].

        Raises:
            ValueError: a shape, dtype or device does not fit, or the observation is not finite. Nothing has changed.
        """
        step = self.propose(observation, episode_start, x)
        self.take(step)
        return step.output

    def propose(self, observation: Tensor, episode_start: Tensor | None = None, x: Tensor | None = None) -> Step:
        """Computes the next step as `step` does, but does not take it; arguments and errors are the same.

        Of what was computed only the output may be used after the next call.
        """
        found = self._propose_at_once(observation, episode_start, x)
        if found is not None:
            return Step(observation, episode_start, found)
        observation, start = checked_step(
            "SABStream", observation, episode_start, self.rows, self.observation_shape, self.state.h
        )
        x = self._encoded(observation) if x is None else x
        with torch.no_grad():
            found = computed(self.core, x, self.state, start, self.writer)
        return Step(observation, start, found)

    def _propose_at_once(self, observation: Any, start: Any, x: Tensor | None) -> StreamStep | None:
        """The step by compiled code; None where that does not take these arguments, right or wrong."""
        compiled, weights = self._compiled(), self.core.step_weights()
        if compiled is None or not (start is None or isinstance(start, Tensor)):
            return None
        if not isinstance(observation, Tensor) or observation.shape != self._shape:
            return None
        if observation.dtype is not torch.float32 or not observation.is_cpu:
            return None
        if self._encodes and not all_finite(observation):
            return None
        if x is None:
            x = self._encoded(observation)
        return compiled.propose(weights, x, start, self.writer.limit)

    def _encoded(self, observation: Tensor) -> Tensor:
        """What the encoder makes of an observation, without gradient."""
        if not self._encodes:
            return observation
        with torch.no_grad():
            x: Tensor = self.encoder(observation)
        return x

    def take(self, step: Step) -> None:
        """Takes the step that `propose` computed last, and records it."""
        window, writer = self._window, self.writer
        bound = self._bound.holds(self.state, self.contexts, self.statistics)
        compiled = self._bound.code if bound else None
        if compiled is None or not compiled.made(step.found) or not step.observation.is_contiguous():
            bptt_steps = self.core.rules.bptt_steps
            self.state = taken(step, self.state, writer, self.statistics, window, bptt_steps)
            return
        chosen = None
        if writer.draws:
            state, start = emptied(self.state, step.start), step.start
            start = torch.zeros_like(self.state.step, dtype=torch.bool) if start is None else start
            chosen = writer.choose(step.found.novel, state, state.step + 1, start, self.statistics)
        elif writer.due:
            writer.plan(emptied(self.state, step.start), self.statistics)
        if window.full:
            window.make_room(recorded_like(step, self.state))
        compiled.take(
            step.found,
            step.observation,
            step.start,
            window.record(),
            window.steps,
            chosen=chosen,
            order=writer.order,
            taken=writer.taken,
        )
        window.steps += 1
        if chosen is None:
            writer.planned += 1

    def take_steps(self, observations: Tensor, starts: Tensor) -> None:
        """Takes T steps as `step` does, one after the other, for a caller who needs no outputs.

        Args:
            observations: (T, B, …).
            starts: (T, B) bool, episode starts.

        Raises:
            ValueError: as `step`; the steps before the one that is wrong have been taken.
        """
        done = 0
        while done < len(observations):
            done += self._take_at_once(observations[done:], starts[done:])

    def _take_at_once(self, observations: Tensor, starts: Tensor) -> int:
        """Takes some of these steps in one call where compiled code does it, else one; how many it took."""
        writer, window = self.writer, self._window
        compiled, weights = self._compiled(), self.core.step_weights()
        if writer.due and not writer.draws:
            writer.plan(emptied(self.state, starts[0]), self.statistics)
        count = min(len(observations), window.room, writer.order.shape[1] - writer.planned)
        plan = {"order": writer.order, "taken": writer.taken}
        if (
            compiled is not None
            and not (self._encodes or writer.draws or count < 1)
            and compiled.take_steps(
                weights, observations[:count], starts[:count], writer.limit, window.record(), window.steps, **plan
            )
        ):
            window.steps += count
            writer.planned += count
            return count
        self.step(observations[0], starts[0])
        return 1

    def _begin_window(self) -> None:
        self._window.clear()
        self._before = self.state.clone()

    def _compiled(self) -> CompiledStream | None:
        """The compiled code for what the stream holds now; None where there is none."""
        if self._bound.way != forced_way() or not self._bound.holds(self.state, self.contexts, self.statistics):
            self._bound = bound_to(self.state, self.contexts, self.statistics, self.core.rules)
        return self._bound.code
