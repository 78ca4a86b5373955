"""Learners in other processes: forked, spawned, and as workers of a DataLoader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.selection import slow

BEGIN = """
import copy, multiprocessing, os, sys
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from sab_agents import SAB, OnlineLearner, StreamAC

def observed(i):
    return np.full(4, i % 5, dtype=np.float32)

def made():
    return OnlineLearner(4, 2, hidden_size=48, update_every=4)

def learned(learner):
    for i in range(12):
        learner.learn_one(observed(i), i % 2)
    return learner.predict_proba_one(observed(0))

def sequence():
    output, _ = SAB(32, 64, capacity=16)(torch.randn(30, 16, 32))
    output.sum().backward()

class Predictions(Dataset):
    def __init__(self):
        self.learner = made()

    def __len__(self):
        return 6

    def __getitem__(self, i):
        self.learner.learn_one(observed(i), 1)
        return self.learner.predict_proba_one(observed(i))[1]

def child(learner, queue):
    queue.put(learned(learner))
"""
FORKED = """
torch.set_num_threads(2)
sequence(), torch.randn(600, 600) @ torch.randn(600, 600)  # torch's threads run from here on
learner = made()
number = os.fork()
if not number:
    torch.set_num_threads(1)
    sequence()
    learned(learner)
    StreamAC("MlpSabPolicy", "CartPole-v1", policy_kwargs={"hidden_size": 8}).learn(20)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 7
learned(learner)
"""
LOADED = """
if __name__ == "__main__":
    torch.set_num_threads(2)
    sequence()
    assert len(list(DataLoader(Predictions(), batch_size=2, num_workers=2))) == 3
"""
STARTED = """
if __name__ == "__main__":
    context, learner = multiprocessing.get_context(sys.argv[1]), made()
    learned(learner)
    before, queue = copy.deepcopy(learner), context.Queue()
    process = context.Process(target=child, args=(learner, queue))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    assert found == learned(before)
"""


@pytest.mark.parametrize(
    "arguments",
    [slow((FORKED,)), (LOADED,), (STARTED, "spawn"), slow((STARTED, "forkserver"))],
    ids=["fork", "DataLoader", "spawn", "forkserver"],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_learner_learns_in_another_process(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, *rest = arguments
    script = tmp_path / "script.py"
    script.write_text(BEGIN + code)
    command = [sys.executable, "-W", "ignore", str(script), *rest]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
