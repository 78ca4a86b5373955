"""Sequence tasks as environments: an episode is a sequence, an action is a prediction, the reward is its score.

Dimensions: n copies, T steps of a sequence, I input size, C classes, K keys.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from sab_agents.envs.arrays import Array, Bools, Floats, Image, Ints
from sab_agents.envs.drawing import picture_of_values
from sab_agents.envs.dynamics import Dynamics, Returns
from sab_agents.envs.forms import DynamicsEnv, DynamicsVectorEnv
from sab_agents.envs.policies import Policy, Reactive
from sab_agents.envs.supervised.action_modes import ActionMode
from sab_agents.envs.supervised.task import Batch

MAX_VALUES = 100_000_000  # that the sequences of all copies may hold
SHOWN_STEPS = 48  # in an image
LAST_STEP = slice(-1, None)


class SequenceDynamics(Dynamics):
    """Presents the sequences of a task, drawn as its batches are, and scores the predictions.

    `info` always has `target` and `scored`: the correct next prediction, and whether it earns a reward. They belong to
    the observation that they come with, including the first one of an episode. After the last action there is nothing
    to predict: the observation is zeros, `target` is 0 and `scored` is False.

    At the end of an episode, `info` has the metric of the task over the scored steps.

    Args:
        input_size: I.
        mode: how actions are predictions.
        horizon: number of steps of the longest episode, or None if episodes never end.

    Attributes:
        one_hot: whether inputs are one-hot codes, which are stored as indices.
        mode: how actions are predictions.
        loss_name: published name of the metric of the task.
        loss_unit: negative reward that corresponds to one unit of that metric.
        scored_steps: number of scored steps of an episode.
        ends: (n,) length of the sequence of each copy.
        steps: (n,) number of actions that each copy has taken.
    """

    one_hot: ClassVar[bool] = True
    loss_name: ClassVar[str] = "cross_entropy"
    loss_unit: ClassVar[float] = 1.0
    scored_steps: int

    def __init__(self, input_size: int, mode: ActionMode, horizon: int | None) -> None:
        self.mode = mode
        self.observation_space = spaces.Box(0.0, 1.0, (input_size,), np.float32)
        self.action_space = mode.space
        self.horizon = horizon
        self._presented: Batch | None = None

    @property
    @abstractmethod
    def longest(self) -> int:
        """Maximum number of steps of a sequence."""

    @property
    @abstractmethod
    def memoryless_reward(self) -> float:
        """Expected reward of the best memoryless policy at a scored step."""

    def expecting(self, probabilities: Array) -> Policy:
        """Returns the policy that acts on the same probabilities (C,) of the classes at every step."""
        return Reactive(
            lambda observations: self.mode.best_for_probabilities(np.tile(probabilities, (len(observations), 1)))
        )

    @abstractmethod
    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, Array | slice]:
        """Draws the sequence of the next episode of a copy.

        Returns:
            Token indices (T,) or inputs (T, I), with one more step if the last observation is not zeros; targets (T,);
            and an index of the T steps that selects the scored ones.
        """

    @property
    def returns(self) -> Returns:
        """Expected returns of the best, the random and the best memoryless policy in this action mode."""
        return replace(self.returns_without_data, memoryless=self.scored_steps * self.memoryless_reward)

    @property
    def returns_without_data(self) -> Returns:
        """The returns that are known without reading a file: those of the best and the random policy."""
        best = 0.0 if self.mode.has_loss else float(self.scored_steps)
        return Returns(best, self.scored_steps * self.mode.random_reward, None)

    @property
    def at_hand(self) -> bool:
        """Whether the data of the task can be read without a download."""
        return True

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`.

        Raises:
            ValueError: the sequences of n copies would hold too many values.
        """
        input_size = self._input_size
        # One more step for the last observation, and one for a copy that is advanced once more after its end.
        self._width = self.longest + 2
        size = n * self._width
        if size * (1 if self.one_hot else input_size) > MAX_VALUES:
            raise ValueError(
                f"{type(self).__name__}: the sequences of all copies must hold at most {MAX_VALUES:,} values, but {n} "
                f"of {self.longest:,} steps hold more. Use fewer copies or shorter sequences."
            )
        self.n = n
        self._blank = input_size  # the index whose code is zeros
        codes = input_size + 1 if self.one_hot else 0
        self._codes = np.eye(codes, input_size, dtype=np.float32)
        self._inputs: Array = np.full(size, self._blank) if self.one_hot else np.zeros((size, input_size), np.float32)
        self._targets = np.zeros(size, np.int64 if self.mode.has_classes else np.float64)
        self._scored = np.zeros(size, np.bool_)
        self._place = self._width * np.arange(n)
        self.steps = np.zeros(n, np.int64)
        self.ends = np.zeros(n, np.int64)
        self._reward_sum = np.zeros(n)
        self._correct = np.zeros(n, np.int64)
        self._count = np.zeros(n, np.int64)

    def present(self, batch: Batch | None) -> None:
        """Makes the next episodes present the sequences of a batch, one for each copy; None returns to drawing.

        Raises:
            TypeError: the argument is not a batch.
            ValueError: there are not n sequences, or they are too long or have another input size.
        """
        if batch is not None:
            if not isinstance(batch, Batch):
                raise TypeError(
                    f"options['batch'] must be a Batch of the task, but is a {type(batch).__name__}. "
                    "Pass one that the task returned."
                )
            shape, input_size = batch.inputs.shape, self._input_size
            if shape[1:] != (self.n, input_size) or not 1 <= shape[0] <= self.longest:
                raise ValueError(
                    f"options['batch'] must have inputs of shape (at most {self.longest}, {self.n}, {input_size}), one "
                    f"sequence for each copy, but has {shape}. Make the environment with as many copies and this "
                    "length."
                )
        self._presented = batch

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`. Draws the sequences with `draw`."""
        for copy, generator in zip(copies.tolist(), generators, strict=True):
            if self._presented is None:
                inputs, targets, scored = self.draw(copy, generator)
            else:
                inputs, targets, scored = self.sequence_of(self._presented, copy)
            first, T = copy * self._width, len(targets)
            self._inputs[first : first + self._width] = self._blank if self.one_hot else 0
            self._inputs[first : first + len(inputs)] = inputs
            self._targets[first : first + T] = targets
            self._targets[first + T] = 0
            self._scored[first : first + T] = False
            self._scored[first : first + T][scored] = True
            self._scored[first + T] = False
            self.ends[copy] = T
        self._place[copies] = copies * self._width
        for values in (self.steps, self._reward_sum, self._correct, self._count):
            values[copies] = 0

    def sequence_of(self, batch: Batch, copy: int) -> tuple[Array, Array, Array]:
        """Returns the sequence of a copy in a batch, in the form of `draw`."""
        inputs = batch.inputs[:, copy]
        return (inputs.argmax(axis=1) if self.one_hot else inputs), batch.targets[:, copy], batch.scored[:, copy]

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        targets, scored = self._targets.take(self._place), self._scored.take(self._place)
        rewards, correct = self.mode.judge(actions, targets)
        rewards *= scored
        self._reward_sum += rewards
        self._correct += correct & scored
        self._count += scored
        self._place += 1
        self.steps += 1
        return rewards, self.steps >= self.ends, np.zeros(self.n, np.bool_)

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        inputs = self._inputs.take(self._place, axis=0)
        return self._codes.take(inputs, axis=0) if self.one_hot else inputs

    def info(self) -> Mapping[str, Array]:
        """See the class docstring."""
        return {"target": self._targets.take(self._place), "scored": self._scored.take(self._place)}

    def ending_info(self) -> Mapping[str, Array]:
        """Returns the metric of the task; NaN if a presented sequence has no scored step."""
        count = np.where(self._count > 0, self._count, np.nan)
        accuracy = {"accuracy": self._correct / count} if self.mode.has_classes else {}
        loss = {self.loss_name: -self._reward_sum / count / self.loss_unit} if self.mode.has_loss else {}
        return {**loss, **accuracy}

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the inputs of the last steps as columns, and the progress."""
        columns = self.inputs_so_far(copy)[-SHOWN_STEPS:].T
        brightness = np.zeros((len(columns), SHOWN_STEPS))
        brightness[:, : columns.shape[1]] = columns
        return picture_of_values(brightness, self.steps[copy] / max(self.ends[copy], 1))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: the step, the input and the target."""
        current = self.inputs_so_far(copy)[-1]
        if self.one_hot:
            shown = str(current.argmax()) if current.any() else "-"
        else:
            shown = " ".join(f"{value:.2f}" for value in current)
        place = self._place[copy]
        target = f"asked for {self._targets[place]:.4g}" if self._scored[place] else "not scored"
        return f"step {self.steps[copy]} of {self.ends[copy]}: {shown} ({target})"

    def inputs_so_far(self, copy: int) -> Array:
        """Returns the inputs that a copy has shown up to the current observation, (steps + 1, I)."""
        first = copy * self._width
        inputs = self._inputs[first : self._place[copy] + 1]
        return self._codes[inputs] if self.one_hot else inputs

    @property
    def _input_size(self) -> int:
        return int(self.observation_space.shape[0])  # type: ignore[index]  # a Box has a shape


class SequenceEnv(DynamicsEnv):
    """One copy of a sequence task.

    `reset(options={"batch": batch})` presents the only sequence of a batch instead of drawing one.
    """

    dynamics: SequenceDynamics

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; see the class docstring for the option `batch`."""
        self.dynamics.present((options or {}).get("batch"))
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self.dynamics.present(None)


class SequenceVectorEnv(DynamicsVectorEnv):
    """n copies of a sequence task.

    `reset(options={"batch": batch})` presents the n sequences of a batch, one to each copy, instead of drawing them.
    """

    dynamics: SequenceDynamics

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes; see the class docstring for the option `batch`, and `DynamicsVectorEnv` for `reset_mask`."""
        self.dynamics.present((options or {}).get("batch"))
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self.dynamics.present(None)


class ClassTable:
    """Empirical probabilities of each class given a key: all that a memoryless policy can know.

    Args:
        keys: (K,) observations as integers, in ascending order.
        counts: (K, C) number of occurrences of each class with each key.

    Attributes:
        accuracy: probability that the most frequent class of the current key is correct.
        log_probability: expected log-probability of the correct class given the current key, in nats; this is the
            negative conditional entropy.
    """

    def __init__(self, keys: Ints, counts: Ints) -> None:
        self.keys = keys
        key_counts = counts.sum(axis=1)
        self.probabilities: Floats = np.full(counts.shape, 1 / counts.shape[1])
        np.divide(counts, key_counts[:, None], where=key_counts[:, None] > 0, out=self.probabilities)
        logs = np.log(self.probabilities, where=self.probabilities > 0, out=np.zeros_like(self.probabilities))
        weights = key_counts / key_counts.sum()
        self.accuracy = float(weights @ self.probabilities.max(axis=1))
        self.log_probability = float(weights @ (self.probabilities * logs).sum(axis=1))

    def __call__(self, keys: Ints) -> Floats:
        """Returns the probabilities given keys (n,), (n, C); a key that never occurred gets those of a neighbour."""
        probabilities: Floats = self.probabilities[np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)]
        return probabilities

    def expected_reward(self, mode: ActionMode) -> float:
        """Returns the expected reward of the best memoryless policy in an action mode."""
        return self.log_probability if mode.has_loss else self.accuracy
