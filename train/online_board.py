"""What TensorBoard shows of a learner of a stream: how much of it is right, and who credited whom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sab_agents.online import OnlineLearner
from sab_agents.online.credit_ledger import Entry
from sab_agents.train.plots import image_of, ledger_figure

EVERY = 400
"""Answers between two images."""


class OnlineBoard:
    """Writes TensorBoard's events of one learner; use it in a `with` block.

    Args:
        folder: of the events; those of an earlier attempt are hidden.
        title: of the images.
        learner: whose ledger is drawn.
        planted: the distance of the step that matters.
    """

    def __init__(self, folder: Path, title: str, learner: OnlineLearner, planted: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # takes a second to import

        self.writer = SummaryWriter(str(folder), purge_step=0)
        self.title, self.learner, self.planted = title, learner, planted
        self.drawn = self.answers = 0

    def __enter__(self) -> OnlineBoard:
        return self

    def __exit__(self, *_: object) -> None:
        if self.answers > self.drawn:
            self.draw()
        self.writer.close()

    def watch(self, accuracy: float, answers: int) -> None:
        """Logs the accuracy of the latest answers after so many of them, and draws the ledger now and then."""
        self.answers = answers
        self.writer.add_scalar("accuracy of the latest answers", accuracy, answers)
        if answers - self.drawn >= EVERY:
            self.draw()

    def draw(self) -> None:
        """Shows who credited whom, unless nobody did."""
        entries: Sequence[Entry] = self.learner.credit_report().entries
        self.drawn = self.answers
        if entries:
            image = image_of(ledger_figure(self.title, entries, self.planted))
            self.writer.add_image("who credited whom", image, self.answers, dataformats="HWC")
