"""The settings of one training run: a flat frozen dataclass, read from YAML and typed flags.

Importing this module is cheap (no torch), so that help and errors come at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser

from sab_agents.checks import did_you_mean
from sab_agents.train.errors import UserError, one_line

TASK_KEYS = ("length", "min_length", "symbols", "distractors", "corpus", "dataset", "permuted", "carry", "data_dir")
CORE_KEYS = (
    "top_k",
    "write_every",
    "bptt_steps",
    "capacity",
    "attention",
    "attention_size",
    "temperature",
    "layers",
    "heads",
    "context",
)
# Settings that alter no update: how long a run goes on, how it is watched, and where it computes.
BUDGET_KEYS = ("steps", "minutes", "target")
WATCH_KEYS = ("eval_every", "eval_sequences", "checkpoint_every", "log_every")
WHERE_KEYS = ("threads", "device", "data_dir")
# Where a run is kept and how it is resumed is not part of what it computes, so the run folder's config omits it.
RUN_KEYS = ("out", "resume")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run. A setting that the chosen core does not have is ignored.

    Attributes:
        task: copying, adding, recall, characters or pixels.
        length: the task's length (blanks, delay, steps …); null is the task's own default.
        min_length: training batches of copying draw their length from min_length to length; null trains at length.
        symbols: number of symbols of recall.
        distractors: number of noise tokens of recall.
        corpus: text of the characters task: pydoc, ptb, text8 or the path of a text file.
        dataset: images of the pixels task: digits, mnist or cifar10.
        permuted: pixels in one fixed random order instead of row by row.
        carry: whether a window of characters goes on from the one before; false starts each without a past.
        data_dir: folder of downloaded data; null is the environment variable SAB_DATA_DIR or the user's cache.
        core: sab, sab_softmax, sab_uncredited, lstm, lstm_tbptt, lstm_attention or transformer.
        hidden_size: H, size of the recurrent state (the Transformer's width).
        top_k: slots that take part in one read of the memory.
        write_every: steps between two writes to the memory.
        bptt_steps: length of a segment, beyond which plain backpropagation does not go.
        capacity: slots of the memory; null is as many as the sequence writes.
        attention: how a slot is scored.
        attention_size: A, size of the attention's hidden layer; null is hidden_size.
        temperature: divides the scores of sab_softmax.
        layers: layers of the Transformer.
        heads: attention heads of the Transformer.
        context: steps that the Transformer carries over; null is its own default.
        seed: of the data and of the initial parameters.
        steps: updates in all.
        minutes: stop earlier, after so many minutes of updates (evaluation not counted).
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
        resume: go on from the run folder's checkpoint, if it has one.
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
    top_k: int = 5
    write_every: int = 1
    bptt_steps: int = 10
    capacity: int | None = None
    attention: Literal["mlp", "dot"] = "mlp"
    attention_size: int | None = None
    temperature: float = 1.0
    layers: int = 2
    heads: int = 4
    context: int | None = None
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

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "eval_sequences", "checkpoint_every", "log_every", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, but is {value}.")
        if self.seed < 0:
            raise UserError(f"seed must be at least 0, but is {self.seed}.")
        for name in ("learning_rate", "clip_norm", "minutes", "temperature"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name} must be above 0, but is {value}.")
        if self.final_learning_rate is not None and not 0 <= self.final_learning_rate <= self.learning_rate:
            raise UserError(
                f"final_learning_rate must be between 0 and learning_rate = {self.learning_rate}, "
                f"but is {self.final_learning_rate}."
            )

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.out) if self.out is not None else Path("runs") / f"{self.task}-{self.core}-{self.seed}"

    def settings(self) -> dict[str, Any]:
        """Everything but where the run is kept: what `config.yaml`, checkpoints and `result.json` hold."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in RUN_KEYS}

    def task_settings(self) -> dict[str, Any]:
        """Keyword arguments of `make_task`."""
        return {name: getattr(self, name) for name in TASK_KEYS}

    def core_settings(self) -> dict[str, Any]:
        """Keyword arguments of `build_core`."""
        return {name: getattr(self, name) for name in CORE_KEYS}


KEYS = tuple(field.name for field in dataclasses.fields(TrainConfig))


def config_parser(usage: str) -> ArgumentParser:
    """The parser that knows each key's type and prints the help."""
    parser = ArgumentParser(prog="sab-agents", usage=usage, exit_on_error=False)
    parser.add_class_arguments(TrainConfig)
    return parser


def load_config(path: str | Path | None, flags: Sequence[str] = ()) -> TrainConfig:
    """Reads a config file and the flags that change it.

    Args:
        path: a YAML file of `TrainConfig` keys; None starts from the defaults.
        flags: `--key value` or `--key=value`, with dashes or underscores; a key of type bool alone means true.

    Raises:
        UserError: the file is missing or not a mapping; a key is unknown; a value has the wrong type or range.
    """
    values = {} if path is None else _typed(_read_yaml(Path(path)), source=f"{path}: ")
    values |= _typed(_split_flags(flags), source="--")
    return TrainConfig(**values)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        hint = ""
        if isinstance(error, FileNotFoundError) and path.parent.is_dir():
            hint = " " + did_you_mean(path.name, sorted(other.name for other in path.parent.glob("*.y*ml")))
        raise UserError(f"{path}: {error.strerror or error}.{hint}".removesuffix(" Valid are: .")) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a YAML file: {one_line(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be a list of 'key: value' lines, but is {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


def _split_flags(flags: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    rest = list(flags)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"'{flag}' is not expected here. Settings are given as --key value.")
        name, equals, value = flag.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        if name not in KEYS:
            raise UserError(f"unknown key '--{name}'. {did_you_mean(name, KEYS)}")
        if not equals:
            if rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            elif isinstance(getattr(TrainConfig, name), bool):
                value = "true"
            else:
                raise UserError(f"--{name} needs a value.")
        values[name] = value
    return values


def _typed(values: dict[str, Any], source: str) -> dict[str, Any]:
    """The values as their key's type; each is checked alone, so that an error names its key."""
    parser = config_parser("")
    types = {field.name: str(field.type) for field in dataclasses.fields(TrainConfig)}
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in KEYS:
            raise UserError(f"{source}unknown key '{name}'. {did_you_mean(name, KEYS)}")
        try:
            typed[name] = parser.parse_object({name: value}, defaults=False)[name]
        except Exception as error:  # jsonargparse raises ArgumentError or TypeError, depending on the type
            raise UserError(f"{source}{name} must be {types[name]}, but is {value!r}.") from error
    return typed
