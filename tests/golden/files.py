"""Cases of saved files: what today's files are good for must stay so.

The files in `files/` are written once, by `python -m tests.golden.make --files`, and never again.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sab_agents import OnlineLearner, RecurrentPPO, StreamAC
from tests.golden import agents, learners
from tests.golden.case import Case, forced_kernel
from tests.golden.environments import Signals
from tests.golden.internals import main
from tests.golden.record import Groups, Unordered

FILES = Path(__file__).parent / "files"
LEARNERS = ("sab", "lstm_tbptt")
PPO = ("Sab", "Lstm")
RUN = "run"
KEPT = ("config.yaml", "checkpoint.safetensors", "model.safetensors", "metrics.jsonl", "result.json")
CONFIG = """\
task: copying
length: 4
core: sab
hidden_size: 6
attention_size: 4
top_k: 2
bptt_steps: 3
capacity: 5
batch_size: 4
steps: 4
eval_every: 4
eval_sequences: 8
checkpoint_every: 2
log_every: 2
threads: 1
"""


def cases() -> Iterator[Case]:
    """Yields the cases of files: each is loaded, acts, and learns a little more."""
    computed: dict[str, Callable[[], Groups]] = {
        **{f"online_{core}": partial(online, core) for core in LEARNERS},
        **{f"stream_ac_{policy}": partial(stream_ac, policy) for policy in learners.AGENT_POLICIES},
        **{f"ppo_{kind}": partial(ppo, kind) for kind in PPO},
        **{f"ppo_policy_{kind}": partial(ppo_policy, kind) for kind in PPO},
        RUN: training_run,
    }
    for name, compute in computed.items():
        for kernel in ("native", "torch"):
            yield Case(f"files/{kernel}/{name}", kernel, compute, rtol=1e-2, exact_integers=False)


def online(core: str) -> Groups:
    """Learns on from where an `OnlineLearner` was saved, in the middle of a window."""
    return learners.learn_from_stream(OnlineLearner.load(FILES / f"online_{core}.zip"), 40, seed=1)


def stream_ac(policy: str) -> Groups:
    """Learns on with a `StreamAC` that was saved."""
    env = Signals("Mlp", "Cnn", length=7, seed=4)
    agent = StreamAC.load(FILES / f"stream_ac_{policy}.zip", env)
    return learners.learn_from_environment(agent, env, 40)


def ppo(kind: str) -> Groups:
    """Acts with a `RecurrentPPO` that was saved, and learns on."""
    agent = RecurrentPPO.load(FILES / f"ppo_{kind}.zip", agents.environments("Mlp"), device="cpu")
    agent.set_random_seed(1)
    before = {f"{name} at first": group for name, group in agents.act(agent).items()}
    torch.manual_seed(1)
    return {**before, **agents.learn(agent, rollouts=1)}


def ppo_policy(kind: str) -> Groups:
    """Acts with a policy that was saved alone."""
    policy = RecurrentPPO.policy_aliases[f"Mlp{kind}Policy"].load(str(FILES / f"ppo_policy_{kind}.zip"), device="cpu")
    return agents.act(policy)


def training_run() -> Groups:
    """Scores the run that `sab-agents train` left at other lengths, and resumes it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(shutil.copytree(FILES / RUN, Path(folder) / RUN))
        scores = Path(folder) / "scores.json"
        command("evaluate", str(run), "--length", "3", "6", "--json", str(scores))
        command("train", str(run / "config.yaml"), "--out", str(run), "--resume", "true", "--steps", "8")
        model = load_file(run / "model.safetensors")
        logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        tables = [torch.tensor(_measures(row), dtype=torch.float64) for row in json.loads(scores.read_text())]
        losses = [line[name] for line in logged for name in sorted(line) if "loss" in name or "norm" in name]
    return {
        "scores": tables,
        "losses": torch.tensor(losses, dtype=torch.float64),
        "model": Unordered([*model.values()]),
    }


def _measures(row: Any) -> list[float]:
    """All numbers of a table's row."""
    values = list(row.values()) if isinstance(row, dict) else row
    nested = (_measures(each) if isinstance(each, dict | list) else [each] for each in values)
    return [float(each) for part in nested for each in part if isinstance(each, int | float)]


def command(*arguments: str) -> None:
    """Runs `sab-agents` with these arguments.

    Raises:
        RuntimeError: it failed.
    """
    threads, output = torch.get_num_threads(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(list(arguments))
    torch.set_num_threads(threads)
    if code:
        raise RuntimeError(f"sab-agents {' '.join(arguments)} failed: {output.getvalue()}")


def write_missing() -> None:
    """Writes the files that are not there yet, with plain torch."""
    FILES.mkdir(exist_ok=True)
    with forced_kernel("torch"):
        for core in LEARNERS:
            _write(f"online_{core}.zip", partial(_learner, core))
        for policy in learners.AGENT_POLICIES:
            _write(f"stream_ac_{policy}.zip", partial(_stream_ac, policy))
        for kind in PPO:
            _write(f"ppo_{kind}.zip", partial(_ppo, kind))
            _write(f"ppo_policy_{kind}.zip", partial(_ppo_policy, kind))
        if not (FILES / RUN).exists():
            _write_run()


def _write(name: str, make: Callable[[], Any]) -> None:
    if not (FILES / name).exists():
        make().save(str(FILES / name))


def _learner(core: str) -> OnlineLearner:
    learner = learners.small_learner(core)
    learners.learn_from_stream(learner, 57)
    return learner


def _stream_ac(policy: str) -> StreamAC:
    agent, _ = learners.small_agent(policy)
    return agent.learn(60)


def _ppo(kind: str) -> RecurrentPPO:
    return agents.small_agent(kind).learn(32)


def _ppo_policy(kind: str) -> Any:
    return _ppo(kind).policy


def _write_run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config, run = Path(folder) / "copying.yaml", Path(folder) / RUN
        config.write_text(CONFIG, encoding="utf-8")
        command("train", str(config), "--out", str(run))
        (FILES / RUN).mkdir()
        for name in KEPT:
            shutil.copy(run / name, FILES / RUN / name)
