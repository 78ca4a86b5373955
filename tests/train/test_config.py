"""Tests of reading settings: every config file loads, and each mistake is one line that names its key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sab_agents.train.cli import main
from sab_agents.train.config import KEYS, TrainConfig, config_parser, load_config
from sab_agents.train.errors import UserError
from sab_agents.train.model import model_of, task_of

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DATA = ROOT.parent / "shared" / "data"
NEEDS_DATA = {"ptb", "text8", "mnist", "cifar10"}


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_there_are_configs_for_every_task() -> None:
    assert {load_config(path).task for path in CONFIGS} == {"copying", "adding", "recall", "characters", "pixels"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_loads_and_builds_its_model(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(path)
    if NEEDS_DATA & {config.corpus, config.dataset}:
        if not DATA.is_dir():
            pytest.skip("needs the data sets")
        monkeypatch.setenv("SAB_DATA_DIR", str(DATA))
    if config.dataset == "digits":
        pytest.importorskip("sklearn")
    task = task_of(config)
    assert model_of(config, task).head.out_features == task.output_size


def test_flags_change_the_file_and_are_typed(tmp_path: Path) -> None:
    path = write(tmp_path, "task: recall\nhidden_size: 16\nlearning_rate: 1e-4\n")
    flags = ["--hidden-size", "32", "--top_k=3", "--minutes", "null", "--resume", "--clip_norm", "1e-2"]
    config = load_config(path, flags)
    assert (config.task, config.hidden_size, config.top_k, config.learning_rate) == ("recall", 32, 3, 1e-4)
    assert (config.minutes, config.resume, config.clip_norm) == (None, True, 0.01)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "")) == TrainConfig()


def test_settings_survive_writing_and_reading(tmp_path: Path) -> None:
    config = TrainConfig(task="adding", length=7, learning_rate=3e-5, minutes=0.5, corpus="a: b", permuted=False)
    assert load_config(write(tmp_path, yaml.safe_dump(config.settings()))) == config


def test_the_help_explains_every_key() -> None:
    actions = {action.dest: action for action in config_parser("")._actions}
    unexplained = [key for key in KEYS if not actions[key].help]
    assert not unexplained


MISTAKES = {
    "hiden_size: 5": "{path}: unknown key 'hiden_size'. Did you mean 'hidden_size'?",
    "steps: many": "{path}: steps must be int, but is 'many'.",
    "steps: 2.5": "{path}: steps must be int, but is 2.5.",
    "attention: dott": "{path}: attention must be Literal['mlp', 'dot'], but is 'dott'.",
    "resume: 3": "{path}: resume must be bool, but is 3.",
    "- 3": "{path}: must be a list of 'key: value' lines, but is list.",
    "steps: 0": "steps must be at least 1, but is 0.",
    "learning_rate: .nan": "learning_rate must be above 0, but is nan.",
    "seed: -1": "seed must be at least 0, but is -1.",
    "final_learning_rate: 1": "final_learning_rate must be between 0 and learning_rate = 0.001, but is 1.0.",
    "task: recal": "task: unknown task 'recal'. Did you mean 'recall'?",
    "core: ltsm": "core: unknown core 'ltsm'. Did you mean 'lstm'?",
    "device: gpu0": "device 'gpu0' cannot be used: ",
    "task: adding\nsymbols: 3": "symbols",
    "task: recall\nlength: 0": "length",
    "core: sab\ntop_k: 0": "top_k",
    "core: transformer\nhidden_size: 10\nheads: 4": "heads",
    "steps: [1": "{path}: not a YAML file: ",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_config_is_one_line_that_names_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, text)
    assert main(["train", path]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sab-agents: ")
    assert MISTAKES[text].format(path=path) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--botch-size", "3"], "unknown key '--botch_size'. Did you mean 'batch_size'?"),
        (["--steps", "x"], "--steps must be int, but is 'x'."),
        (["--steps"], "--steps needs a value."),
        (["7"], "'7' is not expected here. Settings are given as --key value."),
        (["--zzzzzz=1"], "unknown key '--zzzzzz'. Valid are: task, length, "),
    ],
)
def test_a_wrong_flag_names_the_nearest_key(flags: list[str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_config(write(tmp_path, ""), flags)
    assert str(caught.value).startswith(expected)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(UserError, match=r"x2\.yaml: No such file or directory\. Did you mean 'x\.yaml'\?"):
        load_config(tmp_path / "x2.yaml")
    with pytest.raises(UserError, match=r"No such file or directory\.$"):
        load_config(tmp_path / "nowhere" / "x.yaml")
