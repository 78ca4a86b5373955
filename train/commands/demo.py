"""`sab-agents demo`: delayed recall in whole sequences and in an endless stream, then agents, with SAB beside LSTMs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sab_agents.envs.supervised.recall import RecallStream
from sab_agents.online import OnlineLearner
from sab_agents.train.commands.arguments import Parser
from sab_agents.train.figures.ledger import plot_ledger
from sab_agents.train.interrupts import continued_by
from sab_agents.train.live import learner_lines
from sab_agents.train.output import lines, make_folder
from sab_agents.train.progress import Progress
from sab_agents.train.suites.agents import Agents, AgentsConfig
from sab_agents.train.suites.engine import run_suite
from sab_agents.train.suites.recall import Recalled, learn_recall
from sab_agents.train.supervised.config import TrainConfig
from sab_agents.train.supervised.evaluate import evaluate_run, scores_table
from sab_agents.train.supervised.loop import train

# One of ten symbols, 60 steps of noise, then the question: twelve segments back.
BPTT_STEPS = 5
SEQUENCES = TrainConfig(
    task="recall",
    length=60,
    symbols=10,
    hidden_size=64,
    core_settings={"shared": {"top_k": 5, "bptt_steps": BPTT_STEPS}},
    steps=1500,
    minutes=1.5,
    batch_size=32,
    learning_rate=2e-3,
    threads=1,  # tensors this small gain nothing from more, and lose much while other programs keep the cores busy
    eval_every=100,
    checkpoint_every=100,
    target=0.999,
)
CORES = {
    "sab": f"SAB, segments of {BPTT_STEPS} steps",
    "lstm_tbptt": f"LSTM, gradient cut at {BPTT_STEPS} steps",
    "lstm": "LSTM, full gradient",
}
LONGER = (2, 4)

ROWS, SYMBOLS = 16, 8
DELAYS = (50, 200, 1000, 4000)
ANSWERS = 1500
TARGET = 0.99
WIDTH = 30

T_MAZE = AgentsConfig(
    env="SAB/PassiveTMaze-v0",
    argument="corridor_length",
    values=(20, 50, 100),
    curriculum=True,
    previous_action_reward=True,
    elapsed_share=True,
    normalize=True,
    num_envs=32,
    shared={
        "n_steps": 32,
        "batch_size": 256,
        "n_epochs": 4,
        "learning_rate": 1e-3,
        "ent_coef": 0.02,
        "policy_kwargs": {"lstm_hidden_size": 32, "net_arch": []},
    },
    at_values={20: {"learning_rate": 3e-3, "ent_coef": 0.1}},
    learners={"SAB": {"policy": "MlpSabPolicy"}, "LSTM": {"policy": "MlpLstmPolicy"}},
    success=0.99,
    target=0.99,
    steps=100_000,
)


def command(arguments: Sequence[str]) -> int:
    """Runs the three parts one after the other and prints what each has learnt."""
    parser = Parser("demo", "Delayed recall with SAB, a truncated LSTM and a full-BPTT LSTM, in a few minutes.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="FOLDER", help="default: runs/demo")
    out = parser.parse(arguments).out
    with continued_by(lambda: "Continue with the same command: what is finished is shown again."):
        demo(out)
    return 0


def demo(
    out: Path, sequences: TrainConfig = SEQUENCES, delays: tuple[int, ...] = DELAYS, agents: AgentsConfig = T_MAZE
) -> None:
    """Trains on sequences into `out`/<core>, on a stream, and agents into `out`/agents.

    Finished runs are shown again, and interrupted ones continue.

    Args:
        out: the folder.
        sequences: what the runs on sequences share.
        delays: of the stream.
        agents: the last part.

    Raises:
        UserError: the folder holds runs with other settings.
        TrainingError: a loss is not finite.
    """
    console = lines()
    lengths = _sequences(console, out, sequences)
    ledger = _stream(console, out, delays)
    _agents(console, out / "agents", agents)
    console.print("\nLook first at these two, then at the others:")
    pictures = {
        out / "sab" / "plots" / "credit.png": "SAB: gradient of each past step; the first is the symbol",
        out / "lstm_tbptt" / "plots" / "credit.png": "truncated LSTM: nothing reaches the symbol",
        ledger: "the stream: which step was credited by which loss",
        out / "agents" / "curves.png": "the agents' learning curves",
    }
    for picture, about in pictures.items():
        console.print(f"  {picture}  {about}", markup=False)
    for other in sorted(set(out.glob("*/plots/*.png")) - set(pictures)):
        console.print(f"  {other}", markup=False)
    console.print(f"\nMore: tensorboard --logdir {out}")
    console.print(f"      sab-agents evaluate {out / 'sab'} --length {' '.join(map(str, lengths))}")


def _sequences(console: Console, out: Path, config: TrainConfig) -> list[int]:
    """Trains each core and prints its accuracy, then SAB's at longer delays; returns these delays."""
    console.print(
        f"Delayed recall: one of {config.symbols} symbols, {config.length} steps of noise, then name the symbol.\n"
    )
    table = Table(title="Delayed recall: accuracy on test sequences", title_justify="left")
    for column in ("core", "accuracy", "memoryless", "updates", "seconds"):
        table.add_column(column, justify="left" if column == "core" else "right")
    for core, text in CORES.items():
        result = train(dataclasses.replace(config, core=core, out=str(out / core), resume=True))
        score = result["metrics"]["accuracy"]
        numbers = f"{result['steps']}", f"{result['seconds']:.0f}"
        table.add_row(text, f"{score['test']:.1%}", f"{score['memoryless']:.1%}", *numbers)
    console.print()
    console.print(table)
    assert config.length is not None
    lengths = [config.length * factor for factor in (1, *LONGER)]
    rows = evaluate_run(out / "sab", lengths=lengths)
    console.print(scores_table("The trained SAB at longer delays than those of its training", rows))
    return lengths


def _stream(console: Console, out: Path, delays: Sequence[int]) -> Path:
    """Learns from a stream whose delay grows as soon as the learner recalls; returns a picture of the credit ledger."""
    stream = RecallStream(delays[0], rows=ROWS, symbols=SYMBOLS)
    learner = OnlineLearner(stream.input_size, SYMBOLS, rows=ROWS)
    slots, window = learner.stream.state.tensors()[2].shape[1], learner.update_every
    chance = 1 / SYMBOLS
    console.print(
        f"\nAn endless stream of {ROWS} rows that says where each round begins: one of\n"
        f"{SYMBOLS} symbols, noise, the question; {chance:.1%} is chance. Default arguments.\n"
        f"Memory and cost are constant: {slots} slots, gradient within {window} steps\nand through slots.\n"
    )
    for number, delay in enumerate(delays):
        if number:
            stream = RecallStream(delay, rows=ROWS, symbols=SYMBOLS, seed=number)
        began = learner.steps
        with Progress(f"delay {delay:,}", console, transient=True) as bar:

            def watch(now: Recalled, bar: Progress = bar) -> None:
                bar.update(now.answers / ANSWERS, f"{now.accuracy:.1%} right", lambda: learner_lines(learner))

            recalled = learn_recall(learner, stream, target=TARGET, answers=ANSWERS, watch=watch)
        console.print(_accuracy(delay, recalled, learner.steps - began))
    picture = out / "credit_ledger.png"
    make_folder(picture.parent)
    plot_ledger(picture, f"Who credited whom, delay {delays[-1]:,}", learner.credit_report().entries, delays[-1])
    return picture


def _accuracy(delay: int, recalled: Recalled, steps: int) -> str:
    """Returns the accuracy at one delay, as a bar."""
    bar = "█" * round(WIDTH * (recalled.accuracy if recalled.answers else 0.0))
    accuracy = f"{recalled.accuracy:6.1%} after {recalled.answers:,} answers, {steps:,} steps"
    return f"delay {delay:>6,}  {bar:<{WIDTH}} {accuracy}"


def _agents(console: Console, out: Path, config: AgentsConfig) -> None:
    """Trains the agents, one after the other, and prints how often each finds the goal in the end."""
    console.print(
        "\nAgents in a T-maze: the goal's side is shown at the start, and asked for at the end of the corridor.\n"
        f"An LSTM's gradient ends with its rollout, {config.shared['n_steps']} steps; SAB's continues through memory.\n"
        f"Corridors of {', '.join(map(str, config.values))} steps, the next once 99 of 100 episodes find the goal; "
        "guesses find half.\n"
    )
    run_suite(Agents(config), out)
