"""The weights by which inputs enter a core, at the start."""

import math
from typing import Any

import pytest
import torch

from sab_agents import OnlineLearner, build_core
from sab_agents.core import CORES

SIZES = (3, 64)
HAVE_IT = [name for name, spec in CORES.items() if "input_gain" in spec.settings]


def made(name: str, seed: int = 0, **settings: Any) -> dict[str, torch.Tensor]:
    """The parameters of a core by their names."""
    torch.manual_seed(seed)
    return {key: value.detach() for key, value in build_core(name, *SIZES, **settings).named_parameters()}


def test_every_core_with_lstm_or_gru_weights_has_the_setting() -> None:
    has = {name for name in CORES if any("weight_ih" in key for key in made(name))}
    assert set(HAVE_IT) == has


@pytest.mark.parametrize("gain", [0.5, 2.0])
@pytest.mark.parametrize("name", HAVE_IT)
def test_input_weights_are_uniform_with_that_deviation_and_all_else_begins_as_without(name: str, gain: float) -> None:
    drawn, default = made(name, input_gain=gain), made(name)
    for key, weight in drawn.items():
        if "weight_ih" not in key:
            assert torch.equal(weight, default[key])
            continue
        assert weight.abs().max() <= gain * math.sqrt(3 / SIZES[0])
        # The sample deviation of n uniform numbers has a relative error of 0.45 / √n.
        assert weight.std().item() == pytest.approx(
            gain / math.sqrt(SIZES[0]), rel=4 * 0.45 / math.sqrt(weight.numel())
        )


@pytest.mark.parametrize("gain", [0, -1.0, math.inf, math.nan, "wide"])
@pytest.mark.parametrize("name", HAVE_IT)
def test_a_gain_that_is_no_positive_number_is_refused(name: str, gain: Any) -> None:
    with pytest.raises(ValueError, match="input_gain must be a number above 0"):
        build_core(name, *SIZES, input_gain=gain)


@pytest.mark.parametrize("core", ["sab", "lstm_tbptt", "gru"])
def test_a_learner_of_streams_draws_them_wide_unless_the_user_or_the_papers_recipe_says_otherwise(core: str) -> None:
    def deviation(**settings: Any) -> float:
        learner = OnlineLearner(SIZES[0], 2, core=core, hidden_size=SIZES[1], **settings)
        return next(each for key, each in learner.core.named_parameters() if "weight_ih" in key).std().item()

    assert deviation() == pytest.approx(2.5 / math.sqrt(SIZES[0]), rel=0.1)
    assert deviation(input_gain=1) == pytest.approx(1 / math.sqrt(SIZES[0]), rel=0.1)
    plain = 1 / math.sqrt(3 * SIZES[1])
    assert deviation(input_gain=None) == pytest.approx(plain, rel=0.1)
    if core == "sab":
        assert deviation(recipe="paper") == pytest.approx(plain, rel=0.1)
