"""The command line of the benchmarks: what is measured, printed as a table and written as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from sab_agents.kernels import kernel_in_use
from sab_agents.train.arguments import Parser, at_least_one
from sab_agents.train.bench.core import SHAPES, Row, measure
from sab_agents.train.bench.envs import command as envs_command
from sab_agents.train.bench.timing import thread_counts
from sab_agents.train.errors import UserError
from sab_agents.train.run_folder import write_atomically


def command(arguments: Sequence[str]) -> int:
    """Runs a benchmark and prints its ratios."""
    if arguments and arguments[0] == "envs":
        return envs_command(arguments[1:])
    parser = Parser("bench", "Times SAB's forward and backward pass against nn.LSTM and against a plain loop.")
    parser.add_argument(
        "what", choices=("core", "envs"), help="core: whole sequences, forward and backward; envs: environments"
    )
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
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a file or a pipe has no width of its own, and narrow columns would fold
    named = ", ".join(f"{name} {value}" for name, value in settings.items())
    counts = " or ".join(map(str, thread_counts()))
    kernel = kernel_in_use("cpu", torch.float32)
    console.print(f"torch {torch.__version__}, CPU, float32, {counts} threads (each side's best)")
    console.print(f"SAB: {named}; kernel: {kernel}")
    rows = []
    with console.status("timing …") as status:
        for shape in SHAPES:
            status.update(f"timing (B, H, T) = {shape} …")
            rows += measure(shape, settings, given.rounds)
    console.print(table_of(rows))
    if given.json is not None:
        text = json.dumps({"settings": settings, "kernel": kernel, "rows": [row.as_json() for row in rows]}, indent=2)
        try:
            write_atomically(given.json, (text + "\n").encode())
        except OSError as error:
            raise UserError(f"{given.json}: cannot be written: {error.strerror}.") from error
    return 0


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
