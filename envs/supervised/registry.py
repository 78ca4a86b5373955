"""Supervised tasks by name, read from the registered environments of `sab_agents.envs.registration`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from sab_agents.checks import one_of
from sab_agents.envs.registration import SUPERVISED, Registered
from sab_agents.envs.supervised.task import SequenceTask

TASKS: Mapping[str, type[SequenceTask]] = MappingProxyType(
    {task.name: task for task in (entry.load() for entry in SUPERVISED)}
)
"""The class of each task by its name; each is a frozen dataclass whose fields are the settings."""


def settings_of(name: str) -> tuple[str, ...]:
    """Returns the names of the settings of a task, in the order of its class.

    Raises:
        ValueError: there is no task of this name.
    """
    task: Any = TASKS[one_of("make_task", "name", name, TASKS)]
    return tuple(field.name for field in fields(task) if field.init)


def make_task(name: str, **settings: Any) -> SequenceTask:
    """Makes the task of this name.

    Args:
        name: a key of `TASKS`.
        settings: settings of the task. A setting that is None keeps the default of the task.

    Raises:
        TypeError: a setting has the wrong type.
        ValueError: there is no such task, the task does not have a setting, or a value is out of range.
        OSError: the data of the task is missing and cannot be downloaded.
    """
    valid = settings_of(name)
    chosen = {setting: value for setting, value in settings.items() if value is not None}
    for setting in chosen:
        if setting not in valid:
            owners = [other for other in TASKS if setting in settings_of(other)]
            belongs = f" ({setting} belongs to {' and '.join(owners)})" if owners else ""
            raise ValueError(f"make_task: {name} takes no {setting}; it takes {', '.join(valid)}{belongs}.")
    return TASKS[name](**chosen)


def environment_of(task: SequenceTask) -> Registered:
    """Returns the registered environment of a task: of those of its class, the one whose settings it shares most.

    Raises:
        ValueError: the task has no environment.
    """
    entries = [entry for entry in SUPERVISED if entry.load() is type(task)]
    if not entries:
        raise ValueError(f"environment_of: the task must be one of {', '.join(TASKS)}, but is {type(task).__name__}.")
    return max(
        entries, key=lambda entry: sum(getattr(task, key, None) == value for key, value in entry.arguments.items())
    )
