"""`--track` against W&B in its offline mode and MLflow with its file, both without a network."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure as Canvas
from stable_baselines3.common.logger import Figure, Image, configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sab_agents import RecurrentPPO
from sab_agents.tracking import WRITERS
from sab_agents.train.cli import main
from tests.peers.wandb_file import records_in

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]


class Run(NamedTuple):
    """A run as a tracker holds it."""

    name: str
    group: str
    ended: str
    settings: dict[str, str]
    scalars: dict[str, list[tuple[int, float]]]
    images: set[str]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("wandb", "mlflow"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'sab-agents[tracking]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)


def in_wandb(folder: Path) -> list[Run]:
    """The runs in the files of W&B below a folder; parts of one run, which was resumed, are put together."""
    runs: dict[str, Run] = {}
    for path in sorted(folder.rglob("wandb/offline-run-*/*.wandb")):
        name, group, ended = "", "", ""
        settings: dict[str, str] = {}
        scalars: dict[str, list[tuple[int, float]]] = {}
        images: set[str] = set()
        for record in ended_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name, group = record.run.display_name, record.run.run_group
                settings |= {item.key: str(json.loads(item.value_json)) for item in record.run.config.update}
            elif kind == "history":
                line = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                values = {key: json.loads(value) for key, value in line.items()}
                for key, value in values.items():
                    if value == "image-file":
                        images.add(key.removesuffix("._type"))
                    elif not key.startswith("_") and key != "global_step" and not isinstance(value, str):
                        scalars.setdefault(key, []).append((values["global_step"], value))
            elif kind == "exit":
                ended = "FAILED" if record.exit.exit_code else "FINISHED"
        before = runs.get(path.stem)
        if before is not None:
            scalars = {key: before.scalars.get(key, []) + scalars.get(key, []) for key in {**before.scalars, **scalars}}
        runs[path.stem] = Run(name, group, ended, settings, scalars, images)
    return list(runs.values())


def ended_records(path: Path) -> list[Any]:
    """The records of a file, to whose last W&B's server may need a moment after the run has ended."""
    for _ in range(100):
        records = list(records_in(path))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.1)
    return records


def in_mlflow(_: Path) -> list[Run]:
    """The runs in MLflow's file."""
    client: Any = pytest.importorskip("mlflow").MlflowClient()
    names = {each.experiment_id: each.name for each in client.search_experiments()}
    found = []
    for run in client.search_runs(list(names)):
        history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
        scalars = {key: sorted((each.step, each.value) for each in values) for key, values in history.items()}
        pictures = {file.path for file in client.list_artifacts(run.info.run_id, "images")}
        images = {re.split("[%+]", Path(path).name)[0] for path in pictures}
        found.append(
            Run(run.info.run_name, names[run.info.experiment_id], run.info.status, run.data.params, scalars, images)
        )
    return found


FOUND: dict[str, Callable[[Path], list[Run]]] = {"wandb": in_wandb, "mlflow": in_mlflow}
both = pytest.mark.parametrize("tracker", list(FOUND))


def in_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def same(tracked: dict[str, list[tuple[int, float]]], shown: dict[str, list[tuple[int, float]]]) -> None:
    assert {name.replace("(", "_").replace(")", "_") for name in shown} == tracked.keys()
    for name, points in tracked.items():
        assert [step for step, _ in points] == [step for step, _ in shown[name]]
        assert [value for _, value in points] == pytest.approx([value for _, value in shown[name]], nan_ok=True)


AGENT = ["train", "--env", "CartPole-v1", "--steps", "64", "--num_envs", "1", "--setting", "n_steps=32"]
TASK = ["train", "recall", "--length", "4", "--hidden_size", "8", "--batch_size", "4", "--eval_sequences", "8"]
OFTEN = ["--steps", "4", "--eval_every", "2", "--log_every", "2", "--checkpoint_every", "2"]


@both
def test_an_agents_run_is_in_the_tracker_as_in_tensorboard(tracker: str, tmp_path: Path) -> None:
    assert main([*AGENT, "--out", "a", "--track", tracker]) == 0
    (run,) = FOUND[tracker](tmp_path)
    assert (run.name, run.ended, run.settings["setting.n_steps"]) == ("a", "FINISHED", "32")
    same(run.scalars, in_tensorboard(tmp_path / "a" / "tb"))
    assert {"rollout/ep_rew_mean", "train/loss"} <= run.scalars.keys()


@both
def test_a_run_of_sequences_has_its_maps_and_is_resumed_as_one_run(tracker: str, tmp_path: Path) -> None:
    assert main([*TASK, *OFTEN, "--out", "a", "--track", tracker]) == 0
    assert main(["resume", "a", "--steps", "8"]) == 0
    (run,) = FOUND[tracker](tmp_path)
    assert (run.name, run.ended, run.settings["length"]) == ("a", "FINISHED", "4")
    assert [step for step, _ in run.scalars["train/loss"]] == [2, 4, 6, 8]
    assert "attention" in run.images


@both
def test_each_cell_of_a_suite_is_a_run_of_a_group(tracker: str, tmp_path: Path) -> None:
    suite = {
        **{"env": "SAB/MemoryChain-v0", "argument": "length", "values": [2], "seeds": [0, 1], "episodes": 12},
        "policies": {"rtu": {"policy": "MlpRtuPolicy", "hidden_size": 4, "width": 4}},
    }
    Path("suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    assert main(["suite", "run", "suite.yaml", "--out", "chain", "--jobs", "2", "--track", tracker]) == 0
    runs = FOUND[tracker](tmp_path)
    assert sorted((run.name, run.group, run.ended) for run in runs) == [
        ("rtu-2-0", "chain", "FINISHED"),
        ("rtu-2-1", "chain", "FINISHED"),
    ]
    for run in runs:
        same(run.scalars, in_tensorboard(tmp_path / "chain" / "tb" / run.name))
        assert len(run.scalars["rollout/ep_rew_mean"]) >= 11


@both
def test_a_run_that_fails_is_marked(tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr("sab_agents.train.supervised.loop.loss_of", lambda *_: nan)
    assert main([*TASK, *OFTEN, "--out", "a", "--track", tracker]) == 1
    (run,) = FOUND[tracker](tmp_path)
    assert run.ended == "FAILED"


@both
def test_a_writer_serves_stable_baselines3s_logger(tracker: str, tmp_path: Path) -> None:
    model = RecurrentPPO("MlpSabPolicy", "CartPole-v1", n_steps=16, batch_size=8, n_epochs=1)
    logger = configure(str(tmp_path / "tb"), ["tensorboard"])
    logger.output_formats.append(WRITERS[tracker]("by hand", folder=tmp_path, settings={"n_steps": 16}))
    model.set_logger(logger)
    model.learn(32, log_interval=1)
    canvas = Canvas()
    canvas.subplots().plot([1, 2])
    logger.record("a picture", Image(np.zeros((3, 4, 5), dtype=np.uint8), "CHW"), exclude=("stdout",))
    logger.record("a figure", Figure(canvas, close=True), exclude=("stdout",))
    logger.record("a text", "text")
    logger.record("hidden", 1.0, exclude="tensorboard")
    logger.dump(40)
    logger.close()
    (run,) = FOUND[tracker](tmp_path)
    assert run.ended == "FINISHED"
    assert "train/loss" in run.scalars
    assert not {"hidden", "a text"} & run.scalars.keys()
    assert "a picture" in {name.replace("_", " ") for name in run.images}


def test_a_store_that_does_not_answer_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://host")
    assert main([*AGENT, "--out", "a", "--track", "mlflow"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sab-agents")]
    assert "--track mlflow: " in line
    assert not (tmp_path / "a" / "agent.zip").exists()
