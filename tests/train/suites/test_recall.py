"""The suite `online`: its configs, its cells and its table, with so few answers that nothing is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from sab_agents import OnlineLearner
from sab_agents.envs.datasets.digit_cues import DigitCues
from sab_agents.envs.supervised.digit_recall import DigitStream
from sab_agents.envs.supervised.recall import RecallStream
from sab_agents.train.cli import main
from sab_agents.train.configuration import build, load
from sab_agents.train.suites.recall import Recall, RecallCell, RecallConfig, learn_recall, recall

FOLDER = Path(__file__).parents[3] / "configs" / "online"
CONFIGS = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "text")  # the text has its own command
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
    command = ["suite", "run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert {cell["learner"] for cell in cells} == {"sab", "lstm"}
    assert all(6 <= cell["answers"] < 6 + 4 and not cell["reached"] for cell in cells)
    written = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "cells").glob("*.json"))]
    assert main(command) == 0
    assert written == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out" / "cells").glob("*.json"))]
    assert "| 3 | lstm | 0 of 1 |" in capsys.readouterr().out


@pytest.mark.plots
def test_tensorboard_shows_the_accuracy_and_who_credited_whom(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    assert main(["suite", "run", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]) == 0
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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a suite that was run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SMALL)
    command = ["suite", "run", str(folder / "small.yaml"), "--out", str(folder / "out")]
    assert main(command) == 0
    return command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--learners", "gru"], "unknown learner 'gru'"),
        (["--answers", "9"], "was run with answers = 6, not 9"),
        (["--shared.hidden_size", "5"], "was run with learner.hidden_size = 4, not 5"),
        (["--shared.top_k", "0"], "top_k"),
        (["--says_starts", "false"], "was run with says_starts = None, not False"),
        (["--jitter", "1.5", "--delays", "4"], "jitter must be at least 0 and below 1, but is 1.5"),
        (["--asked", "latest"], "asked"),
        (["--recent", "0"], "recent must be at least 1, but is 0"),
    ],
)
def test_what_does_not_fit_is_one_line_of_error(
    finished: list[str], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    capsys.readouterr()
    assert main([*finished, *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_the_table_says_whether_starts_are_said_and_which_cue_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    command = ["suite", "run", str(tmp_path / "small.yaml"), "--rows", "1", "--recent", "2"]
    assert main([*command, "--out", str(tmp_path / "said")]) == 0
    said = (tmp_path / "said" / "table.md").read_text(encoding="utf-8")
    assert "Episode starts are given. Accuracy of the last 2 answers" in said
    flags = ["--says_starts", "false", "--jitter", "0.5", "--asked", "newest", "oldest", "--out", str(tmp_path / "not")]
    assert main([*command, *flags]) == 0
    table = (tmp_path / "not" / "table.md").read_text(encoding="utf-8")
    assert "Episode starts are not given." in table
    for learner in ("sab", "lstm"):
        for asked in ("newest", "oldest"):
            assert f"| 3 | {learner}, {asked} of two | 0 of 1 |" in table
    assert len(list((tmp_path / "not" / "cells").glob("sab-3-0-oldest-0.json"))) == 1
    capsys.readouterr()
    for folder, title in (("said", "with episode starts"), ("not", "without episode starts")):
        assert main(["report", str(tmp_path / folder), "--out", str(tmp_path / "page")]) == 0
        assert f"Delayed recall in an endless stream {title}" in (tmp_path / "page" / "report.md").read_text("utf-8")


class Oracle:
    """Remembers the cue of a stream of one row; wrong in its first answers."""

    def __init__(self, wrong: int) -> None:
        self.wrong, self.cue, self.starts = wrong, 0, 0

    def predict_many(self, x: npt.NDArray[np.float32], _: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        assert x[0, 4] == 1
        self.wrong -= 1
        return np.array([self.cue + (self.wrong >= 0)])

    def learn_many(self, x: npt.NDArray[np.float32], _y: Any, episode_start: npt.NDArray[np.bool_], *_: Any) -> None:
        self.starts += int(episode_start.sum())
        if x[0, :4].any():
            self.cue = int(x[0, :4].argmax())


@pytest.mark.parametrize("says_starts", [True, False])
def test_a_cell_ends_at_the_first_answer_at_which_the_recent_ones_reach_the_target(says_starts: bool) -> None:
    stream = RecallStream(3, symbols=4, says_starts=says_starts, jitter=0.4)
    oracle: Any = Oracle(wrong=5)
    recalled = learn_recall(oracle, stream, target=0.9, answers=100, recent=20)
    assert recalled == (0.9, 23, True)  # 18 of the last 20
    assert oracle.starts == (23 if says_starts else 0)
    assert learn_recall(oracle, stream, target=0.9, answers=10, recent=20) == (1.0, 10, False)


DIGITS = """
cues: digits
delays: [3, 4]
rows: 4
answers: {3: 6, 4: 9}
tests: 5
target: null
learners:
  sab: {core: sab}
  lstm: {core: lstm_tbptt}
shared: {hidden_size: 4, update_every: 2}
"""


def test_digits_are_learnt_from_training_images_and_measured_on_unseen_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    opened: list[str] = []
    draw = DigitCues.draw

    def counted(self: DigitCues, generator: np.random.Generator, n: int) -> Any:
        opened.append("test" if len(self.labels) < 400 else "train")
        return draw(self, generator, n)

    monkeypatch.setattr(DigitCues, "draw", counted)
    (tmp_path / "digits.yaml").write_text(DIGITS)
    command = ["online", str(tmp_path / "digits.yaml"), "--learners", "sab", "--delays", "3", "--test_delays", "7"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert opened == sorted(opened, reverse=True)  # training ends before the first test image
    assert set(opened) == {"train", "test"}
    (cell,) = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert 0 <= cell["unseen"] <= 1
    assert set(cell["tests"]) == {"7"}
    assert "| trained at delay | learner | 7 |" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert 6 <= cell["answers"] < 6 + 4
    assert "| 3 | sab | 1 |" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_drawn_delays_are_learnt_from_and_single_ones_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    streams: list[tuple[int, int | None]] = []
    make = DigitStream.__init__

    def made(self: DigitStream, delay: int, **settings: Any) -> None:
        make(self, delay, **settings)
        streams.append((self.delay, self.min_delay))

    monkeypatch.setattr(DigitStream, "__init__", made)
    (tmp_path / "digits.yaml").write_text(DIGITS)
    command = ["online", str(tmp_path / "digits.yaml"), "--learners", "sab", "--delays", "5", "--test_delays", "2", "5"]
    command += ["--answers", "6"]
    assert main([*command, "--min_delay", "3", "--out", str(tmp_path / "out")]) == 0
    # Those that are learnt from, the test of the same delays, then those of single ones.
    assert set(streams[:-2]) == {(5, 3)}
    assert streams[-2:] == [(2, None), (5, None)]
    assert "and delays are drawn from 3 steps on" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    (cell,) = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert set(cell["tests"]) == {"2", "5"}
    assert main([*command, "--min_delay", "6", "--out", str(tmp_path / "other")]) == 2


def test_a_convolutional_encoder_is_learnt_with_the_rest(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    convolutions = {"core": "sab", "encoder": "convolutions", "hidden_size": 4}
    made = build(
        RecallConfig, {"cues": "digits", "tests": 4, "delays": [3], "rows": 2, "learners": {"c": convolutions}}
    )
    suite = Recall(made)
    stream, learner = suite._learner(RecallCell("c", 3, 0.0, 0))
    twin = suite._learner(RecallCell("c", 3, 0.0, 0))[1]
    assert all(map(torch.equal, learner.parameters, twin.parameters))
    learn_recall(learner, stream, target=None, answers=30, recent=5)
    assert not any(map(torch.equal, learner.parameters[-6:], twin.parameters[-6:]))
    (tmp_path / "small.yaml").write_text(SMALL.replace("sab: {core: sab}", "sab: {core: sab, encoder: convolutions}"))
    assert main(["online", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]) == 2


def test_pairs_of_digits_are_learnt_by_vectors_and_by_convolutions(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "digits.yaml").write_text(DIGITS)
    convolutions = ["--learners.lstm.encoder", "convolutions"]
    out = tmp_path / "out"
    assert main(["online", str(tmp_path / "digits.yaml"), "--pairs", "true", *convolutions, "--out", str(out)]) == 0
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| 4 | lstm | 1 |" in table
    made = build(RecallConfig, {"cues": "digits", "pairs": True, "tests": 4, "delays": [3], "learners": {"c": {}}})
    assert Recall(made)._learner(RecallCell("c", 3, 0.0, 0))[0].input_size == 2 * 64 + 4


def test_a_test_teaches_nothing() -> None:
    pytest.importorskip("sklearn")
    stream = DigitStream(3, rows=2)
    learner = OnlineLearner(stream.input_size, 10, rows=2, hidden_size=4)
    learn_recall(learner, stream, target=None, answers=20, recent=5)
    recall(learner, DigitStream(3, rows=2, split="test"), 4)  # the window that was open is learnt from
    learnt = [parameter.clone() for parameter in learner.parameters]
    recall(learner, DigitStream(3, rows=2, split="test"), 40)
    assert all(map(torch.equal, learnt, learner.parameters))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tests", "0"], "tests must be at least 1, but is 0"),
        (["--symbols", "5"], "symbols has no meaning with cues digits. Leave it out"),
        (["--cues", "symbols"], "tests: all symbols are shown in training"),
        (["--cues", "symbols", "--tests", "0", "--pairs", "true"], "pairs: a pair is of two images. Leave it out"),
        (["--cues", "letters"], "cues"),
        (["--learners.sab.encoder", "convs"], "sab: online: encoder must be one of convolutions, but is 'convs'"),
        (["--delays", "5"], "answers must have a number for each value, but has none for 5"),
    ],
)
def test_settings_of_digits_that_do_not_fit_are_one_line_of_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    (tmp_path / "digits.yaml").write_text(DIGITS)
    assert main(["suite", "run", str(tmp_path / "digits.yaml"), "--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
