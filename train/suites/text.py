"""The suite `text`: learners read a text once, character by character: bits per character as they go.

Each character is predicted before it is learnt from. Each learner tries the config's learning rates on the beginning of
the text and reads all of it with the best.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sab_agents.checks import at_least
from sab_agents.envs.supervised.characters import Characters
from sab_agents.online import OnlineLearner
from sab_agents.train.configuration import Settings, choices
from sab_agents.train.errors import UserError, one_line
from sab_agents.train.live import learner_lines, scalars_of
from sab_agents.train.output import lines
from sab_agents.train.suites.engine import Result, Suite, Work, suite_command
from sab_agents.train.suites.recall import learner_arguments
from sab_agents.train.suites.study import Column, Panel, Row, Study

PARTS = 200
"""Points of a curve."""
PAIRS = "pairs, counted"
"""The reader without a memory: it predicts from the counts of the pairs so far."""
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TextConfig(Settings):
    """Settings of an experiment.

    Attributes:
        learners: for each name, arguments of `OnlineLearner` that the others do not share.
        corpus: see `Characters`; its training part is read.
        learning_rates: that each learner tries.
        tried_on: characters on which it does.
        shared: arguments of `OnlineLearner` that all learners share.
        rows: equal parts of the text that are read side by side; 1 reads all of it in order.
        characters: how many of the text are read; all of them if it has fewer.
        seed: of the learners.
        threads: CPU threads.
        data_dir: folder with the text's files; null is the environment variable SAB_DATA_DIR or the user's cache.
    """

    learners: Mapping[str, Mapping[str, Any]] = field(metadata=choices("learner"))
    corpus: str
    learning_rates: tuple[float, ...]
    tried_on: int
    shared: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 1
    characters: int = 1_000_000_000
    seed: int = 0
    threads: int = 1
    data_dir: str | None = None

    def __post_init__(self) -> None:
        for name in ("tried_on", "rows", "characters", "threads"):
            at_least("text", name, getattr(self, name), 1)
        for name in ("learners", "learning_rates"):
            if not getattr(self, name):
                raise ValueError(f"text: {name} must have at least one entry, but is empty.")
        if PAIRS in self.learners:
            raise ValueError(f"text: learners: '{PAIRS}' is the name of the reader without a memory. Choose another.")


class TextCell(NamedTuple):
    """One learner's reading of the beginning with one learning rate, or, without a rate, of the text with the best."""

    learner: str
    rate: float | None

    @property
    def file(self) -> str:
        """The name of its file, without suffix."""
        return self.learner if self.rate is None else f"{self.learner}-{self.rate:g}"


class ReadText(Suite[TextConfig, TextCell]):
    """Learners that read a text once; the score is the mean of the bits per character over the whole pass."""

    name = "text"
    summary = "Lets learners read a text once, and measures how well they predict it as they go."
    config_class = TextConfig

    @cached_property
    def text(self) -> tuple[Codes, int]:
        """The characters that are read, as codes, and how many kinds there are.

        Raises:
            UserError: there is no such text, or it is too short.
        """
        config = self.config
        try:
            text = Characters(corpus=config.corpus, data_dir=config.data_dir).text
        except (OSError, ValueError) as error:
            raise UserError(one_line(error)) from error
        codes = text.codes["train"][: config.characters].astype(np.int64)
        in_parts(codes[: config.tried_on], config.rows)
        return codes, len(text.vocabulary)

    def chains(self) -> list[tuple[TextCell, ...]]:
        """Returns for each learner its tries, then its reading of the whole text; before them the counted pairs."""
        config = self.config
        learners = [
            (*(TextCell(name, rate) for rate in config.learning_rates), TextCell(name, None))
            for name in config.learners
        ]
        return [(TextCell(PAIRS, None),), *learners]

    def cell_settings(self, cell: TextCell) -> dict[str, Any]:
        """Returns the learner's arguments and what it reads."""
        config = self.config
        settings: dict[str, Any] = {"rows": config.rows, "corpus": config.corpus}
        if cell.rate is None:
            settings["characters"] = config.characters
        else:
            settings["tried_on"] = config.tried_on
        if cell.learner == PAIRS:
            return settings
        learner = {**config.shared, **config.learners[cell.learner]}
        if cell.rate is None:
            settings |= {"learning_rates": config.learning_rates, "tried_on": config.tried_on}
        else:
            learner["learning_rate"] = cell.rate
        return {**settings, "learner": learner, "seed": config.seed}

    def check(self, chains: Sequence[tuple[TextCell, ...]]) -> None:
        """Reads the text and builds each learner once."""
        if chains:
            codes, kinds = self.text
            lines().print(f"{self.config.corpus}: {len(codes):,} characters of {kinds} kinds, once", markup=False)
        for chain in chains:
            if chain[0].learner != PAIRS:
                self._learner(chain[0].learner, self.config.learning_rates[0])

    def run(self, work: Work[TextCell]) -> Iterator[tuple[TextCell, dict[str, Any]]]:
        """Reads the beginning with each learning rate, then the text with that of the fewest bits."""
        config, (codes, kinds) = self.config, self.text
        torch.set_num_threads(config.threads)
        if work.chain[0].learner == PAIRS:
            yield work.chain[0], pairs_bits(in_parts(codes, config.rows), kinds, PARTS)
            return
        results = dict(work.finished)
        for cell in work.chain:
            if cell in results:
                continue
            if cell.rate is not None:
                learner = self._learner(cell.learner, cell.rate)
                text = in_parts(codes[: config.tried_on], config.rows)
                chosen: dict[str, Any] = {}
            else:
                tried = {f"{each.rate:g}": float(np.mean(results[each]["bits"])) for each in work.chain if each.rate}
                rate = min(config.learning_rates, key=lambda rate: tried[f"{rate:g}"])
                learner = self._learner(cell.learner, rate)
                text, chosen = in_parts(codes, config.rows), {"learning_rate": rate, "tried": tried}
            result = {**self._read(work, cell, learner, text, len(results)), **chosen}
            results[cell] = result
            yield cell, result

    def _read(
        self, work: Work[TextCell], cell: TextCell, learner: OnlineLearner, text: Codes, done: int
    ) -> dict[str, Any]:
        """Reads a text, and shows how far it is; `done` cells of the chain are."""
        with work.board(cell, self.cell_settings(cell)) as board:

            def watch(bits: float, seen: int) -> None:
                board.scalars({"bits per character": bits, **scalars_of(learner)}, seen)
                work.progress(
                    (done + seen / text.size) / len(work.chain),
                    f"{bits:.3f} bits per character",
                    lambda: [f"{cell.file}, {seen:,} characters", *learner_lines(learner)],
                )

            return read(learner, text, watch)

    def _learner(self, name: str, rate: float) -> OnlineLearner:
        config, (_, kinds) = self.config, self.text
        try:
            settings = {**learner_arguments(config.shared, config.learners[name]), "learning_rate": rate}
            return OnlineLearner(kinds, kinds, rows=config.rows, seed=config.seed, **settings)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: {one_line(error)}") from error

    def line(self, cell: TextCell, result: Result) -> str:
        """Returns the bits per character."""
        rate = result.get("learning_rate") if cell.rate is None else cell.rate
        at = "" if rate is None else f" at a learning rate of {rate:g}"
        return f"{cell.learner}: {np.mean(result['bits']):.3f} bits for {result['characters']:,} characters{at}"

    def study(self, results: Mapping[TextCell, Result]) -> Study:
        """Returns the bits over the whole pass, over its last tenth, and as a curve."""
        config = self.config
        rows = []
        for cell, result in results.items():
            if cell.rate is not None:
                continue
            bits = np.array(result["bits"])
            numbers: dict[str, float | str] = {
                "bits, whole pass": float(bits.mean()),
                "last tenth": float(bits[-len(bits) // 10 :].mean()),
            }
            if cell.learner != PAIRS:
                tried = ", ".join(f"{rate} ({value:.3f})" for rate, value in result["tried"].items())
                numbers["learning rate (bits when tried)"] = f"{result['learning_rate']:g} of {tried}"
                numbers["minutes"] = result["seconds"] / 60
            seen = result["characters"] * (np.arange(len(bits)) + 1) / len(bits)
            seed = None if cell.learner == PAIRS else config.seed
            curve = list(zip(seen.tolist(), bits.tolist(), strict=True))
            rows.append(Row(cell.learner, "", seed, numbers, curves={"bits": curve}))
        return Study(
            title=f"One pass over {config.corpus}",
            values=("",),
            learners=config.learners,
            shared={**config.shared, "rows": config.rows, "tried_on": config.tried_on},
            columns=(
                Column("bits, whole pass", "{:.3f}"),
                Column("last tenth", "{:.3f}"),
                Column("learning rate (bits when tried)"),
                Column("minutes", "{:.0f}"),
            ),
            rows=tuple(rows),
            panels=(Panel("bits", "characters seen", "bits per character"),),
            baselines=(PAIRS,),
            note="Bits per character, each predicted before it is learnt from.",
        )


def in_parts(codes: Codes, rows: int) -> Codes:
    """Returns a text in equal parts that overlap by one character, (steps + 1, rows), without the remainder.

    Raises:
        UserError: the text is too short for `PARTS` points of a curve.
    """
    steps = (len(codes) - 1) // rows
    if steps < PARTS:
        raise UserError(f"the text must have at least {PARTS * rows + 1} characters, but has {len(codes)}.")
    parts: Codes = codes[np.arange(steps + 1)[:, None] + steps * np.arange(rows)]
    return parts


def read(learner: OnlineLearner, text: Codes, watch: Callable[[float, int], None] = lambda *_: None) -> dict[str, Any]:
    """Reads a text (steps + 1, rows) once.

    Args:
        learner: learns.
        text: is read.
        watch: called after each of the curve's parts with its bits per character and the characters read so far.

    Returns:
        The bits per character of each of the curve's parts, the seconds it took, and the use of the memory.
    """
    rows, bits, started = np.arange(text.shape[1]), [], time.perf_counter()
    seen = 0  # characters
    one_hot = np.eye(learner.targets.size, dtype=np.float32)
    for part in parts_of(text):
        total = 0.0
        for now, after in pairwise(part):
            x = one_hot[now]
            total -= float(np.log2(np.maximum(learner.predict_proba_many(x)[rows, after], 1e-30)).sum())
            learner.learn_many(x, after)
        bits.append(total / (len(part) - 1) / len(rows))
        seen += (len(part) - 1) * len(rows)
        watch(bits[-1], seen)
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
    """Yields the curve's parts of a text (steps + 1, rows), which overlap by one step."""
    edges = np.linspace(0, len(text) - 1, PARTS + 1).astype(int)
    for first, last in pairwise(edges):
        yield text[first : last + 1]


def pairs_bits(text: Codes, kinds: int, parts: int) -> dict[str, Any]:
    """Reads a text once without a memory: each pair is predicted from those before, with one added to every count.

    Args:
        text: (steps + 1, rows) codes.
        kinds: of characters.
        parts: of the curve.

    Returns:
        The bits per character of each part, and the number of characters.
    """
    steps, rows = len(text) - 1, text.shape[1]
    counts = [[1] * kinds for _ in range(kinds)]
    totals = [kinds] * kinds
    chances = np.empty(steps * rows)
    pairs = zip(text[:-1].ravel().tolist(), text[1:].ravel().tolist(), strict=True)
    for index, (now, after) in enumerate(pairs):
        seen = counts[now]
        chances[index] = seen[after] / totals[now]
        seen[after] += 1
        totals[now] += 1
    edges = np.linspace(0, steps, parts + 1).astype(int) * rows
    bits = [float(-np.log2(chances[first:last]).mean()) for first, last in pairwise(edges)]
    return {"bits": bits, "characters": steps * rows}


suite = ReadText
command = partial(suite_command, suite)
