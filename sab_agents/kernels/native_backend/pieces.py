"""The pieces that a stream runs again for credit, in compiled C++.

Dimensions: M pieces, B rows, I input size, H hidden size, A attention size, S slots, R = K + 1 slots that a step
touches, L = bptt_steps, U = L·R.
"""

from __future__ import annotations

from itertools import accumulate

from torch import Tensor

from sab_agents.kernels.native_backend.extension import addresses, native, new_empty
from sab_agents.kernels.native_backend.run import Given, Run, RunSizes
from sab_agents.kernels.native_backend.step import FLAG, WHOLE, weights_fit
from sab_agents.kernels.types import StepWeights


class Pieces:
    """The pieces that a gradient of the memory leads to; `CompiledStream.select` makes it.

    Attributes:
        count: M.
        steps: T, the first of each that the gradient reaches.
        row: (M,) int64, rows.
        place: (M,) int64, places of the pieces.
    """

    def __init__(
        self,
        count: int,
        steps: int,
        row: Tensor,
        place: Tensor,
        column: Tensor,
        contexts: tuple[Tensor, ...],
        reads: int,
        gain: float,
    ) -> None:
        self.count, self.steps, self.row, self.place = count, steps, row, place
        self._column, self._contexts, self._reads, self._gain = column, contexts, reads, gain

    def gather(self, gradient: Tensor) -> tuple[Tensor, ...]:
        """What the pieces are run again with; what it takes of `gradient` (B, S, H) is zeroed.

        Returns:
            observation (T, M, …), h (M, H), c (M, H), value (M, U, H), used (M, U), target (T, M), start (T, M),
            cut (T, M), and the gradient of the h of all steps (T, M, H).
        """
        contexts = self._contexts
        M, L, H = self.count, contexts[9].shape[2], gradient.shape[2]
        U = L * self._reads
        observation = new_empty(L, M, *contexts[2].shape[3:])
        h, c, value, grad = new_empty(M, H), new_empty(M, H), new_empty(M, U, H), new_empty(L, M, H)
        used, target = new_empty(M, U, dtype=FLAG), new_empty(L, M, dtype=WHOLE)
        start, cut = new_empty(L, M, dtype=FLAG), new_empty(L, M, dtype=FLAG)
        self._gather(gradient, addresses(observation, h, c, value, used, target, start, cut, grad))
        observation, target, start, cut, grad = (each[: self.steps] for each in (observation, target, start, cut, grad))
        return observation, h, c, value, used, target, start, cut, grad

    def _gather(self, gradient: Tensor, to: list[int]) -> None:
        """Fills what lies at these addresses, in the order of `gather` but for all L steps."""
        contexts, (B, S, L) = self._contexts, self._contexts[9].shape
        native.gather(
            *(B, gradient.shape[2], S, L, self._reads, contexts[2].nbytes // (B * S * L), self.count),
            *addresses(gradient, self._column, contexts[1], self.row, self.place, *contexts[2:7], contexts[9]),
            *to,
        )

    def run_again(self, weights: StepWeights, gradient: Tensor, *, credit: bool, onward: bool) -> Tensor | None:
        """Runs the pieces again and adds what they owe to the weights' `.grad`; takes of `gradient` as `gather` does.

        Args:
            weights: of the network.
            gradient: (B, S, H) of the memory.
            credit: whether gradient flows into the memories that the pieces read.
            onward: whether that of the memories before the pieces is wanted.

        Returns:
            (M, U, H) that gradient, None unless `onward`.

        Raises:
            ValueError: a weight is not float32 on the CPU, or of the wrong shape.
        """
        H, A, inputs = gradient.shape[2], weights.query_bias.shape[0], self._contexts[2].shape[3]
        if not weights_fit(weights, inputs, H, A):
            raise ValueError("SABStream.credit: the weights must be float32 on the CPU, as those of the steps taken.")
        M, L = self.count, self._contexts[9].shape[2]
        U, steps = L * self._reads, L * M
        numbers, flags = (steps * inputs, M * H, M * H, M * U * H, steps * H), (M * U, steps, steps)
        reals, whole = new_empty(sum(numbers)), new_empty(steps, dtype=WHOLE)
        marks, target = new_empty(sum(flags), dtype=FLAG), whole.data_ptr()
        x, h, c, value, grad_hidden = (reals.data_ptr() + 4 * at for at in accumulate(numbers[:-1], initial=0))
        used, start, cut = (marks.data_ptr() + at for at in accumulate(flags[:-1], initial=0))
        self._gather(gradient, [x, h, c, value, used, target, start, cut, grad_hidden])
        sizes = RunSizes(self.steps, M, inputs, H, A, U, self._reads, U + L)
        given = Given(x, h, c, value, start, cut, target, used)
        run = Run(weights, sizes, given, credit=credit, gain=self._gain, output=None, kept=(reals, whole, marks))
        sent = new_empty(M, U, H) if onward else None
        run.backward(grad_hidden, 0, H, sent)
        return sent
