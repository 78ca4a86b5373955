"""The suite `compare`: several cores with several seeds on one task.

Each run has its own folder, as `sab-agents train` writes it, and continues after a kill.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from rich.console import Console

from sab_agents.train.run_folder import RunFolder
from sab_agents.train.suites.engine import Result, Suite, Work, suite_command
from sab_agents.train.suites.study import Column, Panel, Row, Study
from sab_agents.train.supervised.config import SHARED, WHERE_KEYS, TrainConfig
from sab_agents.train.supervised.loop import train
from sab_agents.train.supervised.metrics import UNITS
from sab_agents.train.supervised.model import model_of, task_of

LOG = "log.txt"
KEPT = ("parameters", "metrics", "steps", "seconds", "threads")
"""What a suite keeps of a run's result."""


class CompareCell(NamedTuple):
    """One core with one seed."""

    core: str
    seed: int

    @property
    def file(self) -> str:
        """The name of its file, without suffix, and of its run work."""
        return f"{self.core}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainConfig):
    """Settings of a comparison: those of `sab-agents train`, of which it sets core, seed, out and resume itself.

    Settings in `core_settings` without the name of a core apply to every core that has them; at least one must.

    Attributes:
        cores: names of the cores.
        seeds: of the data and of the initial parameters.
    """

    no_flags: ClassVar[frozenset[str]] = frozenset({"core", "seed", "out", "resume"})
    unnamed_core: ClassVar[str | None] = SHARED

    cores: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        unnamed = {name for name, value in self.core_settings.items() if not isinstance(value, Mapping)}
        super().__post_init__()
        if not (self.cores and self.seeds):
            raise ValueError("compare: cores and seeds must name at least one each, but one of them is empty.")
        taken = {setting for core in self.cores for setting in self.plan(core, 0).settings_of_core()}
        for name in unnamed - taken:
            raise ValueError(f"core_settings: none of {', '.join(self.cores)} has '{name}'. Leave it out.")

    def plan(self, core: str, seed: int, out: Path | None = None) -> TrainConfig:
        """Returns the settings of one run."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(TrainConfig)}
        return TrainConfig(**{**shared, "core": core, "seed": seed, "out": out and str(out), "resume": True})


class Compare(Suite[CompareConfig, CompareCell]):
    """Several cores with several seeds on one task; the score is the task's first metric on test data."""

    name = "compare"
    summary = (
        "Trains several cores with several seeds. Settings without the name of a core apply to all that have them."
    )
    config_class = CompareConfig

    def chains(self) -> list[tuple[CompareCell, ...]]:
        """Returns each core with each seed."""
        return [(CompareCell(core, seed),) for core in self.config.cores for seed in self.config.seeds]

    def cell_settings(self, cell: CompareCell) -> dict[str, Any]:
        """Returns the run's settings but for where it is computed."""
        settings = self.config.plan(*cell).settings()
        return {name: value for name, value in settings.items() if name not in WHERE_KEYS}

    def check(self, chains: Sequence[tuple[CompareCell, ...]]) -> None:
        """Builds the task and each core once."""
        plans = {cell.core: self.config.plan(*cell) for chain in chains for cell in chain}
        for plan in plans.values():
            model_of(plan, task_of(plan))

    def run(self, work: Work[CompareCell]) -> Iterator[tuple[CompareCell, dict[str, Any]]]:
        """Trains one core with one seed, or continues its run; its progress goes to log.txt in its work."""
        (cell,) = work.chain
        plan = self.config.plan(*cell, work.out / cell.file)
        yield cell, trained(plan, work, f"{cell.core}, seed {cell.seed}")

    def line(self, cell: CompareCell, result: Result) -> str:
        """Returns the run's scores on test data."""
        scores = ", ".join(f"{name} {values['test']:.4g}" for name, values in result["metrics"].items())
        return f"{cell.core}, seed {cell.seed}: {scores} after {result['steps']:,} updates, {result['seconds']:,.0f} s"

    def study(self, results: Mapping[CompareCell, Result]) -> Study:
        """Returns the scores of every metric, and validation curves by updates and by training time."""
        metrics = next(iter(results.values()))["metrics"]
        first = next(iter(metrics))
        scores = [(name, split) for split in ("test", "validation") for name in metrics]
        rows = [
            Row(
                cell.core,
                "",
                cell.seed,
                {
                    **{_heading(*score): result["metrics"][score[0]][score[1]] for score in scores},
                    **{"parameters": result["parameters"], "updates": result["steps"], "seconds": result["seconds"]},
                },
                curves={
                    axis: [(line[axis], line[first]) for line in result["validation"]] for axis in ("step", "seconds")
                },
            )
            for cell, result in results.items()
        ]
        memoryless = {_heading(*score): metrics[score[0]]["memoryless"] for score in scores}
        what = f"validation {first.replace('_', ' ')} ({UNITS[first]})"
        counts = (Column("updates", "{:,.0f}", spread=True), Column("seconds", "{:,.0f}", spread=True))
        return Study(
            title=self.config.task,
            values=("",),
            learners={core: self.config.plan(core, 0).settings_of_core() for core in self.config.cores},
            columns=(
                *(Column(_heading(*score), "{:.4f}", spread=True) for score in scores),
                Column("parameters", "{:,.0f}"),
                *counts,
            ),
            rows=(*rows, Row("memoryless", "", None, memoryless)),
            note="Seconds are those of the updates; evaluation is not counted.",
            shared={name: value for name, value in self.config.task_settings().items() if value is not None},
            panels=(Panel("step", "updates", what), Panel("seconds", "training time (s)", what)),
            known={"": {"memoryless": metrics[first]["memoryless"]}},
            baselines=("memoryless",),
        )


def trained(plan: TrainConfig, work: Work[Any], title: str) -> dict[str, Any]:
    """Trains a cell's model, or continues its run; its progress goes to log.txt in the run folder.

    Returns:
        What a suite keeps of the run's result, and under "validation" its scores on validation data.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    with (plan.folder / LOG).open("a", encoding="utf-8") as log:
        console = Console(file=log, soft_wrap=True, highlight=False)

        def watch(done: float, note: str) -> None:
            work.progress(done, f"{note} · {title}", None)

        result = train(plan, console, track=work.track, group=work.group, watch=watch)
    held_out = [line for line in RunFolder(plan.folder).read_metrics() if line["split"] == "validation"]
    return {**{name: result[name] for name in KEPT}, "validation": held_out}


def _heading(metric: str, split: str) -> str:
    return f"{metric.replace('_', ' ')}, {split}"


suite = Compare
command = partial(suite_command, suite)
