"""What the estimators share: settings as River keeps them, a learner that is made at the first step and grows."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sab_agents.checks import above_zero, at_least, did_you_mean
from sab_agents.online import OnlineLearner
from sab_agents.online.growth import can_grow
from sab_agents.online.targets import LossName
from sab_agents.river.features import Columns

OWN = frozenset({"history", "attention_rate", "head_rate"})
"""Arguments of `OnlineLearner` that `settings` may hold beside those of the core and its stream."""

ROOM = 1.25
"""By which the inputs of a learner grow at least, once features appear beside those of the first step."""

SEGMENT = 8
"""Least steps of a segment, unless `bptt_steps` says otherwise; it has half of those between two updates."""

FIRST = 2
"""Classes that a classifier has room for at first."""


class StreamEstimator:
    """Settings and learner of an estimator; subclasses set `_loss` and name their arguments in a signature.

    Attributes:
        learner: the `OnlineLearner` underneath, for `diagnose` and `credit_report`; None before the first step.
    """

    _loss: LossName
    learner: OnlineLearner | None
    _learning_rate: float
    _clip_norm: float

    def _set_up(
        self,
        core: str,
        hidden_size: int,
        update_every: int,
        learning_rate: float,
        clip_norm: float,
        standardise: bool,
        seed: int,
        settings: dict[str, Any],
    ) -> None:
        """Keeps the arguments, as River's `clone` reads them, and checks them."""
        name = type(self).__name__
        self.core, self.standardise, self.settings = core, standardise, settings
        self.hidden_size = at_least(name, "hidden_size", hidden_size, 1)
        self.update_every = at_least(name, "update_every", update_every, 1)
        self.seed = at_least(name, "seed", seed, 0)
        self.learner = None
        self.learning_rate, self.clip_norm = learning_rate, clip_norm
        known = {*OnlineLearner.settings_of(core), *OWN}
        if not can_grow(core):
            raise ValueError(
                f"{name}: core {core!r} learns in real time and cannot take features that appear later. "
                f"Use 'sab' or 'lstm_tbptt'."
            )
        for setting in settings:
            if setting not in known:
                raise TypeError(f"{name}: core {core!r} has no setting {setting!r}. {did_you_mean(setting, known)}")
        self._made(1, FIRST if self._loss == "cross_entropy" else 1)  # raises what is wrong with the values
        self._columns = Columns(standardise)
        self._sizes = 0, 0

    @property
    def _mutable_attributes(self) -> set[str]:
        return {"learning_rate", "clip_norm"}

    @property
    def learning_rate(self) -> float:
        """Of Adam, above 0; `mutate` changes it while learning continues."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        above_zero(type(self).__name__, "learning_rate", value)
        if self.learner is not None:
            for group in self.learner.optimizer.param_groups:
                group["lr"] *= value / self._learning_rate
            self.learner.settings["learning_rate"] = value
        self._learning_rate = value

    @property
    def clip_norm(self) -> float:
        """Greatest norm of the gradient, above 0; `mutate` changes it while learning continues."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, value: float) -> None:
        if not value > 0:
            raise ValueError(f"{type(self).__name__}: clip_norm must be above 0, but is {value}. inf is no limit.")
        if self.learner is not None:
            self.learner.clip_norm = self.learner.settings["clip_norm"] = value
        self._clip_norm = value

    def _made(self, inputs: int, outputs: int) -> OnlineLearner:
        of_core = OnlineLearner.settings_of(self.core)
        segment = {"bptt_steps": max(SEGMENT, self.update_every // 2)} if "bptt_steps" in of_core else {}
        return OnlineLearner(
            inputs,
            outputs,
            loss=self._loss,
            core=self.core,
            hidden_size=self.hidden_size,
            update_every=self.update_every,
            learning_rate=self.learning_rate,
            clip_norm=self.clip_norm,
            seed=self.seed,
            **{**segment, **self.settings},
        )

    def _fitted(self, outputs: int = 1, columns: int = 0) -> OnlineLearner:
        """Returns the learner with room for all columns and `outputs` classes.

        Args:
            outputs: how many classes there are.
            columns: that come with each further class.
        """
        needed, (inputs, classes) = self._columns.size, self._sizes
        if self.learner is None:
            self._sizes = max(needed + columns * (outputs == FIRST), 1), outputs
            self.learner = self._made(*self._sizes)
        elif needed > inputs or outputs > classes:
            # Room for some features more, so that thousands that appear one by one do not cost a growth each, and for
            # four times as many classes.
            if needed > inputs:
                inputs = max(needed, math.ceil(ROOM * inputs))
            if outputs > classes:
                while classes < outputs:
                    classes *= 4
                inputs = max(inputs, needed + columns * (classes - outputs))
            self._sizes = inputs, classes
            self.learner.grow(*self._sizes)
        return self.learner

    def _laid_out(self, features: Mapping[Hashable, float]) -> npt.NDArray[np.float32]:
        """Returns features as an input of the size that the learner has."""
        return self._columns.laid_out(features, max(self._sizes[0], self._columns.size))
