"""Tasks by name, and the environment of each."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sab_agents.envs.registration import SUPERVISED
from sab_agents.envs.supervised import (
    TASKS,
    Adding,
    Copying,
    Pixels,
    Recall,
    SequenceTask,
    environment_of,
    make_task,
    settings_of,
)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_made_by_its_name_alone(name: str) -> None:
    pytest.importorskip("sklearn")
    task = make_task(name)
    assert task.name == name
    assert isinstance(task, SequenceTask)
    assert set(task.memoryless) == set(task.metrics)
    batch = task.train_batch(0, 2, 0)
    assert batch.inputs.shape[1:] == (2, task.input_size)
    assert batch.targets.max() < task.output_size or task.loss == "squared_error"


def test_settings_reach_the_task() -> None:
    assert make_task("copying", length=5) == Copying(length=5)
    assert make_task("recall", length=5, symbols=3, distractors=2) == Recall(length=5, symbols=3, distractors=2)


def test_settings_left_out_keep_the_tasks_own_defaults() -> None:
    assert make_task("adding", length=None) == Adding()


def test_a_zero_is_a_setting_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="length must be at least 1, but is 0"):
        make_task("copying", length=0)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_can_be_sent_to_another_process(name: str) -> None:
    pytest.importorskip("sklearn")
    task = make_task(name)
    sent = pickle.loads(pickle.dumps(task))
    assert sent == task
    assert np.array_equal(sent.train_batch(1, 2, 0).inputs, task.train_batch(1, 2, 0).inputs)


def test_permuted_reaches_the_task_also_when_it_is_false() -> None:
    pytest.importorskip("sklearn")
    assert make_task("pixels", permuted=True) == Pixels(permuted=True)
    assert make_task("pixels", permuted=False) == Pixels()


def test_the_path_of_a_text_reaches_the_task(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a text of some length " * 10)
    assert make_task("characters", corpus=str(tmp_path / "text")).input_size == len(set("a text of some length "))


def test_an_unknown_name_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"one of copying, .*, but is 'coping'\. Did you mean 'copying'\?"):
        make_task("coping")


@pytest.mark.parametrize(
    ("name", "setting", "value", "owner"),
    [
        ("copying", "corpus", "ptb", "characters"),
        ("adding", "symbols", 3, "recall"),
        ("pixels", "length", 3, "copying and adding and recall and characters"),
        ("recall", "data_dir", ".", "characters and pixels"),
    ],
)
def test_a_setting_that_the_task_does_not_take_is_an_error(name: str, setting: str, value: Any, owner: str) -> None:
    message = (
        rf"make_task: {name} takes no {setting}; it takes {', '.join(settings_of(name))} \({setting} belongs to {owner}"
    )
    with pytest.raises(ValueError, match=message):
        make_task(name, **{setting: value})


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TASKS["other"] = Copying  # type: ignore[index]


def test_an_unknown_setting_is_an_error_that_names_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="make_task: adding takes no lenght; it takes length"):
        make_task("adding", lenght=3)


@pytest.mark.parametrize(
    ("task", "env_id"),
    [
        (Copying(length=3), "SAB/Copying-v0"),
        (Adding(), "SAB/Adding-v0"),
        (Recall(symbols=3), "SAB/DelayedRecall-v0"),
    ],
    ids=str,
)
def test_every_length_of_a_task_has_the_environment_of_its_class(task: SequenceTask, env_id: str) -> None:
    assert environment_of(task).id == env_id


def test_images_have_the_environment_of_their_data_set(mnist_folder: Path) -> None:
    pytest.importorskip("sklearn")
    assert environment_of(Pixels()).id == "SAB/PixelDigits-v0"
    assert environment_of(Pixels("mnist", data_dir=mnist_folder, permuted=True)).id == "SAB/PixelMNIST-v0"


def test_a_task_without_an_environment_is_an_error() -> None:
    class Other(Copying):
        pass

    with pytest.raises(ValueError, match=r"must be one of copying, adding, .* but is Other"):
        environment_of(Other())


def test_every_registered_supervised_environment_belongs_to_a_task() -> None:
    assert {entry.load() for entry in SUPERVISED} == set(TASKS.values())
