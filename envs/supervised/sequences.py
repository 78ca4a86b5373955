"""Sequence tasks as environments: an episode is a sequence, an action is a prediction, the reward is its score.

Dimensions: n copies, T steps of a sequence, I input size, C classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from sab_agents.envs.checks import one_of
from sab_agents.envs.drawing import AGENT, COLOURS, FLOOR, GROUND, SIGN
from sab_agents.envs.dynamics import Array, Bools, Dynamics, Floats, Image, Ints, Returns
from sab_agents.envs.single import DynamicsEnv
from sab_agents.envs.supervised.answers import Answers, Classes, LogProbs
from sab_agents.envs.supervised.task import Batch
from sab_agents.envs.vectorised import DynamicsVectorEnv

MOST = 100_000_000  # numbers that the sequences of all copies may hold
SHOWN, PIXEL = 48, 8  # steps in a picture, screen pixels of one number


class SequenceDynamics(Dynamics):
    """Presents a task's sequences, drawn as its batches are, and scores the predictions.

    `info` always holds `target` and `scored`: what the next action should be, and whether it will earn a reward, so
    they belong to the observation that they come with, the first one of an episode included. After the last action
    there is nothing to predict: the observation is zeros, `target` 0 and `scored` False.

    At the end of an episode, `info` holds the task's metric over its scored steps.

    Attributes:
        tokens: whether an input is a one-hot code, which is then held as one number.
        answers: how actions are predictions.
        loss_name: how the task's published metric is called.
        loss_unit: how much of minus the reward is one unit of that metric.
        ends: (n,) the length of each copy's sequence.
        steps: (n,) how many actions each copy has taken.
    """

    tokens: ClassVar[bool] = True
    loss_name: ClassVar[str] = "cross_entropy"
    loss_unit: ClassVar[float] = 1.0
    answers: Answers
    scored_steps: int

    def __init__(self, input_size: int, answers: Answers, horizon: int | None) -> None:
        self.answers = answers
        self.observation_space = spaces.Box(0.0, 1.0, (input_size,), np.float32)
        self.action_space = answers.space
        self.horizon = horizon
        self._given: Batch | None = None

    @property
    @abstractmethod
    def longest(self) -> int:
        """The most steps of a sequence."""

    @abstractmethod
    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, Array | slice]:
        """Draws the sequence of a copy's next episode.

        Returns:
            Tokens (T,) or inputs (T, I), or such of T + 1 steps where the last observation is not zeros; targets (T,);
            and which of the T steps are scored, as an index of them.
        """

    @property
    def returns(self) -> Returns:
        """What the best, the random and the best memoryless policy earn in this action mode."""
        return replace(self.returns_without_data, memoryless=self.scored_steps * self.memoryless_reward)

    @property
    def returns_without_data(self) -> Returns:
        """Those of the returns that can be told without reading any file: the best and the random."""
        best = 0.0 if self.answers.has_loss else float(self.scored_steps)
        return Returns(best, self.scored_steps * self.answers.random, None)

    @property
    def at_hand(self) -> bool:
        """Whether all that the task reads can be had without a download."""
        return True

    @property
    @abstractmethod
    def memoryless_reward(self) -> float:
        """What the best memoryless policy earns at a scored step, on average."""

    def allocate(self, n: int) -> None:
        """See `Dynamics.allocate`.

        Raises:
            ValueError: the sequences of so many copies would hold too many numbers.
        """
        I = self.observation_space.shape[0]  # type: ignore[index]  # noqa: E741
        # One more step for the last observation, and one for a copy that is advanced once more after its end.
        self._width = self.longest + 2
        size = n * self._width
        if size * (1 if self.tokens else I) > MOST:
            raise ValueError(
                f"{type(self).__name__}: the sequences of all copies must hold at most {MOST:,} numbers, but {n} of "
                f"{self.longest:,} steps hold more. Take fewer copies or shorter sequences."
            )
        self.n = n
        self._blank = I  # the token that is shown as zeros
        self._codes = np.eye(I + 1, I, dtype=np.float32) if self.tokens else np.zeros((0, I), np.float32)
        self._shown = np.full(size, I) if self.tokens else np.zeros((size, I), np.float32)
        self._targets = np.zeros(size, np.int64 if self.answers.has_classes else np.float64)
        self._scored = np.zeros(size, np.bool_)
        self._place = self._width * np.arange(n)
        self.steps = np.zeros(n, np.int64)
        self.ends = np.zeros(n, np.int64)
        self._earned, self._right, self._count = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64)

    def present(self, batch: Batch | None) -> None:
        """Makes the episodes that begin next present these sequences, one for each copy; None goes back to drawing.

        Raises:
            TypeError: it is no batch.
            ValueError: its sequences are not n, too long, or of another kind.
        """
        if batch is not None:
            if not isinstance(batch, Batch):
                raise TypeError(f"options['batch'] must be a Batch of the task, but is a {type(batch).__name__}.")
            shape, I = batch.inputs.shape, self.observation_space.shape[0]  # type: ignore[index]  # noqa: E741
            if shape[1:] != (self.n, I) or not 1 <= shape[0] <= self.longest:
                raise ValueError(
                    f"options['batch'] must have inputs of shape (at most {self.longest}, {self.n}, {I}), one sequence "
                    f"for each copy, but has {shape}. Make the environment with as many copies, and as long."
                )
        self._given = batch

    def begin(self, copies: Ints, generators: Sequence[np.random.Generator]) -> None:
        """See `Dynamics.begin`; what is drawn, and how, is the task's own `draw`."""
        for copy, generator in zip(copies.tolist(), generators, strict=True):
            if self._given is None:
                shown, targets, scored = self.draw(copy, generator)
            else:
                shown, targets, scored = self.taken(self._given, copy)
            first, T = copy * self._width, len(targets)
            self._shown[first : first + self._width] = self._blank if self.tokens else 0
            self._shown[first : first + len(shown)] = shown
            self._targets[first : first + T] = targets
            self._targets[first + T] = 0
            self._scored[first : first + T] = False
            self._scored[first : first + T][scored] = True
            self._scored[first + T] = False
            self.ends[copy] = T
        self._place[copies] = copies * self._width
        for sums in (self.steps, self._earned, self._right, self._count):
            sums[copies] = 0

    def taken(self, batch: Batch, copy: int) -> tuple[Array, Array, Array]:
        """Returns a copy's sequence of a batch, as `draw` does."""
        inputs = batch.inputs[:, copy]
        return (inputs.argmax(axis=1) if self.tokens else inputs), batch.targets[:, copy], batch.scored[:, copy]

    def advance(self, actions: Array) -> tuple[Floats, Bools, Bools]:
        """See `Dynamics.advance`."""
        targets, scored = self._targets.take(self._place), self._scored.take(self._place)
        rewards, right = self.answers.judge(actions, targets)
        rewards *= scored
        self._earned += rewards
        self._right += right & scored
        self._count += scored
        self._place += 1
        self.steps += 1
        return rewards, self.steps >= self.ends, np.zeros(self.n, np.bool_)

    def observe(self) -> Array:
        """See `Dynamics.observe`."""
        shown = self._shown.take(self._place, axis=0)
        return self._codes.take(shown, axis=0) if self.tokens else shown

    def info(self) -> Mapping[str, Array]:
        """See the class."""
        return {"target": self._targets.take(self._place), "scored": self._scored.take(self._place)}

    def ending_info(self) -> Mapping[str, Array]:
        """The task's metric; NaN where no step of a presented sequence is scored."""
        count = np.where(self._count > 0, self._count, np.nan)
        facts = {"accuracy": self._right / count} if self.answers.has_classes else {}
        return {self.loss_name: -self._earned / count / self.loss_unit, **facts} if self.answers.has_loss else facts

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the inputs of the last steps as columns, the present one framed by the bar below."""
        columns = self.inputs_so_far(copy)[-SHOWN:].T
        brightness = np.zeros((len(columns), SHOWN))
        brightness[:, : columns.shape[1]] = columns
        return picture_of_numbers(brightness, self.steps[copy] / max(self.ends[copy], 1))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: the step, the input and what is asked for."""
        seen = self.inputs_so_far(copy)[-1]
        shown = (str(seen.argmax()) if seen.any() else "-") if self.tokens else " ".join(f"{x:.2f}" for x in seen)
        place = self._place[copy]
        asked = f"asked for {self._targets[place]:.4g}" if self._scored[place] else "not scored"
        return f"step {self.steps[copy]} of {self.ends[copy]}: {shown} ({asked})"

    def inputs_so_far(self, copy: int) -> Array:
        """Returns what a copy has shown, the present observation last, (steps + 1, I)."""
        first = copy * self._width
        shown = self._shown[first : self._place[copy] + 1]
        return self._codes[shown] if self.tokens else shown


class SequenceEnv(DynamicsEnv):
    """One copy of a sequence task.

    `reset(options={"batch": batch})` presents the only sequence of a batch instead of drawing one.
    """

    dynamics: SequenceDynamics

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode; see the class for the one option."""
        self.dynamics.present((options or {}).get("batch"))
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self.dynamics.present(None)


class SequenceVectorEnv(DynamicsVectorEnv):
    """Many copies of a sequence task.

    `reset(options={"batch": batch})` presents the n sequences of a batch, one to each copy, instead of drawing them.
    """

    dynamics: SequenceDynamics

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begins episodes; see the class for the option `batch`, and `DynamicsVectorEnv` for `reset_mask`."""
        self.dynamics.present((options or {}).get("batch"))
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self.dynamics.present(None)


def class_answers(owner: str, action_mode: object, C: int) -> Answers:
    """Returns the kind of prediction of that name, over C classes.

    Raises:
        ValueError: there is none.
    """
    return Classes(C) if one_of(owner, "action_mode", action_mode, ("class", "log_probs")) == "class" else LogProbs(C)


def picture_of_numbers(brightness: Array, progress: float) -> Image:
    """Draws numbers from 0 to 1, (rows, columns), as squares from dark to light, with a bar of progress below."""
    dark, light = COLOURS[GROUND].astype(np.float64), COLOURS[AGENT].astype(np.float64)
    board = (dark + (light - dark) * brightness[..., None].clip(0, 1)).astype(np.uint8)
    bar = np.full((1, board.shape[1], 3), COLOURS[FLOOR])
    bar[:, : round(min(progress, 1.0) * board.shape[1])] = COLOURS[SIGN]
    return np.concatenate([board, bar]).repeat(PIXEL, axis=0).repeat(PIXEL, axis=1)
