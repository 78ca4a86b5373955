"""What a run logs while it trains: metrics.jsonl and TensorBoard's events."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

from sab_agents.train.figures.runs import image_of_attention, image_of_credit

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from sab_agents.envs.supervised import SequenceTask
    from sab_agents.train.supervised.checkpoint import Progress
    from sab_agents.train.supervised.maps import Maps


class Journal:
    """Writes what is measured to metrics.jsonl and to TensorBoard.

    Args:
        log: metrics.jsonl, opened to append.
        board: TensorBoard's writer.
        task: has the memoryless score of each metric.
    """

    def __init__(self, log: IO[str], board: SummaryWriter, task: SequenceTask) -> None:
        self.log = log
        self.board = board
        self.task = task

    def write(self, split: str, progress: Progress, values: dict[str, float]) -> None:
        """Logs named values of a split at the current step."""
        line = {"step": progress.step, "split": split, "seconds": round(progress.seconds, 3), **values}
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        for name, value in values.items():
            self.board.add_scalar(f"{split}/{name}", value, progress.step)
            if name in self.task.memoryless:
                memoryless = self.task.memoryless[name]
                self.board.add_scalar(f"{split}/{name} memoryless", memoryless, progress.step)

    def draw(self, maps: Maps, progress: Progress) -> None:
        """Shows the attention and credit maps in TensorBoard."""
        images = {"credit (log scale)": image_of_credit(maps.credit)}
        if maps.attention is not None:
            images["attention"] = image_of_attention(maps.attention)
        for name, image in images.items():
            self.board.add_image(name, image, progress.step, dataformats="HWC")

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
