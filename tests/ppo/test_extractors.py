"""A policy whose own extractor does not take the observations says which policy does."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from sab_agents import RecurrentPPO

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
SMALL = spaces.Box(0, 255, (7, 7, 3), np.uint8)


class Drawn(gym.Env[Any, Any]):
    """Draws its observations from a space."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.observation_space.sample(), {}

    def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("policy", "space", "error", "message"),
    [
        ("MlpSabPolicy", spaces.Dict({"a": VECTOR}), TypeError, "a dict with a, .* Use the MultiInput policy"),
        ("CnnLstmPolicy", spaces.Dict({"a": VECTOR}), TypeError, "a dict with a, .* Use the MultiInput policy"),
        ("MultiInputSabPolicy", VECTOR, TypeError, "must be a dict, .* Use the Mlp or Cnn policy"),
        ("CnnSabPolicy", VECTOR, TypeError, "must be images, .* Use the Mlp policy"),
        (
            "CnnSabPolicy",
            spaces.Box(0, 255, (7, 7, 3), np.uint8),
            ValueError,
            r"at least 36 .* \(3?,? ?7, 7.*small images",
        ),
    ],
)
def test_it_is_refused_with_what_to_use(
    policy: str, space: spaces.Space[Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RecurrentPPO(policy, Drawn(space), n_steps=8, batch_size=8, device="cpu")


@pytest.mark.parametrize("space", [VECTOR, SMALL, spaces.Discrete(3)])
def test_an_mlp_policy_takes_every_other_array(space: spaces.Space[Any]) -> None:
    RecurrentPPO("MlpSabPolicy", Drawn(space), n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(8)


def test_the_smallest_image_that_is_said_to_be_taken_is_taken() -> None:
    image = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    RecurrentPPO("CnnSabPolicy", Drawn(image), n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(8)


def test_images_that_are_scaled_already_are_taken_without_normalisation() -> None:
    env = Drawn(spaces.Box(-10, 10, (1, 36, 36), np.float32))
    settings: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "device": "cpu"}
    with pytest.raises(AssertionError, match="normalize_images=False"):
        RecurrentPPO("CnnLstmPolicy", env, **settings)
    RecurrentPPO("CnnLstmPolicy", env, policy_kwargs={"normalize_images": False}, **settings).learn(8)
