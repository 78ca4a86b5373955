"""The settings of a `SAB` that are chosen together, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sab_agents.checks import did_you_mean
from sab_agents.kernels import Stored

DEFAULT, PAPER = "default", "paper"


class Recipe(NamedTuple):
    """How what was read is weighed, enters the network and leaves it, and what is stored: settings of `SAB`."""

    summary_gain: float | Literal["gate"]
    age: bool
    floor: float
    stored: Stored
    output_gate: bool


RECIPES = {
    DEFAULT: Recipe(summary_gain=0.0, age=True, floor=0.1, stored="cell", output_gate=True),
    PAPER: Recipe(summary_gain=1.0, age=False, floor=0.0, stored="output", output_gate=False),
}
"""What `SAB` does where a setting is not given. "paper" is the network of Ke et al. 2018."""


def chosen_recipe(name: str, recipe: str, *settings: Any) -> Recipe:
    """The settings of a recipe, but those that are given."""
    if recipe not in RECIPES:
        raise ValueError(f"{name}: unknown recipe {recipe!r}. {did_you_mean(str(recipe), RECIPES)}")
    given = zip(Recipe._fields, settings, strict=True)
    return RECIPES[recipe]._replace(**{field: value for field, value in given if value is not None})


def former_settings(saved: Mapping[str, Any], known: tuple[str, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a core that a file holds, with the recipe that they meant when it was written.

    Args:
        saved: what the file says of its settings: `recipe`, the one that is meant where they name none. A file without
            it was written when there was only the paper's. One whose settings lack `output_gate` was written when no
            recipe had one, and one without `age_scale` or `sharpness` when they were 1 and 0.
        known: the names of the core's settings.
        settings: those of the file.
    """
    if "recipe" not in known:
        return dict(settings)
    former = {"output_gate": False} if "recipe" in saved or "recipe" in settings else {"recipe": PAPER}
    chosen = {**former, "age_scale": 1, "sharpness": 0.0, **settings}
    if chosen.get("write") == "every":  # a novelty beside it, which nothing asked for, was no error
        chosen.pop("novelty", None)
    return chosen
