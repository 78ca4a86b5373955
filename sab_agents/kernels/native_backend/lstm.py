"""A truncated LSTM in compiled C++ whose present segment is run again at every step: a scan that remembers nothing.

Dimensions: T steps of the segment, L at the most, I input size, H hidden size.
"""

from __future__ import annotations

from ctypes import addressof
from typing import Self

import torch
from torch import Tensor

from sab_agents.kernels.native_backend.bound import BoundScan
from sab_agents.kernels.native_backend.extension import addresses, native, new_empty, whole_numbers
from sab_agents.kernels.native_backend.space import RunSpace, Sizes
from sab_agents.kernels.native_backend.step import FLAG, REAL, fits
from sab_agents.kernels.types import StepWeights

STEPS = 1  # the place of T
# Marks of what is filled in at each call, to find its place.
IN_X, IN_H, IN_C, IN_GRADIENT = -1, -2, -3, -4


class CompiledLSTM:
    """Make it with `bound`.

    Args:
        weights: (4H, I), (4H, H), (4H,) and (4H,), as `nn.LSTM` has them, each with a `.grad`.
        steps: L.
    """

    def __init__(self, scan: BoundScan, steps: int) -> None:
        self._scan, H = scan, scan.size
        # No episode starts within a segment, gradient ends at its first step, and nothing is ever written.
        start, cut, nowhere = (
            torch.zeros(steps, 1, dtype=FLAG),
            torch.zeros(steps, 1, dtype=FLAG),
            torch.full((steps, 1), -1),
        )
        cut[0] = True
        # Zeros but for its last row: the gradient of the last of T outputs, seen from L − T rows on.
        self._gradient = torch.zeros(steps, 1, H)
        self._last_gradient = self._gradient[-1]
        self._plan = start, cut, nowhere
        self._kept, self._passing = (_Forward(scan, most, *addresses(start, nowhere)) for most in (steps, 1))
        given = [IN_X, IN_H, *addresses(start, cut, nowhere)]
        template = scan.backward_arguments(self._kept.layout, (IN_GRADIENT, 0, H), given, 0)
        self._back = whole_numbers(template)
        self._places = [template.index(each) for each in (IN_GRADIENT, IN_X, IN_H)]
        self._given: tuple[Tensor, ...] = ()
        self._steps = 0

    @classmethod
    def bound(cls, weights: tuple[Tensor, ...], steps: int) -> Self | None:
        """One for these weights; None where one of them, or its gradient, is not what the compiled code takes."""
        H = weights[1].shape[1]
        # An attention of one number over no slots, without gradient.
        unread = new_empty(1, H).zero_(), new_empty(1, H).zero_(), new_empty(1).zero_(), None
        scan = BoundScan.bound(StepWeights(*weights, *unread), credit=False)  # type: ignore[call-arg]
        return None if scan is None else cls(scan, steps)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is bound to nothing."""
        return type(None), ()

    def run(self, x: Tensor, h: Tensor, c: Tensor, *, keep: bool) -> tuple[Tensor, Tensor]:
        """H and c (1, H) after the last of the steps x (T, 1, I), T ≤ L, from those before; `keep` for `backward`."""
        scan, forward, T = self._scan, self._kept if keep else self._passing, len(x)
        shapes = (x, (T, 1, scan.inputs)), (h, (1, scan.size)), (c, (1, scan.size))
        if not all(fits(tensor, shape, REAL) for tensor, shape in shapes) or not 0 < T <= forward.layout.sizes.T:
            raise ValueError(f"LSTMLearner: observations must be float32 (1, {scan.inputs}), but are {tuple(x.shape)}.")
        if keep:
            self._given, self._steps = (x, h), T
        return forward.run(x, h, c)

    def backward(self, gradient: Tensor) -> None:
        """Adds what the gradient (1, H) of the last h that was kept owes."""
        assert self._steps > 0, "backward before the first step"
        self._last_gradient.copy_(gradient)
        first = self._gradient.data_ptr() + 4 * self._scan.size * (len(self._gradient) - self._steps)
        self._back[STEPS] = self._steps
        for place, address in zip(self._places, (first, *addresses(*self._given)), strict=True):
            self._back[place] = address
        native.bound_backward(addressof(self._back), len(self._back))


class _Forward:
    """The way from at most `steps` inputs to the last h and c.

    Attributes:
        layout: where everything lies.
    """

    def __init__(self, scan: BoundScan, steps: int, start: int, nowhere: int) -> None:
        self._space, self._size = RunSpace(), scan.size
        self.layout = self._space.layout(Sizes(steps, 1, scan.inputs, scan.size, 1, 0, 2))
        template = scan.forward_arguments(self.layout, 1, IN_X, (IN_H, IN_C, 0, start, nowhere, 0))
        self._arguments = whole_numbers(template)
        self._places = [template.index(each) for each in (IN_X, IN_H, IN_C)]
        self._at = addressof(self._arguments), len(template)

    def run(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """H and c (1, H) after x (T, 1, I)."""
        last = new_empty(1, 2 * self._size)
        self._arguments[STEPS] = len(x)
        for place, address in zip(self._places, addresses(x, h, c), strict=True):
            self._arguments[place] = address
        self._arguments[-1] = last.data_ptr()
        native.bound_forward(*self._at)
        return last[:, : self._size], self.layout.last_cell.clone()
