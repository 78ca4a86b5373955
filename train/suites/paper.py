"""The suite `paper`: the experiments of a paper, each with several learners and seeds, in one table.

Each run has its own folder, as `sab-agents train` writes it, and continues after a kill.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sab_agents.checks import at_least, did_you_mean
from sab_agents.train.configuration import Settings, build, choices, keys_of, read_yaml
from sab_agents.train.shipped import config_path
from sab_agents.train.suites.compare import trained
from sab_agents.train.suites.engine import Result, Suite, Work, suite_command
from sab_agents.train.suites.study import Column, Panel, Row, Study
from sab_agents.train.supervised.config import SHARED, WHERE_KEYS, TrainConfig
from sab_agents.train.supervised.evaluate import evaluate_run
from sab_agents.train.supervised.model import model_of, task_of

OWN = ("config", "test_lengths", "published")
REMOVED = "error removed"
TOPS = {"accuracy": 1.0}
"""The score without any error; 0 for every other metric."""


@dataclass(frozen=True, kw_only=True)
class PaperConfig(Settings):
    """Settings of a reproduction; a cell is one experiment with one learner and one seed.

    Attributes:
        experiments: for each name its settings: `config`, that of `sab-agents train` that it is made of; settings that
            replace those of it; `test_lengths`, at which the trained model is scored, too; and `published`, the test
            scores that others published, by who did.
        learners: for each name its `core`, and settings of the core that replace the experiment's.
        seeds: of the data and of the initial parameters.
        steps: updates of every run; null leaves them to the experiment.
        threads: CPU threads of a run.
        device: a torch device, such as cpu or cuda.
    """

    experiments: Mapping[str, Mapping[str, Any]] = field(metadata=choices("experiment"))
    learners: Mapping[str, Mapping[str, Any]] = field(metadata=choices("learner"))
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int | None = None
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("experiments", "learners", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"paper: {name} must have at least one entry, but is empty.")
        at_least("paper", "threads", self.threads, 1)
        for name, learner in self.learners.items():
            if "core" not in learner:
                raise ValueError(f"paper: learner '{name}' must have a core, but has {sorted(learner)}.")
        for name, experiment in self.experiments.items():
            if "config" not in experiment:
                raise ValueError(f"paper: experiment '{name}' must have a config, but has {sorted(experiment)}.")
            for key in experiment:
                if key not in (*OWN, *keys_of(TrainConfig)):
                    known = (*OWN, *keys_of(TrainConfig))
                    raise ValueError(f"paper: experiment '{name}': unknown key '{key}'. {did_you_mean(key, known)}")

    def plan(self, experiment: str, learner: str, seed: int, out: Path | None = None) -> TrainConfig:
        """Returns the settings of one run."""
        changes = self.experiments[experiment]
        own = dict(self.learners[learner])
        core = own.pop("core")
        values = {
            **read_yaml(config_path(str(changes["config"]))),
            **{name: value for name, value in changes.items() if name not in OWN},
            **{"core": core, "seed": seed, "threads": self.threads, "device": self.device},
        }
        if self.steps is not None:
            values["steps"] = self.steps
        shared = values.get("core_settings", {}).get(SHARED, {})
        values["core_settings"] = {SHARED: shared, core: own}
        values |= {} if out is None else {"out": str(out), "resume": True}
        return build(TrainConfig, values)

    def test_lengths(self, experiment: str) -> Sequence[int]:
        """Returns the lengths at which the trained model is scored, too."""
        return tuple(self.experiments[experiment].get("test_lengths", ()))

    def published(self, experiment: str) -> Mapping[str, float]:
        """Returns the test scores that others published, by who did."""
        return dict(self.experiments[experiment].get("published", {}))


class PaperCell(NamedTuple):
    """One experiment with one learner and one seed."""

    experiment: str
    learner: str
    seed: int

    @property
    def file(self) -> str:
        """The name of its file, without suffix, and of its run folder."""
        return f"{self.experiment}-{self.learner}-{self.seed}".replace(" ", "_")


class Paper(Suite[PaperConfig, PaperCell]):
    """Experiments on different tasks; the score is the fraction of the memoryless learner's error that was removed."""

    name = "paper"
    summary = "Trains learners on each experiment of a paper."
    config_class = PaperConfig

    def chains(self) -> list[tuple[PaperCell, ...]]:
        """Returns each experiment with each learner and each seed."""
        config = self.config
        return [
            (PaperCell(experiment, learner, seed),)
            for experiment in config.experiments
            for seed in config.seeds
            for learner in config.learners
        ]

    def cell_settings(self, cell: PaperCell) -> dict[str, Any]:
        """Returns the run's settings but for where it is computed, and the lengths of its tests."""
        settings = self.config.plan(*cell).settings()
        kept = {name: value for name, value in settings.items() if name not in WHERE_KEYS}
        return {**kept, "test_lengths": list(self.config.test_lengths(cell.experiment))}

    def check(self, chains: Sequence[tuple[PaperCell, ...]]) -> None:
        """Builds each task with each core once."""
        for cell in {cell[:2]: cell for chain in chains for cell in chain}.values():
            plan = self.config.plan(*cell)
            model_of(plan, task_of(plan))

    def run(self, work: Work[PaperCell]) -> Iterator[tuple[PaperCell, dict[str, Any]]]:
        """Trains one learner on one task with one seed, or continues its run, and scores it at other lengths."""
        (cell,) = work.chain
        folder = work.out / cell.file
        title = f"{cell.experiment}, {cell.learner}, seed {cell.seed}"
        result = trained(self.config.plan(*cell, folder), work, title)
        lengths = self.config.test_lengths(cell.experiment)
        rows = evaluate_run(folder, lengths=lengths) if lengths else []
        metric = next(iter(result["metrics"]))
        tests = {str(row["length"]): row["metrics"][metric]["value"] for row in rows}
        yield cell, {**result, "tests": tests}

    def line(self, cell: PaperCell, result: Result) -> str:
        """Returns the run's score on test data."""
        metric, scores = next(iter(result["metrics"].items()))
        where = f"{cell.experiment}, {cell.learner}, seed {cell.seed}"
        return f"{where}: {metric} {scores['test']:.4g} after {result['steps']:,} updates, {result['seconds']:,.0f} s"

    def study(self, results: Mapping[PaperCell, Result]) -> Study:
        """Returns the scores of every experiment's first metric, with those that were published."""
        config = self.config
        experiments = list(dict.fromkeys(cell.experiment for cell in results))
        first = {cell.experiment: next(iter(result["metrics"].items())) for cell, result in results.items()}
        rows = [_row(cell, result) for cell, result in results.items()]
        for name in experiments:
            metric, scores = first[name]
            for who, score in {**config.published(name), "memoryless": scores["memoryless"]}.items():
                rows.append(Row(who, name, None, _numbers(metric, score, scores["memoryless"])))
        return Study(
            title="The experiments of a paper",
            values=tuple(experiments),
            size="experiment",
            learners={name: dict(learner) for name, learner in config.learners.items()},
            columns=(
                Column(REMOVED, "{:.1%}", spread=True),
                Column("metric"),
                Column("test", "{:.4g}", spread=True),
                Column("validation", "{:.4g}", spread=True),
                Column("parameters", "{:,.0f}"),
                Column("updates", "{:,.0f}"),
                Column("minutes", "{:.1f}"),
            ),
            rows=tuple(rows),
            note="Error removed: 0 is a memoryless learner's score, 100 % is one without any error. Minutes are those "
            "of the updates; evaluation is not counted.",
            panels=(Panel("validation", "updates", "validation score", known=False),),
            baselines=(*dict.fromkeys(who for name in experiments for who in config.published(name)), "memoryless"),
        )


def _row(cell: PaperCell, result: Result) -> Row:
    metric, scores = next(iter(result["metrics"].items()))
    numbers = {
        **_numbers(metric, scores["test"], scores["memoryless"]),
        **{"validation": scores["validation"], "parameters": result["parameters"]},
        **{"updates": result["steps"], "minutes": result["seconds"] / 60},
    }
    curve = [(line["step"], line[metric]) for line in result["validation"]]
    return Row(cell.learner, cell.experiment, cell.seed, numbers, curves={"validation": curve}, tests=result["tests"])


def _numbers(metric: str, score: float, memoryless: float) -> dict[str, float | str]:
    top = TOPS.get(metric, 0.0)
    removed = (score - memoryless) / (top - memoryless)
    return {REMOVED: removed, "metric": metric.replace("_", " "), "test": score}


suite = Paper
command = partial(suite_command, suite)
