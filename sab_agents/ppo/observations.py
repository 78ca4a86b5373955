"""Observations of any space as rows of numbers, and from there to the inputs of a recurrent core.

Dimensions: N observations, P entries of a packed one, F features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from torch import Tensor, nn

FIXED = (FlattenExtractor, CombinedExtractor, nn.Flatten, nn.ModuleDict)
"""Modules that have no parameters, no buffers and no training mode of their own."""
Preprocessed = Tensor | dict[str, Tensor]


class Packing:
    """How preprocessed observations are laid side by side in one row, and taken apart again.

    Args:
        space: of an observation.
        normalize_images: divide images by 255.
    """

    def __init__(self, space: spaces.Space[Any], *, normalize_images: bool) -> None:
        self.space, self.normalize_images = space, normalize_images
        sample = self._preprocessed(_batch_of_one(space))
        parts = sample if isinstance(sample, dict) else {"": sample}
        self._shapes = {name: tuple(part.shape[1:]) for name, part in parts.items()}
        self._sizes = [math.prod(shape) for shape in self._shapes.values()]
        self.size = sum(self._sizes)

    def pack(self, observations: Any) -> Tensor:
        """Returns N observations (tensors, or a dict of them) as (N, P) floats: one-hot, images scaled, flattened."""
        parts = self._preprocessed(observations)
        if isinstance(parts, dict):
            return torch.cat([parts[name].flatten(1) for name in self._shapes], dim=1)
        return parts.flatten(1)

    def unpack(self, packed: Tensor) -> Preprocessed:
        """Returns what `pack` laid out, (N, P), in the shapes that a features extractor takes."""
        parts = torch.split(packed, self._sizes, dim=1)
        shaped = {
            name: part.reshape(part.shape[0], *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return shaped if isinstance(self.space, spaces.Dict) else shaped[""]

    def _preprocessed(self, observations: Any) -> Preprocessed:
        parts: Preprocessed = preprocess_obs(observations, self.space, normalize_images=self.normalize_images)
        return parts


class Encoder(nn.Module):
    """Makes features (N, F) of packed observations (N, P).

    Args:
        packing: takes them apart.
        extractor: of stable-baselines3, or the user's.
    """

    def __init__(self, packing: Packing, extractor: BaseFeaturesExtractor) -> None:
        super().__init__()
        self.packing, self.extractor = packing, extractor

    @property
    def is_fixed(self) -> bool:
        """Whether its features never change, so that they can be stored in place of observations.

        Parameters, running statistics or dropout change features; only modules that have none of them are known.
        """
        return all(type(module) in FIXED for module in self.extractor.modules())

    def forward(self, packed: Tensor) -> Tensor:
        """Returns the features of packed observations."""
        features: Tensor = self.extractor(self.packing.unpack(packed))
        return features


class PastEncoder(Encoder):
    """Encodes observations from before a rollout, once more: in evaluation mode, as when they were acted on."""

    def forward(self, packed: Tensor) -> Tensor:
        """Returns the features of packed observations."""
        if not self.extractor.training:
            return super().forward(packed)
        self.extractor.eval()
        try:
            return super().forward(packed)
        finally:
            self.extractor.train()


def _batch_of_one(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _batch_of_one(part) for name, part in space.spaces.items()}
    zero = torch.zeros(1, *(space.shape or ()), dtype=torch.float32)
    return zero.long() if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else zero
