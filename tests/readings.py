"""Ways of reading a memory that go beyond the paper, for the tests of everything that reads one."""

from __future__ import annotations

import random
from typing import Any

BEYOND: dict[str, Any] = {
    "summary_gain": "gate",
    "age": True,
    "floor": 0.1,
    "sharpness": 2.0,
    "stored": "cell",
    "output_gate": True,
    "age_scale": 7,
}
"""Settings of a SAB that go beyond the paper in every way at once."""


def random_reading(seed: int) -> dict[str, Any]:
    """Settings of a SAB; every fourth seed has those of the paper."""
    rng = random.Random(seed)
    if seed % 4 == 0:
        return {"recipe": "paper"}
    age = rng.random() < 0.7
    return {
        "summary_gain": rng.choice([1.0, 0.5, 0.0, "gate", "gate"]),
        "age": age,
        "age_scale": rng.choice([1, 1, 5, 64]) if age else 1,
        "floor": rng.choice([0.0, 0.1, 1.0]),
        "stored": rng.choice(["output", "cell"]),
        "output_gate": rng.random() < 0.5,
        "sharpness": rng.choice([0.0, 0.5, 2.0]),
    }
