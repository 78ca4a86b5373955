"""Every stored result is reproduced: bit-exactly if the fingerprint is a stored one, and closely otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from tests.golden import configs
from tests.golden.case import native_is_available
from tests.golden.collection import CASES
from tests.golden.record import FINGERPRINTS, RESULTS, differences, key_of
from tests.golden.record import read as read_file
from tests.selection import slow

SLOW = ("export/onnx/", "export/pt2/", "stream_ac/torch/MlpSabPolicy/separate")  # seconds each
AGAIN = "If that was meant, store it again and say so in tests/golden/changed.md: python -m tests.golden.make"


@cache
def read(name: str) -> dict[str, Any]:
    return read_file(name)


@cache
def has_native() -> bool:
    return native_is_available()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Plain torch's bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", [slow(name) if name.startswith(SLOW) else name for name in CASES])
def test_a_result_is_the_stored_one(name: str) -> None:
    case = CASES[name]
    if case.kernel == "native" and not has_native():
        pytest.skip("the native kernel was not built: no C++ compiler")
    for package in case.needs:
        pytest.importorskip(package)
    stored = dict(read(case.file)[name])
    same_bits = stored.pop("on") == key_of(case.fingerprint())
    found = differences(case.run(), stored, same_bits=same_bits, rtol=case.rtol, exact_integers=case.exact_integers)
    assert not found, "\n  ".join([f"{name} changed. {AGAIN} {name}", *found])


@pytest.mark.parametrize("name", configs.PATHS)
def test_a_config_has_the_stored_cells(name: str) -> None:
    stored = json.loads((RESULTS / configs.RESULTS).read_text(encoding="utf-8"))[name]
    found = json.loads(json.dumps(configs.resolved(name)))
    assert json.dumps(found, sort_keys=True) == json.dumps(stored, sort_keys=True), f"{AGAIN} {configs.RESULTS}"


def test_nothing_else_is_stored() -> None:
    kept = {path.name for path in RESULTS.glob("*.json")} - {FINGERPRINTS, configs.RESULTS}
    stored = {name: content["on"] for file in kept for name, content in read(file).items()}
    assert set(stored) == set(CASES)
    assert set(stored.values()) == set(read(FINGERPRINTS))
    assert list(json.loads((RESULTS / configs.RESULTS).read_text(encoding="utf-8"))) == list(configs.PATHS)
