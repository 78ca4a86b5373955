"""What turns a core's output into a distribution over actions.

Dimensions: B rows, F numbers in a core's output, W width of the hidden layer, A actions or numbers in an action.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from sab_agents.online.sparse import sparse_linear

Actions = npt.NDArray[Any]


class Hidden(nn.Module):
    """A sparse linear layer, layer normalisation without weights, and leaky ReLU: (B, F) -> (B, W)."""

    def __init__(self, inputs: int, width: int, sparsity: float) -> None:
        super().__init__()
        self.linear = sparse_linear(inputs, width, sparsity)
        self.shape = (width,)

    def forward(self, output: Tensor) -> Tensor:
        """Computes the layer."""
        return functional.leaky_relu(functional.layer_norm(self.linear(output), self.shape))


class PolicyHead(nn.Module, ABC):
    """A distribution over actions, described by a row of numbers."""

    @abstractmethod
    def forward(self, hidden: Tensor) -> Tensor:
        """The rows that describe the distributions, for hidden (B, W)."""

    @abstractmethod
    def choose(self, rows: Tensor, generator: np.random.Generator | None) -> Actions:
        """One action for each row, drawn with `generator`, or the likeliest where that is None."""

    @abstractmethod
    def log_probability(self, row: Tensor, action: Actions) -> Tensor:
        """The logarithm of one action's probability under the first row, a scalar."""

    @abstractmethod
    def entropy(self, row: Tensor) -> Tensor:
        """Entropy of the first row's distribution, a scalar."""


class CategoricalHead(PolicyHead):
    """A finite set of actions; a row holds their log-probabilities.

    Args:
        width: W.
        actions: A.
        sparsity: share of weights that start at zero.
    """

    def __init__(self, width: int, actions: int, sparsity: float) -> None:
        super().__init__()
        self.linear = sparse_linear(width, actions, sparsity)

    def forward(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (B, A)."""
        return functional.log_softmax(self.linear(hidden), dim=-1)

    def choose(self, rows: Tensor, generator: np.random.Generator | None) -> Actions:
        """Actions (B,) int64; see `PolicyHead.choose`."""
        log_probabilities = rows.detach().numpy(force=True)
        if generator is None:
            return np.asarray(log_probabilities.argmax(axis=1))
        heights = np.exp(log_probabilities).cumsum(axis=1)
        drawn = generator.random((len(heights), 1)) * heights[:, -1:]
        return np.asarray(np.minimum((heights <= drawn).sum(axis=1), heights.shape[1] - 1))

    def log_probability(self, row: Tensor, action: Actions) -> Tensor:
        """The action's entry; see `PolicyHead.log_probability`."""
        return row[0, int(action)]

    def entropy(self, row: Tensor) -> Tensor:
        """-Σ p log p; see `PolicyHead.entropy`."""
        return -(row.exp() * row).sum()


class GaussianHead(PolicyHead):
    """Independent normal distributions; a row holds their means, then their standard deviations.

    Args:
        width: W.
        shape: of an action, with A numbers.
        sparsity: share of weights that start at zero.
    """

    def __init__(self, width: int, shape: tuple[int, ...], sparsity: float) -> None:
        super().__init__()
        self.shape = shape
        self.mean = sparse_linear(width, math.prod(shape), sparsity)
        self.deviation = sparse_linear(width, math.prod(shape), sparsity)

    def forward(self, hidden: Tensor) -> Tensor:
        """Means and standard deviations (B, 2 A)."""
        return torch.cat([self.mean(hidden), functional.softplus(self.deviation(hidden))], dim=-1)

    def choose(self, rows: Tensor, generator: np.random.Generator | None) -> Actions:
        """Actions (B, *shape) float32, unbounded; see `PolicyHead.choose`."""
        mean, deviation = np.split(rows.detach().numpy(force=True), 2, axis=1)
        drawn = mean if generator is None else mean + deviation * generator.standard_normal(mean.shape)
        return drawn.astype(np.float32).reshape(-1, *self.shape)

    def log_probability(self, row: Tensor, action: Actions) -> Tensor:
        """The sum over the numbers of an action; see `PolicyHead.log_probability`."""
        mean, deviation = row[0].chunk(2)
        distance = (torch.as_tensor(action, dtype=row.dtype, device=row.device).reshape(-1) - mean) / deviation
        return -(0.5 * distance * distance + deviation.log()).sum() - 0.5 * math.log(2 * math.pi) * len(mean)

    def entropy(self, row: Tensor) -> Tensor:
        """The sum over the numbers of an action; see `PolicyHead.entropy`."""
        deviation = row[0].chunk(2)[1]
        return deviation.log().sum() + 0.5 * (1 + math.log(2 * math.pi)) * len(deviation)


def policy_head(space: spaces.Space[Any], width: int, sparsity: float) -> PolicyHead:
    """The head for an action space.

    Raises:
        TypeError: the space is neither Discrete nor Box.
    """
    if isinstance(space, spaces.Discrete):
        return CategoricalHead(width, int(space.n), sparsity)
    if isinstance(space, spaces.Box):
        return GaussianHead(width, space.shape, sparsity)
    raise TypeError(
        f"StreamAC: actions must be of a Discrete or a Box space, but are of {space}. Wrap the environment."
    )
