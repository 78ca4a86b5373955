"""SAB with one of its ideas taken out, to measure what it is worth."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from sab_agents.core.registry import register_core
from sab_agents.core.sab import SAB


@register_core("sab_uncredited", "SAB whose memory is read but not credited")
class UncreditedSAB(SAB):
    """SAB whose memory is read but not credited: an ablation.

    The same network and the same outputs, but no gradient enters the states that are read; the attention's weights
    are still learned. Takes SAB's arguments, and raises its errors.

    Args:
        input_size: I.
        hidden_size: H; an output has 2H features.
        settings: SAB's.

    Examples:
        >>> import torch
        >>> from sab_agents import SAB, UncreditedSAB
        >>> sab, uncredited = SAB(10, 32), UncreditedSAB(10, 32)
        >>> names = uncredited.load_state_dict(sab.state_dict())  # the same network
        >>> x = torch.randn(20, 4, 10)  # (T, B, I)
        >>> bool((sab(x)[0] == uncredited(x)[0]).all())
        True
    """

    def __init__(self, input_size: int, hidden_size: int, **settings: Any) -> None:
        super().__init__(input_size, hidden_size, **settings)
        self.rules = replace(self.rules, reading=self.rules.reading._replace(credit=False))


UNUSED = ("top_k", "floor", "sharpness")
"""Settings of a SAB that choose and weigh the slots of a sparse read."""


@register_core("sab_softmax", "SAB with dense softmax attention", endless=False, omit=UNUSED)
class SoftmaxSAB(SAB):
    """SAB with dense softmax weights over all slots instead of the sparsifier: an ablation.

    Every stored state is read and credited at every step. Takes SAB's arguments but `top_k`, `floor` and `sharpness`,
    which have no meaning here, and is computed in plain torch. `ReadLog` names all S slots.

    Args:
        input_size: I.
        hidden_size: H; an output has 2H features.
        temperature: the scores are divided by it.
        settings: SAB's.

    Raises:
        TypeError: `top_k`, `floor` or `sharpness` is given.
        ValueError: the temperature is not positive and finite.

    Examples:
        >>> import torch
        >>> from sab_agents import SoftmaxSAB
        >>> output, state, log = SoftmaxSAB(10, 32)(torch.randn(20, 4, 10), return_attention=True)
        >>> output.shape, log.weights.shape  # (T, B, 2H), (T, B, S)
        (torch.Size([20, 4, 64]), torch.Size([20, 4, 20]))
    """

    def __init__(self, input_size: int, hidden_size: int, *, temperature: float = 1.0, **settings: Any) -> None:
        for name in UNUSED:
            if settings.get(name) is not None:
                raise TypeError(
                    f"SoftmaxSAB: {name} has no meaning where every slot is read, but is {settings[name]!r}. Leave it "
                    "out, or use SAB."
                )
        settings = {name: value for name, value in settings.items() if name not in UNUSED}
        super().__init__(input_size, hidden_size, **settings)
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"SoftmaxSAB: temperature must be positive and finite, but is {temperature!r}.")
        reading = self.rules.reading._replace(
            sparsifier="softmax", temperature=float(temperature), floor=0.0, sharpness=0.0
        )
        self.rules = replace(self.rules, reading=reading)
