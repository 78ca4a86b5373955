"""One or more endless streams through a SAB core: a bounded memory whose slots can be run again for credit.

Dimensions: T steps of a window, B rows, S slots, R = top_k + 1 slots that a step touches, I input size, H hidden size.
"""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor, nn

from sab_agents.checks import at_least
from sab_agents.core.sab import SAB
from sab_agents.kernels import Replay, ScanPlan, StepState, are_leaves, graph_replay
from sab_agents.streaming.closed import ClosedWindow, Steps
from sab_agents.streaming.eviction import Eviction, Write
from sab_agents.streaming.refresh import refresh_memory
from sab_agents.streaming.rerun import Credit, push_credit
from sab_agents.streaming.rerun_compiled import push_credit_compiled
from sab_agents.streaming.saving import restore, saved
from sab_agents.streaming.stepping import SteppingStream
from sab_agents.streaming.steps import advanced
from sab_agents.streaming.window import without_graph
from sab_agents.streaming.writing import SlotWriter

NO_STEPS = "SABStream.window: no step was taken since the last advance(). Call step() first."


class SABStream(SteppingStream):
    """Runs B streams step by step, and lets gradient reach the steps that wrote what a window remembers.

    Each step is taken without gradient, and what it observed, read and wrote is recorded. Now and then the steps since
    the last such time, the *window*, are run again with gradient, and the gradient that arrives at the memory as it was
    before the window is pushed through re-runs of the pieces that wrote it. Cost and memory of all this depend on the
    sizes, not on how long the stream has run.

        output = stream.step(observation)            # any number of times
        outputs = stream.window()                    # (T, B, 2H), the same numbers, with gradient
        loss_of(outputs).backward()
        stream.credit()                              # adds to the parameters' .grad
        optimizer.step()
        stream.advance()                             # the window is over, learnt from or not

    Compiled code changes `state` in place as steps are taken: clone it to keep it. `before` is a copy.

    A held slot is *stale* after an update: older weights computed it. `refresh` computes all of them anew.

    Args:
        core: a `SAB` with a bounded `capacity`. Its own rule of writing to the next slot is replaced by `eviction`.
        rows: B.
        encoder: makes inputs (N, I) of observations (N, …); it is run again with the core and receives credit. None
            takes observations as they are.
        observation_shape: of one observation; None is (I,).
        eviction: which slot a write takes when all are filled: "oldest", "least_used" (smallest decayed attention
            weight), "least_credited" (smallest decayed gradient norm), "most_redundant" (closest to a newer one), or
            "reservoir" (the memory is a uniform sample of the episode). Slots among the newest quarter are never
            taken by a `least_*` rule.
        write: "every" (the paper's), or "novel", which skips a write whose h lies within `novelty` · ‖h‖ of a slot.
        novelty: see `write`.
        decay: of usage and credit, for each step.
        credit_depth: links that credit follows from slot to slot; 0 for none, None for all that are still held.
        seed: of the reservoir.

    Raises:
        TypeError: a count is not an int.
        ValueError: the core's capacity is unbounded, or a setting is out of range.
    """

    _memory: Tensor | None  # as it was before the window, to receive gradient

    def __init__(
        self,
        core: SAB,
        rows: int = 1,
        *,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
        eviction: Eviction = "least_used",
        write: Write = "novel",
        novelty: float = 1.0,
        decay: float = 0.99,
        credit_depth: int | None = 1,
        seed: int = 0,
    ) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"SABStream: decay must be between 0 and 1, but is {decay!r}.")
        self.decay = decay
        self.credit_depth = None if credit_depth is None else at_least("SABStream", "credit_depth", credit_depth, 0)
        self._decay = torch.tensor([decay], dtype=torch.float64, device="cpu")
        writer = SlotWriter(eviction, write, novelty, core.rules.write_every, seed)
        super().__init__(core, rows, writer, encoder, observation_shape)

    def window(self) -> Tensor:
        """Runs the steps since the last `advance` again, with gradient: (T, B, 2H), what `step` returned for them.

        Raises:
            RuntimeError: there is none.
        """
        x, memory, plan = self._planned()
        before = self._before
        return self.core.scan(x, before.h, before.c, memory, plan).output

    def run(self) -> Replay:
        """Does what `window` does, for a caller who needs no graph: outputs, and a function that takes their gradient.

        The gradient must be there before the next step is taken.
        Where there is compiled code and no encoder no graph is made at all, and hooks of the parameters are not called.

        Raises:
            RuntimeError: as `window`.
        """
        compiled, weights = self._compiled(), self.core.step_weights()
        if compiled is None or self._encodes or not are_leaves(*weights):
            return graph_replay(self.window())
        window, before = self._window, self._before
        if not window.steps:
            raise RuntimeError(NO_STEPS)
        state, credit = StepState(*before.tensors()), self.core.rules.credit
        found = compiled.run(weights, window.record(), window.steps, state, credit=credit)
        if found is None:
            return graph_replay(self.window())
        run, output = found
        self._memory = before.memory.detach().requires_grad_(self.credit_depth != 0)
        return without_graph(run, output, self._memory)

    def _planned(self) -> tuple[Tensor, Tensor, ScanPlan]:
        """What the window is run again with: inputs (T, B, I), the memory that is to receive gradient, the plan."""
        if not self.steps:
            raise RuntimeError(NO_STEPS)
        window, before = self._window, self._before
        # Copies: the graph outlives the record, which goes on being written to.
        x = observation = window.stacked("observation").clone()
        if self._encodes:
            x = self.encoder(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        plan = self.core.rules.plan(
            start=window.stacked("start").clone(),
            cut=window.stacked("cut").clone(),
            write_slot=window.stacked("write_slot").clone(),
            filled=before.filled,
            slots=before.slots,
        )
        self._memory = before.memory.detach().requires_grad_(self.credit_depth != 0)
        return x, self._memory, plan

    def credit(self, gradient: Tensor | None = None) -> Credit:
        """Pushes the gradient that reached the memory before the window on to the steps that wrote it.

        Args:
            gradient: (B, S, H); None takes what `backward` left for the last `window()`.

        Returns:
            What was credited; slots are those of the memory before the window.

        Raises:
            RuntimeError: neither is there.
        """
        own = gradient is None
        if gradient is None:
            if self._memory is None:
                raise RuntimeError("SABStream.credit: there is no window. Call window() and backpropagate first.")
            gradient = self._memory.grad
            self._memory = None
        if gradient is None:
            return Credit(torch.zeros_like(self.statistics.credit), 0, 0)
        compiled, weights = self._compiled(), self.core.step_weights()
        rest = (self.encoder, self.contexts, self._before, gradient, self.credit_depth)
        if compiled is None or not are_leaves(*weights):
            found = push_credit(self.core, *rest)
        else:
            found = push_credit_compiled(compiled, self.core, weights, *rest, own=own)
        self._reached += found.norm
        return found

    def advance(self) -> None:
        """Ends the window: its pieces become the contexts of the slots it wrote, and usage and credit are counted."""
        if not self.steps:
            return
        compiled, window, before = self._compiled(), self._window, self._before
        if compiled is not None:
            compiled.advance(window.record(), window.steps, before.memory, before.filled, self._reached, self._decay)
        else:
            self.statistics = advanced(
                window, before, self.state, self.contexts, self.statistics, self._reached, self.decay
            )
        self._begin_window()

    def close(self) -> ClosedWindow:
        """Ends the window as `advance` does, and returns it, to be learnt from later and more than once.

        Credit that it sends then is not counted for "least_credited", which has chosen slots by that time.

        Raises:
            RuntimeError: no step was taken since the last time.
        """
        if not self.steps:
            raise RuntimeError("SABStream.close: no step was taken since the last advance(). Call step() first.")
        steps = Steps(*(self._window.stacked(field.name).clone() for field in fields(Steps)))
        closed = ClosedWindow(self.core, self.encoder, steps, self._before, self.contexts.clone(), self.credit_depth)
        self.advance()
        return closed

    def refresh(self) -> None:
        """Computes every held slot anew from its context with today's weights, oldest first, without gradient.

        Raises:
            RuntimeError: a window is open, whose reads would no longer be those of the steps taken.
        """
        if self.steps:
            raise RuntimeError("SABStream.refresh: a window is open. Call advance() first.")
        with torch.no_grad():
            self.state = refresh_memory(self.core, self.encoder, self.contexts, self.state)
        self._begin_window()

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that is carried, the open window included, as tensors under plain names; not the parameters."""
        return saved(self)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Goes on where `state_dict` was taken from a stream of the same settings.

        Raises:
            ValueError: a tensor is missing, unexpected or of another shape. Nothing has changed.
        """
        restore(self, state)

    def _begin_window(self) -> None:
        super()._begin_window()
        self._memory = None
        self._reached = torch.zeros_like(self.statistics.credit)
