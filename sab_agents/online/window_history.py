"""What the latest windows of a learner did, kept for `OnlineLearner.diagnose`.

Dimensions: T steps of a window, B rows, b of them that are kept, S slots, W windows that are kept.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sab_agents.streaming import RECORDED, Credit, GradientNorms, Reads, SABStream, Stream

NOTED, RAREST = 8, 256
"""Windows that are noted one and all; after n of them one of n / 8 is, until it is one of 256."""
ROWS = 32
"""Rows whose reads and writes are kept."""


class Numbers(NamedTuple):
    """Of one window.

    Attributes:
        first: steps of the stream before it.
        largest_h: greatest absolute value of the core's outputs.
        input_scale: root mean square of the feature for which it is greatest.
        window_gradient: see `GradientNorms.window`.
        credit_gradient: see `GradientNorms.credit`.
        credited: slots that were, of all rows.
        credit: sum of the norms of the gradients that reached slots.
        credit_distance: mean steps from the window back to what was credited; 0 if nothing was.
        dropped_links: see `Credit.dropped`.
    """

    first: float
    largest_h: float
    input_scale: float
    window_gradient: float
    credit_gradient: float
    credited: float
    credit: float
    credit_distance: float
    dropped_links: float


class WindowHistory:
    """Keeps some windows that were learnt from; its size does not grow with the stream.

    The first windows are all noted, later ones ever more rarely, see `NOTED`: 16 that are kept cover most of a young
    stream and the last 4,000 windows of an old one, at next to no cost.

    Args:
        length: W, windows that are kept; 0 notes none.
    """

    def __init__(self, length: int) -> None:
        self._windows: deque[dict[str, npt.NDArray[Any]]] = deque(maxlen=length)

    def __len__(self) -> int:
        return len(self._windows)

    def wants(self, update: int) -> bool:
        """Whether the window of this update, counted from 0, is to be noted."""
        if self._windows.maxlen == 0:
            return False
        fraction = max(1 / RAREST, min(1.0, NOTED / (update + 1)))
        # Multiples of the golden ratio spread evenly over [0, 1), whatever the period one looks at: no rhythm of the
        # data hides from it.
        return update * 0.6180339887498949 % 1 < fraction

    def clear(self) -> None:
        """Forgets all windows."""
        self._windows.clear()

    def add(self, stream: Stream, first: int, outputs: Tensor, credit: Credit, norms: GradientNorms) -> None:
        """Notes the stream's window, which was replayed and credited.

        Args:
            stream: whose window is open.
            first: steps of the stream before it.
            outputs: (T, B, F) of the replay.
            credit: from `Stream.credit`.
            norms: of the gradient.
        """
        recorded = stream.recorded()
        arrays: dict[str, npt.NDArray[Any]] = {}
        # numpy computes with few numbers in a fraction of the time.
        observation = _floats(recorded["observation"])
        squares = np.square(observation).reshape(-1, math.prod(observation.shape[2:]))
        output, distance, amount = _floats(outputs), 0.0, np.empty(0, np.float32)
        if isinstance(stream, SABStream):
            arrays |= {name: recorded[name][:, :ROWS].numpy(force=True).copy() for name in RECORDED}
            before, norm = stream.before, _floats(credit.norm)
            arrays["filled"] = np.any(before.filled[:ROWS].numpy(force=True), axis=1)
            rows, slots = np.nonzero((norm > 0) & np.isfinite(norm))
            amount = norm[rows, slots]
            if len(rows):
                steps, written_at = before.step.numpy(force=True)[rows], before.written_at.numpy(force=True)
                distance = float(np.average(steps - written_at[rows, slots], weights=amount))
        numbers = Numbers(
            first=float(first),
            largest_h=float(max(output.max(), -output.min())),
            input_scale=math.sqrt(squares.mean(0).max()),
            window_gradient=norms.window,
            credit_gradient=norms.credit,
            credited=float(len(amount)),
            credit=float(amount.sum()),
            credit_distance=distance,
            dropped_links=float(credit.dropped),
        )
        self._windows.append(arrays | {"numbers": np.array(numbers)})

    def numbers(self) -> list[Numbers]:
        """Returns the numbers of all kept windows, oldest first."""
        return [Numbers(*window["numbers"].tolist()) for window in self._windows]

    def reads(self) -> Reads | None:
        """Returns the reads of all kept windows; None if the stream has no slots or nothing was noted."""
        if not self._windows or "filled" not in self._windows[0]:
            return None
        pairs = zip(self._windows, self.numbers(), strict=True)
        return Reads.joined(
            [
                Reads.of(
                    {name: torch.from_numpy(window[name]) for name in RECORDED},
                    torch.from_numpy(window["filled"]),
                    int(numbers.first),
                )
                for window, numbers in pairs
            ]
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns all windows side by side, (W, …) by name; nothing if there is none."""
        if not self._windows:
            return {}
        names = self._windows[0]
        return {name: torch.from_numpy(np.stack([window[name] for window in self._windows])) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes from what `state_dict` returned; of more windows than are kept the latest."""
        self._windows.clear()
        count = min((len(each) for each in state_dict.values()), default=0)
        for index in range(count):
            self._windows.append({name: each[index].numpy().copy() for name, each in state_dict.items()})


def _floats(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array
