"""The settings of one training run.

Importing this module is cheap (no torch), so that help and errors come at once.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sab_agents.checks import above_zero, at_least, did_you_mean
from sab_agents.train.configuration import Settings

TASK_KEYS = ("length", "min_length", "symbols", "distractors", "corpus", "dataset", "permuted", "carry", "data_dir")
# Settings that alter no update: how long a run continues, how it is watched, and where it computes.
BUDGET_KEYS = ("steps", "minutes", "target")
WATCH_KEYS = ("eval_every", "eval_sequences", "checkpoint_every", "log_every")
WHERE_KEYS = ("threads", "device", "data_dir")
# Where a run is kept and whether it is resumed is not part of what it computes, so the run folder's config omits it.
RUN_KEYS = ("out", "resume")
SHARED = "shared"

# Runs of earlier versions held the settings of all cores side by side, and a core ignored those that it does not have.
_SAB_KEYS = ("top_k", "write_every", "bptt_steps", "capacity", "attention", "attention_size")
FORMER_KEYS: Mapping[str, tuple[str, ...]] = {
    "sab": _SAB_KEYS,
    "sab_softmax": (*_SAB_KEYS, "temperature"),
    "sab_uncredited": _SAB_KEYS,
    "lstm": (),
    "lstm_tbptt": ("bptt_steps",),
    "lstm_attention": ("attention_size",),
    "transformer": ("layers", "heads", "context"),
}
ALL_FORMER_KEYS = frozenset(name for names in FORMER_KEYS.values() for name in names)


def _with_recipe(core: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all settings of a core of a run; one that names no recipe was trained when there was only the paper's.

    One without `output_gate` was trained when there was none. Settings that a softmax over all slots does not use were
    once written, too.
    """
    if not settings.keys() >= set(_SAB_KEYS):
        return dict(settings)
    unused = ("top_k", "floor") if core == "sab_softmax" else ()
    return {
        "recipe": "paper",
        "output_gate": False,
        **{name: value for name, value in settings.items() if name not in unused},
    }


@dataclass(frozen=True)
class TrainConfig(Settings):
    """Settings of one training run.

    `core_settings` has the settings of a core under its name, and under `shared` those that each core takes that has
    them. Settings without such a name are those of the chosen core. One that the core does not have is an error.

    Attributes:
        task: copying, adding, recall, characters, pixels or digit_recall.
        length: the task's length (blanks, delay, steps …); null is the task's own default.
        min_length: training batches of copying draw their length from min_length to length; null trains at length.
        symbols: number of symbols of recall.
        distractors: number of noise tokens of recall.
        corpus: text of the characters task: pydoc, ptb, text8 or the path of a text file.
        dataset: images of the pixels task, digits, mnist or cifar10, or of digit_recall, digits or mnist.
        permuted: pixels in one fixed random order instead of row by row.
        carry: whether a window of characters continues from the one before; false starts each without a past.
        data_dir: folder of downloaded data; null is the environment variable SAB_DATA_DIR or the user's cache.
        core: sab, sab_softmax, sab_uncredited, lstm, lstm_tbptt, lstm_attention, transformer or another registered one.
        hidden_size: H, size of the recurrent state (the Transformer's width).
        core_settings: settings of cores, such as {top_k: 5} or {shared: {bptt_steps: 5}, sab: {top_k: 5}}.
        seed: of the data and of the initial parameters.
        steps: updates in all.
        minutes: stop earlier, after this many minutes of updates (evaluation not counted).
        batch_size: sequences in one update.
        learning_rate: of Adam, at the start.
        final_learning_rate: at the end of a cosine decay over all steps; null keeps the rate constant.
        clip_norm: greatest norm of the gradient.
        threads: CPU threads; null leaves the choice to torch.
        device: a torch device, such as cpu or cuda.
        eval_every: updates between two evaluations on validation data.
        eval_sequences: held-out sequences in one evaluation.
        checkpoint_every: updates between two checkpoints.
        log_every: updates between two logged training losses.
        target: stop once the task's first metric on validation data is at least this good.
        out: the run folder; null is runs/<task>-<core>-<seed>.
        resume: continue from the run folder's checkpoint, if it has one.
    """

    task: str = "copying"
    length: int | None = None
    min_length: int | None = None
    symbols: int | None = None
    distractors: int | None = None
    corpus: str | None = None
    dataset: str | None = None
    permuted: bool | None = None
    carry: bool | None = None
    data_dir: str | None = None
    core: str = "sab"
    hidden_size: int = 128
    core_settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    steps: int = 2000
    minutes: float | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    clip_norm: float = 1.0
    threads: int | None = None
    device: str = "cpu"
    eval_every: int = 500
    eval_sequences: int = 512
    checkpoint_every: int = 500
    log_every: int = 20
    target: float | None = None
    out: str | None = None
    resume: bool = False

    unnamed_core: ClassVar[str | None] = None
    """Whose settings those without a core's name are; None for the chosen core's."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "eval_sequences", "checkpoint_every", "log_every", "threads"):
            if getattr(self, name) is not None:
                at_least("train", name, getattr(self, name), 1)
        at_least("train", "seed", self.seed, 0)
        for name in ("learning_rate", "clip_norm", "minutes"):
            if getattr(self, name) is not None:
                above_zero("train", name, getattr(self, name))
        if self.final_learning_rate is not None and not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                f"train: final_learning_rate must be between 0 and learning_rate = {self.learning_rate}, "
                f"but is {self.final_learning_rate}."
            )
        object.__setattr__(self, "core_settings", self._by_core())

    def _by_core(self) -> dict[str, dict[str, Any]]:
        named = {name: dict(value) for name, value in self.core_settings.items() if isinstance(value, Mapping)}
        unnamed = {name: value for name, value in self.core_settings.items() if name not in named}
        if unnamed:
            owner = self.core if self.unnamed_core is None else self.unnamed_core
            named[owner] = {**named.get(owner, {}), **unnamed}
        return named

    @classmethod
    def translated(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings of a run of an earlier version with today's keys; others as they are."""
        core = str(values.get("core"))
        if values.keys() >= ALL_FORMER_KEYS:
            kept = {name: value for name, value in values.items() if name not in ALL_FORMER_KEYS}
            former = {name: values[name] for name in FORMER_KEYS.get(core, ())}
            return {**kept, "core_settings": {core: _with_recipe(core, former)}}
        of_core: Any = values.get("core_settings")
        if isinstance(of_core, Mapping) and of_core.keys() >= {*_SAB_KEYS, "summary_gain"}:
            return {**values, "core_settings": _with_recipe(core, of_core)}
        return dict(values)

    @classmethod
    def nested_keys(cls) -> list[str]:
        """Returns the keys of all settings of cores."""
        return [f"core_settings.{setting}" for spec in _cores().values() for setting in spec.settings]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.out) if self.out is not None else Path("runs") / f"{self.task}-{self.core}-{self.seed}"

    def settings(self) -> dict[str, Any]:
        """Returns everything but where the run is kept, with all settings of its core.

        This is what `config.yaml`, checkpoints and `result.json` hold.

        Raises:
            ValueError: as `settings_of_core`.
        """
        every = {name: value for name, value in dataclasses.asdict(self).items() if name not in RUN_KEYS}
        return {**every, "core_settings": {**_defaults(self.core), **self.settings_of_core()}}

    def task_settings(self) -> dict[str, Any]:
        """Returns the keyword arguments of `make_task`."""
        return {name: getattr(self, name) for name in TASK_KEYS}

    def settings_of_core(self) -> dict[str, Any]:
        """Returns the settings of the chosen core: those of its own name, before those that are shared.

        Raises:
            ValueError: there is no such core, or a core, or all of them, have no such setting.
        """
        cores = _cores()
        for name in (self.core, *self.core_settings):
            if name not in cores and name != SHARED:
                raise ValueError(f"core: unknown core '{name}'. {did_you_mean(name, cores)}")
        for name, settings in self.core_settings.items():
            owners = cores.values() if name == SHARED else (cores[name],)
            known = list(dict.fromkeys(setting for spec in owners for setting in spec.settings))
            for setting in settings:
                if setting not in known:
                    whose = "no core has" if name == SHARED else f"{name} does not have"
                    remedy = did_you_mean(setting, known) if known else "It has no settings."
                    raise ValueError(f"core_settings: {whose} '{setting}'. {remedy}")
        shared = self.core_settings.get(SHARED, {})
        taken = {name: value for name, value in shared.items() if name in cores[self.core].settings}
        return {**_own_defaults(self.core), **taken, **self.core_settings.get(self.core, {})}


def _cores() -> Mapping[str, Any]:
    # Imported when it is needed, because it imports torch.
    cores: Mapping[str, Any] = importlib.import_module("sab_agents.core.registry").CORES
    return cores


def _own_defaults(core: str) -> dict[str, Any]:
    # An LSTM without segments is not truncated at all.
    return {"bptt_steps": 10} if core == "lstm_tbptt" else {}


def _defaults(core: str) -> dict[str, Any]:
    """Returns the defaults of a core's settings, from the signatures of its class and of those that this extends."""
    spec, found = _cores()[core], dict[str, Any]()
    for owner in inspect.getmro(spec.make):
        for name, parameter in inspect.signature(vars(owner).get("__init__", object.__init__)).parameters.items():
            if name in spec.settings and parameter.default is not parameter.empty:
                found.setdefault(name, parameter.default)
    return {name: found.get(name) for name in spec.settings}
