"""`sab-agents bench river`: progressive accuracy and time a sample of estimators of River on its data sets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from rich.status import Status
from rich.table import Table

from sab_agents.checks import did_you_mean
from sab_agents.train.commands.arguments import Parser, at_least_one, at_least_zero
from sab_agents.train.errors import UserError
from sab_agents.train.output import terminal, write_json

REGIME_STEPS = (10, 40)
SETS = ("Elec2", "Phishing", "ImageSegments", "HiddenRegime")
LINEAR = ("LogisticRegression", "SoftmaxRegression", "PAClassifier", "Perceptron", "ALMAClassifier")
OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "GaussianNB": "river.naive_bayes",
        "KNNClassifier": "river.neighbors",
        "HoeffdingAdaptiveTreeClassifier": "river.tree",
        "ARFClassifier": "river.forest",
        "SRPClassifier": "river.ensemble",
    }
)
"""River's classifiers that are not linear, with their modules."""
OURS, PEER, SAME = "SABClassifier", "deep-river's LSTMClassifier", "NoChangeClassifier"
SIDES = (OURS, PEER, *LINEAR, *OTHERS, SAME)
SEEDED = frozenset({OURS, PEER, "HoeffdingAdaptiveTreeClassifier", "ARFClassifier", "SRPClassifier"})
TURN = 250
"""Samples that an estimator takes before the next one has its turn: what else the machine does meets all of them.

A turn begins with nothing of it in a cache, where a user's estimator is alone; in turns of 50 that cost a seventh.
"""


@dataclass(frozen=True)
class Row:
    """What one estimator did on one data set.

    Attributes:
        data: its name.
        side: one of `SIDES`.
        samples: number of samples.
        accuracy: fraction of the samples whose label was predicted before it was learnt.
        microseconds: of the processor, for one sample, its prediction and its learning.
    """

    data: str
    side: str
    samples: int
    accuracy: float
    microseconds: float


def hidden_regime(samples: int = 10_000, seed: int = 0) -> Iterator[tuple[dict[str, float], str]]:
    """Yields samples whose label depends on which of two regimes holds, without a sign of where one ends.

    A regime lasts for 10 to 40 steps, and a feature of its own is 1 in its first step. `value` is uniform in (−1, 1).
    The label is "up" where it is positive in the regime "a" and where it is negative in "b", else "down". Who remembers
    nothing is right in half of the samples.

    Args:
        samples: how many.
        seed: of all random numbers.
    """
    rng = np.random.default_rng(seed)
    regime, left = "", 0
    for _ in range(samples):
        x = {"value": float(rng.uniform(-1, 1)), "begins a": 0.0, "begins b": 0.0}
        if left == 0:
            regime, left = ("a", "b")[rng.integers(2)], int(rng.integers(REGIME_STEPS[0], REGIME_STEPS[1] + 1))
            x[f"begins {regime}"] = 1.0
        left -= 1
        yield x, "up" if (x["value"] > 0) == (regime == "a") else "down"


def samples_of(name: str) -> Iterable[tuple[dict[Any, Any], Any]]:
    """Returns a data set of `SETS`.

    Raises:
        UserError: River is not installed, or the data set is no part of it and was not downloaded.
    """
    if name == "HiddenRegime":
        return hidden_regime()
    data: Any = getattr(_package("river.datasets"), name)()
    if not getattr(data, "is_downloaded", True):
        raise UserError(
            f"bench river: {name} is not downloaded. Run: python -c 'from river import datasets; "
            f"datasets.{name}().download()'."
        )
    samples: Iterable[tuple[dict[Any, Any], Any]] = data
    return samples


def build(side: str, features: int, seed: int = 0) -> Any:
    """Returns an estimator of `SIDES`, with default arguments if it is ours or River's.

    The LSTM has as many hidden features and the same optimiser as ours: with its own default, SGD at a rate of 0.001,
    it learns next to nothing from as few samples.

    Args:
        side: which.
        features: of the first sample.
        seed: of those that draw random numbers.

    Raises:
        UserError: its package is not installed, or does not fit the installed River.
    """
    if side == OURS:
        _package("river")
        return _package("sab_agents.river").SABClassifier(seed=seed)
    if side == SAME:
        return _package("river.dummy").NoChangeClassifier()
    scaler = _package("river.preprocessing").StandardScaler()
    if side == PEER:
        zoo = _package("deep_river.classification.zoo")
        return scaler | zoo.LSTMClassifier(
            n_features=features, hidden_size=64, optimizer_fn="adam", lr=0.01, is_feature_incremental=True, seed=seed
        )
    if side in OTHERS:
        return scaler | getattr(_package(OTHERS[side]), side)(**({"seed": seed} if side in SEEDED else {}))
    linear = getattr(_package("river.linear_model"), side)()
    return scaler | (linear if linear._multiclass else _package("river.multiclass").OneVsRestClassifier(linear))


def measured(
    data: str, models: Mapping[str, Any], samples: Sequence[tuple[dict[Any, Any], Any]], status: Status
) -> list[Row]:
    """Returns what estimators did, each of which predicts each sample and then learns it, on one thread, in turns.

    Args:
        data: the name of the samples.
        models: by their names, of `SIDES`.
        samples: in the order of time.
        status: shows how many samples all have learnt.
    """
    right, seconds = dict.fromkeys(models, 0), dict.fromkeys(models, 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for first in range(0, len(samples), TURN):
            for side, model in models.items():
                begin = time.process_time()
                for x, y in samples[first : first + TURN]:
                    right[side] += model.predict_one(x) == y
                    model.learn_one(x, y)
                seconds[side] += time.process_time() - begin
            status.update(f"{data}: {min(first + TURN, len(samples)):,} of {len(samples):,} samples")
    finally:
        torch.set_num_threads(threads)
    count = len(samples)
    return [Row(data, side, count, right[side] / count, seconds[side] / count * 1e6) for side in models]


def command(arguments: Sequence[str]) -> int:
    """Measures the estimators and prints a table."""
    parser = Parser(
        "bench river",
        "Measures SABClassifier beside deep-river's LSTM and River's classifiers, each of them scaled: the fraction "
        "of samples that were predicted before they were learnt, and the processor time of both, on one thread. "
        "What is not installed or not downloaded is left out with a word.",
    )
    parser.add_argument("sets", nargs="*", default=list(SETS), metavar="SET", help=f"of {', '.join(SETS)}")
    parser.add_argument(
        "--estimators", nargs="+", default=list(SIDES), metavar="NAME", help="of those in the table; default: all"
    )
    parser.add_argument("--samples", type=at_least_one, metavar="N", help="the first N of each set; default: all")
    parser.add_argument("--seed", type=at_least_zero, default=0, metavar="S", help="of all random draws; default: 0")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    given = parser.parse(arguments)
    for name in given.sets:
        if name not in SETS:
            raise UserError(f"bench river: there is no data set {name!r}. {did_you_mean(name, SETS)}")
    for name in given.estimators:
        if name not in SIDES:
            raise UserError(f"bench river: there is no estimator {name!r}. {did_you_mean(name, SIDES)}")
    _package("river")
    console, rows, left_out = terminal(), [], {}
    for name in given.sets:
        try:
            samples = list(islice(samples_of(name), given.samples))
        except UserError as error:
            left_out[name] = str(error)
            continue
        models = {}
        for side in given.estimators:
            try:
                models[side] = build(side, len(samples[0][0]), given.seed)
            except UserError as error:
                left_out[side] = str(error)
        with console.status(f"{name} …") as status:
            rows += measured(name, models, samples, status)
    for text in left_out.values():
        console.print(text, highlight=False)
    console.print(_table(rows))
    if given.json is not None:
        write_json(given.json, {"torch": torch.__version__, "seed": given.seed, "rows": [asdict(row) for row in rows]})
    return 0


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        "data set", "samples", "estimator", "accuracy", "µs a sample", title="Each sample predicted, then learnt"
    )
    for index, row in enumerate(rows):
        first = index == 0 or rows[index - 1].data != row.data
        end = index + 1 == len(rows) or rows[index + 1].data != row.data
        name, count = (row.data, f"{row.samples:,}") if first else ("", "")
        table.add_row(name, count, row.side, f"{row.accuracy:.4f}", f"{row.microseconds:,.0f}", end_section=end)
    return table


def _package(name: str) -> Any:
    """Returns a module.

    Raises:
        UserError: its package is not installed, or does not fit the others.
    """
    try:
        return import_module(name)
    except ImportError as error:
        command = _COMMANDS.get(name.partition(".")[0], "pip install 'sab-agents[river]'")
        raise UserError(f"bench river: {name} cannot be imported ({error}). Run: {command}.") from error


_COMMANDS: Mapping[str, str] = MappingProxyType({"deep_river": "pip install --no-deps deep-river 'river<0.26'"})
