"""The progress of a training run: a bar in a terminal, and a line at each evaluation."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sab_agents.train.output import lines

if TYPE_CHECKING:
    from rich.console import Console

    from sab_agents.train.supervised.config import TrainConfig


class ProgressBar:
    """Shows a run's progress, with its rate and the remaining time.

    Args:
        config: of the run.
        step: updates done before.
        seconds: training time spent before.
        console: where to print; None is standard output.
    """

    def __init__(self, config: TrainConfig, step: int, seconds: float, console: Console | None = None) -> None:
        self.config = config
        self.console = console if console is not None else lines()
        self.label = f"{config.task} · {config.core} · seed {config.seed}"
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task(self.label, total=1.0, note="")
        self.bar.update(self.task, completed=self._fraction(step, seconds))

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, step: int, seconds: float, loss: float, rate: float) -> None:
        """Moves the bar: `step` updates done in `seconds`, the last loss, and `rate` updates per second."""
        note = f"step {step}/{self.config.steps} · {rate:.1f} steps/s · loss {loss:.4g}"
        self.bar.update(self.task, completed=self._fraction(step, seconds), note=note)

    def evaluated(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Prints the scores on validation data."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.console.print(f"{self.label} · step {step}/{self.config.steps} · {seconds:.0f} s · validation {scores}")

    def _fraction(self, step: int, seconds: float) -> float:
        by_time = 0.0 if self.config.minutes is None else seconds / (60 * self.config.minutes)
        return min(max(step / self.config.steps, by_time), 1.0)
