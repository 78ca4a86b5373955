"""`sab-agents bench step`: one step without gradient against nn.LSTMCell, and one short window with it against nn.LSTM.

These are the sizes of acting and of streams. B rows; a window is T steps, forward and backward, of one row that reads a
memory which receives gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from sab_agents import SAB, SABState
from sab_agents.core.attention import KINDS
from sab_agents.kernels import kernel_in_use
from sab_agents.train.bench.timing import Work, race
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.output import terminal, write_json

INPUTS, HIDDEN, SLOTS, ATTENTION, TOP_K, WINDOW = 8, 64, 64, 32, 4, 8
ROWS = (1, 8, 16)
REPEATS = 100
"""Calls in one timed round: a single one is shorter than the clock's noise."""


@dataclass(frozen=True)
class StepRow:
    """One side of one measurement, microseconds for one call."""

    what: str
    side: str
    microseconds: float
    low: float
    high: float
    threads: int
    ratio: float


def command(arguments: Sequence[str]) -> int:
    """Runs the benchmark and prints its figures."""
    parser = Parser("bench step", "Times one step of SAB against nn.LSTMCell, and a short window against nn.LSTM.")
    parser.add_argument("--rounds", type=at_least_one, default=20, help="timed rounds of each side; default: 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    console = terminal()
    kernel = kernel_in_use("cpu", torch.float32)
    console.print(f"torch {torch.__version__}, CPU, float32; kernel: {kernel}")
    console.print(
        f"hidden size {HIDDEN}, {SLOTS} slots, top_k {TOP_K}, attention_size {ATTENTION}, input size {INPUTS}"
    )
    rows = measure(given.rounds)
    table = Table(title="One call, medians (spread)")
    for heading in ("what", "side", "µs", "spread", "threads", "ratio"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in {"what", "side"} else "right")
    for row in rows:
        spread = f"{row.low:.1f} to {row.high:.1f}"
        table.add_row(row.what, row.side, f"{row.microseconds:.1f}", spread, str(row.threads), f"{row.ratio:.2f}")
    console.print(table)
    if given.json is not None:
        write_json(given.json, {"kernel": kernel, "rows": [asdict(row) for row in rows]})
    return 0


def measure(rounds: int) -> list[StepRow]:
    """Measures every step and window; the first side of each is the peer by which the others are divided."""
    torch.manual_seed(0)
    rows = []
    for batch in ROWS:
        sides = {"nn.LSTMCell": cell_steps(batch)} | {f"SAB {kind}": sab_steps(batch, kind) for kind in KINDS}
        rows += raced(f"step, {batch} row" + "s" * (batch > 1), sides, rounds)
    windows = {"nn.LSTM": lstm_window()} | {f"SAB {kind}": sab_window(kind) for kind in KINDS}
    return rows + raced(f"window of {WINDOW}, forward + backward", windows, rounds)


def raced(what: str, sides: dict[str, Work], rounds: int) -> list[StepRow]:
    """Times the sides in turn."""
    timings = race({name: repeated(work) for name, work in sides.items()}, rounds)
    peer = next(iter(timings.values())).seconds
    unit = 1e6 / REPEATS
    return [
        StepRow(what, side, unit * t.seconds, unit * t.low, unit * t.high, t.threads, t.seconds / peer)
        for side, t in timings.items()
    ]


def repeated(work: Work) -> Work:
    """Returns the work, REPEATS times."""

    def many() -> None:
        for _ in range(REPEATS):
            work()

    return many


def make_sab(kind: Any) -> SAB:
    """Returns the network that is timed."""
    return SAB(INPUTS, HIDDEN, top_k=TOP_K, bptt_steps=WINDOW, capacity=SLOTS, attention=kind, attention_size=ATTENTION)


def filled_state(sab: SAB, batch: int) -> SABState:
    """Returns a state whose slots are all filled."""
    with torch.no_grad():
        return sab(torch.randn(SLOTS + WINDOW, batch, INPUTS))[1]  # type: ignore[no-any-return]


def sab_steps(batch: int, kind: Any) -> Work:
    """Returns consecutive steps."""
    sab = make_sab(kind)
    x, state = torch.randn(batch, INPUTS), filled_state(sab, batch)

    @torch.no_grad()
    def work() -> None:
        nonlocal state
        _, state = sab.step(x, state)

    return work


def cell_steps(batch: int) -> Work:
    """Returns consecutive steps."""
    cell = nn.LSTMCell(INPUTS, HIDDEN)
    x, state = torch.randn(batch, INPUTS), (torch.zeros(batch, HIDDEN), torch.zeros(batch, HIDDEN))

    @torch.no_grad()
    def work() -> None:
        nonlocal state
        state = cell(x, state)

    return work


def sab_window(kind: Any) -> Work:
    """Returns the window, starting from a memory that receives gradient."""
    sab = make_sab(kind)
    state = filled_state(sab, 1)

    def run(x: Tensor) -> Tensor:
        memory = state.memory.detach().requires_grad_()
        return sab(x, replace(state, memory=memory))[0]  # type: ignore[no-any-return]

    return window(sab, run)


def lstm_window() -> Work:
    """Returns the same window of an LSTM."""
    lstm = nn.LSTM(INPUTS, HIDDEN)
    return window(lstm, lambda x: lstm(x)[0])


def window(module: nn.Module, run: Callable[[Tensor], Tensor]) -> Work:
    """Returns the forward and backward pass of one window of one row."""
    x = torch.randn(WINDOW, 1, INPUTS)

    def work() -> None:
        for parameter in module.parameters():
            parameter.grad = None
        run(x).sum().backward()  # type: ignore[no-untyped-call]

    return work
