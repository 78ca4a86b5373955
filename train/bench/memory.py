"""The peak memory of inference beyond its inputs and outputs.

A fresh process runs the work on one thread and asks Linux for the largest resident size since just before it (`VmHWM`
of /proc/self/status, reset through clear_refs), so that buffers of every allocator count: torch's, the native kernel's
and the C library's. The resident size before, which includes the inputs, the weights and the starting state, and the
bytes of the tensors that the last call returned are subtracted. Below half a megabyte a figure is noise.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sab_agents.train.bench.scaling_work import Size, make_work

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peaks(jobs: Sequence[tuple[str, str, Size]], settings: dict[str, Any]) -> list[int | None]:
    """Runs jobs (side, pass, size) in one fresh process and returns the `peak_beyond` of each."""
    # With these settings glibc returns large buffers at once: none stays resident and hides a part of the next job's.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    asked = {"jobs": [(side, what, asdict(size)) for side, what, size in jobs], "settings": settings}
    answer = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    found: list[int | None] = json.loads(answer.stdout)
    return found


def peak_beyond(work: Callable[[], Sequence[Tensor]]) -> int | None:
    """Returns the bytes that `work` needs at its peak beyond the tensors that it returns; None if not available."""
    gc.collect()
    try:
        before = _resident("VmRSS")
        CLEAR.write_text("5", encoding="ascii")
        returned = work()
        peak = _resident("VmHWM")
    except OSError:
        return None
    return max(0, peak - before - sum(tensor.nbytes for tensor in returned))


def _resident(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"{STATUS} has no {field}")


def _answer() -> None:
    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    found = []
    for side, what, sizes in asked["jobs"]:
        size = Size(**sizes)
        # A short run first: code and libraries that are loaded on first use are not part of the work.
        make_work(side, what, Size(2, size.batch, size.hidden_size, size.slots), asked["settings"])()
        found.append(peak_beyond(make_work(side, what, size, asked["settings"])))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    _answer()
