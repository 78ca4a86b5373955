"""Tests and times this library on a GPU: `python -m tests.gpu [FOLDER]`, in less than nine minutes.

It runs the tests marked `gpu`, then the benchmarks on the GPU, each for a limited time, with the Python that runs it,
and saves what each printed, and the figures as JSON, in the folder. `--device cpu` tries out the script where there is
no GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
BENCH = ("-m", "sab_agents", "bench")


def steps(device: str, folder: Path) -> dict[str, tuple[int, list[str]]]:
    """What is run: for each name the seconds that it may take and the arguments of Python."""
    on = ["--device", device]
    return {
        "tests": (200, ["-m", "pytest", "-m", "gpu", "-q", "-rs", "--color=no"]),
        "core": (100, [*BENCH, "core", "--rounds", "5", *on, "--json", str(folder / "core.json")]),
        "core_bfloat16": (
            60,
            [*BENCH, "core", "--rounds", "3", "--dtype", "bfloat16", *on, "--json", str(folder / "core_bfloat16.json")],
        ),
        "agents": (
            170,
            [*BENCH, "agents", "50", "--rounds", "3", "--threads", "1", *on, "--json", str(folder / "agents.json")],
        ),
    }


def run(arguments: Sequence[str], seconds: int, file: Path) -> str:
    """Runs Python with these arguments, its output into a file; returns how it ended."""
    started = time.monotonic()
    with file.open("wb") as out:
        try:
            code = subprocess.run(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "COLUMNS": "120"},
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"not over after {seconds} s"
    return f"exit status {code} after {time.monotonic() - started:.0f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every step and prints what it wrote; returns 0 if each ended with 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/gpu"), metavar="FOLDER")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    ended = {}
    for name, (seconds, what) in steps(given.device, folder).items():
        file = folder / f"{name}.txt"
        ended[name] = run(what, seconds, file)
        print(f"\n{name}: {ended[name]}\n{file.read_text(encoding='utf-8', errors='replace')}", flush=True)
    print("\n".join(f"{name}: {how}" for name, how in ended.items()))
    return 0 if all(how.startswith("exit status 0") for how in ended.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
