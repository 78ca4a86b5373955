"""`sab-agents bench core` and `bench scaling`: whole sequences through SAB, nn.LSTM and a plain loop."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from sab_agents.core.recipes import DEFAULT, RECIPES
from sab_agents.kernels import kernel_in_use
from sab_agents.train.bench import growth, scaling
from sab_agents.train.bench.core import DTYPES, GPU_SHAPES, SHAPES, Row, measure
from sab_agents.train.bench.device import add_device, name_of
from sab_agents.train.bench.timing import thread_counts
from sab_agents.train.commands.arguments import Parser, at_least_one
from sab_agents.train.device import device_of
from sab_agents.train.output import terminal, write_json
from sab_agents.train.progress import Progress


def core_command(arguments: Sequence[str]) -> int:
    """Times whole sequences."""
    return _command("core", arguments)


def scaling_command(arguments: Sequence[str]) -> int:
    """Times how cost grows."""
    return _command("scaling", arguments)


def _command(what: Literal["core", "scaling"], arguments: Sequence[str]) -> int:
    """Runs one of the two benchmarks and prints its ratios."""
    parser = Parser(f"bench {what}", "Times SAB against nn.LSTM and against a plain loop.")
    parser.add_argument("--rounds", type=at_least_one, default=5, help="timed rounds of each side; default: 5")
    parser.add_argument("--attention-size", type=at_least_one, default=32, metavar="A", help="of SAB; default: 32")
    parser.add_argument("--top-k", type=at_least_one, default=5, metavar="K", help="of SAB; default: 5")
    parser.add_argument("--bptt-steps", type=at_least_one, default=5, metavar="N", help="of SAB; default: 5")
    parser.add_argument("--write-every", type=at_least_one, default=1, metavar="N", help="of SAB; default: 1")
    parser.add_argument("--recipe", choices=tuple(RECIPES), default=DEFAULT, help=f"of SAB; default: {DEFAULT}")
    if what == "core":
        add_device(parser)
        parser.add_argument("--dtype", choices=tuple(DTYPES), default="float32", help="default: float32")
        parser.add_argument(
            "--no-loops", action="store_true", help="leave out the plain loop and plain torch, slow sides"
        )
    else:
        parser.set_defaults(device="cpu", dtype="float32")
        parser.add_argument("--plot", type=Path, metavar="FILE", help="draw how the cost of a step grows, as PNG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    device_of(given.device)
    settings = {
        "attention_size": given.attention_size,
        "top_k": given.top_k,
        "bptt_steps": given.bptt_steps,
        "write_every": given.write_every,
        "recipe": given.recipe,
    }
    console = terminal()
    named = ", ".join(f"{name} {value}" for name, value in settings.items())
    kernel = kernel_in_use(given.device, DTYPES[given.dtype])
    threads = f", {' or '.join(map(str, thread_counts()))} threads (each side's best)" if given.device == "cpu" else ""
    console.print(f"torch {torch.__version__}, {name_of(given.device)}, {given.dtype}{threads}")
    console.print(f"SAB: {named}; kernel: {kernel}")
    if what == "core":
        rows = bench_core(console, settings, given.rounds, given.device, given.dtype, slow=not given.no_loops)
    else:
        rows = bench_scaling(console, settings, given.rounds, given.plot)
    if given.json is not None:
        about = {"settings": settings, "device": given.device, "dtype": given.dtype, "kernel": kernel}
        write_json(given.json, {**about, "rows": rows})
    return 0


def bench_core(
    console: Console, settings: dict[str, Any], rounds: int, device: str, dtype: str, *, slow: bool
) -> list[dict[str, Any]]:
    """Measures and prints whole sequences; returns the rows as JSON holds them."""
    rows = []
    shapes = SHAPES if device == "cpu" else GPU_SHAPES
    with Progress("timing", console, transient=True) as bar:
        for number, shape in enumerate(shapes):
            bar.update(number / len(shapes), f"(B, H, T) = {shape}")
            rows += measure(shape, settings, rounds, device, dtype, slow=slow)
    console.print(core_table(rows))
    return [row.as_json() for row in rows]


def bench_scaling(
    console: Console, settings: dict[str, Any], rounds: int, picture: Path | None
) -> list[dict[str, Any]]:
    """Measures and prints the scaling along each axis, and plots it; returns the figures as JSON holds them."""
    courses = []
    for axis in scaling.AXES:
        with console.status("timing …") as status:
            found = scaling.measure(axis, settings, rounds, report=status.update)
        console.print(scaling.scaling_table(axis, found))
        courses.append((axis, found))
    console.print(growth.growth_table([each for axis, found in courses for each in growth.growths(axis, found)]))
    if picture is not None:
        growth.plot(courses, picture)
    return [{"axis": axis.field} | figure.as_json() for axis, found in courses for figure in found]


def core_table(rows: Sequence[Row]) -> Table:
    """Returns the rows as a table, a block for each shape."""
    table = Table(title="Forward + backward, medians (spread)")
    table.add_column("B, H, T", no_wrap=True)
    table.add_column("side", no_wrap=True)
    for heading in ("ms", "spread", "threads", "/ nn.LSTM, pairs", "/ plain loop"):
        table.add_column(heading, justify="right", no_wrap=heading in ("spread", "/ nn.LSTM, pairs"))
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
            f"{statistics.median(row.to_lstm):.2f} ({min(row.to_lstm):.2f} to {max(row.to_lstm):.2f})",
            "" if row.to_loop is None else f"{row.to_loop:.3f}",
        )
        last = row.shape
    return table
