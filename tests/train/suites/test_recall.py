"""`sab-agents online`: its configs, its cells and its table, with so few answers that nothing is learnt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sab_agents.envs.supervised.recall import RecallStream
from sab_agents.train.cli import main
from sab_agents.train.configuration import load
from sab_agents.train.suites.recall import RecallConfig

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "online").glob("r*.yaml"))  # the text has its own command
SMALL = """
delays: [3]
rows: 4
answers: 6
learners:
  sab: {core: sab}
  lstm: {core: lstm_tbptt}
shared: {hidden_size: 4, capacity: 4, update_every: 2}
"""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_read(path: Path) -> None:
    config = load(RecallConfig, path, ["--seeds", "7"])
    assert config.learners
    assert list(config.seeds) == [7]


def test_it_prints_the_table_and_repeats_no_finished_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    command = ["online", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert {cell["learner"] for cell in cells} == {"sab", "lstm"}
    assert all(6 <= cell["answers"] < 6 + 4 and not cell["reached"] for cell in cells)
    written = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "cells").glob("*.json"))]
    assert main(command) == 0
    assert written == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "cells").glob("*.json"))]
    assert "| 3 | lstm | 0 of 1 |" in capsys.readouterr().out


def test_tensorboard_shows_the_accuracy_and_who_credited_whom(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    assert main(["online", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]) == 0
    for learner, images in (("sab", 1), ("lstm", 0)):
        events = EventAccumulator(str(tmp_path / "out" / "tb" / f"{learner}-3-0-0"))
        events.Reload()
        cell = json.loads((tmp_path / "out" / "cells" / f"{learner}-3-0-0.json").read_text())
        last = events.Scalars("accuracy of the latest answers")[-1]
        assert (last.step, last.value) == (cell["answers"], pytest.approx(cell["accuracy"]))
        assert len(events.Tags()["images"]) == images
    image = EventAccumulator(str(tmp_path / "out" / "tb" / "sab-3-0-0")).Reload().Images("who credited whom")[-1]
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert min(image.width, image.height) > 400


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learners", "gru"], "unknown learner 'gru'"),
        (["--answers", "9"], "was run with answers = 6, not 9"),
        (["--shared.hidden_size", "5"], "was run with learner.hidden_size = 4, not 5"),
        (["--shared.top_k", "0"], "top_k"),
    ],
)
def test_what_does_not_fit_is_one_line_of_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    command = ["online", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_the_stream_asks_for_the_cue_after_the_delay() -> None:
    stream = RecallStream(5, rows=3, symbols=4, distractors=2, noise=0.5)
    steps = [stream.step() for _ in range(60)]
    shown = np.full(3, -1)
    since = np.full(3, -1)
    for step in steps:
        shown = np.where(step.episode_start, step.x[:, :4].argmax(axis=1), shown)
        since = np.where(step.episode_start, 0, since + (since >= 0))
        assert (step.asked == (since == 5)).all()
        assert (step.y[step.asked] == shown[step.asked]).all()
        assert (step.x[:, 4] == 1)[step.asked].all()
        assert not step.x[~step.episode_start, :4].any()
