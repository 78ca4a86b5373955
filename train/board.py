"""Where the scalars and images of a run go: TensorBoard's events, and the trackers that `--track` names."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sab_agents.train.configuration import flat
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.output import write_json

if TYPE_CHECKING:
    from stable_baselines3.common.logger import KVWriter, Logger


@dataclass(frozen=True)
class Tracked:
    """What trackers are told of a run.

    Attributes:
        name: of the run.
        trackers: names in `trackers.TRACKERS`; none tracks nothing.
        folder: where W&B writes its files.
        group: of runs that belong together.
        settings: what the run was started with.
        identity: a file that holds the run's ids, so that a resumed run continues with them and its trackers; None for
            a run that always starts at its beginning.
    """

    name: str
    trackers: Sequence[str] = ()
    folder: Path = Path()
    group: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    identity: Path | None = None


class Board:
    """The scalars and images of one run.

    Args:
        folder: of TensorBoard's events.
        writers: of trackers.
        purge_step: hides events of earlier attempts from this step on.
    """

    def __init__(self, folder: Path, writers: Sequence[KVWriter], purge_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # takes a second to import

        self.events = SummaryWriter(str(folder), purge_step=purge_step)
        self.writers = writers

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Logs named numbers."""
        for name, value in values.items():
            self.events.add_scalar(name, value, step)
        self._write(values, step)

    def image(self, name: str, pixels: Any, step: int) -> None:
        """Shows an image, (height, width, channel)."""
        self.events.add_image(name, pixels, step, dataformats="HWC")
        if self.writers:
            image = importlib.import_module("stable_baselines3.common.logger").Image
            self._write({name: image(pixels, "HWC")}, step)

    def flush(self) -> None:
        """Passes everything to the operating system, so that a kill loses nothing that was logged."""
        self.events.flush()

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        for writer in self.writers:
            writer.write(dict(values), dict.fromkeys(values, ()), step)


@contextmanager
def open_board(folder: Path, tracked: Tracked, purge_step: int = 0) -> Iterator[Board]:
    """Opens the board of a run; an error inside ends its tracked runs as failed.

    Raises:
        UserError: a tracker cannot be used.
    """
    with _writers(tracked) as writers:
        board = Board(folder, writers, purge_step)
        with board.events:
            yield board


@contextmanager
def open_logger(folder: Path, tracked: Tracked) -> Iterator[Logger]:
    """Opens the same as a logger of stable-baselines3.

    Raises:
        UserError: a tracker cannot be used.
    """
    configure = importlib.import_module("stable_baselines3.common.logger").configure
    with _writers(tracked) as writers:
        logger: Logger = configure(str(folder), ["tensorboard"])
        logger.output_formats += writers
        try:
            yield logger
        finally:
            logger.output_formats[0].close()  # trackers must know first whether the run failed


def prepare_trackers(names: Sequence[str], group: str) -> None:
    """Prepares a group for runs that several processes begin at once.

    Raises:
        UserError: a tracker cannot be used.
    """
    for name in names:
        with _reported(name):
            importlib.import_module("sab_agents.tracking").WRITERS[name].prepare(group)


@contextmanager
def _writers(tracked: Tracked) -> Iterator[list[KVWriter]]:
    ids: dict[str, str] = {}
    if tracked.identity is not None and tracked.identity.exists():
        ids = json.loads(tracked.identity.read_text(encoding="utf-8"))
    writers: list[Any] = []
    failed = True
    try:
        for name in dict.fromkeys((*tracked.trackers, *ids)):
            with _reported(name):
                writer = importlib.import_module("sab_agents.tracking").WRITERS[name](
                    tracked.name,
                    folder=tracked.folder,
                    group=tracked.group,
                    settings=flat(tracked.settings),
                    run_id=ids.get(name),
                )
            writers.append(writer)
            ids[name] = writer.run_id
        if writers and tracked.identity is not None:
            write_json(tracked.identity, ids)
        yield writers
        failed = False
    finally:
        for writer in writers:
            writer.close(failed=failed)


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """Raises what a tracker raises inside, whose kinds of errors are its own, as a UserError."""
    try:
        yield
    except Exception as error:
        raise UserError(f"--track {name}: {one_line(error)}") from error
