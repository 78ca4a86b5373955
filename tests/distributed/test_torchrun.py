"""The commands as they are typed: a script and a run under `torchrun`, one of whose ranks is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sab_agents.checkpoint import archive
from sab_agents.ppo.saving import KIND

pytestmark = pytest.mark.learning
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
RUN = [
    *("train", "--env", "SAB/MemoryChain-v0", "--num-envs", "4", "--steps", "20480", "--checkpoint-every", "2000"),
    *("--setting", "n_steps=16", "policy_kwargs.lstm_hidden_size=4"),
]
SCRIPT = """
from sab_agents import RecurrentPPO

model = RecurrentPPO("MlpSabPolicy", "SAB/MemoryChain-v0", n_steps=32, verbose=1, device="cpu")
model.learn(128)
model.save("agent")
print(f"rank {model.ranks.rank} of {model.ranks.size}: {model.num_timesteps}", flush=True)
"""


def started(folder: Path, *command: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*TORCHRUN, *command], cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def test_a_script_learns_with_all_ranks_and_one_of_them_logs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    process = started(tmp_path, "script.py")
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    # Not by lines: both ranks write to one pipe, where the end of a line may come after the other's.
    assert sorted(re.findall(r"rank \d of \d: \d+", printed)) == ["rank 0 of 2: 128", "rank 1 of 2: 128"]
    assert printed.count("total_timesteps") == 2  # once for each rollout
    assert {"agent.zip", "agent.rank1.zip"} <= {file.name for file in tmp_path.iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="finds the ranks in /proc")
def test_a_run_whose_rank_is_killed_continues_to_the_bit(tmp_path: Path) -> None:
    process = started(tmp_path, "-m", "sab_agents", *RUN, "--out", "cut")
    while not (tmp_path / "cut" / "agent.zip").exists() and process.poll() is None:
        time.sleep(0.05)
    ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "another rank has died or did not answer" in errors
    assert "Continue: torchrun --nproc-per-node=2 -m sab_agents resume cut" in errors
    for command in (["resume", "cut"], [*RUN, "--out", "whole"]):
        process = started(tmp_path, "-m", "sab_agents", *command)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for name in ("agent.zip", "places/20480.rank1.zip"):
        (_, cut), (_, whole) = (archive.load(tmp_path / run / name, KIND) for run in ("cut", "whole"))
        tensors = [key for key, value in whole.items() if isinstance(value, torch.Tensor)]
        assert tensors
        assert all(torch.equal(cut[key], whole[key]) for key in tensors)
