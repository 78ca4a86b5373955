"""The YAML file of a sweep: one reader for every experiment that runs named choices over sizes and seeds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sab_agents.checks import did_you_mean
from sab_agents.train.errors import UserError, one_line


def sweep_settings(
    path: Path, known: Collection[str], required: Sequence[str], choices: tuple[str, str], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Reads a YAML file of known keys.

    Args:
        path: of the file.
        known: keys that it may have.
        required: keys that it must have.
        choices: the key that maps names to what they stand for, and the word for one of them.
        changes: settings to use in place of the file's; None leaves the file's. Under the key of `choices`, the names
            to keep.

    Raises:
        UserError: the file is missing, not YAML or not a mapping, or a key or name is unknown or missing.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a list of 'key: value' lines, but is {type(content).__name__}.")
    for name in content:
        if name not in known:
            raise UserError(f"{path}: unknown key '{name}'. {did_you_mean(str(name), known)}")
    for name in required:
        if name not in content:
            raise UserError(f"{path}: the key '{name}' is missing.")
    changes = {name: value for name, value in changes.items() if value is not None}
    key, word = choices
    kept = changes.pop(key, None)
    if kept is not None:
        for name in kept:
            if name not in content[key]:
                raise UserError(f"unknown {word} '{name}'. {did_you_mean(name, content[key])}")
        content[key] = {name: content[key][name] for name in kept}
    return {**content, **changes}


def check_mapping(name: str, value: object) -> None:
    """Refuses what is no mapping, by a `UserError`."""
    if not isinstance(value, Mapping):
        raise UserError(f"{name} must be a mapping, but is {value!r}.")


def check_count(name: str, value: object) -> None:
    """Refuses what is no whole number of at least 1, by a `UserError`."""
    if type(value) is not int or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, but is {value!r}.")


def check_counts(name: str, given: object, values: Collection[int | str], word: str) -> None:
    """Refuses what is neither one count nor a count for each of the values, by a `UserError` that calls it `word`."""
    if isinstance(given, Mapping):
        for value in values:
            if value not in given:
                raise UserError(f"{name} must have a {word} for each value, but has none for {value}.")
    for count in given.values() if isinstance(given, Mapping) else (given,):
        check_count(name, count)
