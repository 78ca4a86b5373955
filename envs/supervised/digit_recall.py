"""Recall of a digit: its image is the cue, so that what is remembered must be learnt; as sequences and as a stream.

Dimensions: T steps, B sequences or rows, P pixels, I = P + 3 input size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from sab_agents.checks import at_least, int_between
from sab_agents.envs.arrays import Array, Bools, Floats32, Image, Ints
from sab_agents.envs.datasets.digit_cues import CLASSES, SIDES, DigitCues, check_digits
from sab_agents.envs.datasets.files import data_folder
from sab_agents.envs.drawing import picture_of_values
from sab_agents.envs.dynamics import MAX_STEPS
from sab_agents.envs.policies import Policy, Remembering
from sab_agents.envs.supervised.action_modes import class_action_mode
from sab_agents.envs.supervised.cue_stream import Asked, CueStream, check_noise
from sab_agents.envs.supervised.sequences import LAST_STEP, SequenceDynamics, SequenceEnv, SequenceVectorEnv
from sab_agents.envs.supervised.task import Batch, GeneratedTask, Split, only_steps

CUE, QUESTION, DECOY = range(3)
FLAGS = 3
"""Channels after the pixels: of the cue, of the question, and one that means nothing."""


class DigitFrames(DigitCues):
    """What is seen at one step: the pixels of a digit or of noise, and flags. Arguments are those of `DigitCues`."""

    def cues(self, generator: np.random.Generator, n: int) -> tuple[Floats32, Ints]:
        """Draws n cues (n, I), a digit with its flag, and their classes (n,)."""
        pixels, classes = self.draw(generator, n)
        return _flagged(pixels, CUE), classes

    def between(self, generator: np.random.Generator, n: int) -> Floats32:
        """Draws n frames (n, I) without a cue: half of them digits, half uniform noise; half have the decoy's flag."""
        pixels, _ = self.draw(generator, n)
        noise = generator.random(pixels.shape, dtype=np.float32)
        noisy, decoy = generator.random((2, n)) < 0.5
        x = _flagged(np.where(noisy[:, None], noise, pixels), DECOY)
        x[:, pixels.shape[1] + DECOY] = decoy
        return x

    def questions(self, n: int) -> Floats32:
        """Returns n questions (n, I): the flag alone."""
        return _flagged(np.zeros((n, self.pixels.shape[1]), np.float32), QUESTION)


def _flagged(pixels: Floats32, flag: int) -> Floats32:
    x = np.zeros((len(pixels), pixels.shape[1] + FLAGS), np.float32)
    x[:, : pixels.shape[1]] = pixels
    x[:, pixels.shape[1] + flag] = 1
    return x


@dataclass(frozen=True)
class DigitRecall(GeneratedTask):
    """The image of a digit and `length` other frames are read; the digit must be named at the question, the last step.

    Inputs: (length + 2, B, P + 3): the pixels in [0, 1], and flags of the cue, of the question, and one that means
    nothing. The first step shows a digit with the cue's flag; classes are equally likely, and so are the digits of one
    class. Each step in between shows with equal probability another digit or uniform noise, and its third flag is 1
    with probability 1/2. The last step has no pixels and the question's flag. Targets: the class at the last step, 0
    before. Only the last step is trained and scored. It always looks the same, so a memoryless learner can only guess:
    accuracy 1/10, cross-entropy ln 10 nats.

    What is remembered must be learnt: an untrained state tells symbols apart, but not handwritten digits among others.
    Training, validation and test draw from the images of their split.

    Attributes:
        length: number of frames between the cue and the question, at least 1.
        dataset: "digits" (8 by 8, from scikit-learn) or "mnist" (28 by 28).
        data_dir: folder with the files of "mnist"; None reads the environment variable SAB_DATA_DIR; if that is not
            set either, the files are downloaded.

    Raises:
        TypeError: the length is not an int, or the folder not a path.
        ValueError: a setting is out of range, or a file is damaged.
        OSError: a file is missing and cannot be downloaded.
        ImportError: the data set is "digits" and scikit-learn is not installed.
    """

    length: int = 50
    dataset: str = "digits"
    data_dir: str | os.PathLike[str] | None = None
    input_size: int = field(init=False, repr=False, compare=False)

    name = "digit_recall"
    output_size = CLASSES
    loss = "cross_entropy"
    metrics = ("accuracy", "cross_entropy")

    def __post_init__(self) -> None:
        at_least("DigitRecall", "length", self.length, 1)
        check_digits("DigitRecall", self.dataset, "train")
        object.__setattr__(self, "input_size", SIDES[self.dataset] ** 2 + FLAGS)

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Scores of guessing among the classes."""
        return {"accuracy": 1 / CLASSES, "cross_entropy": math.log(CLASSES)}

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def frames(self, split: Split) -> DigitFrames:
        """Returns the images of a split."""
        return DigitFrames(self.dataset, split, self.data_dir)

    def draw_batch(self, generator: np.random.Generator, B: int) -> Batch:
        """See `GeneratedTask.draw_batch`. Draws training digits."""
        return self.draw_held_out("train", generator, B)

    def draw_held_out(self, split: Split, generator: np.random.Generator, B: int) -> Batch:
        """See `GeneratedTask.draw_held_out`. Draws the digits of the split."""
        frames = self.frames(split)
        T = self.length + 2
        cues, classes = frames.cues(generator, B)
        between = frames.between(generator, self.length * B).reshape(self.length, B, -1)
        targets = np.zeros((T, B), dtype=np.int64)
        targets[-1] = classes
        last = only_steps(LAST_STEP, T, B)
        return Batch(
            inputs=np.concatenate([cues[None], between, frames.questions(B)[None]]),
            targets=targets,
            trained=last,
            scored=last.copy(),
            episode_start=only_steps(slice(0, 1), T, B),
        )


class DigitRecallSequences(SequenceDynamics):
    """Recall of a digit: the class of an image must be named after a stretch of other digits and noise.

    Sequences are drawn as by the task `DigitRecall`: a digit with the cue's flag, `length` frames of other digits, of
    noise and of a flag that means nothing, the question. The last step, whose target is the digit's class, is scored.

    Actions: `action_mode` "class": Discrete(10); "log_probs": Box(10), one logit per class.
    Observations: Box(P + 3): P pixels, and flags of the cue, of the question, and one that means nothing.
    Rewards: at the last step, "class": 1 if the class is correct; "log_probs": the log-probability of the target.
    Episodes end (terminated) after `length` + 2 steps, with `cross_entropy` ("log_probs") and `accuracy` in `info`.

    Returns:
        best: 1, or 0 as log-probability, by knowing every image of the split.
        random: 1/10. As log-probability of uniform logits: see `LogProbActions`.
        memoryless: 1/10, or -ln 10: the question is always the same, and the classes are equally likely.

    Args:
        length: number of frames between the cue and the question.
        dataset: "digits" (8 by 8, from scikit-learn) or "mnist" (28 by 28).
        split: "train", "validation" or "test"; no image is in two of them.
        data_dir: as in the task `DigitRecall`.
        action_mode: "class" or "log_probs".
    """

    purpose = "credit: a handwritten digit, named after a stretch of other digits"
    one_hot = False
    scored_steps = 1

    def __init__(
        self,
        length: int = 50,
        dataset: str = "digits",
        split: Split = "train",
        data_dir: str | os.PathLike[str] | None = None,
        action_mode: str = "class",
    ) -> None:
        owner = "DigitRecall"
        check_digits(owner, dataset, split)
        self._split = split
        data_folder(data_dir)
        self.task = DigitRecall(int_between(owner, "length", length, 1, MAX_STEPS), dataset, data_dir)
        super().__init__(self.task.input_size, class_action_mode(owner, action_mode, CLASSES), self.longest)

    @property
    def longest(self) -> int:
        """See `SequenceDynamics.longest`."""
        return self.task.length + 2

    @property
    def memoryless_reward(self) -> float:
        """See `SequenceDynamics.memoryless_reward`."""
        return -math.log(CLASSES) if self.mode.has_loss else 1 / CLASSES

    def draw(self, copy: int, generator: np.random.Generator) -> tuple[Array, Array, slice]:  # noqa: ARG002
        """See `SequenceDynamics.draw`."""
        batch = self.task.draw_held_out(self._split, generator, 1)
        return batch.inputs[:, 0], batch.targets[:, 0], LAST_STEP

    def oracle(self) -> Policy:
        """Returns the policy that looks up the class of the image with the cue's flag and names it at every step."""
        frames = self.task.frames(self._split)
        classes = {pixels.tobytes(): label for pixels, label in zip(frames.pixels, frames.labels, strict=True)}
        P = frames.pixels.shape[1]

        def update(observations: Array, memory: Array, start: Bools) -> Array:
            cue = [
                classes.get(row[:P].tobytes(), 0) if first else 0
                for row, first in zip(observations, start, strict=True)
            ]
            return np.where(start, cue, memory.astype(np.int64))

        return Remembering(update, lambda _observations, memory, _start: self.mode.best_for_targets(memory))

    def memoryless(self) -> Policy:
        """Returns the policy that considers all classes equally likely."""
        return self.expecting(np.full(CLASSES, 1 / CLASSES))

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the current image above its flags."""
        x = self.inputs_so_far(copy)[-1]
        side = SIDES[self.task.dataset]
        flags = np.zeros((1, side))
        flags[0, :FLAGS] = x[-FLAGS:]
        board = np.concatenate([x[:-FLAGS].reshape(side, side), flags])
        return picture_of_values(board, self.steps[copy] / max(self.ends[copy], 1))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: the step, the flags and the target."""
        x = self.inputs_so_far(copy)[-1]
        lit = [name for name, value in zip(("cue", "question", "decoy"), x[-FLAGS:], strict=True) if value]
        place = self._place[copy]
        target = f"asked for {self._targets[place]}" if self._scored[place] else "not scored"
        brightness = f"mean brightness {x[:-FLAGS].mean():.3f}"
        return (
            f"step {self.steps[copy]} of {self.ends[copy]}: {' and '.join(lit) or 'no flag'}, {brightness} ({target})"
        )


class DigitRecallEnv(SequenceEnv):
    """One copy of `DigitRecallSequences`."""

    dynamics_class = DigitRecallSequences


class DigitRecallVectorEnv(SequenceVectorEnv):
    """n copies of `DigitRecallSequences`."""

    dynamics_class = DigitRecallSequences


class DigitStream(CueStream):
    """Recall of a digit without an end: a digit is shown and must be named when the question comes.

    The input has P pixels from 0 to 1, and flags of the cue, of the question, and one that means nothing. In between,
    each step shows another digit or uniform noise, and the flag that means nothing lights at every other step; both are
    drawn. At the question all pixels are 0. Digits are drawn from one split with classes equally often, so a learner
    that is trained on "train" can be tested on digits that it never saw.

    The question's input is always the same, so the accuracy of a memoryless learner is 1/10. A learner that reads its
    memory but is not credited through it must answer from states that never learnt what to keep of a digit.

    Args:
        delay: number of steps from the cue, or from the second of two, to the question, at least 1.
        dataset: "digits" (8 by 8, from scikit-learn) or "mnist" (28 by 28).
        split: "train", "validation" or "test"; of all digits.
        data_dir: see `DigitCues`.
        noise: standard deviation of Gaussian noise in the pixels of all steps in between.
        rows: B, the number of parallel streams.
        says_starts: see `CueStream`.
        jitter: see `CueStream`.
        asked: "newest" or "oldest" of two cues in each round; None for rounds of one cue.
        seed: seed of all random numbers.

    Raises:
        TypeError: a count is not an int, or `says_starts` is not a bool.
        ValueError: an argument is out of range.
        OSError, ImportError: see `DigitCues`.
    """

    def __init__(
        self,
        delay: int,
        *,
        dataset: str = "digits",
        split: Split = "train",
        data_dir: str | os.PathLike[str] | None = None,
        noise: float = 0.0,
        rows: int = 1,
        says_starts: bool = True,
        jitter: float = 0.0,
        asked: Asked | None = None,
        seed: int = 0,
    ) -> None:
        owner = type(self).__name__
        check_digits(owner, dataset, split)
        self.noise = check_noise(owner, noise)
        super().__init__(delay, rows=rows, says_starts=says_starts, jitter=jitter, asked=asked, seed=seed)
        self.frames = DigitFrames(dataset, split, data_dir)

    @property
    def classes(self) -> int:
        """10."""
        return CLASSES

    @property
    def input_size(self) -> int:
        """I = P + 3."""
        return int(self.frames.pixels.shape[1]) + FLAGS

    def draw(self, shown: Bools, between: Bools) -> tuple[Floats32, Ints]:
        """See `CueStream.draw`."""
        x = self.frames.between(self.generator, self.rows)
        if self.noise:
            P = self.frames.pixels.shape[1]
            x[:, :P] += self.noise * self.generator.standard_normal((self.rows, P), dtype=np.float32)
        classes = np.zeros(self.rows, dtype=np.int64)
        if not between.all():
            end = ~shown & ~between
            x[end] = self.frames.questions(int(end.sum()))
            x[shown], classes[shown] = self.frames.cues(self.generator, int(shown.sum()))
        return x, classes
