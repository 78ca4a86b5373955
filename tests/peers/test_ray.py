"""Suites on a Ray cluster of this machine: the files of one machine, also when a node dies."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sab_agents.train.cli import main
from sab_agents.train.configuration import Settings
from sab_agents.train.errors import TrainingError, UserError
from sab_agents.train.suites.cluster import TRIES, Cluster
from sab_agents.train.suites.engine import Result, Suite, Work, run_suite
from sab_agents.train.suites.study import Column, Row, Study

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]

STREAM: dict[str, Any] = {
    "env": "SAB/MemoryChain-v0",
    "argument": "length",
    "values": [2, 3],
    "policies": {
        "rtu": {"policy": "MlpRtuPolicy", "hidden_size": 4, "width": 4},
        "sab": {"policy": "MlpSabPolicy", "hidden_size": 4, "width": 4, "capacity": 4},
    },
    "seeds": [0, 1, 2],
    "episodes": 12,
}
COMPARE: dict[str, Any] = {
    **{"task": "recall", "length": 4, "symbols": 3, "hidden_size": 8, "steps": 4, "batch_size": 4, "eval_every": 2},
    **{"eval_sequences": 8, "threads": 1, "cores": ["sab", "lstm"], "seeds": [0]},
}
NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
TIMES = ("seconds", "processor_seconds", "microseconds_per_step", "steps_per_second", "µs a step", "t")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on the loopback interface, with one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # its nodes have 127.0.0.1, as there
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'sab-agents[ray]'")
        testing: Any = pytest.importorskip("ray.cluster_utils")
        made = testing.Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        made.add_node(**NODE)
        yield made
        made.shutdown()


def suite_run(folder: Path, settings: Mapping[str, Any], out: str, *options: str) -> Path:
    """Runs a suite by the command line; returns its folder."""
    (folder / "suite.yaml").write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
    assert main(["suite", "run", str(folder / "suite.yaml"), "--out", str(folder / out), *options]) == 0
    return folder / out


def without_times(content: Any) -> Any:
    """What a file of JSON holds, without the times that its computation took."""
    if isinstance(content, dict):
        return {name: without_times(value) for name, value in content.items() if name not in TIMES}
    return [without_times(each) for each in content] if isinstance(content, list) else content


def contents(out: Path) -> dict[str, Any]:
    """What the files of a folder hold, by their names, without times."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = path.relative_to(out).as_posix()
        if "tfevents" in name:  # which names the host, the process and the time
            events = EventAccumulator(str(path.parent)).Reload()
            tags = [tag for tag in events.Tags()["scalars"] if "time" not in tag and "per_second" not in tag]
            found[path.parent.relative_to(out).as_posix()] = {
                tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags
            }
        elif path.suffix == ".json":
            found[name] = without_times(json.loads(path.read_text(encoding="utf-8")))
        elif path.suffix == ".jsonl":
            found[name] = [without_times(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        elif name == "table.md":
            rows = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines()]
            found[name] = [row[:6] for row in rows]
        elif path.suffix == ".zip":
            found[name] = tensors_of(path)
        elif path.name not in ("log.txt", "curves.png", "curves.svg", "checkpoint.safetensors"):  # with times
            found[name] = path.read_bytes()
        else:
            found[name] = None
    return found


def tensors_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        content: bytes = archive.read("tensors.safetensors")
    return content


def test_twelve_cells_on_two_nodes_give_the_files_of_two_processes(cluster: Any, tmp_path: Path) -> None:
    there = suite_run(tmp_path, STREAM, "ray", "--engine", "ray", "--address", cluster.address)
    here = suite_run(tmp_path, STREAM, "processes", "--jobs", "2")
    assert len(list((there / "cells").iterdir())) == 12
    assert contents(there) == contents(here)
    assert (there / "curves.png").read_bytes() == (here / "curves.png").read_bytes()  # by episodes


def test_runs_with_folders_of_their_own_come_back_whole(cluster: Any, tmp_path: Path) -> None:
    there = suite_run(tmp_path, COMPARE, "ray", "--engine", "ray", f"--address={cluster.address}")
    here = suite_run(tmp_path, COMPARE, "processes", "--jobs", "2")
    found = contents(there)
    assert found["sab-0/model.safetensors"] == contents(here)["sab-0/model.safetensors"]
    assert found.keys() == contents(here).keys()


@dataclass(frozen=True)
class MeetConfig(Settings):
    """Settings.

    Attributes:
        folder: where cells say that they began.
        cells: how many.
        dies: the cell whose process ends each time that it is run.
        refuses: the cell that says that a setting does not fit.
    """

    folder: str
    cells: int = 12
    dies: int | None = None
    refuses: int | None = None


class MeetCell(NamedTuple):
    """One of them."""

    number: int

    @property
    def file(self) -> str:
        return f"cell-{self.number}"


class Meet(Suite[MeetConfig, MeetCell]):
    """Each cell says where it began and waits until there is a file `go`."""

    name = "meet"
    summary = "Waits."
    config_class = MeetConfig

    def chains(self) -> list[tuple[MeetCell, ...]]:
        return [(MeetCell(number),) for number in range(self.config.cells)]

    def cell_settings(self, cell: MeetCell) -> dict[str, Any]:
        return {"number": cell.number}

    def run(self, work: Work[MeetCell]) -> Iterator[tuple[MeetCell, dict[str, Any]]]:
        ray: Any = pytest.importorskip("ray")
        (cell,) = work.chain
        folder, node = Path(self.config.folder), ray.get_runtime_context().get_node_id()
        (folder / f"began-{cell.number}-{uuid.uuid4().hex}").write_text(node)
        if cell.number == self.config.dies:
            os._exit(1)
        if cell.number == self.config.refuses:
            raise UserError("this does not fit.")
        while not (folder / "go").exists():
            time.sleep(0.02)
        yield cell, {"node": node}

    def line(self, cell: MeetCell, result: Result) -> str:
        return f"{cell.number} on {result['node']}"

    def study(self, results: Mapping[MeetCell, Result]) -> Study:
        rows = tuple(Row("cell", cell.number, 0, {"score": 1.0}) for cell in results)
        values = tuple(cell.number for cell in results)
        return Study("Meeting", values, {"cell": {}}, (Column("score"),), rows, size="cell", note="None.")


def attempts(folder: Path) -> Counter[int]:
    """How often each cell was begun."""
    return Counter(int(path.name.split("-")[1]) for path in folder.glob("began-*"))


def test_a_node_that_dies_costs_its_running_cells_alone(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(**NODE)
    signals = tmp_path / "signals"
    signals.mkdir()

    def kill() -> None:
        while node.node_id not in [path.read_text() for path in signals.glob("began-*")]:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)
        (signals / "go").touch()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    results = run_suite(Meet(MeetConfig(str(signals))), tmp_path / "out", cluster=Cluster(cluster.address))
    thread.join()
    began = attempts(signals)
    assert sorted(cell.number for cell in results) == list(range(12)) == sorted(began)
    assert 12 < began.total() <= 14
    assert node.node_id not in {result["node"] for result in results.values()}
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8").partition("\n\n")[0]
    assert len(table.splitlines()) == 2 + 12


def test_a_cell_that_dies_every_time_fails_and_the_others_do_not(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    suite = Meet(MeetConfig(str(tmp_path), cells=3, dies=1))
    with pytest.raises(TrainingError, match=rf"1 of 3 runs failed; .* its process or its node died {TRIES} times"):
        run_suite(suite, tmp_path / "out", cluster=Cluster(cluster.address))
    assert attempts(tmp_path) == {0: 1, 1: TRIES, 2: 1}
    assert sorted(path.stem for path in (tmp_path / "out" / "cells").iterdir()) == ["cell-0", "cell-2"]


def test_a_setting_that_does_not_fit_on_a_node_is_one_sentence(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with pytest.raises(UserError, match=r"^this does not fit\.$"):
        run_suite(Meet(MeetConfig(str(tmp_path), refuses=0)), tmp_path / "out", cluster=Cluster(cluster.address))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9: [Errno 111] Connection refused. Start one there"),
        ("somewhere", "--address must be HOST:PORT, as in 10.0.0.1:6379, but is 'somewhere'."),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, message: str
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'sab-agents[ray]'")
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(STREAM), encoding="utf-8")
    run = ["suite", "run", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "out")]
    assert main([*run, "--engine", "ray", "--address", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
