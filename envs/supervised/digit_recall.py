"""Recall of a digit: its image is the cue, so that what is remembered must be learnt; as sequences and as a stream.

Dimensions: T steps, B sequences or rows, S pixels of an image's side, W images side by side (1, or 2 in pairs),
P = S · W · S pixels, K = 2 + W flags, I = P + K input size.
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


@dataclass(frozen=True)
class FrameLayout:
    """Where the pixels and the flags of a step are.

    Args:
        dataset: see `DigitCues`.
        pairs: whether two images are seen (W = 2).
    """

    dataset: str
    pairs: bool = False

    @property
    def width(self) -> int:
        """W."""
        return 2 if self.pairs else 1

    @property
    def shape(self) -> tuple[int, int]:
        """(S, W · S) of the picture."""
        side = SIDES[self.dataset]
        return side, self.width * side

    @property
    def pixels(self) -> int:
        """P."""
        return math.prod(self.shape)

    @property
    def question(self) -> int:
        """The channel of the question's flag."""
        return self.pixels + self.width

    @property
    def decoy(self) -> int:
        """The channel of the flag that means nothing."""
        return self.question + 1

    @property
    def input_size(self) -> int:
        """I."""
        return self.decoy + 1


class DigitFrames:
    """What is seen at one step: the pixels of W images, each a digit or noise, and flags.

    The pixels are those of one picture, row by row, in which the images stand side by side. The first W flags are of
    the cue, and the one that is lit says which of the images counts; then follow that of the question and one that
    means nothing.

    Args:
        dataset: see `DigitCues`.
        split: see `DigitCues`.
        data_dir: see `DigitCues`.
        pairs: whether two images are seen (W = 2).

    Attributes:
        digits: what the images are drawn from.
        shape, width, pixels, question, decoy, input_size: see `FrameLayout`.
    """

    def __init__(
        self, dataset: str, split: str, data_dir: str | os.PathLike[str] | None = None, *, pairs: bool = False
    ) -> None:
        self.digits = DigitCues(dataset, split, data_dir)
        layout = FrameLayout(dataset, pairs)
        self.shape, self.width, self.pixels = layout.shape, layout.width, layout.pixels
        self.question, self.decoy, self.input_size = layout.question, layout.decoy, layout.input_size

    def cues(self, generator: np.random.Generator, n: int) -> tuple[Floats32, Ints]:
        """Draws n cues (n, I), digits with the flag of the one that counts, and the classes of that one (n,)."""
        pixels, classes = self.digits.draw(generator, self.width * n)
        rows = np.arange(n)
        counts = generator.integers(0, self.width, n) if self.width > 1 else np.zeros(n, np.int64)
        x = self._beside(pixels)
        x[rows, self.pixels + counts] = 1
        return x, classes.reshape(self.width, n)[counts, rows]

    def between(self, generator: np.random.Generator, n: int) -> Floats32:
        """Draws n frames (n, I) without a cue: half of the images digits, half noise; half with the decoy's flag."""
        pixels, _ = self.digits.draw(generator, self.width * n)
        noise = generator.random(pixels.shape, dtype=np.float32)
        *noisy, decoy = generator.random((self.width + 1, n)) < 0.5
        x = self._beside(np.where(np.concatenate(noisy)[:, None], noise, pixels))
        x[:, self.decoy] = decoy
        return x

    def questions(self, n: int) -> Floats32:
        """Returns n questions (n, I): the flag alone."""
        x = np.zeros((n, self.input_size), np.float32)
        x[:, self.question] = 1
        return x

    def counting(self, cue: Floats32) -> Floats32:
        """Returns the pixels (S · S,) of the image that counts in a cue (I,)."""
        image = int(cue[self.pixels : self.question].argmax())
        side = self.shape[0]
        return cue[: self.pixels].reshape(self.shape)[:, image * side : (image + 1) * side].reshape(-1)

    def _beside(self, images: Floats32) -> Floats32:
        """Returns frames (n, I) without flags of images (W · n, S · S), of which n stand at each place."""
        side = self.shape[0]
        n = len(images) // self.width
        x = np.zeros((n, self.input_size), np.float32)
        x[:, : self.pixels] = images.reshape(self.width, n, side, side).transpose(1, 2, 0, 3).reshape(n, self.pixels)
        return x


def check_pairs(owner: str, pairs: object) -> bool:
    """Returns whether cues are pairs.

    Raises:
        TypeError: that is not a bool.
    """
    if not isinstance(pairs, bool):
        raise TypeError(f"{owner}: pairs must be a bool, but is {pairs!r}. Pass True or False.")
    return pairs


@dataclass(frozen=True)
class DigitRecall(GeneratedTask):
    """The image of a digit and `length` other frames are read; the digit must be named at the question, the last step.

    Inputs: (length + 2, B, I): the pixels in [0, 1], and flags of the cue, of the question, and one that means
    nothing. The first step shows a digit with the cue's flag; classes are equally likely, and so are the digits of one
    class. Each step in between shows with equal probability another digit or uniform noise, and its third flag is 1
    with probability 1/2. The last step has no pixels and the question's flag. Targets: the class at the last step, 0
    before. Only the last step is trained and scored. It always looks the same, so a memoryless learner can only guess:
    accuracy 1/10, cross-entropy ln 10 nats.

    In pairs, two images stand side by side at every step, and two flags of the cue say which of its digits counts.
    What is remembered must then be learnt: a linear classifier reads one digit of an untrained state quite well, but
    not that one of two which a flag names.
    Training, validation and test draw from the images of their split.

    Attributes:
        length: number of frames between the cue and the question, at least 1.
        dataset: "digits" (8 by 8, from scikit-learn) or "mnist" (28 by 28).
        data_dir: folder with the files of "mnist"; None reads the environment variable SAB_DATA_DIR; if that is not
            set either, the files are downloaded.
        pairs: whether a cue has two digits, of which one counts.

    Raises:
        TypeError: the length is not an int, `pairs` not a bool, or the folder not a path.
        ValueError: a setting is out of range, or a file is damaged.
        OSError: a file is missing and cannot be downloaded.
        ImportError: the data set is "digits" and scikit-learn is not installed.
    """

    length: int = 50
    dataset: str = "digits"
    data_dir: str | os.PathLike[str] | None = None
    pairs: bool = False
    input_size: int = field(init=False, repr=False, compare=False)

    name = "digit_recall"
    output_size = CLASSES
    loss = "cross_entropy"
    metrics = ("accuracy", "cross_entropy")

    def __post_init__(self) -> None:
        at_least("DigitRecall", "length", self.length, 1)
        check_digits("DigitRecall", self.dataset, "train")
        layout = FrameLayout(self.dataset, check_pairs("DigitRecall", self.pairs))
        object.__setattr__(self, "input_size", layout.input_size)

    @property
    def memoryless(self) -> Mapping[str, float]:
        """Scores of guessing among the classes."""
        return {"accuracy": 1 / CLASSES, "cross_entropy": math.log(CLASSES)}

    def with_length(self, length: int) -> Self:
        """See `SequenceTask.with_length`."""
        return replace(self, length=length)

    def frames(self, split: Split) -> DigitFrames:
        """Returns the images of a split."""
        return DigitFrames(self.dataset, split, self.data_dir, pairs=self.pairs)

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
    In pairs, two images stand side by side, and two flags of the cue say which of its digits counts.

    Actions: `action_mode` "class": Discrete(10); "log_probs": Box(10), one logit per class.
    Observations: Box(P + 3), or Box(2 P + 4) in pairs: the P pixels of each image, and flags of the cue, of the
    question, and one that means nothing.
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
        pairs: whether a cue has two digits, of which one counts.
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
        pairs: bool = False,
    ) -> None:
        owner = "DigitRecall"
        check_digits(owner, dataset, split)
        self._split = split
        data_folder(data_dir)
        self.task = DigitRecall(int_between(owner, "length", length, 1, MAX_STEPS), dataset, data_dir, pairs)
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
        digits = frames.digits
        classes = {pixels.tobytes(): label for pixels, label in zip(digits.pixels, digits.labels, strict=True)}

        def update(observations: Array, memory: Array, start: Bools) -> Array:
            cue = [
                classes.get(frames.counting(row).tobytes(), 0) if first else 0
                for row, first in zip(observations, start, strict=True)
            ]
            return np.where(start, cue, memory.astype(np.int64))

        return Remembering(update, lambda _observations, memory, _start: self.mode.best_for_targets(memory))

    def memoryless(self) -> Policy:
        """Returns the policy that considers all classes equally likely."""
        return self.expecting(np.full(CLASSES, 1 / CLASSES))

    def picture(self, copy: int) -> Image:
        """See `Dynamics.picture`: the current image above its flags."""
        frames = self.task.frames(self._split)
        x = self.inputs_so_far(copy)[-1]
        flags = np.zeros((1, frames.shape[1]))
        flags[0, : len(x) - frames.pixels] = x[frames.pixels :]
        board = np.concatenate([x[: frames.pixels].reshape(frames.shape), flags])
        return picture_of_values(board, self.steps[copy] / max(self.ends[copy], 1))

    def text(self, copy: int) -> str:
        """See `Dynamics.text`: the step, the flags and the target."""
        x = self.inputs_so_far(copy)[-1]
        cues = ("cue of the left", "cue of the right") if self.task.pairs else ("cue",)
        names = (*cues, "question", "decoy")
        pixels, flags = x[: -len(names)], x[-len(names) :]
        lit = [name for name, value in zip(names, flags, strict=True) if value]
        place = self._place[copy]
        target = f"asked for {self._targets[place]}" if self._scored[place] else "not scored"
        brightness = f"mean brightness {pixels.mean():.3f}"
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

    The input has P pixels from 0 to 1, and flags of the cue, of the question, and one that means nothing. In pairs, two
    images stand side by side at every step, and two flags of the cue say which of its digits must be named. In between,
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
        pairs: whether a cue has two digits, of which one counts.
        noise: standard deviation of Gaussian noise in the pixels of all steps in between.
        rows: B, the number of parallel streams.
        says_starts: see `CueStream`.
        jitter: see `CueStream`.
        min_delay: see `CueStream`.
        asked: "newest" or "oldest" of two cues in each round; None for rounds of one cue.
        seed: seed of all random numbers.

    Raises:
        TypeError: a count is not an int, or `says_starts` or `pairs` is not a bool.
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
        pairs: bool = False,
        noise: float = 0.0,
        rows: int = 1,
        says_starts: bool = True,
        jitter: float = 0.0,
        min_delay: int | None = None,
        asked: Asked | None = None,
        seed: int = 0,
    ) -> None:
        owner = type(self).__name__
        check_digits(owner, dataset, split)
        self.noise = check_noise(owner, noise)
        super().__init__(
            delay, rows=rows, says_starts=says_starts, jitter=jitter, min_delay=min_delay, asked=asked, seed=seed
        )
        self.frames = DigitFrames(dataset, split, data_dir, pairs=check_pairs(owner, pairs))

    @property
    def classes(self) -> int:
        """10."""
        return CLASSES

    @property
    def input_size(self) -> int:
        """I."""
        return self.frames.input_size

    def draw(self, shown: Bools, between: Bools) -> tuple[Floats32, Ints]:
        """See `CueStream.draw`."""
        x = self.frames.between(self.generator, self.rows)
        if self.noise:
            P = self.frames.pixels
            x[:, :P] += self.noise * self.generator.standard_normal((self.rows, P), dtype=np.float32)
        classes = np.zeros(self.rows, dtype=np.int64)
        if not between.all():
            end = ~shown & ~between
            x[end] = self.frames.questions(int(end.sum()))
            x[shown], classes[shown] = self.frames.cues(self.generator, int(shown.sum()))
        return x, classes
