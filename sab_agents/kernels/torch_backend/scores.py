"""The kinds of score in plain torch: what each is, how it is computed fast, and its derivatives.

Dimensions: B rows, n slots, A attention size, R slots that a read names. "…" stands for any leading axes.

torch's sigmoid is ten times as fast as its tanh on a CPU, so fast passes take tanh(x) as 2·sigmoid(2x) − 1. For "mlp"
the keys are doubled where they are stored for scoring, and the constant is left out: the sparsifier sees differences
alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor


class ScoreDerivatives(NamedTuple):
    """Derivatives of scores (…, R), each (…, R, A)."""

    key: Tensor
    query: Tensor
    vector: Tensor | None  # by w₃; None if the kind has none


class Score(ABC):
    """A kind of score."""

    has_vector: bool
    """Whether it has parameters w₃ of its own."""

    key_scale: float = 1.0
    """By which keys are multiplied where they are stored for `fast`."""

    @abstractmethod
    def of(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> Tensor:
        """The definition, in operations that can be differentiated and exported.

        Args:
            keys: (B, n, A) W₁m.
            query: (B, A) W₂ĥ + b₂.
            vector: (A,) w₃, None if the kind has none.

        Returns:
            (B, n) scores.
        """

    @abstractmethod
    def fast_vector(self, vector: Tensor | None, like: Tensor, size: int) -> Tensor:
        """The vector (A,) whose product with what `fast_layer` leaves gives the scores, up to a constant."""

    @abstractmethod
    def fast_layer(self, keys: Tensor, query: Tensor, out: Tensor) -> None:
        """Fills `out` (B, n, A), from keys that were multiplied by `key_scale` and the query (B, A)."""

    @abstractmethod
    def derivatives(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> ScoreDerivatives:
        """The derivatives of the scores of keys (…, R, A), which are overwritten, against queries (…, 1, A)."""


class Mlp(Score):
    """a_i = w₃ᵀ tanh(key + query), the paper's."""

    has_vector = True
    key_scale = 2.0

    def of(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> Tensor:
        """The definition."""
        assert vector is not None
        return torch.tanh(keys + query.unsqueeze(1)) @ vector

    def fast_vector(self, vector: Tensor | None, like: Tensor, size: int) -> Tensor:  # noqa: ARG002
        """2·w₃."""
        assert vector is not None
        return 2 * vector

    def fast_layer(self, keys: Tensor, query: Tensor, out: Tensor) -> None:
        """sigmoid(2·(key + query))."""
        torch.add(keys, (2 * query).unsqueeze(1), out=out).sigmoid_()

    def derivatives(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> ScoreDerivatives:
        """By key and by query (1 − tanh²)·w₃, by w₃ tanh."""
        layer = keys.add_(query).mul_(2).sigmoid_()
        by_key = ((1 - layer) * layer).mul_(4 * vector)  # type: ignore[operator]
        return ScoreDerivatives(by_key, by_key, layer.mul_(2).sub_(1))


class Dot(Score):
    """a_i = key · query / √A."""

    has_vector = False

    def of(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> Tensor:  # noqa: ARG002
        """The definition."""
        return (keys @ query.unsqueeze(2)).squeeze(2) / math.sqrt(query.shape[1])

    def fast_vector(self, vector: Tensor | None, like: Tensor, size: int) -> Tensor:  # noqa: ARG002
        """1/√A in each place."""
        return like.new_full((size,), 1 / math.sqrt(size))

    def fast_layer(self, keys: Tensor, query: Tensor, out: Tensor) -> None:
        """Key ⊙ query: a product and a sum over whole rows of memory outrun a batched matrix-vector product."""
        torch.mul(keys, query.unsqueeze(1), out=out)

    def derivatives(self, keys: Tensor, query: Tensor, vector: Tensor | None) -> ScoreDerivatives:  # noqa: ARG002
        """By key query/√A, by query key/√A."""
        by_key = (query / math.sqrt(query.shape[-1])).expand_as(keys)
        return ScoreDerivatives(by_key, keys.div_(math.sqrt(query.shape[-1])), None)


SCORES: dict[str, Score] = {"mlp": Mlp(), "dot": Dot()}
"""Every kind by its name."""


class FastScores:
    """Scores every slot at every step, in one buffer.

    Args:
        kind: of score.
        vector: (A,) w₃, None if the kind has none.
        attention_size: A.
        buffer: (B · n · A,) or longer, which is overwritten.

    Attributes:
        key_scale: by which keys are multiplied where they are stored for scoring.
    """

    def __init__(self, kind: str, vector: Tensor | None, attention_size: int, buffer: Tensor) -> None:
        self._score, self._buffer = SCORES[kind], buffer
        self.key_scale = self._score.key_scale
        self._vector = self._score.fast_vector(vector, buffer, attention_size)

    def of(self, keys: Tensor, query: Tensor) -> Tensor:
        """Scores (B, n), up to a constant, of scaled keys (B, n, A) against the query (B, A)."""
        B, n, A = keys.shape
        layer = self._buffer[: B * n * A].view(B, n, A)
        self._score.fast_layer(keys, query, layer)
        return torch.mv(layer.view(-1, A), self._vector).view(B, n)
