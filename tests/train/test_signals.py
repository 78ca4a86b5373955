"""A command that is interrupted or terminated leaves what it wrote, and goes on from there as if nothing had been."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sab_agents.train.cli import main
from tests.selection import first

CONFIG = Path(__file__).parents[2] / "configs" / "copying.yaml"
SMALL = ["--hidden_size", "8", "--batch_size", "2", "--length", "3", "--eval_sequences", "4", "--eval_every", "20"]
RUN = [*SMALL, "--checkpoint_every", "20", "--final_learning_rate", "null"]
COMMAND = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
COMMAND += "from sab_agents.train.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("number", first(1, [signal.SIGINT, signal.SIGTERM]), ids=lambda number: number.name)
def test_training_resumes_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["train", str(CONFIG), *RUN, "--out", str(cut), "--steps", "100000"]
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (cut / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert message.strip().splitlines()[-1] == f"sab-agents: interrupted. Continue: sab-agents resume {cut}"
    assert not list(cut.glob("*.tmp"))
    last = (cut / "metrics.jsonl").read_text().strip().splitlines()[-1]
    steps = str(100 * (int(last.split('"step": ')[1].split(",")[0]) // 100 + 1))
    assert main(["resume", str(cut), "--steps", steps]) == 0
    assert main(["train", str(CONFIG), *RUN, "--out", str(whole), "--steps", steps]) == 0
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()


def test_the_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--help"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
