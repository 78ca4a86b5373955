"""Settings of every command: frozen dataclasses, read from a YAML file and from flags of the same names.

A flag is `--key value`, with dashes or underscores, or `--key=value`; a key that holds a list takes several values, and
a bool alone means true. `--key.name value` sets one entry of a mapping, `--key name=value other=value` some of them.
Importing this module is cheap (no torch), so that help and errors come at once.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser as TypedParser

from sab_agents.checks import did_you_mean
from sab_agents.train.errors import UserError, one_line


class Settings:
    """Base of the dataclasses that hold a command's settings.

    `__post_init__` raises TypeError or ValueError for values that do not fit; `load` reports them as a `UserError`. The
    names in a mapping field with the metadata of `choices` can be narrowed by a flag: `--learners sab lstm`.
    """

    no_flags: ClassVar[frozenset[str]] = frozenset()
    """Keys that only a file may have."""

    @classmethod
    def translated(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the content of a file, which an older version may have written, with today's keys."""
        return dict(values)

    @classmethod
    def nested_keys(cls) -> Iterable[str]:
        """Returns dotted keys of known entries of mappings, which an error suggests for the last part alone."""
        return ()


SettingsT = TypeVar("SettingsT", bound=Settings)


def choices(word: str) -> dict[str, Any]:
    """Returns the metadata of a mapping whose names a flag can choose from; `word` is what errors call one of them."""
    return {"choice": word}


def keys_of(cls: type[Settings]) -> tuple[str, ...]:
    """Returns the names of all settings."""
    return tuple(field.name for field in _fields(cls))


def help_of(cls: type[Settings], usage: str, options: Mapping[str, str]) -> str:
    """Returns the help of a command: its settings with their types, defaults and meanings.

    Args:
        cls: the settings, explained under "Attributes" of the class's docstring.
        usage: the command line.
        options: the command's other flags, with what they mean.
    """
    parser = ArgumentParser(usage=usage)
    meanings = _meanings(cls)
    for name, text in options.items():
        parser.add_argument(name, help=text, default=SUPPRESS)
    for field in _fields(cls):
        if field.name not in cls.no_flags:
            default = "required" if not _has_default(field) else f"default: {json.dumps(_default(field))}"
            text = f"{meanings[field.name]} ({field.type}; {default})"
            parser.add_argument(f"--{field.name}", help=text.replace("%", "%%"), default=SUPPRESS)
    return parser.format_help()


def load(cls: type[SettingsT], path: str | Path | None, flags: Sequence[str] = ()) -> SettingsT:
    """Reads settings from a file and from the flags that change them.

    Args:
        cls: the settings.
        path: a YAML file of their keys; None starts from the defaults.
        flags: see the module.

    Raises:
        UserError: the file is missing or not a mapping; a key is unknown or missing; a value has the wrong type or
            range.
    """
    changes = list(_changes(cls, flags))
    place = "" if path is None else f"{path}: "
    values = {} if path is None else cls.translated(read_yaml(Path(path)))
    if "suite" not in keys_of(cls):
        values.pop("suite", None)  # which only says whose settings these are
    _check_keys(cls, values, place)
    for keys, value in changes:
        _apply(cls, values, keys, value)
    changed = {keys[0] for keys, _ in changes}
    return build(cls, values, lambda name: "--" if name in changed else place)


def build(cls: type[SettingsT], values: Mapping[str, Any], source: Any = lambda _: "") -> SettingsT:
    """Makes settings of values whose types are checked.

    Args:
        cls: the settings.
        values: by key; numbers may be given as text.
        source: returns, for a key, what an error begins with.

    Raises:
        UserError: a key is unknown or missing, or a value has the wrong type or range.
    """
    _check_keys(cls, values, "")
    parser, typed = _parser(cls), {}  # type: ignore[arg-type]  # a class is hashable
    types = {field.name: str(field.type) for field in _fields(cls)}
    for name, value in values.items():
        try:
            typed[name] = parser.parse_object({name: value}, defaults=False)[name]
        except Exception as error:  # jsonargparse raises ArgumentError or TypeError, depending on the type
            raise UserError(f"{source(name)}{name} must be {types[name]}, but is {value!r}.") from error
    for field in _fields(cls):
        if not _has_default(field) and field.name not in typed:
            raise UserError(f"{source('')}the key '{field.name}' is missing.")
    try:
        return cls(**typed)
    except (TypeError, ValueError) as error:
        raise UserError(one_line(error)) from error


def _fields(cls: type[Settings]) -> tuple[dataclasses.Field[Any], ...]:
    assert dataclasses.is_dataclass(cls)
    return dataclasses.fields(cls)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _meanings(cls: type[Settings]) -> dict[str, str]:
    """Returns what the docstrings of a class and of those that it extends say of each key, under "Attributes"."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        _, _, listed = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:\n")
        for entry in re.split(r"\n(?=    \w)", f"\n{listed}"):
            name, _, text = entry.strip().partition(": ")
            found[name] = one_line(text)
    return found


@cache
def _parser(cls: type[Settings]) -> TypedParser:
    """Returns a parser that knows the type of each key, none of which is required."""
    parser = TypedParser(exit_on_error=False)
    types = get_type_hints(cls)
    for name in keys_of(cls):
        parser.add_argument(f"--{name}", type=types[name])
    return parser


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as everywhere else, and not a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d.]*[eE][-+]?\d+$"), list("-+0123456789")
)


def value_of(text: str) -> Any:
    """Returns the value that a text has in YAML.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the content of a YAML file of keys and values.

    Raises:
        UserError: the file is missing, not YAML, or not a mapping.
    """
    try:
        content = value_of(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = ""
        others = sorted(other.name for other in path.parent.glob("*.y*ml"))
        if isinstance(error, FileNotFoundError) and others:
            hint = f" {did_you_mean(path.name, others)}"
        raise UserError(f"{path}: {error.strerror or error}.{hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file: {one_line(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a list of 'key: value' lines, but is {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


def _check_keys(cls: type[Settings], values: Mapping[str, Any], source: str) -> None:
    known = keys_of(cls)
    for name in values:
        if name not in known:
            raise UserError(f"{source}unknown key '{name}'. {_remedy(cls, name, known)}")


def _remedy(cls: type[Settings], name: str, known: Collection[str]) -> str:
    nested = [key for key in cls.nested_keys() if key.rpartition(".")[2] == name]
    return f"Did you mean '{nested[0]}'?" if nested else did_you_mean(name, known)


def _changes(cls: type[Settings], flags: Sequence[str]) -> Iterator[tuple[list[str], Any]]:
    """Yields for each flag its dotted key in parts, and its value: a text, a list of texts, or parsed YAML."""
    known = [name for name in keys_of(cls) if name not in cls.no_flags]
    fields = {field.name: field for field in _fields(cls)}
    types = get_type_hints(cls)
    rest = list(flags)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"'{flag}' is not expected here. Settings are given as --key value.")
        dotted, equals, value = flag.removeprefix("--").partition("=")
        first, *inner = dotted.split(".")
        name = first.replace("-", "_")
        if name not in known:
            raise UserError(f"unknown key '--{name}'. {_remedy(cls, name, known)}")
        given = [value] if equals else []
        chosen = "choice" in fields[name].metadata
        takes_many = not inner and (_holds(types[name], tuple) or chosen)
        takes_pairs = not inner and _holds(types[name], Mapping) and not chosen
        while not equals and rest and not rest[0].startswith("--"):
            if given and not takes_many and not (takes_pairs and "=" in given[0]):
                break
            given.append(rest.pop(0))
        if not given and not inner and types[name] is bool:
            given = ["true"]
        if not given:
            raise UserError(f"--{dotted} needs a value.")
        one = given[0]
        if takes_pairs and "=" in one and not one.startswith(("{", "[")):
            yield from (([name, *keys], parsed) for keys, parsed in _pairs(dotted, given))
        elif inner or one.startswith(("{", "[")):
            yield [name, *inner], _parsed(dotted, one)
        else:
            yield [name], given if takes_many else one


def settings_of(flag: str, given: Sequence[str]) -> dict[str, Any]:
    """Returns the settings NAME=VALUE of a flag; values are YAML.

    Raises:
        UserError: one is not of this form.
    """
    found: dict[str, Any] = {}
    for keys, value in _pairs(flag, given):
        found[".".join(keys)] = value
    return found


def _pairs(flag: str, given: Sequence[str]) -> Iterator[tuple[list[str], Any]]:
    """Yields for each `name=value` its dotted name in parts, and its value."""
    for pair in given:
        dotted, equals, text = pair.partition("=")
        if not (dotted and equals):
            raise UserError(f"--{flag}: settings must be NAME=VALUE, but one is '{pair}'.")
        yield dotted.split("."), _parsed(flag, text)


def _holds(annotation: Any, kind: type) -> bool:
    """Returns whether the annotation, or a part of it if it is a union, is of this kind."""
    parts = (annotation, *get_args(annotation)) if get_origin(annotation) is not tuple else (annotation,)
    return any((get_origin(part) or part) is kind for part in parts)


def _parsed(dotted: str, text: str) -> Any:
    try:
        return value_of(text)
    except yaml.YAMLError as error:
        raise UserError(f"--{dotted}: '{text}' is not YAML: {one_line(error)}") from None


def _apply(cls: type[Settings], values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Puts one flag's value into the nested values, which are copied where they change."""
    field = next(field for field in _fields(cls) if field.name == keys[0])
    if len(keys) == 1 and "choice" in field.metadata and isinstance(value, list):
        known = values.get(keys[0], {})
        for name in value:
            if name not in known:
                raise UserError(f"unknown {field.metadata['choice']} '{name}'. {did_you_mean(name, known)}")
        value = {name: known[name] for name in value}
    inner: dict[Any, Any] = values
    for part in keys[:-1]:
        key = _key(inner, part)
        below = inner.get(key)
        inner[key] = dict(below) if isinstance(below, Mapping) else {}
        inner = inner[key]
    inner[_key(inner, keys[-1])] = value


def _key(values: Mapping[Any, Any], part: str) -> Any:
    """Returns the key of a mapping that a flag names: one that is there, or else a number if it looks like one."""
    there = [key for key in values if str(key) == part]
    return there[0] if there else int(part) if part.isdecimal() else part


def as_json(settings: Settings) -> dict[str, Any]:
    """Returns all settings as JSON holds them."""
    return {name: plain(getattr(settings, name)) for name in keys_of(type(settings))}


def plain(value: Any) -> Any:
    """Returns a value as JSON holds it: mappings with text for keys, and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
