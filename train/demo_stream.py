"""The demo's last part: one endless stream whose delay grows as soon as the learner recalls, and its credit ledger."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sab_agents.envs.supervised.recall import RecallStream
from sab_agents.online import OnlineLearner
from sab_agents.train.online import Recalled, learn_recall
from sab_agents.train.plots import plot_ledger

ROWS, SYMBOLS = 16, 8
DELAYS = (50, 200, 1000, 4000)
ANSWERS = 1500
TARGET = 0.99
WIDTH = 30


def demo_stream(console: Console, out: Path, delays: tuple[int, ...] = DELAYS, answers: int = ANSWERS) -> Path:
    """Learns from a stream, printing accuracy against delay as it goes.

    Args:
        console: where to print.
        out: folder of the picture.
        delays: of the stream, one after the other; the learner goes on from each to the next.
        answers: at each delay, at the most.

    Returns:
        The picture of who credited whom.
    """
    stream = RecallStream(delays[0], rows=ROWS, symbols=SYMBOLS)
    learner = OnlineLearner(stream.input_size, SYMBOLS, rows=ROWS, hidden_size=48, learning_rate=3e-3)
    slots, window = learner.stream.state.tensors()[2].shape[1], learner.update_every
    chance = 1 / SYMBOLS
    console.print(
        f"\nAn endless stream of {ROWS} rows: one of {SYMBOLS} symbols, noise, the question; {chance:.1%} is chance.\n"
        f"Memory and cost are constant: {slots} slots, gradient within {window} steps and through slots.\n"
    )
    for number, delay in enumerate(delays):
        if number:
            stream = RecallStream(delay, rows=ROWS, symbols=SYMBOLS, seed=number)
        began = learner.steps
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            found = learn_recall(
                learner,
                stream,
                target=TARGET,
                answers=answers,
                watch=lambda now, delay=delay, live=live, began=began: live.update(  # type: ignore[misc]
                    Text(line_of(delay, now, learner.steps - began))
                ),
            )
        console.print(line_of(delay, found, learner.steps - began))
    picture = out / "credit_ledger.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    plot_ledger(picture, f"Who credited whom, delay {delays[-1]:,}", learner.credit_report().entries, delays[-1])
    return picture


def line_of(delay: int, found: Recalled, steps: int) -> str:
    """Accuracy at one delay, as a bar."""
    bar = "█" * round(WIDTH * (found.accuracy if found.answers else 0.0))
    return f"delay {delay:>6,}  {bar:<{WIDTH}} {found.accuracy:6.1%} after {found.answers:,} answers, {steps:,} steps"
