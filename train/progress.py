"""Progress of whatever lasts: a bar with the remaining time in a terminal, now and then a line anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from sab_agents.train.output import lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

QUIET, EVERY = 3.0, 15.0
"""Seconds before the first line where the output is no terminal, and between two of them."""
DRAWN = 0.1  # seconds between two drawings of a bar
BAR = 16  # columns
FIGURES = 1.0  # seconds between two computations of the lines below a bar

Figures = Callable[[], Sequence[str]]
"""Computes what is shown below a bar, or after a line."""


class _Bars(RichProgress):
    """Bars, and lines below them."""

    below: Sequence[str] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield from (Text(line, no_wrap=True, overflow="ellipsis") for line in self.below)


class Progress:
    """Shows how far something is and how long the rest takes; a context manager.

    Args:
        label: what is done; what a narrow terminal cuts off first.
        console: where to print; None is standard output.
        done: the fraction that was done before, which says nothing about the speed.
        transient: the bar disappears at the end.
        quiet: no lines where the output is no terminal, for what prints lines of its own.
    """

    def __init__(
        self,
        label: str,
        console: Console | None = None,
        *,
        done: float = 0.0,
        transient: bool = False,
        quiet: bool = False,
    ) -> None:
        self.label, self.before, self.quiet = label, done, quiet
        self.console = console if console is not None else lines()
        self.started = time.monotonic()
        self.printed = self.started + QUIET - EVERY
        self.computed = -float("inf")
        self.bar = _Bars(
            BarColumn(BAR),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=transient,
            auto_refresh=False,  # a thread that draws would take time from what is measured
        )
        self.task = self.bar.add_task(label, total=1.0)
        self.bar.update(self.task, completed=done)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, done: float, note: str = "", figures: Figures | None = None) -> None:
        """Moves to a fraction of the whole.

        Args:
            done: from 0 to 1.
            note: the state, in a few words.
            figures: what else is to be seen: lines below the bar, or the rest of a line. Called when they are shown, at
                most once a second.
        """
        now = time.monotonic()
        if self.bar.disable and (self.quiet or now - self.printed < EVERY or done >= 1):
            return
        if not self.bar.disable and now - self.printed < DRAWN and done < 1:
            return
        self.printed = now
        text = " · ".join(part for part in (f"{done:4.0%}", self._left(done, now), note, self.label) if part)
        if self.bar.disable:
            shown = [" ".join(line.split()) for line in figures()] if figures else ()
            self.console.print(" · ".join((text.strip(), *shown)), markup=False)
        else:
            if figures is None:
                self.bar.below = ()
            elif now - self.computed >= FIGURES:
                self.computed, self.bar.below = now, figures()
            self.bar.update(self.task, completed=done, description=text, refresh=True)

    def _left(self, done: float, now: float) -> str:
        """Returns the remaining time at the speed so far; nothing while that cannot be told."""
        gained = done - self.before
        if gained <= 0 or done >= 1:
            return ""
        return f"{duration((now - self.started) * (1 - done) / gained)} left"


def duration(seconds: float) -> str:
    """Returns a time as 5 s, 3:20 min or 2:05 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
