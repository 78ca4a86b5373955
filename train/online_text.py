"""`sab-agents text CONFIG`: learners read a text once, character by character: bits per character as they go.

Each character is predicted before it is learnt from. Each learner tries the config's learning rates on the beginning of
the text and reads all of it with the best. What is finished is not repeated, so the same command continues what was
interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from sab_agents.envs.supervised.characters import Characters
from sab_agents.online import OnlineLearner
from sab_agents.train.arguments import Parser, at_least_one
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.online import learner_settings
from sab_agents.train.online_text_pairs import pairs_bits
from sab_agents.train.online_text_report import plot_curves, table_of
from sab_agents.train.run_folder import write_atomically
from sab_agents.train.sweep_config import sweep_settings

PARTS = 200
"""Points of a curve."""
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextConfig:
    """Settings of an experiment.

    Attributes:
        learners: for each name, arguments of `OnlineLearner` that the others do not share.
        corpus: see `Characters`; its training piece is read.
        learning_rates: that each learner tries.
        tried_on: characters on which it does.
        shared: arguments of `OnlineLearner` that all learners share.
        rows: equal parts of the text that are read side by side; 1 reads all of it in order.
        characters: of the text, all of them where it has fewer.
        seed: of the learners.
        threads: CPU threads.
    """

    learners: Mapping[str, Mapping[str, Any]]
    corpus: str
    learning_rates: tuple[float, ...]
    tried_on: int
    shared: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 1
    characters: int = 1_000_000_000
    seed: int = 0
    threads: int = 1


def command(arguments: Sequence[str]) -> int:
    """Runs what is not finished, then writes result.json, table.md and curves.png."""
    parser = Parser("text", "Let learners read a text once, and measure how well they predict it as they go.")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="configs/online/text.yaml or another YAML file")
    parser.add_argument("--learners", nargs="+", metavar="NAME", help="only these of the config's")
    parser.add_argument("--characters", type=at_least_one, metavar="N", help="in place of the config's")
    parser.add_argument("--rows", type=at_least_one, metavar="N", help="in place of the config's")
    parser.add_argument("--data_dir", type=Path, metavar="FOLDER", help="with the text's files; else SAB_DATA_DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets a file for each learner")
    given = parser.parse(arguments)
    changes = {name: getattr(given, name) for name in ("learners", "characters", "rows")}
    run(load_text_config(given.config, changes), given.data_dir, given.out)
    return 0


def load_text_config(path: Path, changes: Mapping[str, Any]) -> TextConfig:
    """Reads a YAML file; `changes` that are not None replace its settings, `learners` names those to keep.

    Raises:
        UserError: the file cannot be read, or a key or value is wrong.
    """
    known = [each.name for each in fields(TextConfig)]
    required = ("learners", "corpus", "learning_rates", "tried_on")
    return TextConfig(**sweep_settings(path, known, required, ("learners", "learner"), changes))


def run(config: TextConfig, data_dir: Path | None, out: Path) -> dict[str, Any]:
    """Runs every learner that `out` does not hold yet, and writes the results of all."""
    torch.set_num_threads(config.threads)
    console = Console(soft_wrap=True, highlight=False)
    try:
        text = Characters(corpus=config.corpus, data_dir=data_dir).text
    except (OSError, ValueError) as error:
        raise UserError(one_line(error)) from error
    codes = text.codes["train"][: config.characters].astype(np.int64)
    console.print(f"{text.description}: {len(codes):,} characters of {len(text.vocabulary)} kinds, once")
    (out / "cells").mkdir(parents=True, exist_ok=True)
    curves: dict[str, Any] = {"pairs, counted": pairs_bits(in_parts(codes, config.rows), len(text.vocabulary), PARTS)}
    tried = replace(config, characters=min(config.tried_on, len(codes)))
    for name in config.learners:
        rates = {rate: _cell(tried, name, rate, codes, text.vocabulary, out) for rate in config.learning_rates}
        best = min(rates, key=lambda rate: float(np.mean(rates[rate]["bits"])))
        curves[name] = _cell(config, name, best, codes, text.vocabulary, out)
        curves[name]["tried"] = {f"{rate:g}": float(np.mean(found["bits"])) for rate, found in rates.items()}
        console.print(f"{name}: {np.mean(curves[name]['bits']):.3f} bits at a learning rate of {best:g}")
    result = {"config": asdict(config), "learners": curves}
    write_atomically(out / "result.json", json.dumps(result, indent=1).encode())
    table = table_of(curves)
    write_atomically(out / "table.md", table.encode())
    plot_curves(out / "curves.png", f"One pass over {len(codes):,} characters", curves)
    console.print(table)
    return curves


def _cell(
    config: TextConfig, name: str, rate: float, codes: Codes, vocabulary: Sequence[str], out: Path
) -> dict[str, Any]:
    """One learner's reading, from its file where there is one."""
    settings = {**config.shared, **config.learners[name], "learning_rate": rate}
    facts = {"learner": settings, "rows": config.rows, "seed": config.seed, "corpus": config.corpus}
    part = codes[: config.characters]
    file = out / "cells" / f"{name}-{rate:g}-{len(part)}.json"
    if not file.exists():
        try:
            own = {**config.learners[name], "learning_rate": rate}
            arguments = learner_settings(config.shared, own)
            learner = OnlineLearner(len(vocabulary), len(vocabulary), rows=config.rows, seed=config.seed, **arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: {one_line(error)}") from error
        found = {"settings": facts, **read(learner, in_parts(part, config.rows))}
        write_atomically(file, json.dumps(found).encode())
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if result["settings"] != facts:
        raise UserError(f"{file} was run with other settings. Choose another --out.")
    return result


def in_parts(codes: Codes, rows: int) -> Codes:
    """The text in equal parts that overlap by one character, (steps + 1, rows); what does not come out even is left."""
    steps = (len(codes) - 1) // rows
    if steps < PARTS:
        raise UserError(f"the text must have at least {PARTS * rows + 1} characters, but has {len(codes)}.")
    parts: Codes = codes[np.arange(steps + 1)[:, None] + steps * np.arange(rows)]
    return parts


def read(learner: OnlineLearner, text: Codes) -> dict[str, Any]:
    """Reads a text (steps + 1, rows) once.

    Returns:
        The bits per character of each of the curve's parts, the seconds it took, and what the memory was good for.
    """
    rows, bits, started = np.arange(text.shape[1]), [], time.perf_counter()
    one_hot = np.eye(learner.targets.size, dtype=np.float32)
    for part in parts_of(text):
        total = 0.0
        for now, after in pairwise(part):
            x = one_hot[now]
            total -= float(np.log2(np.maximum(learner.predict_proba_many(x)[rows, after], 1e-30)).sum())
            learner.learn_many(x, after)
        bits.append(total / (len(part) - 1) / len(rows))
    report = learner.credit_report()
    return {
        "bits": bits,
        "characters": int((len(text) - 1) * len(rows)),
        "seconds": round(time.perf_counter() - started, 1),
        "skipped": learner.skipped,
        "norm_of_h": float(learner.stream.state.tensors()[0].norm(dim=1).mean()),
        "credit_by_distance": report.by_distance,
        "pieces": report.pieces,
    }


def parts_of(text: Codes) -> Iterator[Codes]:
    """The curve's parts of a text (steps + 1, rows), which overlap by one step."""
    edges = np.linspace(0, len(text) - 1, PARTS + 1).astype(int)
    for first, last in pairwise(edges):
        yield text[first : last + 1]
