"""Which stream a core has."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from sab_agents.checks import did_you_mean
from sab_agents.core.base import Core
from sab_agents.core.real_time import RealTimeCore
from sab_agents.core.registry import CoreSpec
from sab_agents.core.sab import SAB
from sab_agents.streaming.base import Stream
from sab_agents.streaming.real_time import RealTimeStream
from sab_agents.streaming.sab import SABStream
from sab_agents.streaming.truncated import TruncatedStream

COMMON = frozenset({"encoder", "observation_shape"})
"""Keyword arguments of every stream, which are not settings of one kind."""


def make_stream(
    core: Core[Any],
    rows: int = 1,
    *,
    encoder: nn.Module | None = None,
    observation_shape: tuple[int, ...] | None = None,
    **settings: Any,
) -> Stream:
    """Returns a stream through a core: a `SABStream`, a `RealTimeStream`, or a `TruncatedStream` for any other.

    Args:
        core: a `SAB` with a bounded capacity, or any core without slots.
        rows: B, rows.
        encoder: makes inputs (N, I) of observations (N, …); None passes observations on.
        observation_shape: of one observation; None is (I,).
        settings: of that kind of stream, see `stream_settings`.

    Raises:
        TypeError: this kind of stream has no such setting, or a count is not an int.
        ValueError: a setting is out of range, or the capacity of a `SAB` is None.
    """
    kind, valid = _stream_class(type(core)), stream_settings(type(core))
    for setting in settings:
        if setting not in valid:
            remedy = did_you_mean(setting, valid) if valid else "It has no settings."
            raise TypeError(f"{kind.__name__}: unknown setting {setting!r}. {remedy}")
    stream: Stream = kind(core, rows, encoder=encoder, observation_shape=observation_shape, **settings)
    return stream


def stream_settings(core: type[Core[Any]] | CoreSpec) -> tuple[str, ...]:
    """Returns the names of the settings that `make_stream` takes for such a core."""
    kind = _stream_class(core.make if isinstance(core, CoreSpec) else core)
    parameters = inspect.signature(kind.__init__).parameters.values()
    return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.name not in COMMON)


def _stream_class(core: type[Core[Any]]) -> type[Any]:
    if issubclass(core, SAB):
        return SABStream
    return RealTimeStream if issubclass(core, RealTimeCore) else TruncatedStream
