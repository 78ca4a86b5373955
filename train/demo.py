"""`sab-agents demo`: delayed recall in whole sequences and in an endless stream, then agents, with SAB beside LSTMs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sab_agents.train.agents_config import AgentsConfig
from sab_agents.train.arguments import Parser
from sab_agents.train.config import TrainConfig
from sab_agents.train.demo_agent import T_MAZE, demo_agent
from sab_agents.train.demo_stream import DELAYS, demo_stream
from sab_agents.train.evaluate import evaluate_run
from sab_agents.train.evaluate import table_of as table_of_lengths
from sab_agents.train.loop import train

# One of ten symbols, 60 steps of noise, then the question: twelve times further back than a segment reaches.
DEMO = TrainConfig(
    task="recall",
    length=60,
    symbols=10,
    hidden_size=64,
    top_k=5,
    bptt_steps=5,
    steps=1500,
    minutes=1.5,
    batch_size=32,
    learning_rate=2e-3,
    threads=1,  # such small tensors gain nothing from more, and lose much where other programs keep the cores busy
    eval_every=100,
    checkpoint_every=100,
    target=0.999,
)
CORES = {
    "sab": "SAB, segments of {bptt_steps} steps",
    "lstm_tbptt": "LSTM, gradient cut at {bptt_steps} steps",
    "lstm": "LSTM, full gradient",
}
LONGER = (2, 4)


def command(arguments: Sequence[str]) -> int:
    """Trains the three cores one after the other and prints what each has learnt."""
    parser = Parser("demo", "Delayed recall with SAB, a truncated LSTM and a full-BPTT LSTM, in a few minutes.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="FOLDER", help="default: runs/demo")
    demo(DEMO, parser.parse(arguments).out)
    return 0


def demo(config: TrainConfig, out: Path, delays: tuple[int, ...] = DELAYS, agents: AgentsConfig = T_MAZE) -> None:
    """Trains each core into `out`/<core>; a run that is there already is shown again or goes on.

    Args:
        config: what the runs share.
        out: the folder.
        delays: of the stream.
        agents: what the last part runs.

    Raises:
        UserError: the folder holds runs with other settings.
        TrainingError: a loss is not finite.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"Delayed recall: one of {config.symbols} symbols, {config.length} steps of noise, then name the symbol.\n"
    )
    table = Table(title="Delayed recall: accuracy on test sequences", title_justify="left")
    for column in ("core", "accuracy", "memoryless", "updates", "seconds"):
        table.add_column(column, justify="left" if column == "core" else "right")
    for core, text in CORES.items():
        result = train(dataclasses.replace(config, core=core, out=str(out / core), resume=True))
        score = result["metrics"]["accuracy"]
        table.add_row(
            text.format(bptt_steps=config.bptt_steps),
            f"{score['test']:.1%}",
            f"{score['memoryless']:.1%}",
            str(result["steps"]),
            f"{result['seconds']:.0f}",
        )
    console.print()
    console.print(table)
    assert config.length is not None
    lengths = [config.length * factor for factor in (1, *LONGER)]
    rows = evaluate_run(out / "sab", lengths=lengths)
    console.print(table_of_lengths("The trained SAB at longer delays than it was trained on", rows))
    ledger = demo_stream(console, out, delays)
    curves = demo_agent(console, out / "agents", agents)
    _print_where(console, out, lengths, ledger, curves)


def _print_where(console: Console, out: Path, lengths: Sequence[int], ledger: Path, curves: Path) -> None:
    console.print(f"\nWho credited whom in the stream: {ledger}")
    console.print(f"The agents' learning curves: {curves}")
    console.print("Plots (learning_curve.png, credit.png; for SAB also attention.png):")
    for picture in sorted(out.glob("*/plots/*.png")):
        console.print(f"  {picture}")
    console.print(f"\nMore: tensorboard --logdir {out}")
    console.print(f"      sab-agents evaluate {out / 'sab'} --length {' '.join(map(str, lengths))}")
