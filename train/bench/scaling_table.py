"""The figures of `sab-agents bench scaling` as tables: one for each dimension that grows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from sab_agents.train.bench.scaling import Axis, Figure
from sab_agents.train.bench.scaling_work import CHUNK, PLAIN_LOOPS

NAMES = {"steps": "T", "batch": "B", "hidden_size": "H", "slots": "slots"}


def scaling_table(axis: Axis, figures: Sequence[Figure]) -> Table:
    """The figures of one axis: a block for each pass and side; the plain loop appears as a ratio alone."""
    grows = NAMES[axis.field]
    others = (f"{name} = {getattr(axis.sizes[0], field):,}" for field, name in NAMES.items() if field != axis.field)
    table = Table(
        title=f"Growing {grows}: {', '.join(others)}; a step of all rows, medians (spread)",
        caption=f"in chunks: calls of at most {CHUNK:,} steps, the state carried; "
        "MB: peak memory of inference beyond inputs, weights and outputs",
    )
    table.add_column("pass", no_wrap=True)
    table.add_column("side", no_wrap=True)
    for heading in (grows, "µs a step", "spread", "threads", f"/ {axis.base:,}", "/ nn.LSTM", "/ plain loop", "MB"):
        table.add_column(heading, justify="right", no_wrap=heading in (grows, "spread", f"/ {axis.base:,}"))
    last = None
    for figure in figures:
        block = figure.what, figure.side
        if figure.side in PLAIN_LOOPS:
            continue
        if last is not None and block != last:
            table.add_section()
        timing = figure.timing
        table.add_row(
            *(("", "") if block == last else (figure.what, figure.side)),
            f"{axis.value(figure.size):,}",
            f"{1e6 * timing.seconds:.2f}",
            f"{1e6 * timing.low:.2f} to {1e6 * timing.high:.2f}",
            str(timing.threads),
            f"{figure.to_base:.2f}",
            f"{figure.to_lstm:.2f}",
            "" if figure.to_loop is None else f"{figure.to_loop:.3f}",
            "" if figure.extra_bytes is None else f"{figure.extra_bytes / 1e6:.1f}",
        )
        last = block
    return table
