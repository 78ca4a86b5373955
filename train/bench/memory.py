"""How much memory inference needs at its peak, beyond what it is given and what it returns.

A fresh process runs the work on one thread and asks Linux for the largest resident size since just before it (`VmHWM`
of /proc/self/status, set back through clear_refs), so that buffers of every allocator count: torch's, the compiled
kernel's and the C library's. Taken off are the resident size before, which has the inputs, the weights and the starting
state in it, and the bytes of the tensors that the last call returned. Below half a megabyte a figure is noise.
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
    # glibc hands large buffers back at once when told so: none stays resident and hides a part of the next job's.
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
    """Bytes that `work` needs at its peak beyond the tensors that it returns; None where the system does not say."""
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
        # A short run first: code and libraries that are loaded on first use are no part of the work.
        make_work(side, what, Size(2, size.batch, size.hidden_size, size.slots), asked["settings"])()
        found.append(peak_beyond(make_work(side, what, size, asked["settings"])))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    _answer()
