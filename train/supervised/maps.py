"""Which past steps a model reads, and to which past steps its losses send gradient.

Dimensions: T steps, I input size, N scored steps, K slots read at a step.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sab_agents.train.supervised.metrics import loss_of, tensors_of

if TYPE_CHECKING:
    from sab_agents.envs.supervised import SequenceTask
    from sab_agents.train.supervised.model import SequenceModel

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SCORED_STEPS = 64
# Rows of one backward pass: small enough that a Transformer's (rows, heads, T, T) attention fits.
ROWS = 16


@dataclass(frozen=True)
class Maps:
    """What one held-out sequence shows.

    Attributes:
        attention: (T, T) weight with which each step (row) read what each past step (column) wrote; None for a core
            without attention.
        credit: (N, T) norm of the gradient of the loss at each scored step (row) with respect to the input of each
            step (column): zero where no gradient arrives.
        scored: (N,) the scored steps, at most 64 evenly chosen ones.
    """

    attention: Floats | None
    credit: Floats
    scored: Ints


def maps_of(model: SequenceModel, task: SequenceTask, device: torch.device) -> Maps:
    """Returns the maps of the first validation sequence; changes no parameter, gradient or random state.

    The credit map takes the gradient at the input, which every core has, so that maps of different cores compare.
    """
    batch = next(iter(task.evaluation_batches("validation", 1, 1)))
    tensors = tensors_of(batch, device)
    steps = np.flatnonzero(batch.scored[:, 0])
    scored = steps[np.unique(np.linspace(0, len(steps) - 1, min(SCORED_STEPS, len(steps))).round().astype(np.int64))]
    credit = [_credit(model, task, tensors, scored[first : first + ROWS]) for first in range(0, len(scored), ROWS)]
    return Maps(_attention(model, tensors), np.concatenate(credit), scored)


def _credit(model: SequenceModel, task: SequenceTask, tensors: tuple[Tensor, Tensor, Tensor], scored: Ints) -> Floats:
    """Returns (N, T) gradient norms. One copy of the sequence for each scored step makes it one backward pass."""
    x, targets, episode_start = tensors
    N = len(scored)
    x = x.expand(-1, N, -1).clone().requires_grad_()
    output, _ = model(x, None, episode_start.expand(-1, N).contiguous())
    at = torch.as_tensor(scored, device=x.device)
    predictions = output[at, torch.arange(N, device=x.device)]
    loss = loss_of(task.loss, predictions, targets[at, 0], "sum")
    (gradient,) = torch.autograd.grad(loss, x)
    norms: Floats = gradient.norm(dim=-1).T.cpu().numpy()
    return norms


@torch.no_grad()
def _attention(model: SequenceModel, tensors: tuple[Tensor, Tensor, Tensor]) -> Floats | None:
    core: Any = model.core
    if "return_attention" not in inspect.signature(core.forward).parameters:
        return None
    x, _, episode_start = tensors
    _, _, attention = core(x, None, episode_start, return_attention=True)
    T = x.shape[0]
    weights: Floats = np.zeros((T, T), dtype=np.float32)
    reader = np.broadcast_to(np.arange(T)[:, None], tuple(attention.steps[:, 0].shape))
    written, weight = attention.steps[:, 0].cpu().numpy(), attention.weights[:, 0].float().cpu().numpy()
    read = written >= 0
    np.add.at(weights, (reader[read], written[read]), weight[read])
    return weights
