"""A regressor of River that remembers."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
from river import base

from sab_agents.river.estimator import StreamEstimator
from sab_agents.river.features import Scale, real_number


class SABRegressor(StreamEstimator, base.Regressor):
    """Predicts a number for each sample of a stream in the order of time, with a memory of its past.

    Steps, features and what is missing are as in `SABClassifier`. Targets are learnt in standard deviations from their
    running mean, so that they need no scaling.

    Args:
        core: as in `SABClassifier`.
        hidden_size: H, features of the hidden state, at least 1.
        update_every: steps between two updates, at least 1; fewer learn faster and cost more.
        learning_rate: of Adam, above 0; mutable.
        clip_norm: greatest norm of the gradient, above 0; mutable.
        standardise: whether each feature's running mean is subtracted and its running standard deviation divided by.
        previous_target: whether the target of the step before is an input, in standard deviations from the mean.
        seed: of the parameters, at least 0.
        settings: as in `SABClassifier`.

    Raises:
        TypeError: a count is not an int, or the core has no such setting.
        ValueError: a setting is out of range.

    Attributes:
        learner: the `OnlineLearner` underneath, for `diagnose` and `credit_report`; None before the first step.

    Examples:
        >>> from river import evaluate, metrics
        >>> from sab_agents.river import SABRegressor
        >>> stream = [({"a": float(step % 3)}, 100.0 + 10 * (step % 3)) for step in range(400)]
        >>> metric = evaluate.progressive_val_score(stream, SABRegressor(hidden_size=16), metrics.MAE())
        >>> metric.get() < 5
        True
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
        previous_target: bool = True,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self._set_up(core, hidden_size, update_every, learning_rate, clip_norm, standardise, seed, settings)
        self.previous_target = previous_target
        self._target_column = self._columns.reserve() if previous_target else None
        self._scale = Scale()
        self._previous: float | None = None

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        """Takes the next step of the stream and learns from it.

        Args:
            x: features by name; None for one that is missing.
            y: the target.

        Raises:
            ValueError: y or a feature is no finite number. Nothing has changed.
        """
        features = self._columns.checked("SABRegressor.learn_one", x)
        target = real_number("SABRegressor.learn_one", "y", y)
        self._columns.add(features.keys())
        learner, inputs = self._fitted(), self._input(features)
        self._scale.update(target)
        learner.learn_one(inputs, self._scale.scaled(target))
        self._columns.update(features)
        self._previous = target

    def predict_one(self, x: dict[Any, Any]) -> float:
        """Returns the target that is expected; 0 before the first step.

        Args:
            x: features by name; None for one that is missing.

        Raises:
            ValueError: a feature is no finite number.
        """
        features = self._columns.checked("SABRegressor.predict_one", x)
        if self.learner is None:
            return 0.0
        return self._scale.unscaled(float(self.learner.predict_many(self._input(features)[None]).item()))

    def _input(self, features: dict[Hashable, float]) -> npt.NDArray[np.float32]:
        laid = self._laid_out(features)
        if self._target_column is not None and self._previous is not None:
            laid[self._target_column] = self._scale.scaled(self._previous)
        return laid
