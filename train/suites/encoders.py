"""Encoders of observations that configs name.

Dimensions: N observations, P = S1 · S2 pixels of an image, K flags, F features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sab_agents.checks import one_of
from sab_agents.ppo.extractors import small_convolutions

FEATURES = 64


class Convolutions(nn.Module):
    """A small convolutional net for the pixels of an observation; its flags are passed on.

    Args:
        shape: (S1, S2).
        flags: K, the channels after the pixels.

    Attributes:
        features: F, size of what it returns.
    """

    def __init__(self, shape: tuple[int, int], flags: int) -> None:
        super().__init__()
        self.shape, self.features = shape, FEATURES + flags
        self.layers = small_convolutions(1, FEATURES, shape)

    def forward(self, observations: Tensor) -> Tensor:
        """Returns features (N, F) of observations (N, P + K)."""
        P = math.prod(self.shape)
        images = observations[:, :P].reshape(-1, 1, *self.shape)
        return torch.cat([self.layers(images), observations[:, P:]], dim=1)


def image_encoder(name: str, shape: tuple[int, int], flags: int, seed: int) -> Convolutions:
    """Returns the encoder of that name, with parameters that follow from the seed.

    Raises:
        ValueError: there is no such encoder.
    """
    one_of("online", "encoder", name, ("convolutions",))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Convolutions(shape, flags)
