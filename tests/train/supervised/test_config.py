"""Tests of reading settings: every config file loads, and each mistake is one line that names its key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sab_agents.core.registry import CORES
from sab_agents.train.cli import main
from sab_agents.train.configuration import help_of, keys_of, load
from sab_agents.train.errors import UserError
from sab_agents.train.supervised.config import FORMER_KEYS, TrainConfig
from sab_agents.train.supervised.model import model_of, task_of

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DATA = ROOT.parent / "shared" / "data"
NEEDS_DATA = {"ptb", "text8", "mnist", "cifar10"}


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_there_are_configs_for_every_task() -> None:
    assert {load(TrainConfig, path).task for path in CONFIGS} == {"copying", "adding", "recall", "characters", "pixels"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_config_loads_and_builds_its_model(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(TrainConfig, path)
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
    flags = ["--hidden-size", "32", "--core_settings.top_k=3", "--minutes", "null", "--resume", "--clip_norm", "1e-2"]
    config = load(TrainConfig, path, flags)
    core = config.settings_of_core()
    assert (config.task, config.hidden_size, core, config.learning_rate) == ("recall", 32, {"top_k": 3}, 1e-4)
    assert (config.minutes, config.resume, config.clip_norm) == (None, True, 0.01)


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(TrainConfig, write(tmp_path, "")) == TrainConfig()


def test_settings_survive_writing_and_reading(tmp_path: Path) -> None:
    config = TrainConfig(task="adding", length=7, learning_rate=3e-5, minutes=0.5, corpus="a: b", permuted=False)
    assert load(TrainConfig, write(tmp_path, yaml.safe_dump(config.settings()))).settings() == config.settings()


def test_the_help_explains_every_key() -> None:
    text = help_of(TrainConfig, "", {})
    for key in keys_of(TrainConfig):
        assert re.search(rf"--{key} \S+\s+\S+ \S+ ", text), key


MISTAKES = {
    "hiden_size: 5": "{path}: unknown key 'hiden_size'. Did you mean 'hidden_size'?",
    "steps: many": "{path}: steps must be int, but is 'many'.",
    "steps: 2.5": "{path}: steps must be int, but is 2.5.",
    "core_settings: {attention: dott}": "must be one of 'mlp', 'dot', but is 'dott'.",
    "core_settings: 3": "{path}: core_settings must be Mapping[str, Any], but is 3.",
    "top_k: 3": "{path}: unknown key 'top_k'. Did you mean 'core_settings.top_k'?",
    "core_settings: {topk: 3}": "core_settings: sab does not have 'topk'. Did you mean 'top_k'?",
    "core: lstm_tbptt\ncore_settings: {top_k: 3}": "core_settings: lstm_tbptt does not have 'top_k'.",
    "core_settings: {sba: {top_k: 3}}": "core: unknown core 'sba'. Did you mean 'sab'?",
    "core_settings: {shared: {topk: 3}}": "core_settings: no core has 'topk'. Did you mean 'top_k'?",
    "resume: 3": "{path}: resume must be bool, but is 3.",
    "- 3": "{path}: must be a list of 'key: value' lines, but is list.",
    "steps: 0": "steps must be at least 1, but is 0.",
    "learning_rate: .nan": "learning_rate must be a number above 0, but is nan.",
    "seed: -1": "seed must be at least 0, but is -1.",
    "final_learning_rate: 1": "final_learning_rate must be between 0 and learning_rate = 0.001, but is 1.0.",
    "task: recal": "task: unknown task 'recal'. Did you mean 'recall'?",
    "core: ltsm": "core: unknown core 'ltsm'. Did you mean 'lstm'?",
    "device: gpu0": "device 'gpu0' cannot be used: ",
    "task: adding\nsymbols: 3": "symbols",
    "task: recall\nlength: 0": "length",
    "core: sab\ncore_settings: {top_k: 0}": "top_k must be at least 1, but is 0",
    "core: transformer\nhidden_size: 10\ncore_settings: {heads: 4}": "heads",
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
        (["--top-k", "3"], "unknown key '--top_k'. Did you mean 'core_settings.top_k'?"),
        (["--core_settings.top_k", "[1"], "--core_settings.top_k: '[1' is not YAML: "),
        (["7"], "'7' is not expected here. Settings are given as --key value."),
        (["--zzzzzz=1"], "unknown key '--zzzzzz'. Valid are: task, length, "),
    ],
)
def test_a_wrong_flag_names_the_nearest_key(flags: list[str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(TrainConfig, write(tmp_path, ""), flags)
    assert str(caught.value).startswith(expected)


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "")
    with pytest.raises(UserError, match=r"x2\.yaml: No such file or directory\. Did you mean 'x\.yaml'\?"):
        load(TrainConfig, tmp_path / "x2.yaml")
    with pytest.raises(UserError, match=r"No such file or directory\.$"):
        load(TrainConfig, tmp_path / "nowhere" / "x.yaml")


FORMER: dict[str, Any] = {
    **{"top_k": 3, "write_every": 2, "bptt_steps": 4, "capacity": 7, "attention": "dot", "attention_size": 6},
    **{"temperature": 0.5, "layers": 1, "heads": 2, "context": 9},
}


BY_NAME = {
    "attention": "dot",
    "recipe": "paper",
    "summary_gain": "gate",
    "age": True,
    "floor": 0.25,
    "sharpness": 0.5,
    "stored": "cell",
    "output_gate": False,
}
"""Values of the settings of which their defaults say too little."""


def another(name: str, value: Any) -> Any:
    """Returns a value that a setting with this name and default may have, too."""
    if name in BY_NAME:
        return BY_NAME[name]
    if value is None:
        return 7
    return 2 * value if isinstance(value, int) else value / 2 or 0.1


@pytest.mark.parametrize("core", CORES)
def test_every_setting_of_every_core_can_be_set_in_a_file_and_by_a_flag(core: str, tmp_path: Path) -> None:
    for name, default in TrainConfig(core=core).settings()["core_settings"].items():
        value = another(name, default)
        path = write(tmp_path, f"task: recall\ncore: {core}\nhidden_size: 8\ncore_settings: {{{name}: {value}}}\n")
        by_flag = [
            "--task",
            "recall",
            "--core",
            core,
            "--hidden_size",
            "8",
            f"--core_settings.{name}",
            str(value),
        ]
        for config in (load(TrainConfig, path), load(TrainConfig, None, by_flag)):
            assert config.settings()["core_settings"][name] == value
            assert model_of(config, task_of(config)).core is not None


def test_settings_reach_the_core() -> None:
    config = TrainConfig(task="recall", core_settings={"top_k": 3, "summary_gain": 0.25})
    core: Any = model_of(config, task_of(config)).core
    assert (core.rules.reading.top_k, core.rules.reading.gain, core.rules.bptt_steps) == (3, 0.25, 10)


def test_a_core_takes_the_shared_settings_that_it_has_and_prefers_its_own() -> None:
    given = {"shared": {"top_k": 3, "bptt_steps": 4}, "sab_uncredited": {"top_k": 2}, "lstm_attention": {}}
    expected = {
        "sab": {"top_k": 3, "bptt_steps": 4},
        "sab_uncredited": {"top_k": 2, "bptt_steps": 4},
        "lstm_tbptt": {"bptt_steps": 4},
        "lstm": {},
    }
    found = {core: TrainConfig(core=core, core_settings=given).settings_of_core() for core in expected}
    assert found == expected


def test_all_settings_of_the_core_are_written_with_their_defaults() -> None:
    settings = TrainConfig(core="sab_softmax", core_settings={"write_every": 3}).settings()["core_settings"]
    defaults = {"bptt_steps": 10, "capacity": None, "attention": "mlp", "temperature": 1.0}
    assert settings.items() >= {"write_every": 3, **defaults}.items()
    assert not settings.keys() & {"top_k", "floor", "sharpness"}
    assert TrainConfig(core="lstm_tbptt").settings()["core_settings"]["bptt_steps"] == 10


@pytest.mark.parametrize("core", FORMER_KEYS)
def test_the_file_of_an_earlier_run_is_read_with_the_settings_that_its_core_had(core: str, tmp_path: Path) -> None:
    flat = {**FORMER, "core": core, "task": "recall", "hidden_size": 8}
    config = load(TrainConfig, write(tmp_path, yaml.safe_dump(flat)))
    recipe = {"recipe": "paper", "output_gate": False} if core.startswith("sab") else {}
    unused = {"top_k"} if core == "sab_softmax" else set[str]()
    assert config.settings_of_core() == recipe | {
        name: FORMER[name] for name in FORMER_KEYS[core] if name not in unused
    }
    assert config.hidden_size == 8
