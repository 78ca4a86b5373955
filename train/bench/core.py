"""`sab-agents bench core`: forward and backward of SAB against nn.LSTM and against its own plain autograd loop."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sab_agents import SAB
from sab_agents.core.attention import KINDS
from sab_agents.kernels import ScanArguments, ScanOutputs, ScanPlan, forced_kernel, kernel_in_use, reference_scan
from sab_agents.train.bench.timing import Timing, Work, in_turn

SHAPES = ((32, 128, 220), (1, 64, 1000), (64, 128, 320))
"""(B, H, T) of the measurements; inputs have size H."""

GPU_SHAPES = ((64, 128, 320), (256, 256, 512))
"""The same on a GPU."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class PlainLoopSAB(SAB):
    """SAB computed by the reference loop under autograd."""

    def scan(self, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> ScanOutputs:
        """See `SAB.scan`."""
        return reference_scan(ScanArguments(x, *self.step_weights(), h, c, memory), plan)


@dataclass(frozen=True)
class Row:
    """One measurement: a side at a shape, and how it compares with nn.LSTM and with its plain loop in the same run.

    The ratios to nn.LSTM are those of pairs, round by round.
    """

    shape: tuple[int, int, int]
    side: str
    timing: Timing
    to_lstm: list[float]
    to_loop: float | None

    def as_json(self) -> dict[str, Any]:
        """Returns the row as JSON holds it."""
        B, H, T = self.shape
        return {
            "batch": B,
            "hidden_size": H,
            "steps": T,
            "side": self.side,
            "milliseconds": round(1e3 * self.timing.seconds, 6),
            "low": round(1e3 * self.timing.low, 6),
            "high": round(1e3 * self.timing.high, 6),
            "threads": self.timing.threads,
            "ratio_to_lstm": round(statistics.median(self.to_lstm), 6),
            "ratio_low": round(min(self.to_lstm), 6),
            "ratio_high": round(max(self.to_lstm), 6),
            "ratio_to_plain_loop": None if self.to_loop is None else round(self.to_loop, 6),
        }


def forward_backward(module: nn.Module, x: Tensor) -> Work:
    """Returns a function that runs the module on x and differentiates the sum of its outputs by its parameters."""

    def work() -> None:
        module.zero_grad(set_to_none=True)
        output, _ = module(x)
        output.sum().backward()

    return work


def by_torch(work: Work) -> Work:
    """Returns the same work with scans in plain torch."""

    def forced() -> None:
        with forced_kernel("torch"):
            work()

    return forced


def measure(
    shape: tuple[int, int, int],
    settings: dict[str, Any],
    rounds: int,
    device: str = "cpu",
    dtype: str = "float32",
    *,
    slow: bool = True,
) -> list[Row]:
    """Races nn.LSTM, SAB and the plain loop at one (B, H, T), SAB also in plain torch if a kernel is in use.

    Args:
        shape: (B, H, T).
        settings: SAB's.
        rounds: timed rounds of each side.
        device: "cpu" or "cuda", where nn.LSTM is cuDNN's.
        dtype: of parameters and inputs, one of `DTYPES`.
        slow: whether the plain loop and plain torch run, too.
    """
    B, H, T = shape
    torch.manual_seed(0)
    x = torch.randn(T, B, H, device=device, dtype=DTYPES[dtype])

    def timed(module: nn.Module) -> Work:
        return forward_backward(module.to(device, DTYPES[dtype]), x)

    sides = {"nn.LSTM": timed(nn.LSTM(H, H))}
    for kind in KINDS:
        sides[f"SAB {kind}"] = timed(SAB(H, H, attention=kind, **settings))
        if slow:
            sides[f"plain loop {kind}"] = timed(PlainLoopSAB(H, H, attention=kind, **settings))
    if slow and kernel_in_use(device, DTYPES[dtype]) != "torch":
        for kind in KINDS:
            sides[f"SAB {kind}, torch"] = by_torch(sides[f"SAB {kind}"])
    found = in_turn(sides, rounds, device)
    timings = {side: each.timing for side, each in found.items()}
    rows = []
    for side, timing in timings.items():
        loop = (
            timings.get(side.removesuffix(", torch").replace("SAB", "plain loop")) if side.startswith("SAB") else None
        )
        to_loop = None if loop is None else timing.seconds / loop.seconds
        rows.append(Row(shape, side, timing, found[side].ratios(found["nn.LSTM"]), to_loop))
    return rows
