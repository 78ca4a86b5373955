"""The engine of all suites: config, cells, run, rows; then a table, figures and result.json, which `report` reads.

A suite is one module: a dataclass of settings, a subclass of `Suite`, `suite = ItsSuite` and
`command = partial(suite_command, suite)`; `commands/suite.py` knows it by one line. The engine owns the command line,
`--out`, `--jobs` and `--engine`, the cells' files, what is finished and what was run with other settings, progress,
tables and figures.

The folder of a suite holds `config.yaml`, its settings, `cells/NAME.json` for each finished cell, a trained agent in
`models/NAME.zip`, TensorBoard's events in `tb/NAME`, `result.json`, `table.md` and the figures, as PNG and as SVG. A
finished cell is not repeated, so the same command continues what was interrupted.

result.json:
    format: "sab-agents/suite", version: 1.
    suite: the suite's name.
    settings: all settings, by the names that they have in a config.
    study: what was found, in the form that all suites share (`study.Study`).
    cells: for each finished cell what identifies it and what its file holds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import torch
import yaml

from sab_agents.checks import did_you_mean
from sab_agents.train.board import Board, Tracked, open_board, open_logger, prepare_trackers
from sab_agents.train.configuration import Settings, as_json, flat, help_of, load, plain
from sab_agents.train.errors import TrainingError, UserError
from sab_agents.train.figures.canvas import png_of, svg_of
from sab_agents.train.figures.studies import curves_figure, scores_figure, styles_of
from sab_agents.train.output import lines, make_folder, write_atomically
from sab_agents.train.progress import Figures, Progress
from sab_agents.train.suites.cluster import Cluster, check_ray, run_on
from sab_agents.train.suites.page import markdown_of
from sab_agents.train.suites.study import Study, blocks_of
from sab_agents.train.trackers import HELP, check_trackers, split_track

if TYPE_CHECKING:
    from stable_baselines3.common.logger import Logger

FORMAT, VERSION = "sab-agents/suite", 1
ENGINES = ("processes", "ray")
OPTIONS = {
    "--out": "the suite's folder; required",
    "--jobs": "cells that are run at a time, each in a process; 1, the default, runs in this process, 0 runs none",
    "--engine": "processes, the default, on this machine; ray, on a Ray cluster, as many at a time as it has CPUs",
    "--address": "HOST:PORT of the Ray cluster's head; default: RAY_ADDRESS, or a cluster that runs on this machine, "
    "or else one that is started for this command",
    "--track": f"{HELP}, each cell as a run of a group",
}
Result = Mapping[str, Any]
Shown = Callable[[float, str, Figures | None], None]
"""Shows how far a chain is, from 0 to 1, its state in a few words, and what else is to be seen of it."""


def unseen(done: float, note: str, figures: Figures | None) -> None:
    """Shows nothing, as nobody sees a chain that runs in another process."""


class Cell(Protocol):
    """The smallest part of a suite that is run and kept: a NamedTuple of what identifies it."""

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""

    def _asdict(self) -> dict[str, Any]: ...


CellT = TypeVar("CellT", bound=Cell)
ConfigT = TypeVar("ConfigT", bound=Settings)


@dataclass(frozen=True)
class Work(Generic[CellT]):
    """A chain to run, and where.

    Attributes:
        chain: its cells.
        finished: the results of those that are finished already.
        out: the suite's folder.
        track: trackers that show the cells, each as a run.
        group: of these runs.
        progress: shows how far the chain is; to be called often, as it looks at the clock itself.
    """

    chain: tuple[CellT, ...]
    finished: Mapping[CellT, Result]
    out: Path
    track: tuple[str, ...] = ()
    group: str | None = None
    progress: Shown = unseen

    def picture(self, cell: Cell) -> Path:
        """Returns the file of a cell's picture."""
        return self.out / "cells" / f"{cell.file}.png"

    def model(self, cell: Cell) -> Path:
        """Returns the file of what a cell trained, in a folder that is there."""
        folder = self.out / "models"
        folder.mkdir(exist_ok=True)
        return folder / f"{cell.file}.zip"

    def board(self, cell: Cell, settings: Mapping[str, Any]) -> AbstractContextManager[Board]:
        """Opens the board of a cell, which has these settings."""
        return open_board(self.out / "tb" / cell.file, self._tracked(cell, settings))

    def logger(self, cell: Cell, settings: Mapping[str, Any]) -> AbstractContextManager[Logger]:
        """Opens the same as a logger of stable-baselines3."""
        return open_logger(self.out / "tb" / cell.file, self._tracked(cell, settings))

    def _tracked(self, cell: Cell, settings: Mapping[str, Any]) -> Tracked:
        return Tracked(cell.file, self.track, self.out, self.group, settings)


class Suite(ABC, Generic[ConfigT, CellT]):
    """An experiment; subclasses declare its settings, its cells, how one is run, and what its rows are.

    Args:
        config: its settings.
    """

    name: ClassVar[str]
    """In result.json, and under `suite` in a config."""
    summary: ClassVar[str]
    """One sentence for the command's help."""
    config_class: ClassVar[type[Settings]]

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @abstractmethod
    def chains(self) -> list[tuple[CellT, ...]]:
        """Returns all cells. Those of one chain are run in order by one process, because each needs those before."""

    @abstractmethod
    def cell_settings(self, cell: CellT) -> dict[str, Any]:
        """Returns what decides a cell's numbers."""

    def check(self, chains: Sequence[tuple[CellT, ...]]) -> None:
        """Raises UserError if a setting of these chains does not fit; called before any cell is run."""

    def is_over(self, results: Sequence[Result | None]) -> bool:
        """Returns whether a chain with these results, None for cells without one, has nothing left to run."""
        return None not in results

    @abstractmethod
    def run(self, work: Work[CellT]) -> Iterator[tuple[CellT, dict[str, Any]]]:
        """Runs the cells of a chain.

        Yields:
            Each cell that was run, with its result as JSON holds it.

        Raises:
            UserError: a setting does not fit.
            TrainingError: this chain cannot continue; others can.
        """

    @abstractmethod
    def line(self, cell: CellT, result: Result) -> str:
        """Returns the outcome of a cell on one line."""

    @abstractmethod
    def study(self, results: Mapping[CellT, Result]) -> Study:
        """Returns what was found, from the results of the finished cells in the order of `chains`."""


def suite_command(suite: type[Suite[Any, Any]], arguments: Sequence[str]) -> int:
    """Parses the command line of a suite, runs it, and prints its table."""
    usage = "sab-agents suite run CONFIG --out FOLDER [--jobs N] [--key value …]"
    if "-h" in arguments or "--help" in arguments:
        print(f"{help_of(suite.config_class, usage, OPTIONS)}\n{fill(suite.summary, 79)}")
        return 0
    if not arguments or arguments[0].startswith("--"):
        raise UserError(f"suite run needs a config file: {usage}.")
    others, track = split_track(arguments[1:])
    flags, options = _split_options(others)
    if "--out" not in options:
        raise UserError(f"suite run needs a folder: {usage}.")
    jobs, on_ray = _jobs(options), _on_ray(options)
    config = load(suite.config_class, arguments[0], flags)
    cluster = Cluster(options.get("--address"), getattr(config, "threads", None) or 1) if on_ray else None
    run_suite(suite(config), Path(options["--out"]), jobs=jobs, cluster=cluster, track=track)
    return 0


def run_suite(
    suite: Suite[Any, CellT],
    out: Path,
    *,
    jobs: int = 1,
    cluster: Cluster | None = None,
    track: tuple[str, ...] = (),
) -> dict[CellT, dict[str, Any]]:
    """Runs every cell that a folder does not hold yet, and writes what all cells found.

    Args:
        suite: what is run.
        out: the folder.
        jobs: processes; 1 runs in this one, 0 runs none. Not used with a cluster.
        cluster: runs the cells, as many at a time as it has CPUs; None runs them on this machine.
        track: trackers that show each cell as a run, in a group with the folder's name.

    Returns:
        The results of all finished cells.

    Raises:
        UserError: a setting does not fit, the folder holds cells with other settings, or nothing is run and there is
            nothing to write.
        TrainingError: some cells failed; the others are in the table.
    """
    if cluster is not None:
        check_ray()
    check_trackers(track)
    console, chains = lines(), suite.chains()
    finished = {cell: found for chain in chains for cell in chain if (found := _finished(suite, out, cell))}
    missing = [chain for chain in chains if not suite.is_over([finished.get(cell) for cell in chain])]
    left = missing if jobs else ()
    if not (jobs or finished):
        raise UserError(f"{out} holds no finished cell, and --jobs 0 runs none. Choose another folder, or run some.")
    suite.check(left)
    group = out.resolve().name
    if cluster is not None and "mlflow" in track and "MLFLOW_TRACKING_URI" not in os.environ:
        raise UserError(
            "--track mlflow with --engine ray needs a server of MLflow that all nodes reach. Set MLFLOW_TRACKING_URI."
        )
    if left:
        prepare_trackers(track, group)
    make_folder(out / "cells")
    settings = {"suite": suite.name, **as_json(suite.config)}
    write_atomically(out / "config.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
    if len(missing) < len(chains):
        console.print(f"{len(chains) - len(missing)} of {len(chains)} were finished before")
    failures: list[str] = []
    here = cluster is None and jobs <= 1
    with Progress(suite.name, transient=True, quiet=not here) as bar:
        bar.update(0.0, f"0 of {len(left)}")
        begun: set[int] = set()

        def shown(place: int, done: float, note: str, figures: Figures | None) -> None:
            if place not in begun:  # where a chain begins is what an interrupted run of it had done
                begun.add(place)
                bar.before += done / len(left)
            bar.update((place + done) / len(left), f"{place} of {len(left)} · {note}", figures)

        works = [
            Work(
                chain,
                {cell: finished[cell] for cell in chain if cell in finished},
                out,
                track,
                group,
                partial(shown, place) if here else unseen,
            )
            for place, chain in enumerate(left)
        ]
        for number, ran in _run_works(suite, works, cluster if cluster is not None else jobs):
            if isinstance(ran, TrainingError):
                failures.append(str(ran))
            else:
                cell, result = ran
                finished[cell] = result
                console.print(f"[{number}/{len(missing)}] {suite.line(cell, result)}", markup=False)
            if not here:
                bar.update(number / len(left), f"{number} of {len(left)}")
    results = {cell: finished[cell] for chain in chains for cell in chain if cell in finished}
    if results:
        console.print(_write(suite, out, results), markup=False)
    if failures:
        raise TrainingError(f"{len(failures)} of {len(missing)} runs failed; the first says: {failures[0]}")
    return results


def read_study(out: Path) -> tuple[str, Study]:
    """Returns the suite's name and what it found, from the result.json in its folder.

    Raises:
        UserError: there is no result.json, or no suite wrote it.
    """
    path = out / "result.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == FORMAT and content["version"] == VERSION:
            return content["suite"], Study.from_json(content["study"])
    except FileNotFoundError:
        raise UserError(f"{out} holds no result.json. Give the --out folder of a suite.") from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(
        f"{path} was not written by a suite of this version. Give the --out folder of a suite; if an earlier version "
        "wrote it, run the suite's command with that folder again: finished cells are kept."
    )


def _jobs(options: Mapping[str, str]) -> int:
    jobs = options.get("--jobs", "1")
    if not jobs.isdecimal():
        raise UserError(f"--jobs must be a whole number of at least 0, but is '{jobs}'.")
    return int(jobs)


def _on_ray(options: Mapping[str, str]) -> bool:
    """Returns whether cells are run on a Ray cluster.

    Raises:
        UserError: there is no such engine, or it does not use an option.
    """
    engine = options.get("--engine", ENGINES[0])
    if engine not in ENGINES:
        raise UserError(f"--engine must be {' or '.join(ENGINES)}, but is '{engine}'. {did_you_mean(engine, ENGINES)}")
    if engine == "ray" and "--jobs" in options:
        raise UserError("--jobs is not used by --engine ray, which runs as many cells as its CPUs take. Leave it out.")
    if engine != "ray" and "--address" in options:
        raise UserError("--address is of a Ray cluster. Add --engine ray, or leave it out.")
    return engine == "ray"


def _split_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the flags of the config, and the engine's own."""
    flags: list[str] = []
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        flag, equals, value = rest[0].partition("=")
        if flag not in OPTIONS:
            flags.append(rest.pop(0))
            continue
        rest.pop(0)
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{flag} needs a value.")
            value = rest.pop(0)
        options[flag] = value
    return flags, options


def _finished(suite: Suite[Any, CellT], out: Path, cell: CellT) -> dict[str, Any] | None:
    """Returns the result that a file holds of a cell, None if there is no file.

    Raises:
        UserError: the cell was run with other settings.
    """
    path = _file(out, cell)
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    before, now = flat(result["settings"]), flat(plain(suite.cell_settings(cell)))
    for name in {**now, **before}:
        if before.get(name) != now.get(name):
            raise UserError(
                f"{path} was run with {name} = {before.get(name)}, not {now.get(name)}. Choose another --out."
            )
    return result


def _run_works(
    suite: Suite[Any, CellT], works: Sequence[Work[CellT]], where: int | Cluster
) -> Iterator[tuple[int, tuple[CellT, dict[str, Any]] | TrainingError]]:
    """Yields each cell with its result, or the failure of a chain, after the number of chains that ended or run."""
    if isinstance(where, int) and where <= 1:
        for number, work in enumerate(works, start=1):
            try:
                yield from ((number, ran) for ran in _run_chain(suite, work))
            except TrainingError as error:
                yield number, error
        return
    if isinstance(where, Cluster):
        ended: Iterator[list[tuple[CellT, dict[str, Any]]] | TrainingError]
        ended = run_on(where, partial(_ran_in, suite), works, works[0].out) if works else iter(())
    else:
        ended = _in_processes(suite, works, where)
    for number, ran in enumerate(ended, start=1):
        if isinstance(ran, TrainingError):
            yield number, ran
        else:
            yield from ((number, cell) for cell in ran)


def _in_processes(
    suite: Suite[Any, CellT], works: Sequence[Work[CellT]], jobs: int
) -> Iterator[list[tuple[CellT, dict[str, Any]]] | TrainingError]:
    """Yields the cells of each chain with their results, or its failure, as chains end in processes of this machine."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(_ran, suite, work) for work in works]
        try:
            for future in as_completed(futures):
                try:
                    yield future.result()
                except TrainingError as error:
                    yield error
        except KeyboardInterrupt:  # Ctrl-C reaches the workers, too, but a signal sent to this process does not
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt or an error starts no further cells


def _run_chain(suite: Suite[Any, CellT], work: Work[CellT]) -> Iterator[tuple[CellT, dict[str, Any]]]:
    """Runs a chain and writes the file of each cell as soon as it is finished."""
    for cell, result in suite.run(work):
        whole = {"settings": plain(suite.cell_settings(cell)), **result}
        write_atomically(_file(work.out, cell), json.dumps(whole).encode())
        yield cell, whole


def _ran(suite: Suite[Any, CellT], work: Work[CellT]) -> list[tuple[CellT, dict[str, Any]]]:
    return list(_run_chain(suite, work))


def _ran_in(suite: Suite[Any, CellT], work: Work[CellT], folder: Path) -> list[tuple[CellT, dict[str, Any]]]:
    (folder / "cells").mkdir()
    return _ran(suite, replace(work, out=folder))


def _file(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.file}.json"


def _write(suite: Suite[Any, CellT], out: Path, results: Mapping[CellT, Result]) -> str:
    """Writes result.json, table.md and the figures; returns the table and where they are."""
    study = suite.study(results)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "suite": suite.name,
        "settings": as_json(suite.config),
        "study": study.to_json(),
        "cells": [{**cell._asdict(), **result} for cell, result in results.items()],
    }
    write_atomically(out / "result.json", json.dumps(content, indent=1).encode())
    table = markdown_of(blocks_of(study))
    write_atomically(out / "table.md", table.encode())
    figures = {"scores": scores_figure}
    if study.panels:
        figures["curves"] = curves_figure
    for name, draw in figures.items():
        figure = draw(study, styles_of([study]))
        write_atomically(out / f"{name}.png", png_of(figure))
        write_atomically(out / f"{name}.svg", svg_of(figure))
    return f"{table}\n" + ", ".join(str(out / name) for name in ("table.md", *(f"{name}.png" for name in figures)))
