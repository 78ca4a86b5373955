"""Runs sb3-contrib's own tests of RecurrentPPO against this library's: `make test-contrib`.

The tests are not part of this repository: they are taken from the source distribution of the installed version.
Tests that sb3-contrib has of all algorithms alike (saving, images, dicts, kinds of actions) run too, with this
library's RecurrentPPO and LSTM policies in place of TRPO and its policies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = (
    *("test_lstm.py", "test_save_load.py", "test_cnn.py", "test_deterministic.py", "test_dict_env.py"),
    *("test_identity.py", "test_run.py"),
)
CHOSEN = "test_lstm or RecurrentPPO"
# Tests that do not pass, and why they are not meant to.
EXCEPTIONS = {
    "test_lstm.py::test_check": "settings that contradict each other raise ValueError here, which says what to change, "
    "where sb3-contrib asserts",
    "test_identity.py::test_discrete[env1-RecurrentPPOForTRPO]": "asks for 90 of 100 after TRPO's budget, 1500 steps; "
    "sb3-contrib's own RecurrentPPO raises a TypeError here, and with that mended scores 27 where this one scores 26",
    "test_identity.py::test_discrete[env2-RecurrentPPOForTRPO]": "asks for 90 of 100 after TRPO's budget, 1500 steps; "
    "sb3-contrib's own RecurrentPPO raises a RuntimeError here, and this one scores 24, and 97 after 6000 steps",
}


def main(arguments: list[str]) -> int:
    """Downloads, unpacks and runs; further arguments go to pytest. Returns pytest's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        tests = unpacked_tests(Path(folder))
        command = [sys.executable, "-m", "pytest", "-p", "tests.peers.contrib_plugin", "-p", "no:cacheprovider", "-q"]
        command += [f"tests/{name}" for name in FILES] + ["-k", CHOSEN, *arguments]
        for test in EXCEPTIONS:
            command += ["--deselect", f"tests/{test}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        status = subprocess.run(command, check=False, cwd=tests.parent, env=environment).returncode
    print(f"\nsb3-contrib {version('sb3-contrib')}, left out:")
    for test, reason in EXCEPTIONS.items():
        print(f"  {test}: {reason}.")
    return status


def unpacked_tests(folder: Path) -> Path:
    """Downloads the source distribution of the installed version into a folder, and takes its tests out."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = f"sb3-contrib=={version('sb3-contrib')}"
    subprocess.run([*pip, "--no-binary", "sb3-contrib", "--dest", str(folder), wanted], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    whole = folder / archive.name.removesuffix(".tar.gz")
    alone = folder / "alone"  # without the package itself, which would be imported instead of the installed one
    alone.mkdir()
    (whole / "pyproject.toml").rename(alone / "pyproject.toml")
    return (whole / "tests").rename(alone / "tests")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
