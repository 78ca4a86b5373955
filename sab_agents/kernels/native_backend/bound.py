"""Weights of a network and their gradients, bound, for scans whose arguments are mostly known beforehand.

Dimensions: T steps, B rows, I input size, H hidden size, A attention size, R = K + 1 slots that a read touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from sab_agents.kernels.native_backend.extension import addresses, bits
from sab_agents.kernels.native_backend.space import Layout
from sab_agents.kernels.native_backend.step import weights_fit
from sab_agents.kernels.types import StepWeights


class BoundScan:
    """Weights for scans from addresses, and their gradients: they must stay where they are.

    Args:
        weights: of the network, without a gradient where none is wanted.
        credit: whether gradient reaches the memories that were read.
        gain: of s in h.
    """

    def __init__(self, weights: StepWeights, *, credit: bool, gain: float) -> None:
        grads = [None if each is None else each.grad for each in weights]
        self._kept = weights, grads
        self.inputs, self.size = weights.weight_ih.shape[1], weights.weight_hh.shape[1]
        self.attention = weights.query_bias.shape[0]
        self.weights, self._into, self._credit = addresses(*weights), addresses(*grads), int(credit)
        self._gain = bits(gain)

    @classmethod
    def bound(cls, weights: StepWeights, *, credit: bool, gain: float = 1.0) -> Self | None:
        """One for these weights; None where one of them, or its gradient, is not what the compiled code takes."""
        sizes = weights.weight_ih.shape[1], weights.weight_hh.shape[1], weights.query_bias.shape[0]
        grads = [each if each is None or not each.requires_grad else each.grad for each in weights]
        if any(grad is None and weight is not None for grad, weight in zip(grads, weights, strict=True)):
            return None
        both = weights, StepWeights(*grads)  # type: ignore[arg-type]
        return cls(weights, credit=credit, gain=gain) if all(weights_fit(each, *sizes) for each in both) else None

    def forward_arguments(self, layout: Layout, slots: int, x: int, given: Sequence[int]) -> list[int]:
        """The fields of `BoundForward`, from addresses of x and of h, c, memory, start, write_slot and filled."""
        weight_ih, weight_hh, bias_ih, bias_hh, *attention = self.weights
        T, B, inputs, H, A, held, R = layout.sizes
        return [
            *(layout.threads, T, B, H, A, slots, held, R, 1, self._gain, layout.tape[0], weight_hh, *attention),
            *(*given, *layout.tape, inputs, x, weight_ih, bias_ih, bias_hh, 0),
        ]

    def backward_arguments(
        self, layout: Layout, gradient: tuple[int, int, int], given: Sequence[int], memory: int
    ) -> list[int]:
        """The fields of `BoundBackward`.

        Args:
            layout: of the run.
            gradient: addresses of the gradients of h and s, and how far their rows lie apart.
            given: addresses of x, h, start, cut and write_slot.
            memory: where the gradient of the starting memory goes, 0 for nowhere.
        """
        of_h, of_summary, stride = gradient
        x, h, start, cut, write_slot = given
        T, B, inputs, H, A, held, R = layout.sizes
        _, weight_hh, _, _, key, query, _, score = self.weights
        states, keys, queries, scores, gates, first_h, first_c = layout.sent
        return [
            *(layout.threads, T, B, H, A, held, R, self._credit, self._gain, stride, stride, of_h, of_summary, 0),
            *(weight_hh, key, query, score, cut, write_slot, *layout.taken),
            *(states, keys, queries, scores if score else 0, gates, first_h, first_c, memory),
            *(inputs, start, x, h, *self._into),
        ]
