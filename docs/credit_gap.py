"""Draws docs/credit_gap.png: how much gradient of a loss each step before it receives, in three networks.

    python docs/credit_gap.py

One of eight symbols, 50 steps of noise, the question which symbol it was. Each network is trained by the same loop; the
picture shows the norm of d loss / d input at each step, mean of 256 sequences.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from sab_agents import LSTM, SAB
from sab_agents.train.figures.canvas import BLUE, GREEN, VERMILION

DELAY, SYMBOLS, HIDDEN = 50, 8, 64
FLOOR = 1e-5


def batch(rows: int) -> tuple[Tensor, Tensor]:
    """Returns inputs (T, B, I) and the symbols (B,)."""
    symbol = torch.randint(SYMBOLS, (rows,))
    x = torch.zeros(DELAY + 2, rows, SYMBOLS + 2)
    x[0, torch.arange(rows), symbol] = 1
    x[1:-1, :, SYMBOLS] = torch.randn(DELAY, rows)
    x[-1, :, SYMBOLS + 1] = 1
    return x, symbol


def credit_after_training(core: nn.Module, output_size: int, updates: int = 200) -> tuple[list[float], float]:
    """Returns the gradient that each step receives, the greatest being 1, and the fraction of right answers."""
    head = nn.Linear(output_size, SYMBOLS)
    parameters = [*core.parameters(), *head.parameters()]
    adam = torch.optim.Adam(parameters, lr=5e-3)
    for _ in range(updates):
        x, symbol = batch(32)
        adam.zero_grad()
        nn.functional.cross_entropy(head(core(x)[0][-1]), symbol).backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        adam.step()
    x, symbol = batch(256)
    x.requires_grad_()
    logits = head(core(x)[0][-1])
    nn.functional.cross_entropy(logits, symbol, reduction="sum").backward()
    assert x.grad is not None
    norms = x.grad.norm(dim=-1).mean(dim=1)
    return (norms / norms.max()).tolist(), float((logits.argmax(-1) == symbol).float().mean())


def draw(path: Path) -> None:
    """Trains the three networks and writes the picture."""
    networks = (
        ("SAB: cut every 5 steps, then through memory", BLUE, SAB, {"top_k": 10}),
        ("LSTM: cut every 5 steps", VERMILION, LSTM, {}),
        ("LSTM: not cut", GREEN, LSTM, {"bptt_steps": None}),
    )
    canvas = Figure(figsize=(6.0, 4.6), layout="constrained", dpi=180)
    FigureCanvasAgg(canvas)
    rows = canvas.subplots(len(networks), 1, sharex=True, sharey=True)
    for axes, (name, colour, make, settings) in zip(rows, networks, strict=True):
        torch.manual_seed(0)
        core = make(SYMBOLS + 2, HIDDEN, **{"bptt_steps": 5, **settings})
        credit, right = credit_after_training(core, 2 * HIDDEN if make is SAB else HIDDEN)
        steps = range(len(credit))
        axes.bar(steps, [max(value, FLOOR) for value in credit], width=0.8, color=colour)
        axes.set_yscale("log")
        axes.set_ylim(FLOOR, 4)
        axes.set_xlim(-1, DELAY + 2)
        axes.set_yticks([1e-5, 1e-3, 1e-1])
        axes.set_title(f"{name} ({right:.0%} right)", fontsize=10, loc="left", color=colour, weight="bold")
        for step, text in ((0, "symbol"), (DELAY + 1, "question")):
            axes.axvline(step, color="black", linewidth=0.8, linestyle=":", zorder=0)
            left = step == 0
            offset, side = (6, "left") if left else (-6, "right")
            axes.annotate(text, (step, 1.2), fontsize=8, ha=side, xytext=(offset, 0), textcoords="offset points")
        if credit[0] == 0:
            axes.annotate("exactly zero", (DELAY / 2, 1e-3), fontsize=9, ha="center", color="dimgray")
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
    canvas.supylabel("gradient at each step (the greatest is 1)", fontsize=10)
    rows[-1].set_xlabel("step of the sequence: the symbol, 50 steps of noise, the question")
    canvas.savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    draw(Path(__file__).with_name("credit_gap.png"))
