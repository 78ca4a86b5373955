"""Folders of finished sweeps, of whatever command, read as studies that a report can lay out in one way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sab_agents  # noqa: F401 (registers the SAB/* environments)
from sab_agents.train.agents_env import known_returns
from sab_agents.train.errors import UserError
from sab_agents.train.sweep_plots import Curve, Known, Value

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One learner at one size with one seed.

    Attributes:
        learner: its name.
        value: the size.
        seed: of learner and environment.
        score: what learners are compared by.
        facts: other figures, by the names of `Study.facts`.
        reached: whether it reached the target; None where there is none.
        curve: score by progress.
        tests: success at other sizes.
    """

    learner: str
    value: Value
    seed: int
    score: float
    facts: Mapping[str, float]
    reached: bool | None = None
    curve: Curve = ()
    tests: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A sweep.

    Attributes:
        name: of its folder.
        task: what was learnt.
        size: what the values are called.
        values: all sizes.
        learners: settings of each by name, those that it does not share.
        shared: settings that all have.
        score: what the score is called, and the form of its numbers.
        facts: names and forms of the other figures.
        progress: what curves are drawn over; "" where there are none.
        target: share at which a trial ends, or None.
        known: scores of the best, the random and the best memoryless policy by value.
        trials: all that were run.
        note: how it was measured.
    """

    name: str
    task: str
    size: str
    values: Sequence[Value]
    learners: Mapping[str, Json]
    shared: Json
    score: tuple[str, str]
    facts: Mapping[str, str]
    progress: str
    target: float | None
    known: Mapping[Value, Known]
    trials: Sequence[Trial]
    note: str

    def of(self, learner: str, value: Value) -> list[Trial]:
        """The trials of a learner at a value."""
        return [trial for trial in self.trials if (trial.learner, trial.value) == (learner, value)]


def read_study(folder: Path) -> Study:
    """Reads what `sab-agents agents`, `stream` or `online` wrote.

    Raises:
        UserError: there is no result.json, or it is that of something else.
    """
    path = folder / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} holds no result.json. Give the --out folder of sab-agents agents, stream or online."
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: cannot be read: {error}.") from None
    for known, read in READERS.items():
        if isinstance(result, dict) and all(name in result.get(part, {}) for part, name in known):
            return read(folder.resolve().name, result)
    raise UserError(f"{path} is no sweep's. Give the --out folder of sab-agents agents, stream or online.")


def _agents(name: str, result: Json) -> Study:
    settings = result["settings"]
    success = settings["success"]
    rule = f"`{success}`" if isinstance(success, str) else f"a return of at least {success:g}"
    trials = [
        Trial(
            cell["learner"], cell["value"], cell["seed"], cell["return"],
            {"success": cell["success"], "steps": cell["steps"], "minutes": cell["processor_seconds"] / 60},
            None if settings["target"] is None else cell["reached"],
            [(point["steps"], point["return"]) for point in cell["curve"]],
            {value: test["success"] for value, test in cell["tests"].items()},
        )
        for cell in result["cells"]
    ]  # fmt: skip
    return Study(
        name=name,
        task=settings["env"],
        size=settings["argument"] or "size",
        values=settings["values"],
        learners=settings["learners"],
        shared={**settings["env_arguments"], "num_envs": settings["num_envs"], **settings["shared"]},
        score=("return", "{:.2f}"),
        facts={"success": "{:.1%}", "steps": "{:,.0f}", "minutes": "{:.1f}"},
        progress="steps of all copies",
        target=settings["target"],
        known={value: result["known"][str(value)] for value in settings["values"]},
        trials=trials,
        note=(
            f"Return and success ({rule}) over the last {settings['recent']} episodes of training; "
            f"steps of {settings['num_envs']} copies together; minutes of processor time."
        ),
    )


def _stream(name: str, result: Json) -> Study:
    settings = result["settings"]
    known = {
        value: asdict(known_returns(settings["env"], settings["argument"], value, settings["env_arguments"]))
        for value in settings["values"]
    }
    trials = [
        Trial(
            cell["policy"], cell["value"], cell["seed"], cell["score"],
            {"steps": cell["steps"], "µs a step": cell["microseconds_per_step"], "parameters": cell["parameters"]},
            curve=_in_equal_parts(cell["curve"], settings["episodes"]),
        )
        for cell in result["cells"]
    ]  # fmt: skip
    return Study(
        name=name,
        task=settings["env"],
        size=settings["argument"],
        values=settings["values"],
        learners=settings["policies"],
        shared={**settings["env_arguments"], **settings["agent"]},
        score=("return", "{:.2f}"),
        facts={"steps": "{:,.0f}", "µs a step": "{:,.0f}", "parameters": "{:,.0f}"},
        progress="episodes",
        target=None,
        known=known,
        trials=trials,
        note=f"One environment, one pass, no replay. Return over the last tenth of {settings['episodes']:,} episodes.",
    )


def _online(name: str, result: Json) -> Study:
    config = result["config"]
    noises = config["noises"]

    def named(learner: str, noise: float) -> str:
        return learner if len(noises) == 1 else f"{learner}, noise {noise:g}"

    trials = [
        Trial(
            named(cell["learner"], cell["noise"]), cell["delay"], cell["seed"], cell["accuracy"],
            {"answers": cell["answers"], "steps": cell["steps"], "seconds": cell["seconds"]},
            cell["reached"],
        )
        for cell in result["cells"]
    ]  # fmt: skip
    learners = {named(learner, noise): own for learner, own in config["learners"].items() for noise in noises}
    return Study(
        name=name,
        task="Delayed recall in an endless stream",
        size="delay",
        values=config["delays"],
        learners=learners,
        shared=config["shared"],
        score=("accuracy", "{:.1%}"),
        facts={"answers": "{:,.0f}", "steps": "{:,.0f}", "seconds": "{:,.0f}"},
        progress="",
        target=config["target"],
        known={delay: {"best": 1.0, "memoryless": 1 / config["symbols"]} for delay in config["delays"]},
        trials=trials,
        note=f"Accuracy of the last answers, of {config['symbols']} symbols; steps of {config['rows']} rows together.",
    )


def _in_equal_parts(means: Sequence[float], whole: int) -> Curve:
    """A curve whose points are means over equal parts, each placed where its part ends."""
    return [(whole * (part + 1) / len(means), mean) for part, mean in enumerate(means)]


READERS: Mapping[tuple[tuple[str, str], ...], Callable[[str, Json], Study]] = {
    (("settings", "learners"), ("settings", "success")): _agents,
    (("settings", "policies"),): _stream,
    (("config", "delays"), ("config", "learners")): _online,
}
"""By keys that a command's result.json has, and others' have not."""
