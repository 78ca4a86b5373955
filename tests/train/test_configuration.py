"""Settings that every command reads in one way: files, flags, nested keys, choices, and errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from sab_agents.checks import at_least
from sab_agents.train.configuration import Settings, as_json, build, choices, flat, help_of, load
from sab_agents.train.errors import UserError


@dataclass(frozen=True)
class Example(Settings):
    """Settings.

    Attributes:
        values: sizes.
        learners: by name.
        steps: a number, or one for each value.
        rate: of something.
        quiet: or not.
    """

    values: tuple[int | str, ...]
    learners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, metadata=choices("learner"))
    steps: int | Mapping[int | str, int] = 5
    rate: float | None = None
    quiet: bool = False

    def __post_init__(self) -> None:
        for count in self.steps.values() if isinstance(self.steps, Mapping) else (self.steps,):
            at_least("example", "steps", count, 1)


CONTENT = {"values": [1, "b"], "learners": {"x": {"n": 1, "deep": {"m": [1]}}, "y": {}}, "steps": {1: 10, "b": 20}}


def read(tmp_path: Path, *flags: str, **changes: Any) -> Example:
    path = tmp_path / "example.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}), encoding="utf-8")
    return load(Example, path, flags)


def test_a_file_gives_typed_values(tmp_path: Path) -> None:
    config = read(tmp_path, rate="1e-3")
    assert config == Example(
        values=(1, "b"), learners={"x": {"n": 1, "deep": {"m": [1]}}, "y": {}}, steps={1: 10, "b": 20}, rate=0.001
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--values", "3", "c"], {"values": (3, "c")}),
        (["--values=[3, c]"], {"values": (3, "c")}),
        (["--steps", "7", "--quiet", "--rate", "null"], {"steps": 7, "quiet": True, "rate": None}),
        (["--steps.1", "7"], {"steps": {1: 7, "b": 20}}),
        (["--steps.4", "7"], {"steps": {1: 10, "b": 20, 4: 7}}),
        (["--learners", "y"], {"learners": {"y": {}}}),
        (["--learners.x.deep.m", "[2, 3]"], {"learners": {"x": {"n": 1, "deep": {"m": [2, 3]}}, "y": {}}}),
        (["--learners.z={n: 3}", "--learners", "z"], {"learners": {"z": {"n": 3}}}),
        (["--rate", "-1"], {"rate": -1.0}),
    ],
)
def test_flags_change_the_file(flags: list[str], expected: dict[str, Any], tmp_path: Path) -> None:
    config = read(tmp_path, *flags)
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vlues", "3"], "unknown key '--vlues'. Did you mean 'values'?"),
        (["--learners", "z"], "unknown learner 'z'. Valid are: x, y."),
        (["--steps.1", "many"], "--steps must be int | Mapping[int | str, int], but is "),
        (["--rate", "fast"], "--rate must be float | None, but is 'fast'."),
        (["--steps", "0"], "example: steps must be at least 1, but is 0."),
        (["--values", "--quiet"], "--values needs a value."),
        (["extra"], "'extra' is not expected here."),
    ],
)
def test_a_wrong_flag_is_named(flags: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, *flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_or_missing_key_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"example\.yaml: unknown key 'learner'\. Did you mean 'learners'\?"):
        read(tmp_path, learner={})
    with pytest.raises(UserError, match=r"example\.yaml: quiet must be bool, but is 3\."):
        read(tmp_path, quiet=3)
    with pytest.raises(UserError, match=r"^the key 'values' is missing\."):
        load(Example, None)
    with pytest.raises(UserError, match=r"^values must be "):
        build(Example, {"values": [1.5]})


def test_the_help_says_what_each_key_means() -> None:
    text = help_of(Example, "example CONFIG", {"--out": "a folder"})
    assert all(
        part in text for part in ("example CONFIG", "--values", "sizes.", "a number, or one for each", "a folder")
    )


def test_settings_are_written_as_json_holds_them_and_flattened() -> None:
    config = Example(values=(1, "b"), steps={1: 10})
    assert as_json(config) == {"values": [1, "b"], "learners": {}, "steps": {"1": 10}, "rate": None, "quiet": False}
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": {}}) == {"a.b": 1, "a.c.d": 2, "e": {}}
