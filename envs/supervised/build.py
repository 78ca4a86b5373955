"""Tasks by name: the registry, and the one way from settings as text to a task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from sab_agents.envs.supervised.adding import Adding
from sab_agents.envs.supervised.characters import Characters
from sab_agents.envs.supervised.checks import nearest
from sab_agents.envs.supervised.copying import Copying
from sab_agents.envs.supervised.pixels import Pixels
from sab_agents.envs.supervised.recall import Recall
from sab_agents.envs.supervised.task import SequenceTask

TaskClass = type[Copying] | type[Adding] | type[Recall] | type[Characters] | type[Pixels]

TASKS: Mapping[str, TaskClass] = MappingProxyType(
    {task.name: task for task in (Copying, Adding, Recall, Characters, Pixels)}
)


def settings_of(name: str) -> tuple[str, ...]:
    """Returns the settings that a task takes, in the order of its class.

    Raises:
        ValueError: there is no task of this name.
    """
    if name not in TASKS:
        raise ValueError(f"make_task: name must be one of {', '.join(TASKS)}, but is {name!r}{nearest(name, TASKS)}.")
    return tuple(field.name for field in fields(TASKS[name]) if field.init)


def make_task(
    name: str,
    *,
    length: int | None = None,
    min_length: int | None = None,
    symbols: int | None = None,
    distractors: int | None = None,
    corpus: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
    permuted: bool | None = None,
    carry: bool | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> SequenceTask:
    """Makes the task of this name; settings left at None keep the task's own defaults.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: there is no such task, the task does not take a setting, or its value is out of range.
        OSError: the task's data are missing and cannot be fetched.
    """
    settings: dict[str, Any] = {
        "length": length,
        "min_length": min_length,
        "symbols": symbols,
        "distractors": distractors,
        "corpus": corpus,
        "dataset": dataset,
        "permuted": permuted,
        "carry": carry,
        "data_dir": data_dir,
    }
    given = {setting: value for setting, value in settings.items() if value is not None}
    taken = settings_of(name)
    for setting in given:
        if setting not in taken:
            takers = [other for other in TASKS if setting in settings_of(other)]
            raise ValueError(
                f"make_task: {name} takes no {setting}; it takes {', '.join(taken)} "
                f"({setting} belongs to {' and '.join(takers)})."
            )
    return TASKS[name](**given)
