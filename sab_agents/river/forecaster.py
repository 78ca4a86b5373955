"""A forecaster of River that remembers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from river.time_series.base import Forecaster

from sab_agents.checks import at_least
from sab_agents.river.estimator import StreamEstimator
from sab_agents.river.features import Scale, real_number


class SABForecaster(StreamEstimator, Forecaster):
    """Forecasts a series of numbers, with a memory of its past.

    A step takes the last value, the last change and the features of the present, and learns the change that comes, all
    in standard deviations. A forecast continues with its own values in place of those that are not known; it changes
    nothing.

    Args:
        core: as in `SABClassifier`.
        hidden_size: H, features of the hidden state, at least 1.
        update_every: steps between two updates, at least 1; fewer learn faster and cost more.
        learning_rate: of Adam, above 0; mutable.
        clip_norm: greatest norm of the gradient, above 0; mutable.
        standardise: whether each feature's running mean is subtracted and its running standard deviation divided by;
            values and changes of the series always are.
        seed: of the parameters, at least 0.
        settings: as in `SABClassifier`.

    Raises:
        TypeError: a count is not an int, or the core has no such setting.
        ValueError: a setting is out of range.

    Attributes:
        learner: the `OnlineLearner` underneath, for `diagnose` and `credit_report`; None before the first step.

    Examples:
        >>> from sab_agents.river import SABForecaster
        >>> model = SABForecaster(hidden_size=16)
        >>> for step in range(400):
        ...     model.learn_one({0: 0.0, 2: 5.0}.get(step % 4, 1.0))
        >>> print(*(round(value) for value in model.forecast(horizon=4)))
        0 1 5 1
    """

    _loss = "squared_error"

    def __init__(
        self,
        *,
        core: str = "sab",
        hidden_size: int = 64,
        update_every: int = 8,
        learning_rate: float = 0.01,
        clip_norm: float = 5.0,
        standardise: bool = True,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self._set_up(core, hidden_size, update_every, learning_rate, clip_norm, standardise, seed, settings)
        self._value_column, self._change_column = self._columns.reserve(), self._columns.reserve()
        self._values, self._changes = Scale(), Scale()
        self._last: tuple[float, float] | None = None  # value and change

    def learn_one(self, y: Any, x: dict[Any, Any] | None = None) -> None:
        """Takes the next step of the series and learns from it.

        Args:
            y: the value.
            x: features of the same time, by name; None for none, and as a value for one that is missing.

        Raises:
            ValueError: y or a feature is no finite number. Nothing has changed.
        """
        name = "SABForecaster.learn_one"
        features = self._columns.checked(name, {} if x is None else x)
        value = real_number(name, "y", y)
        change = 0.0 if self._last is None else value - self._last[0]
        self._columns.add(features.keys())
        learner, inputs = self._fitted(), self._input(features, self._last)
        if self._last is not None:
            self._changes.update(change)
        learner.learn_one(inputs, None if self._last is None else self._changes.scaled(change))
        self._values.update(value)
        self._columns.update(features)
        self._last = value, change

    def forecast(self, horizon: int, xs: Sequence[dict[Any, Any] | None] | None = None) -> list[float]:
        """Returns the values of the steps to come; zeros before the first step.

        Args:
            horizon: number of steps, at least 1.
            xs: features of each of them, by name; None for none.

        Raises:
            TypeError: `horizon` is not an int.
            ValueError: it is below 1, `xs` has another length, or a feature is no finite number.
        """
        name = "SABForecaster.forecast"
        at_least(name, "horizon", horizon, 1)
        if xs is not None and len(xs) != horizon:
            raise ValueError(f"{name}: xs must have one entry for each of the {horizon} step(s), but has {len(xs)}.")
        known = [self._columns.checked(name, {} if x is None else x) for x in xs or [None] * horizon]
        if self.learner is None or self._last is None:
            return [0.0] * horizon
        stream, last, values = self.learner.stream, self._last, []
        state = stream.state
        for features in known:
            x = torch.from_numpy(self._input(features, last))[None]
            with torch.no_grad():
                output, state = stream.act(x, state)
                change = self._changes.unscaled(float(self.learner.head.predicted(output).item()))
            last = last[0] + change, change
            values.append(last[0])
        return values

    def _input(self, features: dict[Hashable, float], last: tuple[float, float] | None) -> npt.NDArray[np.float32]:
        laid = self._laid_out(features)
        if last is not None:
            laid[self._value_column] = self._values.scaled(last[0])
            laid[self._change_column] = self._changes.scaled(last[1])
        return laid
