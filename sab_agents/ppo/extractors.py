"""Features extractors for images that are too small for stable-baselines3's.

Dimensions: N observations, C channels, S side of an image, F features.
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from sab_agents.checks import at_least


def small_convolutions(channels: int, features: int, shape: tuple[int, int]) -> nn.Sequential:
    """Returns two convolutions of 3 by 3, the second with a stride of 2, and a linear layer, each with a ReLU.

    Args:
        channels: C of the inputs (N, C, height, width).
        features: F of the outputs (N, F).
        shape: height and width.
    """
    layers = [
        *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
    ]
    with torch.no_grad():
        flat = nn.Sequential(*layers)(torch.zeros(1, channels, *shape)).shape[1]
    return nn.Sequential(*layers, nn.Linear(flat, features), nn.ReLU())


class SmallCNN(BaseFeaturesExtractor):
    """A small convolutional net for images of any size, such as 10 by 10; `NatureCNN` needs 36 by 36.

        RecurrentPPO("CnnSabPolicy", env, policy_kwargs={"features_extractor_class": SmallCNN})

    Args:
        observation_space: of images (C, height, width), as stable-baselines3 passes it.
        features_dim: F.

    Raises:
        ValueError: an observation has not three axes.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int = 64) -> None:
        super().__init__(observation_space, at_least("SmallCNN", "features_dim", features_dim, 1))
        if len(observation_space.shape) != 3:
            raise ValueError(
                f"SmallCNN: observations must be images of three axes, but are of {observation_space}. Use the Mlp "
                "policy with the same core."
            )
        channels, height, width = observation_space.shape
        self.layers = small_convolutions(channels, features_dim, (height, width))

    def forward(self, observations: Tensor) -> Tensor:
        """Returns features (N, F) of images (N, C, height, width) from 0 to 1."""
        features: Tensor = self.layers(observations)
        return features
