"""Cases of `SABStream`: windows, credit and slots under every rule of eviction and writing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from sab_agents import SAB, SABStream
from tests.golden.case import Case
from tests.golden.record import Groups, Unordered
from tests.golden.sequences import drawn, numbers, real_tensors, tensors_of
from tests.streaming.rules import rules

SEEDS = 5
WINDOWS, STEPS, ROWS, INPUTS = 4, 5, 2, 3
EVICTIONS = ("oldest", "least_used", "least_credited", "most_redundant", "reservoir")
WRITES = ("every", "novel")


def cases() -> Iterator[Case]:
    """Yields the cases of streams."""
    for kernel in ("native", "torch"):
        for eviction in EVICTIONS:
            for write in WRITES:
                for seed in range(SEEDS):
                    compute = partial(stream, eviction, write, seed)
                    yield Case(f"stream/{kernel}/{eviction}/{write}/{seed}", kernel, compute, rtol=1e-3)


def stream(eviction: Any, write: Any, seed: int) -> Groups:
    """Takes some windows of a stream, with a step of gradient descent after each where the seed is odd."""
    rng = np.random.default_rng(seed)
    attention: Any = ("mlp", "dot")[seed % 2]
    settings: dict[str, Any] = {"attention": attention, "write_every": 1 + seed // 4, "recipe": "paper"}
    core = drawn(SAB(INPUTS, (6, 17)[seed // 2 % 2], top_k=2, bptt_steps=3, capacity=4, **settings), seed)
    streams = SABStream(
        core,
        ROWS,
        **rules(eviction, write, 0.3),
        credit_depth=(1, None)[seed % 2],
        seed=seed,
    )
    found: dict[str, list[Any]] = {"steps": [], "window": [], "credit": [], "credit integers": []}
    for _ in range(WINDOWS):
        for _ in range(STEPS):
            start = torch.from_numpy(rng.random(ROWS) < 0.05)
            found["steps"].append(streams.step(numbers(rng, (ROWS, INPUTS), torch.float32), start).clone())
        output = streams.window()
        (output * numbers(rng, output.shape, torch.float32)).sum().backward()  # type: ignore[no-untyped-call]
        norm, *counts = streams.credit()
        found["window"].append(output)
        found["credit"].append(norm)
        found["credit integers"].append(np.array(counts))
        if seed % 2:
            with torch.no_grad():
                for parameter in core.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(parameter.grad, alpha=1e-2)
        streams.advance()
    gradients = [parameter.grad.clone() for parameter in core.parameters() if parameter.grad is not None]
    state = streams.state.clone()
    streams.refresh()
    return {
        **found,
        "gradients": Unordered(gradients),
        "state": list(real_tensors(state).values()),
        "state integers": [each for each in tensors_of(state).values() if not each.is_floating_point()],
        "refreshed": list(real_tensors(streams.state.clone()).values()),
    }
