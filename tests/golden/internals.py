"""Everything that the golden tests use beside public names. Code that moves is followed here, and only here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from sab_agents import SAB, OnlineLearner
from sab_agents.kernels import ScanArguments, ScanOutputs, ScanPlan, reference_scan
from sab_agents.kernels.native_backend import extension
from sab_agents.ppo.export import export_policy
from sab_agents.train.cli import main
from sab_agents.train.configuration import load
from sab_agents.train.suites.agents import Agents, AgentsConfig
from sab_agents.train.suites.conditioning import Conditioning, ConditioningConfig
from sab_agents.train.suites.paper import Paper, PaperConfig
from sab_agents.train.suites.recall import Recall, RecallConfig
from sab_agents.train.suites.stream import Stream, StreamConfig
from sab_agents.train.suites.text import TextConfig
from sab_agents.train.supervised.config import TrainConfig

__all__ = [
    "cells_of",
    "export_policy",
    "learner_parameters",
    "main",
    "native_build",
    "reference_sab",
    "use_instruction_set",
]


class _ReferenceSAB(SAB):
    """SAB computed by the plain loop."""

    def scan(self, x: Tensor, h: Tensor, c: Tensor, memory: Tensor, plan: ScanPlan) -> ScanOutputs:
        return reference_scan(ScanArguments(x, *self.step_weights(), h, c, memory), plan)


def reference_sab(input_size: int, hidden_size: int, **settings: Any) -> SAB:
    """Returns a SAB that is computed by the plain reference loop."""
    return _ReferenceSAB(input_size, hidden_size, **settings)


def native_build() -> str:
    """Returns the instruction set that the native kernel uses and the compiler that built it, "none" without it."""
    if extension.native is None:
        return "none"
    compilers = re.findall(rb"(?:GCC: \(|clang version )[^\0]{1,80}", Path(extension.native.__file__).read_bytes())
    return f"{extension.native.instruction_set()}, {', '.join(sorted({name.decode() for name in compilers}))}"


def use_instruction_set(name: str) -> None:
    """Makes the native kernel compute with another instruction set, to see how far the bits are from the stored."""
    extension.native.use_instruction_set(name)


def learner_parameters(learner: OnlineLearner) -> list[Tensor]:
    """Returns everything that an `OnlineLearner` learns."""
    return list(learner.parameters)


def cells_of(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the settings that decide a cell's numbers, for each cell of a config file, without its seed.

    A cell's name is what it is a cell of, such as learner and size; its seeds are among the settings.
    """
    kind = path.parent.name
    if kind == "agents":
        return _agents_cells(path)
    if kind == "stream":
        return _stream_cells(path)
    if kind == "paper":
        return _paper_cells(path)
    if kind == "conditioning":
        return _conditioning_cells(path)
    if kind == "online":
        return _text_cells(path) if path.stem == "text" else _online_cells(path)
    return _as_json({"run": _flat_settings(load(TrainConfig, path))})


def _agents_cells(path: Path) -> dict[str, dict[str, Any]]:
    suite = Agents(load(AgentsConfig, path))
    found: dict[str, dict[str, Any]] = {}
    for cell in sorted((cell for chain in suite.chains() for cell in chain), key=lambda cell: cell.seed):
        name = f"{cell.learner} {cell.value}"
        kept = found.setdefault(name, {**suite.cell_settings(cell), "seeds": []})
        assert {**suite.cell_settings(cell), "seeds": kept["seeds"]} == kept
        kept["seeds"].append(cell.seed)
    return _as_json(found)


def _stream_cells(path: Path) -> dict[str, dict[str, Any]]:
    suite = Stream(load(StreamConfig, path))
    config = suite.config
    found: dict[str, dict[str, Any]] = {}
    for (policy, value, seed), *_ in suite.chains():
        settings = {
            "env": config.env,
            "env_arguments": {**config.env_arguments, config.argument: value},
            "policy": {key: each for key, each in config.policies[policy].items() if key != "values"},
            "agent": config.agent,
            "episodes": config.episodes_at(value),
            "seeds": [],
        }
        found.setdefault(f"{policy} {value}", settings)["seeds"].append(seed)
    return _as_json(found)


def _online_cells(path: Path) -> dict[str, dict[str, Any]]:
    suite = Recall(load(RecallConfig, path))
    found: dict[str, dict[str, Any]] = {}
    for (cell,) in suite.chains():
        name = " ".join((cell.learner, str(cell.delay), f"{cell.noise:g}", *([cell.asked] if cell.asked else [])))
        found.setdefault(name, {**suite.cell_settings(cell), "seeds": []})["seeds"].append(cell.seed)
    return _as_json(found)


def _conditioning_cells(path: Path) -> dict[str, dict[str, Any]]:
    suite = Conditioning(load(ConditioningConfig, path))
    found: dict[str, dict[str, Any]] = {}
    for (cell,) in suite.chains():
        kept = found.setdefault(f"{cell.learner} {cell.interval}", {**suite.cell_settings(cell), "seeds": []})
        kept["seeds"].append(cell.seed)
    return _as_json(found)


def _paper_cells(path: Path) -> dict[str, dict[str, Any]]:
    suite = Paper(load(PaperConfig, path))
    found: dict[str, dict[str, Any]] = {}
    for (cell,) in suite.chains():
        settings = {name: value for name, value in suite.cell_settings(cell).items() if name != "seed"}
        kept = found.setdefault(f"{cell.experiment} {cell.learner}", {**settings, "seeds": []})
        kept["seeds"].append(cell.seed)
    return _as_json(found)


def _text_cells(path: Path) -> dict[str, dict[str, Any]]:
    config = load(TextConfig, path)
    return _as_json(
        {
            f"{learner} {rate:g}": {
                "learner": {**config.shared, **config.learners[learner], "learning_rate": rate},
                **{name: getattr(config, name) for name in ("corpus", "rows", "characters", "tried_on", "seed")},
            }
            for learner in config.learners
            for rate in config.learning_rates
        }
    )


def _flat_settings(config: TrainConfig) -> dict[str, Any]:
    """Returns a run's settings with those of all cores side by side and their defaults, as they were stored."""
    defaults = {
        **{"top_k": 5, "write_every": 1, "bptt_steps": 10, "capacity": None, "attention": "mlp"},
        **{"attention_size": None, "temperature": 1.0, "layers": 2, "heads": 4, "context": None},
    }
    settings = config.settings()
    of_core = {name: value for name, value in settings.pop("core_settings").items() if name in defaults}
    return {**settings, **defaults, **of_core}


def _as_json(cells: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(cells))
    return found
