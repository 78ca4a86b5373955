"""The settings of a learner's core and of its stream, and what they are unless the user sets them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sab_agents.checks import did_you_mean
from sab_agents.core import CORES, CoreSpec
from sab_agents.core.recipes import DEFAULT, PAPER, Recipe, chosen_recipe
from sab_agents.core.sab import GREATEST_AGE_SCALE
from sab_agents.streaming import chosen_novelty, stream_settings

# Applied to cores and streams that have the setting; every other setting has the default of its core or stream.
_SHARED = {
    "recipe": DEFAULT,
    "output_gate": None,  # the recipe's; files name it, for those of when there was none do not
    "age_scale": 1,
    "sharpness": 0.0,
    "top_k": 4,
    "write_every": 1,
    "bptt_steps": 8,
    "capacity": 64,
    "attention_size": 32,
    "eviction": "least_used",
    "write": "novel",
    "novelty": None,  # by what is compared, see `chosen_novelty`
    "decay": 0.99,
    "credit_depth": 1,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "OnlineLearner": {
        **_SHARED,
        "attention": "mlp",
        "top_k": 16,
        "eviction": "least_useful",
        "write": "changed",
        "age_scale": None,  # half of the capacity
        "sharpness": None,  # 0.5, and 0 with the recipe of the paper
        # With PyTorch's weights a state hardly shows which of some symbols its input was, and what is read of it
        # teaches little. The paper's recipe keeps them.
        "input_gain": 2.5,
    },
    # Hidden layers follow its core; with a gate it has not been measured.
    "StreamAC": {**_SHARED, "attention": "mlp", "output_gate": False},
}
"""For each user of streams, the defaults of its core and stream."""


def endless_cores() -> list[CoreSpec]:
    """Returns every registered core that can run through an endless stream."""
    return [spec for spec in CORES.values() if spec.endless]


def settings_of(user: str, spec: CoreSpec) -> tuple[str, ...]:
    """Returns the names of the settings that a user's core and stream have.

    Args:
        user: a key of `DEFAULTS`.
        spec: of the core.
    """
    # What a learner of windows does not use, or sets itself:
    unused = {"bptt_steps", "seed"} if user == "OnlineLearner" else set()
    of_stream = [name for name in stream_settings(spec) if name not in unused and name not in spec.settings]
    return (*spec.settings, *of_stream)


def chosen_settings(user: str, spec: CoreSpec, passed: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings of a core and those of its stream: the passed ones, and the user's defaults for the rest.

    Args:
        user: a key of `DEFAULTS`.
        spec: of the core.
        passed: by the caller.

    Raises:
        TypeError: the core and its stream have no such setting.
    """
    known = settings_of(user, spec)
    for name in passed:
        if name not in known:
            raise TypeError(f"{user}: core {spec.name!r} has no setting {name!r}. {did_you_mean(name, known)}")
    chosen = {name: value for name, value in DEFAULTS[user].items() if name in known} | dict(passed)
    if chosen.get("age_scale", 1) is None:
        chosen["age_scale"] = _age_scale(user, chosen)
    if chosen.get("sharpness", 0) is None:
        chosen["sharpness"] = 0.0 if chosen["recipe"] == PAPER else 0.5
    if chosen.get("recipe") == PAPER and "input_gain" not in passed:
        chosen.pop("input_gain", None)
    if "novelty" in chosen:
        chosen["novelty"] = chosen_novelty(chosen["write"], chosen["novelty"])
    of_core = {name: value for name, value in chosen.items() if name in spec.settings}
    return of_core, {name: value for name, value in chosen.items() if name not in spec.settings}


def _age_scale(user: str, chosen: Mapping[str, Any]) -> int:
    """Returns half as many steps as there are slots, where scores know age; the core refuses a wrong capacity."""
    recipe = chosen_recipe(user, chosen["recipe"], *[chosen.get(name) for name in Recipe._fields])
    capacity = chosen["capacity"]
    counts = recipe.age and isinstance(capacity, int) and capacity >= 1
    return min(max(capacity // 2, 1), GREATEST_AGE_SCALE) if counts else 1
