"""A classifier of River that remembers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from river import base
from torch import Tensor

from sab_agents.online import OnlineLearner
from sab_agents.river.estimator import FIRST, StreamEstimator
from sab_agents.river.mixture import LinearMixture


class SABClassifier(StreamEstimator, base.Classifier):
    """Classifies the samples of a stream in the order of time, with a memory of its past.

    Every `learn_one` is one step of time, so that the order of samples is part of what is learnt. `predict_one` says
    what the next step would be and changes nothing. With delayed labels (`progressive_val_score(…, delay=…)`) the
    memory ends at the last sample whose label has come.

    Features are numbers or bools under any hashable names. One that is missing, or None, counts as its mean, and one
    that appears later gets weights of its own while all that was learnt stays; before `learn_one` has seen it, a
    prediction goes without it. Labels are strings, bools, ints or anything hashable but None, and new ones may come at
    any time. True, 1 and 1.0 are one label, as they are one key of a dict.

    Args:
        core: "sab", "lstm_tbptt" or another core of `OnlineLearner`, but none that learns in real time ("rtu" and
            "mingru"): those cannot take features that appear later.
        hidden_size: H, features of the hidden state, at least 1.
        update_every: steps between two updates of the core, at least 1; fewer cost more, and need a lower rate.
        learning_rate: of Adam, above 0; mutable.
        clip_norm: greatest norm of the gradient, above 0; mutable.
        standardise: whether each feature's running mean is subtracted and its running standard deviation divided by.
        previous_label: whether the label of the step before is an input, one column for each label.
        mix_linear: whether predictions are a mean of those of the core and of linear classifiers that learn from every
            sample, weighted by how right each has been lately: five of the features, five of the features without the
            label before, three of the core's outputs; see `LinearMixture`. Without, `learn_one` is faster if nothing is
            predicted.
        seed: of the parameters, at least 0.
        settings: of the core and its stream, with the defaults of `OnlineLearner`, such as capacity=64 (slots of the
            memory) and top_k=16; and history=16, see there. A segment has half as many steps as there are between
            two updates, and at least 8, unless bptt_steps says otherwise.

    Raises:
        TypeError: a count is not an int, or the core has no such setting.
        ValueError: a setting is out of range.

    Attributes:
        learner: the `OnlineLearner` underneath, for `diagnose` and `credit_report`; None before the first step.
        mixture: the `LinearMixture`, whose `weights` say who decides; None without.

    Examples:
        >>> from river import evaluate, metrics, preprocessing
        >>> from sab_agents.river import SABClassifier
        >>> stream = [({"a": float(step % 3)}, "high" if step % 3 == 2 else "low") for step in range(400)]
        >>> model = preprocessing.StandardScaler() | SABClassifier(hidden_size=16)
        >>> metric = evaluate.progressive_val_score(stream, model, metrics.Accuracy())
        >>> metric.get() > 0.9
        True
    """

    _loss = "cross_entropy"

    def __init__(
        self,
        *,
        core: str = "sab",
        hidden_size: int = 64,
        update_every: int = 32,
        learning_rate: float = 0.03,
        clip_norm: float = 5.0,
        standardise: bool = True,
        previous_label: bool = True,
        mix_linear: bool = True,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        self._set_up(core, hidden_size, update_every, learning_rate, clip_norm, standardise, seed, settings)
        self.previous_label = previous_label
        self._labels: dict[Hashable, int] = {}
        self._label_columns: list[int] = []
        self._previous: int | None = None
        self.mix_linear = mix_linear
        self.mixture = LinearMixture(2 if previous_label else 1) if mix_linear else None
        self._asked: _Asked | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Continues from a copy; one of before predictions were mixed is of an estimator that mixes none."""
        self.__dict__.update({"mix_linear": False, "mixture": None, "_asked": None, **state})

    @property
    def _multiclass(self) -> bool:
        return True

    @property
    def labels(self) -> tuple[Hashable, ...]:
        """All labels so far, in the order in which they came."""
        return tuple(self._labels)

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        """Takes the next step of the stream and learns from it.

        Args:
            x: features by name; None for one that is missing.
            y: the label.

        Raises:
            TypeError: y is not hashable.
            ValueError: y is None or NaN, or a feature is no finite number. Nothing has changed.
        """
        asked = self._asked if self._asked is not None and self._asked.is_of(x) else None
        features = self._columns.checked("SABClassifier.learn_one", x) if asked is None else asked.features
        label = _checked_label(y)
        columns, known = self._columns.size, label in self._labels
        self._columns.add(features.keys())
        if not known:
            self._labels[label] = len(self._labels)
            if self.previous_label:
                self._label_columns.append(self._columns.reserve())
        if not known or self._columns.size > columns:
            asked = None
        learner = self._fitted(max(FIRST, len(self._labels)), int(self.previous_label))
        number = self._labels[label]
        if self.mixture is None:
            learner.learn_many(self._input(features) if asked is None else asked.inputs, np.array([number]))
        else:
            if asked is None:
                asked = self._answer(learner, x, features)
            self.mixture.learn(number, learner.head, known=known)
            if learner.peeked is asked.output:
                learner.learn_peeked(np.array([number]))
            else:  # somebody has asked the learner for another step meanwhile
                learner.learn_many(asked.inputs, np.array([number]))
        self._columns.update(features)
        self._previous, self._asked = number, None

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        """Returns the probability of each label so far; they sum to 1. No label, no probability: {}.

        Args:
            x: features by name; None for one that is missing.
            kwargs: are not used; River passes them on.

        Raises:
            ValueError: a feature is no finite number.
        """
        del kwargs
        if self._asked is None or not self._asked.is_of(x):
            features = self._columns.checked("SABClassifier.predict_proba_one", x)
            if self.learner is None:
                return {}
            self._asked = self._answer(self.learner, x, features)
        values = self._asked.probabilities
        whole = sum(values)
        if whole == 0:  # all of it went to classes that no label has yet
            return dict.fromkeys(self._labels, 1 / len(self._labels))
        return {label: value / whole for label, value in zip(self._labels, values, strict=True)}

    def _answer(self, learner: OnlineLearner, x: Mapping[Any, Any], features: dict[Hashable, float]) -> _Asked:
        """Predicts a sample."""
        inputs, labels, output = self._input(features), len(self._labels), None
        if self.mixture is None:
            probabilities = learner.predict_proba_many(inputs)[0, :labels].tolist()
        else:
            output = learner.peek_many(inputs)
            # NumPy's view: an index into a tensor takes as long as a tenth of the step.
            row = output.numpy(force=True)[0]
            mixed = self.mixture.mixed(inputs[0], row, learner.head, labels, self._label_column)
            probabilities = mixed.tolist()
        return _Asked(dict(x), features, inputs, output, probabilities)

    def _input(self, features: dict[Hashable, float]) -> npt.NDArray[np.float32]:
        """Returns features and label before as an input (1, I)."""
        laid, column = self._laid_out(features), self._label_column
        if column is not None:
            laid[column] = 1.0
        return laid[None]

    @property
    def _label_column(self) -> int | None:
        """Of the label before, if it is an input."""
        return self._label_columns[self._previous] if self.previous_label and self._previous is not None else None


class _Asked(NamedTuple):
    """The last sample that was predicted since the last step.

    Attributes:
        x: as it came.
        features: those that are there, as floats.
        inputs: (1, I) as they were laid out.
        output: (1, F) of the core; None without a mixture.
        probabilities: of each label.
    """

    x: dict[Any, Any]
    features: dict[Hashable, float]
    inputs: npt.NDArray[np.float32]
    output: Tensor | None
    probabilities: list[float]

    def is_of(self, x: Any) -> bool:
        """Whether this is the answer for x."""
        try:
            return bool(self.x == x)
        except ValueError:  # an array, which is no feature
            return False


def _checked_label(y: Any) -> Hashable:
    """Returns a label that a dict can hold, of NumPy's numbers the Python's.

    Raises:
        TypeError: y is not hashable.
        ValueError: y is None or NaN.
    """
    label = y.item() if isinstance(y, np.generic) else y
    if label is None or (isinstance(label, float) and math.isnan(label)):
        raise ValueError(f"SABClassifier.learn_one: y must be a label, but is {y!r}. Leave such samples out.")
    try:
        hash(label)
    except TypeError as error:
        raise TypeError(f"SABClassifier.learn_one: y must be hashable, but is {y!r:.100} ({error}).") from error
    return label  # type: ignore[no-any-return]
