"""The suite `stream`: cells run once, the same whatever runs beside them, and mistakes are one line."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from sab_agents.train.cli import main
from sab_agents.train.configuration import build, load
from sab_agents.train.suites.engine import Work, run_suite
from sab_agents.train.suites.stream import Stream, StreamCell, StreamConfig

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "stream").glob("*.yaml"))
TINY: dict[str, Any] = {
    "env": "SAB/MemoryChain-v0",
    "argument": "length",
    "values": [2, 3],
    "policies": {
        "rtu": {"policy": "MlpRtuPolicy", "hidden_size": 4, "width": 4},
        "sab": {"policy": "MlpSabPolicy", "hidden_size": 4, "width": 4, "capacity": 4},
    },
    "seeds": [0, 1],
    "episodes": 12,
}


def written(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")
    return str(path)


def run_alone(suite: Stream, cell: StreamCell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as out:
        ((_, result),) = suite.run(Work((cell,), {}, Path(out)))
    return result


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_loads_and_builds_its_agents(path: Path) -> None:
    suite = Stream(load(StreamConfig, path))
    for policy in suite.config.policies:
        suite.agent(StreamCell(policy, suite.config.values[0], 0))


def test_a_sweep_is_written_and_its_cells_are_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["suite", "run", written(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "cells",
        "models",
        "tb",
        "config.yaml",
        "result.json",
        "table.md",
        *("scores.png", "scores.svg", "curves.png", "curves.svg"),
    }
    cells = json.loads((out / "result.json").read_text())["cells"]
    assert len(cells) == 8
    assert {cell["steps"] for cell in cells if cell["value"] == 3} == {12 * 4}
    assert all(-1 <= cell["score"] <= 1 and len(cell["curve"]) == 12 for cell in cells)
    assert "[8/8]" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    (out / "cells" / "rtu-2-0.json").unlink()
    assert main(arguments) == 0
    assert "[1/1] rtu, length 2, seed 0" in capsys.readouterr().out
    changed = [path.name for path in before if path.stat().st_mtime_ns != before[path]]
    assert changed == ["rtu-2-0.json"]


def test_a_cell_does_not_depend_on_the_process_it_runs_in(tmp_path: Path) -> None:
    policies = {"rtu": TINY["policies"]["rtu"]}
    suite = Stream(build(StreamConfig, {**TINY, "values": [2], "seeds": [0], "policies": policies}))
    cell = StreamCell("rtu", 2, 0)
    alone = run_alone(suite, cell)
    for again in (run_alone(suite, cell), run_suite(suite, tmp_path, jobs=2)[cell]):
        assert again["curve"] == alone["curve"]


def test_the_command_line_chooses_cells(tmp_path: Path) -> None:
    flags = ["--values", "4", "--policies", "rtu", "--seeds", "3", "--episodes", "2", "--out", str(tmp_path / "out")]
    assert main(["suite", "run", written(tmp_path), *flags]) == 0
    assert [path.name for path in (tmp_path / "out" / "cells").iterdir()] == ["rtu-4-3.json"]


def test_a_policy_can_be_run_at_some_values_alone(tmp_path: Path) -> None:
    policies = {"rtu": TINY["policies"]["rtu"], "ablation": {**TINY["policies"]["sab"], "values": [3, 9]}}
    arguments = [
        "suite",
        "run",
        written(tmp_path, policies=policies, seeds=[0], episodes=2),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    names = {path.name for path in (tmp_path / "out" / "cells").iterdir()}
    assert names == {"rtu-2-0.json", "rtu-3-0.json", "ablation-3-0.json"}
    table = (tmp_path / "out" / "table.md").read_text()
    assert [f"| {value} | ablation |" in table for value in (2, 3)] == [False, True]
    assert [f"| {value} | rtu |" in table for value in (2, 3)] == [True, True]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--values", "2", "--policies", "rtu", "--seeds", "0", "--out", str(tmp_path / "out")]
    assert main(["suite", "run", written(tmp_path), *flags]) == 0
    assert main(["suite", "run", written(tmp_path), *flags, "--episodes", "3"]) == 2
    assert "was run with episodes = 12, not 3" in capsys.readouterr().err


def test_episodes_may_differ_by_value(tmp_path: Path) -> None:
    suite = Stream(load(StreamConfig, written(tmp_path, values=[2, 4], episodes={2: 3, 4: 5})))
    for value, episodes in ((2, 3), (4, 5)):
        assert run_alone(suite, StreamCell("rtu", value, 0))["steps"] == episodes * (value + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env": "SAB/MemoryChian-v0"}, "Did you mean 'SAB/MemoryChain-v0'?"),
        ({"argument": "size"}, "size"),
        ({"episods": 3}, "unknown key 'episods'. Did you mean 'episodes'?"),
        ({"values": []}, "values must have at least one entry, but is empty"),
        ({"episodes": 0}, "episodes must be at least 1, but is 0"),
        ({"episodes": {2: 3}}, "episodes must have a number for each value, but has none for"),
        ({"agent": [1]}, "agent must be Mapping[str, Any], but is [1]"),
        ({"policies": {"a": {"policy": "MlpRtuPolicy", "values": 3}}}, "a: values must be a list, but is 3"),
        ({"policies": {"a": {"policy": "MlpPolicy"}}}, "must have a policy of MlpSabPolicy"),
        ({"policies": {"a": {"policy": "MlpRtuPolicy", "colour": 1}}}, "colour"),
        ({"agent": {"gamma": 3.0}}, "gamma must be a number from 0 to 1"),
    ],
)
def test_a_mistake_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suite", "run", written(tmp_path, **changes), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_cell_ends_at_its_target_and_says_so() -> None:
    always = {**TINY, "values": [2], "seeds": [0], "episodes": 12, "recent": 3}
    easy, never = (build(StreamConfig, {**always, "target": target}) for target in (-1.5, 1.0))
    cell = StreamCell("rtu", 2, 0)
    ended, whole = (run_alone(Stream(config), cell) for config in (easy, never))
    assert (ended["reached"], ended["episodes"], len(ended["curve"])) == (True, 3, 3)
    assert (whole["reached"], whole["episodes"]) == (False, 12)
    assert whole["score"] == pytest.approx(np.mean(whole["curve"][-3:]))


def test_a_target_without_its_episodes_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "run", written(tmp_path, target=0.5), "--out", str(tmp_path / "out")]) == 2
    assert "target and recent must be set together, but are 0.5 and None" in capsys.readouterr().err
