"""Observations of any space as rows of numbers, and from there to what a recurrent core takes.

Dimensions: N observations, P numbers in a packed one, F features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

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
        """Tensors of N observations, or a dict of such, as (N, P) floats: one-hot, images scaled, all flattened."""
        found = self._preprocessed(observations)
        if isinstance(found, dict):
            return torch.cat([found[name].flatten(1) for name in self._shapes], dim=1)
        return found.flatten(1)

    def unpack(self, packed: Tensor) -> Preprocessed:
        """What `pack` laid out, (N, P), in the shapes that a features extractor takes."""
        parts = torch.split(packed, self._sizes, dim=1)
        shaped = {
            name: part.reshape(part.shape[0], *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return shaped if isinstance(self.space, spaces.Dict) else shaped[""]

    def _preprocessed(self, observations: Any) -> Preprocessed:
        found: Preprocessed = preprocess_obs(observations, self.space, normalize_images=self.normalize_images)
        return found


class Encoder(nn.Module):
    """From packed observations (N, P) to features (N, F).

    Args:
        packing: takes them apart.
        extractor: of stable-baselines3, or the user's.
    """

    def __init__(self, packing: Packing, extractor: BaseFeaturesExtractor) -> None:
        super().__init__()
        self.packing, self.extractor = packing, extractor

    @property
    def learns(self) -> bool:
        """Whether it has parameters: without any, features can be stored in place of observations."""
        return any(True for _ in self.extractor.parameters())

    def forward(self, packed: Tensor) -> Tensor:
        """Features of packed observations."""
        features: Tensor = self.extractor(self.packing.unpack(packed))
        return features


def _batch_of_one(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {name: _batch_of_one(part) for name, part in space.spaces.items()}
    zero = torch.zeros(1, *(space.shape or ()), dtype=torch.float32)
    return zero.long() if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else zero
