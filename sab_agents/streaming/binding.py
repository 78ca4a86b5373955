"""Compiled code, bound to what a stream holds."""

from __future__ import annotations

from typing import NamedTuple

from sab_agents.core.state import SABState
from sab_agents.core.timeline import Rules
from sab_agents.kernels import CompiledStream, StepState, bind_stream, forced_way
from sab_agents.streaming.contexts import Contexts
from sab_agents.streaming.statistics import SlotStatistics


class Bound(NamedTuple):
    """The code, None where there is none, and what it is bound to: the very objects, and the way that was forced."""

    state: SABState | None
    contexts: Contexts | None
    statistics: SlotStatistics | None
    way: str
    code: CompiledStream | None

    def __reduce__(self) -> tuple[type[Bound], tuple[None, None, None, str, None]]:
        """A copy is bound to nothing, so that whoever uses it binds anew to what was copied with it."""
        return Bound, (None, None, None, "", None)

    def holds(self, state: SABState, contexts: Contexts, statistics: SlotStatistics) -> bool:
        """Whether it is bound to these."""
        return self.state is state and self.contexts is contexts and self.statistics is statistics


def bound_to(state: SABState, contexts: Contexts, statistics: SlotStatistics, rules: Rules) -> Bound:
    """Binds to these."""
    code = bind_stream(
        StepState(*state.tensors()),
        contexts.tensors(),
        (statistics.usage, statistics.credit),
        reads=rules.top_k + 1,
        write_every=rules.write_every,
        bptt_steps=rules.bptt_steps,
        gain=rules.gain,
    )
    return Bound(state, contexts, statistics, forced_way(), code)
