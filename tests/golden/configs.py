"""The experiments of `configs/`: which cells each file has, and what decides each cell's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.golden.internals import cells_of

CONFIGS = Path(__file__).parents[2] / "configs"
RESULTS = "configs.json"
PATHS = {path.relative_to(CONFIGS).as_posix(): path for path in sorted(CONFIGS.rglob("*.yaml"))}


def resolved(name: str) -> dict[str, Any]:
    """Returns a file's cells: the settings that all have in common, and for each cell by name the others.

    Nested settings have dotted names.
    """
    cells = {cell: flat(settings) for cell, settings in cells_of(PATHS[name]).items()}
    first = next(iter(cells.values()))
    common = {
        key: value
        for key, value in first.items()
        if all(key in settings and same(settings[key], value) for settings in cells.values())
    }
    own = {
        cell: {key: value for key, value in settings.items() if key not in common} for cell, settings in cells.items()
    }
    return {"common": common, "cells": own}


def same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are equal and of one type."""
    return type(one) is type(other) and bool(one == other)


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings under dotted names."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
