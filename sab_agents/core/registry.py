"""Cores by name, so that one word of a configuration changes the core and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sab_agents.core.ablations import SoftmaxSAB, UncreditedSAB
from sab_agents.core.base import Core
from sab_agents.core.lstm import LSTM
from sab_agents.core.lstm_attention import LSTMAttention
from sab_agents.core.sab import SAB
from sab_agents.core.transformer import Transformer

SAB_SETTINGS = ("top_k", "write_every", "bptt_steps", "capacity", "attention", "attention_size")


@dataclass(frozen=True)
class CoreSpec:
    """A core as a configuration names it.

    Attributes:
        make: its class.
        settings: the settings that it takes; others are ignored.
        summary: one line for people.
    """

    make: type[Core[Any]]
    settings: tuple[str, ...]
    summary: str


CORES: Mapping[str, CoreSpec] = MappingProxyType(
    {
        "sab": CoreSpec(SAB, SAB_SETTINGS, "Sparse Attentive Backtracking"),
        "sab_softmax": CoreSpec(SoftmaxSAB, (*SAB_SETTINGS, "temperature"), "SAB with dense softmax attention"),
        "sab_uncredited": CoreSpec(UncreditedSAB, SAB_SETTINGS, "SAB whose memory is read but not credited"),
        "lstm": CoreSpec(LSTM, (), "LSTM, full BPTT"),
        "lstm_tbptt": CoreSpec(LSTM, ("bptt_steps",), "LSTM, truncated BPTT"),
        "lstm_attention": CoreSpec(LSTMAttention, ("attention_size",), "LSTM with dense self-attention, full BPTT"),
        "transformer": CoreSpec(Transformer, ("layers", "heads", "context"), "causal Transformer"),
    }
)


def build_core(name: str, input_size: int, hidden_size: int, **settings: Any) -> Core[Any]:
    """The core of that name.

    Args:
        name: a key of `CORES`.
        input_size: I.
        hidden_size: H.
        settings: of any core; those that this one does not have are ignored.

    Raises:
        ValueError: the name is unknown, or a setting's value is out of range.
    """
    if name not in CORES:
        raise ValueError(f"build_core: core must be one of {', '.join(CORES)}, but is {name!r}.")
    spec = CORES[name]
    return spec.make(input_size, hidden_size, **{key: settings[key] for key in spec.settings if key in settings})
