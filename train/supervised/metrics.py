"""Losses and scores of predictions, and evaluation on held-out data.

Dimensions: T steps, B sequences, O the task's output size.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from sab_agents.core.state import State
    from sab_agents.envs.supervised import Batch, SequenceTask
    from sab_agents.envs.supervised.task import Loss, Split
    from sab_agents.train.supervised.model import SequenceModel

HIGHER_IS_BETTER = frozenset({"accuracy"})
UNITS = {
    "accuracy": "fraction",
    "cross_entropy": "nats",
    "bits_per_character": "bits",
    "squared_error": "squared units",
}


def reached(metric: str, value: float, target: float) -> bool:
    """Returns whether `value` is at least as good as `target`."""
    return value >= target if metric in HIGHER_IS_BETTER else value <= target


def loss_of(kind: Loss, predictions: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Returns the loss of N steps.

    Args:
        kind: the task's loss.
        predictions: (N, O).
        targets: (N,) classes, or values for "squared_error".
        reduction: "mean", "sum" or "none", as in torch.
    """
    if kind == "cross_entropy":
        return functional.cross_entropy(predictions, targets, reduction=reduction)
    return functional.mse_loss(predictions.squeeze(-1), targets, reduction=reduction)


def tensors_of(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a batch's inputs (T, B, I), targets (T, B) and episode_start (T, B) on `device`."""
    return (
        torch.as_tensor(batch.inputs, device=device),
        torch.as_tensor(batch.targets, device=device),
        torch.as_tensor(batch.episode_start, device=device),
    )


def part_of(batch: Batch, rank: int, ranks: int) -> Batch:
    """Returns the sequences of a batch from which one of several ranks learns, as many as each of the others."""
    rows = len(batch.inputs[0]) // ranks
    taken = slice(rank * rows, (rank + 1) * rows)
    return replace(batch, **{field.name: getattr(batch, field.name)[:, taken] for field in fields(batch)})


def carried(batch: Batch, state: State | None) -> State | None:
    """Returns the state to begin `batch` with: None if all its sequences are new, else `state`, detached."""
    return None if state is None or bool(batch.episode_start[0].all()) else state.detach()


@torch.no_grad()
def evaluate(
    model: SequenceModel, task: SequenceTask, split: Split, *, batch_size: int, sequences: int, device: torch.device
) -> dict[str, float]:
    """Scores a model on held-out data; changes neither the model's parameters nor any random state.

    Args:
        model: on `device`.
        task: where the data comes from, and which metrics count.
        split: "validation" or "test" (or "train").
        batch_size: sequences at a time.
        sequences: how many at most.
        device: the model's.

    Returns:
        Each of the task's metrics, averaged over all scored steps.
    """
    loss_sum, correct, count = 0.0, 0, 0
    state: State | None = None
    was_training = model.training
    model.eval()
    for batch in task.evaluation_batches(split, batch_size, sequences):
        x, targets, episode_start = tensors_of(batch, device)
        output, state = model(x, carried(batch, state), episode_start)
        scored = torch.as_tensor(batch.scored, device=device)
        predictions, targets = output[scored], targets[scored]
        loss_sum += float(loss_of(task.loss, predictions, targets, "none").double().sum())
        correct += int((predictions.argmax(-1) == targets).sum())
        count += int(scored.sum())
    model.train(was_training)
    mean_loss = loss_sum / max(count, 1)
    values: dict[str, Any] = {
        "accuracy": correct / max(count, 1),
        "cross_entropy": mean_loss,
        "bits_per_character": mean_loss / math.log(2),
        "squared_error": mean_loss,
    }
    return {metric: values[metric] for metric in task.metrics}
