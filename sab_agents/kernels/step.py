"""One step without gradient, the native kernel's in one call: what acting and streaming do between two inputs.

A step that the native kernel does not take is computed by a function of the caller's: a scan of length one, after all
arguments have been checked. That is so if a gradient is wanted, for other dtypes and devices, for tensors that are not
plain, and for wrong arguments, which the function raises errors about: the native kernel's own checks need only tell
right from wrong.

Dimensions: B rows, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sab_agents.kernels.backend import NATIVE, forced_way, is_plain, kernel_in_use
from sab_agents.kernels.native_backend import extension
from sab_agents.kernels.native_backend import step as native_backend
from sab_agents.kernels.types import StepRules, StepState, StepWeights


def step(
    weights: StepWeights,
    rules: StepRules,
    x: Tensor,
    state: StepState,
    episode_start: Tensor | None,
    *,
    otherwise: Callable[[], tuple[Tensor, StepState]],
) -> tuple[Tensor, StepState]:
    """Takes one step.

    Args:
        weights: of the network.
        rules: when it writes, and how it reads.
        x: (B, I) inputs.
        state: before the step.
        episode_start: (B,) bool, rows whose episode begins with it; None for none.
        otherwise: computes the step if the native kernel does not take these arguments, or raises what is wrong.

    Returns:
        (B, 2H) outputs [h, s], and the new state, which shares no memory with the old one.
    """
    found = None
    if rules.reading.sparsifier == "top_k" and _native_steps(x) and is_plain(x, episode_start, *weights, *state):
        found = native_backend.step(weights, rules, x, state, episode_start)
    return otherwise() if found is None else found


def lstm_step(
    weights: tuple[Tensor, Tensor, Tensor, Tensor],
    x: Tensor,
    h: Tensor,
    c: Tensor,
    episode_start: Tensor | None,
    *,
    otherwise: Callable[[], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Takes one step of a plain LSTM.

    Args:
        weights: weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H,), bias_hh (4H,).
        x: (B, I) inputs.
        h: (B, H) before the step.
        c: (B, H) before the step.
        episode_start: (B,) bool, rows that begin with zeros; None for none.
        otherwise: as in `step`.

    Returns:
        The new h and c, (B, H) each.
    """
    found = None
    if _native_steps(x) and is_plain(x, h, c, episode_start, *weights):
        found = native_backend.lstm_step(weights, x, h, c, episode_start)
    return otherwise() if found is None else found


def _native_steps(x: Tensor) -> bool:
    # Which tensors it takes is checked there: no need to ask here too, unless a kernel is forced.
    return extension.native is not None and (not forced_way() or kernel_in_use(x.device, x.dtype) == NATIVE)
