"""Supervised learning from endless streams, with River's verbs and constant memory.

Dimensions: B rows (parallel streams), I numbers in an input, C numbers in one output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from sab_agents.checks import at_least
from sab_agents.core import CORES, SAB, Core, SABState, build_core
from sab_agents.kernels import all_finite
from sab_agents.online.credit_ledger import CreditLedger, CreditReport
from sab_agents.online.head import Head
from sab_agents.online.inputs import Inputs, flag
from sab_agents.online.learner_file import read_learner, write_learner
from sab_agents.online.targets import LossName, Targets
from sab_agents.online.waiting import WaitingSteps
from sab_agents.online.window_labels import WindowLabels
from sab_agents.optim.flat import FlatAdam, FlatGradient
from sab_agents.streaming import Eviction, SABStream, TruncatedStream, Write

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class OnlineLearner:
    """Learns from B endless streams in one pass and in constant memory and time for each step.

    `predict_*` says what the present input means, `learn_*` tells what it meant and moves on. After every
    `update_every` steps one optimiser step is made if any of them had a target; gradient reaches through the memory to
    steps of any distance that are still held (see `SABStream`). A prediction has no effect on what is learnt. Steps for
    which none is asked are taken together, when an update is due or someone looks at `stream`.

        learner = OnlineLearner(input_size=4, output_size=2)
        for x, y in stream:
            y_hat = learner.predict_one(x)
            learner.learn_one(x, y)                # y=None where nothing is to be learnt

    Args:
        input_size: I; with an `encoder`, of what that returns.
        output_size: C.
        loss: "cross_entropy", "binary_cross_entropy" or "squared_error"; see `Targets`.
        rows: B; `predict_one` and `learn_one` need 1.
        core: "sab", "sab_uncredited", or "lstm_tbptt", "lstm" (gradient within the window) to compare with.
        hidden_size: H.
        top_k: slots that take part in one read.
        write_every: steps between two writes.
        bptt_steps: length of a segment.
        capacity: slots of the memory.
        attention: "dot" or "mlp".
        attention_size: A; None is H.
        eviction: see `SABStream`; so are `write`, `novelty`, `decay` and `credit_depth`.
        write: which steps are worth a slot.
        novelty: relative distance below which a write is skipped by "novel".
        decay: of usage and credit, for each step.
        credit_depth: links that credit follows; None for all.
        refresh_every: updates between two computations of all held slots with today's weights; None for never: a slot
            then stays as it was written.
        update_every: steps between two updates.
        learning_rate: of Adam.
        clip_norm: greatest norm of the gradient.
        optimizer: makes another optimiser of the parameters.
        encoder: makes inputs (N, I) of observations (N, …) and is learnt with the rest.
        observation_shape: of one observation; None is (I,).
        seed: of the parameters and of the reservoir.
        device: of everything.

    Raises:
        TypeError: a count is not an int.
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        loss: LossName = "cross_entropy",
        rows: int = 1,
        core: str = "sab",
        hidden_size: int = 64,
        top_k: int = 4,
        write_every: int = 1,
        bptt_steps: int = 8,
        capacity: int = 64,
        attention: str = "dot",
        attention_size: int | None = 32,
        eviction: Eviction = "least_used",
        write: Write = "novel",
        novelty: float = 1.0,
        decay: float = 0.99,
        credit_depth: int | None = 1,
        refresh_every: int | None = None,
        update_every: int = 8,
        learning_rate: float = 1e-3,
        clip_norm: float = 1.0,
        optimizer: MakeOptimizer | None = None,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        # The arguments that a saved file holds; it must be the first line, where they are the only names.
        self.settings = {name: value for name, value in locals().items() if name not in _NOT_SAVED}
        name = "OnlineLearner"
        self.rows = at_least(name, "rows", rows, 1)
        self.update_every = at_least(name, "update_every", update_every, 1)
        self.refresh_every = None if refresh_every is None else at_least(name, "refresh_every", refresh_every, 1)
        self.targets = Targets(loss, at_least(name, "output_size", output_size, 1))
        if not (clip_norm > 0 and learning_rate > 0):
            raise ValueError(
                f"{name}: clip_norm and learning_rate must be above 0, but are {clip_norm} and {learning_rate}."
            )
        self.clip_norm = clip_norm
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.core = _build(core, input_size, self.settings).to(device)
            self.head = Head(self.core.output_size, self.targets).to(device)
        self._like = self.head.weight
        shape = (input_size,) if observation_shape is None else tuple(observation_shape)
        if isinstance(self.core, SAB):
            sab_stream = SABStream(
                self.core,
                rows,
                encoder=encoder,
                observation_shape=shape,
                eviction=eviction,
                write=write,
                novelty=novelty,
                decay=decay,
                credit_depth=credit_depth,
                seed=seed,
            )
            self._stream: SABStream | TruncatedStream = sab_stream
            self._waiting = WaitingSteps(sab_stream, update_every) if encoder is None and self._on_cpu() else None
        else:
            self._waiting = None
            self._stream = TruncatedStream(self.core, rows, encoder=encoder, observation_shape=shape)
        self.parameters = [*self.core.parameters(), *self.head.parameters(), *self._stream.encoder.parameters()]
        self.gradient = FlatGradient(self.parameters)
        if optimizer is not None:
            self.optimizer: Optimizer | FlatAdam = optimizer(self.parameters)
        elif torch.device(device).type in {"cpu", "cuda"}:
            self.optimizer = FlatAdam(self.gradient, learning_rate)
        else:
            self.optimizer = Adam(self.parameters, lr=learning_rate)
        self._inputs = Inputs(rows, shape)
        self.ledger = CreditLedger()
        self.steps = self.updates = self.skipped = 0
        self.labels = WindowLabels(self.targets, rows)
        self._foreseen: _Foreseen | None = None

    @property
    def stream(self) -> SABStream | TruncatedStream:
        """The stream that is learnt from, at the last step that was learnt."""
        if self._waiting is not None:
            self._waiting.take()
        return self._stream

    def predict_one(self, x: Any, episode_start: bool = False) -> Any:
        """What the input means, as far as is known now: a class (int), labels (bool) or numbers (float).

        Args:
            x: (I,) numbers, or a mapping from names to numbers, always of the same names.
            episode_start: whether an episode begins with it; the memory of the one before is then not used.

        Returns:
            A single value for one class, or where `output_size` is 1; an array (C,) otherwise.

        Raises:
            ValueError: see `learn_many`; or the learner has several rows.
        """
        found = self.predict_many(self._inputs.one("predict_one", x), flag(episode_start))[0]
        return found.item() if found.size == 1 else found

    def predict_proba_one(self, x: Any, episode_start: bool = False) -> dict[int, float]:
        """The probability of each class (or label). Arguments and errors are those of `predict_one`."""
        found = self.predict_proba_many(self._inputs.one("predict_proba_one", x), flag(episode_start))[0]
        return {index: float(value) for index, value in enumerate(found)}

    def learn_one(self, x: Any, y: Any = None, episode_start: bool = False) -> Self:
        """Takes the next step of the stream and learns from it; see `learn_many`."""
        inputs = self._inputs.one("learn_one", x)
        target = None if y is None else np.asarray(y)[None]
        return self.learn_many(inputs, target, flag(episode_start))

    def predict_many(self, x: Any, episode_start: Any = None) -> npt.NDArray[Any]:
        """Predictions for all rows: (B,) classes, or (B, C). Arguments and errors are those of `learn_many`."""
        return self.targets.prediction(self._output("predict_many", x, episode_start))

    def predict_proba_many(self, x: Any, episode_start: Any = None) -> npt.NDArray[Any]:
        """(B, C) probabilities for all rows. Arguments and errors are those of `learn_many`."""
        return self.targets.probabilities(self._output("predict_proba_many", x, episode_start))

    def learn_many(self, x: Any, y: Any = None, episode_start: Any = None, mask: Any = None) -> Self:
        """Takes the next step of every stream, and updates the parameters after each `update_every`-th.

        Args:
            x: (B, I) numbers, or (B, …) for an encoder.
            y: (B,) classes 0 … C − 1, or (B, C) labels or numbers; None where nothing is to be learnt at this step.
            episode_start: (B,) bool, rows whose episode begins with x; None for none.
            mask: (B,) bool, rows that have a target at this step; None for all.

        Raises:
            ValueError: a shape does not fit, x or y is not finite, or y is out of range. Nothing has changed.
        """
        labels = None if y is None else self.labels.checked(y, mask, "OnlineLearner.learn_many")
        if not self._waits(x, episode_start):
            step = self._foresee("learn_many", x, episode_start).step
            self._foreseen = None
            self.stream.take(step)
        self.labels.steps.append(labels)
        self.steps += 1
        if len(self.labels.steps) >= self.update_every:
            self._update()
        return self

    def credit_report(self) -> CreditReport:
        """Which past steps were read and credited, how far back, and how much."""
        return self.ledger.report()

    def reset(self) -> Self:
        """Forgets the stream (memory, open window, ledger); what was learnt stays."""
        if self._waiting is not None:
            self._waiting.forget()
        self._stream.reset()
        self.ledger = CreditLedger()
        self.steps = 0
        self.labels.clear()
        self._foreseen = None
        return self

    def save(self, path: str | Path) -> None:
        """Writes everything, so that `load` goes on to the bit; the file holds no code.

        An `encoder` and an `optimizer` are code: only their numbers are in the file.
        """
        write_learner(path, self)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        optimizer: MakeOptimizer | None = None,
        encoder: nn.Module | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """The learner that `save` wrote; an encoder or optimiser it had must be given again.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or of another kind, or the encoder or optimiser is another one.
        """
        return read_learner(cls, path, optimizer=optimizer, encoder=encoder, device=device)

    def _update(self) -> None:
        """Learns from the window if it had a target, and ends it."""
        last = self.labels.last
        if last is not None:
            self._learn(last)
        self.labels.clear()
        self.stream.advance()
        if last is not None and self.refresh_every is not None and self.updates % self.refresh_every == 0:
            self._stream.refresh()

    def _learn(self, last: int) -> None:
        """Learns from the window, whose last target stands at step `last`."""
        self.gradient.begin()
        stream = self.stream
        run = stream.replay()
        run.backward(self.head.gradient(run.outputs, self.labels))
        before = stream.before
        credit = stream.credit()
        if isinstance(before, SABState):
            first = self.steps - stream.steps
            self.ledger.add(credit, before.written_at, before.step, first, first + last)
        if math.isfinite(self.gradient.clip(self.clip_norm)):
            self.optimizer.step()
        else:  # a chain of reads can overflow although the loss is sound
            self.skipped += 1
        self.updates += 1

    def _waits(self, x: Any, episode_start: Any) -> bool:
        """Whether the step waits to be taken with others. One that was foreseen does not: its output is there."""
        if self._waiting is None or self._foreseen is not None or not self._on_cpu():
            return False
        given = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float32)
        return self._waiting.add(given, None if episode_start is None else np.asarray(episode_start))

    def _on_cpu(self) -> bool:
        """Whether the parameters are what steps can wait for."""
        return self._like.is_cpu and self._like.dtype is torch.float32

    def _output(self, name: str, x: Any, episode_start: Any) -> Tensor:
        """The network's output (B, C) for the next step."""
        return self.head.predicted(self._foresee(name, x, episode_start).step.output)

    def _foresee(self, name: str, x: Any, episode_start: Any) -> _Foreseen:
        """The next step, computed but not taken; what was foreseen for the same arguments is used again."""
        inputs = self._inputs.tensor(name, x, self._like)
        start = None if episode_start is None else torch.as_tensor(np.asarray(episode_start), device=inputs.device)
        kept = self._foreseen
        if kept is not None and torch.equal(kept.inputs, inputs) and _same(kept.start, start):
            return kept
        try:
            step = self.stream.peek(inputs, start)
        except ValueError as error:
            if all_finite(inputs):
                raise
            raise ValueError(
                f"OnlineLearner.{name}: x must be finite, but holds NaN or infinity. Clean it first."
            ) from error
        self._foreseen = _Foreseen(inputs, start, step)
        return self._foreseen


class _Foreseen(NamedTuple):
    """The next step as computed for some arguments."""

    inputs: Tensor
    start: Tensor | None
    step: Any


_NOT_SAVED = {"self", "optimizer", "encoder", "device"}


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def _build(core: str, input_size: int, settings: dict[str, Any]) -> Core[Any]:
    known = [name for name in CORES if name not in {"sab_softmax", "lstm_attention", "transformer"}]
    if core not in known:
        raise ValueError(f"OnlineLearner: core must be one of {', '.join(known)}, but is {core!r}.")
    taken = {name: settings[name] for name in CORES[core].settings if name in settings}
    return build_core(core, input_size, settings["hidden_size"], **taken)
