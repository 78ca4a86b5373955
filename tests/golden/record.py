"""What is stored about a result: a hash of its bits, a few numbers, and where the bits hold."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import stable_baselines3
import torch
from torch import Tensor

from tests.golden.internals import native_build

RESULTS = Path(__file__).parent / "results"
FINGERPRINTS = "fingerprints.json"
SMALL = 1e-2
"""Norm below which a group is compared by its absolute, not its relative difference."""

Array = npt.NDArray[Any]
Stored = dict[str, list[Any]]


@dataclass(frozen=True)
class Unordered:
    """Tensors whose order and names may change, such as all parameters of an agent."""

    tensors: Sequence[Tensor]


Group = Tensor | Array | Sequence[Tensor | Array] | Unordered
Groups = dict[str, Group]


def record(groups: Groups) -> Stored:
    """Returns for each group its hash, followed by the numbers of `summary`."""
    return {name: [digest(each), *summary(each, _firsts(i, each))] for i, (name, each) in enumerate(groups.items())}


def _firsts(index: int, group: Group) -> int:
    """How many first elements are stored: 4 of the first group, the output, and none of the others."""
    return 4 if index == 0 and not isinstance(group, Unordered) else 0


def digest(group: Group) -> str:
    """Returns the first 12 digits of the SHA-256 of dtypes, shapes and bits."""
    parts = [_digest_of_array(array) for array in arrays_of(group)]
    if isinstance(group, Unordered):
        parts.sort()
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


def _digest_of_array(array: Array) -> bytes:
    facts = f"{array.dtype} {array.shape} ".encode()
    return hashlib.sha256(facts + np.ascontiguousarray(array).tobytes()).digest()


def summary(group: Group, firsts: int = 0) -> list[float]:
    """Returns the sum, the L2 norm and the first elements.

    Computed in float64, and written with 7 digits for float32 and 11 for float64. Integers and flags have no summary:
    their hash holds on every machine.
    """
    arrays = arrays_of(group)
    if not is_real(group):
        return []
    digits = 11 if any(array.dtype == np.float64 for array in arrays) else 7
    numbers = np.concatenate([array.astype(np.float64).ravel() for array in arrays])
    found = [math.fsum(numbers), math.sqrt(math.fsum(numbers**2)), *numbers[:firsts].tolist()]
    return [float(f"{number:.{digits}g}") for number in found]


def differences(groups: Groups, stored: Stored, *, same_bits: bool, rtol: float, exact_integers: bool) -> list[str]:
    """Compares a result with a stored one.

    Args:
        groups: the result.
        stored: what `record` returned for it earlier.
        same_bits: whether hashes must be equal; otherwise summaries are compared.
        rtol: greatest difference of a summary, relative to the group's norm.
        exact_integers: whether integers must be equal also where `same_bits` is false.

    Returns:
        One line for each group that differs.
    """
    found = [f"{name}: is missing" for name in stored if name not in groups]
    for index, (name, group) in enumerate(groups.items()):
        if name not in stored:
            found.append(f"{name}: is new")
            continue
        old_hash, *old = stored[name]
        new_hash, new = digest(group), summary(group, _firsts(index, group))
        if same_bits or (exact_integers and not is_real(group)):
            if new_hash != old_hash:
                found.append(f"{name}: bits differ; sum, norm and first elements were {old} and are {new}")
        elif is_real(group) and not _close(new, old, rtol, sum(array.size for array in arrays_of(group))):
            found.append(f"{name}: differs by more than {rtol:g}; sum, norm and first elements were {old}, are {new}")
    return found


def _close(new: list[float], old: list[float], rtol: float, size: int) -> bool:
    if len(new) != len(old):
        return False
    allowed = rtol * max(old[1], SMALL)
    limits = [allowed * math.sqrt(max(size, 1)), *[allowed] * (len(old) - 1)]
    return all(abs(a - b) <= limit for a, b, limit in zip(new, old, limits, strict=True))


def arrays_of(group: Group) -> list[Array]:
    """Returns the group's tensors as arrays."""
    members = group.tensors if isinstance(group, Unordered) else group
    if isinstance(members, Tensor | np.ndarray):
        members = [members]
    return [each.detach().cpu().numpy() if isinstance(each, Tensor) else np.asarray(each) for each in members]


def is_real(group: Group) -> bool:
    """Whether the group holds floating-point numbers."""
    return any(array.dtype.kind == "f" for array in arrays_of(group))


def fingerprint(*, native: bool, packages: Sequence[str] = ()) -> dict[str, str]:
    """Returns what the bits of a result depend on, beside the code: processor, compiler and packages.

    Args:
        native: whether the native kernel takes part.
        packages: what takes part beside those that always do.
    """
    return {
        "processor": _processor(),
        "torch": torch.__version__,
        "torch instructions": torch.backends.cpu.get_cpu_capability(),
        **({"native kernel": native_build()} if native else {}),
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "stable-baselines3": stable_baselines3.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{package: version(package) for package in packages},
    }


def _processor() -> str:
    """The processor's vendor, family and model: libraries choose code paths by these."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.system()} {platform.machine()}"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return " ".join([platform.machine(), *(facts.get(key, "?") for key in ("vendor_id", "cpu family", "model"))])


def key_of(facts: dict[str, str]) -> str:
    """Returns a short name of a fingerprint."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def read(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Returns a file of stored results; an empty dict where there is none."""
    path = folder / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write(name: str, content: dict[str, Any], folder: Path = RESULTS) -> None:
    """Writes a file of stored results, one line for each entry."""
    lines = [f"{json.dumps(key)}: {json.dumps(content[key], separators=(',', ':'))}" for key in sorted(content)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
