"""Runs sb3-contrib's and stable-baselines3's own tests against this library's RecurrentPPO: `make test-contrib`.

The tests are not part of this repository: they are taken from the source distributions of the installed versions. Of
sb3-contrib, those of its RecurrentPPO, and those that it has of all algorithms alike with this library's RecurrentPPO
and LSTM policies in place of TRPO and its policies. Of stable-baselines3, those of PPO and A2C, in their place.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Suite:
    """The tests of a package.

    Attributes:
        package: its name.
        plugin: the pytest plugin that puts this library's classes in the place of others.
        files: the files that concern an on-policy algorithm.
        chosen: which of their tests do.
        exceptions: tests that do not pass, and why they are not meant to.
    """

    package: str
    plugin: str
    files: tuple[str, ...]
    chosen: str
    exceptions: dict[str, str]

    def run(self, arguments: list[str]) -> int:
        """Downloads, unpacks and runs; further arguments go to pytest. Returns pytest's exit status."""
        with tempfile.TemporaryDirectory() as folder:
            tests = self._unpacked(Path(folder))
            command = [sys.executable, "-m", "pytest", "-p", self.plugin, "-p", "no:cacheprovider", "-q"]
            command += [f"tests/{name}" for name in self.files] + ["-k", self.chosen, *arguments]
            for test in self.exceptions:
                command += ["--deselect", f"tests/{test}"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            status = subprocess.run(command, check=False, cwd=tests.parent, env=environment).returncode
        print(f"\n{self.package} {version(self.package)}, left out:")
        for test, reason in self.exceptions.items():
            print(f"  {test}: {reason}.")
        return status

    def _unpacked(self, folder: Path) -> Path:
        """Downloads the source distribution of the installed version into a folder, and takes its tests out."""
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        wanted = f"{self.package}=={version(self.package)}"
        subprocess.run([*pip, "--no-binary", self.package, "--dest", str(folder), wanted], check=True)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        whole = folder / archive.name.removesuffix(".tar.gz")
        alone = folder / "alone"  # without the package itself, which would be imported instead of the installed one
        alone.mkdir()
        (whole / "pyproject.toml").rename(alone / "pyproject.toml")
        return (whole / "tests").rename(alone / "tests")


CONTRIB = Suite(
    package="sb3-contrib",
    plugin="tests.peers.contrib_plugin",
    files=(
        *("test_lstm.py", "test_save_load.py", "test_cnn.py", "test_deterministic.py", "test_dict_env.py"),
        *("test_identity.py", "test_run.py"),
    ),
    chosen="test_lstm or RecurrentPPO",
    exceptions={
        "test_lstm.py::test_check": "settings that contradict each other raise ValueError here, which says what to "
        "change, where sb3-contrib asserts",
        "test_identity.py::test_discrete[env1-RecurrentPPOForTRPO]": "asks for 90 of 100 after TRPO's budget, 1500 "
        "steps; sb3-contrib's own RecurrentPPO raises a TypeError here, and with that mended scores 27 where this one "
        "scores 26",
        "test_identity.py::test_discrete[env2-RecurrentPPOForTRPO]": "asks for 90 of 100 after TRPO's budget, 1500 "
        "steps; sb3-contrib's own RecurrentPPO raises a RuntimeError here, and this one scores 24, and 97 after 6000 "
        "steps",
    },
)

BASELINES = Suite(
    package="stable-baselines3",
    plugin="tests.peers.sb3_plugin",
    files=(
        *("test_callbacks.py", "test_cnn.py", "test_custom_policy.py", "test_deterministic.py", "test_dict_env.py"),
        *("test_gae.py", "test_identity.py", "test_logger.py", "test_predict.py", "test_run.py", "test_save_load.py"),
        *("test_spaces.py", "test_tensorboard.py", "test_train_eval_mode.py", "test_vec_check_nan.py"),
        *("test_vec_envs.py", "test_vec_extract_dict_obs.py", "test_vec_monitor.py", "test_vec_normalize.py"),
        "test_vec_stacked_obs.py",
    ),
    chosen="(RecurrentPPO or vec or mixing) and not test_gae_computation",  # which is of a policy without memory
    exceptions={
        "test_save_load.py::test_save_load_env_cnn[RecurrentPPOForA2C]": "asks for a warning about files of "
        "stable-baselines3 before 1.7, which this library cannot have written",
        "test_save_load.py::test_save_load_backward_compatible[RecurrentPPOForPPO]": "asks for a function as learning "
        "rate to be kept in the file, which here holds no code and says that it must be passed again",
        **{
            f"test_identity.py::{test}": "asks for 90 of 100 after the budget of a policy without memory"
            for test in (
                *("test_discrete[env1-RecurrentPPOForA2C]", "test_discrete[env1-RecurrentPPOForPPO]"),
                *("test_discrete[env2-RecurrentPPOForA2C]", "test_discrete[env2-RecurrentPPOForPPO]"),
                "test_continuous[RecurrentPPOForPPO]",
            )
        },
        "test_gae.py::test_infinite_horizon[True-RecurrentPPOForA2C]": "asks for a value of 50 after A2C's budget, "
        "with its learning rate and optimiser; the value is 12 here, on its way to 50",
    },
)


def main(arguments: list[str]) -> int:
    """Runs both; returns the first exit status that is not 0."""
    return next((status for status in [suite.run(arguments) for suite in (CONTRIB, BASELINES)] if status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
