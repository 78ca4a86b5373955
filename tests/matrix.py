"""Runs some tests with other versions of Python and of what the library depends on: `python -m tests.matrix`.

For each interpreter that is found (Python 3.11 and later) and for both ends of what pyproject.toml allows, the oldest
and the newest versions, it makes an environment in `build/matrix`, builds the native kernel there, and runs `TESTS`.
Torch is large; `--torch 2.13.0` takes that one everywhere. It prints what was run, with which versions, and what not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "matrix"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
ENDS = ("oldest", "newest")
SHOWN = ("torch", "numpy", "gymnasium", "stable-baselines3")
OLD = "default::DeprecationWarning"  # old packages use what newer ones that they require have deprecated
TESTS = (
    *(
        "tests/test_checks.py",
        "tests/kernels/test_native.py",
        "tests/core/test_sab_sequences.py",
        "tests/vec_env/test_vector.py",
    ),
    *("tests/envs/delayed/test_forms.py", "tests/online/test_stream_ac.py", "tests/ppo/test_drop_in.py"),
    "tests/ppo/test_saving.py",
)


def requirements(end: str, torch: str | None) -> list[str]:
    """What pip is asked for: each dependency as pyproject.toml has it, at its lower bound if `end` is "oldest"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = []
    for line in project["dependencies"]:
        name, _, bound = line.partition(">=")
        if name == "torch" and torch is not None:
            found.append(f"torch=={torch}")
        else:
            found.append(f"{name}=={bound if '.' in bound else f'{bound}.0'}.*" if end == "oldest" else line)
    return found


def interpreter(version: str) -> str | None:
    """The path of a Python that runs; a shim of pyenv that leads nowhere is none."""
    candidates = [shutil.which(f"python{version}")]
    candidates += map(str, sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python")))
    for path in filter(None, candidates):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return path
    return None


def outcome(python: str, version: str, end: str, torch: str | None) -> str:
    """Makes the environment and runs the tests; says with which versions, and how it went."""
    folder = PLACE / f"{version}-{end}"
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    inside, log = str(folder / "bin" / "python"), folder / "log.txt"
    asked = [*requirements(end, torch), "pytest>=8.3", "hypothesis>=6.100", "scikit-learn>=1.5", "setuptools>=77"]
    torch_first = [each for each in asked if each.startswith("torch")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    commands = (
        ("torch cannot be installed", [inside, "-m", "pip", "install", "--quiet", *torch_first]),
        ("the packages cannot be installed", [inside, "-m", "pip", "install", "--quiet", *asked]),
        ("the native kernel is not built", [inside, "setup.py", "--quiet", "build_ext", "--inplace"]),
        ("tests fail", [inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", OLD, *TESTS]),
    )
    failure, printed = "", ""
    with log.open("w", encoding="utf-8") as file:
        for what, command in commands:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            file.write(printed := done.stdout)
            if done.returncode:
                failure = f"{what}, see {log.relative_to(ROOT)}: "
                break
    frozen = subprocess.run([inside, "-m", "pip", "freeze"], capture_output=True, text=True, check=False).stdout
    versions = dict(re.findall(r"^([\w-]+)==(\S+)$", frozen.replace("_", "-"), flags=re.MULTILINE))
    with_what = ", ".join(f"{name} {versions.get(name, '—')}" for name in SHOWN)
    last = printed.strip().splitlines()[-1:] or [""]
    return f"Python {version}, {end}: {with_what}: {failure}{last[0]}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS)
    parser.add_argument("--end", nargs="+", choices=ENDS, default=ENDS)
    parser.add_argument("--torch", metavar="VERSION", help="this one everywhere")
    given = parser.parse_args(argv)
    lines = []
    for version in PYTHONS:
        python = interpreter(version) if version in given.python else None
        for end in ENDS:
            if version not in given.python or end not in given.end:
                lines.append(f"Python {version}, {end}: not run: not asked for")
            elif python is None:
                lines.append(f"Python {version}, {end}: not run: there is no python{version} here")
            else:
                lines.append(outcome(python, version, end, given.torch))
            print(lines[-1], flush=True)
    return int(any("cannot be" in line or "fail" in line or "is not built" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
