"""The steps of a GRU and their gradients with the native kernel, in float32 on a CPU.

Dimensions: M pieces of sequences, N steps in the order of packed sequences, I input size, H hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sab_agents.kernels.native_backend.extension import native, new_empty, threads
from sab_agents.kernels.native_backend.layers import layer_backward, product


class CompiledGRU:
    """One pass over pieces, and what its backward pass needs.

    Args:
        x: (N, I) inputs.
        weights: of the layer, by `nn.GRU`'s shapes and in its order.
        h: (M, H) before the first steps.
        batch_sizes: int64, pieces that have an n-th step.

    Attributes:
        outputs: (N, H).
    """

    def __init__(self, x: Tensor, weights: Sequence[Tensor], h: Tensor, batch_sizes: Tensor) -> None:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        self._x, self._sizes = x, batch_sizes.contiguous()
        self._weight_ih, self._weight_hh = weight_ih, weight_hh.contiguous()
        (N, _), (self._rows, H) = x.shape, h.shape
        self._gates = product(x, weight_ih.t(), bias_ih)
        self._recurrent, self._before, self.outputs = new_empty(N, H), new_empty(N, H), new_empty(N, H)
        native.Gru(
            threads=threads(N * 3 * H * H),
            rows=self._rows,
            steps=len(self._sizes),
            size=H,
            sizes=self._sizes,
            weight_hh=self._weight_hh,
            bias_hh=bias_hh.contiguous(),
            h=h.contiguous(),
            gates=self._gates,
            recurrent=self._recurrent,
            before=self._before,
            output=self.outputs,
        ).run()

    def gradients(self, gradient: Tensor, wanted: Sequence[bool]) -> list[Tensor | None]:
        """Returns the gradients of the weights, None for those that are not wanted.

        Args:
            gradient: (N, H) of the outputs.
            wanted: (4,) which are.
        """
        N, H = gradient.shape
        to_given, to_recurrent = new_empty(N, 3 * H), new_empty(N, 3 * H)
        native.GruBackward(
            threads=threads(N * 3 * H * H),
            rows=self._rows,
            steps=len(self._sizes),
            size=H,
            all=N,
            sizes=self._sizes,
            weight_hh=self._weight_hh,
            gates=self._gates,
            recurrent=self._recurrent,
            before=self._before,
            gradient=gradient.contiguous(),
            to_given=to_given,
            to_recurrent=to_recurrent,
        ).run()
        found: list[Tensor | None] = [None] * 4
        for place, (x, weight, sent) in enumerate(
            ((self._x, self._weight_ih, to_given), (self._before, self._weight_hh, to_recurrent))
        ):
            parts = slice(place, None, 2)  # a weight and its bias
            found[parts] = layer_backward(x, sent, sent, weight, None, (*wanted[parts], False), None)[:2]
        return found
