"""Credit by running again, with compiled code around the scan and no graph where there is no encoder.

Dimensions as in `sab_agents.streaming.rerun`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sab_agents.core.sab import SAB
from sab_agents.core.state import SABState
from sab_agents.kernels import CompiledStream, StepWeights
from sab_agents.streaming.contexts import Contexts
from sab_agents.streaming.rerun import Credit, Encode, pass_on


def push_credit_compiled(
    compiled: CompiledStream,
    core: SAB,
    weights: StepWeights,
    encode: Encode,
    contexts: Contexts,
    state: SABState,
    gradient: Tensor,
    depth: int | None,
    *,
    own: bool,
) -> Credit:
    """Does what `push_credit` does; `compiled` is bound to these contexts, and `weights` are the core's.

    With `own` nobody else looks at the gradient afterwards, and it may be written over.
    """
    pending = gradient.detach()
    if not (own and pending.is_contiguous()):
        pending = pending.clone(memory_format=torch.contiguous_format)
    norm = torch.zeros_like(state.filled, dtype=gradient.dtype)
    pieces = dropped = level = 0
    while depth is None or level < depth:
        chosen = compiled.select(pending, state.filled, state.written_at, norm, newest=depth is None)
        if chosen.count == 0:
            break
        level += 1
        onward = level != depth
        if isinstance(encode, nn.Identity):
            sent = chosen.run_again(weights, pending, credit=core.rules.credit, onward=onward)
        else:
            sent = _encoded(core, encode, chosen.gather(pending), onward=onward)
        if sent is not None:
            dropped += pass_on(sent, chosen.row, chosen.place, contexts, state, pending)
        pieces += chosen.count
    return Credit(norm, pieces, dropped)


def _encoded(core: SAB, encode: Encode, gathered: tuple[Tensor, ...], *, onward: bool) -> Tensor | None:
    """Runs the pieces again with the encoder; the gradient of what was read, None unless `onward`."""
    observation, h, c, value, used, target, start, cut, grad_hidden = gathered
    plan = core.rules.plan(
        start=start,
        cut=cut,
        write_slot=target,
        filled=used,
        slots=value.shape[1] + target.shape[0],
    )
    memory = value.requires_grad_(onward)
    with torch.enable_grad():
        x = encode(observation.flatten(0, 1)).view(*observation.shape[:2], -1)
        found = core.scan(x, h, c, memory, plan).output
    if found.requires_grad:
        torch.autograd.backward(found, torch.cat([grad_hidden, torch.zeros_like(grad_hidden)], dim=2))
    return memory.grad
