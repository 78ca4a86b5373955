"""What a run reports while it trains: metrics.jsonl, TensorBoard's events, and its progress in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from sab_agents.train.figures.runs import image_of_attention, image_of_credit
from sab_agents.train.progress import Progress as Display

if TYPE_CHECKING:
    from rich.console import Console

    from sab_agents.envs.supervised import SequenceTask
    from sab_agents.train.board import Board
    from sab_agents.train.supervised.checkpoint import Progress
    from sab_agents.train.supervised.config import TrainConfig
    from sab_agents.train.supervised.maps import Maps


class Journal:
    """Writes what is measured to metrics.jsonl and to the board.

    Args:
        log: metrics.jsonl, opened to append.
        board: TensorBoard and the trackers.
        task: has the memoryless score of each metric.
    """

    def __init__(self, log: IO[str], board: Board, task: SequenceTask) -> None:
        self.log = log
        self.board = board
        self.task = task

    def write(self, split: str, progress: Progress, values: dict[str, float]) -> None:
        """Logs named values of a split at the current step."""
        line = {"step": progress.step, "split": split, "seconds": round(progress.seconds, 3), **values}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        memoryless = {
            f"{name} memoryless": self.task.memoryless[name] for name in values if name in self.task.memoryless
        }
        self.board.scalars(
            {f"{split}/{name}": value for name, value in {**values, **memoryless}.items()}, progress.step
        )

    def draw(self, maps: Maps, progress: Progress) -> None:
        """Shows the attention and credit maps on the board."""
        images = {"credit (log scale)": image_of_credit(maps.credit)}
        if maps.attention is not None:
            images["attention"] = image_of_attention(maps.attention)
        for name, image in images.items():
            self.board.image(name, image, progress.step)

    def flush(self) -> None:
        """Passes everything to the operating system, so that a kill loses nothing that was logged."""
        self.log.flush()
        self.board.flush()


class Rate:
    """Updates per second since the last measurement."""

    def __init__(self, step: int, seconds: float) -> None:
        self.step = step
        self.seconds = seconds
        self.last = 0.0

    def measure(self, progress: Progress) -> float:
        """Returns the rate since the last call."""
        self.last = round((progress.step - self.step) / max(progress.seconds - self.seconds, 1e-9), 3)
        self.step, self.seconds = progress.step, progress.seconds
        return self.last


class ProgressBar(Display):
    """Shows a run's progress, with its rate and the remaining time.

    Args:
        config: of the run.
        step: updates done before.
        seconds: training time spent before.
        console: where to print; None is standard output.
        watch: called with the fraction that is done, and the state in a few words.
    """

    def __init__(
        self,
        config: TrainConfig,
        step: int,
        seconds: float,
        console: Console | None = None,
        watch: Callable[[float, str], None] = lambda *_: None,
    ) -> None:
        self.config, self.watch = config, watch
        label = f"{config.task} · {config.core} · seed {config.seed}"
        super().__init__(label, console, done=self._fraction(step, seconds), quiet=True)

    def updated(self, step: int, seconds: float, loss: float, rate: float) -> None:
        """Moves the bar: `step` updates done in `seconds`, the last loss, and `rate` updates per second."""
        note = f"step {step}/{self.config.steps} · loss {loss:.4g} · {rate:.1f} steps/s"
        self.update(self._fraction(step, seconds), note)
        self.watch(self._fraction(step, seconds), note)

    def evaluated(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Prints the scores on validation data."""
        scores = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.console.print(f"{self.label} · step {step}/{self.config.steps} · {seconds:.0f} s · validation {scores}")

    def _fraction(self, step: int, seconds: float) -> float:
        by_time = 0.0 if self.config.minutes is None else seconds / (60 * self.config.minutes)
        return min(max(step / self.config.steps, by_time), 1.0)
