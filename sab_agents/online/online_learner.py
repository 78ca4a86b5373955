"""Supervised learning from endless streams, with River's verbs and constant memory.

Dimensions: B rows (parallel streams), I features of an input, C features of a prediction.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from sab_agents.checkpoint import archive
from sab_agents.checkpoint.archive import all_or_nothing, on_device, under, within
from sab_agents.checks import above_zero, at_least, did_you_mean, plain
from sab_agents.core import CoreSpec, SABState, build_core
from sab_agents.core.recipes import former_settings
from sab_agents.kernels import all_finite
from sab_agents.online.answers import Answers
from sab_agents.online.credit_ledger import CreditLedger, CreditReport
from sab_agents.online.diagnosis import Diagnosis, Facts, WindowHistory, diagnosed
from sab_agents.online.former_files import learner_state
from sab_agents.online.growth import laid_into, require_growable
from sab_agents.online.inputs import Inputs, WaitingSteps, flag, numbers
from sab_agents.online.rates import MakeOptimizer, optimizer_of
from sab_agents.online.settings import chosen_settings, endless_cores, settings_of
from sab_agents.online.targets import Head, Labels, LossName, Targets, WindowLabels
from sab_agents.optim.flat import FlatAdam, FlatGradient, Follower
from sab_agents.streaming import SABStream, Stream, credited, in_own_modes, make_stream, stream_settings

KIND = "online-learner"


class OnlineLearner:
    """Learns from B endless streams in one pass and in constant memory and time for each step.

    `predict_*` says what the present input means, `learn_*` tells what it meant and moves on. After every
    `update_every` steps one optimiser step is made if any of them had a target. Gradient reaches back beyond the window
    as far as the core's stream carries it: with SAB through the memory to steps of any distance that are still held
    (see `SABStream`). A prediction has no effect on what is learnt. Steps for which none is asked are taken together,
    when an update is due or someone looks at `stream`.

    If it does not learn, `print(learner.diagnose())`.

    Args:
        input_size: I, features of an input; with an `encoder`, of what that returns.
        output_size: C, classes, labels or values.
        loss: "cross_entropy", "binary_cross_entropy" or "squared_error"; see `Targets`.
        rows: B; `predict_one` and `learn_one` need 1.
        core: the name of a registered core that can run through an endless stream, such as "sab", "rtu" (exact
            real-time recurrent learning) or "lstm_tbptt" (gradient within the window).
        hidden_size: H, features of the hidden state.
        refresh_every: updates between two computations of all memory slots with today's weights, for a core with
            slots; None for never: a slot then stays as it was written.
        update_every: steps between two updates; as many as a segment has, so that nothing in a window is cut.
        learning_rate: of Adam; above 0 and finite. 0.01 was the best of those tried in streams. The slope by which
            scores fall with age has a tenth of it: a slope that is learnt before the contents are hides all slots but
            the newest or the oldest, and stays.
        attention_rate: the learning rate of the rest of the attention as a fraction of the others'; above 0 and finite.
            Where it is hard to learn what to write, 0.3 keeps the scores from settling before that is learnt.
        head_rate: that of the head. Where answers are rare and hard, 0.3 keeps the head from making all states small
            before they say anything. docs/recipe.md shows both.
        clip_norm: greatest norm of the gradient; 5 belongs to the settings that docs/recipe.md arrived at.
        optimizer: makes another optimiser of the parameters, with one rate for all unless it takes care of that.
        encoder: makes inputs (N, I) of observations (N, …) and is learnt with the rest.
        observation_shape: of one observation; None is (I,).
        seed: of the parameters and of the stream.
        device: of everything.
        history: windows whose reads and gradients are kept for `diagnose`; with 0 nothing is noted for it.
        settings: of the core and its stream; `OnlineLearner.settings_of(core)` names them. For "sab", with defaults:
            top_k=16: slots that take part in one read. write_every=1: steps between two writes. bptt_steps=8: length of
            a segment. capacity=64: slots of the memory. attention="mlp", or "dot". attention_size=32; None is H.
            recipe="default", and the settings that it chooses: see `SAB`. eviction="least_useful", write="changed",
            novelty=None (0.3 with that, otherwise 1.0), decay=0.99, credit_depth=1 (links that credit follows; None
            for all): see `SABStream`.
            age_scale=None: half the capacity, so that the newest of several like slots can be told from those before.
            sharpness=None: 0.5, so that a read can single out one of `top_k` slots; 0.0 with the paper's recipe.
            input_gain=2.5, so that a state shows what its input was before anything is learnt; None with the paper's
            recipe. LSTMs and GRUs have it, too.

    Raises:
        TypeError: a count is not an int, or the core has no such setting.
        ValueError: a setting is out of range, or there is no such core.

    Examples:
        >>> from sab_agents import OnlineLearner
        >>> learner = OnlineLearner(input_size=4, output_size=2)
        >>> for step in range(16):
        ...     x, y = [step / 16] * 4, step % 2
        ...     y_hat = learner.predict_one(x)
        ...     learner = learner.learn_one(x, y)  # y=None if nothing is to be learnt at this step
        >>> learner.steps, learner.updates
        (16, 2)

    Source: credit through memory by Ke et al. 2018, "Sparse Attentive Backtracking". What decided the defaults is in
    docs/recipe.md.
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
        refresh_every: int | None = None,
        update_every: int = 8,
        learning_rate: float = 1e-2,
        attention_rate: float = 1.0,
        head_rate: float = 1.0,
        clip_norm: float = 5.0,
        optimizer: MakeOptimizer | None = None,
        encoder: nn.Module | None = None,
        observation_shape: tuple[int, ...] | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        history: int = 16,
        **settings: Any,
    ) -> None:
        name = "OnlineLearner"
        # A file can hold Python's numbers, but not NumPy's.
        input_size, output_size, rows, hidden_size, seed = plain((input_size, output_size, rows, hidden_size, seed))
        refresh_every, update_every, observation_shape = plain((refresh_every, update_every, observation_shape))
        self.history = WindowHistory(at_least(name, "history", history, 0))
        learning_rate, clip_norm, settings = plain((learning_rate, clip_norm, settings))
        attention_rate, head_rate = plain((attention_rate, head_rate))
        self.rows = at_least(name, "rows", rows, 1)
        self.update_every = at_least(name, "update_every", update_every, 1)
        self.refresh_every = None if refresh_every is None else at_least(name, "refresh_every", refresh_every, 1)
        self.targets = Targets(loss, at_least(name, "output_size", output_size, 1))
        above_zero(name, "learning_rate", learning_rate)
        above_zero(name, "attention_rate", attention_rate)
        above_zero(name, "head_rate", head_rate)
        if not clip_norm > 0:
            raise ValueError(f"{name}: clip_norm must be above 0, but is {clip_norm}. Pass inf for no limit.")
        self.clip_norm = clip_norm
        spec = _spec(core)
        of_core, of_stream = chosen_settings(name, spec, settings)
        self.settings: dict[str, Any] = {
            **{"input_size": input_size, "output_size": output_size, "loss": loss, "rows": rows, "core": core},
            **{"hidden_size": hidden_size, "refresh_every": refresh_every, "update_every": update_every},
            **{"learning_rate": learning_rate, "attention_rate": attention_rate, "head_rate": head_rate},
            **{"clip_norm": clip_norm, "observation_shape": observation_shape, "seed": seed},
            **{"history": plain(history), **of_core, **of_stream},
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.core = build_core(core, input_size, hidden_size, **of_core).to(device)
            self.head = Head(self.core.output_size, self.targets).to(device)
        shape = (input_size,) if observation_shape is None else tuple(observation_shape)
        if "seed" in stream_settings(spec):
            of_stream["seed"] = seed
        self._stream = make_stream(self.core, rows, encoder=encoder, observation_shape=shape, **of_stream)
        slots = isinstance(self._stream, SABStream)
        if refresh_every is not None and not slots:
            raise TypeError(f"{name}: core {core!r} has no slots to refresh. Leave refresh_every out.")
        waits = slots and encoder is None and self._on_cpu()
        self._waiting = WaitingSteps(self._stream, update_every) if waits else None
        self.gradient = FlatGradient(self._modules())
        self.optimizer = optimizer_of(
            self.gradient, torch.device(device), optimizer, learning_rate, attention_rate, head_rate
        )
        self._follower = Follower(self._modules())
        self._inputs = Inputs(rows, shape)
        self.ledger = CreditLedger()
        self.steps = self.updates = self.skipped = 0
        self.labels = WindowLabels(self.targets, rows)
        self._answers = Answers(self.targets)
        self._peeked: _Peeked | None = None

    @staticmethod
    def settings_of(core: str) -> tuple[str, ...]:
        """Returns the names of the settings that a learner takes with this core, beside the arguments that are named.

        Raises:
            ValueError: there is no such core.
        """
        return settings_of("OnlineLearner", _spec(core))

    @staticmethod
    def shared_settings(core: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings that learners with several cores share without those that this core does not have.

        A setting that no core has is kept, so that it is an error.

        Raises:
            ValueError: there is no such core.
        """
        known = OnlineLearner.settings_of(core)
        others = {name for spec in endless_cores() for name in settings_of("OnlineLearner", spec)}.difference(known)
        return {name: value for name, value in settings.items() if name not in others}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Everything that is learnt: the parameters of the core, the head and the encoder, in this order."""
        return [parameter for module in self._modules() for parameter in module.parameters()]

    @property
    def stream(self) -> Stream:
        """The stream that is learnt from, at the last step that was learnt."""
        if self._waiting is not None:
            self._waiting.take()
        return self._stream

    def predict_one(self, x: Any, episode_start: bool = False) -> Any:
        """Predicts what the input means, as far as is known now: a class (int), labels (bool) or values (float).

        Args:
            x: (I,) features, or a mapping from names to features, always of the same names.
            episode_start: whether an episode begins with it; the memory of the one before is then not used.

        Returns:
            A single value for one class, or if `output_size` is 1; an array (C,) otherwise.

        Raises:
            ValueError: see `learn_many`; or the learner has several rows.
        """
        predicted = self.predict_many(self._inputs.one("predict_one", x), flag(episode_start))[0]
        self._inputs.accept()
        return predicted.item() if predicted.size == 1 else predicted

    def predict_proba_one(self, x: Any, episode_start: bool = False) -> dict[int, float]:
        """Returns the probability of each class (or label). Arguments and errors are those of `predict_one`."""
        predicted = self.predict_proba_many(self._inputs.one("predict_proba_one", x), flag(episode_start))[0]
        self._inputs.accept()
        return {index: float(value) for index, value in enumerate(predicted)}

    def learn_one(self, x: Any, y: Any = None, episode_start: bool = False) -> Self:
        """Takes the next step of the stream and learns from it; see `learn_many`."""
        inputs = self._inputs.one("learn_one", x)
        target = None if y is None else np.asarray(y)[None]
        self.learn_many(inputs, target, flag(episode_start))
        self._inputs.accept()
        return self

    def predict_many(self, x: Any, episode_start: Any = None) -> npt.NDArray[Any]:
        """Returns predictions for all rows: (B,) classes, or (B, C). Arguments and errors are those of `learn_many`."""
        return self.targets.prediction(self._output("predict_many", x, episode_start))

    def predict_proba_many(self, x: Any, episode_start: Any = None) -> npt.NDArray[Any]:
        """Returns (B, C) probabilities for all rows. Arguments and errors are those of `learn_many`."""
        return self.targets.probabilities(self._output("predict_proba_many", x, episode_start))

    @in_own_modes
    def learn_many(self, x: Any, y: Any = None, episode_start: Any = None, mask: Any = None) -> Self:
        """Takes the next step of every stream, and updates the parameters after each `update_every`-th.

        Args:
            x: (B, I) features, or (B, …) for an encoder.
            y: (B,) classes 0 … C − 1, or (B, C) labels or values; None if nothing is to be learnt at this step.
            episode_start: (B,) bool, rows whose episode begins with x; None for none.
            mask: (B,) bool, rows that have a target at this step; None for all.

        Raises:
            ValueError: a shape does not fit, x or y is not finite, or y is out of range. Nothing has changed.
        """
        self._require_one_dtype("learn_many")
        labels = None if y is None else self.labels.checked(y, mask, "OnlineLearner.learn_many")
        if self._waits(x, episode_start):
            self._learn_taken(labels)
        else:
            self._take_peeked(self._peek("learn_many", x, episode_start), labels)
        return self

    @in_own_modes
    def peek_many(self, x: Any, episode_start: Any = None) -> Tensor:
        """Returns the core's outputs (B, F) for the next step, of which `head` makes predictions; changes nothing.

        Arguments and errors are those of `learn_many`.
        """
        self._require_one_dtype("peek_many")
        output: Tensor = self._peek("peek_many", x, episode_start).step.output
        return output

    @property
    def peeked(self) -> Tensor | None:
        """What `peek_many` returned last; None if that step has been learnt, or weights or stream changed since."""
        peeked = self._held_peek()
        return None if peeked is None else peeked.step.output

    @in_own_modes
    def learn_peeked(self, y: Any) -> Self:
        """Does what `learn_many` does for the step that was predicted or peeked at last, without computing it again.

        Args:
            y: as in `learn_many`.

        Raises:
            RuntimeError: no step was predicted since the last one that was learnt.
            ValueError: as `learn_many`.
        """
        peeked = self._held_peek()
        if peeked is None:
            raise RuntimeError("OnlineLearner.learn_peeked: no step was predicted. Call predict_many() first.")
        self._take_peeked(peeked, self.labels.checked(y, None, "OnlineLearner.learn_peeked"))
        return self

    def _take_peeked(self, peeked: _Peeked, labels: Labels | None) -> None:
        self._peeked = None
        self.stream.take(peeked.step)
        self._learn_taken(labels)

    def _learn_taken(self, labels: Labels | None) -> None:
        """Learns from the window if the step that was taken, or waits, is its last."""
        self.labels.steps.append(labels)
        self.steps += 1
        if len(self.labels.steps) >= self.update_every:
            self._update()

    def credit_report(self) -> CreditReport:
        """Returns which past steps were read and credited, how far back, and how much."""
        return self.ledger.report()

    @in_own_modes
    def diagnose(self) -> Diagnosis:
        """Returns what memory, reads, credit and gradients do, in figures, and advice for what is known to be wrong.

        Print it. It looks at what the stream holds and at some of the latest windows, see `history`; for any core.
        Nothing is changed.
        """
        rates = [group["lr"] for group in self.optimizer.param_groups]
        facts = Facts(
            settings=self.settings,
            steps=self.steps,
            updates=self.updates,
            targets=self.updates > 0 or self.labels.last is not None,
            skipped=self.skipped,
            learning_rate=float(rates[0]),
            adam=isinstance(self.optimizer, FlatAdam | Adam),
            finite=all(all_finite(parameter.detach()) for parameter in self.parameters),
            credited=self.ledger.slots,
            encodes=self._encodes,
        )
        return diagnosed(self.stream, self.history, self._answers, facts)

    @in_own_modes
    def grow(self, input_size: int | None = None, output_size: int | None = None) -> Self:
        """Makes room for more features or classes; all that was learnt and is remembered stays.

        New features come after the former ones, and new classes too. Their weights are drawn as at the start, their
        moments are zero, and the steps that are still held had zeros there: for inputs whose new features are zero, a
        prediction among the former classes stays the same. The parameters are new objects.

        Args:
            input_size: I, at least the present one, which None keeps.
            output_size: C, at least the present one, which None keeps; it grows with "cross_entropy" alone.

        Raises:
            TypeError: a size is not an int.
            ValueError: a size is smaller than now; the learner has an encoder or an optimiser of the user's, took its
                inputs from mappings, or, for features, a core that learns in real time. Nothing has changed.
        """
        name, now = "OnlineLearner.grow", self.settings
        inputs = now["input_size"] if input_size is None else at_least(name, "input_size", input_size, 1)
        outputs = now["output_size"] if output_size is None else at_least(name, "output_size", output_size, 1)
        if inputs < now["input_size"] or outputs < now["output_size"]:
            raise ValueError(
                f"{name}: sizes can only grow, but input_size {now['input_size']} and output_size "
                f"{now['output_size']} were to be {inputs} and {outputs}. Make a new learner."
            )
        if inputs == now["input_size"] and outputs == now["output_size"]:
            return self
        own = isinstance(self.optimizer, FlatAdam) and not self._encodes
        require_growable(now, inputs > now["input_size"], outputs > now["output_size"], own, self._inputs.names)
        sizes = {"input_size": inputs, "output_size": outputs, "observation_shape": None}
        like = self._like()
        wider = OnlineLearner(**plain({**now, **sizes}), device=like.device)
        for module, before in ((wider.core, self.core), (wider.head, self.head)):
            module.to(like.dtype).train(before.training)
            for parameter, former in zip(module.parameters(), before.parameters(), strict=True):
                parameter.requires_grad_(former.requires_grad)
        wider._load(laid_into(self.state_dict(), wider.state_dict(), inputs))  # nothing of which is to be put back
        wider.clip_norm, wider.update_every, wider.refresh_every = self.clip_norm, self.update_every, self.refresh_every
        self.__dict__.update(wider.__dict__)
        return self

    @property
    def _encodes(self) -> bool:
        return not isinstance(self._stream.encoder, nn.Identity)

    @in_own_modes
    def reset(self) -> Self:
        """Forgets the stream (memory, open window, ledger, history); what was learnt stays."""
        if self._waiting is not None:
            self._waiting.clear()
        self._stream.reset()
        self.ledger = CreditLedger()
        self.history.clear()
        self._answers.clear()
        self.steps = 0
        self.labels.clear()
        self._peeked = None
        return self

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that learning changes: tensors, and values that JSON can hold, by name."""
        self.gradient.follow()  # so that the optimiser's moments are those of the parameters that are learnt now
        optimizer = self.optimizer.state_dict()
        moments = {
            f"{index}.{name}": torch.as_tensor(value)
            for index, entries in optimizer["state"].items()
            for name, value in entries.items()
        }
        return {
            **under("parameter", {str(index): parameter for index, parameter in enumerate(self.parameters)}),
            **under("buffer", self._buffers()),
            **under("stream", self.stream.state_dict()),
            **under("optimizer", {**moments, "groups": optimizer["param_groups"]}),
            **under("label", self.labels.state_dict()),
            **under("ledger", self.ledger.state_dict()),
            **under("history", self.history.state_dict()),
            **under("answers", self._answers.state_dict()),
            **under("count", {name: getattr(self, name) for name in _COUNTS}),
            "names": self._inputs.names,
        }

    @in_own_modes
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes bit-exactly from what `state_dict` of a learner with the same settings returned.

        Raises:
            ValueError: the encoder, the optimiser or a setting is another one. Nothing has changed.
        """
        with all_or_nothing(self, self._load):
            self._load(state_dict)

    def _load(self, state_dict: dict[str, Any]) -> None:
        self._load_parameters(within("parameter", state_dict))
        self._load_buffers(within("buffer", state_dict))
        self.gradient.follow()  # so that the optimiser's moments are those of the parameters that are learnt now
        self._load_optimizer(within("optimizer", state_dict))
        self.stream.load_state_dict(on_device(within("stream", state_dict), self._like().device))
        self.labels.load_state_dict(within("label", state_dict))
        self.ledger.load_state_dict(within("ledger", state_dict))
        self.history.load_state_dict(within("history", state_dict))
        self._answers.load_state_dict(within("answers", state_dict))
        for name in _COUNTS:
            setattr(self, name, state_dict[f"count.{name}"])
        self._inputs.names = state_dict["names"]
        self._peeked = None

    def save(self, path: str | Path) -> None:
        """Writes settings and state to a file without code, from which `load` resumes bit-exactly.

        An `encoder` and an `optimizer` are code: only their parameters, buffers and moments are in the file.
        """
        state = self.state_dict()
        changed = {name: getattr(self, name) for name in ("clip_norm", "update_every", "refresh_every")}
        held = {"frozen": archive.frozen(self.gradient.named.items()), "dtype": str(self._like().dtype)}
        archive.save(path, KIND, {"settings": {**self.settings, **plain(changed)}, **held}, state)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        optimizer: MakeOptimizer | None = None,
        encoder: nn.Module | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Returns the learner that `save` wrote; an encoder or optimiser that it had must be passed again.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or of another kind, or the encoder or optimiser is another one.
        """
        saved, state = archive.load(path, KIND)
        try:
            return cls._built(saved, state, optimizer=optimizer, encoder=encoder, device=device)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def _built(cls, saved: dict[str, Any], state: dict[str, Any], **code: Any) -> Self:
        """Returns a learner of the settings and the state that a file holds."""
        settings = saved["settings"]
        if "counts" in saved:
            known = {*inspect.signature(cls).parameters, *cls.settings_of(settings["core"])}
            settings = {name: value for name, value in settings.items() if name in known}
            state = learner_state(saved, state)
        if settings["observation_shape"] is not None:
            settings["observation_shape"] = tuple(settings["observation_shape"])
        settings = former_settings(settings, cls.settings_of(settings["core"]), settings)
        learner = cls(**settings, **code)
        if saved.get("dtype") == str(torch.float64):
            learner.core.double()
            learner.head.double()
        archive.freeze(learner.gradient.named.items(), saved.get("frozen", ()))
        learner.load_state_dict(state)
        return learner

    def _modules(self) -> tuple[nn.Module, ...]:
        return self.core, self.head, self._stream.encoder

    def _load_parameters(self, saved: dict[str, Tensor]) -> None:
        expected = [tuple(parameter.shape) for parameter in self.parameters]
        received = [tuple(saved[str(index)].shape) for index in range(len(saved))]
        if expected != received:
            raise ValueError(
                f"the saved parameters have shapes {received}, but the learner's have {expected}. "
                f"Pass the encoder that it was saved with."
            )
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.copy_(saved[str(index)])

    def _buffers(self) -> dict[str, Tensor]:
        """Returns what core, head and encoder carry beside parameters, such as the statistics of a BatchNorm."""
        found: dict[str, Tensor] = {}
        for number, module in enumerate(self._modules()):
            parameters = dict(module.named_parameters(remove_duplicate=False))
            found |= {f"{number}.{name}": each for name, each in module.state_dict().items() if name not in parameters}
        return found

    def _load_buffers(self, saved: dict[str, Tensor]) -> None:
        """Takes them over; files of earlier versions have none."""
        with torch.no_grad():
            for name, buffer in self._buffers().items():
                if name in saved:
                    buffer.copy_(saved[name])

    def _load_optimizer(self, saved: dict[str, Any]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        groups = saved.pop("groups")
        for name, value in saved.items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value.clone()  # torch's optimisers would go on with the other's
        try:
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        except (ValueError, KeyError) as error:
            raise ValueError(f"saved with another optimizer ({error}). Pass the one it was saved with.") from error

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
        if isinstance(self.optimizer, Optimizer):
            self._follower.follow(self.optimizer)
        stream = self.stream
        replay = stream.replay()
        replay.backward(self.head.gradient(replay.outputs, self.labels))
        before, first = stream.before, self.steps - stream.steps
        if self._answers.wants(self.updates) and self.settings["history"]:
            self._answers.add(*self.head.answered(replay.outputs.detach(), self.labels))
        if self.history.wants(self.updates):
            credit, norms = credited(self.core, stream.credit)
            self.history.add(stream, first, replay.outputs.detach(), credit, norms)
        else:
            credit = stream.credit()
        if math.isfinite(self.gradient.clip(self.clip_norm)):
            self.optimizer.step()
            if isinstance(before, SABState):
                self.ledger.add(credit, before.written_at, before.step, first, first + last)
        else:  # a chain of reads can overflow although the loss is sound
            self.skipped += 1
        self.updates += 1

    def _waits(self, x: Any, episode_start: Any) -> bool:
        """Lets the step wait to be taken with others, and returns whether it does; one that was peeked at does not."""
        if self._waiting is None or self._peeked is not None or not self._on_cpu():
            return False
        if isinstance(x, Tensor):
            if x.is_complex():
                return False  # and the step is refused
            x = x.detach().to("cpu", torch.float32).numpy()
        array = x if isinstance(x, np.ndarray) and x.dtype == np.float32 else numbers("learn_many", x)
        return self._waiting.add(array, None if episode_start is None else np.asarray(episode_start))

    def _on_cpu(self) -> bool:
        """Whether the parameters are float32 on the CPU, as the inputs of waiting steps are."""
        weight = self._like()
        return weight.is_cpu and weight.dtype is torch.float32

    def _like(self) -> Tensor:
        """Returns a parameter, for the dtype and device of the inputs."""
        weight = self.head._parameters.get("weight")  # `__getattr__` would be noticed at every step
        return next(self.head.parameters()) if weight is None else weight

    def _require_one_dtype(self, name: str) -> None:
        """Raises TypeError if somebody has converted the core or the head alone, or to what is not learnt in."""
        core, head = self.core.like, self._like()
        if core.dtype is not head.dtype or core.device != head.device:
            raise TypeError(
                f"OnlineLearner.{name}: core and head must be of one dtype on one device, but are {core.dtype} on "
                f"{core.device} and {head.dtype} on {head.device}. Convert both by .to(…)."
            )
        if core.dtype not in _DTYPES:
            raise TypeError(
                f"OnlineLearner.{name}: learns in torch.float32 or torch.float64, but core and head are {core.dtype}. "
                "Convert both."
            )

    @in_own_modes
    def _output(self, name: str, x: Any, episode_start: Any) -> Tensor:
        """Returns the head's output (B, C) for the next step."""
        self._require_one_dtype(name)
        return self.head.predicted(self._peek(name, x, episode_start).step.output)

    def _held_peek(self) -> _Peeked | None:
        """Returns the step that was computed last, unless its weights or its stream were changed since."""
        peeked, like = self._peeked, self._like()
        if peeked is None or peeked.inputs.dtype is not like.dtype or peeked.inputs.device != like.device:
            return None
        return peeked if peeked.before == self._before() else None

    def _before(self) -> tuple[int, int]:
        """Returns counts that tell whether weights were changed in place, or the stream was moved, by somebody else."""
        return sum(parameter._version for parameter in self.gradient.named.values()), self._stream.steps

    def _peek(self, name: str, x: Any, episode_start: Any) -> _Peeked:
        """Computes the next step without taking it; one that was computed for the same arguments is used again."""
        inputs = self._inputs.tensor(name, x, self._like())
        start = None if episode_start is None else self._inputs.start(name, episode_start).to(inputs.device)
        peeked = self._held_peek()
        if peeked is not None and torch.equal(peeked.inputs, inputs) and _same(peeked.start, start):
            return peeked
        try:
            step = self.stream.peek(inputs, start)
        except ValueError as error:
            if all_finite(inputs):
                raise
            raise ValueError(
                f"OnlineLearner.{name}: x must be finite, but holds NaN or infinity. Clean it first."
            ) from error
        self._peeked = _Peeked(inputs, start, step, self._before())
        return self._peeked


class _Peeked(NamedTuple):
    """The next step as computed for some arguments."""

    inputs: Tensor
    start: Tensor | None
    step: Any
    before: tuple[int, int]


_COUNTS = ("steps", "updates", "skipped")
_DTYPES = frozenset({torch.float32, torch.float64})


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def _spec(core: str) -> CoreSpec:
    """Returns the registered core of that name, which must run through an endless stream."""
    known = {spec.name: spec for spec in endless_cores()}
    if core not in known:
        raise ValueError(f"OnlineLearner: core {core!r} is unknown or not endless. {did_you_mean(str(core), known)}")
    return known[core]
