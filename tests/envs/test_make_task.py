"""Tests of making tasks by name."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sab_agents.envs.supervised import TASKS, Adding, Copying, Pixels, Recall, SequenceTask, make_task, settings_of


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
    with pytest.raises(ValueError, match="length must be an int of at least 1, but is 0"):
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


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match=r"one of copying, .*, but is 'coping' \(did you mean 'copying'\?\)"):
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
def test_a_setting_that_the_task_does_not_take_is_refused(name: str, setting: str, value: Any, owner: str) -> None:
    message = rf"make_task: {name} takes no {setting}; it takes {', '.join(settings_of(name))} \({setting} .* {owner}\)"
    with pytest.raises(ValueError, match=message):
        make_task(name, **{setting: value})


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TASKS["other"] = Copying  # type: ignore[index]
