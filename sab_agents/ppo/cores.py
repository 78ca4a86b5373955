"""What PPO adds to each kind of core: its default settings, what the networks behind it read, its state as arrays.

Dimensions: n environments, L layers, H hidden size, F output size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sab_agents.checks import at_least, did_you_mean
from sab_agents.core import SAB
from sab_agents.core.base import Core
from sab_agents.core.lstm import LSTMState
from sab_agents.core.recipes import former_settings
from sab_agents.core.registry import CoreSpec
from sab_agents.core.state import State, as_tensor
from sab_agents.streaming import Stream, make_stream, stream_settings

Array = npt.NDArray[Any]

SUMMARY_SCALE = 0.2
"""Of a SAB's s in what the networks behind it read: at first s is as large as h and of little use."""

NOVELTY = 0.3
"""What an agent must remember, such as its own first action, may be a small part of what it sees."""

REPLAY_STEPS = 8
"""Steps of the segments that credit replays, unless a setting says otherwise."""

SAB_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "top_k": 4,
        "bptt_steps": None,
        "rerun_steps": None,
        "capacity": 64,
        "attention": "dot",
        "attention_size": 32,
        # With the recipe's two of seven agents fell back to 360 of 500 in the masked CartPole, with 0 none of six.
        "floor": 0.0,
        # Episodes are marked: with age two of three agents opened half of the doors of Key-to-Door, without it none.
        "age": False,
        # Hidden layers follow a policy's core; with a gate it has not been measured.
        "output_gate": False,
    }
)
"""Settings whose default differs from that of `SAB` and `SABStream`."""


def former_core_kwargs(spec: CoreSpec, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a file that was written before there were recipes: the paper's, but for a gain of 0."""
    if "recipe" not in spec.settings:
        return dict(settings)
    return {"summary_gain": 0.0, **former_settings({}, spec.settings, settings)}


def known_settings(spec: CoreSpec) -> tuple[str, ...]:
    """Returns the names of the settings of a core and its stream that a policy takes."""
    # A stream's `bptt_steps` is for learners who learn at every step.
    names = [*spec.settings, *(name for name in stream_settings(spec) if name != "bptt_steps")]
    return tuple(dict.fromkeys([*names, *(["rerun_steps"] if issubclass(spec.make, SAB) else [])]))


@dataclass(frozen=True)
class CoreSettings:
    """Everything that a policy's cores are built with.

    Attributes:
        spec: the registered core.
        core: keyword arguments of its class.
        stream: keyword arguments of its stream.
        bptt_steps: steps of an episode between two cuts of plain backpropagation in a row; None cuts nowhere but at
            an episode's start, or leaves it to the core.
    """

    spec: CoreSpec
    core: dict[str, Any]
    stream: dict[str, Any]
    bptt_steps: int | None

    @classmethod
    def of(cls, owner: str, spec: CoreSpec, layers: int, settings: Mapping[str, Any]) -> CoreSettings:
        """Sorts a policy's settings, and checks those that PPO gives a meaning of its own.

        Args:
            owner: the policy's name, for errors.
            spec: the registered core.
            layers: L.
            settings: of the core and its stream. For a SAB `bptt_steps` cuts plain backpropagation inside a row (None
                lets it reach the row's start, as an LSTM's does, at the same cost), and `rerun_steps` is the length of
                the segments that are replayed to credit what was written before the row (None is `bptt_steps`, or 8
                without it).

        Raises:
            TypeError: a setting is unknown, or of the wrong type.
            ValueError: a setting is out of range; there are several layers and the core has none; or a SAB evicts by
                credit, which comes too late here.
        """
        slotted, known = issubclass(spec.make, SAB), known_settings(spec)
        for name in settings:
            if name not in known:
                raise TypeError(f"{owner}: unknown setting {name!r} of the core. {did_you_mean(name, known)}")
        if layers > 1:
            if "layers" not in spec.settings:
                raise ValueError(
                    f"{owner}: n_lstm_layers must be 1, since its core has no layers, but is {layers}. Leave it out."
                )
            settings = {"layers": layers, **settings}
        bptt_steps = None
        if slotted:
            settings = {**SAB_DEFAULTS, **settings}
            bptt_steps, settings["bptt_steps"] = settings["bptt_steps"], _replay_steps(owner, settings)
            del settings["rerun_steps"]
            settings.setdefault("novelty", None if settings.get("write") == "every" else NOVELTY)
            if settings.get("eviction") in {"least_credited", "least_useful"}:
                raise ValueError(
                    f"{owner}: eviction must go by what is known while a rollout is collected, but is "
                    f'"{settings["eviction"]}": credit comes after it. Use "least_used".'
                )
        core = {name: value for name, value in settings.items() if name in spec.settings}
        stream = {name: value for name, value in settings.items() if name not in spec.settings}
        return cls(spec, core, stream, bptt_steps)

    @property
    def replays_the_past(self) -> bool:
        """Whether credit replays steps from before a rollout, which must be kept as they were observed."""
        return issubclass(self.spec.make, SAB)

    def build_core(self, input_size: int, hidden_size: int) -> Core[Any]:
        """Returns a new core."""
        return self.spec.make(input_size, hidden_size, **self.core)

    def make_stream(
        self,
        core: Core[Any],
        rows: int = 1,
        *,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
    ) -> Stream:
        """Returns a new stream of a core; see `sab_agents.streaming.make_stream`."""
        return make_stream(core, rows, encoder=encoder, observation_shape=observation_shape, **self.stream)


def _replay_steps(owner: str, settings: Mapping[str, Any]) -> int:
    for name in ("bptt_steps", "rerun_steps"):
        if settings[name] is not None:
            at_least(owner, name, settings[name], 1)
    steps: int = settings["rerun_steps"] or settings["bptt_steps"] or REPLAY_STEPS
    return steps


def output_scale(core: Core[Any]) -> Tensor | None:
    """Returns what the outputs (…, F) of a core are multiplied with before the networks behind it; None for 1."""
    if not isinstance(core, SAB):
        return None
    return torch.cat([torch.ones(core.hidden_size), torch.full((core.hidden_size,), SUMMARY_SCALE)])


def draws_random_numbers(core: Core[Any]) -> bool:
    """Whether a core draws random numbers in training, as dropout does."""
    return any(getattr(module, "dropout", 0) or isinstance(module, nn.Dropout) for module in core.modules())


def state_to_tensors(state: State) -> tuple[Tensor, ...]:
    """Returns a state as tensors whose second axis is the row: an LSTM's are h and c, (L, n, H), as sb3-contrib's."""
    if isinstance(state, LSTMState):
        return state.h.transpose(0, 1), state.c.transpose(0, 1)
    return tuple(tensor.unsqueeze(0) for tensor in state.tensors())


def state_to_arrays(state: State) -> tuple[Array, ...]:
    """Returns a state as arrays, with the axes of `state_to_tensors`."""
    arrays = state.to_numpy()
    if isinstance(state, LSTMState):
        return arrays[0].swapaxes(0, 1), arrays[1].swapaxes(0, 1)
    return tuple([array[None] for array in arrays])


def state_from(parts: Sequence[Array | Tensor], like: State, device: torch.device) -> State:
    """Returns the state of which `state_to_tensors` was taken, also if its tensors were made arrays.

    Args:
        parts: what it returned.
        like: any state of the same core.
        device: of the tensors.

    Raises:
        ValueError: the number of parts differs, or they have other dimensions.
    """
    names = like.__match_args__
    if isinstance(like, LSTMState):
        names = names[:2]
    if len(parts) != len(names):
        raise ValueError(
            f"the state must be {len(names)} arrays ({', '.join(names)}), but is {len(parts)} arrays. Pass the state "
            "that the last call returned, or None at the start."
        )
    layered = isinstance(like, LSTMState)
    tensors: list[Tensor] = []
    for name, part, kind in zip(names, parts, like.tensors(), strict=False):
        given: Any = part if isinstance(part, Tensor) else np.asarray(part)
        dimensions = kind.dim() + (not layered)
        if given.ndim != dimensions:
            raise ValueError(f"the state's {name} must have {dimensions} dimensions, but has {given.ndim}.")
        given = given.swapaxes(0, 1) if layered else given[0]
        tensors.append(given.to(device) if isinstance(given, Tensor) else as_tensor(given, device))
    if not isinstance(like, LSTMState):
        return type(like)(*tensors)
    h, c = (tensor.to(like.h.dtype) for tensor in tensors)
    # Which step of its episode a row has reached does not matter without gradient.
    return LSTMState(h, c, torch.zeros(len(h), dtype=torch.int64, device=device))
