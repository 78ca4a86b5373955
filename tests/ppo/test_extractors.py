"""The small convolutional extractor: for images that stable-baselines3's does not take, and learnt with the rest."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from sab_agents import RecurrentPPO
from sab_agents.ppo.extractors import SmallCNN

pytest.importorskip("sklearn")


@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 5, 7)])
def test_images_of_any_size_become_features(shape: tuple[int, int, int]) -> None:
    extractor = SmallCNN(spaces.Box(0, 255, shape, np.uint8), features_dim=6)
    features = extractor(torch.rand(4, *shape))
    assert features.shape == (4, 6)
    assert extractor.features_dim == 6


def test_what_is_no_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="SmallCNN: observations must be images of three axes"):
        SmallCNN(spaces.Box(0, 255, (12,), np.uint8))
    with pytest.raises(ValueError, match="SmallCNN: features_dim must be at least 1, but is 0"):
        SmallCNN(spaces.Box(0, 255, (1, 8, 8), np.uint8), features_dim=0)


def test_a_policy_learns_its_convolutions_on_small_images() -> None:
    env = gym.make_vec("SAB/DigitTMaze-v0", num_envs=2, corridor_length=20, image=True)
    kwargs = {"features_extractor_class": SmallCNN, "lstm_hidden_size": 8, "net_arch": []}
    model = RecurrentPPO("CnnSabPolicy", env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=kwargs, seed=0)
    assert isinstance(model.policy.features_extractor, SmallCNN)
    before = [parameter.clone() for parameter in model.policy.features_extractor.parameters()]
    model.learn(32)
    after = model.policy.features_extractor.parameters()
    assert not any(map(torch.equal, before, after))
