"""`sab-agents bench core` and `bench scaling`: whole sequences through SAB, nn.LSTM and a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from sab_agents.kernels import kernel_in_use
from sab_agents.train.arguments import Parser, at_least_one
from sab_agents.train.bench import scaling
from sab_agents.train.bench.core import SHAPES, Row, measure
from sab_agents.train.bench.output import terminal, write_json
from sab_agents.train.bench.scaling_table import scaling_table
from sab_agents.train.bench.timing import thread_counts


def command(what: Literal["core", "scaling"], arguments: Sequence[str]) -> int:
    """Runs one of the two and prints its ratios."""
    parser = Parser(f"bench {what}", "Times SAB against nn.LSTM and against a plain loop.")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds of each side; default: 5")
    parser.add_argument("--attention-size", type=at_least_one, default=32, metavar="A", help="of SAB; default: 32")
    parser.add_argument("--top-k", type=at_least_one, default=5, metavar="K", help="of SAB; default: 5")
    parser.add_argument("--bptt-steps", type=at_least_one, default=5, metavar="N", help="of SAB; default: 5")
    parser.add_argument("--write-every", type=at_least_one, default=1, metavar="N", help="of SAB; default: 1")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    settings = {
        "attention_size": given.attention_size,
        "top_k": given.top_k,
        "bptt_steps": given.bptt_steps,
        "write_every": given.write_every,
    }
    console = terminal()
    named = ", ".join(f"{name} {value}" for name, value in settings.items())
    counts = " or ".join(map(str, thread_counts()))
    kernel = kernel_in_use("cpu", torch.float32)
    console.print(f"torch {torch.__version__}, CPU, float32, {counts} threads (each side's best)")
    console.print(f"SAB: {named}; kernel: {kernel}")
    rows = (bench_core if what == "core" else bench_scaling)(console, settings, given.rounds)
    if given.json is not None:
        write_json(given.json, {"settings": settings, "kernel": kernel, "rows": rows})
    return 0


def bench_core(console: Console, settings: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """Measures and prints whole sequences; returns the rows as JSON holds them."""
    rows = []
    with console.status("timing …") as status:
        for shape in SHAPES:
            status.update(f"timing (B, H, T) = {shape} …")
            rows += measure(shape, settings, rounds)
    console.print(table_of(rows))
    return [row.as_json() for row in rows]


def bench_scaling(console: Console, settings: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    """Measures and prints what grows with what; returns the figures as JSON holds them."""
    figures = []
    for axis in scaling.AXES:
        with console.status("timing …") as status:
            found = scaling.measure(axis, settings, rounds, report=status.update)
        console.print(scaling_table(axis, found))
        figures += [{"axis": axis.field} | figure.as_json() for figure in found]
    return figures


def table_of(rows: Sequence[Row]) -> Table:
    """The rows as a table, a block for each shape."""
    table = Table(title="Forward + backward, medians (spread)")
    table.add_column("B, H, T", no_wrap=True)
    table.add_column("side", no_wrap=True)
    for heading in ("ms", "spread", "threads", "/ nn.LSTM", "/ plain loop"):
        table.add_column(heading, justify="right", no_wrap=heading == "spread")
    last = None
    for row in rows:
        if last is not None and row.shape != last:
            table.add_section()
        timing = row.timing
        table.add_row(
            "" if row.shape == last else ", ".join(map(str, row.shape)),
            row.side,
            f"{1e3 * timing.seconds:.1f}",
            f"{1e3 * timing.low:.1f} to {1e3 * timing.high:.1f}",
            str(timing.threads),
            f"{row.to_lstm:.2f}",
            "" if row.to_loop is None else f"{row.to_loop:.3f}",
        )
        last = row.shape
    return table
