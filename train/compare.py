"""`sab-agents compare CONFIG --cores … --seeds …`: the same task with several cores and seeds, as a table and curves.

Each run is a process of its own. Finished runs are not repeated and killed ones go on, so that the same command
continues what was interrupted.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from rich.console import Console

from sab_agents.checks import did_you_mean
from sab_agents.core.registry import CORES
from sab_agents.train.arguments import Parser, at_least_one
from sab_agents.train.config import KEYS, WHERE_KEYS, TrainConfig, load_config
from sab_agents.train.errors import TrainingError, UserError
from sab_agents.train.model import model_of, task_of
from sab_agents.train.run_folder import RunFolder, write_atomically
from sab_agents.train.summary import plot_curves, table_of

SET_HERE = ("core", "seed", "out", "resume")


def command(arguments: Sequence[str]) -> int:
    """Trains every core with every seed, then writes table.md and curves.png."""
    parser = Parser("compare", "Train several cores with several seeds. Other flags change the config, as in train.")
    parser.add_argument("config", metavar="CONFIG", help="a YAML file as for sab-agents train")
    parser.add_argument("--cores", nargs="+", required=True, metavar="CORE", help=", ".join(CORES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="default: 0 1 2")
    parser.add_argument("--jobs", type=at_least_one, default=1, help="runs at a time, one thread each if above 1")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="gets a run folder for each run")
    given, rest = parser.parse_known_args(arguments)
    for flag in rest:
        name = flag.removeprefix("--").partition("=")[0].replace("-", "_")
        if flag.startswith("--") and (name not in KEYS or name in SET_HERE):
            valid = ["cores", "seeds", "jobs", "out", *(key for key in KEYS if key not in SET_HERE)]
            raise UserError(f"compare: unknown key '--{name}'. {did_you_mean(name, valid)}")
    config = load_config(given.config, rest)
    if config.threads is None and given.jobs > 1:
        config = dataclasses.replace(config, threads=1)
    compare(config, given.cores, given.seeds, given.out, jobs=given.jobs)
    return 0


def compare(config: TrainConfig, cores: Sequence[str], seeds: Sequence[int], out: Path, *, jobs: int = 1) -> None:
    """Trains each core with each seed into `out`/<core>-<seed>, then writes `out`/table.md and `out`/curves.png.

    Args:
        config: what all runs share.
        cores: names of `CORES`.
        seeds: of the data and the parameters.
        out: the folder.
        jobs: runs at a time.

    Raises:
        UserError: a core's settings do not fit, or the folder holds runs with other settings.
        TrainingError: a run failed; those that did not are in the table.
    """
    plans = [
        dataclasses.replace(config, core=core, seed=seed, out=str(out / f"{core}-{seed}"), resume=True)
        for core in cores
        for seed in seeds
    ]
    _check(plans)
    out.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True, highlight=False)
    pool = ThreadPoolExecutor(jobs)
    try:
        failures = [failure for failure in pool.map(lambda plan: _run(plan, console), plans) if failure]
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt starts no further runs
    results = [(plan, result) for plan in plans if (result := RunFolder(plan.folder).read_result()) is not None]
    if results:
        table = table_of(results)
        write_atomically(out / "table.md", table.encode())
        metric, scores = next(iter(results[0][1]["metrics"].items()))
        runs = [(plan, RunFolder(plan.folder).read_metrics()) for plan, _ in results]
        plot_curves(out / "curves.png", runs, metric, scores["memoryless"])
        console.print(f"{table}\n{out / 'table.md'}, {out / 'curves.png'}")
    if failures:
        raise TrainingError(f"{len(failures)} of {len(plans)} runs failed; the first says: {failures[0]}")


def _check(plans: list[TrainConfig]) -> None:
    """Refuses, before the first run, settings that do not fit or differ from those of a run that is there."""
    task = task_of(plans[0])
    for plan in plans:
        model_of(plan, task)
        folder = RunFolder(plan.folder)
        result = folder.read_result()
        if result is None:
            continue
        for name, value in plan.settings().items():
            if name not in WHERE_KEYS and result["settings"].get(name) != value:
                raise UserError(
                    f"{plan.folder} was trained with {name} = {result['settings'].get(name)!r}, not {value!r}. "
                    f"Choose another --out."
                )


def _run(plan: TrainConfig, console: Console) -> str | None:
    """Trains one plan in a process of its own; returns its last line of output if it failed."""
    folder = RunFolder(plan.folder)
    if folder.result.exists():
        console.print(f"{plan.folder}: finished before")
        return None
    folder.path.mkdir(parents=True, exist_ok=True)
    settings, log = folder.path / "plan.yaml", folder.path / "log.txt"
    write_atomically(settings, yaml.safe_dump(dataclasses.asdict(plan), sort_keys=False).encode())
    console.print(f"{plan.folder}: training, see {log}")
    program = [sys.executable, "-m", "sab_agents.train", "train", str(settings)]
    with log.open("a", encoding="utf-8") as file:
        code = subprocess.run(program, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code == 0:
        console.print(f"{plan.folder}: finished")
        return None
    lines = log.read_text(encoding="utf-8").splitlines()
    return lines[-1] if lines else f"{plan.folder} ended with code {code}"
