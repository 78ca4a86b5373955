"""Stores today's results: `python -m tests.golden.make [ID …]` for the cases whose ids begin with one of these.

What is stored again because behaviour was changed on purpose joins `changed.md`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from tests.golden import configs, files
from tests.golden.case import native_is_available
from tests.golden.collection import CASES
from tests.golden.internals import use_instruction_set
from tests.golden.record import FINGERPRINTS, RESULTS, differences, key_of, read, record, write


def main(arguments: Sequence[str] | None = None) -> None:
    """Computes the chosen cases, and stores or compares them."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.make", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="how a case's id begins, such as sab/native; default: all")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="in place of tests/golden/results")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default: 1")
    parser.add_argument("--compare", action="store_true", help="store nothing: compare as on an unknown machine")
    parser.add_argument("--instructions", metavar="NAME", help="of the native kernel: avx512, avx2 or baseline")
    parser.add_argument("--files", action="store_true", help="first write the saved files that are missing")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.instructions is not None:
        use_instruction_set(given.instructions)
    if given.files:
        files.write_missing()
    chosen = [name for name in [*CASES, configs.RESULTS] if not given.ids or name.startswith(tuple(given.ids))]
    if not chosen:
        raise SystemExit(f"No case's id begins with {' or '.join(given.ids)}.")
    if given.compare:
        compare([name for name in chosen if name in CASES])
    else:
        store(chosen, given.out)


def store(chosen: Sequence[str], folder: Path) -> None:
    """Computes cases and stores them beside those that are stored already."""
    native, slowest = native_is_available(), {}
    changed: dict[str, dict[str, Any]] = {}
    fingerprints = {}
    for name in chosen:
        if name == configs.RESULTS:
            content = json.dumps({each: configs.resolved(each) for each in configs.PATHS}, indent=1)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / configs.RESULTS).write_text(content + "\n", encoding="utf-8")
            continue
        case = CASES[name]
        missing = [package for package in case.needs if find_spec(package) is None]
        if case.kernel == "native" and not native:
            missing.append("the native kernel")
        if missing:
            print(f"{name}: left as it is, since it needs {', '.join(missing)}")
            continue
        facts = case.fingerprint()
        fingerprints[key := key_of(facts)] = facts
        started = time.perf_counter()
        changed.setdefault(case.file, {})[name] = {"on": key, **record(case.run())}
        slowest[name] = time.perf_counter() - started
    for file, results in changed.items():
        kept = {name: stored for name, stored in read(file, folder).items() if name in CASES}
        write(file, kept | results, folder)
    known = read(FINGERPRINTS, folder) | fingerprints
    used = {stored["on"] for case in CASES.values() if (stored := read(case.file, folder).get(case.id)) is not None}
    write(FINGERPRINTS, {key: facts for key, facts in known.items() if key in used}, folder)
    print(f"{len(slowest)} cases in {sum(slowest.values()):.1f} s")
    for name in sorted(slowest, key=lambda name: -slowest[name])[:8]:
        print(f"{slowest[name]:6.2f} s {name}")


def compare(chosen: Sequence[str]) -> None:
    """Compares cases with the stored ones by their tolerances alone, and prints what lies outside."""
    for name in chosen:
        case = CASES[name]
        stored = {group: each for group, each in read(case.file)[name].items() if group != "on"}
        rules = {"same_bits": False, "rtol": case.rtol, "exact_integers": case.exact_integers}
        for line in differences(case.run(), stored, **rules):  # type: ignore[arg-type]
            print(f"{name}: {line}")


if __name__ == "__main__":
    main()
