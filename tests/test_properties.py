"""Properties that hold for any shapes, dtypes, mappings and damaged files, with examples drawn by hypothesis."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sab_agents import OnlineLearner, build_core
from sab_agents.core import CORES

quick = settings(deadline=None, max_examples=40, derandomize=True)
NAMES = ["a", "b", "c"]


@functools.cache
def core_of(name: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    return build_core(name, 3, 4, **({"capacity": 5, "top_k": 2} if name.startswith("sab") else {})).to(dtype)


@quick
@given(
    name=st.sampled_from(sorted(CORES)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    steps=st.integers(0, 6),
    rows=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_a_sequence_in_any_two_parts_is_the_whole(
    name: str, dtype: torch.dtype, steps: int, rows: int, seed: int
) -> None:
    core, generator = core_of(name, dtype), torch.Generator().manual_seed(seed)
    x = torch.randn(steps, rows, 3, generator=generator, dtype=dtype)
    start = torch.rand(steps, rows, generator=generator) < 0.2
    cut = seed % (steps + 1)
    with torch.no_grad():
        whole, _ = core(x, None, start)
        first, state = core(x[:cut], None, start[:cut])
        second, _ = core(x[cut:], state, start[cut:])
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=tolerance, atol=tolerance)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        for name, value in one.items()
    )


def snapshot(learner: OnlineLearner) -> dict[str, Any]:
    return {
        name: value.clone() if isinstance(value, torch.Tensor) else value
        for name, value in learner.state_dict().items()
    }


numbers = (
    st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(2**70), 2**70) | st.text(max_size=2) | st.none()
)
mappings = st.dictionaries(st.sampled_from([*NAMES, "d"]), numbers, max_size=4)


@quick
@given(first=mappings, target=st.integers(-2, 3) | st.none() | numbers)
def test_a_mapping_is_learnt_from_or_refused_and_a_refused_one_changes_nothing(
    first: dict[str, Any], target: Any
) -> None:
    learner = OnlineLearner(3, 2, hidden_size=4, capacity=4, update_every=2, seed=0)
    learner.learn_one(dict.fromkeys(NAMES, 0.5), 1)
    before = snapshot(learner)
    right = set(first) == set(NAMES) and all(
        isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < 3e38 for value in first.values()
    )
    right = right and (target is None or (isinstance(target, int) and 0 <= target < 2))
    try:
        learner.learn_one(first, target)
    except (ValueError, TypeError, OverflowError):
        assert not right
        assert same(snapshot(learner), before)
        learner.learn_one(dict.fromkeys(NAMES, 0.25), 0)
    else:
        assert learner.steps == 2


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "learner.zip"
    learner = OnlineLearner(3, 2, hidden_size=4, capacity=4, update_every=2, seed=0)
    for step in range(9):
        learner.learn_one([1.0, float(step), 0.0], step % 2)
    learner.save(path)
    return path.read_bytes()


@quick
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_refused_or_loads_as_it_was(
    saved: bytes, tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, cut: bool
) -> None:
    at, damaged = int(place * len(saved)), bytearray(saved)
    if cut:
        damaged = damaged[:at]
    else:
        damaged[at] ^= 1 << bit
    folder: Path = tmp_path_factory.mktemp("damaged")
    (folder / "whole.zip").write_bytes(saved)
    (folder / "damaged.zip").write_bytes(bytes(damaged))
    whole = OnlineLearner.load(folder / "whole.zip").state_dict()
    refused = ""
    try:
        loaded = OnlineLearner.load(folder / "damaged.zip").state_dict()
    except ValueError as error:
        refused = str(error)
    # A bit may say nothing about the contents, such as one of a time.
    assert "damaged.zip" in refused if refused else same(loaded, whole)
